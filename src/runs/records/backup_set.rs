//! The status of a `BackupSet`, which has no reconciler of its own: the code that records a set
//! also reports that it can be used.

use crate::{
    api::{BackupSet, BackupSetStatus, conditions},
    kernel::{Error, status},
    runs::context::Context,
};
use jiff::Timestamp;
use kube::{Api, ResourceExt};

/// Whether a set can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ready {
    /// All of the set can be used.
    Yes,
    /// Not all of the set can be used.
    No,
}

/// Writes a status with `Ready: True`, if anything differs.
pub async fn settle(
    context: &Context,
    set: &BackupSet,
    status: BackupSetStatus,
    reason: &str,
    message: &str,
) -> Result<(), Error> {
    mark(context, set, status, Ready::Yes, reason, message).await
}

/// Writes a status that reports whether the set can be used, if anything differs.
async fn mark(
    context: &Context,
    set: &BackupSet,
    status: BackupSetStatus,
    ready: Ready,
    reason: &str,
    message: &str,
) -> Result<(), Error> {
    let before = set.status.clone().unwrap_or_default();
    let status = marked(set, status, ready, reason, message, context.clock.now());
    let sets: Api<BackupSet> = Api::namespaced(context.client.clone(), &set.namespace().unwrap_or_default());
    // No cache holds sets.
    status::write(&sets, set, &before, &status, drop).await?;
    Ok(())
}

/// The status that reports whether the set can be used. Pure.
#[must_use]
pub fn marked(
    set: &BackupSet,
    mut status: BackupSetStatus,
    ready: Ready,
    reason: &str,
    message: &str,
    now: Timestamp,
) -> BackupSetStatus {
    let before = set.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let ready: &[conditions::Wanted] = match ready {
        Ready::Yes => &[conditions::Wanted { type_: conditions::READY, status: "True" }],
        Ready::No => &[
            conditions::Wanted { type_: conditions::READY, status: "False" },
            conditions::Wanted { type_: conditions::STALLED, status: "True" },
        ],
    };
    status.short_snapshot = set.spec.snapshot.get(..8).map(str::to_owned);
    status.conditions = conditions::merge(before, ready, reason, message, set.metadata.generation, now);
    status
}

/// Writes whether a set can be used, and keeps the rest of its status. A set that is gone is
/// skipped.
pub async fn mark_as(
    context: &Context,
    set: &BackupSet,
    ready: Ready,
    reason: &str,
    message: &str,
) -> Result<(), Error> {
    mark(context, set, set.status.clone().unwrap_or_default(), ready, reason, message).await
}

/// Writes `Ready: True` to a set that a worker created, unless the set is already settled or was
/// deleted since.
pub async fn settle_new(
    context: &Context,
    set: &BackupSet,
    status: BackupSetStatus,
    reason: &str,
    message: &str,
) -> Result<(), Error> {
    if is_settled(set) {
        return Ok(());
    }
    settle(context, set, status, reason, message).await
}

/// Whether the status of a set already reports if the set can be used.
#[must_use]
pub fn is_settled(set: &BackupSet) -> bool {
    set.status.as_ref().is_some_and(|status| !status.conditions.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_set_says_whether_it_can_be_used_and_is_settled_once_it_does() {
        let set: BackupSet = serde_json::from_value(json!({
            "apiVersion": "tenantatlas.io/v1alpha1", "kind": "BackupSet", "metadata": {"name": "nightly", "generation": 2},
            "spec": {"repository": {"name": "main"}, "snapshot": "0123456789abcdef", "namespaceUid": "n",
                "run": {"name": "r", "uid": "u"}}
        }))
        .expect("a set");
        let said = |ready| {
            let status = BackupSetStatus { items: Some(3), ..BackupSetStatus::default() };
            let status = marked(&set, status, ready, "Why", "because", Timestamp::UNIX_EPOCH);
            assert_eq!((status.items, status.short_snapshot.as_deref()), (Some(3), Some("01234567")));
            assert!(status.conditions.iter().all(|one| one.reason == "Why" && one.observed_generation == Some(2)));
            status.conditions.iter().map(|one| format!("{}={}", one.type_, one.status)).collect::<Vec<_>>()
        };
        assert_eq!(said(Ready::Yes), ["Ready=True"]);
        assert_eq!(said(Ready::No), ["Ready=False", "Stalled=True"]);
        assert!(
            !is_settled(&set) && !is_settled(&BackupSet { status: Some(BackupSetStatus::default()), ..set.clone() })
        );
        let status = marked(&set, BackupSetStatus::default(), Ready::Yes, "Why", "", Timestamp::UNIX_EPOCH);
        assert!(is_settled(&BackupSet { status: Some(status), ..set }));
    }
}
