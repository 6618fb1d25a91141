{{/* The name of every resource. A CronJob's name has at most 52 letters. An alias would change the chart's name. */}}
{{- define "floodmark.name" -}}
{{- .Values.fullnameOverride | default (printf "%s-floodmark" (.Release.Name | trunc 42 | trimSuffix "-")) | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{- define "floodmark.cronJobName" -}}
{{- .Values.cronJobNameOverride | default (include "floodmark.name" .) | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{- define "floodmark.selector" -}}
app.kubernetes.io/name: {{ include "floodmark.name" . }}
app.kubernetes.io/instance: {{ .Release.Name | trunc 63 | trimSuffix "-" | quote }}
{{- end -}}

{{- define "floodmark.labels" -}}
{{ include "floodmark.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
helm.sh/chart: {{ printf "floodmark-%s" .Chart.Version | replace "+" "_" | quote }}
{{- end -}}

{{- define "floodmark.image" -}}
{{- $repository := required "image.repository is required: the image's address, without its tag" .Values.image.repository -}}
{{- if .Values.image.digest -}}
{{ $repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ $repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/* The schedule, or an error that names its mistake. */}}
{{- define "floodmark.schedule" -}}
{{- $schedule := .Values.cronJobSchedule | trim -}}
{{- if regexMatch "[\"'`\\\\]" $schedule -}}
{{- fail "cronJobSchedule contains quotes: write it in one pair of quotes, such as cronJobSchedule: \"0 5 * * *\"" -}}
{{- end -}}
{{- if not (regexMatch "^(@(yearly|annually|monthly|weekly|daily|midnight|hourly)|[0-9A-Za-z*,/?-]+([ \\t]+[0-9A-Za-z*,/?-]+){4})$" $schedule) -}}
{{- fail "cronJobSchedule is not a cron expression: write five fields, such as \"0 5 * * *\", and the time zone in timeZone" -}}
{{- end -}}
{{- $schedule -}}
{{- end -}}

{{/* Arguments, one per line: a list unchanged, the old extractor's line as one, other text split at its commas. */}}
{{- define "floodmark.args" -}}
{{- if kindIs "string" . -}}
{{- if or (contains "&&" .) (regexMatch "\\.(py|sh)\\b" .) -}}
{{ toYaml (list .) }}
{{- else -}}
{{- $words := list -}}
{{- range splitList "," . -}}
{{- with . | trim | trimAll "'\"" -}}{{- $words = append $words . -}}{{- end -}}
{{- end -}}
{{ toYaml $words }}
{{- end -}}
{{- else -}}
{{- $words := list -}}
{{- range . -}}{{- $words = append $words (toString .) -}}{{- end -}}
{{ toYaml $words }}
{{- end -}}
{{- end -}}

{{- define "floodmark.hasState" -}}
{{- if or .Values.stateUrl .Values.stateSecretName (dig "state" "url" "" .Values.config) -}}yes{{- end -}}
{{- end -}}
