output "arn" {
  description = "The ARN to give to the owner of the landing zone. Empty with identity policies and without a role."
  value       = local.arn
}

output "policy_arns" {
  description = "The ARNs of the policies, for a role that is created elsewhere."
  value       = local.policies
}

output "service_account_name" {
  description = "The name for the chart's serviceAccountName."
  value       = local.service_account_name == "" ? null : local.service_account_name
}

output "secret_name" {
  description = "The name for the chart's destinationS3SecretName and stateSecretName."
  value       = kubernetes_secret.this.metadata[0].name
}
