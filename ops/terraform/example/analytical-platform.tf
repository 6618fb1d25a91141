# For a namespace's resources folder. It creates a role for the job's service account, a bucket for the state, and the
# secret that the chart reads. `terraform output` then shows the ARN for the config.yaml in this folder.

variable "namespace" {
  description = "The namespace, such as case-notes-dev."
  type        = string
}

variable "oidc_provider_arn" {
  description = "The ARN of the cluster's OpenID Connect provider."
  type        = string
}

module "floodmark" {
  # A copy of ops/terraform, or its git address with a tag: git::https://…//ops/terraform?ref=v0.2.0
  source = "../"

  name              = var.namespace
  namespace         = var.namespace
  destination       = "s3://moj-reg-dev/landing/${var.namespace}/"
  identity          = "irsa"
  oidc_provider_arn = var.oidc_provider_arn
  state_bucket      = "${var.namespace}-floodmark-state"

  tags = {
    application = "case-notes"
    environment = "dev"
  }
}

output "floodmark_arn" {
  description = "The ARN for the landing zone's config.yaml."
  value       = module.floodmark.arn
}
