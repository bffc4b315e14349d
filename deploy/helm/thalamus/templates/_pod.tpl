{{- define "thalamus.pod" -}}
serviceAccountName: {{ include "thalamus.serviceAccountName" . }}
automountServiceAccountToken: false
enableServiceLinks: false
terminationGracePeriodSeconds: {{ include "thalamus.graceSeconds" . }}
securityContext: {{- include "thalamus.podSecurity" (dict "root" . "user" 65532) | nindent 2 }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
topologySpreadConstraints:
{{- if .Values.topologySpreadConstraints }}
{{- toYaml .Values.topologySpreadConstraints | nindent 2 }}
{{- else }}
  {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - topologyKey: {{ . }}
    maxSkew: 1
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- include "thalamus.selector" $ | nindent 8 }}
        app.kubernetes.io/component: gateway
  {{- end }}
{{- end }}
{{- if or .Values.initContainers .Values.router.copyFrom.image }}
initContainers:
  {{- with .Values.router.copyFrom }}
  {{- if .image }}
  - name: router
    image: {{ .image }}
    command: [cp, -R, {{ printf "%s/." .path | quote }}, /to]
    securityContext: {{- include "thalamus.containerSecurity" $ | nindent 6 }}
    resources:
      requests: {cpu: 50m, memory: 32Mi}
      limits: {memory: 128Mi}
    volumeMounts: [{name: router, mountPath: /to}]
  {{- end }}
  {{- end }}
  {{- with .Values.initContainers }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
containers:
  - name: gateway
    {{- include "thalamus.container" . | nindent 4 }}
  {{- with .Values.extraContainers }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
volumes: {{- include "thalamus.volumes" . | nindent 2 }}
{{- end -}}

{{- define "thalamus.container" -}}
image: {{ include "thalamus.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
args: [{{ ternary "serve" "demo" (eq (include "thalamus.hasModels" .) "yes") }}, --config, /etc/thalamus/thalamus.yaml]
ports:
  - {name: http, containerPort: 8080}
  {{- if .Values.admin.secret }}
  - {name: admin, containerPort: {{ .Values.admin.port }}}
  {{- end }}
securityContext: {{- include "thalamus.containerSecurity" . | nindent 2 }}
resources: {{- toYaml .Values.resources | nindent 2 }}
{{- with .Values.lifecycle }}
lifecycle: {{- toYaml . | nindent 2 }}
{{- end }}
startupProbe:
  httpGet: {path: /health/live, port: http}
  {{- toYaml .Values.startupProbe | nindent 2 }}
readinessProbe:
  httpGet: {path: /health/ready, port: http}
  {{- toYaml .Values.readinessProbe | nindent 2 }}
livenessProbe:
  httpGet: {path: /health/live, port: http}
  {{- toYaml .Values.livenessProbe | nindent 2 }}
{{- include "thalamus.env" . }}
{{- with .Values.extraEnvFrom }}
envFrom: {{- toYaml . | nindent 2 }}
{{- end }}
volumeMounts:
  - {name: tmp, mountPath: /tmp}
  - {name: data, mountPath: /var/lib/thalamus}
  {{- /* A whole folder: the kubelet never renews a file mounted by subPath. */}}
  - {name: config, mountPath: /etc/thalamus, readOnly: true}
  {{- if include "thalamus.routerFolder" . }}
  - name: router
    mountPath: {{ include "thalamus.routerFolder" . }}
    {{- with .Values.router.subPath }}
    subPath: {{ . }}
    {{- end }}
    readOnly: true
  {{- end }}
  {{- with .Values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{- define "thalamus.env" }}
{{- $admin := .Values.admin }}
{{- $redis := .Values.redis }}
{{- $hasPassword := and $redis.enabled $redis.password.secret }}
{{- if or $admin.secret $hasPassword .Values.secretEnv .Values.extraEnv }}
env:
  {{- if $admin.secret }}
  - name: THALAMUS_ADMIN_KEY
    valueFrom: {secretKeyRef: {name: {{ $admin.secret }}, key: {{ $admin.key }}}}
  {{- end }}
  {{- if $hasPassword }}
  - name: REDIS_PASSWORD
    valueFrom: {secretKeyRef: {name: {{ $redis.password.secret }}, key: {{ $redis.password.key }}}}
  {{- end }}
  {{- range $name, $from := .Values.secretEnv }}
  - name: {{ $name }}
    valueFrom: {secretKeyRef: {name: {{ $from.secret }}, key: {{ $from.key }}}}
  {{- end }}
  {{- with .Values.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "thalamus.volumes" -}}
- name: tmp
  emptyDir: {sizeLimit: 1Gi}
- name: data
  {{- if .Values.data.persistentVolumeClaim }}
  persistentVolumeClaim: {claimName: {{ .Values.data.persistentVolumeClaim }}}
  {{- else }}
  emptyDir: {sizeLimit: {{ .Values.data.sizeLimit }}}
  {{- end }}
- name: config
  configMap: {name: {{ include "thalamus.fullname" . }}}
{{- with .Values.router }}
{{- if .persistentVolumeClaim }}
- name: router
  persistentVolumeClaim: {claimName: {{ .persistentVolumeClaim }}, readOnly: true}
{{- else if .image.reference }}
- name: router
  image: {reference: {{ .image.reference | quote }}, pullPolicy: {{ .image.pullPolicy }}}
{{- else if .copyFrom.image }}
- name: router
  emptyDir: {sizeLimit: 1Gi}
{{- end }}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}
