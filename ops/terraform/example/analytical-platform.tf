# Step 1 of docs/analytical-platform.md, for a namespace's resources folder. It creates a role for the job's service
# account, a bucket for the state, and the secret analytical-platform-reporting-s3-bucket, which the chart and the
# template data-extractor-job.yaml read. `terraform output floodmark_arn` shows the ARN for the config.yaml in this folder.

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

  name      = var.namespace
  namespace = var.namespace

  # moj-reg-<environment>/landing/<service>-<environment>, as in config.yaml.
  destination = "s3://moj-reg-dev/landing/${var.namespace}/"

  # "user" creates an IAM user with an access key instead. "policies" leaves both to the platform's own module.
  identity          = "irsa"
  oidc_provider_arn = var.oidc_provider_arn

  state_bucket = "${var.namespace}-floodmark-state"

  tags = {
    application = "case-notes"
    environment = "dev"
  }
}

output "floodmark_arn" {
  description = "The ARN for the landing zone's config.yaml."
  value       = module.floodmark.arn
}
