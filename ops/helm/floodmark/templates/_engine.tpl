{{/* The Dask cluster: the address of its scheduler, its certificates, and its ports. */}}

{{- define "floodmark.engineUrl" -}}
{{- $engine := .Values.engine -}}
{{- if and $engine.url (gt (int $engine.workers.replicas) 0) -}}
{{- fail "engine.url and engine.workers.replicas contradict each other: set one of them" -}}
{{- end -}}
{{- if gt (int $engine.workers.replicas) 0 -}}
{{ ternary "dask+tls" "dask" (ne $engine.tlsSecretName "") }}://{{ include "floodmark.name" . }}-scheduler:8786
{{- else -}}
{{ $engine.url }}
{{- end -}}
{{- end -}}

{{/* Dask's variables for the certificates of one role: CLIENT, SCHEDULER or WORKER. Parameters: `root` and `role`. */}}
{{- define "floodmark.engineTls" -}}
{{- if .root.Values.engine.tlsSecretName -}}
{{ include "floodmark.variable" (dict "variable" "DASK_DISTRIBUTED__COMM__TLS__CA_FILE" "value" "/etc/floodmark-engine/ca.crt") }}
{{ include "floodmark.variable" (dict "variable" (printf "DASK_DISTRIBUTED__COMM__TLS__%s__CERT" .role) "value" "/etc/floodmark-engine/tls.crt") }}
{{ include "floodmark.variable" (dict "variable" (printf "DASK_DISTRIBUTED__COMM__TLS__%s__KEY" .role) "value" "/etc/floodmark-engine/tls.key") }}
{{- end -}}
{{- end -}}

{{- define "floodmark.engineProtocol" -}}
{{ ternary "tls" "tcp" (ne .Values.engine.tlsSecretName "") }}
{{- end -}}
