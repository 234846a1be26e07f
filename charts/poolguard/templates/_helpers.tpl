{{- define "poolguard.labels" -}}
app.kubernetes.io/name: poolguard
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- /* Never guarded, whatever a label says: what has to work for the guard to work. */ -}}
{{- define "poolguard.excluded" -}}
{{- concat (list "kube-system" .Release.Namespace) .Values.webhook.excludedNamespaces | toJson -}}
{{- end }}

{{- /* An installation that only warns is in nobody's way while it is down either. */ -}}
{{- define "poolguard.failurePolicy" -}}
{{- if eq .Values.enforcement "Warn" }}Ignore{{ else }}{{ .Values.webhook.failurePolicy }}{{ end -}}
{{- end }}

{{- /* By which name the API server calls the webhook. */ -}}
{{- define "poolguard.serverName" -}}
poolguard-webhook.{{ .Release.Namespace }}.svc
{{- end }}

{{- define "poolguard.config" -}}
datacenter: {{ .Values.datacenter | quote }}
{{- with .Values.contact }}
contact: {{ . | quote }}
{{- end }}
runbookURL: {{ .Values.runbookURL | quote }}
sources: {{ .Values.sources | toJson }}
networks: {{ .Values.networks | toJson }}
trustedIdentities: {{ .Values.trustedIdentities | toJson }}
customWorkloads: {{ .Values.customWorkloads | toJson }}
enforcement: {{ .Values.enforcement }}
evidenceTimeout: {{ .Values.evidenceTimeout }}
webhook:
  serverName: {{ include "poolguard.serverName" . }}
controller:
  namespace: {{ .Release.Namespace }}
  leaseName: poolguard-controller
  webhookConfiguration: poolguard
  canaryNamespace: {{ .Values.canary.namespace | quote }}
  registration:
    failurePolicy: {{ include "poolguard.failurePolicy" . }}
    timeoutSeconds: {{ .Values.webhook.timeoutSeconds }}
    excludedNamespaces: {{ include "poolguard.excluded" . }}
    url: {{ .Values.webhook.url | quote }}
    caBundle: {{ .Values.webhook.caBundle | quote }}
  {{- if eq .Values.certificates.source "Controller" }}
  certificates:
    authoritySecret: {{ .Values.certificates.authoritySecretName }}
    servingSecret: {{ .Values.webhook.tlsSecretName }}
    names: [{{ include "poolguard.serverName" . }}]
    authorityValidity: {{ .Values.certificates.authorityValidity }}
    servingValidity: {{ .Values.certificates.servingValidity }}
    overlap: {{ .Values.certificates.overlap }}
  {{- end }}
log: {{ .Values.log | toJson }}
{{- end }}

{{- /* Any container of ours. */ -}}
{{- define "poolguard.program" -}}
image: "{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}"
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{- /* One that serves. */ -}}
{{- define "poolguard.container" -}}
{{ include "poolguard.program" . }}
livenessProbe: {httpGet: {path: /livez, port: metrics}}
readinessProbe: {httpGet: {path: /readyz, port: metrics}, periodSeconds: 2}
{{- end }}

{{- /* Where the pods of a component may run, and which of them go last: `values` of the component, `labels` of its pods. */ -}}
{{- define "poolguard.placement" -}}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
{{- range . }}
- {name: {{ . }}}
{{- end }}
{{- end }}
{{- with .values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations: {{- toYaml . | nindent 0 }}
{{- end }}
{{- with .values.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.topologySpreadConstraints }}
topologySpreadConstraints:
{{- range . }}
{{- /* Of one revision: in a rollout, the old pods would count as well. */ -}}
{{- $own := dict "labelSelector" (dict "matchLabels" $.labels) "matchLabelKeys" (list "pod-template-hash") }}
{{ list (merge (deepCopy .) $own) | toYaml }}
{{- end }}
{{- end }}
{{- end }}
