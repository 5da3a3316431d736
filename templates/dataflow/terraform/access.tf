# Who may do what. Each role holds what a run was seen to ask for, and no more (tests/launch/test_terraform.py); what only
# Dataflow itself asks for is as Google documents it for roles/dataflow.worker, without its rights to all buckets.

resource "google_service_account" "worker" {
  account_id   = "pe-beam-worker"
  display_name = "pe_beam: workers, and launchers of templates"
  depends_on   = [google_project_service.needed]
}

resource "google_service_account" "launcher" {
  account_id   = "pe-beam-launcher"
  display_name = "pe_beam: launches templates and waits for their jobs"
  depends_on   = [google_project_service.needed]
}

# Keys are known before anything is made; accounts are not.
locals {
  drivers  = { for each in var.drivers : each => each }
  workers  = merge({ worker = google_service_account.worker.member }, local.drivers)
  starters = merge({ launcher = google_service_account.launcher.member }, local.drivers)
}

# --- buckets ------------------------------------------------------------------------------------------------------

resource "google_project_iam_custom_role" "run_files" {
  role_id     = "peBeamRunFiles"
  title       = "pe_beam: files of run directories"
  description = "Reads, writes and deletes files of runs, and reads what the bucket keeps of deleted ones."
  permissions = [
    "storage.buckets.get",
    "storage.objects.create",
    "storage.objects.delete",
    "storage.objects.get",
    "storage.objects.list",
  ]
  depends_on = [google_project_service.needed]
}

resource "google_project_iam_custom_role" "staged_files" {
  role_id     = "peBeamStagedFiles"
  title       = "pe_beam: staged files"
  description = "Stages what a job needs."
  permissions = [
    "storage.buckets.get",
    "storage.objects.create",
    "storage.objects.get",
  ]
  depends_on = [google_project_service.needed]
}

resource "google_project_iam_custom_role" "given_files" {
  role_id     = "peBeamGivenFiles"
  title       = "pe_beam: files that are only read"
  description = "Reads private records, and lists them."
  permissions = [
    "storage.objects.get",
    "storage.objects.list",
  ]
  depends_on = [google_project_service.needed]
}

resource "google_storage_bucket_iam_member" "runs" {
  for_each = local.workers
  bucket   = google_storage_bucket.runs.name
  role     = google_project_iam_custom_role.run_files.name
  member   = each.value
}

resource "google_storage_bucket_iam_member" "staging" {
  for_each = local.workers
  bucket   = google_storage_bucket.staging.name
  role     = google_project_iam_custom_role.staged_files.name
  member   = each.value
}

resource "google_project_iam_custom_role" "specs" {
  role_id     = "peBeamSpecs"
  title       = "pe_beam: specs of templates"
  description = "Reads the spec of a template that is launched."
  permissions = ["storage.objects.get"]
  depends_on  = [google_project_service.needed]
}

resource "google_storage_bucket_iam_member" "specs" {
  bucket = google_storage_bucket.staging.name
  role   = google_project_iam_custom_role.specs.name
  member = google_service_account.launcher.member
  condition {
    title      = "specs"
    expression = "resource.name.startsWith(\"projects/_/buckets/${var.staging_bucket}/objects/specs/\")"
  }
}

resource "google_storage_bucket_iam_member" "data" {
  for_each = var.data_buckets
  bucket   = each.value
  role     = google_project_iam_custom_role.given_files.name
  member   = google_service_account.worker.member
}

# --- Dataflow -----------------------------------------------------------------------------------------------------

resource "google_project_iam_custom_role" "worker" {
  role_id     = "peBeamWorker"
  title       = "pe_beam: Dataflow workers"
  description = "roles/dataflow.worker without its rights to all buckets of the project."
  permissions = [
    "autoscaling.sites.readRecommendations",
    "autoscaling.sites.writeMetrics",
    "autoscaling.sites.writeState",
    "compute.instanceGroupManagers.update",
    "compute.instances.delete",
    "compute.instances.setDiskAutoDelete",
    "dataflow.jobs.get",
    "dataflow.shuffle.read",
    "dataflow.shuffle.write",
    "dataflow.streamingWorkItems.ImportState",
    "dataflow.streamingWorkItems.commitWork",
    "dataflow.streamingWorkItems.getData",
    "dataflow.streamingWorkItems.getWork",
    "dataflow.streamingWorkItems.getWorkerMetadata",
    "dataflow.workItems.lease",
    "dataflow.workItems.sendMessage",
    "dataflow.workItems.update",
    "logging.logEntries.create",
    "logging.logEntries.route",
    "monitoring.timeSeries.create",
  ]
  depends_on = [google_project_service.needed]
}

resource "google_project_iam_custom_role" "launcher" {
  role_id     = "peBeamLauncher"
  title       = "pe_beam: launches templates"
  description = "Launches a job from a template, and looks at its state."
  permissions = [
    "dataflow.jobs.create",
    "dataflow.jobs.get",
  ]
  depends_on = [google_project_service.needed]
}

resource "google_project_iam_custom_role" "driver" {
  role_id     = "peBeamDriver"
  title       = "pe_beam: drives jobs"
  description = "What Beam's DataflowRunner asks for: submits, finds, watches and cancels jobs."
  permissions = [
    "dataflow.jobs.cancel",
    "dataflow.jobs.create",
    "dataflow.jobs.get",
    "dataflow.jobs.list",
    "dataflow.messages.list",
    "dataflow.metrics.get",
  ]
  depends_on = [google_project_service.needed]
}

resource "google_project_iam_member" "worker" {
  project = var.project
  role    = google_project_iam_custom_role.worker.name
  member  = google_service_account.worker.member
}

resource "google_project_iam_member" "launcher" {
  project = var.project
  role    = google_project_iam_custom_role.launcher.name
  member  = google_service_account.launcher.member
}

resource "google_project_iam_member" "driver" {
  for_each = local.drivers
  project  = var.project
  role     = google_project_iam_custom_role.driver.name
  member   = each.value
}

# Whoever starts a job starts it as the workers' account, and as no other one.
resource "google_service_account_iam_member" "acts_as_worker" {
  for_each           = local.starters
  service_account_id = google_service_account.worker.name
  role               = "roles/iam.serviceAccountUser"
  member             = each.value
}

resource "google_artifact_registry_repository_iam_member" "worker" {
  repository = google_artifact_registry_repository.images.name
  location   = google_artifact_registry_repository.images.location
  role       = "roles/artifactregistry.reader"
  member     = google_service_account.worker.member
}

# --- secrets ------------------------------------------------------------------------------------------------------

# A run makes a secret of its own, without a delay of destruction, and destroys it. Only those that begin by pe-beam- can
# be read or destroyed; a right to create cannot be bound to a name.
resource "google_project_iam_custom_role" "secret_makers" {
  count       = var.secret_manager ? 1 : 0
  role_id     = "peBeamSecretMakers"
  title       = "pe_beam: makes secrets"
  description = "Makes the secret of a run."
  permissions = ["secretmanager.secrets.create"]
  depends_on  = [google_project_service.needed]
}

resource "google_project_iam_custom_role" "secrets" {
  count       = var.secret_manager ? 1 : 0
  role_id     = "peBeamSecrets"
  title       = "pe_beam: secrets of runs"
  description = "Adds, reads and destroys secrets of runs."
  permissions = [
    "secretmanager.secrets.delete",
    "secretmanager.secrets.get",
    "secretmanager.versions.access",
    "secretmanager.versions.add",
  ]
  depends_on = [google_project_service.needed]
}

resource "google_project_iam_member" "secret_makers" {
  for_each = var.secret_manager ? local.workers : {}
  project  = var.project
  role     = google_project_iam_custom_role.secret_makers[0].name
  member   = each.value
}

resource "google_project_iam_member" "secrets" {
  for_each = var.secret_manager ? local.workers : {}
  project  = var.project
  role     = google_project_iam_custom_role.secrets[0].name
  member   = each.value
  condition {
    title      = "secrets of runs"
    expression = "resource.name.startsWith(\"projects/${data.google_project.this.number}/secrets/pe-beam-\")"
  }
}

# --- a key of one's own -------------------------------------------------------------------------------------------

data "google_storage_project_service_account" "gcs" {}

locals {
  services = {
    storage  = "serviceAccount:${data.google_storage_project_service_account.gcs.email_address}"
    images   = "serviceAccount:service-${data.google_project.this.number}@gcp-sa-artifactregistry.iam.gserviceaccount.com"
    dataflow = "serviceAccount:service-${data.google_project.this.number}@dataflow-service-producer-prod.iam.gserviceaccount.com"
    compute  = "serviceAccount:service-${data.google_project.this.number}@compute-system.iam.gserviceaccount.com"
  }
}

resource "google_kms_crypto_key_iam_member" "services" {
  for_each      = var.kms_key != "" ? local.services : {}
  crypto_key_id = var.kms_key
  role          = "roles/cloudkms.cryptoKeyEncrypterDecrypter"
  member        = each.value
  depends_on    = [google_project_service.needed]
}
