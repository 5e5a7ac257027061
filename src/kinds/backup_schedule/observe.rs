//! All reads of a schedule's reconcile, from caches. The API server is asked for backup sets if
//! retention may have something to do, and for an active run that the caches lack.

use super::{decision::Observed, limits::over_quota, retain::retention_mark};
use crate::{
    api::{BackupSchedule, BackupSet, OperationRun, backup_schedule::origin, labels, selection::Selection},
    kernel::{Error, queue::Others, whole::whole},
    runs::context::Context,
};
use kube::{Api, ResourceExt, api::ListParams};
use std::{collections::BTreeMap, sync::Arc};

/// Backup sets in a page of a list. A page is held in full while it is read.
const PAGE: u32 = 200;

/// Reads everything that a decision about the schedule depends on. Retention waits while other
/// schedules do.
pub async fn observe(context: &Context, schedule: Arc<BackupSchedule>, others: Others) -> Result<Observed, Error> {
    let namespace = schedule.namespace().unwrap_or_default();
    // The queued object may be older than our own last write of it.
    let newer = context.schedules.get(&namespace, &schedule.name_any());
    let schedule = newer.filter(|newer| newer.uid() == schedule.uid()).unwrap_or(schedule);
    let schedule = whole(&Api::namespaced(context.client.clone(), &namespace), schedule).await?;
    let tenant = context.namespace(&namespace).await?;
    let terminating = tenant.as_ref().is_some_and(|tenant| tenant.metadata.deletion_timestamp.is_some());
    let workspace = tenant.and_then(|tenant| tenant.labels().get(labels::WORKSPACE).cloned());
    let limits = workspace.as_ref().and_then(|workspace| context.workspaces.get("", workspace));
    let over_quota = limits.as_deref().and_then(|limits| {
        // They are read only where there are more than the quota.
        let names = context.schedules.names(&namespace);
        let most = limits.spec.quotas.schedules.and_then(|most| usize::try_from(most).ok())?;
        if names.len() <= most {
            return None;
        }
        let all: Vec<_> = names.iter().filter_map(|name| context.schedules.get(&namespace, name)).collect();
        over_quota(&schedule, &all, limits)
    });
    let retention_floor = limits.and_then(|limits| limits.spec.retention_floor.clone());
    // Runs that the watch has reported, and runs of ours that it has not reported yet.
    let mut runs: BTreeMap<_, _> = BTreeMap::new();
    let uid = schedule.uid().unwrap_or_default();
    for run in context.runs.group(&namespace, &schedule.name_any()) {
        // Runs of an earlier schedule of this name are not its own.
        if origin(&run).is_some_and(|origin| origin.uid == uid) {
            runs.insert(run.name_any(), run);
        }
    }
    for active in schedule.status.iter().flat_map(|status| &status.active) {
        if runs.contains_key(&active.name) {
            continue;
        }
        // Our own write of the run has expired from the cache, and the watch has not reported it:
        // the run is gone, or the watch is late. If a late run counted as gone, the next tick would
        // start beside it.
        let run = match context.runs.get(&namespace, &active.name) {
            Some(run) => Some(run).filter(|run| run.uid().as_deref() == Some(&active.uid)),
            None => Api::<OperationRun>::namespaced(context.client.clone(), &namespace)
                .get_opt(&active.name)
                .await?
                .filter(|run| run.uid().as_deref() == Some(&active.uid))
                .map(Arc::new),
        };
        runs.extend(run.map(|run| (active.name.clone(), run)));
    }
    let runs: Vec<_> = runs.into_values().collect();
    let status = schedule.status.as_ref();
    let looked_after = status.and_then(|status| status.retention.as_ref()).map(|retained| retained.after.as_str());
    let mut sets = None;
    let retention_is_due = schedule.spec.retention.is_some()
        && workspace.is_some()
        && looked_after != Some(&retention_mark(&schedule, &runs));
    if retention_is_due && others == Others::None {
        sets = Some(sets_of(context, &namespace, &schedule.name_any()).await?);
    }
    let ended = runs.iter().filter(|run| run.is_completed()).filter_map(|run| run.uid());
    let awaited = ended.filter(|uid| context.registry.is_awaited(uid)).collect();
    Ok(Observed {
        schedule,
        workspace,
        over_quota,
        retention_floor,
        terminating,
        runs,
        awaited,
        retention_waits: retention_is_due && sets.is_none(),
        sets,
    })
}

/// The backup sets that retention may delete, without the fields that it does not read: there may
/// be thousands of sets.
async fn sets_of(context: &Context, namespace: &str, schedule: &str) -> Result<Vec<BackupSet>, Error> {
    let api: Api<BackupSet> = Api::namespaced(context.client.clone(), namespace);
    let mut page = ListParams::default().fields(&format!("spec.backupSchedule.name={schedule}")).limit(PAGE);
    let mut sets = Vec::new();
    loop {
        let listed = api.list(&page).await?;
        sets.extend(listed.items.into_iter().map(|mut set| {
            set.metadata.managed_fields = None;
            set.spec.absent = Vec::new();
            set.spec.selection = Selection::default();
            if let Some(status) = &mut set.status {
                status.items_by_kind.clear();
            }
            set
        }));
        match listed.metadata.continue_.filter(|next| !next.is_empty()) {
            Some(next) => page = page.continue_token(&next),
            None => return Ok(sets),
        }
    }
}
