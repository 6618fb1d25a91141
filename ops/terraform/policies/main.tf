# The two IAM policies as text. They need no provider, so tests can check the result.

terraform {
  required_version = ">= 1.5"
}

variable "destination" {
  description = "The destination of the data: s3://bucket/prefix/."
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

  # Floodmark only puts objects into a landing zone. It reads nothing there, and deletes nothing.
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

  # Without ListBucket, S3 answers "forbidden" for a missing object. A condition on the prefix would have the same effect,
  # because such a request names no prefix. So it is allowed for the whole bucket, which contains only the state.
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
  description = "The policy that allows puts below the destination's prefix."
  value       = jsonencode({ Version = "2012-10-17", Statement = local.landing })
}

output "state" {
  description = "The policy that allows access to the state. Null without a state bucket."
  value       = local.state == null ? null : jsonencode({ Version = "2012-10-17", Statement = local.remembering })
}
