{{/* Labels that tell what the chart has made; no selector uses them. */}}
{{- define "perennial.labels" -}}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{/* Labels and annotations of every object. */}}
{{- define "perennial.metadata" -}}
labels:
  {{- include "perennial.labels" . | nindent 2 }}
annotations: {argocd.argoproj.io/sync-wave: "2"}
{{- end }}

{{/* What the operator's pods are found by. */}}
{{- define "perennial.selector" -}}
app.kubernetes.io/name: perennial
app.kubernetes.io/component: operator
{{- end }}

{{- define "perennial.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{/* Namespaces whose claims are never touched, whatever the values say. */}}
{{- define "perennial.excludedNamespaces" -}}
{{ concat (list "kube-system" "volsync-system" "kyverno" .Release.Namespace) .Values.excludedNamespaces | uniq | toJson }}
{{- end }}

{{/* How claims are marked: by a MutatingAdmissionPolicy of the version that the API server has, or by the webhook. */}}
{{- define "perennial.marking" -}}
{{- $versions := .Capabilities.APIVersions -}}
{{- $group := "admissionregistration.k8s.io" -}}
{{- if .Values.marking.by -}}
{{ .Values.marking.by }}
{{- else if $versions.Has (printf "%s/v1/MutatingAdmissionPolicy" $group) -}}
v1
{{- else if $versions.Has (printf "%s/v1beta1/MutatingAdmissionPolicy" $group) -}}
v1beta1
{{- else if semverCompare ">=1.36.0-0" .Capabilities.KubeVersion.Version -}}
v1
{{- else -}}
webhook
{{- end -}}
{{- end }}
