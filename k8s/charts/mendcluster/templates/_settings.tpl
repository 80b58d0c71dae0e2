{{/*
The one place where values become settings of the programs: src/Silo/SiloSettings, and what the server reads. They are variables of the pod, and not a
ConfigMap, so that a pod that an update has not reached is started again with the settings of its own revision.
*/}}

{{/* Ports within the pods. */}}
{{- define "mendcluster.port" -}}
{{- get (dict "silo" 11111 "gateway" 30000 "http" 8080 "management" 8081) . -}}
{{- end }}

{{/* For each replica the names of its stages' pods: ordinal = replica x stages + stage. */}}
{{- define "mendcluster.replicas" -}}
{{- $stages := int .Values.model.stages -}}
{{- $replicas := list -}}
{{- range $replica := until (int .Values.model.replicas) -}}
{{- $names := list -}}
{{- range $stage := until $stages -}}
{{- $names = append $names (printf "%s-%d" (include "mendcluster.silo" $) (add (mul $replica $stages) $stage)) -}}
{{- end -}}
{{- $replicas = append $replicas $names -}}
{{- end -}}
{{- toJson $replicas -}}
{{- end }}

{{- define "mendcluster.modelDirectory" -}}
/models{{ with .Values.model.directory }}/{{ . }}{{ end }}
{{- end }}

{{/* Of a silo, besides its name, its address and the connection strings. */}}
{{- define "mendcluster.siloSettings" -}}
Mend:
  SiloPort: {{ include "mendcluster.port" "silo" }}
  GatewayPort: {{ include "mendcluster.port" "gateway" }}
  DeadAfter: {{ include "mendcluster.time" .Values.silo.deadAfterSeconds }}
  Cluster:
    ClusterId: {{ include "mendcluster.clusterId" . | quote }}
    ServiceId: {{ include "mendcluster.clusterId" . | quote }}
    Model: {{ .Values.model.name | quote }}
    ModelDirectory: {{ include "mendcluster.modelDirectory" . | quote }}
    {{- with .Values.model.editor }}
    Editor: {{ printf "%s/%s" (include "mendcluster.modelDirectory" $) . | quote }}
    {{- end }}
    DType: {{ .Values.model.dtype }}
    Device: {{ ternary "cuda" "cpu" (eq (include "mendcluster.onGpu" .) "true") }}
    MaxBatch: {{ .Values.model.maxBatch }}
    MaxGroup: {{ .Values.model.maxGroup }}
    Consolidate:
      Every: {{ .Values.model.consolidate.every }}
      AtRank: {{ .Values.model.consolidate.atRank }}
      AtDrawdown: {{ toJson .Values.model.consolidate.atDrawdown }}
    Factors:
      Kept: {{ .Values.model.factors.kept }}
      DType: {{ .Values.model.factors.dtype }}
    Probes:
    {{- range .Values.model.probes }}
      - Question: {{ .question | quote }}
        Answer: {{ .answer | quote }}
    {{- end }}
    Budget:
      MaxTotalDrawdown: {{ toJson .Values.model.drawdownBudget }}
      MaxTotalKl: {{ toJson .Values.model.klBudget }}
    Replicas: {{ include "mendcluster.replicas" . }}
  {{- if .Values.silo.dashboard }}
  Dashboard: true
  {{- end }}
  {{- include "mendcluster.tlsSettings" . | nindent 2 }}
  Server: # health and metrics; the API of a silo is for its own pod alone
    Address: 127.0.0.1
    Port: {{ include "mendcluster.port" "http" }}
    Anonymous: true
    {{- include "mendcluster.serverSettings" . | nindent 4 }}
    ShutdownTimeout: {{ include "mendcluster.time" (sub (int .Values.silo.terminationGracePeriodSeconds) 30) }}
shutdownTimeoutSeconds: {{ sub (int .Values.silo.terminationGracePeriodSeconds) 15 }} # of the host: the silo's good-bye included
{{- end }}

{{/* Of a front. */}}
{{- define "mendcluster.frontSettings" -}}
Mend:
  Server:
    Address: 0.0.0.0
    Port: {{ include "mendcluster.port" "http" }}
    {{- include "mendcluster.serverSettings" . | nindent 4 }}
    {{- if .Values.auth.apiKeysSecret }}
    Keys: /keys/keys.json
    {{- end }}
    {{- if .Values.auth.oidc.authority }}
    Oidc:
      Authority: {{ .Values.auth.oidc.authority | quote }}
      Audience: {{ .Values.auth.oidc.audience | quote }}
      NameClaim: {{ .Values.auth.oidc.nameClaim | quote }}
    {{- end }}
    {{- if include "mendcluster.certificate" (dict "root" $ "of" "http") }}
    Tls:
      Certificate: /tls/http/tls.crt
      Key: /tls/http/tls.key
    {{- end }}
    {{- with .Values.front.limits }}
    Limits: {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- if .Values.trainings.existingClaim }}
    Trainings: /trainings
    {{- end }}
    LogTexts: {{ .Values.logTexts }}
    Drain: {{ include "mendcluster.time" 10 }} # until no Service sends requests here any more
    ShutdownTimeout: {{ include "mendcluster.time" (sub (int .Values.front.terminationGracePeriodSeconds) 20) }}
{{- end }}

{{/* Of every server. */}}
{{- define "mendcluster.serverSettings" -}}
ManagementAddress: 0.0.0.0
ManagementPort: {{ include "mendcluster.port" "management" }}
{{- with .Values.metrics.otlp }}
Otlp: {{ . | quote }}
{{- end }}
{{- end }}

{{/* Between silos. */}}
{{- define "mendcluster.tlsSettings" -}}
{{- if include "mendcluster.certificate" (dict "root" $ "of" "silo") -}}
Tls:
  Certificate: /tls/silo/tls.crt
  Key: /tls/silo/tls.key
  Authority: /tls/silo/ca.crt
{{- end -}}
{{- end }}

{{/* Seconds as .NET reads a time. */}}
{{- define "mendcluster.time" -}}
{{- printf "%02d:%02d:%02d" (div (int .) 3600) (mod (div (int .) 60) 60) (mod (int .) 60) | quote -}}
{{- end }}

{{/* A tree of settings as variables: a level more is "__" more. Kubernetes reads "$$" as "$". Call with (dict "name" PREFIX "value" TREE). */}}
{{- define "mendcluster.flatten" -}}
{{- $name := .name -}}
{{- if kindIs "map" .value -}}
{{- range $key, $value := .value }}{{ include "mendcluster.flatten" (dict "name" (ternary $key (printf "%s__%s" $name $key) (eq $name "")) "value" $value) }}{{ end -}}
{{- else if kindIs "slice" .value -}}
{{- range $i, $value := .value }}{{ include "mendcluster.flatten" (dict "name" (printf "%s__%d" $name $i) "value" $value) }}{{ end -}}
{{- else if not (kindIs "invalid" .value) }}
{{- $text := toString .value }}
{{- if kindIs "float64" .value }}{{ if eq (floor .value) .value }}{{ $text = toString (int64 .value) }}{{ end }}{{ end }}{{/* or a million is 1e+06 */}}
- name: {{ $name }}
  value: {{ $text | replace "$" "$$" | quote }}
{{- end -}}
{{- end }}

{{/* From the Secret of connection strings. Call with (dict "secret" NAME "key" KEY "name" VARIABLE). */}}
{{- define "mendcluster.secretVariable" -}}
- name: {{ .name }}
  valueFrom:
    secretKeyRef:
      name: {{ .secret }}
      key: {{ .key }}
{{- end }}

{{- define "mendcluster.postgresSecret" -}}
{{- required "postgresql.existingSecret is missing: a Secret with connection strings" .Values.postgresql.existingSecret -}}
{{- end }}

{{/* The last "Search Path" of a connection string counts. */}}
{{- define "mendcluster.searchPath" -}}
;Search Path='"{{ include "mendcluster.ledgerSchema" . }}"'
{{- end }}

{{- define "mendcluster.siloEnv" -}}
{{- $secret := include "mendcluster.postgresSecret" . -}}
- name: Mend__Name
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: Mend__Address
  valueFrom:
    fieldRef:
      fieldPath: status.podIP
{{ include "mendcluster.secretVariable" (dict "name" "Mend__MembershipPostgreSql" "secret" $secret "key" .Values.postgresql.membershipKey) }}
{{ include "mendcluster.secretVariable" (dict "name" "MEND_LEDGER" "secret" $secret "key" .Values.postgresql.ledgerKey) }}
- name: Mend__Cluster__Ledger
  value: {{ printf "postgres:$(MEND_LEDGER)%s" (include "mendcluster.searchPath" .) | quote }}
{{- include "mendcluster.flatten" (dict "name" "" "value" (include "mendcluster.siloSettings" . | fromYaml)) }}
{{- if gt (int .Values.silo.threads) 0 }}
- name: MEND_THREADS
  value: {{ int .Values.silo.threads | quote }}
{{- end }}
{{- end }}

{{- define "mendcluster.frontArguments" -}}
- --cluster=postgres:$(MEND_MEMBERSHIP)
- --name={{ .Values.model.name }}
- --cluster-id={{ include "mendcluster.clusterId" . }}
{{- if include "mendcluster.certificate" (dict "root" $ "of" "silo") }}
- --tls=/tls/silo
{{- end }}
{{- end }}

{{- define "mendcluster.frontEnv" -}}
{{- include "mendcluster.secretVariable" (dict "name" "MEND_MEMBERSHIP" "secret" (include "mendcluster.postgresSecret" .) "key" .Values.postgresql.membershipKey) }}
{{- include "mendcluster.flatten" (dict "name" "" "value" (include "mendcluster.frontSettings" . | fromYaml)) }}
{{- end }}
