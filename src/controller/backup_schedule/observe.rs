//! All reads of a schedule's reconcile. From caches; the API server is asked for backup sets when retention may have something to do.

use super::decide::{Observed, retention_mark};
use crate::{
    api::{BackupSchedule, BackupSet, labels},
    controller::{Context, Error, queue::Behind},
};
use kube::{Api, ResourceExt, api::ListParams};
use std::{collections::BTreeMap, sync::Arc};

/// Reads all that a decision about the schedule depends on. Retention waits while others do.
pub async fn observe(context: &Context, schedule: Arc<BackupSchedule>, behind: Behind) -> Result<Observed, Error> {
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
    let runs: Vec<_> = runs.into_values().collect();
    let status = schedule.status.as_ref();
    let looked_after = status.and_then(|status| status.retention.as_ref()).map(|retained| retained.after.as_str());
    let mut sets = None;
    let retention_is_due = schedule.spec.retention.is_some()
        && workspace.is_some()
        && looked_after != Some(&retention_mark(&schedule, &runs));
    if retention_is_due && behind == Behind::Nobody {
        let own = ListParams::default().fields(&format!("spec.backupSchedule={}", schedule.name_any()));
        sets = Some(Api::<BackupSet>::namespaced(context.client.clone(), &namespace).list(&own).await?.items);
    }
    Ok(Observed { schedule, workspace, terminating, runs, retention_waits: retention_is_due && sets.is_none(), sets })
}
