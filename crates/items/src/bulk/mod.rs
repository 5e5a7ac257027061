//! One action on many objects: what is asked for, and whether it can be done at all.
//!
//! ```text
//! capture  the repository and the objects of a capture
//! deletion the repository and the terms of a deletion
//! export   what of an object is exported
//! keys     keys and values of labels and annotations
//! preview  whether a preview can be applied
//! state    what a preview depended on in one object
//! step     what the action does with one object
//! ```
//!
//! Checked twice: by the controller, to block the bulk operation before it gets a run, and by the
//! worker, because it may be another version.

mod capture;
mod deletion;
mod export;
mod keys;
mod preview;
mod state;
mod step;

pub use capture::{Captures, captures};
pub use deletion::{Deletion, deletion};
pub use export::{expect_exportable, exported};
pub use preview::previewed;
pub use state::{State, read_states, seen, write_states};
pub use step::{Left, Step, step};

use crate::{
    api::{
        BulkOperationRunSpec, Reason,
        bulk_operation_run::{BulkAction, BulkOptions},
        canonical,
        item::GroupKind,
        subject::Initiator,
    },
    eligible::Ineligible,
    excluded::excluded_kind,
    labels::LabelSelector,
};
use jiff::Timestamp;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

/// What is done with each object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Set and remove labels.
    Labels(Values),
    /// Set and remove annotations.
    Annotations(Values),
    /// Set the number of replicas.
    Scale(i32),
    /// Replace the pods, unless that was done since this time.
    Restart(Timestamp),
    /// Suspend, or let continue.
    Suspend(bool),
}

/// Labels or annotations to set, and keys to remove.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Values {
    /// Keys and values to set.
    pub set: BTreeMap<String, String>,
    /// Keys to remove.
    pub remove: BTreeSet<String>,
}

/// The kinds on which an action that is not about metadata has its effect.
const SCALED: [(&str, &str); 4] =
    [("apps", "Deployment"), ("apps", "StatefulSet"), ("apps", "ReplicaSet"), ("", "ReplicationController")];
const RESTARTED: [(&str, &str); 3] = [("apps", "Deployment"), ("apps", "StatefulSet"), ("apps", "DaemonSet")];
const SUSPENDED: [(&str, &str); 2] = [("batch", "CronJob"), ("batch", "Job")];

/// The requester of a bulk operation.
pub fn requester(spec: &BulkOperationRunSpec) -> Result<&Initiator, Ineligible> {
    spec.requested_by.as_ref().ok_or_else(|| Ineligible {
        reason: Reason::NoRequester,
        message: "spec.requestedBy is empty, so that it is not known what this bulk operation may do: admission sets it; where that is off, state it in a new bulk operation".to_owned(),
    })
}

/// Fails if a bulk operation cannot be done, whatever the objects are.
pub fn expect_possible(spec: &BulkOperationRunSpec) -> Result<(), Ineligible> {
    match spec.action {
        BulkAction::Delete => deletion(spec).map(drop),
        BulkAction::Capture => captures(spec).map(drop),
        BulkAction::Export => expect_exportable(spec),
        _ => change(spec, Timestamp::UNIX_EPOCH).map(drop),
    }
}

/// Reads what a bulk operation changes. `created` is its creation time.
pub fn change(spec: &BulkOperationRunSpec, created: Timestamp) -> Result<Change, Ineligible> {
    expect_objects(spec)?;
    let kind = spec.resource.group_kind();
    let options = spec.options.clone().unwrap_or_default();
    match spec.action {
        BulkAction::Label => values(options, keys::label_value).map(Change::Labels),
        BulkAction::Annotate => values(options, |_| Ok(())).map(Change::Annotations),
        BulkAction::Scale => {
            expect_kind(spec.action, &kind, &SCALED)?;
            let none = || invalid("spec.options.replicas: say how many".to_owned());
            options.replicas.ok_or_else(none).map(Change::Scale)
        }
        BulkAction::Restart => expect_kind(spec.action, &kind, &RESTARTED).map(|()| Change::Restart(created)),
        BulkAction::Suspend => expect_kind(spec.action, &kind, &SUSPENDED).map(|()| Change::Suspend(true)),
        BulkAction::Resume => expect_kind(spec.action, &kind, &SUSPENDED).map(|()| Change::Suspend(false)),
        BulkAction::Delete | BulkAction::Capture | BulkAction::Export => {
            Err(invalid(format!("spec.action: {} is not done by a run of this type", spec.action.as_str())))
        }
    }
}

/// Fails if no object of the kind may be worked on, or the selector is none.
fn expect_objects(spec: &BulkOperationRunSpec) -> Result<(), Ineligible> {
    let kind = spec.resource.group_kind();
    if let Some(why) = excluded_kind(&kind) {
        return Err(invalid(format!("spec.resource: no bulk operation works on {kind}: {why}")));
    }
    if let Some(selector) = &spec.label_selector {
        selector.parse::<LabelSelector>().map_err(|error| invalid(format!("spec.labelSelector: {error}")))?;
    }
    Ok(())
}

fn expect_kind(action: BulkAction, kind: &GroupKind, kinds: &[(&str, &str)]) -> Result<(), Ineligible> {
    if kinds.contains(&(kind.group.as_str(), kind.kind.as_str())) {
        return Ok(());
    }
    let known: Vec<String> = kinds.iter().map(|(group, kind)| GroupKind::new(*group, *kind).to_string()).collect();
    Err(invalid(format!("spec.action: {} is for {}, not for {kind}", action.as_str(), known.join(", "))))
}

fn values(options: BulkOptions, check: impl Fn(&str) -> Result<(), String>) -> Result<Values, Ineligible> {
    let BulkOptions { set, remove, .. } = options;
    let remove: BTreeSet<String> = remove.into_iter().collect();
    if set.is_empty() && remove.is_empty() {
        return Err(invalid("spec.options: name a key to set or to remove".to_owned()));
    }
    for key in set.keys().chain(&remove) {
        keys::key(key).map_err(|problem| invalid(format!("spec.options: {key:?}: {problem}")))?;
    }
    if let Some(both) = set.keys().find(|key| remove.contains(*key)) {
        return Err(invalid(format!("spec.options: {both:?} is both in set and in remove: decide for one")));
    }
    for (key, value) in &set {
        check(value).map_err(|problem| invalid(format!("spec.options.set[{key:?}]: {problem}")))?;
    }
    Ok(Values { set, remove })
}

fn invalid(message: impl std::fmt::Display) -> Ineligible {
    Ineligible {
        reason: Reason::InvalidBulkOperation,
        message: format!("{message}; correct it in a new bulk operation"),
    }
}

/// SHA-256 (64 hex digits) over what is done, and with which objects. For a preview, also over what
/// each of them was like.
#[must_use]
pub fn digest(spec: &BulkOperationRunSpec, names: &[String], states: Option<&[State]>) -> String {
    let mut of = json!({
        "resource": spec.resource, "action": spec.action, "options": spec.options, "items": names,
    });
    if let Some(states) = states {
        of["states"] = json!(write_states(states));
    }
    canonical::digest(&of)
}

/// What is done, in words, such as `scale Deployment.apps to 3`.
#[must_use]
pub fn in_words(spec: &BulkOperationRunSpec) -> String {
    let (action, kind) = (spec.action.as_str(), spec.resource.group_kind());
    let options = spec.options.clone().unwrap_or_default();
    let set = options.set.iter().map(|(key, value)| format!("{key}={value}"));
    let removed = options.remove.iter().map(|key| format!("{key}-"));
    let values: Vec<String> = set.chain(removed).collect();
    match options.replicas {
        Some(replicas) => format!("{action} {kind} to {replicas}"),
        None if values.is_empty() => format!("{action} {kind}"),
        None => format!("{action} {kind}: {}", values.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[allow(clippy::needless_pass_by_value, reason = "called with literals")]
    fn spec(value: Value) -> BulkOperationRunSpec {
        let mut whole =
            json!({"resource": {"group": "apps", "kind": "Deployment"}, "action": "label", "items": ["web"]});
        whole.as_object_mut().expect("an object").extend(value.as_object().expect("an object").clone());
        serde_json::from_value(whole).expect("a spec")
    }

    fn refused(value: Value) -> String {
        let ineligible = change(&spec(value), Timestamp::UNIX_EPOCH).expect_err("refused");
        assert_eq!(ineligible.reason, Reason::InvalidBulkOperation);
        ineligible.message
    }

    #[test]
    fn each_action_is_read_with_its_options() {
        let of = |value: Value| change(&spec(value), Timestamp::UNIX_EPOCH).expect("a change");
        let values = Values {
            set: BTreeMap::from([("team".to_owned(), "blue".to_owned())]),
            remove: BTreeSet::from(["old".to_owned()]),
        };
        let options = json!({"set": {"team": "blue"}, "remove": ["old"]});
        assert_eq!(of(json!({"options": options})), Change::Labels(values.clone()));
        assert_eq!(of(json!({"action": "annotate", "options": options})), Change::Annotations(values));
        assert_eq!(of(json!({"action": "scale", "options": {"replicas": 0}})), Change::Scale(0));
        assert_eq!(of(json!({"action": "restart"})), Change::Restart(Timestamp::UNIX_EPOCH));
        let jobs = json!({"group": "batch", "kind": "CronJob"});
        assert_eq!(of(json!({"action": "suspend", "resource": jobs})), Change::Suspend(true));
        assert_eq!(of(json!({"action": "resume", "resource": jobs})), Change::Suspend(false));
    }

    #[test]
    fn what_cannot_be_done_is_refused_with_what_is_wrong() {
        for (value, words) in [
            (json!({"resource": {"group": "tenantatlas.io", "kind": "BackupSet"}}), "no bulk operation works on"),
            (json!({"resource": {"kind": "Event"}}), "no bulk operation works on"),
            (json!({"action": "scale", "options": {"replicas": 1}, "resource": {"kind": "Pod"}}), "not for Pod"),
            (json!({"action": "scale"}), "say how many"),
            (json!({"action": "capture"}), "capture is not done by a run of this type"),
            (json!({"action": "restart", "resource": {"group": "batch", "kind": "Job"}}), "not for Job.batch"),
            (json!({"action": "suspend"}), "CronJob.batch, Job.batch, not for Deployment.apps"),
            (json!({"action": "resume", "resource": {"kind": "CronJob"}}), "not for CronJob"),
            (json!({"options": {}}), "name a key"),
            (json!({"options": {"set": {"a": "b"}, "remove": ["a"]}}), "both in set and in remove"),
            (json!({"options": {"set": {"a": "b c"}}}), "63"),
            (json!({"options": {"set": {"tenantatlas.io/workspace": "b"}}}), "tenantatlas.io"),
            (json!({"options": {"remove": ["kubernetes.io/metadata.name"]}}), "kubernetes.io"),
            (json!({"labelSelector": "a=b=c"}), "spec.labelSelector"),
        ] {
            let message = refused(value.clone());
            assert!(message.contains(words) && message.contains("new bulk operation"), "{value}: {message}");
        }
    }

    #[test]
    fn an_annotation_may_have_any_value_and_a_bulk_operation_needs_a_requester() {
        let annotated = spec(json!({"action": "annotate", "options": {"set": {"note": "a b, c"}}}));
        assert!(change(&annotated, Timestamp::UNIX_EPOCH).is_ok());
        assert_eq!(requester(&annotated).map_err(|ineligible| ineligible.reason), Err(Reason::NoRequester));
        assert!(requester(&spec(json!({"requestedBy": {"username": "ada"}}))).is_ok());
    }

    #[test]
    fn a_digest_is_of_what_is_done_and_with_which_objects() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let scaled = |replicas: i32| spec(json!({"action": "scale", "options": {"replicas": replicas}}));
        let all = [
            digest(&scaled(1), &names(&["a"]), None),
            digest(&scaled(2), &names(&["a"]), None),
            digest(&scaled(1), &names(&["a", "b"]), None),
            digest(&spec(json!({"action": "restart"})), &names(&["a"]), None),
            digest(
                &spec(json!({"action": "restart", "resource": {"group": "apps", "kind": "DaemonSet"}})),
                &names(&["a"]),
                None,
            ),
        ];
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
        assert!(all.iter().all(|digest| digest.len() == 64));
        // How it is done is no part of it.
        let slow = spec(json!({"action": "scale", "options": {"replicas": 1}, "parallelism": 1, "labelSelector": "a"}));
        assert_eq!(digest(&slow, &names(&["a"]), None), all[0]);
    }

    #[test]
    fn words_say_what_is_done() {
        let of = |value: Value| in_words(&spec(value));
        assert_eq!(of(json!({"options": {"set": {"a": "b"}, "remove": ["c"]}})), "label Deployment.apps: a=b, c-");
        assert_eq!(of(json!({"action": "scale", "options": {"replicas": 3}})), "scale Deployment.apps to 3");
        assert_eq!(of(json!({"action": "restart"})), "restart Deployment.apps");
    }
}
