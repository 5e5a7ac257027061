//! The status of a workspace. Pure.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use crate::{
    api::{
        BackupRepository, Reason, Workspace, WorkspaceStatus,
        conditions::{self, READY, STALLED, Wanted},
        result::truncate,
        workspace::{MAX_ATTENTION, TenantAttention, TenantCounts},
    },
    kinds::tenant::template::{Mismatch, problem},
};
use jiff::{SignedDuration, Timestamp, Unit};
use kube::ResourceExt;
use std::{collections::BTreeSet, sync::Arc};

/// Everything that the status depends on.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The workspace.
    pub workspace: Arc<Workspace>,
    /// Its tenants that are not being deleted.
    pub tenants: Vec<TenantView>,
}

/// One tenant.
#[derive(Clone, Debug, Default)]
pub struct TenantView {
    /// The namespace.
    pub namespace: String,
    /// Its repositories.
    pub repositories: Vec<Arc<BackupRepository>>,
    /// When the last capture succeeded, as far as schedules and runs are on record. A repository
    /// counts its snapshots only when it is checked or maintained.
    pub last_backup: Option<Timestamp>,
    /// Its runs that are not completed.
    pub open_runs: usize,
    /// Its schedules that are not suspended.
    pub active_schedules: usize,
    /// Why it does not have what the templates say.
    pub mismatch: Option<Mismatch>,
}

/// The status of a workspace.
#[must_use]
pub fn status(Observed { workspace, tenants }: &Observed, now: Timestamp) -> WorkspaceStatus {
    let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    let mut attention: Vec<TenantAttention> = Vec::new();
    let (mut with_backup, mut too_old, mut over_quota) = (0, 0, 0);
    for tenant in tenants {
        match unprotected(tenant) {
            None => {
                with_backup += 1;
                if let Some(why) = backup_too_old(workspace, tenant, now) {
                    too_old += 1;
                    attention.push(why);
                }
            }
            Some(why) => attention.push(why),
        }
        if let Some(why) = quota(workspace, tenant) {
            over_quota += 1;
            attention.push(why);
        }
        if let Some(Mismatch { reason, message }) = &tenant.mismatch {
            attention.push(told(tenant, reason, message.clone()));
        }
    }
    attention.sort_by(|one, other| (&one.namespace, &one.reason).cmp(&(&other.namespace, &other.reason)));
    let rest = attention.split_off(attention.len().min(MAX_ATTENTION));
    let named: BTreeSet<&str> = attention.iter().map(|tenant| tenant.namespace.as_str()).collect();
    let left_out: BTreeSet<&str> = rest.iter().map(|tenant| tenant.namespace.as_str()).collect();
    let attention_left_out = number(left_out.difference(&named).count());
    let before = workspace.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let generation = workspace.metadata.generation;
    let (status, reason, message) = match problem(workspace) {
        None => ("True", Reason::WorkspaceReady.as_str(), "its templates and limits apply to its tenants".to_owned()),
        Some((reason, message)) => ("False", reason, message),
    };
    let mut wanted = vec![Wanted { type_: READY, status }];
    if status == "False" {
        wanted.push(Wanted { type_: STALLED, status: "True" });
    }
    WorkspaceStatus {
        observed_generation: generation.unwrap_or_default(),
        tenants: TenantCounts { total: number(tenants.len()), with_backup, backup_too_old: too_old, over_quota },
        attention,
        attention_left_out,
        conditions: conditions::merge(before, &wanted, reason, &truncate(&message, 1000), generation, now),
    }
}

fn told(tenant: &TenantView, reason: &str, message: String) -> TenantAttention {
    TenantAttention { namespace: tenant.namespace.clone(), reason: reason.to_owned(), message }
}

/// Why a tenant has no backup that can be restored, if so.
fn unprotected(tenant: &TenantView) -> Option<TenantAttention> {
    let namespace = &tenant.namespace;
    if tenant.repositories.is_empty() {
        let message = format!("create a BackupRepository in namespace {namespace}, and a BackupSchedule");
        return Some(told(tenant, "NoRepository", message));
    }
    let mut ready = tenant.repositories.iter().filter(|repository| repository.is_ready()).peekable();
    if ready.peek().is_none() {
        let names: Vec<String> = tenant.repositories.iter().map(|repository| repository.name_any()).take(3).collect();
        let message = format!(
            "no repository is Ready: `kubectl describe backuprepository {} -n {namespace}` says why",
            names.join(" ")
        );
        return Some(told(tenant, "RepositoryNotReady", message));
    }
    let holds = |repository: &Arc<BackupRepository>| {
        repository.status.as_ref().and_then(|status| status.snapshots).is_some_and(|snapshots| snapshots > 0)
    };
    if tenant.last_backup.is_some() || ready.any(holds) {
        return None;
    }
    Some(told(tenant, "NoBackup", format!("run backup.capture in namespace {namespace}, or create a BackupSchedule")))
}

/// Why the last backup of a tenant that has one is older than the workspace allows, if so.
fn backup_too_old(workspace: &Workspace, tenant: &TenantView, now: Timestamp) -> Option<TenantAttention> {
    let hours = workspace.spec.max_backup_age_hours?;
    let is_old = |at: Timestamp| now.duration_since(at) > SignedDuration::from_hours(i64::from(hours));
    let last = match tenant.last_backup {
        Some(at) if !is_old(at) => return None,
        Some(at) => format!("the last capture succeeded at {}", at.round(Unit::Second).unwrap_or(at)),
        None => "no capture that succeeded is on record".to_owned(),
    };
    let namespace = &tenant.namespace;
    let message = format!(
        "{last}, and {hours} h are allowed (spec.maxBackupAgeHours): `kubectl get backupschedules,operationruns -n {namespace}` shows what runs and how it ended"
    );
    Some(told(tenant, "BackupTooOld", message))
}

/// The quota that a tenant has reached, if any.
fn quota(workspace: &Workspace, tenant: &TenantView) -> Option<TenantAttention> {
    let quotas = &workspace.spec.quotas;
    let reason = Reason::WorkspaceQuota.as_str();
    let most = quotas.open_runs.and_then(|most| usize::try_from(most).ok());
    if let Some(most) = most.filter(|most| tenant.open_runs >= *most) {
        let message =
            format!("{} of {most} runs are open (spec.quotas.openRuns): new ones are blocked", tenant.open_runs);
        return Some(told(tenant, reason, message));
    }
    let most = quotas.schedules.and_then(|most| usize::try_from(most).ok());
    if let Some(most) = most.filter(|most| tenant.active_schedules > *most) {
        let message = format!(
            "{} schedules are not suspended, and {most} of them start runs (spec.quotas.schedules)",
            tenant.active_schedules
        );
        return Some(told(tenant, reason, message));
    }
    let most = quotas.repository_bytes?;
    let full = tenant.repositories.iter().find_map(|repository| {
        let bytes = repository.status.as_ref()?.bytes.filter(|bytes| *bytes >= most)?;
        Some((repository.name_any(), bytes))
    });
    let (name, bytes) = full?;
    let message = format!(
        "repository {name} has {bytes} of {most} bytes (spec.quotas.repositoryBytes): nothing more is captured into it"
    );
    Some(told(tenant, reason, message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[allow(clippy::needless_pass_by_value, reason = "called with literals")]
    fn workspace(spec: Value) -> Arc<Workspace> {
        let whole = json!({"apiVersion": "tenantatlas.io/v1alpha1", "kind": "Workspace",
            "metadata": {"name": "shop", "generation": 3}, "spec": spec});
        Arc::new(serde_json::from_value(whole).expect("a workspace"))
    }

    #[allow(clippy::needless_pass_by_value, reason = "called with literals")]
    fn repository(status: Value) -> Arc<BackupRepository> {
        let whole = json!({"apiVersion": "tenantatlas.io/v1alpha1", "kind": "BackupRepository",
            "metadata": {"name": "main", "namespace": "acme"}, "status": status,
            "spec": {"storage": {"persistentVolumeClaim": {"claimName": "a"}}, "passwordSecret": {"name": "a"}}});
        Arc::new(serde_json::from_value(whole).expect("a repository"))
    }

    #[allow(clippy::needless_pass_by_value, reason = "called with literals")]
    fn ready(mut status: Value) -> Arc<BackupRepository> {
        status["conditions"] = json!([{"type": "Ready", "status": "True", "reason": "Ready", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
        repository(status)
    }

    fn tenant(repositories: Vec<Arc<BackupRepository>>) -> TenantView {
        TenantView { namespace: "acme".to_owned(), repositories, ..TenantView::default() }
    }

    fn of(spec: Value, tenants: Vec<TenantView>) -> WorkspaceStatus {
        status(&Observed { workspace: workspace(spec), tenants }, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn a_tenant_is_protected_if_a_repository_that_is_ready_has_a_backup() {
        let scheduled = TenantView { last_backup: Some(Timestamp::UNIX_EPOCH), ..tenant(vec![ready(json!({}))]) };
        for (view, reason) in [
            (tenant(Vec::new()), Some("NoRepository")),
            (tenant(vec![repository(json!({"snapshots": 3}))]), Some("RepositoryNotReady")),
            (tenant(vec![ready(json!({"snapshots": 0}))]), Some("NoBackup")),
            (tenant(vec![ready(json!({}))]), Some("NoBackup")),
            (tenant(vec![ready(json!({})), ready(json!({"snapshots": 1}))]), None),
            (scheduled, None),
        ] {
            let status = of(json!({}), vec![view]);
            let reasons: Vec<&str> = status.attention.iter().map(|tenant| tenant.reason.as_str()).collect();
            assert_eq!(reasons, reason.into_iter().collect::<Vec<_>>());
            assert_eq!((status.tenants.total, status.tenants.with_backup), (1, i64::from(reason.is_none())));
        }
    }

    #[test]
    fn a_tenant_that_has_reached_a_quota_is_named_with_it() {
        let full = ready(json!({"snapshots": 1, "bytes": 100}));
        let busy = TenantView { open_runs: 2, ..tenant(vec![full]) };
        for (quotas, words) in [
            (json!({"openRuns": 2}), Some("2 of 2 runs")),
            (json!({"openRuns": 3}), None),
            (json!({"repositoryBytes": 100}), Some("main has 100 of 100 bytes")),
            (json!({"repositoryBytes": 101}), None),
            (json!({}), None),
        ] {
            let status = of(json!({"quotas": quotas}), vec![busy.clone()]);
            assert_eq!(status.tenants.over_quota, i64::from(words.is_some()), "{quotas}");
            let said = status.attention.first().map(|tenant| (tenant.reason.as_str(), tenant.message.as_str()));
            assert_eq!(said.map(|(reason, _)| reason), words.map(|_| "WorkspaceQuota"));
            assert!(words.is_none_or(|words| said.is_some_and(|(_, message)| message.contains(words))), "{said:?}");
        }
    }

    #[test]
    fn a_tenant_whose_last_backup_is_older_than_allowed_is_named_and_still_has_one() {
        let at = |text: &str| text.parse::<Timestamp>().expect("a time");
        let now = at("2026-01-02T00:00:00Z");
        let limit = json!({"maxBackupAgeHours": 24});
        for (limit, last, words) in [
            (&limit, Some("2026-01-01T00:00:00Z"), None),
            (&limit, Some("2025-12-31T23:59:59Z"), Some("at 2025-12-31T23:59:59Z, and 24 h are allowed")),
            (&limit, Some("2026-01-03T00:00:00Z"), None),
            (&limit, None, Some("no capture that succeeded is on record")),
            (&json!({}), Some("2020-01-01T00:00:00Z"), None),
        ] {
            let held = tenant(vec![ready(json!({"snapshots": 1}))]);
            let view = TenantView { last_backup: last.map(at), ..held };
            let status = status(&Observed { workspace: workspace(limit.clone()), tenants: vec![view] }, now);
            let old = i64::from(words.is_some());
            assert_eq!((status.tenants.with_backup, status.tenants.backup_too_old), (1, old), "{last:?}");
            let said = status.attention.first().map(|tenant| (tenant.reason.as_str(), tenant.message.as_str()));
            assert_eq!(said.map(|(reason, _)| reason), words.map(|_| "BackupTooOld"));
            assert!(words.is_none_or(|words| said.is_some_and(|(_, message)| message.contains(words))), "{said:?}");
        }
    }

    #[test]
    fn a_workspace_whose_templates_cannot_be_applied_is_not_ready_and_says_which_field() {
        let key = format!("age1{}", "q".repeat(58));
        let storage = json!({"persistentVolumeClaim": {"claimName": "a"}});
        let status = of(json!({"repository": {"storage": storage, "recovery": {"recipients": [key]}}}), Vec::new());
        let said: Vec<_> = status.conditions.iter().map(|one| (one.type_.as_str(), one.reason.as_str())).collect();
        assert_eq!(said, [("Ready", "InvalidRecipient"), ("Stalled", "InvalidRecipient")]);
        assert!(status.conditions[0].message.contains("recovery.recipients[0]"), "{status:?}");
        let mut cut = (*workspace(json!({}))).clone();
        cut.metadata.annotations =
            Some([(crate::cluster::trim::LEFT_OUT.to_owned(), "spec.schedules".to_owned())].into());
        let status = super::status(&Observed { workspace: Arc::new(cut), tenants: Vec::new() }, Timestamp::UNIX_EPOCH);
        assert_eq!(status.conditions[0].reason, "TooLarge");
        assert_eq!(of(json!({}), Vec::new()).conditions[0].reason, "WorkspaceReady");
    }

    #[test]
    fn schedules_that_start_nothing_make_a_tenant_one_that_is_over_quota() {
        let quota = json!({"quotas": {"schedules": 2}});
        for (active, over) in [(2, 0), (3, 1)] {
            let tenants = vec![TenantView { active_schedules: active, ..tenant(Vec::new()) }];
            let status = of(quota.clone(), tenants);
            assert_eq!(status.tenants.over_quota, over);
            let said = status.attention.iter().any(|of| of.message.contains("3 schedules are not suspended, and 2"));
            assert_eq!(said, over == 1, "{status:?}");
        }
    }

    #[test]
    fn twenty_tenants_are_named_in_order_the_rest_is_counted_and_a_second_look_changes_nothing() {
        let named = |number: usize| TenantView { namespace: format!("tenant-{number:03}"), ..TenantView::default() };
        let tenants: Vec<TenantView> = (0..25).rev().map(named).collect();
        let mut observed = Observed { workspace: workspace(json!({})), tenants };
        let first = status(&observed, Timestamp::UNIX_EPOCH);
        assert_eq!((first.attention.len(), first.attention_left_out, first.observed_generation), (20, 5, 3));
        assert_eq!(first.attention[0].namespace, "tenant-000");
        // A tenant with two reasons is one tenant.
        let quota = json!({"quotas": {"openRuns": 1}});
        let busy = |mut tenant: TenantView| {
            tenant.open_runs = 1;
            tenant
        };
        let twice = of(quota, (0..15).map(named).map(busy).collect());
        assert_eq!((twice.attention.len(), twice.attention_left_out, twice.tenants.over_quota), (20, 5, 15));
        let mut seen = (*observed.workspace).clone();
        seen.status = Some(first.clone());
        observed.workspace = Arc::new(seen);
        observed.tenants.reverse();
        assert_eq!(status(&observed, "2026-01-01T00:00:00Z".parse().expect("a time")), first);
    }
}
