# A bucket for the state: manifests, head, and the list of runs in progress. It contains no row of data.

resource "aws_s3_bucket" "state" {
  #checkov:skip=CKV_AWS_18:the documents contain no data, so their requests need no log bucket; CloudTrail can record them
  #checkov:skip=CKV_AWS_144:a lost state costs one full extraction, less than a second region
  #checkov:skip=CKV2_AWS_62:nothing waits for events of the state; consumers read it
  #checkov:skip=CKV_AWS_145:S3's own encryption unless state_kms_key_arn is set; the documents contain no row's value
  count  = local.with_state ? 1 : 0
  bucket = var.state_bucket
  tags   = var.tags
}

resource "aws_s3_bucket_versioning" "state" {
  count  = local.with_state ? 1 : 0
  bucket = aws_s3_bucket.state[0].id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "state" {
  count  = local.with_state ? 1 : 0
  bucket = aws_s3_bucket.state[0].id

  rule {
    bucket_key_enabled = var.state_kms_key_arn != null

    apply_server_side_encryption_by_default {
      sse_algorithm     = var.state_kms_key_arn == null ? "AES256" : "aws:kms"
      kms_master_key_id = var.state_kms_key_arn
    }
  }
}

resource "aws_s3_bucket_public_access_block" "state" {
  count                   = local.with_state ? 1 : 0
  bucket                  = aws_s3_bucket.state[0].id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "state" {
  count  = local.with_state ? 1 : 0
  bucket = aws_s3_bucket.state[0].id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "state" {
  count      = local.with_state ? 1 : 0
  bucket     = aws_s3_bucket.state[0].id
  depends_on = [aws_s3_bucket_versioning.state]

  rule {
    id     = "incomplete-uploads"
    status = "Enabled"
    filter {}

    abort_incomplete_multipart_upload {
      days_after_initiation = 7
    }
  }

  # Never the current versions: S3's rules can't know which manifests are still needed.
  rule {
    id     = "old-versions"
    status = "Enabled"
    filter {}

    noncurrent_version_expiration {
      noncurrent_days = var.keep_old_state_days
    }

    expiration {
      expired_object_delete_marker = true
    }
  }
}

resource "aws_s3_bucket_policy" "state" {
  count      = local.with_state ? 1 : 0
  bucket     = aws_s3_bucket.state[0].id
  depends_on = [aws_s3_bucket_public_access_block.state]

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "OnlyByTLS"
      Effect    = "Deny"
      Principal = "*"
      Action    = "s3:*"
      Resource  = [aws_s3_bucket.state[0].arn, "${aws_s3_bucket.state[0].arn}/*"]
      Condition = { Bool = { "aws:SecureTransport" = "false" } }
    }]
  })
}
