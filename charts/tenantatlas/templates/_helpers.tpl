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

{{/* In CEL: the accounts made in every tenant (crates/api/src/execution.rs). */}}
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

{{/* In CEL: the pod that a bound token was made for, or ''. Of the pods of operations only a kubelet gets such a token (accounts.yaml). */}}
{{- define "tenantatlas.podClaim" -}}
request.userInfo.?extra[?'authentication.kubernetes.io/pod-name'][?0].orValue('')
{{- end }}

{{/* In CEL, patterns: the Jobs of operations (crates/api/src/identity.rs); their pods, among these those at a restore, in which nothing but our
worker runs; those that record what undoes their work; those that change the tenant's objects and say so in the audit chain; those that write an export; and what looks like an operation's. */}}
{{- define "tenantatlas.jobName" -}}'^op-[0-9a-f]{20}(-restore|-bulk|-delete|-export)?$'{{- end }}
{{- define "tenantatlas.operationPod" -}}'^op-[0-9a-f]{20}(-restore|-bulk|-delete|-export)?-[a-z0-9]+$'{{- end }}
{{- define "tenantatlas.restorePod" -}}'^op-[0-9a-f]{20}-restore-[a-z0-9]+$'{{- end }}
{{- define "tenantatlas.undoingPod" -}}'^op-[0-9a-f]{20}-(restore|delete)-[a-z0-9]+$'{{- end }}
{{- define "tenantatlas.writingPod" -}}'^op-[0-9a-f]{20}-(restore|bulk|delete)-[a-z0-9]+$'{{- end }}
{{- define "tenantatlas.exportPod" -}}'^op-[0-9a-f]{20}-export-[a-z0-9]+$'{{- end }}
{{- define "tenantatlas.operationName" -}}'^op-[0-9a-f]{20}(-|$)'{{- end }}

{{/* In CEL: our worker asks, from the pod of an operation (needs the variable pod). A restore may name an account of the tenant's own; so may
a type with another image, whose containers then hold that account's token and are not our worker. */}}
{{- define "tenantatlas.isWorker" -}}
(({{ include "tenantatlas.isAccount" . }} && variables.pod.matches({{ include "tenantatlas.operationPod" . }}))
|| ({{ include "tenantatlas.isOfNamespace" . }} && variables.pod.matches({{ include "tenantatlas.restorePod" . }})))
{{- end }}

{{/* In CEL: the account of workers asks, from the pod of an operation (needs the variable pod). */}}
{{- define "tenantatlas.isFinder" -}}
(request.userInfo.username == 'system:serviceaccount:' + request.namespace + ':tenantatlas-worker' && variables.pod.matches({{ include "tenantatlas.operationPod" . }}))
{{- end }}

{{/* In CEL: a kubelet asks. */}}
{{- define "tenantatlas.isKubelet" -}}
(request.userInfo.username.startsWith('system:node:') && 'system:nodes' in request.userInfo.?groups.orValue([]))
{{- end }}

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
