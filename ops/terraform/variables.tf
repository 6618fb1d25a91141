variable "name" {
  description = "The prefix of every name here: the service and its environment, such as case-notes-dev."
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
  description = "The destination of the data: s3://bucket/prefix/. For a landing zone, the prefix that its owner assigned to the service."
  type        = string
  validation {
    condition     = can(regex("^s3://[a-z0-9][a-z0-9.-]{2,62}/[^/].*$", var.destination))
    error_message = "destination: s3://bucket/prefix/ with a prefix, because the job needs no access to the whole bucket."
  }
  validation {
    condition     = !can(regex("/data/*$", var.destination))
    error_message = "destination: without data/ at its end, because every key begins with data/."
  }
}

variable "identity" {
  description = "The job's identity in AWS. irsa: a role for the service account. user: an IAM user with an access key. policies: none; attach the policies to a role that is created elsewhere."
  type        = string
  default     = "irsa"
  validation {
    condition     = contains(["irsa", "user", "policies"], var.identity)
    error_message = "identity: irsa, user or policies."
  }
}

variable "service_account_name" {
  description = "With irsa: the name of the service account to create. The chart's serviceAccountName must be the same."
  type        = string
  default     = "floodmark"
}

variable "oidc_provider_arn" {
  description = "With irsa: the ARN of the cluster's OpenID Connect provider."
  type        = string
  default     = ""
}

variable "role" {
  description = "With policies: the role that is created elsewhere, and its service account. They become the secret's keys role, rolearn and serviceaccount."
  type = object({
    name                 = string
    arn                  = string
    service_account_name = string
  })
  default = null
  validation {
    condition     = var.role == null || can(regex("^arn:[a-z-]+:iam::[0-9]{12}:role/.+$", var.role.arn))
    error_message = "role: arn must be the ARN of a role."
  }
}

variable "state_bucket" {
  description = "The name of the bucket to create for the state, or null for runs without state."
  type        = string
  default     = null
}

variable "state_kms_key_arn" {
  description = "The KMS key for the state bucket. Without it, S3's own encryption. The job's identity must be allowed to use the key."
  type        = string
  default     = null
}

variable "keep_old_state_days" {
  description = "The number of days that S3 keeps overwritten and deleted objects in the state bucket."
  type        = number
  default     = 30
}

variable "secret_name" {
  description = "The name of the Kubernetes secret, for the chart's destinationS3SecretName and stateSecretName."
  type        = string
  default     = "analytical-platform-reporting-s3-bucket"
}

variable "tags" {
  description = "Tags for every resource that supports them."
  type        = map(string)
  default     = {}
}
