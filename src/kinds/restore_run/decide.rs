//! The decision about a restore. Pure.
//!
//! A restore starts one run and follows it: `queued` until that run runs, then `running`, then the
//! outcome of the run. Everything that can be known before there is a run is checked here, and
//! blocks the restore.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use super::{
    account::{AccountView, expect_usable},
    finding,
};
use crate::{
    api::{
        BackupRepository, BackupSet, Finding, FindingStatus, LocalReference, ObjectReference, OperationRun,
        OperationRunSpec, Outcome, Phase, Reason, RestoreRun, RestoreRunStatus,
        approval::{ApprovedKind, ApprovedType, Consent},
        audit_entry::AuditRecord,
        conditions,
        operation_run::Trigger,
        operations::{self, BaselineItem},
        result::truncate,
    },
    items::eligible::{self, Ineligible},
    kernel::{refusal::Refusal, whole::too_large},
    kinds::{
        approval::{self, Asked, Plan, Verdict, no_requester},
        made_for::{RunView, told_by_the_chain, unsettled},
    },
    runs::waiting::waits,
};
use jiff::Timestamp;
use kube::{Resource, ResourceExt};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// Input of the run that names the restore.
const RESTORE_INPUT: &str = "restoreRun";

/// Input of the run that names the item of a finding.
const FINDING_INPUT: &str = "finding";

/// Everything that a decision depends on.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The restore.
    pub restore: Arc<RestoreRun>,
    /// Uid of the tenant; `None` if the namespace is not a tenant.
    pub tenant_uid: Option<String>,
    /// Whether the namespace is being deleted.
    pub terminating: bool,
    /// The run that does the restore's work.
    pub run: RunView,
    /// The workspace run that it was created for, if that had ended, while there is no run yet.
    pub late: Option<String>,
    /// The finding that `spec.finding` names, while there is no run yet, and once the run has ended.
    pub finding: Option<Finding>,
    /// The backup set, while there is no run yet.
    pub set: Option<BackupSet>,
    /// The repository of the set.
    pub repository: Option<Arc<BackupRepository>>,
    /// The restore that `spec.preview` names.
    pub preview: Option<Arc<RestoreRun>>,
    /// What is known about its approval, while there is no run yet.
    pub approval: approval::Known,
    /// The restore that `spec.rerunOf` names.
    pub rerun_of: Option<Arc<RestoreRun>>,
    /// The account that `spec.serviceAccountName` names, while there is no run yet.
    pub account: AccountView,
    /// The set that the run's worker created to undo the restore, once the run has ended.
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
    /// Report on the finding that its item is put back.
    Resolve(Box<FindingStatus>),
    /// Write the status.
    WriteStatus(Box<RestoreRunStatus>),
}

/// The names that a restore's run may have: the second one if a run that is not the restore's own
/// has the first.
#[must_use]
pub fn run_names(restore: &RestoreRun) -> [String; 2] {
    let suffix = if restore.spec.dry_run { "preview" } else { "restore" };
    let uid = restore.uid().unwrap_or_default();
    let name = format!("{}-{suffix}", restore.name_any());
    [name.clone(), format!("{name}-{}", uid.get(..8).unwrap_or(&uid))]
}

/// Whether a run belongs to a restore. Any user can create a run of any name with any owner. Only
/// the operator may create a run of these types, whose inputs name the restore.
#[must_use]
pub fn is_of(run: &OperationRun, restore: &RestoreRun) -> bool {
    let wanted = json!({ "name": restore.name_any(), "uid": restore.uid().unwrap_or_default() });
    run.spec.operation_type == operation_type(restore) && run.spec.inputs.get(RESTORE_INPUT) == Some(wanted)
}

/// The type of a restore's run.
fn operation_type(restore: &RestoreRun) -> &'static str {
    if restore.spec.dry_run { operations::PREVIEW } else { operations::APPLY }
}

/// Decides about a restore.
#[must_use]
pub fn decide(observed: &Observed, now: Timestamp) -> Vec<Action> {
    let restore = &observed.restore;
    if restore.is_completed() || restore.metadata.deletion_timestamp.is_some() || observed.terminating {
        // The run is garbage-collected, and with it the Job.
        return Vec::new();
    }
    match &observed.run {
        RunView::None(_) | RunView::Taken if restore.spec.cancel => {
            vec![ended(observed, Outcome::Failed, Reason::Cancelled.as_str(), "cancelled before it started", now)]
        }
        RunView::None(name) => match repository(observed) {
            Ok((repository, item)) => match approved(observed, now) {
                Verdict::Free => vec![Action::Start(Box::new(run(observed, name, repository, item, None)))],
                Verdict::Given(by) => vec![Action::Start(Box::new(run(observed, name, repository, item, Some(&by))))],
                Verdict::Awaited { digest, message } => vec![awaits(restore, digest, &message, now)],
                Verdict::Refused(refusal) => vec![refused(observed, &refusal, now)],
            },
            Err(refusal) => vec![refused(observed, &refusal, now)],
        },
        RunView::Taken => vec![refused(observed, &names_taken(restore), now)],
        RunView::Gone => {
            let message = "the run that did its work was deleted before its end was recorded: look at what it did, and create a new restore";
            let cancelled = restore.spec.cancel;
            let reason = if cancelled { Reason::Cancelled } else { Reason::RunDeleted };
            let mut actions: Vec<Action> =
                unsettled(observed.undo.as_ref()).map(Action::SettleUndo).into_iter().collect();
            actions.push(ended(observed, Outcome::Failed, reason.as_str(), message, now));
            actions
        }
        RunView::Found(run) => follow(observed, run, now),
    }
}

/// The plan that a restore applies, if a preview made it.
fn plan_of(observed: &Observed) -> Option<Plan> {
    let preview = observed.preview.as_deref();
    let plan = eligible::previewed_plan(&observed.restore.spec, preview).ok().flatten()?;
    let changes = preview.and_then(|preview| preview.status.as_ref()?.preview).map(|summary| summary.changes());
    Some(Plan { digest: plan.digest, changes })
}

/// Whether a restore that could start has the approval that it needs.
fn approved(observed: &Observed, now: Timestamp) -> Verdict {
    let restore = &observed.restore;
    let (spec, namespace) = (&restore.spec, restore.namespace().unwrap_or_default());
    if spec.dry_run {
        return Verdict::Free;
    }
    let Some(requester) = &spec.requested_by else { return Verdict::Refused(no_requester()) };
    let asked = Asked {
        kind: ApprovedKind::RestoreRun,
        operation: ApprovedType::Restore,
        object: ObjectReference::of(&**restore),
        namespace: &namespace,
        workspace: None,
        requester,
        terms: spec.approval.as_ref(),
        plan: plan_of(observed),
    };
    approval::decide(&asked, &observed.approval, now)
}

/// Reports that a restore waits for an approval.
fn awaits(restore: &RestoreRun, digest: String, message: &str, now: Timestamp) -> Action {
    let mut next = restore.status_or_default();
    next.plan_digest = Some(digest);
    let reason = Reason::AwaitingApproval.as_str();
    settle(&mut next, restore, (Phase::Queued, Outcome::Pending), reason, message, now);
    Action::WriteStatus(Box::new(next))
}

/// Whether a status says that the restore waits for an approval.
#[must_use]
pub fn awaits_approval(status: &RestoreRunStatus) -> bool {
    status.conditions.iter().any(|condition| condition.reason == Reason::AwaitingApproval.as_str())
}

/// Ends a restore that cannot start.
#[must_use]
pub fn refused(observed: &Observed, Refusal { reason, message }: &Refusal, now: Timestamp) -> Action {
    ended(observed, Outcome::Blocked, reason.as_str(), message, now)
}

fn names_taken(restore: &RestoreRun) -> Refusal {
    let [first, second] = run_names(restore);
    let namespace = restore.namespace().unwrap_or_default();
    Refusal::new(
        Reason::RunNameTaken,
        format!(
            "OperationRuns that are not this restore's have both names that its run may have, {first} and {second}: delete one with `kubectl delete operationrun {first} -n {namespace}`, or choose another name, then create a new restore"
        ),
    )
}

/// Updates the restore from its run.
fn follow(observed: &Observed, run: &OperationRun, now: Timestamp) -> Vec<Action> {
    let restore = &observed.restore;
    let theirs = run.status_or_default();
    let mut actions = Vec::new();
    if theirs.phase == Phase::Completed {
        actions.extend(unsettled(observed.undo.as_ref()).map(Action::SettleUndo));
        let (finding, set) = (observed.finding.as_ref(), pinned_set(run));
        let restored = finding.and_then(|finding| finding::restored(restore, run, set.as_ref(), finding));
        actions.extend(restored.map(|status| Action::Resolve(Box::new(status))));
    } else if restore.spec.cancel && !run.spec.cancel {
        actions.push(Action::Cancel(ObjectReference::of(run)));
    }
    let mut next = restore.status_or_default();
    next.operation_run = Some(ObjectReference::of(run));
    next.backup_set = pinned_set(run);
    next.plan_digest = theirs.context.plan.as_ref().map(|plan| plan.digest.clone()).or(next.plan_digest);
    next.audit = theirs.context.audit.or(next.audit);
    record_audit(&mut next, &observed.audit);
    if restore.spec.dry_run {
        next.preview = theirs.context.plan.as_ref().map(|plan| plan.summary).or(next.preview);
    } else if theirs.phase == Phase::Completed {
        next.results = theirs.summary_counts.or(next.results);
    }
    next.undo_backup_set = observed.undo.as_ref().map(ResourceExt::name_any).or(next.undo_backup_set);
    let (reason, message) = if theirs.phase == Phase::Completed {
        next.completed_at = Some(now);
        (theirs.reason.unwrap_or_default(), theirs.message.unwrap_or_default())
    } else {
        match waits(run) {
            Some((reason, message)) => (reason, message),
            None => (Reason::Running.as_str().to_owned(), format!("see run {}", run.name_any())),
        }
    };
    settle(&mut next, restore, (theirs.phase, theirs.outcome), &reason, &message, now);
    actions.push(Action::WriteStatus(Box::new(next)));
    actions
}

fn ended(observed: &Observed, outcome: Outcome, reason: &str, message: &str, now: Timestamp) -> Action {
    let mut next = observed.restore.status_or_default();
    next.undo_backup_set = observed.undo.as_ref().map(ResourceExt::name_any).or(next.undo_backup_set);
    record_audit(&mut next, &observed.audit);
    next.completed_at = Some(now);
    settle(&mut next, &observed.restore, (Phase::Completed, outcome), reason, message, now);
    Action::WriteStatus(Box::new(next))
}

/// Records the entries of the chain, and the plan that they are about.
fn record_audit(next: &mut RestoreRunStatus, entries: &[AuditRecord]) {
    let Some((references, digest)) = told_by_the_chain(entries) else { return };
    next.audit = Some(references);
    next.plan_digest = Some(digest.to_owned());
}

/// The status of a restore whose run was just created.
#[must_use]
pub fn started(restore: &RestoreRun, run: &OperationRun, now: Timestamp) -> RestoreRunStatus {
    let mut next = restore.status_or_default();
    next.operation_run = Some(ObjectReference::of(run));
    next.backup_set = pinned_set(run);
    let message = format!("see run {}", run.name_any());
    settle(&mut next, restore, (Phase::Queued, Outcome::Pending), Reason::Running.as_str(), &message, now);
    next
}

/// Sets phase, outcome, and the conditions that say the same to machines.
fn settle(
    next: &mut RestoreRunStatus,
    restore: &RestoreRun,
    (phase, outcome): (Phase, Outcome),
    reason: &str,
    message: &str,
    now: Timestamp,
) {
    let generation = restore.metadata.generation;
    let wanted = conditions::of_run(phase, outcome);
    next.conditions = conditions::merge(&next.conditions, &wanted, reason, &truncate(message, 1000), generation, now);
    next.phase = phase;
    next.outcome = outcome;
    next.observed_generation = generation.unwrap_or(0);
    let bad = matches!(outcome, Outcome::Failed | Outcome::Blocked | Outcome::PartiallySucceeded);
    next.failure_reason = bad.then(|| reason.to_owned());
    next.message = Some(truncate(message, 4000));
}

/// The set that a run restores from, if it puts back the item of a finding.
fn pinned_set(run: &OperationRun) -> Option<LocalReference> {
    let finding = run.spec.inputs.get(FINDING_INPUT)?;
    finding["backupSet"].as_str().map(LocalReference::new)
}

/// Returns the repository of the set, and the item of the finding if there is one, if everything
/// that can be known beforehand is in order.
fn repository(observed: &Observed) -> Result<(&str, Option<BaselineItem>), Refusal> {
    let restore = &observed.restore;
    let spec = &restore.spec;
    let namespace = restore.namespace().unwrap_or_default();
    let tenant_uid = observed.tenant_uid.as_deref().ok_or_else(|| Refusal::not_a_tenant(&namespace))?;
    if let Some(refusal) = too_large(&**restore) {
        return Err(refusal);
    }
    if let Some(workspace_run) = &observed.late {
        return Err(Refusal::created_late(workspace_run));
    }
    eligible::requester(spec).map_err(refusal)?;
    eligible::terms(spec).map_err(refusal)?;
    let found = observed.set.as_ref().map(ObjectReference::of);
    let item = finding::item(&observed.restore, observed.finding.as_ref(), found.as_ref())?;
    let name = spec.backup_set.as_ref().map(|set| set.name.as_str()).unwrap_or_default();
    let set = observed.set.as_ref().ok_or_else(|| {
        Refusal::new(
            Reason::BackupSetNotFound,
            format!(
                "spec.backupSet: there is no BackupSet {name:?} in namespace {namespace}: `kubectl get backupsets -n {namespace}` lists those there are"
            ),
        )
    })?;
    let of_set = observed.repository.as_ref().map(|repository| &repository.spec);
    eligible::own_set(set, tenant_uid, of_set).map_err(refusal)?;
    eligible::holds_objects(set).map_err(refusal)?;
    eligible::previewed_plan(spec, observed.preview.as_deref()).map_err(refusal)?;
    if let Some(LocalReference { name }) = &spec.rerun_of {
        usable_rerun(restore, name, observed.rerun_of.as_deref())?;
    }
    expect_usable(&observed.account, spec.service_account_name.as_deref().unwrap_or_default(), &namespace)?;
    Ok((&set.spec.repository.name, item))
}

fn refusal(Ineligible { reason, message }: Ineligible) -> Refusal {
    Refusal { reason, message }
}

fn usable_rerun(restore: &RestoreRun, name: &str, earlier: Option<&RestoreRun>) -> Result<(), Refusal> {
    let no = |why: &str| {
        Err(Refusal::new(
            Reason::RerunNotPossible,
            format!(
                "spec.rerunOf: restore {name} cannot be done again: {why}: name a completed restore of the same backup set"
            ),
        ))
    };
    let Some(earlier) = earlier else { return no("it does not exist (the history limit may have deleted it)") };
    if earlier.spec.backup_set != restore.spec.backup_set {
        no("it is of another backup set")
    } else if earlier.spec.dry_run {
        no("it is a preview, which restored nothing")
    } else if !earlier.is_completed() {
        no("it is not completed")
    } else {
        Ok(())
    }
}

/// Builds the run that does a restore's work.
fn run(
    observed: &Observed,
    name: &str,
    repository: &str,
    item: Option<BaselineItem>,
    approval: Option<&Consent>,
) -> OperationRun {
    let restore = &observed.restore;
    let spec = &restore.spec;
    let uid = restore.uid().unwrap_or_default();
    let mut inputs: Map<String, Value> = Map::from_iter([
        ("repository".to_owned(), json!(repository)),
        (RESTORE_INPUT.to_owned(), json!({ "name": restore.name_any(), "uid": uid })),
    ]);
    if let Some(account) = spec.service_account_name.as_ref().filter(|_| !spec.dry_run) {
        inputs.insert("serviceAccountName".to_owned(), json!(account));
    }
    if let Some(Plan { digest, .. }) = plan_of(observed) {
        inputs.insert("planDigest".to_owned(), json!(digest));
    }
    if let Some(approval) = approval {
        inputs.insert("approval".to_owned(), json!(approval));
    }
    if let Some(item) = item {
        inputs.insert(FINDING_INPUT.to_owned(), json!(item));
    }
    let mut run = OperationRun::new(
        name,
        OperationRunSpec {
            operation_type: operation_type(restore).to_owned(),
            // Repeats what an earlier restore could not do.
            trigger: if restore.spec.rerun_of.is_some() { Trigger::Retry } else { Trigger::Manual },
            initiator: spec.requested_by.clone(),
            inputs: inputs.into(),
            queue_timeout_seconds: spec.queue_timeout_seconds,
            ..OperationRunSpec::default()
        },
    );
    run.metadata.namespace = restore.namespace();
    run.metadata.owner_references = restore.owner_ref(&()).map(|owner| vec![owner]);
    run
}
