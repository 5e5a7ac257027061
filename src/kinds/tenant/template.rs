//! The repository and the schedules that a tenant gets from its workspace. Pure.
//!
//! Must not: change where a repository is or what opens it, delete an object, or touch one that was
//! not made for a workspace. The label `tenantatlas.io/template` marks those that were. Admission
//! (`tenantatlas-templates`) rejects the label from any user except the operator.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use crate::{
    api::{
        BackupRepository, BackupSchedule, Workspace,
        backup_repository::{BackupRepositorySpec, PasswordSecret},
        backup_schedule::{BackupScheduleSpec, ConcurrencyPolicy, DEFAULT_HISTORY_LIMIT},
        labels,
        workspace::{RepositoryTemplate, ScheduleTemplate},
    },
    cluster::trim::left_out,
    kernel::{patch, refusal::Refusal, whole::too_large},
    operations,
    repository::Recipients,
};
use kube::{Resource, ResourceExt, api::ObjectMeta};
use serde::Serialize;
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::Arc};

/// What a tenant gets, and what it has of that.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The namespace.
    pub namespace: String,
    /// The workspace.
    pub workspace: Arc<Workspace>,
    /// All repositories of the tenant.
    pub repositories: Vec<Arc<BackupRepository>>,
    /// All schedules of the tenant.
    pub schedules: Vec<Arc<BackupSchedule>>,
}

/// One write of an object of the kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Change<K> {
    /// Create it.
    Create(Box<K>),
    /// Apply a merge patch to this object, with its resourceVersion.
    Patch(Arc<K>, Value),
}

/// The writes that are due.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    /// Of the repository.
    pub repository: Option<Change<BackupRepository>>,
    /// Of schedules.
    pub schedules: Vec<Change<BackupSchedule>>,
}

/// Why a tenant does not have what its workspace gives: a stable code, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// `NameTaken` or `LocationDiffers`.
    pub reason: &'static str,
    /// What is wrong, and what to do.
    pub message: String,
}

/// Why the templates of a workspace are not applied: a stable code, and what to do.
#[must_use]
pub fn problem(workspace: &Workspace) -> Option<(&'static str, String)> {
    // What was left out would read as a template that is gone, and its schedules be suspended.
    if let Some(Refusal { reason, message }) = too_large(workspace) {
        return Some((reason.as_str(), message));
    }
    let recovery = workspace.spec.repository.as_ref()?.recovery.as_ref()?;
    let number = Recipients::parse(&recovery.recipients).err()?;
    let message = format!(
        "spec.repository.recovery.recipients[{number}] is not a public key of age, and the templates are not applied: copy it again, whole, from the output of age-keygen"
    );
    Some(("InvalidRecipient", message))
}

/// Decides about a tenant that is not being deleted.
#[must_use]
pub fn decide(observed: &Observed) -> Changes {
    let Observed { namespace, workspace, .. } = observed;
    if problem(workspace).is_some() {
        return Changes::default();
    }
    let template = workspace.spec.repository.as_ref();
    let present = template.and_then(|template| find(&observed.repositories, &template.name));
    let repository = template.and_then(|template| match present {
        None => Some(Change::Create(Box::new(repository(workspace, namespace, template)))),
        Some(present) => alter_repository(observed, template, present),
    });
    let is_ready = present.is_some_and(|repository| is_templated(&**repository) && repository.is_ready());
    let mut schedules = Vec::new();
    for template in &workspace.spec.schedules {
        let wanted = schedule(workspace, namespace, template);
        match find(&observed.schedules, &template.name) {
            // Its first run would be blocked.
            None if workspace.spec.repository.is_some() && !is_ready => {}
            None => schedules.push(Change::Create(Box::new(wanted))),
            Some(present) => schedules.extend(alter_schedule(&wanted.spec, present)),
        }
    }
    schedules.extend(observed.schedules.iter().filter_map(|present| suspend(workspace, present)));
    Changes { repository, schedules }
}

/// Why the tenant cannot have what the templates say, if so.
#[must_use]
pub fn mismatch(observed: &Observed) -> Option<Mismatch> {
    let Observed { namespace, workspace, .. } = observed;
    let taken = |kind: &str, name: &str| Mismatch {
        reason: "NameTaken",
        message: format!(
            "{kind} {name} in namespace {namespace} was not made for the workspace and is left as it is: delete it, or give the template another name"
        ),
    };
    if let Some(template) = &workspace.spec.repository
        && let Some(present) = find(&observed.repositories, &template.name)
    {
        if !is_templated(&**present) {
            return Some(taken("BackupRepository", &template.name));
        }
        // A field that was too large to be read may be equal.
        if left_out(&**present).is_none()
            && !is_same_place(&present.spec, &repository(workspace, namespace, template).spec)
        {
            return Some(Mismatch {
                reason: "LocationDiffers",
                message: format!(
                    "BackupRepository {} in namespace {namespace} has another storage or passwordSecret than the template, and is left as it is: set them back, or give the template another name",
                    template.name
                ),
            });
        }
    }
    let mut present = workspace.spec.schedules.iter().filter_map(|template| find(&observed.schedules, &template.name));
    let other = present.find(|schedule| !is_templated(&***schedule))?;
    Some(taken("BackupSchedule", &other.name_any()))
}

/// Whether an object was made for a workspace.
#[must_use]
pub fn is_templated(object: &impl Resource) -> bool {
    object.meta().labels.as_ref().is_some_and(|labels| labels.contains_key(labels::TEMPLATE))
}

fn find<'o, K: ResourceExt>(objects: &'o [Arc<K>], name: &str) -> Option<&'o Arc<K>> {
    objects.iter().find(|object| object.name_any() == name)
}

fn metadata(workspace: &Workspace, namespace: &str, name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(namespace.to_owned()),
        labels: Some(BTreeMap::from([
            (labels::MANAGED_BY.to_owned(), labels::MANAGER.to_owned()),
            (labels::TEMPLATE.to_owned(), workspace.name_any()),
        ])),
        ..ObjectMeta::default()
    }
}

fn repository(workspace: &Workspace, namespace: &str, template: &RepositoryTemplate) -> BackupRepository {
    let RepositoryTemplate { name, storage: _, credentials_secret, password_secret: _, recovery, maintenance } =
        template;
    let password_secret =
        PasswordSecret { name: template.password_secret(), key: "password".to_owned(), generate: true };
    BackupRepository {
        metadata: metadata(workspace, namespace, name),
        spec: BackupRepositorySpec {
            storage: template.storage_of(namespace),
            credentials_secret: credentials_secret.clone(),
            password_secret,
            recovery: recovery.clone(),
            maintenance: maintenance.clone(),
            adopt: None,
        },
        status: None,
    }
}

fn is_same_place(one: &BackupRepositorySpec, other: &BackupRepositorySpec) -> bool {
    one.storage == other.storage && one.password_secret == other.password_secret
}

fn alter_repository(
    observed: &Observed,
    template: &RepositoryTemplate,
    present: &Arc<BackupRepository>,
) -> Option<Change<BackupRepository>> {
    let mut wanted = repository(&observed.workspace, &observed.namespace, template).spec;
    // A store of a lost cluster is adopted in the tenant, by who has the verb.
    wanted.adopt.clone_from(&present.spec.adopt);
    if !is_same_place(&present.spec, &wanted) {
        return None;
    }
    alter(present, &present.spec, &wanted)
}

fn schedule(workspace: &Workspace, namespace: &str, template: &ScheduleTemplate) -> BackupSchedule {
    let ScheduleTemplate {
        name,
        schedule,
        time_zone,
        jitter_seconds,
        starting_deadline_seconds,
        queue_timeout_seconds,
        immediate,
        suspend,
        mut operation,
        retention,
    } = template.clone();
    let repository = workspace.spec.repository.as_ref().map(|template| template.name.as_str());
    operation.inputs = operations::with_repository(&operation.operation_type, operation.inputs, repository);
    let spec = BackupScheduleSpec {
        schedule,
        time_zone,
        jitter_seconds,
        starting_deadline_seconds,
        queue_timeout_seconds,
        immediate,
        suspend,
        operation,
        retention,
        concurrency_policy: ConcurrencyPolicy::default(),
        successful_runs_history_limit: DEFAULT_HISTORY_LIMIT,
        failed_runs_history_limit: DEFAULT_HISTORY_LIMIT,
        requested_by: None,
    };
    BackupSchedule { metadata: metadata(workspace, namespace, &name), spec, status: None }
}

fn alter_schedule(wanted: &BackupScheduleSpec, present: &Arc<BackupSchedule>) -> Option<Change<BackupSchedule>> {
    // Who last asked for a run is recorded by admission. Who changed the operation asked for something
    // else than is started from now on.
    let requested_by = present.spec.requested_by.clone().filter(|_| present.spec.operation == wanted.operation);
    let wanted = BackupScheduleSpec { requested_by, ..wanted.clone() };
    alter(present, &present.spec, &wanted)
}

/// A schedule that was made for a workspace and that the template no longer names. Its retention
/// goes on.
fn suspend(workspace: &Workspace, present: &Arc<BackupSchedule>) -> Option<Change<BackupSchedule>> {
    let named = workspace.spec.schedules.iter().any(|template| template.name == present.name_any());
    if named {
        return None;
    }
    let wanted = BackupScheduleSpec { suspend: true, ..present.spec.clone() };
    alter(present, &present.spec, &wanted)
}

/// The patch from the present spec to the wanted one, if the object is one of the operator's and was
/// read in full.
fn alter<K: Resource<DynamicType = ()>, S: Serialize>(present: &Arc<K>, is: &S, wanted: &S) -> Option<Change<K>> {
    if !is_templated(&**present) || present.meta().deletion_timestamp.is_some() || left_out(&**present).is_some() {
        return None;
    }
    let value = |spec: &S| serde_json::to_value(spec).unwrap_or_default();
    let spec = patch::merge(&value(is), &value(wanted))?;
    let metadata = json!({"resourceVersion": present.meta().resource_version});
    Some(Change::Patch(present.clone(), json!({"metadata": metadata, "spec": spec})))
}
