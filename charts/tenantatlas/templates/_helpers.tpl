{{/* Labels of everything the chart makes. */}}
{{- define "tenantatlas.labels" -}}
app.kubernetes.io/name: tenantatlas
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{/* Labels that select the controller's pods; immutable in a Deployment. */}}
{{- define "tenantatlas.selector" -}}
app.kubernetes.io/name: tenantatlas
app.kubernetes.io/component: controller
{{- end }}

{{- define "tenantatlas.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end }}

{{/* The controller's name, ServiceAccount and Lease. */}}
{{- define "tenantatlas.controller" -}}tenantatlas-controller{{- end }}

{{/* The controller as the API server knows it. */}}
{{- define "tenantatlas.operator" -}}
system:serviceaccount:{{ .Release.Namespace }}:{{ include "tenantatlas.controller" . }}
{{- end }}

{{/* Whether the API server fills in the initiator: `true`, or nothing. */}}
{{- define "tenantatlas.mutates" -}}
{{- if eq .Values.admission.initiator "mutate" -}}
true
{{- else if and (eq .Values.admission.initiator "auto") (semverCompare ">=1.36.0-0" .Capabilities.KubeVersion.Version) -}}
true
{{- end -}}
{{- end }}

{{/* A list of texts as a list in CEL. */}}
{{- define "tenantatlas.celList" -}}
[{{ range $position, $text := . }}{{ if $position }}, {{ end }}'{{ $text }}'{{ end }}]
{{- end }}

{{/* In CEL: the accounts made in every tenant (src/api/execution.rs). */}}
{{- define "tenantatlas.accounts" -}}
['tenantatlas-worker', 'tenantatlas-preview', 'tenantatlas-restore']
{{- end }}

{{/* In CEL: the request comes from one of these accounts, in the namespace it is about. */}}
{{- define "tenantatlas.isAccount" -}}
{{ include "tenantatlas.accounts" . }}.exists(account, request.userInfo.username == 'system:serviceaccount:' + request.namespace + ':' + account)
{{- end }}

{{/* In CEL: the request comes from some account of the namespace it is about. */}}
{{- define "tenantatlas.isOfNamespace" -}}
request.userInfo.username.startsWith('system:serviceaccount:' + request.namespace + ':')
{{- end }}

{{/* In CEL: the pod that a bound token was made for, or ''. Only a kubelet gets such a token for these accounts. */}}
{{- define "tenantatlas.podClaim" -}}
request.userInfo.?extra[?'authentication.kubernetes.io/pod-name'][?0].orValue('')
{{- end }}

{{/* In CEL, a pattern: the Jobs of operations (src/api/identity.rs) and, with a suffix, their pods. */}}
{{- define "tenantatlas.jobName" -}}'^op-[0-9a-f]{20}$'{{- end }}
{{- define "tenantatlas.operationName" -}}'^op-[0-9a-f]{20}(-|$)'{{- end }}

{{/* In CEL: a controller of the cluster itself. Whoever can be one of these owns the cluster. */}}
{{- define "tenantatlas.isSystem" -}}
(request.userInfo.username.startsWith('system:serviceaccount:kube-system:') || request.userInfo.username == 'system:kube-controller-manager')
{{- end }}

{{/* Binds a ValidatingAdmissionPolicy of the same name. Arguments: root, name. */}}
{{- define "tenantatlas.binding" -}}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata:
  name: {{ .name }}
  labels:
    {{- include "tenantatlas.labels" .root | nindent 4 }}
spec:
  policyName: {{ .name }}
  validationActions: [Deny]
{{- end }}

{{- /* Whether a request for a schedule says what is started: it is new, its operation changes, or it is to start one now. */ -}}
{{- define "tenantatlas.asksForRuns" -}}
>-
        request.operation == 'CREATE'
        || object.spec.?operation != oldObject.spec.?operation
        || object.metadata.?annotations[?'tenantatlas.io/run-now'] != oldObject.metadata.?annotations[?'tenantatlas.io/run-now']
{{- end }}
