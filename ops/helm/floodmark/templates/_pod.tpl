{{/* The common part of the pods of the runs and of the exporter. */}}

{{- define "floodmark.secretVariable" -}}
- name: {{ .variable }}
  valueFrom:
    secretKeyRef:
      name: {{ .secret | quote }}
      key: {{ .key | quote }}
{{- end -}}

{{- define "floodmark.variable" -}}
- name: {{ .variable }}
  value: {{ .value | toString | quote }}
{{- end -}}

{{/* The destination, the state, and the access to both. */}}
{{- define "floodmark.storageEnvironment" -}}
{{- $values := .Values -}}
{{ include "floodmark.secretVariable" (dict "variable" "S3_DESTINATION" "secret" (required "destinationS3SecretName is required: the secret that names the destination" $values.destinationS3SecretName) "key" $values.destinationS3SecretKey) }}
{{ include "floodmark.variable" (dict "variable" "AWS_DEFAULT_REGION" "value" $values.awsDefaultRegion) }}
{{- if and $values.stateUrl $values.stateSecretName }}
{{- fail "stateUrl and stateSecretName contradict each other: set one of them" }}
{{- end }}
{{- with $values.stateUrl }}
{{ include "floodmark.variable" (dict "variable" "FLOODMARK_STATE" "value" .) }}
{{- end }}
{{- with $values.stateSecretName }}
{{ include "floodmark.secretVariable" (dict "variable" "FLOODMARK_STATE" "secret" . "key" $values.stateSecretKey) }}
{{- end }}
{{- with $values.awsAccessKeySecretName }}
{{ include "floodmark.secretVariable" (dict "variable" "AWS_ACCESS_KEY_ID" "secret" . "key" $values.awsAccessKeyIdSecretKey) }}
{{ include "floodmark.secretVariable" (dict "variable" "AWS_SECRET_ACCESS_KEY" "secret" . "key" $values.awsSecretAccessKeySecretKey) }}
{{- end }}
{{- with $values.httpsProxy }}
{{ include "floodmark.variable" (dict "variable" "HTTPS_PROXY" "value" .) }}
{{- end }}
{{- with $values.noProxy }}
{{ include "floodmark.variable" (dict "variable" "NO_PROXY" "value" .) }}
{{- end }}
{{- end -}}

{{- define "floodmark.databaseEnvironment" -}}
{{- $values := .Values -}}
{{- $secret := required "databaseSecretName is required: the secret of the database" $values.databaseSecretName -}}
{{ include "floodmark.secretVariable" (dict "variable" "PGHOST" "secret" ($values.databaseReplicaSecretName | default $secret) "key" $values.databaseAddressSecretKey) }}
{{ include "floodmark.secretVariable" (dict "variable" "PGDATABASE" "secret" $secret "key" $values.databaseNameSecretKey) }}
{{ include "floodmark.secretVariable" (dict "variable" "PGUSER" "secret" $secret "key" $values.databaseUsernameSecretKey) }}
{{ include "floodmark.secretVariable" (dict "variable" "PGPASSWORD" "secret" $secret "key" $values.databasePasswordSecretKey) }}
{{- with $values.databasePort }}
{{ include "floodmark.variable" (dict "variable" "PGPORT" "value" .) }}
{{- end }}
{{- with $values.databaseSslMode }}
{{ include "floodmark.variable" (dict "variable" "PGSSLMODE" "value" .) }}
{{- end }}
{{- end -}}

{{/* The service account's name, as it is given or as a secret in the cluster has it. Empty with an access key. */}}
{{- define "floodmark.serviceAccountName" -}}
{{- if .Values.serviceAccountName -}}
{{- .Values.serviceAccountName -}}
{{- else if .Values.serviceAccountSecretName -}}
{{- $secret := lookup "v1" "Secret" .Release.Namespace .Values.serviceAccountSecretName -}}
{{- $name := dig "data" .Values.serviceAccountSecretKey "" $secret | b64dec -}}
{{- required (printf "serviceAccountName is required here: Helm can't read the key %s of the secret %s, because it asks no cluster or finds no such key" .Values.serviceAccountSecretKey .Values.serviceAccountSecretName) $name -}}
{{- else if not .Values.awsAccessKeySecretName -}}
{{- fail "serviceAccountName is required: the service account whose role can write to the destination. Without a role, set awsAccessKeySecretName" -}}
{{- end -}}
{{- end -}}

{{- define "floodmark.podSettings" -}}
{{- with include "floodmark.serviceAccountName" . -}}
serviceAccountName: {{ . | quote }}
{{ end -}}
{{ include "floodmark.podBasics" . }}
{{- end -}}

{{/* The settings of a pod without rights of its own. */}}
{{- define "floodmark.podBasics" -}}
automountServiceAccountToken: false
securityContext:
  runAsNonRoot: true
  runAsUser: {{ .Values.runAsUser }}
  runAsGroup: {{ .Values.runAsGroup }}
  fsGroup: {{ .Values.runAsGroup }}
  seccompProfile:
    type: RuntimeDefault
volumes:
  - name: temporary
    emptyDir:
      sizeLimit: {{ .Values.temporary.sizeLimit | quote }}
  {{- if .Values.config }}
  - name: configuration
    configMap:
      name: {{ include "floodmark.name" . }}
  {{- end }}
  {{- if .Values.engine.tlsSecretName }}
  - name: engine-tls
    secret:
      secretName: {{ .Values.engine.tlsSecretName | quote }}
  {{- end }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "floodmark.containerSettings" -}}
image: {{ include "floodmark.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
volumeMounts:
  - name: temporary
    mountPath: /tmp
  {{- if .Values.config }}
  - name: configuration
    mountPath: /etc/floodmark
    readOnly: true
  {{- end }}
  {{- if .Values.engine.tlsSecretName }}
  - name: engine-tls
    mountPath: /etc/floodmark-engine
    readOnly: true
  {{- end }}
{{- end -}}

{{- define "floodmark.podMetadata" -}}
labels:
  {{- include "floodmark.labels" .root | nindent 2 }}
  app.kubernetes.io/component: {{ .component }}
  {{- with .root.Values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- if or .root.Values.podAnnotations .root.Values.config }}
annotations:
  {{- if .root.Values.config }}
  checksum/configuration: {{ printf "%s%s" (toYaml .root.Values.config) .root.Values.contract | sha256sum }}
  {{- end }}
  {{- with .root.Values.podAnnotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* A run's job, for the CronJob and for the single Job. Parameters: `root` and `args`. */}}
{{- define "floodmark.jobSpec" -}}
{{- $root := .root -}}
backoffLimit: {{ $root.Values.backoffLimit }}
activeDeadlineSeconds: {{ $root.Values.activeDeadlineSeconds | int64 }}
podFailurePolicy:
  rules:
    - action: FailJob
      onExitCodes:
        containerName: floodmark
        operator: In
        values: {{ toJson $root.Values.failAtOnceOn }}
    - action: Ignore
      onPodConditions:
        - type: DisruptionTarget
          status: "True"
template:
  metadata:
    {{- include "floodmark.podMetadata" (dict "root" $root "component" "run") | nindent 4 }}
  spec:
    restartPolicy: Never
    terminationGracePeriodSeconds: {{ $root.Values.terminationGracePeriodSeconds | int64 }}
    {{- include "floodmark.podSettings" $root | nindent 4 }}
    containers:
      - name: floodmark
        {{- include "floodmark.containerSettings" $root | nindent 8 }}
        {{- with .args }}
        args:
          {{- include "floodmark.args" . | nindent 10 }}
        {{- end }}
        env:
          {{- include "floodmark.databaseEnvironment" $root | nindent 10 }}
          {{- include "floodmark.storageEnvironment" $root | nindent 10 }}
          {{- with include "floodmark.engineUrl" $root }}
          {{- include "floodmark.variable" (dict "variable" "FLOODMARK_ENGINE" "value" .) | nindent 10 }}
          {{- end }}
          {{- include "floodmark.engineTls" (dict "root" $root "role" "CLIENT") | nindent 10 }}
          {{- with $root.Values.extraEnv }}
          {{- toYaml . | nindent 10 }}
          {{- end }}
        {{- with $root.Values.extraEnvFrom }}
        envFrom:
          {{- toYaml . | nindent 10 }}
        {{- end }}
        {{- with $root.Values.resources }}
        resources:
          {{- toYaml . | nindent 10 }}
        {{- end }}
{{- end -}}
