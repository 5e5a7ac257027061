//! Labels and annotations of the operator, and how their values are built.
//!
//! The operator recomputes the labels on a run and never trusts them: no decision depends on them.

use crate::{Outcome, operation_run::Trigger};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// On a namespace: the workspace it belongs to. A namespace with this label is a tenant.
pub const WORKSPACE: &str = "tenantatlas.io/workspace";
/// On a repository or a schedule: the workspace whose template it was made for. Only the operator sets
/// it.
pub const TEMPLATE: &str = "tenantatlas.io/template";
/// On a run and its Job: the first 40 hex digits of the identity hash.
pub const IDENTITY: &str = "tenantatlas.io/identity";
/// On a run and its Job: the operation type.
pub const TYPE: &str = "tenantatlas.io/type";
/// On a run: the trigger that started it.
pub const TRIGGER: &str = "tenantatlas.io/trigger";
/// On a run: hash of the initiator's name (a user name is not a valid label value).
pub const INITIATOR: &str = "tenantatlas.io/initiator";
/// On a completed run: its outcome.
pub const OUTCOME: &str = "tenantatlas.io/outcome";
/// On a Job, its pods and its audit entries: the uid of the run it executes.
pub const RUN_UID: &str = "tenantatlas.io/run-uid";
/// On a Lease of a worker: the repository of the namespace that it uses.
pub const LEASED: &str = "tenantatlas.io/leased-repository";
/// On every object the operator creates.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Value of [`MANAGED_BY`].
pub const MANAGER: &str = "tenantatlas";
/// On an object, `"true"`: never captured. [`VELERO_EXCLUDE`] has the same effect.
pub const EXCLUDE: &str = "tenantatlas.io/exclude-from-backup";
/// Velero's opt-out label, which is honored too.
pub const VELERO_EXCLUDE: &str = "velero.io/exclude-from-backup";

/// Annotation on a schedule: starts one run now, once for each value.
pub const RUN_NOW: &str = "tenantatlas.io/run-now";

/// Annotation on a record of another system: name of the OperationRun that belongs to it.
pub const OPERATION_RUN: &str = "tenantatlas.io/operation-run";

/// Annotation on a ServiceAccount that keeps its pods from mounting Secrets.
pub const MOUNTABLE_SECRETS: &str = "kubernetes.io/enforce-mountable-secrets";
/// Annotation on a Job: generation of the repository's spec that the Job was given.
pub const REPOSITORY_GENERATION: &str = "tenantatlas.io/repository-generation";
/// Annotation on a Job: hash of the part of that spec that a check covers.
pub const REPOSITORY_CHECKED: &str = "tenantatlas.io/repository-checked-spec";

/// Label value for an initiator: 40 hex digits of the SHA-256 of the user name.
#[must_use]
pub fn initiator_value(username: &str) -> String {
    hex::encode(Sha256::digest(username))[..40].to_owned()
}

/// Returns the labels that a run must have.
#[must_use]
pub fn of_run(
    identity_hash: Option<&str>,
    operation_type: &str,
    trigger: Trigger,
    workspace: Option<&str>,
    initiator: Option<&str>,
    outcome: Outcome,
) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::from([
        (TYPE.to_owned(), operation_type.to_owned()),
        (TRIGGER.to_owned(), trigger.as_str().to_owned()),
    ]);
    if let Some(hash) = identity_hash.and_then(|hash| hash.get(..40)) {
        labels.insert(IDENTITY.to_owned(), hash.to_owned());
    }
    if let Some(workspace) = workspace {
        labels.insert(WORKSPACE.to_owned(), workspace.to_owned());
    }
    if let Some(initiator) = initiator {
        labels.insert(INITIATOR.to_owned(), initiator_value(initiator));
    }
    if outcome != Outcome::Pending {
        labels.insert(OUTCOME.to_owned(), outcome.as_str().to_owned());
    }
    labels
}

/// All label keys that [`of_run`] may set. A key that it does not set is removed from the run.
pub const OF_RUN: [&str; 6] = [IDENTITY, TYPE, TRIGGER, WORKSPACE, INITIATOR, OUTCOME];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_labelled_with_what_is_known_of_it_and_with_nothing_else() {
        let hash = "0123456789".repeat(6);
        let all = of_run(Some(&hash), "backup.capture", Trigger::Manual, Some("acme"), Some("ada"), Outcome::Failed);
        let expected = [
            (IDENTITY, &hash[..40]),
            (TYPE, "backup.capture"),
            (TRIGGER, "manual"),
            (WORKSPACE, "acme"),
            (INITIATOR, &initiator_value("ada")),
            (OUTCOME, "failed"),
        ];
        assert_eq!(all, expected.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
        assert!(OF_RUN.iter().all(|label| all.contains_key(*label)) && all.len() == OF_RUN.len());
        let fewest = of_run(Some("short"), "t", Trigger::Scheduled, None, None, Outcome::Pending);
        assert_eq!(fewest, [(TYPE, "t"), (TRIGGER, "scheduled")].map(|(k, v)| (k.to_owned(), v.to_owned())).into());
    }

    #[test]
    fn a_user_s_label_is_forty_digits_of_the_sha_256_of_the_name_and_fits_whatever_the_name() {
        assert_eq!(initiator_value("ada"), "fdee430d40bd57deeac186cd9790033d0f06f909");
        assert_eq!(initiator_value(&"ü:".repeat(500)).len(), 40);
    }
}
