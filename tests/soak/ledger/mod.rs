//! The ledger: what must hold of everything that happened. Pure: records in, verdicts out.
//!
//! Nothing here may excuse a violation that the product could prevent. The one thing that is allowed for is a line that
//! the audit log cannot have, because the API server was killed before it wrote that line.

mod captures;
mod record;
mod rest;
mod restores;
mod runs;
mod ticks;

pub use record::{Entry, Job, Pod, Records, Restore, Run, Schedule, Set, Snapshot, Write};

/// What one check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What must hold.
    pub rule: &'static str,
    /// What was looked at, counted.
    pub counts: Vec<(String, usize)>,
    /// What breaks it, by name.
    pub violations: Vec<String>,
}

impl Verdict {
    fn new(rule: &'static str) -> Self {
        Self { rule, counts: Vec::new(), violations: Vec::new() }
    }

    fn count(&mut self, what: &str, number: usize) {
        self.counts.push((what.to_owned(), number));
    }

    fn broken(&mut self, by: String) {
        self.violations.push(by);
    }
}

/// All checks.
pub fn check(records: &Records) -> Vec<Verdict> {
    vec![
        rest::records_are_whole(records),
        runs::each_run_ended_once(records),
        runs::each_run_has_one_job(records),
        runs::no_identity_worked_twice_at_once(records),
        captures::each_capture_has_one_set(records),
        captures::each_run_has_one_snapshot(records),
        captures::each_set_has_its_snapshot(records),
        ticks::each_tick_has_one_run_or_is_missed(records),
        restores::each_write_follows_its_intent(records),
        restores::what_was_previewed_was_applied(records),
        restores::previews_wrote_nothing(records),
        restores::chains_verify(records),
        rest::no_lease_is_left(records),
        rest::repositories_are_whole(records),
        rest::the_idle_operator_writes_nothing(records),
    ]
}
