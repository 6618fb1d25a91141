# The two IAM policies, as text and nothing else: no provider is needed, so that tests can look at what comes out.

terraform {
  required_version = ">= 1.5"
}

variable "destination" {
  description = "Where the data goes: s3://bucket/prefix/."
  type        = string
}

variable "state_bucket" {
  description = "The bucket that holds the state, or null."
  type        = string
  default     = null
}

variable "partition" {
  description = "The AWS partition."
  type        = string
  default     = "aws"
}

locals {
  parts  = regex("^s3://([^/]+)/(.*[^/])/*$", var.destination)
  bucket = "arn:${var.partition}:s3:::${local.parts[0]}"
  prefix = local.parts[1]
  state  = var.state_bucket == null ? null : "arn:${var.partition}:s3:::${var.state_bucket}"

  # A landing zone is only ever put to. Floodmark reads nothing there, and deletes nothing.
  landing = [
    {
      Sid      = "PutBelowThePrefix"
      Effect   = "Allow"
      Action   = ["s3:PutObject", "s3:PutObjectAcl", "s3:AbortMultipartUpload"]
      Resource = "${local.bucket}/${local.prefix}/*"
    },
    {
      Sid       = "ListThePrefix"
      Effect    = "Allow"
      Action    = ["s3:ListBucket"]
      Resource  = local.bucket
      Condition = { StringLike = { "s3:prefix" = ["${local.prefix}/*"] } }
    },
  ]

  # Without ListBucket, S3 answers "forbidden" for an object that is not there. A condition on the prefix would do the
  # same: such a request names none. So it is allowed for the whole bucket, which holds nothing but the state.
  remembering = [
    {
      Sid      = "KeepTheState"
      Effect   = "Allow"
      Action   = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"]
      Resource = "${coalesce(local.state, "none")}/*"
    },
    {
      Sid      = "TellMissingFromForbidden"
      Effect   = "Allow"
      Action   = ["s3:ListBucket"]
      Resource = coalesce(local.state, "none")
    },
  ]
}

output "landing" {
  description = "May put below the destination's prefix."
  value       = jsonencode({ Version = "2012-10-17", Statement = local.landing })
}

output "state" {
  description = "May keep the state; null without a state bucket."
  value       = local.state == null ? null : jsonencode({ Version = "2012-10-17", Statement = local.remembering })
}
