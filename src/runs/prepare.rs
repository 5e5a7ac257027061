//! Computes what a run would execute (identity, inputs, account) from the run and its type, or why
//! the run is refused.
//!
//! Pure. Everything that can be known before a Job exists is checked here.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use super::{
    job,
    observed::{RepositoryView, RerunView, Tenant},
};
use crate::{
    api::{
        BackupRepository, Inputs, OperationRun, OperationType, Reason,
        execution::{PREVIEW_ACCOUNT, RESTORE_ACCOUNT, WORKER_ACCOUNT},
        identity::Identity,
        operation_run::MAX_INPUTS_BYTES,
        operation_type::{Executor, Scope},
        result::truncate,
    },
    cluster::trim::left_out,
    kernel::{refusal::Refusal, whole::too_large},
    operations,
    runs::executable::{check_executor, check_size, validator},
};
use kube::Resource;
use serde_json::{Map, Value};
use std::sync::Arc;

/// Input of a restore that names the account for its writes.
pub const ACCOUNT_INPUT: &str = "serviceAccountName";

/// What a run executes: all that its Job is built from.
#[derive(Clone, Debug, PartialEq)]
pub struct Prepared {
    /// Uid of the tenant.
    pub tenant_uid: String,
    /// The type, whose executor can be made a Job.
    pub operation_type: Arc<OperationType>,
    /// What identifies runs that do the same work.
    pub identity: Identity,
    /// The inputs: the run's own, or those of `rerunOf` if it has none.
    pub inputs: Inputs,
    /// The account of its pods.
    pub account: String,
    /// The repository it uses.
    pub repository: Option<Arc<BackupRepository>>,
}

/// Name of the repository in the inputs of a worker's run.
#[must_use]
pub fn repository_name(executor: &Executor, inputs: &Inputs) -> Option<String> {
    executor.worker.as_ref().and_then(|_| inputs.text_of("repository"))
}

/// The effective inputs: the run's own, or those of the run that it repeats.
#[must_use]
pub fn effective_inputs(run: &OperationRun, rerun: &RerunView) -> Inputs {
    match rerun {
        RerunView::Found(earlier) if run.spec.inputs.is_empty() => earlier.spec.inputs.clone(),
        _ => run.spec.inputs.clone(),
    }
}

/// Checks what is the same for a run in each tenant: its type, its timeout and its inputs.
pub fn expect_startable(run: &OperationRun, operation_type: Option<&Arc<OperationType>>) -> Result<(), Refusal> {
    let operation_type = expect_type(&run.spec.operation_type, operation_type)?;
    check_timeout(run, operation_type)?;
    check_executor(operation_type)?;
    check_inputs(&run.spec.inputs.parse(), operation_type)
}

/// Checks that runs of a type can be started.
fn expect_type<'t>(
    type_name: &str,
    operation_type: Option<&'t Arc<OperationType>>,
) -> Result<&'t Arc<OperationType>, Refusal> {
    let Some(operation_type) = operation_type else {
        return Err(Refusal::new(
            Reason::UnknownType,
            format!(
                "there is no operation type {type_name:?}: `kubectl get operationtypes` lists those there are; create it, then create a new run"
            ),
        ));
    };
    check_size(operation_type)?;
    let spec = &operation_type.spec;
    if spec.scope != Scope::Tenant {
        return Err(Refusal::new(
            Reason::WrongScope,
            format!("operation type {type_name} is for workspaces: an OperationRun takes a type of scope Tenant"),
        ));
    }
    if spec.suspend {
        return Err(Refusal::new(
            Reason::TypeSuspended,
            format!(
                "operation type {type_name} is suspended: try again when an administrator has set its spec.suspend to false"
            ),
        ));
    }
    Ok(operation_type)
}

/// Checks a run and computes what it would execute.
pub fn prepare(
    run: &OperationRun,
    tenant: Option<&Tenant>,
    operation_type: Option<&Arc<OperationType>>,
    repository: &RepositoryView,
    rerun: &RerunView,
    account_exists: impl Fn(&str) -> bool,
) -> Result<Prepared, Refusal> {
    let namespace = run.metadata.namespace.as_deref().unwrap_or_default();
    let type_name = &run.spec.operation_type;
    let Some(tenant) = tenant else {
        return Err(Refusal::not_a_tenant(namespace));
    };
    let operation_type = expect_type(type_name, operation_type)?;
    let spec = &operation_type.spec;
    check_timeout(run, operation_type)?;
    check_rerun(run, &spec.executor, rerun)?;
    let earlier = match rerun {
        RerunView::Found(earlier) => Some(&**earlier),
        _ => None,
    };
    for run in [Some(run), earlier].into_iter().flatten() {
        match left_out(run) {
            Some(left_out) if left_out.contains(INPUTS) => return Err(inputs_too_large("more than that")),
            _ => expect_read(run)?,
        }
    }
    let inputs = effective_inputs(run, rerun);
    // Parsed only here, and dropped when this function returns.
    let parsed = inputs.parse();
    check_inputs(&parsed, operation_type)?;
    let mut account = account(operation_type, &inputs)?;
    if let RepositoryView::NotReady(repository) = repository
        && creates_password(&spec.executor, repository)
    {
        // The account of workers creates no Secrets.
        RESTORE_ACCOUNT.clone_into(&mut account);
    }
    if !account_exists(&account) {
        return Err(Refusal::new(
            Reason::AccountNotFound,
            format!(
                "ServiceAccount {account} does not exist in namespace {namespace}: operation type {type_name} runs as it; create it, then create a new run"
            ),
        ));
    }
    let repository = match repository {
        RepositoryView::NotNeeded => None,
        RepositoryView::Missing(name) => {
            return Err(Refusal::new(
                Reason::RepositoryNotFound,
                format!(
                    "inputs.repository: there is no BackupRepository {name:?} in namespace {namespace}: `kubectl get backuprepositories -n {namespace}` lists those there are"
                ),
            ));
        }
        RepositoryView::NotReady(repository)
            if !operations::of_executor(&spec.executor).is_some_and(operations::takes_any_repository) =>
        {
            return Err(not_ready(repository));
        }
        RepositoryView::NotReady(repository) | RepositoryView::Ready(repository) => Some(repository.clone()),
    };
    if let Some(repository) = repository.as_deref() {
        // The worker would be given half of the spec.
        expect_read(repository)?;
    }
    let identity =
        Identity::new(&tenant.uid, type_name, run.spec.target.as_ref(), &account, &parsed, spec.identity.as_ref());
    let depends_on_requester =
        operations::of_executor(&spec.executor).is_some_and(operations::Operation::depends_on_requester);
    let identity = if depends_on_requester { identity.asked_by(run.spec.initiator.as_ref()) } else { identity };
    let (tenant_uid, operation_type) = (tenant.uid.clone(), operation_type.clone());
    Ok(Prepared { tenant_uid, operation_type, identity, inputs, account, repository })
}

/// A run may have a shorter timeout than its type, but not a longer one: otherwise a tenant could
/// hold a slot for a year.
fn check_timeout(run: &OperationRun, operation_type: &OperationType) -> Result<(), Refusal> {
    let (asked, most) = (run.spec.timeout_seconds, job::type_timeout_seconds(Some(operation_type)));
    let Some(asked) = asked.filter(|asked| *asked > most) else { return Ok(()) };
    let type_name = &run.spec.operation_type;
    Err(Refusal::new(
        Reason::TimeoutTooLong,
        format!(
            "give a timeoutSeconds of at most {most}, not {asked}, or have an administrator raise spec.timeoutSeconds of operation type {type_name}"
        ),
    ))
}

/// Some inputs must be written out in the run itself, because admission checks the rights of its
/// author.
fn check_inherited(run: &OperationRun, executor: &Executor, earlier: &OperationRun) -> Result<(), Refusal> {
    match operations::of_executor(executor) {
        Some(operation) if run.spec.inputs.is_empty() => operation
            .may_inherit(&earlier.spec.inputs)
            .map_err(|message| Refusal::new(Reason::RerunNotPossible, message)),
        _ => Ok(()),
    }
}

fn check_rerun(run: &OperationRun, executor: &Executor, rerun: &RerunView) -> Result<(), Refusal> {
    let refuse = |message: String| Err(Refusal::new(Reason::RerunNotPossible, message));
    match rerun {
        RerunView::NotAsked => Ok(()),
        RerunView::Missing(name) => refuse(format!(
            "rerunOf: there is no run {name:?} in this namespace (it may have been deleted by the history limit): create a run with inputs of its own"
        )),
        RerunView::Found(earlier) => {
            let name = earlier.metadata.name.as_deref().unwrap_or_default();
            if earlier.spec.operation_type != run.spec.operation_type {
                refuse(format!(
                    "rerunOf: run {name} is of type {}, this one of {}: name a run of the same type",
                    earlier.spec.operation_type, run.spec.operation_type
                ))
            } else if !earlier.is_completed() {
                refuse(format!("rerunOf: run {name} is not completed: wait for it, or cancel it first"))
            } else {
                check_inherited(run, executor, earlier)
            }
        }
    }
}

/// How [`left_out`] names the inputs of a run.
const INPUTS: &str = "spec.inputs";

/// Refuses an object that was not read in full.
fn expect_read<K: Resource<DynamicType = ()>>(object: &K) -> Result<(), Refusal> {
    let Some(Refusal { reason, message }) = too_large(object) else { return Ok(()) };
    let name = object.meta().name.as_deref().unwrap_or_default();
    Err(Refusal { reason, message: format!("{} {name}: {message}", K::kind(&())) })
}

fn inputs_too_large(size: &str) -> Refusal {
    Refusal::new(
        Reason::InputsTooLarge,
        format!(
            "put what is large into a ConfigMap and name it: inputs may take {MAX_INPUTS_BYTES} bytes as JSON, and these take {size}"
        ),
    )
}

fn check_inputs(inputs: &Map<String, Value>, operation_type: &OperationType) -> Result<(), Refusal> {
    let value = Value::Object(inputs.clone());
    let size = value.to_string().len();
    if size > MAX_INPUTS_BYTES {
        return Err(inputs_too_large(&format!("{size} bytes")));
    }
    let Some(validator) = validator(operation_type)? else { return Ok(()) };
    let type_name = operation_type.metadata.name.as_deref().unwrap_or_default();
    match validator.iter_errors(&value).next() {
        None => Ok(()),
        Some(error) => {
            let at = error.instance_path().to_string();
            Err(Refusal::new(
                Reason::InvalidInputs,
                format!(
                    "inputs{at}: {}; `kubectl get operationtype {type_name} -o yaml` shows the schema",
                    truncate(&error.to_string(), 600)
                ),
            ))
        }
    }
}

/// Whether a run of this executor creates the password Secret of a repository if there is none.
#[must_use]
pub fn creates_password(executor: &Executor, repository: &BackupRepository) -> bool {
    repository.may_need_password() && operations::of_executor(executor).is_some_and(operations::takes_any_repository)
}

/// The account for a worker that makes changes, if the inputs name one.
#[must_use]
pub fn named_account(operation_type: &OperationType, inputs: &Inputs) -> Option<String> {
    let spec = &operation_type.spec;
    spec.executor.worker.as_ref().filter(|_| !spec.read_only)?;
    inputs.text_of(ACCOUNT_INPUT)
}

fn account(operation_type: &OperationType, inputs: &Inputs) -> Result<String, Refusal> {
    check_executor(operation_type)?;
    let spec = &operation_type.spec;
    let executor = &spec.executor;
    if let Some(template) = &executor.job_template {
        let pod = template.spec.as_ref().and_then(|job| job.template.spec.as_ref());
        return Ok(pod.and_then(|pod| pod.service_account_name.clone()).unwrap_or_else(|| WORKER_ACCOUNT.to_owned()));
    }
    // An account that is limited to dry runs.
    let dry = operations::of_executor(executor).is_some_and(|operation| operation.account() == PREVIEW_ACCOUNT);
    let own = match (spec.read_only, dry) {
        (true, true) => PREVIEW_ACCOUNT,
        (true, false) => WORKER_ACCOUNT,
        (false, _) => RESTORE_ACCOUNT,
    };
    Ok(named_account(operation_type, inputs).unwrap_or_else(|| own.to_owned()))
}

fn not_ready(repository: &BackupRepository) -> Refusal {
    let name = repository.metadata.name.as_deref().unwrap_or_default();
    let why = repository
        .status
        .as_ref()
        .and_then(|status| status.conditions.iter().find(|condition| condition.type_ == "Ready"))
        .map_or_else(
            || "its first check has not ended".to_owned(),
            |condition| format!("{}: {}", condition.reason, truncate(&condition.message, 400)),
        );
    Refusal::new(
        Reason::RepositoryNotReady,
        format!(
            "repository {name} is not Ready ({why}): wait with `kubectl wait --for=condition=Ready backuprepository/{name}`, or run repository.check again once it is fixed"
        ),
    )
}
