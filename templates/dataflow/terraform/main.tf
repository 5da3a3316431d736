# Read once its API is on: in a project that is new, only some are.
data "google_project" "this" {
  depends_on = [google_project_service.needed]
}

resource "google_project_service" "needed" {
  for_each = toset(concat(
    [
      "artifactregistry.googleapis.com",
      "cloudresourcemanager.googleapis.com",
      "compute.googleapis.com",
      "dataflow.googleapis.com",
      "iam.googleapis.com",
      "storage.googleapis.com",
      "workflows.googleapis.com",
    ],
    var.secret_manager ? ["secretmanager.googleapis.com"] : [],
    var.kms_key != "" ? ["cloudkms.googleapis.com"] : [],
  ))
  service            = each.value
  disable_on_destroy = false
}

# Run directories. A run refuses a bucket that keeps what is deleted: its secret could be read afterwards.
resource "google_storage_bucket" "runs" {
  name                        = var.runs_bucket
  location                    = var.region
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = false

  soft_delete_policy {
    retention_duration_seconds = 0
  }
  versioning {
    enabled = false
  }
  lifecycle_rule {
    condition {
      age = 1
    }
    action {
      type = "AbortIncompleteMultipartUpload"
    }
  }
  dynamic "encryption" {
    for_each = var.kms_key != "" ? [var.kms_key] : []
    content {
      default_kms_key_name = encryption.value
    }
  }
  depends_on = [google_kms_crypto_key_iam_member.services]
}

# Graphs, specs and recipes. What Dataflow stages is deleted after a month.
resource "google_storage_bucket" "staging" {
  name                        = var.staging_bucket
  location                    = var.region
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = false

  soft_delete_policy {
    retention_duration_seconds = 0
  }
  versioning {
    enabled = false
  }
  lifecycle_rule {
    condition {
      age            = 30
      matches_prefix = ["staging/", "temp/"]
    }
    action {
      type = "Delete"
    }
  }
  dynamic "encryption" {
    for_each = var.kms_key != "" ? [var.kms_key] : []
    content {
      default_kms_key_name = encryption.value
    }
  }
  depends_on = [google_kms_crypto_key_iam_member.services]
}

resource "google_artifact_registry_repository" "images" {
  repository_id = "pe-beam"
  location      = var.region
  format        = "DOCKER"
  description   = "Images of pe_beam for Dataflow"
  kms_key_name  = var.kms_key != "" ? var.kms_key : null
  depends_on    = [google_project_service.needed, google_kms_crypto_key_iam_member.services]
}

# Launches templates one after another: templates/dataflow/workflow.yaml.
resource "google_workflows_workflow" "evolution" {
  name                = "pe-beam"
  region              = var.region
  description         = "Private Evolution: embed, then each iteration"
  service_account     = google_service_account.launcher.id
  source_contents     = file("${path.module}/../workflow.yaml")
  deletion_protection = false
  user_env_vars = {
    LOCATION       = var.region
    STAGING_BUCKET = var.staging_bucket
    WORKER_ACCOUNT = google_service_account.worker.email
    KMS_KEY        = var.kms_key != "" ? var.kms_key : "none"
    SUBNETWORK     = var.subnetwork != "" ? var.subnetwork : "none"
  }
  depends_on = [google_project_service.needed]
}
