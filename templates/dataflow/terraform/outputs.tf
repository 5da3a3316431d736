output "worker_account" {
  description = "What --service_account_email says."
  value       = google_service_account.worker.email
}

output "run_dir" {
  description = "A run directory in the bucket."
  value       = "gs://${google_storage_bucket.runs.name}/runs/NAME"
}

output "repository" {
  description = "Where images of the templates go."
  value       = "${var.region}-docker.pkg.dev/${var.project}/${google_artifact_registry_repository.images.repository_id}"
}
