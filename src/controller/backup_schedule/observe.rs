//! All reads of a schedule's reconcile. From caches alone.

use super::decide::Observed;
use crate::{
    api::{BackupSchedule, labels},
    controller::Context,
};
use kube::ResourceExt;
use std::{collections::BTreeMap, sync::Arc};

/// Reads all that a decision about the schedule depends on.
pub fn observe(context: &Context, schedule: Arc<BackupSchedule>) -> Observed {
    let namespace = schedule.namespace().unwrap_or_default();
    // The queue may hand over an object older than our own last write of it.
    let newer = context.schedules.get(&namespace, &schedule.name_any());
    let schedule = newer.filter(|newer| newer.uid() == schedule.uid()).unwrap_or(schedule);
    let tenant = context.namespaces.get("", &namespace);
    let terminating = tenant.as_ref().is_some_and(|tenant| tenant.metadata.deletion_timestamp.is_some());
    let workspace = tenant.and_then(|tenant| tenant.labels().get(labels::WORKSPACE).cloned());
    // What the watch has brought, and what we made that it has not brought yet.
    let mut runs: BTreeMap<_, _> = BTreeMap::new();
    for run in context.runs.group(&namespace, &schedule.name_any()) {
        runs.insert(run.name_any(), run);
    }
    for active in schedule.status.iter().flat_map(|status| &status.active) {
        if let Some(run) = context.runs.get(&namespace, &active.name) {
            runs.insert(active.name.clone(), run);
        }
    }
    Observed { schedule, workspace, terminating, runs: runs.into_values().collect() }
}
