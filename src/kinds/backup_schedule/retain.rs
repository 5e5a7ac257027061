//! Which of a schedule's backup sets expire. Pure.
//!
//! The rules themselves are in [`crate::schedule::retention`]; here they are applied to the sets
//! that a schedule made.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use super::decision::{Decision, Observed};
use crate::{
    api::{
        BackupSchedule, BackupScheduleStatus, BackupSet, OperationRun,
        backup_schedule::{MAX_WOULD_EXPIRE, Retained, Retention},
        backup_set::{Content, Coverage},
        conditions,
        operation_run::Trigger,
    },
    schedule::{
        Timetable,
        retention::{Backup, Rules, expired, span},
    },
};
use kube::ResourceExt;
use std::{collections::BTreeSet, sync::Arc};

/// Most backup sets that one reconcile deletes; the next one continues. Ticks do not wait for
/// thousands of deletions.
const MAX_EXPIRE: usize = 100;

/// Mark of a retention that has more to delete.
const UNFINISHED: &str = "unfinished";

/// Identifies the run and the spec after which retention was applied. The floor of the workspace is
/// no part of it: a workspace that goes, perhaps to be created again, must not make sets expire.
#[must_use]
pub fn retention_mark(schedule: &BackupSchedule, runs: &[Arc<OperationRun>]) -> String {
    let ended = runs.iter().filter_map(|run| Some((run.status.as_ref()?.completed_at?, run.name_any())));
    let newest = ended.max().map_or_else(|| "none".to_owned(), |(_, name)| name);
    format!("{}/{newest}", schedule.metadata.generation.unwrap_or_default())
}

/// Decides which of the schedule's backup sets expire.
pub(super) fn retain(
    decision: &mut Decision,
    next: &mut BackupScheduleStatus,
    observed: &Observed,
    timetable: &Timetable,
) {
    let Some(retention) = &observed.schedule.spec.retention else {
        next.retention = None;
        return;
    };
    let Some(sets) = &observed.sets else { return };
    let name = observed.schedule.name_any();
    let of_name = sets.iter().filter(|set| set.metadata.deletion_timestamp.is_none()).filter_map(|set| {
        set.spec.backup_schedule.as_ref().filter(|schedule| schedule.name == name).map(|schedule| (set, schedule))
    });
    // Sets of another schedule of this name are not for this one to delete, whatever its rules are.
    let uid = observed.schedule.metadata.uid.as_ref();
    let (own, earlier): (Vec<_>, Vec<_>) = of_name.partition(|(_, schedule)| Some(&schedule.uid) == uid);
    let own: Vec<&BackupSet> = own.into_iter().map(|(set, _)| set).collect();
    let backups: Vec<Backup> = own.iter().filter_map(|set| backup(set)).collect();
    let mut gone: BTreeSet<String> = expired(&rules(retention), &timetable.zone, &backups).into_iter().collect();
    if let Some(floor) = &observed.retention_floor {
        let may_go: BTreeSet<String> = expired(&rules(floor), &timetable.zone, &backups).into_iter().collect();
        gone.retain(|name| may_go.contains(name));
    }
    let mut gone: Vec<&BackupSet> = own.iter().copied().filter(|set| gone.contains(&set.name_any())).collect();
    gone.sort_by_key(|set| (set.metadata.creation_timestamp.clone(), set.name_any()));
    let mut would_expire = Vec::new();
    let mut after = retention_mark(&observed.schedule, &observed.runs);
    if retention.dry_run {
        would_expire = gone.drain(..).take(MAX_WOULD_EXPIRE).map(ResourceExt::name_any).collect();
    } else if gone.len() > MAX_EXPIRE {
        // Writing this status triggers the next reconcile, which continues.
        UNFINISHED.clone_into(&mut after);
    }
    decision.expire = gone.into_iter().take(MAX_EXPIRE).cloned().collect();
    let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
    let expired = count(decision.expire.len());
    let (kept, of_earlier_schedules) = (count(own.len()) - expired, count(earlier.len()));
    next.retention = Some(Retained { after, kept, expired, of_earlier_schedules, would_expire });
}

fn backup(set: &BackupSet) -> Option<Backup> {
    let conditions = set.status.iter().flat_map(|status| &status.conditions);
    let mut ready = conditions.filter(|condition| condition.type_ == conditions::READY);
    Some(Backup {
        name: set.name_any(),
        at: set.metadata.creation_timestamp.as_ref()?.0,
        good: ready.any(|condition| condition.status == "True"),
        whole: set.spec.coverage == Coverage::Full,
        hold: set.spec.hold,
        asked: set.spec.trigger == Trigger::RunNow,
        inventory: set.spec.content == Content::Inventory,
    })
}

fn rules(retention: &Retention) -> Rules {
    let Retention {
        keep_last,
        keep_hourly,
        keep_daily,
        keep_weekly,
        keep_monthly,
        keep_yearly,
        keep_within,
        dry_run: _,
    } = retention;
    let count = |number: &Option<i32>| number.and_then(|number| usize::try_from(number).ok()).unwrap_or(0);
    Rules {
        last: count(keep_last),
        hourly: count(keep_hourly),
        daily: count(keep_daily),
        weekly: count(keep_weekly),
        monthly: count(keep_monthly),
        yearly: count(keep_yearly),
        within: keep_within.as_deref().and_then(span),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn a_set_is_a_good_and_whole_backup_if_it_says_so_and_asked_for_if_it_was() {
        let of = |type_: &str, status: &str, change: Value| {
            let mut spec = json!({"repository": {"name": "main"}, "snapshot": "a".repeat(64), "namespaceUid": "n",
                "run": {"name": "r", "uid": "u"}, "coverage": "full", "trigger": "scheduled"});
            spec.as_object_mut().expect("an object").extend(change.as_object().cloned().unwrap_or_default());
            let set: BackupSet = serde_json::from_value(json!({
                "apiVersion": "tenantatlas.io/v1alpha1", "kind": "BackupSet", "spec": spec,
                "metadata": {"name": "nightly-1", "creationTimestamp": "2026-01-01T00:00:00Z"},
                "status": {"conditions": [{"type": type_, "status": status, "reason": "r", "message": "",
                    "lastTransitionTime": "2026-01-01T00:00:00Z"}]}
            }))
            .expect("a set");
            let backup = backup(&set).expect("a backup");
            (backup.good, backup.whole, backup.hold, backup.asked || backup.inventory)
        };
        assert_eq!(of("Ready", "True", json!({})), (true, true, false, false));
        assert_eq!(of("Ready", "False", json!({"coverage": "partial"})), (false, false, false, false));
        assert!(!of("Stalled", "True", json!({})).0);
        assert!(of("Ready", "True", json!({"content": "Inventory"})).3, "an inventory is judged apart");
        assert_eq!(of("Ready", "True", json!({"hold": true, "trigger": "run_now"})), (true, true, true, true));
    }
}
