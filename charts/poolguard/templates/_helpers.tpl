{{- define "poolguard.labels" -}}
app.kubernetes.io/name: poolguard
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "poolguard.config" -}}
datacenter: {{ required "set datacenter: the name of the datacenter that this cluster is in, as the sources of truth write it (--set datacenter=eqiad)" .Values.datacenter }}
{{- with .Values.contact }}
contact: {{ . | quote }}
{{- end }}
runbookURL: {{ .Values.runbookURL | quote }}
sources: {{ .Values.sources | toJson }}
networks: {{ .Values.networks | toJson }}
trustedIdentities: {{ .Values.trustedIdentities | toJson }}
evidenceTimeout: {{ .Values.evidenceTimeout }}
controller: {namespace: {{ .Release.Namespace }}, leaseName: poolguard-controller, webhookConfiguration: poolguard}
log: {{ .Values.log | toJson }}
{{- end }}

{{- define "poolguard.container" -}}
image: "{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}"
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
livenessProbe: {httpGet: {path: /livez, port: metrics}}
readinessProbe: {httpGet: {path: /readyz, port: metrics}, periodSeconds: 2}
{{- end }}
