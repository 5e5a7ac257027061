//! What the workspace of a tenant says about its schedules. Pure.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use crate::{
    api::{BackupSchedule, Reason, Workspace},
    kernel::refusal::Refusal,
    kinds::tenant::template::is_templated,
};
use jiff::SignedDuration;
use kube::ResourceExt;
use std::sync::Arc;

/// Why a schedule starts nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverQuota {
    /// What to do.
    pub refusal: Refusal,
    /// When to look again: the schedules that take the room do not wake this one. Each look reads all
    /// of them, so it comes the later the more there are.
    pub again: SignedDuration,
}

/// Refuses a schedule for which the quota has no room: those of the templates come first, then the
/// oldest. `all` are the schedules of the tenant. A suspended one takes no room.
#[must_use]
pub fn over_quota(schedule: &BackupSchedule, all: &[Arc<BackupSchedule>], workspace: &Workspace) -> Option<OverQuota> {
    let most = usize::try_from(workspace.spec.quotas.schedules?).ok()?;
    let counts = |schedule: &BackupSchedule| !schedule.spec.suspend && schedule.metadata.deletion_timestamp.is_none();
    let place = |schedule: &BackupSchedule| {
        (!is_templated(schedule), schedule.metadata.creation_timestamp.clone(), schedule.name_any())
    };
    let own = place(schedule);
    let before = all.iter().filter(|other| counts(other) && place(other) < own).count();
    if !counts(schedule) || before < most {
        return None;
    }
    let namespace = schedule.namespace().unwrap_or_default();
    let refusal = Refusal::new(
        Reason::WorkspaceQuota,
        format!(
            "workspace {} allows {most} schedules that are not suspended (spec.quotas.schedules), and namespace {namespace} has as many that are older or of its templates: suspend or delete one, or ask for more",
            workspace.name_any()
        ),
    );
    let seconds = i64::try_from(all.len()).unwrap_or(i64::MAX).clamp(60, 3600);
    Some(OverQuota { refusal, again: SignedDuration::from_secs(seconds) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn schedule(name: &str, hour: u8, more: &Value) -> Arc<BackupSchedule> {
        let mut whole = json!({"apiVersion": "tenantatlas.io/v1alpha1", "kind": "BackupSchedule",
            "metadata": {"name": name, "namespace": "acme", "creationTimestamp": format!("2026-01-01T{hour:02}:00:00Z")},
            "spec": {"schedule": "@daily"}});
        for part in ["metadata", "spec"] {
            let more = more[part].as_object().cloned().unwrap_or_default();
            whole[part].as_object_mut().expect("an object").extend(more);
        }
        Arc::new(serde_json::from_value(whole).expect("a schedule"))
    }

    #[test]
    fn schedules_of_templates_then_the_oldest_have_room_and_a_suspended_one_takes_none() {
        let suspended = json!({"spec": {"suspend": true}});
        let all = [
            schedule("old", 1, &json!({})),
            schedule("paused", 2, &suspended),
            schedule("going", 2, &json!({"metadata": {"deletionTimestamp": "2026-01-02T00:00:00Z"}})),
            schedule("a", 3, &json!({})),
            schedule("b", 3, &json!({})),
            schedule("given", 9, &json!({"metadata": {"labels": {"tenantatlas.io/template": "shop"}}})),
        ];
        let refused = |most: Option<i32>| {
            let quotas = most.map_or_else(|| json!({}), |most| json!({"schedules": most}));
            let workspace: Workspace = serde_json::from_value(json!({"apiVersion": "tenantatlas.io/v1alpha1",
                "kind": "Workspace", "metadata": {"name": "shop"}, "spec": {"quotas": quotas}}))
            .expect("a workspace");
            let refused = all.iter().filter_map(|one| Some((one.name_any(), over_quota(one, &all, &workspace)?)));
            refused.collect::<Vec<_>>()
        };
        let names = |most| refused(most).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(names(None), [] as [&str; 0]);
        assert_eq!(names(Some(4)), [] as [&str; 0]);
        assert_eq!(names(Some(3)), ["b"]);
        assert_eq!(names(Some(1)), ["old", "a", "b"]);
        let (_, OverQuota { refusal, again }) = refused(Some(3)).remove(0);
        assert_eq!(again, SignedDuration::from_mins(1));
        assert_eq!(refusal.reason, Reason::WorkspaceQuota);
        assert!(refusal.message.contains("workspace shop allows 3 schedules"), "{}", refusal.message);
    }
}
