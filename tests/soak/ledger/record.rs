//! What is known at the end: from the API server's audit log, from watches, from the objects and repositories that are
//! there. Plain values; where each comes from is `gather`'s concern.

use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// Everything.
#[derive(Clone, Debug, Default)]
pub struct Records {
    pub runs: Vec<Run>,
    pub jobs: Vec<Job>,
    pub pods: Vec<Pod>,
    pub sets: Vec<Set>,
    /// Backup sets that were created, by namespace and name, with the number of times.
    pub sets_made: BTreeMap<(String, String), usize>,
    /// Backup sets that somebody deleted.
    pub sets_deleted: BTreeSet<(String, String)>,
    pub snapshots: Vec<Snapshot>,
    pub schedules: Vec<Schedule>,
    pub restores: Vec<Restore>,
    /// What previews said they would change: by namespace and name of the RestoreRun, the ids of the items.
    pub planned: BTreeMap<(String, String), BTreeSet<String>>,
    /// Writes to tenants' objects in the name of the accounts of restores and previews.
    pub writes: Vec<Write>,
    pub entries: Vec<Entry>,
    /// Faults of the audit chains.
    pub chain_faults: Vec<String>,
    /// Leases of workers and maintenance that are there at the end.
    pub leases: Vec<String>,
    /// What the operator wrote while nothing was to be done, but for its Lease.
    pub idle_writes: Vec<String>,
    /// Repositories that were checked at the end, and what is wrong with them.
    pub repositories: BTreeMap<String, Vec<String>>,
    /// When answers of the API server, and lines of its audit log, may have been lost.
    pub outages: Vec<(Timestamp, Timestamp)>,
    /// What keeps this from being everything.
    pub gaps: Vec<String>,
}

impl Records {
    /// Whether a line of the audit log about this time may be missing.
    pub fn may_be_lost(&self, at: Option<Timestamp>) -> bool {
        // Times of objects are in whole seconds, and an answer is under way for a moment.
        let slack = jiff::SignedDuration::from_secs(3);
        at.is_none_or(|at| {
            self.outages.iter().any(|(from, until)| {
                from.checked_sub(slack).is_ok_and(|from| from <= at)
                    && until.checked_add(slack).is_ok_and(|until| at <= until)
            })
        })
    }
}

/// One OperationRun, there or gone.
#[derive(Clone, Debug, Default)]
pub struct Run {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub operation: String,
    /// The uid of the schedule that made it, and the tick.
    pub tick: Option<(String, Timestamp)>,
    /// Every end that anybody ever saw or wrote: outcome and reason.
    pub ends: BTreeSet<(String, String)>,
    /// How often an end was written, as the API server answered.
    pub ends_written: usize,
    pub completed_at: Option<Timestamp>,
    /// The uid of the run that it joined.
    pub joined: Option<String>,
    /// The backup set that its status names.
    pub set: Option<String>,
    /// Whether it is there at the end.
    pub is_there: bool,
    /// Who deleted it.
    pub deleted_by: Option<String>,
}

impl Run {
    /// Namespace, name and uid, as a violation names it.
    pub fn id(&self) -> String {
        format!("{}/{} ({})", self.namespace, self.name, self.uid)
    }

    /// Its outcome, where it has one.
    pub fn outcome(&self) -> Option<&str> {
        self.ends.first().map(|(outcome, _)| outcome.as_str())
    }

    /// Whether it did what was asked, all of it or a part.
    pub fn has_made(&self) -> bool {
        matches!(self.outcome(), Some("succeeded" | "partially_succeeded"))
    }
}

/// One Job that was created.
#[derive(Clone, Debug, Default)]
pub struct Job {
    pub namespace: String,
    pub name: String,
    pub run: String,
    pub at: Timestamp,
}

/// One pod of an operation, there or gone.
#[derive(Clone, Debug, Default)]
pub struct Pod {
    pub namespace: String,
    pub name: String,
    pub run: String,
    pub identity: String,
    /// When its worker started.
    pub started: Option<Timestamp>,
    /// Until when it is known to have run.
    pub ran_until: Option<Timestamp>,
}

/// One backup set that is there.
#[derive(Clone, Debug, Default)]
pub struct Set {
    pub namespace: String,
    pub name: String,
    pub run: String,
    pub snapshot: String,
}

/// One snapshot in the repository of a tenant.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub namespace: String,
    pub id: String,
    /// The uid in its tag.
    pub run: Option<String>,
}

/// One schedule, which was suspended before the end. Its ticks are the minutes that divided by `every` leave `rest`.
#[derive(Clone, Debug, Default)]
pub struct Schedule {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub every: i64,
    pub rest: i64,
    pub created: Timestamp,
    /// The last tick that it has dealt with.
    pub last: Option<Timestamp>,
    pub missed: i64,
}

impl Schedule {
    /// How many ticks it has dealt with, by arithmetic alone.
    pub fn ticks(&self) -> i64 {
        let upto = |minute: i64| (minute - self.rest).div_euclid(self.every);
        let minute = |at: Timestamp| at.as_second().div_euclid(60);
        // A tick in the very second of the creation would be one of the time before.
        self.last.map_or(0, |last| upto(minute(last)) - upto(minute(self.created)))
    }
}

/// One RestoreRun, there or gone.
#[derive(Clone, Debug, Default)]
pub struct Restore {
    pub namespace: String,
    pub name: String,
    pub is_preview: bool,
    /// The RestoreRun whose plan it carries out.
    pub preview: Option<String>,
    pub outcome: Option<String>,
    pub reason: Option<String>,
    pub digest: Option<String>,
    /// The uid of its OperationRun.
    pub run: Option<String>,
    pub completed_at: Option<Timestamp>,
}

/// One write that the API server carried out.
#[derive(Clone, Debug, Default)]
pub struct Write {
    pub namespace: String,
    pub account: String,
    pub pod: String,
    pub item: String,
    pub at: Timestamp,
}

/// One audit entry.
#[derive(Clone, Debug, Default)]
pub struct Entry {
    pub namespace: String,
    pub run: String,
    pub is_intent: bool,
    /// When the API server responded; none if the audit log lacks the response.
    pub at: Option<Timestamp>,
}
