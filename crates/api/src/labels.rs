//! Labels and annotations of ours, and how their values are made.
//!
//! Labels on a run are recomputed by the operator and never trusted: nothing is decided from them.

use crate::{Outcome, operation_run::Trigger};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// On a namespace: the workspace it belongs to. A namespace with it is a tenant.
pub const WORKSPACE: &str = "tenantatlas.io/workspace";
/// On a run and its Job: the first 40 hex digits of the identity hash.
pub const IDENTITY: &str = "tenantatlas.io/identity";
/// On a run and its Job: the operation type.
pub const TYPE: &str = "tenantatlas.io/type";
/// On a run: what started it.
pub const TRIGGER: &str = "tenantatlas.io/trigger";
/// On a run: a hash of the initiator's name (a user name is not a valid label value).
pub const INITIATOR: &str = "tenantatlas.io/initiator";
/// On a completed run: its outcome.
pub const OUTCOME: &str = "tenantatlas.io/outcome";
/// On a Job, its pods and its audit entries: the uid of the run it executes.
pub const RUN_UID: &str = "tenantatlas.io/run-uid";
/// On a Lease of a worker: which repository of the namespace it is on.
pub const LEASED: &str = "tenantatlas.io/leased-repository";
/// On everything the operator makes.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// The value of [`MANAGED_BY`].
pub const MANAGER: &str = "tenantatlas";
/// On an object, `"true"`: never captured (also Velero's word for it, see [`VELERO_EXCLUDE`]).
pub const EXCLUDE: &str = "tenantatlas.io/exclude-from-backup";
/// Velero's opt-out label, honoured.
pub const VELERO_EXCLUDE: &str = "velero.io/exclude-from-backup";

/// An annotation on a schedule: starts one run now, once for each value.
pub const RUN_NOW: &str = "tenantatlas.io/run-now";

/// An annotation of an account that keeps its pods from Secrets.
pub const MOUNTABLE_SECRETS: &str = "kubernetes.io/enforce-mountable-secrets";
/// An annotation on a Job: the generation of the repository's spec that it was given.
pub const REPOSITORY_GENERATION: &str = "tenantatlas.io/repository-generation";
/// An annotation on a Job: what of that spec a check vouches for, as a hash.
pub const REPOSITORY_CHECKED: &str = "tenantatlas.io/repository-checked-spec";

/// A label value for an initiator: 40 hex digits of the SHA-256 of the user name.
#[must_use]
pub fn initiator_value(username: &str) -> String {
    hex::encode(Sha256::digest(username))[..40].to_owned()
}

/// The labels a run must bear.
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

/// Every label key that [`of_run`] may set; those it leaves out are removed from a run.
pub const OF_RUN: [&str; 6] = [IDENTITY, TYPE, TRIGGER, WORKSPACE, INITIATOR, OUTCOME];
