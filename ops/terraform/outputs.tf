output "arn" {
  description = "The ARN to give to whoever keeps the landing zone; empty with identity policies."
  value       = local.arn
}

output "policy_arns" {
  description = "The policies, for a role that is made elsewhere."
  value       = local.policies
}

output "service_account_name" {
  description = "For the chart's serviceAccountName."
  value       = var.identity == "irsa" ? kubernetes_service_account.this[0].metadata[0].name : null
}

output "secret_name" {
  description = "For the chart's destinationS3SecretName and stateSecretName."
  value       = kubernetes_secret.this.metadata[0].name
}
