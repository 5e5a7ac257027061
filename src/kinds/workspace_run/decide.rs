//! The decision about a workspace run. Pure.
//!
//! The first pass checks what can be known before anything is created ([`super::check`]), and records
//! the start. Each later one creates objects in the wave that is open, up to `spec.parallelism`, and
//! opens the next wave once all tenants of the last one are done.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use super::{
    check::{expect_possible, nobody},
    consent::consent,
    orders::{Order, of_tenant},
    plan::{Given, Plan, State, Target, Tenant, plan},
    source::{Source, digest_of},
    summary::summarize,
};
use crate::{
    api::{
        ObjectReference, OperationType, Outcome, Phase, Reason, Workspace, WorkspaceRun, WorkspaceRunStatus,
        approval::Consent,
        conditions,
        result::truncate,
        workspace_run::{MAX_REFUSED, TenantRun, WaveStatus, What},
    },
    kernel::refusal::Refusal,
    kinds::approval::{Known, Verdict},
    runs::children::Child,
};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    sync::Arc,
};

/// Runs that one pass creates at most. The status is written in between.
const STARTS: usize = 50;

/// How often a workspace run is looked at without an event: its tenants may have gone.
const AGAIN: SignedDuration = SignedDuration::from_secs(30);

/// Everything that a decision depends on.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The workspace run.
    pub run: Arc<WorkspaceRun>,
    /// The type of its runs, while it has not started.
    pub operation_type: Option<Arc<OperationType>>,
    /// Its workspace, if there is an object of that.
    pub workspace: Option<Arc<Workspace>>,
    /// The tenants of the workspace that are not being deleted.
    pub tenants: Vec<Tenant>,
    /// What it has created, by namespace.
    pub children: BTreeMap<String, Child>,
    /// The workspace run that it repeats.
    pub earlier: Earlier,
    /// The workspace run that it applies or undoes.
    pub source: Source,
    /// Another workspace run that does the same work and goes first, while this one has not started.
    pub duplicate: Option<String>,
    /// What is known about its approval, while it has not started.
    pub approval: Known,
    /// Namespace of the operator, in which its approval is.
    pub operator_namespace: String,
}

/// The workspace run in `spec.rerunOf`.
#[derive(Clone, Debug, Default)]
pub enum Earlier {
    /// None is named.
    #[default]
    NotAsked,
    /// There is none of this name.
    Missing,
    /// What it repeats.
    Found {
        /// The workspace run of that name, while this one has not started.
        named: Option<Arc<WorkspaceRun>>,
        /// Uids of that and of those which it repeats.
        repeats: Vec<String>,
        /// The tenants that succeeded in one of these.
        succeeded: BTreeSet<String>,
    },
}

/// What to do, in this order, and when to requeue without an event.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision {
    /// What to create, by the name of the tenant.
    pub start: Vec<Order>,
    /// What to cancel, with the namespaces.
    pub cancel: Vec<(String, ObjectReference)>,
    /// The status after that, if it is to be written now.
    pub status: Option<Box<WorkspaceRunStatus>>,
    /// Number of tenants that were there at the start and are not seen now.
    pub missing: i64,
    /// Tenants whose turn has passed and whose run is not seen.
    pub gone: Vec<String>,
    /// Whether to delete the workspace run.
    pub delete: bool,
    /// When to decide again without an event.
    pub requeue: Option<SignedDuration>,
}

/// Decides about a workspace run.
#[must_use]
pub fn decide(observed: &Observed, now: Timestamp) -> Decision {
    let run = &observed.run;
    if run.metadata.deletion_timestamp.is_some() {
        return Decision::default();
    }
    if run.is_completed() {
        return after_the_end(run, now);
    }
    let started = run.status.as_ref().is_some_and(|status| status.started_at.is_some());
    if run.spec.cancel && !started {
        return ended(observed, (Outcome::Failed, Reason::Cancelled), "cancelled before it started", now);
    }
    let selectors = match expect_possible(observed, started) {
        Ok(selectors) => selectors,
        Err(Refusal { reason, message }) => return ended(observed, (Outcome::Blocked, reason), &message, now),
    };
    let nothing = BTreeSet::new();
    let succeeded_before = match &observed.earlier {
        Earlier::Found { succeeded, .. } => succeeded,
        Earlier::NotAsked | Earlier::Missing => &nothing,
    };
    let status = run.status_or_default();
    let only = observed.source.tenants(run);
    let given = Given {
        run,
        selectors: &selectors,
        tenants: &observed.tenants,
        children: &observed.children,
        succeeded_before,
        only: only.as_ref(),
        refused: &status.refused,
    };
    if started {
        return go_on(observed, given, &status, now);
    }
    let targets = plan(given, &[]).targets;
    if targets.is_empty() {
        return ended(observed, (Outcome::Blocked, Reason::NoTenants), &nobody(run), now);
    }
    match consent(observed, now) {
        Verdict::Free => begin(observed, given, &targets, &status, None, now),
        Verdict::Given(by) => begin(observed, given, &targets, &status, Some(by), now),
        Verdict::Awaited { digest, message } => awaits_approval(run, digest, &message, now),
        Verdict::Refused(Refusal { reason, message }) => ended(observed, (Outcome::Blocked, reason), &message, now),
    }
}

/// Records that a workspace run waits for an approval. It is looked at again when there is one, or when
/// the rules of the workspace change.
fn awaits_approval(run: &WorkspaceRun, digest: String, message: &str, now: Timestamp) -> Decision {
    let before = run.status_or_default();
    let mut next = before.clone();
    next.plan_digest = Some(digest);
    settle(&mut next, run, (Phase::Queued, Outcome::Pending), Reason::AwaitingApproval, message, now);
    Decision { status: (next != before).then(|| Box::new(next)), ..Decision::default() }
}

/// Records the start, and what was checked at it. Nothing is created in the same pass: if the status is
/// not written, the checks are made again, and must not find the workspace run half carried out.
fn begin(
    observed: &Observed,
    given: Given<'_>,
    targets: &[Target<'_>],
    before: &WorkspaceRunStatus,
    approval: Option<Consent>,
    now: Timestamp,
) -> Decision {
    let run = &observed.run;
    let mut next = before.clone();
    next.started_at = Some(now);
    next.approval = approval;
    next.operation_type = Some(run.operation_type().to_owned());
    let mut left_out = 0;
    if let Source::Found { reference, named, .. } = &observed.source {
        next.source = Some(reference.clone());
        let named = named.as_ref().map(|named| named.status_or_default()).unwrap_or_default();
        next.plan_digest = named.plan_digest.filter(|_| run.spec.preview.is_some());
        // Which tenants a selector would take of those that are gone is not known.
        if run.spec.preview.is_none() && run.spec.tenant_selector.is_none() {
            left_out = without_undo(observed, given, named.undo_tenants);
        }
    }
    next.tenants_at_start = i64::try_from(targets.len()).unwrap_or(i64::MAX).saturating_add(left_out);
    if let Earlier::Found { repeats, .. } = &observed.earlier {
        next.repeats.clone_from(repeats);
    }
    summarize(&mut next, targets, None, run.spec.dry_run);
    let (reason, message) = under_way(run, &next, None, None);
    settle(&mut next, run, (Phase::Running, Outcome::Pending), reason, &message, now);
    next.counted_at = Some(now);
    let requeue = Some(SignedDuration::from_millis(100));
    Decision { status: Some(Box::new(next)), requeue, ..Decision::default() }
}

/// Number of tenants in which there was something to undo, and in which it is not undone: they are no
/// tenants any more, or their records are deleted.
fn without_undo(observed: &Observed, given: Given<'_>, undo_tenants: i64) -> i64 {
    let known = given.only.map_or(0, BTreeSet::len);
    let there: BTreeSet<&str> = observed.tenants.iter().map(|tenant| tenant.namespace.as_str()).collect();
    let gone = given.only.map_or(0, |only| only.iter().filter(|namespace| !there.contains(**namespace)).count());
    let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    number(gone).saturating_add((undo_tenants - number(known)).max(0))
}

/// Why no more tenants are started.
fn stops(run: &WorkspaceRun, targets: &[Target<'_>], refused: usize) -> Option<Reason> {
    if run.spec.cancel {
        return Some(Reason::Cancelled);
    }
    let said = run.status.as_ref().and_then(|status| status.reason.as_deref());
    if said == Some(Reason::StoppedAfterFailures.as_str()) {
        // Also if the tenants that failed are gone by now.
        return Some(Reason::StoppedAfterFailures);
    }
    let failed = targets.iter().filter(|target| target.state.is_failed()).count();
    let most = run.stops_after().and_then(|most| usize::try_from(most).ok());
    (most.is_some_and(|most| failed >= most) || refused >= MAX_REFUSED).then_some(Reason::StoppedAfterFailures)
}

/// Starts, cancels and counts.
fn go_on(observed: &Observed, given: Given<'_>, before: &WorkspaceRunStatus, now: Timestamp) -> Decision {
    let run = &observed.run;
    let mut waves = before.waves.clone();
    let (opened, next_wave_at) = open_waves(run, given, &mut waves, before.refused.len(), now);
    let mut decision = Decision { requeue: Some(AGAIN), ..Decision::default() };
    let recorded = waves.clone();
    let Plan { mut targets, .. } = plan(given, &recorded);
    decision.missing = before.tenants_at_start.saturating_sub(i64::try_from(targets.len()).unwrap_or(i64::MAX));
    let gone = targets.iter().filter(|target| target.state == State::Gone);
    decision.gone = gone.map(|target| target.namespace.to_owned()).collect();
    let stopped = stops(run, &targets, before.refused.len());
    if run.spec.cancel {
        let active = targets.iter().filter_map(|target| match target.state {
            State::Active(child) if !child.cancelled => Some((target.namespace.to_owned(), child.run.clone())),
            _ => None,
        });
        decision.cancel = active.collect();
    }
    // The runs that are created now count as active.
    let new = Child {
        run: ObjectReference::default(),
        phase: Phase::Queued,
        outcome: Outcome::Pending,
        cancelled: false,
        reason: None,
        counts: None,
        detail: None,
    };
    if stopped.is_none() && opened {
        let active = targets.iter().filter(|target| matches!(target.state, State::Active(_))).count();
        let free = usize::try_from(run.spec.parallelism).unwrap_or(1).saturating_sub(active).min(STARTS);
        let current = recorded.len().saturating_sub(1);
        let waiting = targets.iter_mut().filter(|target| target.wave == current && target.state == State::Waiting);
        for target in waiting.take(free) {
            decision.start.extend(of_tenant(observed, target.namespace));
            target.state = State::Active(&new);
        }
        if let Some(wave) = waves.last_mut() {
            let through = had_their_turn(&targets, current).map(str::to_owned);
            wave.started_through = wave.started_through.take().max(through);
        }
    }
    let is_active = targets.iter().any(|target| matches!(target.state, State::Active(_)));
    let waits = targets.iter().any(|target| target.state == State::Waiting);
    let mut next = before.clone();
    next.waves = waves;
    next.wave = i64::try_from(next.waves.len()).ok().filter(|_| !run.spec.waves.is_empty());
    summarize(&mut next, &targets, stopped, run.spec.dry_run);
    for row in &mut next.tenants {
        row.run = row.run.take().filter(|run| !run.uid.is_empty());
    }
    if !is_active && (stopped.is_some() || !waits) {
        let is_partial = |target: &Target<'_>| matches!(target.state, State::Failed(child) if child.outcome == Outcome::PartiallySucceeded);
        let digest = digest_of(&observed.children).filter(|_| run.spec.dry_run);
        finish(&mut next, run, (stopped, targets.iter().any(is_partial)), digest, now);
        decision.requeue = None;
    } else {
        let (reason, message) = under_way(run, &next, stopped, next_wave_at);
        settle(&mut next, run, (Phase::Running, Outcome::Pending), reason, &message, now);
    }
    if let Some(at) = next_wave_at {
        decision.requeue = Some(at.duration_since(now).clamp(SignedDuration::from_millis(100), AGAIN));
    }
    if decision.start.len() == STARTS {
        decision.requeue = Some(SignedDuration::from_millis(100));
    }
    write(&mut decision, before, next, now);
    decision
}

/// The tenant of a wave up to which all have had their turn, by name. What an earlier pass created counts,
/// too: if that pass ended before its status was written, nothing else says that these had their turn.
fn had_their_turn<'o>(targets: &[Target<'o>], wave: usize) -> Option<&'o str> {
    let of_wave = targets.iter().filter(|target| target.wave == wave);
    of_wave.take_while(|target| target.state != State::Waiting).last().map(|target| target.namespace)
}

/// Records the end of the last wave, and opens the next ones. Returns whether tenants of the last wave
/// may start, and when the next one is opened, if that is waited for.
fn open_waves(
    run: &WorkspaceRun,
    given: Given<'_>,
    waves: &mut Vec<WaveStatus>,
    refused: usize,
    now: Timestamp,
) -> (bool, Option<Timestamp>) {
    loop {
        let recorded = waves.clone();
        let Plan { targets, ends } = plan(given, &recorded);
        let number = waves.len();
        if let Some(last) = waves.last_mut() {
            let current = number - 1;
            let mut of_wave = targets.iter().filter(|target| target.wave == current).peekable();
            let is_empty = of_wave.peek().is_none();
            if of_wave.any(|target| !target.state.is_done()) {
                return (true, None);
            }
            let completed = *last.completed_at.get_or_insert(now);
            let waits = targets.iter().any(|target| target.state == State::Waiting);
            // A wave that has begun is recorded, also if none of its tenants waits: the pass that created their runs
            // may have ended before its status was written.
            let has_begun = |target: &Target<'_>| {
                target.wave > current && given.tenants.iter().any(|tenant| tenant.namespace == target.namespace)
            };
            if stops(run, &targets, refused).is_some() || !(waits || targets.iter().any(has_begun)) {
                return (false, None);
            }
            let wait = run.spec.waves.get(current).map_or(0, |wave| wave.wait_seconds);
            let opens = completed.checked_add(SignedDuration::from_secs(wait)).unwrap_or(completed);
            if waits && now < opens && !is_empty {
                return (false, Some(opens));
            }
        } else if stops(run, &targets, refused).is_some() {
            return (false, None);
        }
        if number > run.spec.waves.len() {
            // All waves are open; those that wait came into a wave too late, and are `Gone` by now.
            return (true, None);
        }
        let through = ends.get(number).copied().flatten().map(str::to_owned);
        waves.push(WaveStatus { started_at: now, completed_at: None, through, started_through: None });
    }
}

/// What is said while it goes on.
fn under_way(
    run: &WorkspaceRun,
    next: &WorkspaceRunStatus,
    stopped: Option<Reason>,
    next_wave_at: Option<Timestamp>,
) -> (Reason, String) {
    let name = run.name_any();
    match (stopped, next_wave_at) {
        (Some(Reason::Cancelled), _) => {
            (Reason::Cancelling, "cancelled; waits until the runs that were under way have ended".to_owned())
        }
        (Some(reason), _) => (
            reason,
            "tenants did not succeed, and no more are started; waits until the runs that were under way have ended"
                .to_owned(),
        ),
        (None, Some(at)) => (
            Reason::NextWaveWaits,
            format!(
                "wave {} is done, and the next one starts at {}: to stop here, set spec.cancel of {name} to true",
                next.waves.len(),
                at.round(jiff::Unit::Second).unwrap_or(at)
            ),
        ),
        (None, None) => {
            (Reason::Running, format!("up to {} tenants at a time{}", run.spec.parallelism, awaits(run, next)))
        }
    }
}

/// What is said of tenants that wait for an approval: nobody else sees that they keep the rest waiting.
fn awaits(run: &WorkspaceRun, next: &WorkspaceRunStatus) -> String {
    let awaits = |row: &&TenantRun| row.reason.as_deref() == Some(Reason::AwaitingApproval.as_str());
    match next.tenants.iter().filter(awaits).count() {
        0 => String::new(),
        // Rows are limited, so there may be more.
        count => format!(
            "; {count} or more wait for an approval, and what to approve is in the status.message of each: `kubectl get {} --all-namespaces --field-selector spec.scheduledBy.uid={}`",
            if matches!(run.what(), Some(What::Bulk(_))) { "bulkoperationruns" } else { "restoreruns" },
            run.uid().unwrap_or_default()
        ),
    }
}

/// Records the end. `digest` is that of the plans that a dry run has shown.
fn finish(
    next: &mut WorkspaceRunStatus,
    run: &WorkspaceRun,
    (stopped, some_work): (Option<Reason>, bool),
    digest: Option<String>,
    now: Timestamp,
) {
    let counts = next.counts;
    let lost = (next.tenants_at_start - counts.total).max(0);
    let outcome = match counts {
        counts if counts.succeeded == counts.total && lost == 0 => Outcome::Succeeded,
        _ if stopped == Some(Reason::Cancelled) => Outcome::Failed,
        counts if counts.succeeded > 0 || some_work => Outcome::PartiallySucceeded,
        _ => Outcome::Failed,
    };
    if run.spec.dry_run {
        let usable = matches!(outcome, Outcome::Succeeded | Outcome::PartiallySucceeded);
        next.plan_digest = digest.filter(|_| usable);
    }
    let name = run.name_any();
    // What an old preview showed of these is out of date.
    let anew = if run.spec.preview.is_some() {
        format!("one with dryRun: true and spec.rerunOf.name {name} previews")
    } else {
        format!("a new workspace run with spec.rerunOf.name {name} does")
    };
    let again = format!("`kubectl get workspacerun {name} -o yaml` names them; {anew} those that did not succeed");
    let mut sums = format!("{} of {} tenants succeeded, {} did not", counts.succeeded, counts.total, counts.failed);
    if counts.skipped > 0 {
        let _ = write!(sums, ", {} were never started", counts.skipped);
    }
    if lost > 0 {
        let _ = write!(sums, ", {lost} are left out: they are no tenants any more, or their records are deleted");
    }
    let (reason, message) = match (outcome, stopped) {
        (Outcome::Succeeded, _) => (Reason::Succeeded, format!("{}{}", all(counts.total), then(next, run))),
        (_, Some(Reason::Cancelled)) => (Reason::Cancelled, format!("cancelled: {sums}; {again}")),
        (_, Some(reason)) => (reason, format!("stopped because tenants did not succeed: {sums}; {again}")),
        (Outcome::PartiallySucceeded, None) => {
            (Reason::PartiallySucceeded, format!("{sums}; {again}{}", then(next, run)))
        }
        (_, None) if counts.total == 0 => (Reason::NoTenants, sums),
        (_, None) => (Reason::NoTenantSucceeded, format!("{sums}; {again}")),
    };
    next.completed_at = Some(now);
    settle(next, run, (Phase::Completed, outcome), reason, &message, now);
}

fn all(tenants: i64) -> String {
    if tenants == 1 { "the one tenant succeeded".to_owned() } else { format!("all {tenants} tenants succeeded") }
}

/// What can be done next: a preview is applied, and what left backup sets is undone.
fn then(next: &WorkspaceRunStatus, run: &WorkspaceRun) -> String {
    let name = run.name_any();
    match &next.plan_digest {
        Some(digest) if run.spec.dry_run => {
            format!(
                "; a workspace run with spec.preview.name {name} does what it showed, which has the digest {digest}"
            )
        }
        _ if next.undo_tenants > 0 => {
            format!("; a workspace run with spec.undoOf.name {name} and dryRun: true shows what undoes it")
        }
        _ => String::new(),
    }
}

/// Writes the status now, or later: counts are written less often the more tenants there are.
fn write(decision: &mut Decision, before: &WorkspaceRunStatus, mut next: WorkspaceRunStatus, now: Timestamp) {
    if next == *before {
        return;
    }
    let marks = |status: &WorkspaceRunStatus| -> Vec<(Timestamp, Option<Timestamp>)> {
        status.waves.iter().map(|wave| (wave.started_at, wave.completed_at)).collect()
    };
    let only_counts = (before.phase, &before.reason, before.observed_generation, marks(before))
        == (next.phase, &next.reason, next.observed_generation, marks(&next));
    let between = SignedDuration::from_secs((2 + next.counts.total / 20).min(30));
    let rest = before.counted_at.map_or(SignedDuration::ZERO, |at| between - now.duration_since(at));
    // A clock that was set back must not stop the writes.
    if only_counts && rest > SignedDuration::ZERO && rest <= between {
        decision.requeue = Some(decision.requeue.map_or(rest, |requeue| requeue.min(rest)));
        return;
    }
    next.counted_at = Some(now);
    decision.status = Some(Box::new(next));
}

/// A completed workspace run is deleted after a while.
fn after_the_end(run: &WorkspaceRun, now: Timestamp) -> Decision {
    let Some(completed) = run.status.as_ref().and_then(|status| status.completed_at) else {
        return Decision::default();
    };
    let left = SignedDuration::from_secs(run.spec.ttl_seconds_after_finished) - now.duration_since(completed);
    if left <= SignedDuration::ZERO {
        return Decision { delete: true, ..Decision::default() };
    }
    Decision { requeue: Some(left.min(SignedDuration::from_hours(24))), ..Decision::default() }
}

/// Ends a workspace run that cannot start.
fn ended(observed: &Observed, (outcome, reason): (Outcome, Reason), message: &str, now: Timestamp) -> Decision {
    let mut next = observed.run.status_or_default();
    next.completed_at = Some(now);
    settle(&mut next, &observed.run, (Phase::Completed, outcome), reason, message, now);
    Decision { status: Some(Box::new(next)), ..Decision::default() }
}

/// Sets phase, outcome, and the conditions that say the same to machines.
fn settle(
    next: &mut WorkspaceRunStatus,
    run: &WorkspaceRun,
    (phase, outcome): (Phase, Outcome),
    reason: Reason,
    message: &str,
    now: Timestamp,
) {
    let generation = run.metadata.generation;
    let wanted = conditions::of_run(phase, outcome);
    let reason = reason.as_str();
    next.conditions = conditions::merge(&next.conditions, &wanted, reason, &truncate(message, 1000), generation, now);
    next.phase = phase;
    next.outcome = outcome;
    next.observed_generation = generation.unwrap_or(0);
    next.reason = Some(reason.to_owned());
    // What is to be approved, and how, is longer than a condition's message.
    next.message = Some(truncate(message, 4000));
}
