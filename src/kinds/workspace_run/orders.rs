//! What is created in a tenant: a run, a bulk operation or a restore. Pure.
//!
//! It has no owner: deleting the workspace run must leave the records of the tenants as they are.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use super::decide::Observed;
use crate::{
    api::{
        BulkOperationRun, BulkOperationRunSpec, LocalReference, OperationRun, OperationRunSpec, Outcome,
        PreviewReference, RestoreRun, RestoreRunSpec, WorkspaceRun,
        bulk_operation_run::BulkAction,
        labels,
        operation_run::{ScheduledBy, SchedulerKind, Trigger},
        restore_run::ExistingResourcePolicy,
        workspace_run::{BulkTemplate, RestoreTemplate, What, WorkspaceOperation, run_names},
    },
    operations,
};
use kube::ResourceExt;

/// What is created in a tenant.
#[derive(Clone, Debug, PartialEq)]
pub enum Order {
    /// A run of an operation type.
    Run(Box<OperationRun>),
    /// A bulk operation.
    Bulk(Box<BulkOperationRun>),
    /// A restore.
    Restore(Box<RestoreRun>),
}

impl Order {
    /// The tenant.
    #[must_use]
    pub fn namespace(&self) -> String {
        let metadata = match self {
            Self::Run(run) => &run.metadata,
            Self::Bulk(bulk) => &bulk.metadata,
            Self::Restore(restore) => &restore.metadata,
        };
        metadata.namespace.clone().unwrap_or_default()
    }
}

/// Builds what is created in a tenant; `None` if the spec says nothing, or if what the source of the
/// workspace run created there is gone.
#[must_use]
pub fn of_tenant(observed: &Observed, namespace: &str) -> Option<Order> {
    let run = &observed.run;
    let source = observed.source.child(namespace);
    // The digest is what the preview of all tenants showed in this one. In the tenant, the name of the
    // preview may be taken by a later one before this is applied.
    let shown = run.spec.preview.as_ref().and(source).and_then(|child| {
        let plan_digest = Some(child.shown()?.to_owned());
        Some(PreviewReference { name: child.run.name.clone(), plan_digest })
    });
    if run.spec.preview.is_some() && shown.is_none() {
        return None;
    }
    match run.what()? {
        What::Operation(operation) => Some(Order::Run(Box::new(of_type(observed, operation, namespace)))),
        What::Bulk(template) => {
            let spec = BulkOperationRunSpec { preview: shown, ..bulk(run, template, repository(observed)) };
            let mut bulk = BulkOperationRun::new(&name(run), spec);
            bulk.metadata.namespace = Some(namespace.to_owned());
            Some(Order::Bulk(Box::new(bulk)))
        }
        What::Restore(template) => {
            let spec = RestoreRunSpec { preview: shown, ..restore(run, template) };
            Some(Order::Restore(Box::new(restore_run(run, spec, namespace))))
        }
        What::Undo(_) => {
            let detail = source?.detail.as_deref()?;
            let set = if shown.is_some() { detail.backup_set.as_ref() } else { detail.undo.as_ref() };
            let spec = RestoreRunSpec { preview: shown, ..undo(run, set?) };
            Some(Order::Restore(Box::new(restore_run(run, spec, namespace))))
        }
    }
}

fn name(run: &WorkspaceRun) -> String {
    let [name, _] = run_names(&run.name_any(), &run.uid().unwrap_or_default());
    name
}

fn scheduled_by(run: &WorkspaceRun) -> ScheduledBy {
    let uid = run.uid().unwrap_or_default();
    ScheduledBy { kind: SchedulerKind::WorkspaceRun, name: run.name_any(), uid, tick: None }
}

/// The repository that the workspace gives its tenants.
#[must_use]
pub fn repository(observed: &Observed) -> Option<&str> {
    let template = observed.workspace.as_ref().and_then(|workspace| workspace.spec.repository.as_ref());
    template.map(|template| template.name.as_str())
}

/// The run of an operation type.
#[must_use]
pub fn of_type(observed: &Observed, operation: &WorkspaceOperation, namespace: &str) -> OperationRun {
    let run = &observed.run;
    let spec = &run.spec;
    let (operation_type, inputs) = (&operation.operation_type, operation.inputs.clone());
    let trigger = Trigger::WorkspaceRun;
    let mut child = OperationRun::new(
        &name(run),
        OperationRunSpec {
            operation_type: operation_type.clone(),
            trigger,
            initiator: spec.requested_by.clone(),
            inputs: operations::with_repository(operation_type, inputs, repository(observed)),
            scheduled_by: Some(scheduled_by(run)),
            timeout_seconds: spec.timeout_seconds,
            queue_timeout_seconds: spec.queue_timeout_seconds,
            ..OperationRunSpec::default()
        },
    );
    let initiator = spec.requested_by.as_ref().map(|initiator| initiator.username.as_str());
    let workspace = Some(spec.workspace.name.as_str());
    child.metadata.namespace = Some(namespace.to_owned());
    child.metadata.labels = Some(labels::of_run(None, operation_type, trigger, workspace, initiator, Outcome::Pending));
    child
}

/// The bulk operation of a template.
#[must_use]
pub fn bulk(run: &WorkspaceRun, template: &BulkTemplate, repository: Option<&str>) -> BulkOperationRunSpec {
    let mut options = template.options.clone();
    if template.action == BulkAction::Delete && run.spec.preview.is_none() {
        let options = options.get_or_insert_default();
        options.repository = options.repository.take().or(repository.map(str::to_owned));
    }
    BulkOperationRunSpec {
        resource: template.resource.clone(),
        action: template.action,
        items: template.items.clone(),
        label_selector: template.label_selector.clone(),
        dry_run: run.spec.dry_run,
        options,
        parallelism: template.parallelism,
        stop_after_failures: template.stop_after_failures,
        queue_timeout_seconds: run.spec.queue_timeout_seconds,
        scheduled_by: Some(scheduled_by(run)),
        requested_by: run.spec.requested_by.clone(),
        ..BulkOperationRunSpec::default()
    }
}

/// The restore of a template.
#[must_use]
pub fn restore(run: &WorkspaceRun, template: &RestoreTemplate) -> RestoreRunSpec {
    RestoreRunSpec {
        dry_run: run.spec.dry_run,
        items: template.items.clone(),
        exclude_items: template.exclude_items.clone(),
        only: template.only,
        existing_resource_policy: template.existing_resource_policy,
        prune: template.prune,
        allow_data_loss: template.allow_data_loss,
        transforms: template.transforms.clone(),
        queue_timeout_seconds: run.spec.queue_timeout_seconds,
        scheduled_by: Some(scheduled_by(run)),
        requested_by: run.spec.requested_by.clone(),
        ..RestoreRunSpec::of(template.backup_set.clone())
    }
}

/// The restore that undoes what was changed or deleted: the dry run says how, and what applies it says
/// nothing more.
fn undo(run: &WorkspaceRun, set: &str) -> RestoreRunSpec {
    let template = RestoreTemplate {
        backup_set: LocalReference::new(set),
        existing_resource_policy: if run.spec.dry_run {
            ExistingResourcePolicy::Update
        } else {
            ExistingResourcePolicy::None
        },
        prune: run.spec.dry_run,
        ..RestoreTemplate::default()
    };
    restore(run, &template)
}

fn restore_run(run: &WorkspaceRun, spec: RestoreRunSpec, namespace: &str) -> RestoreRun {
    let mut restore = RestoreRun::new(&name(run), spec);
    restore.metadata.namespace = Some(namespace.to_owned());
    restore
}
