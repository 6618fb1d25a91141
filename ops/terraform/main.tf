# The job's identity in AWS, and its rights there.

data "aws_partition" "current" {}

module "policies" {
  source       = "./policies"
  destination  = var.destination
  state_bucket = var.state_bucket
  partition    = data.aws_partition.current.partition
}

locals {
  with_state = var.state_bucket != null
  policies = merge(
    { landing = aws_iam_policy.landing.arn },
    local.with_state ? { state = aws_iam_policy.state[0].arn } : {},
  )
}

resource "aws_iam_policy" "landing" {
  name        = "${var.name}-floodmark-landing"
  description = "Floodmark of ${var.name}: put objects below the prefix of its destination."
  policy      = module.policies.landing
  tags        = var.tags
}

resource "aws_iam_policy" "state" {
  count       = local.with_state ? 1 : 0
  name        = "${var.name}-floodmark-state"
  description = "Floodmark of ${var.name}: read and write its state."
  policy      = module.policies.state
  tags        = var.tags
}

# A role that only the service account can assume.

locals {
  issuer = replace(var.oidc_provider_arn, "/^.*:oidc-provider\\//", "")
}

resource "aws_iam_role" "this" {
  count = var.identity == "irsa" ? 1 : 0
  name  = "${var.name}-floodmark"
  tags  = var.tags

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRoleWithWebIdentity"
      Principal = { Federated = var.oidc_provider_arn }
      Condition = {
        StringEquals = {
          "${local.issuer}:sub" = "system:serviceaccount:${var.namespace}:${var.service_account_name}"
          "${local.issuer}:aud" = "sts.amazonaws.com"
        }
      }
    }]
  })

  lifecycle {
    precondition {
      condition     = can(regex(":oidc-provider/.+", var.oidc_provider_arn))
      error_message = "oidc_provider_arn: identity irsa needs the ARN of the cluster's OpenID Connect provider."
    }
  }
}

resource "aws_iam_role_policy_attachment" "this" {
  for_each   = var.identity == "irsa" ? local.policies : {}
  role       = aws_iam_role.this[0].name
  policy_arn = each.value
}

resource "kubernetes_service_account" "this" {
  count                           = var.identity == "irsa" ? 1 : 0
  automount_service_account_token = false

  metadata {
    name        = var.service_account_name
    namespace   = var.namespace
    annotations = { "eks.amazonaws.com/role-arn" = aws_iam_role.this[0].arn }
  }
}

# Or a user with an access key, if no role is available.

resource "aws_iam_user" "this" {
  #checkov:skip=CKV_AWS_273:a job can't sign in like a person; irsa is the default and needs no user
  count = var.identity == "user" ? 1 : 0
  name  = "${var.name}-floodmark"
  path  = "/system/floodmark/"
  tags  = var.tags
}

resource "aws_iam_access_key" "this" {
  count = var.identity == "user" ? 1 : 0
  user  = aws_iam_user.this[0].name
}

resource "aws_iam_user_policy_attachment" "this" {
  #checkov:skip=CKV_AWS_40:these policies are for this user only; a group of one adds nothing
  for_each   = var.identity == "user" ? local.policies : {}
  user       = aws_iam_user.this[0].name
  policy_arn = each.value
}
