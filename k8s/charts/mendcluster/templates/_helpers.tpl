{{/* Names. A pod's name is its silo's; the longest has "-silo-" and an ordinal after this one, and Kubernetes adds a hash of 11. */}}
{{- define "mendcluster.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- $full := .Values.fullnameOverride | default (ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name)) | replace "." "-" -}}
{{- if gt (len $full) 40 -}}
{{- printf "%s-%s" ($full | trunc 31 | trimSuffix "-") ($full | sha256sum | trunc 8) -}}
{{- else -}}
{{- $full -}}
{{- end -}}
{{- end }}

{{- define "mendcluster.silo" -}}{{ include "mendcluster.fullname" . }}-silo{{- end }}
{{- define "mendcluster.front" -}}{{ include "mendcluster.fullname" . }}-front{{- end }}
{{- define "mendcluster.management" -}}{{ include "mendcluster.fullname" . }}-management{{- end }}

{{/* A namespace has no dot: no two releases share an id. */}}
{{- define "mendcluster.clusterId" -}}
{{- .Values.clusterId | default (printf "%s.%s" .Release.Namespace .Release.Name) -}}
{{- end }}

{{/* An identifier of PostgreSQL has 63 bytes; a longer one would be cut, and two might become one. */}}
{{- define "mendcluster.ledgerSchema" -}}
{{- $id := include "mendcluster.clusterId" . -}}
{{- .Values.postgresql.ledgerSchema | default (gt (len $id) 63 | ternary (printf "%s-%s" ($id | trunc 50) ($id | sha256sum | trunc 12)) $id) -}}
{{- end }}

{{- define "mendcluster.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "mendcluster.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "mendcluster.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
mendcluster.io/model: {{ .Values.model.name | quote }}
{{- end }}

{{/* Of pods: what changes with the chart's version would start them again. Call with (dict "root" $ "component" NAME). */}}
{{- define "mendcluster.podLabels" -}}
{{ include "mendcluster.selector" .root }}
app.kubernetes.io/component: {{ .component }}
mendcluster.io/model: {{ .root.Values.model.name | quote }}
{{- end }}

{{/* Call with (dict "root" $ "cuda" BOOL). */}}
{{- define "mendcluster.image" -}}
{{- $image := .root.Values.image -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ $image.tag | default (printf "%s%s" .root.Chart.AppVersion (ternary "-cuda" "" .cuda)) }}
{{- end -}}
{{- end }}

{{- define "mendcluster.onGpu" -}}{{ gt (int .Values.silo.gpu.count) 0 }}{{- end }}

{{/* claim, path, download or perPod. */}}
{{- define "mendcluster.store" -}}
{{- $store := .Values.modelStore -}}
{{- $given := list -}}
{{- if $store.existingClaim }}{{ $given = append $given "claim" }}{{ end -}}
{{- if $store.hostPath }}{{ $given = append $given "path" }}{{ end -}}
{{- if $store.download.from }}{{ $given = append $given (ternary "perPod" "download" (ne $store.perPod.size "")) }}{{ end -}}
{{- if ne (len $given) 1 -}}
{{- fail "modelStore: give one of existingClaim, hostPath and download.from" -}}
{{- end -}}
{{- if and $store.perPod.size (not $store.download.from) -}}
{{- fail "modelStore.perPod.size: a claim for each pod is filled by modelStore.download.from, which is missing" -}}
{{- end -}}
{{- first $given -}}
{{- end }}

{{/* Of all containers. */}}
{{- define "mendcluster.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* Of all pods. The user is the image's. */}}
{{- define "mendcluster.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{/* Where pods may run: what silo and front have alike. Call with (dict "root" $ "of" .Values.silo). */}}
{{- define "mendcluster.scheduling" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext: {{- include "mendcluster.podSecurity" .root | nindent 2 }}
terminationGracePeriodSeconds: {{ int .of.terminationGracePeriodSeconds }}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
{{- with .of.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .of.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .of.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .of.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .of.topologySpreadConstraints }}
topologySpreadConstraints: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Name of the Secret with the certificate "silo" or "http"; empty: none. Call with (dict "root" $ "of" NAME). */}}
{{- define "mendcluster.certificate" -}}
{{- $tls := get .root.Values.tls .of -}}
{{- if and $tls.existingSecret $tls.certManagerIssuer.name -}}
{{- fail (printf "tls.%s: give existingSecret or certManagerIssuer, not both" .of) -}}
{{- end -}}
{{- $tls.existingSecret | default (ternary (printf "%s-%s-tls" (include "mendcluster.fullname" .root) .of) "" (hasKey $tls.certManagerIssuer "name")) -}}
{{- end }}

{{/* What an upgrade may not change unawares, as the StatefulSet remembers it. */}}
{{- define "mendcluster.layout" -}}
{{- dict "model" .Values.model.name "stages" (int .Values.model.stages) "replicas" (int .Values.model.replicas) "store" (include "mendcluster.store" .)
  "clusterId" (include "mendcluster.clusterId" .) "ledgerSchema" (include "mendcluster.ledgerSchema" .) | toJson -}}
{{- end }}

{{/* Refuses an upgrade that would leave weights or edits behind. Sees the release in the cluster; nothing when rendered without one. */}}
{{- define "mendcluster.guard" -}}
{{- $silos := lookup "apps/v1" "StatefulSet" .Release.Namespace (include "mendcluster.silo" .) -}}
{{- $was := dig "metadata" "annotations" "mendcluster.io/layout" "" ($silos | default dict) -}}
{{- if and $was (not .Values.allowLayoutChange) -}}
{{- $was = fromJson $was -}}
{{- $is := include "mendcluster.layout" . | fromJson -}}
{{- range $key, $why := dict
  "model" "edits are kept for the model that they were made on"
  "stages" "a stage's weights are on the pod of its ordinal, and pods of two layouts do not work together"
  "store" "the claims of a StatefulSet cannot be changed; delete it first, with --cascade=orphan"
  "clusterId" "silos of the old id would not meet those of the new one"
  "ledgerSchema" "the edits are in the old one" -}}
{{- if ne (toString (get $was $key)) (toString (get $is $key)) -}}
{{- fail (printf "%s was %v and is to be %v: %s. docs/kubernetes.md says how; then --set allowLayoutChange=true" $key (get $was $key) (get $is $key) $why) -}}
{{- end -}}
{{- end -}}
{{- if and (eq (get $is "store") "perPod") (lt (int (get $is "replicas")) (int (get $was "replicas"))) -}}
{{- fail (printf "replicas was %v and is to be %v: the claims of the pods that go stay behind, with their weights. Delete them afterwards; then --set allowLayoutChange=true" (get $was "replicas") (get $is "replicas")) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* On the management port. A silo listens while it loads and while it waits for PostgreSQL: startup says how far it is. Call with (dict "startupSeconds" N). */}}
{{- define "mendcluster.probes" -}}
startupProbe:
  httpGet: {path: /healthz/startup, port: management}
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: {{ div (add (int .startupSeconds) 4) 5 }}
readinessProbe:
  httpGet: {path: /healthz/ready, port: management}
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: 2
livenessProbe:
  httpGet: {path: /healthz/live, port: management}
  periodSeconds: 10
  timeoutSeconds: 10
  failureThreshold: 6
{{- end }}

{{/* Values that do not go together. */}}
{{- define "mendcluster.check" -}}
{{- $pods := mul (int .Values.model.replicas) (int .Values.model.stages) -}}
{{- if ge (int .Values.silo.updatePartition) (int $pods) -}}
{{- fail (printf "silo.updatePartition is %d, and there are %d pods: none would ever be updated" (int .Values.silo.updatePartition) $pods) -}}
{{- end -}}
{{- if and (eq .Values.model.dtype "Float16") (ne (include "mendcluster.onGpu" .) "true") -}}
{{- fail "model.dtype is Float16, which is for GPUs, and silo.gpu.count is 0: use BFloat16 or Float32" -}}
{{- end -}}
{{- if and (not .Values.model.probes) (ne (toJson (list .Values.model.drawdownBudget .Values.model.klBudget)) "[null,null]") -}}
{{- fail "model.drawdownBudget and model.klBudget are measured on model.probes, which are missing" -}}
{{- end -}}
{{- if ne (empty .Values.auth.oidc.authority) (empty .Values.auth.oidc.audience) -}}
{{- fail "auth.oidc: authority and audience belong together" -}}
{{- end -}}
{{- if and .Values.front.enabled (not .Values.auth.apiKeysSecret) (not .Values.auth.oidc.authority) -}}
{{- fail "auth: give apiKeysSecret or oidc; without them nobody could ask the fronts" -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not .Values.front.enabled) -}}
{{- fail "ingress.enabled: there are no fronts (front.enabled) to lead to" -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) -}}
{{- fail "ingress.hosts is empty: name the hosts of the ingress" -}}
{{- end -}}
{{- end }}
