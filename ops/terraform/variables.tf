variable "name" {
  description = "What the names of everything here begin with: the service and its environment, such as case-notes-dev."
  type        = string
  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{1,38}$", var.name))
    error_message = "name: 2 to 39 lower-case letters, digits and hyphens."
  }
}

variable "namespace" {
  description = "The Kubernetes namespace of the service."
  type        = string
}

variable "destination" {
  description = "Where the data goes: s3://bucket/prefix/. For a landing zone, the prefix that was given to the service."
  type        = string
  validation {
    condition     = can(regex("^s3://[a-z0-9][a-z0-9.-]{2,62}/[^/].*$", var.destination))
    error_message = "destination: s3://bucket/prefix/, with a prefix: nobody should be let into a whole bucket."
  }
}

variable "identity" {
  description = "Who the job is in AWS. irsa: a role for the service account. user: an IAM user with an access key. policies: nobody; attach the policies to a role that is made elsewhere."
  type        = string
  default     = "irsa"
  validation {
    condition     = contains(["irsa", "user", "policies"], var.identity)
    error_message = "identity: irsa, user or policies."
  }
}

variable "service_account_name" {
  description = "With irsa: the service account that is made, and that the chart's serviceAccountName names."
  type        = string
  default     = "floodmark"
}

variable "oidc_provider_arn" {
  description = "With irsa: the ARN of the cluster's OpenID Connect provider."
  type        = string
  default     = ""
}

variable "state_bucket" {
  description = "The name of a bucket to make for the state, or null for runs that remember nothing."
  type        = string
  default     = null
}

variable "state_kms_key_arn" {
  description = "A KMS key for the state bucket; S3's own encryption without it. The job's identity must be allowed to use the key."
  type        = string
  default     = null
}

variable "keep_old_state_days" {
  description = "How long S3 keeps what was overwritten or deleted in the state bucket."
  type        = number
  default     = 30
}

variable "secret_name" {
  description = "The Kubernetes secret, as the chart's destinationS3SecretName and stateSecretName."
  type        = string
  default     = "floodmark-destination"
}

variable "tags" {
  description = "Tags for everything that takes them."
  type        = map(string)
  default     = {}
}
