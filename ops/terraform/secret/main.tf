# The content of the Kubernetes secret, as a module without a provider, so that a test can evaluate it. The keys are
# those that services use today, with both spellings of the ARN's key.

terraform {
  required_version = ">= 1.5"
}

variable "destination" {
  description = "The destination of the data: s3://bucket/prefix/"
  type        = string
}

variable "arn" {
  description = "The ARN that the owner of the landing zone must allow. Empty if it is not known here."
  type        = string
  default     = ""
}

variable "role_name" {
  description = "The role's name. Empty without a role."
  type        = string
  default     = ""
}

variable "service_account_name" {
  description = "The service account that can assume the role. Empty without a role."
  type        = string
  default     = ""
}

variable "access_key_id" {
  description = "The IAM user's access key. Empty without a user."
  type        = string
  default     = ""
}

variable "secret_access_key" {
  description = "The secret of the access key. Empty without a user."
  type        = string
  default     = ""
  sensitive   = true
}

variable "state_url" {
  description = "The location of the state. Empty for runs without state."
  type        = string
  default     = ""
}

locals {
  keys = {
    destination_bucket = var.destination
    user_arn           = var.arn
    arn_user           = var.arn
    role               = var.role_name
    rolearn            = var.role_name == "" ? "" : var.arn
    serviceaccount     = var.service_account_name
    access_key_id      = var.access_key_id
    secret_access_key  = var.secret_access_key
    state_url          = var.state_url
  }
}

output "data" {
  description = "The secret's keys and values. A key without a value is left out."
  value       = { for key, value in local.keys : key => value if value != "" }
  sensitive   = true
}
