# The secret that the chart reads. Its keys are the ones that services use today.

resource "kubernetes_secret" "this" {
  metadata {
    name      = var.secret_name
    namespace = var.namespace
  }

  data = merge(
    {
      destination_bucket = var.destination
      user_arn           = local.arn
    },
    local.with_state ? { state_url = "s3://${aws_s3_bucket.state[0].id}/${var.name}/" } : {},
    var.identity == "user" ? {
      access_key_id     = aws_iam_access_key.this[0].id
      secret_access_key = aws_iam_access_key.this[0].secret
    } : {},
  )
}

locals {
  arn = try(aws_iam_role.this[0].arn, aws_iam_user.this[0].arn, "")
}
