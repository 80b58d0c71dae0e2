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
  DeadAfter: {{ $seconds := int .Values.silo.deadAfterSeconds }}{{ printf "%02d:%02d:%02d" (div $seconds 3600) (mod (div $seconds 60) 60) (mod $seconds 60) | quote }}
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
    Factors:
      Kept: {{ .Values.model.factors.kept }}
      DType: {{ .Values.model.factors.dtype }}
    Probes:
    {{- range .Values.model.probes }}
      - Question: {{ .question | quote }}
        Answer: {{ .answer | quote }}
    {{- end }}
    Replicas: {{ include "mendcluster.replicas" . }}
{{- end }}

{{/* A tree of settings as variables: a level more is "__" more. Kubernetes reads "$$" as "$". Call with (dict "name" PREFIX "value" TREE). */}}
{{- define "mendcluster.flatten" -}}
{{- $name := .name -}}
{{- if kindIs "map" .value -}}
{{- range $key, $value := .value }}{{ include "mendcluster.flatten" (dict "name" (ternary $key (printf "%s__%s" $name $key) (eq $name "")) "value" $value) }}{{ end -}}
{{- else if kindIs "slice" .value -}}
{{- range $i, $value := .value }}{{ include "mendcluster.flatten" (dict "name" (printf "%s__%d" $name $i) "value" $value) }}{{ end -}}
{{- else if not (kindIs "invalid" .value) }}
- name: {{ $name }}
  value: {{ toString .value | replace "$" "$$" | quote }}
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

{{- define "mendcluster.frontCommand" -}}
[dotnet, mend.dll, serve]
{{- end }}

{{- define "mendcluster.frontEnv" -}}
{{- include "mendcluster.secretVariable" (dict "name" "Mend__MembershipPostgreSql" "secret" (include "mendcluster.postgresSecret" .) "key" .Values.postgresql.membershipKey) }}
{{- end }}
