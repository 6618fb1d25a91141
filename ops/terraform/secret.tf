# The secret that the chart and the template data-extractor-job.yaml read.

module "secret" {
  source               = "./secret"
  destination          = var.destination
  arn                  = local.arn
  role_name            = local.role_name
  service_account_name = local.service_account_name
  access_key_id        = try(aws_iam_access_key.this[0].id, "")
  secret_access_key    = try(aws_iam_access_key.this[0].secret, "")
  state_url            = local.with_state ? "s3://${aws_s3_bucket.state[0].id}/${var.name}/" : ""
}

resource "kubernetes_secret" "this" {
  metadata {
    name      = var.secret_name
    namespace = var.namespace
  }

  data = module.secret.data
}

locals {
  arn                  = try(aws_iam_role.this[0].arn, aws_iam_user.this[0].arn, var.role.arn, "")
  role_name            = try(aws_iam_role.this[0].name, var.role.name, "")
  service_account_name = try(kubernetes_service_account.this[0].metadata[0].name, var.role.service_account_name, "")
}
