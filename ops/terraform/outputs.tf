output "arn" {
  description = "The ARN to give to the owner of the landing zone. Empty with identity policies."
  value       = local.arn
}

output "policy_arns" {
  description = "The ARNs of the policies, for a role that is created elsewhere."
  value       = local.policies
}

output "service_account_name" {
  description = "The name for the chart's serviceAccountName."
  value       = var.identity == "irsa" ? kubernetes_service_account.this[0].metadata[0].name : null
}

output "secret_name" {
  description = "The name for the chart's destinationS3SecretName and stateSecretName."
  value       = kubernetes_secret.this.metadata[0].name
}
