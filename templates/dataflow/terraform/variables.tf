variable "project" {
  description = "Id of the project. Give pe_beam one of its own: who administers it is inside the trust boundary."
  type        = string
}

variable "region" {
  description = "Where buckets, images and jobs are."
  type        = string
  default     = "europe-west1"
}

variable "runs_bucket" {
  description = "Name of the bucket for run directories. Who may read it sees private/: exact counts and embeddings."
  type        = string
}

variable "staging_bucket" {
  description = "Name of the bucket for what Dataflow stages, for specs and for recipes. It holds nothing private."
  type        = string
}

variable "data_buckets" {
  description = "Names of existing buckets with private records and held-out ones. Workers may read them, and no more."
  type        = set(string)
  default     = []
}

variable "drivers" {
  description = "Who may run `pe-beam run --runner=DataflowRunner`, as IAM members: user:ada@example.com, ..."
  type        = set(string)
  default     = []
}

variable "secret_manager" {
  description = "Whether runs may keep their secret in Secret Manager (privacy.secret) instead of the run directory."
  type        = bool
  default     = false
}

variable "kms_key" {
  description = "Full name of a Cloud KMS key in the region that encrypts buckets, images and jobs. Empty: Google's own keys."
  type        = string
  default     = ""
}

variable "subnetwork" {
  description = "URL of a subnetwork with Private Google Access; workers then have no public address. Empty: the default one."
  type        = string
  default     = ""
}

