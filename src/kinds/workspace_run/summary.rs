//! What the status of a workspace run says of its tenants: counts, sums and rows. Pure.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use super::plan::{State, Target};
use crate::{
    api::{
        Outcome, Phase, Reason, WorkspaceRunStatus,
        outcome::SummaryCounts,
        provenance::PlanSummary,
        workspace_run::{MAX_ROWS, TenantRun, TenantRunCounts},
    },
    runs::children::Child,
};

/// Sets counts, sums and rows. `stopped` is why those that wait are never started, if so.
pub fn summarize(next: &mut WorkspaceRunStatus, targets: &[Target<'_>], stopped: Option<Reason>, dry_run: bool) {
    next.counts = counts(targets, stopped.is_some());
    let done = next.counts.succeeded + next.counts.failed;
    next.progress = Some(format!("{done}/{}", next.counts.total));
    next.items = items(targets);
    next.preview = preview(targets).filter(|_| dry_run);
    let undoes = |target: &&Target<'_>| ended(target).is_some_and(|child| child.undo().is_some());
    next.undo_tenants = i64::try_from(targets.iter().filter(undoes).count()).unwrap_or(i64::MAX);
    let mut rows: Vec<TenantRun> = targets.iter().map(|target| row(target, stopped)).collect();
    rows.sort_by(|one, other| rank(one).cmp(&rank(other)));
    let left_out = rows.split_off(rows.len().min(MAX_ROWS)).len();
    next.tenants_left_out = i64::try_from(left_out).unwrap_or(i64::MAX);
    next.tenants = rows;
}

/// Those that did not succeed, then those under way, then the others, each by name.
fn rank(row: &TenantRun) -> (u8, &str) {
    let group = match (row.phase, row.outcome) {
        (Phase::Completed, Outcome::Succeeded) => 2,
        (Phase::Completed, _) => 0,
        (Phase::Queued | Phase::Running, _) if row.run.is_some() => 1,
        (Phase::Queued | Phase::Running, _) => 2,
    };
    (group, &row.namespace)
}

fn counts(targets: &[Target<'_>], stopped: bool) -> TenantRunCounts {
    let mut counts = TenantRunCounts::default();
    for target in targets {
        counts.total += 1;
        let one = match target.state {
            State::Waiting if stopped => &mut counts.skipped,
            State::Waiting => &mut counts.waiting,
            State::Active(_) => &mut counts.active,
            State::Succeeded(_) => &mut counts.succeeded,
            State::Failed(_) | State::Refused(_) | State::Gone => &mut counts.failed,
        };
        *one += 1;
    }
    counts
}

fn items(targets: &[Target<'_>]) -> Option<SummaryCounts> {
    let counted = targets.iter().filter_map(|target| ended(target)?.counts);
    counted.reduce(|sum, one| SummaryCounts {
        total: sum.total.saturating_add(one.total),
        processed: sum.processed.saturating_add(one.processed),
        succeeded: sum.succeeded.saturating_add(one.succeeded),
        failed: sum.failed.saturating_add(one.failed),
        skipped: sum.skipped.saturating_add(one.skipped),
    })
}

/// What the previews of the tenants showed, in sum.
fn preview(targets: &[Target<'_>]) -> Option<PlanSummary> {
    let shown = targets.iter().filter_map(|target| ended(target)?.detail.as_ref()?.preview);
    shown.reduce(PlanSummary::plus)
}

fn ended<'t>(target: &Target<'t>) -> Option<&'t Child> {
    match target.state {
        State::Succeeded(child) | State::Failed(child) => Some(child),
        _ => None,
    }
}

fn row(target: &Target<'_>, stopped: Option<Reason>) -> TenantRun {
    let namespace = target.namespace.to_owned();
    let of = |child: &Child| TenantRun {
        namespace: namespace.clone(),
        run: Some(child.run.clone()),
        phase: child.phase,
        outcome: child.outcome,
        reason: child.reason.clone(),
    };
    let without = |phase, outcome, reason: Option<&str>| TenantRun {
        namespace: namespace.clone(),
        run: None,
        phase,
        outcome,
        reason: reason.map(str::to_owned),
    };
    match target.state {
        State::Active(child) | State::Succeeded(child) | State::Failed(child) => of(child),
        State::Refused(refused) => without(Phase::Completed, Outcome::Blocked, Some(&refused.reason)),
        State::Gone => without(Phase::Completed, Outcome::Failed, Some(Reason::RunDeleted.as_str())),
        State::Waiting => without(Phase::Queued, Outcome::Pending, stopped.map(Reason::as_str)),
    }
}
