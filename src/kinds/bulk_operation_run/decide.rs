//! The decision about a bulk operation. Pure.
//!
//! A bulk operation starts one run and follows it: `queued` until that run runs, then `running`, then
//! the outcome of the run, which is the record that counts. Everything that can be known before there
//! is a run is checked here, and blocks the bulk operation.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use crate::{
    api::{
        BackupSet, BulkOperationRun, BulkOperationRunStatus, ObjectReference, OperationRun, OperationRunSpec, Outcome,
        Phase, Reason,
        approval::{ApprovedKind, ApprovedType, Consent},
        audit_entry::AuditRecord,
        bulk_operation_run::BulkAction,
        conditions,
        result::truncate,
    },
    items::{bulk, eligible::Ineligible},
    kernel::{refusal::Refusal, whole::too_large},
    kinds::{
        approval::{self, Asked, Plan, Verdict, no_requester},
        made_for::{RunView, told_by_the_chain, unsettled},
    },
    runs::waiting::waits,
};
use jiff::Timestamp;
use kube::{Resource, ResourceExt};
use serde_json::{Map, json};
use std::sync::Arc;

/// Input of the run that names the bulk operation.
const INPUT: &str = "bulkOperationRun";

/// Everything that a decision depends on.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The bulk operation.
    pub bulk: Arc<BulkOperationRun>,
    /// Whether the namespace is a tenant.
    pub is_tenant: bool,
    /// Whether the namespace is being deleted.
    pub terminating: bool,
    /// The run that does its work.
    pub run: RunView,
    /// The workspace run that it was created for, if that had ended, while there is no run yet.
    pub late: Option<String>,
    /// The bulk operation that `spec.preview` names, while there is no run yet.
    pub preview: Option<Arc<BulkOperationRun>>,
    /// What is known about its approval, while there is no run yet.
    pub approval: approval::Known,
    /// The set with what was deleted, which the run's worker created, once the run has ended.
    pub undo: Option<BackupSet>,
    /// What the run's workers wrote to the audit chain, in the order of the chain. Only read if the
    /// run has ended and does not reference the entries: its last worker was stopped or died.
    pub audit: Vec<AuditRecord>,
}

/// One write.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Create the run, then record it.
    Start(Box<OperationRun>),
    /// Cancel the run.
    Cancel(ObjectReference),
    /// Report that a set can be used: its worker died before the run could report it.
    SettleUndo(Box<BackupSet>),
    /// Write the status.
    WriteStatus(Box<BulkOperationRunStatus>),
}

/// The names that the run of a bulk operation may have: the second one if a run that is not its own
/// has the first.
#[must_use]
pub fn run_names(bulk: &BulkOperationRun) -> [String; 2] {
    let uid = bulk.uid().unwrap_or_default();
    let name = format!("{}-bulk", bulk.name_any());
    [name.clone(), format!("{name}-{}", uid.get(..8).unwrap_or(&uid))]
}

/// Whether a run belongs to a bulk operation. Any user can create a run of any name with any owner.
/// Only the operator may create a run of this type, whose inputs name the bulk operation.
#[must_use]
pub fn is_of(run: &OperationRun, bulk: &BulkOperationRun) -> bool {
    let wanted = json!({ "name": bulk.name_any(), "uid": bulk.uid().unwrap_or_default() });
    run.spec.operation_type == operation_type(bulk) && run.spec.inputs.get(INPUT) == Some(wanted)
}

/// The type of a bulk operation's run.
fn operation_type(bulk: &BulkOperationRun) -> &'static str {
    bulk.spec.action.operation_type(bulk.spec.dry_run)
}

/// The repository that a deletion needs. What applies a preview has that of the preview.
fn repository_of_deletion(observed: &Observed) -> Option<&str> {
    let spec = &observed.bulk.spec;
    let asked = if spec.preview.is_some() { &observed.preview.as_deref()?.spec } else { spec };
    bulk::deletion(asked).ok().filter(|_| spec.action == BulkAction::Delete).map(|asked| asked.repository)
}

/// Decides about a bulk operation.
#[must_use]
pub fn decide(observed: &Observed, now: Timestamp) -> Vec<Action> {
    let bulk = &observed.bulk;
    if bulk.is_completed() || bulk.metadata.deletion_timestamp.is_some() || observed.terminating {
        // The run is garbage-collected, and with it the Job.
        return Vec::new();
    }
    match &observed.run {
        RunView::None(_) | RunView::Taken if bulk.spec.cancel => {
            vec![ended(observed, Outcome::Failed, Reason::Cancelled, "cancelled before it started", now)]
        }
        RunView::None(name) => match expect_possible(observed) {
            Ok(()) => match approved(observed, now) {
                Verdict::Free => vec![Action::Start(Box::new(run(observed, name, None)))],
                Verdict::Given(by) => vec![Action::Start(Box::new(run(observed, name, Some(&by))))],
                Verdict::Awaited { digest, message } => vec![awaits(bulk, digest, &message, now)],
                Verdict::Refused(refusal) => vec![refused(observed, &refusal, now)],
            },
            Err(refusal) => vec![refused(observed, &refusal, now)],
        },
        RunView::Taken => vec![refused(observed, &names_taken(bulk), now)],
        RunView::Gone => {
            let message = "the run that did its work was deleted before its end was recorded: look at what it did, and create a new bulk operation for the rest";
            let reason = if bulk.spec.cancel { Reason::Cancelled } else { Reason::RunDeleted };
            let mut actions: Vec<Action> =
                unsettled(observed.undo.as_ref()).map(Action::SettleUndo).into_iter().collect();
            actions.push(ended(observed, Outcome::Failed, reason, message, now));
            actions
        }
        RunView::Found(run) => follow(observed, run, now),
    }
}

/// Refuses what cannot be done, whatever the objects are.
fn expect_possible(observed: &Observed) -> Result<(), Refusal> {
    let bulk = &observed.bulk;
    if !observed.is_tenant {
        return Err(Refusal::not_a_tenant(&bulk.namespace().unwrap_or_default()));
    }
    if let Some(refusal) = too_large(&**bulk) {
        return Err(refusal);
    }
    if let Some(workspace_run) = &observed.late {
        return Err(Refusal::created_late(workspace_run));
    }
    let refusal = |Ineligible { reason, message }| Refusal { reason, message };
    bulk::requester(&bulk.spec).map_err(refusal)?;
    let preview = bulk::previewed(&bulk.spec, observed.preview.as_deref()).map_err(refusal)?;
    match preview {
        Some(_) => Ok(()),
        None => bulk::expect_possible(&bulk.spec).map_err(refusal),
    }
}

/// The plan that a bulk operation applies, if a preview made it.
fn plan_of(observed: &Observed) -> Option<Plan> {
    let preview = observed.preview.as_deref();
    let made = bulk::previewed(&observed.bulk.spec, preview).ok().flatten()?;
    let changes = preview.and_then(|preview| preview.status.as_ref()?.preview).map(|summary| summary.changes());
    Some(Plan { digest: made.digest, changes })
}

/// Whether a bulk operation that could start has the approval that it needs.
fn approved(observed: &Observed, now: Timestamp) -> Verdict {
    let bulk = &observed.bulk;
    let (spec, namespace) = (&bulk.spec, bulk.namespace().unwrap_or_default());
    if spec.dry_run || spec.action.only_reads() {
        return Verdict::Free;
    }
    let Some(requester) = &spec.requested_by else { return Verdict::Refused(no_requester()) };
    let asked = Asked {
        kind: ApprovedKind::BulkOperationRun,
        operation: if spec.action == BulkAction::Delete { ApprovedType::BulkDelete } else { ApprovedType::Bulk },
        object: ObjectReference::of(&**bulk),
        namespace: &namespace,
        workspace: None,
        requester,
        terms: spec.approval.as_ref(),
        plan: plan_of(observed),
    };
    approval::decide(&asked, &observed.approval, now)
}

/// Reports that a bulk operation waits for an approval.
fn awaits(bulk: &BulkOperationRun, digest: String, message: &str, now: Timestamp) -> Action {
    let mut next = bulk.status_or_default();
    next.plan_digest = Some(digest);
    let reason = Reason::AwaitingApproval.as_str();
    settle(&mut next, bulk, (Phase::Queued, Outcome::Pending), reason, message, now);
    Action::WriteStatus(Box::new(next))
}

/// Ends a bulk operation that cannot start.
#[must_use]
pub fn refused(observed: &Observed, Refusal { reason, message }: &Refusal, now: Timestamp) -> Action {
    ended(observed, Outcome::Blocked, *reason, message, now)
}

fn names_taken(bulk: &BulkOperationRun) -> Refusal {
    let [first, second] = run_names(bulk);
    let namespace = bulk.namespace().unwrap_or_default();
    Refusal::new(
        Reason::RunNameTaken,
        format!(
            "OperationRuns that are not this bulk operation's have both names that its run may have, {first} and {second}: delete one with `kubectl delete operationrun {first} -n {namespace}`, or choose another name, then create a new bulk operation"
        ),
    )
}

/// Updates the bulk operation from its run.
fn follow(observed: &Observed, run: &OperationRun, now: Timestamp) -> Vec<Action> {
    let bulk = &observed.bulk;
    let theirs = run.status_or_default();
    let mut actions: Vec<Action> = unsettled(observed.undo.as_ref()).map(Action::SettleUndo).into_iter().collect();
    if theirs.phase != Phase::Completed && bulk.spec.cancel && !run.spec.cancel {
        actions.push(Action::Cancel(ObjectReference::of(run)));
    }
    let mut next = bulk.status_or_default();
    next.operation_run = Some(ObjectReference::of(run));
    next.undo_backup_set = observed.undo.as_ref().map(ResourceExt::name_any).or(next.undo_backup_set);
    let captured = theirs.context.backup_set.clone().filter(|_| bulk.spec.action == BulkAction::Capture);
    next.backup_set = captured.or(next.backup_set);
    if bulk.spec.action == BulkAction::Export && theirs.context.config_map.is_some() {
        next.config_map.clone_from(&theirs.context.config_map);
        next.config_map_digest.clone_from(&theirs.context.config_map_digest);
    }
    next.audit = theirs.context.audit.clone().or(next.audit);
    record_audit(&mut next, observed);
    if let Some(plan) = &theirs.context.plan {
        next.plan_digest = Some(plan.digest.clone());
        next.preview = bulk.spec.dry_run.then_some(plan.summary);
    }
    let (reason, message) = if theirs.phase == Phase::Completed {
        next.counts = theirs.summary_counts.or(next.counts);
        next.failures.clone_from(&theirs.failures);
        next.failures_truncated = theirs.failures_truncated;
        next.completed_at = Some(now);
        (theirs.reason.unwrap_or_default(), theirs.message.unwrap_or_default())
    } else {
        match waits(run) {
            Some((reason, message)) => (reason, message),
            None => (Reason::Running.as_str().to_owned(), format!("see run {}", run.name_any())),
        }
    };
    settle(&mut next, bulk, (theirs.phase, theirs.outcome), &reason, &message, now);
    actions.push(Action::WriteStatus(Box::new(next)));
    actions
}

fn ended(observed: &Observed, outcome: Outcome, reason: Reason, message: &str, now: Timestamp) -> Action {
    let mut next = observed.bulk.status_or_default();
    next.undo_backup_set = observed.undo.as_ref().map(ResourceExt::name_any).or(next.undo_backup_set);
    record_audit(&mut next, observed);
    next.completed_at = Some(now);
    settle(&mut next, &observed.bulk, (Phase::Completed, outcome), reason.as_str(), message, now);
    Action::WriteStatus(Box::new(next))
}

fn record_audit(next: &mut BulkOperationRunStatus, observed: &Observed) {
    if let Some((references, digest)) = told_by_the_chain(&observed.audit) {
        (next.audit, next.plan_digest) = (Some(references), Some(digest.to_owned()));
    }
}

/// The status of a bulk operation whose run was just created.
#[must_use]
pub fn started(bulk: &BulkOperationRun, run: &OperationRun, now: Timestamp) -> BulkOperationRunStatus {
    let mut next = bulk.status_or_default();
    next.operation_run = Some(ObjectReference::of(run));
    let message = format!("see run {}", run.name_any());
    settle(&mut next, bulk, (Phase::Queued, Outcome::Pending), Reason::Running.as_str(), &message, now);
    next
}

/// Sets phase, outcome, and the conditions that say the same to machines.
fn settle(
    next: &mut BulkOperationRunStatus,
    bulk: &BulkOperationRun,
    (phase, outcome): (Phase, Outcome),
    reason: &str,
    message: &str,
    now: Timestamp,
) {
    let generation = bulk.metadata.generation;
    let wanted = conditions::of_run(phase, outcome);
    next.conditions = conditions::merge(&next.conditions, &wanted, reason, &truncate(message, 1000), generation, now);
    next.phase = phase;
    next.outcome = outcome;
    next.observed_generation = generation.unwrap_or(0);
    next.reason = Some(reason.to_owned());
    next.message = Some(truncate(message, 4000));
}

/// Builds the run that does a bulk operation's work.
fn run(observed: &Observed, name: &str, approval: Option<&Consent>) -> OperationRun {
    let bulk = &observed.bulk;
    let named = json!({ "name": bulk.name_any(), "uid": bulk.uid().unwrap_or_default() });
    let mut inputs = Map::from_iter([(INPUT.to_owned(), named)]);
    if let Some(repository) = repository_of_deletion(observed) {
        inputs.insert("repository".to_owned(), json!(repository));
    }
    if let Ok(bulk::Captures { repository, selection }) = bulk::captures(&bulk.spec) {
        inputs.extend([("repository".to_owned(), json!(repository)), ("selection".to_owned(), json!(selection))]);
    }
    if let Some(Plan { digest, .. }) = plan_of(observed) {
        inputs.insert("planDigest".to_owned(), json!(digest));
    }
    if let Some(approval) = approval {
        inputs.insert("approval".to_owned(), json!(approval));
    }
    let mut run = OperationRun::new(
        name,
        OperationRunSpec {
            operation_type: operation_type(bulk).to_owned(),
            initiator: bulk.spec.requested_by.clone(),
            inputs: inputs.into(),
            queue_timeout_seconds: bulk.spec.queue_timeout_seconds,
            ..OperationRunSpec::default()
        },
    );
    run.metadata.namespace = bulk.namespace();
    run.metadata.owner_references = bulk.owner_ref(&()).map(|owner| vec![owner]);
    run
}
