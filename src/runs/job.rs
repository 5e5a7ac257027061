//! The one Job of a run. Pure.
//!
//! Our own worker runs without a fence. Any other image is fenced by an init container of ours,
//! which alone holds a token.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use super::prepare::{Prepared, creates_password};
use crate::api::{
    BackupRepository, OperationRun, OperationType, canonical,
    execution::{
        CLUSTER_UID, CREDENTIALS_DIRECTORY, FENCE_CONTAINER, FENCE_TOKEN_VOLUME, HEAP, IDENTITY_TOKEN_DIRECTORY,
        INPUTS, JOB_UID, NAMESPACE, NAMESPACE_UID, PASSWORD_DIRECTORY, POD_NAME, REPOSITORY, REPOSITORY_SPEC, RUN,
        RUN_UID, TARGET, TYPE, VOLUME_DIRECTORY, WORKER_CONTAINER,
    },
    labels,
    operation_type::{DEFAULT_TIMEOUT_SECONDS, Executor},
    result::PERMANENT_EXIT_CODES,
};
use k8s_openapi::{
    api::batch::v1::{Job, JobSpec, JobTemplateSpec},
    api::core::v1::{Container, EnvVar, EnvVarSource, ObjectFieldSelector, PodSpec, Volume},
};
use serde::ser::Error as _;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Shortest time that a finished Job is kept, in seconds: a week, far longer than any outage in
/// which its result could not be read.
const JOB_TTL_SECONDS: i32 = 7 * 24 * 3600;

/// What the operator knows besides the run.
#[derive(Clone, Debug)]
pub struct JobSettings {
    /// Image of our worker.
    pub image: String,
    /// `imagePullPolicy` of our worker.
    pub image_pull_policy: String,
    /// Names of `imagePullSecrets` in the tenant's namespace.
    pub image_pull_secrets: Vec<String>,
    /// Resources of our worker, as in a container.
    pub worker_resources: Value,
    /// Id of this cluster, the uid of `kube-system`.
    pub cluster_uid: String,
}

/// Builds the Job of a run. An error is a bug: preparing the run has refused every type of which
/// no Job can be made.
pub fn build(run: &OperationRun, prepared: &Prepared, settings: &JobSettings) -> Result<Job, serde_json::Error> {
    let Executor { worker, job_template } = &prepared.operation_type.spec.executor;
    let mut job = match (worker, job_template) {
        (Some(worker), _) => worker_job(run, &worker.command, prepared, settings)?,
        (None, Some(template)) => template_job(run, template, prepared, settings)?,
        (None, None) => return Err(serde_json::Error::custom("the operation type has no executor")),
    };
    own(&mut job, run, prepared)?;
    Ok(job)
}

/// Timeout of a run, in seconds.
#[must_use]
pub fn timeout_seconds(run: &OperationRun, operation_type: Option<&OperationType>) -> i64 {
    run.spec.timeout_seconds.unwrap_or_else(|| type_timeout_seconds(operation_type))
}

/// Longest timeout of any run of a type, in seconds.
#[must_use]
pub fn type_timeout_seconds(operation_type: Option<&OperationType>) -> i64 {
    operation_type.and_then(|operation_type| operation_type.spec.timeout_seconds).unwrap_or(DEFAULT_TIMEOUT_SECONDS)
}

/// Sets what is ours in every Job, whatever the template says: name, owner, labels, retries,
/// deadline.
fn own(job: &mut Job, run: &OperationRun, prepared: &Prepared) -> Result<(), serde_json::Error> {
    let operation_type = &prepared.operation_type;
    let uid = run.metadata.uid.clone().unwrap_or_default();
    let ours = BTreeMap::from([
        (labels::MANAGED_BY.to_owned(), labels::MANAGER.to_owned()),
        (labels::IDENTITY.to_owned(), prepared.identity.label_value().to_owned()),
        (labels::TYPE.to_owned(), run.spec.operation_type.clone()),
        (labels::RUN_UID.to_owned(), uid.clone()),
    ]);
    job.metadata.name = Some(prepared.identity.job_name());
    job.metadata.namespace.clone_from(&run.metadata.namespace);
    job.metadata.labels.get_or_insert_default().extend(ours.clone());
    // With this finalizer, the Job is garbage-collected only after its pods. A Job of the same name
    // can never run beside a pod that is still terminating.
    job.metadata.finalizers = Some(vec!["foregroundDeletion".to_owned()]);
    job.metadata.owner_references = Some(vec![k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference {
        api_version: format!("{}/{}", crate::api::GROUP, crate::api::VERSION),
        kind: "OperationRun".to_owned(),
        name: run.metadata.name.clone().unwrap_or_default(),
        uid,
        controller: Some(true),
        block_owner_deletion: Some(false),
    }]);
    if let Some(repository) = &prepared.repository
        && let Some(generation) = repository.metadata.generation
    {
        job.metadata.annotations.get_or_insert_default().extend([
            (labels::REPOSITORY_GENERATION.to_owned(), generation.to_string()),
            (labels::REPOSITORY_CHECKED.to_owned(), repository.spec.checked_hash()),
        ]);
    }
    let spec = job.spec.get_or_insert_default();
    spec.template.metadata.get_or_insert_default().labels.get_or_insert_default().extend(ours);
    spec.parallelism = Some(1);
    spec.completions = Some(1);
    spec.completion_mode = None;
    spec.backoff_limit = Some(operation_type.spec.retries);
    spec.active_deadline_seconds = Some(timeout_seconds(run, Some(operation_type)));
    spec.ttl_seconds_after_finished =
        Some(operation_type.spec.ttl_seconds_after_finished.unwrap_or(JOB_TTL_SECONDS).max(JOB_TTL_SECONDS));
    // Never two pods at once: the next one starts after the last one has terminated.
    spec.pod_replacement_policy = Some("Failed".to_owned());
    let permanent: Vec<i32> = PERMANENT_EXIT_CODES.collect();
    spec.pod_failure_policy = serde_json::from_value(json!({ "rules": [
        { "action": "Ignore", "onPodConditions": [{ "type": "DisruptionTarget", "status": "True" }] },
        { "action": "FailJob", "onExitCodes": { "operator": "In", "values": permanent } },
    ]}))?;
    if let Some(pod) = &mut spec.template.spec {
        pod.restart_policy = Some("Never".to_owned());
        pod.service_account_name = Some(prepared.account.clone());
    }
    Ok(())
}

fn worker_job(
    run: &OperationRun,
    command: &[String],
    prepared: &Prepared,
    settings: &JobSettings,
) -> Result<Job, serde_json::Error> {
    let mut environment = environment(run, prepared)?;
    environment.extend(identity_environment());
    environment.push(variable(CLUSTER_UID, &settings.cluster_uid));
    environment.push(variable(HEAP.0, HEAP.1));
    let mut volumes = vec![json!({ "name": "tmp", "emptyDir": { "sizeLimit": "1Gi" } })];
    let mut mounts = vec![json!({ "name": "tmp", "mountPath": "/tmp" })];
    if let Some(repository) = &prepared.repository {
        environment.push(variable(REPOSITORY, repository.metadata.name.as_deref().unwrap_or_default()));
        environment.push(variable(REPOSITORY_SPEC, &canonical_text(&serde_json::to_value(&repository.spec)?)));
        let creates_password = creates_password(&prepared.operation_type.spec.executor, repository);
        mount_repository(repository, creates_password, &mut environment, &mut volumes, &mut mounts);
    }
    let arguments: Vec<_> = std::iter::once("worker").chain(command.iter().map(String::as_str)).collect();
    serde_json::from_value(json!({ "spec": { "template": { "spec": {
        "automountServiceAccountToken": true,
        "enableServiceLinks": false,
        "terminationGracePeriodSeconds": 10,
        "imagePullSecrets": settings.image_pull_secrets.iter().map(|name| json!({ "name": name })).collect::<Vec<_>>(),
        "securityContext": restricted_pod(),
        "containers": [{
            "name": WORKER_CONTAINER,
            "image": settings.image,
            "imagePullPolicy": settings.image_pull_policy,
            "args": arguments,
            "env": environment,
            "resources": settings.worker_resources,
            "terminationMessagePolicy": "File",
            "securityContext": restricted_container(),
            "volumeMounts": mounts,
        }],
        "volumes": volumes,
    }}}}))
}

fn mount_repository(
    repository: &BackupRepository,
    creates_password: bool,
    environment: &mut Vec<EnvVar>,
    volumes: &mut Vec<Value>,
    mounts: &mut Vec<Value>,
) {
    let spec = &repository.spec;
    let mut password = json!({ "secretName": spec.password_secret.name, "defaultMode": 0o440 });
    // Of any other pod the run says that it waits for the Secret.
    if creates_password {
        password["optional"] = json!(true);
    }
    volumes.push(json!({ "name": "password", "secret": password }));
    mounts.push(json!({ "name": "password", "mountPath": PASSWORD_DIRECTORY, "readOnly": true }));
    if let Some(secret) = &spec.credentials_secret {
        volumes.push(json!({ "name": "credentials", "secret": { "secretName": secret.name, "defaultMode": 0o440 } }));
        mounts.push(json!({ "name": "credentials", "mountPath": CREDENTIALS_DIRECTORY, "readOnly": true }));
    }
    if let Some(volume) = &spec.storage.persistent_volume_claim {
        volumes.push(json!({ "name": "repository", "persistentVolumeClaim": { "claimName": volume.claim_name } }));
        mounts.push(json!({ "name": "repository", "mountPath": VOLUME_DIRECTORY }));
    }
    let token_file = format!("{IDENTITY_TOKEN_DIRECTORY}/token");
    let mut token_for = |audience: &str| {
        volumes.push(json!({ "name": "identity", "projected": { "sources": [{ "serviceAccountToken": { "audience": audience, "expirationSeconds": 3600, "path": "token" } }] } }));
        mounts.push(json!({ "name": "identity", "mountPath": IDENTITY_TOKEN_DIRECTORY, "readOnly": true }));
    };
    if spec.credentials_secret.is_some() {
        return;
    }
    if let Some(role) = spec.storage.s3.as_ref().and_then(|s3| s3.role_arn.as_ref()) {
        token_for("sts.amazonaws.com");
        environment.push(variable("AWS_ROLE_ARN", role));
        environment.push(variable("AWS_WEB_IDENTITY_TOKEN_FILE", &token_file));
        environment.push(variable("AWS_ROLE_SESSION_NAME", "tenantatlas"));
    } else if let Some(azure) = spec.storage.azure.as_ref().filter(|azure| azure.client_id.is_some()) {
        token_for("api://AzureADTokenExchange");
        environment.push(variable("AZURE_CLIENT_ID", azure.client_id.as_deref().unwrap_or_default()));
        environment.push(variable("AZURE_TENANT_ID", azure.directory_id.as_deref().unwrap_or_default()));
        environment.push(variable("AZURE_FEDERATED_TOKEN_FILE", &token_file));
    }
}

fn template_job(
    run: &OperationRun,
    template: &JobTemplateSpec,
    prepared: &Prepared,
    settings: &JobSettings,
) -> Result<Job, serde_json::Error> {
    let mut spec: JobSpec = template.spec.clone().unwrap_or_default();
    let pod = spec.template.spec.get_or_insert_default();
    let environment = environment(run, prepared)?;
    for container in &mut pod.containers {
        give(container, &environment);
        container.termination_message_policy.get_or_insert_with(|| "FallbackToLogsOnError".to_owned());
        restrict(container)?;
    }
    for container in pod.init_containers.iter_mut().flatten() {
        restrict(container)?;
    }
    if pod.security_context.is_none() {
        pod.security_context = serde_json::from_value(restricted_pod())?;
    }
    fence(pod, &environment, settings)?;
    let metadata = template.metadata.clone().unwrap_or_default();
    let mut job = Job { spec: Some(spec), ..Job::default() };
    job.metadata.labels = metadata.labels;
    job.metadata.annotations = metadata.annotations;
    Ok(job)
}

/// Inserts our fence as the first init container. Only the fence gets a token: the other containers
/// run third-party code.
fn fence(pod: &mut PodSpec, environment: &[EnvVar], settings: &JobSettings) -> Result<(), serde_json::Error> {
    // If the template names an account, that is the choice of its author, and the account's token
    // goes where the template says.
    if pod.service_account_name.is_none() {
        pod.automount_service_account_token = Some(false);
    }
    let mut variables = environment.to_vec();
    variables.extend(identity_environment());
    let container: Container = serde_json::from_value(json!({
        "name": FENCE_CONTAINER,
        "image": settings.image,
        "imagePullPolicy": settings.image_pull_policy,
        "args": ["worker", "fence"],
        "env": variables,
        "resources": { "requests": { "cpu": "10m", "memory": "16Mi" }, "limits": { "memory": "64Mi" } },
        "securityContext": fence_security(),
        "volumeMounts": [{ "name": FENCE_TOKEN_VOLUME, "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": true }],
    }))?;
    let volume: Volume = serde_json::from_value(
        json!({ "name": FENCE_TOKEN_VOLUME, "projected": { "defaultMode": 0o444, "sources": [
            { "serviceAccountToken": { "path": "token", "expirationSeconds": 3600 } },
            { "configMap": { "name": "kube-root-ca.crt", "items": [{ "key": "ca.crt", "path": "ca.crt" }] } },
            { "downwardAPI": { "items": [{ "path": "namespace", "fieldRef": { "apiVersion": "v1", "fieldPath": "metadata.namespace" } }] } },
        ]}}),
    )?;
    pod.init_containers.get_or_insert_default().insert(0, container);
    pod.volumes.get_or_insert_default().push(volume);
    for name in &settings.image_pull_secrets {
        pod.image_pull_secrets
            .get_or_insert_default()
            .push(k8s_openapi::api::core::v1::LocalObjectReference { name: name.clone() });
    }
    Ok(())
}

/// Sets our variables. They replace any of the same name, so that a template cannot override them.
fn give(container: &mut Container, environment: &[EnvVar]) {
    let variables = container.env.get_or_insert_default();
    variables.retain(|variable| !environment.iter().any(|ours| ours.name == variable.name));
    variables.extend(environment.iter().cloned());
}

/// Sets what Pod Security `restricted` requires, unless the template sets it.
fn restrict(container: &mut Container) -> Result<(), serde_json::Error> {
    let context = container.security_context.get_or_insert_default();
    context.allow_privilege_escalation.get_or_insert(false);
    if context.capabilities.is_none() {
        context.capabilities = serde_json::from_value(json!({ "drop": ["ALL"] }))?;
    }
    Ok(())
}

fn restricted_pod() -> Value {
    json!({ "runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532, "fsGroupChangePolicy": "OnRootMismatch", "seccompProfile": { "type": "RuntimeDefault" } })
}

fn restricted_container() -> Value {
    json!({ "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": { "drop": ["ALL"] } })
}

/// The fence runs as the user of our image, whatever the template's pod says.
fn fence_security() -> Value {
    json!({ "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532,
        "capabilities": { "drop": ["ALL"] }, "seccompProfile": { "type": "RuntimeDefault" } })
}

/// The execution contract's environment.
fn environment(run: &OperationRun, prepared: &Prepared) -> Result<Vec<EnvVar>, serde_json::Error> {
    let target = match &run.spec.target {
        Some(target) => canonical_text(&serde_json::to_value(target)?),
        None => String::new(),
    };
    Ok(vec![
        variable(RUN, run.metadata.name.as_deref().unwrap_or_default()),
        variable(RUN_UID, run.metadata.uid.as_deref().unwrap_or_default()),
        variable(NAMESPACE, run.metadata.namespace.as_deref().unwrap_or_default()),
        variable(NAMESPACE_UID, &prepared.tenant_uid),
        variable(TYPE, &run.spec.operation_type),
        variable(INPUTS, &canonical_text(&Value::Object(prepared.inputs.parse()))),
        variable(TARGET, &target),
    ])
}

/// The identity of the pod, from the downward API.
fn identity_environment() -> [EnvVar; 2] {
    let field = |name: &str, path: &str| EnvVar {
        name: name.to_owned(),
        value: None,
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector { api_version: Some("v1".to_owned()), field_path: path.to_owned() }),
            ..EnvVarSource::default()
        }),
    };
    [field(POD_NAME, "metadata.name"), field(JOB_UID, "metadata.labels['batch.kubernetes.io/controller-uid']")]
}

/// Builds a variable with a literal value. The kubelet replaces `$(NAME)` in a value with the
/// variable of that name, and `$$` with `$`. Every `$` is doubled here: a single one could be read
/// as the first or the second of a pair.
fn variable(name: &str, value: &str) -> EnvVar {
    EnvVar { name: name.to_owned(), value: Some(value.replace('$', "$$")), value_from: None }
}

fn canonical_text(value: &Value) -> String {
    String::from_utf8_lossy(&canonical::to_vec(value)).into_owned()
}
