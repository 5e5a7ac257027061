//! What a decision about a schedule depends on, and the decision itself: values. Pure.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use super::limits::OverQuota;
use crate::api::{
    BackupSchedule, BackupScheduleStatus, BackupSet, ObjectReference, OperationRun,
    backup_schedule::{Missed, Retention, origin},
};
use jiff::{SignedDuration, Timestamp};
use std::{collections::BTreeSet, sync::Arc};

/// All that a decision depends on.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The schedule.
    pub schedule: Arc<BackupSchedule>,
    /// The workspace of the tenant; `None` if the namespace is not a tenant.
    pub workspace: Option<String>,
    /// Why the workspace has no room for the schedule, if so.
    pub over_quota: Option<OverQuota>,
    /// Sets that the workspace has the schedule keep.
    pub retention_floor: Option<Retention>,
    /// Whether the namespace is being deleted.
    pub terminating: bool,
    /// Runs that were created for the schedule.
    pub runs: Vec<Arc<OperationRun>>,
    /// Uids of runs whose end has not been copied yet by runs that joined them.
    pub awaited: BTreeSet<String>,
    /// Backup sets of its runs, if retention may have something to do.
    pub sets: Option<Vec<BackupSet>>,
    /// Whether retention may have something to do, but the sets were not read because other
    /// schedules wait.
    pub retention_waits: bool,
}

/// What to do, in this order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision {
    /// Runs to create.
    pub start: Vec<OperationRun>,
    /// Active runs to cancel after those are created: a run that cannot be replaced continues.
    pub cancel: Vec<ObjectReference>,
    /// Backup sets to delete, in the version that was observed.
    pub expire: Vec<BackupSet>,
    /// The status after that; runs that were created are added to `active`.
    pub status: Option<BackupScheduleStatus>,
    /// Completed runs to delete.
    pub delete: Vec<ObjectReference>,
    /// Ticks that are newly missed, and why.
    pub missed: Vec<Miss>,
    /// When to requeue.
    pub requeue: Option<SignedDuration>,
}

/// Ticks that have passed and are not started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Miss {
    /// Number of ticks.
    pub count: u64,
    /// Why they are not started.
    pub why: &'static str,
}

impl Miss {
    /// Formats a message for an event.
    #[must_use]
    pub fn note(&self) -> String {
        let ticks = if self.count == 1 { "1 tick was".to_owned() } else { format!("{} ticks were", self.count) };
        format!("{ticks} not started: {}", self.why)
    }
}

impl Decision {
    /// Whether there is anything to do.
    #[must_use]
    pub fn writes(&self) -> bool {
        let Self { cancel, start, expire, status, delete, missed, requeue: _ } = self;
        let lists = cancel.is_empty() && start.is_empty() && expire.is_empty() && delete.is_empty();
        !lists || status.is_some() || !missed.is_empty()
    }

    /// Number of ticks that are newly missed.
    #[must_use]
    pub fn missed_ticks(&self) -> u64 {
        self.missed.iter().map(|miss| miss.count).sum()
    }

    /// Counts ticks as missed. `last` is the newest of them.
    pub(super) fn miss(
        &mut self,
        next: &mut BackupScheduleStatus,
        count: u64,
        last: Option<Timestamp>,
        why: &'static str,
    ) {
        let Some(last) = last.filter(|_| count > 0) else { return };
        let before = next.missed.as_ref();
        let total = before.map_or(0, |missed| missed.count).saturating_add(i64::try_from(count).unwrap_or(i64::MAX));
        let last = before.map_or(last, |missed| missed.last.max(last));
        next.missed = Some(Missed { count: total, last });
        self.missed.push(Miss { count, why });
    }
}

/// Runs that are not completed, without those that repeat a tick: they end as blocked, and nothing
/// waits for them.
pub(super) fn active(observed: &Observed) -> impl Iterator<Item = &OperationRun> {
    let runs = observed.runs.iter().map(|run| &**run).filter(|run| !run.is_completed());
    runs.filter(|run| !observed.schedule.is_repeated_by(run))
}

/// The tick that a run was created for.
pub(super) fn origin_tick(run: &OperationRun) -> Option<Timestamp> {
    origin(run)?.scheduled_for
}
