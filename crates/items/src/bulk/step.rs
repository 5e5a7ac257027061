//! What an action does with one object. Pure: the live object comes in, and at most one write of it
//! goes out.
//!
//! A write depends on nothing but the action and the live object, and an object that the action has
//! changed is left as it is from then on. So a worker that starts over after a crash does nothing
//! twice.

use super::{Change, Values};
use crate::{
    api::{execution::ACCOUNTS, item::ItemId, reason::bulk as reason},
    decide::is_being_deleted,
    excluded::{Excluded, ExclusionRules, has_controller},
    plan::Remark,
    proposal::Proposal,
};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// The annotation of a pod template that `kubectl rollout restart` changes.
pub(super) const RESTARTED_AT: &str = "kubectl.kubernetes.io/restartedAt";

/// What an action does with an object.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Nothing: the object is as wanted.
    Unchanged,
    /// One write.
    Write(Box<Proposal>),
    /// Nothing, and why.
    Left(Left),
}

/// Why an object is left as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// Whether that is on purpose. Otherwise the object counts as failed.
    pub skipped: bool,
    /// The reason.
    pub remark: Remark,
}

impl Left {
    /// It is left on purpose.
    #[must_use]
    pub fn skipped(code: &str, message: impl Into<String>) -> Self {
        Self { skipped: true, remark: Remark::new(code, message) }
    }

    /// It counts as failed.
    #[must_use]
    pub fn failed(code: &str, message: impl Into<String>) -> Self {
        Self { skipped: false, remark: Remark::new(code, message) }
    }
}

/// Decides about one object. `shown` is whether every reader of reports may read objects of its
/// kind.
#[must_use]
pub fn step(change: &Change, rules: &ExclusionRules, item: &ItemId, live: Value, shown: bool) -> Step {
    if let Some(excluded) = excludes(change, rules, item, &live) {
        return Step::Left(Left::skipped(excluded.code(), why(excluded)));
    }
    if is_being_deleted(&live) {
        return Step::Left(Left::skipped(reason::BEING_DELETED, "it is being deleted"));
    }
    if let Some(problem) = not_applicable(change, &live) {
        return Step::Left(Left::failed(reason::NOT_APPLICABLE, problem));
    }
    let mut wanted = live.clone();
    if !apply(change, &mut wanted) {
        return Step::Unchanged;
    }
    let api_version = wanted["apiVersion"].as_str().unwrap_or_default().to_owned();
    if let Some(metadata) = wanted["metadata"].as_object_mut() {
        // The API server keeps those that it has.
        metadata.remove("managedFields");
    }
    Step::Write(Box::new(Proposal::update(item.clone(), api_version, live, wanted, shown)))
}

/// Why an object is never changed. One that has ended may still get labels.
fn excludes(change: &Change, rules: &ExclusionRules, item: &ItemId, live: &Value) -> Option<Excluded> {
    if item.kind.group.is_empty() && item.kind.kind == "ServiceAccount" && ACCOUNTS.contains(&item.name.as_str()) {
        return Some(Excluded::OperatorManaged);
    }
    let of_metadata = matches!(change, Change::Labels(_) | Change::Annotations(_));
    rules.excludes(&item.kind, &item.name, live).filter(|excluded| *excluded != Excluded::Finished || !of_metadata)
}

fn why(excluded: Excluded) -> &'static str {
    match excluded {
        Excluded::RepositorySecret => {
            "a BackupRepository of this namespace names it: what opens a repository is not changed together with others"
        }
        Excluded::Finished => "it has ended",
        other => other.why(),
    }
}

fn not_applicable(change: &Change, live: &Value) -> Option<&'static str> {
    match change {
        Change::Scale(_) if has_controller(live.get("metadata")) => {
            Some("the object that controls it sets its replicas: scale that instead")
        }
        Change::Restart(_) if live["spec"]["paused"] == true => Some(
            "its rollouts are paused, so that no pod would be replaced: resume them with `kubectl rollout resume`, then restart",
        ),
        _ => None,
    }
}

/// Makes the change. Returns false if the object is as wanted already.
fn apply(change: &Change, object: &mut Value) -> bool {
    match change {
        Change::Labels(values) => in_map(object, &["metadata", "labels"], values),
        Change::Annotations(values) => in_map(object, &["metadata", "annotations"], values),
        Change::Scale(replicas) => set(object, "replicas", json!(replicas), &json!(1)),
        Change::Suspend(suspend) => set(object, "suspend", json!(suspend), &json!(false)),
        Change::Restart(since) => restart(object, *since),
    }
}

/// Sets a field of the spec. `default` is the value of a field that is not there.
fn set(object: &mut Value, field: &str, value: Value, default: &Value) -> bool {
    if object["spec"].get(field).unwrap_or(default) == &value {
        return false;
    }
    object["spec"][field] = value;
    true
}

/// Changes labels or annotations. A map that becomes empty is removed.
fn in_map(object: &mut Value, path: &[&str], Values { set, remove }: &Values) -> bool {
    let before = path.iter().fold(&*object, |value, field| &value[*field]).as_object().cloned().unwrap_or_default();
    let mut after: Map<String, Value> = before.clone();
    after.retain(|key, _| !remove.contains(key));
    after.extend(set.iter().map(|(key, value)| (key.clone(), json!(value))));
    if after == before {
        return false;
    }
    let [parents @ .., last] = path else { return false };
    let parent = parents.iter().fold(object, |value, field| &mut value[*field]);
    if after.is_empty() {
        if let Some(parent) = parent.as_object_mut() {
            parent.remove(*last);
        }
    } else {
        parent[*last] = Value::Object(after);
    }
    true
}

/// Restarts, unless that was done at this time or later: by an earlier attempt, or by somebody else
/// since.
fn restart(object: &mut Value, since: Timestamp) -> bool {
    let path = ["spec", "template", "metadata", "annotations"];
    let before = path.iter().fold(&*object, |value, field| &value[*field]);
    let last = before[RESTARTED_AT].as_str().and_then(|text| text.parse::<Timestamp>().ok());
    if last.is_some_and(|last| last >= since) {
        return false;
    }
    let values = Values { set: [(RESTARTED_AT.to_owned(), since.to_string())].into(), remove: BTreeSet::new() };
    in_map(object, &path, &values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::{
            item::GroupKind,
            labels::{MANAGED_BY, MANAGER},
        },
        proposal::Write,
    };
    use std::collections::BTreeMap;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_767_225_600 + second).expect("a time")
    }

    fn values(set: &[(&str, &str)], remove: &[&str]) -> Values {
        let own = |text: &&str| (*text).to_owned();
        let set: BTreeMap<String, String> = set.iter().map(|(key, value)| (own(key), own(value))).collect();
        Values { set, remove: remove.iter().map(own).collect() }
    }

    #[allow(clippy::needless_pass_by_value, reason = "called with literals")]
    fn decided(change: &Change, kind: &str, live: Value) -> Step {
        let kind: GroupKind = kind.parse().expect("a kind");
        let rules = ExclusionRules { repository_secrets: BTreeSet::from(["backup-password".to_owned()]) };
        let name = live["metadata"]["name"].as_str().expect("a name").to_owned();
        step(change, &rules, &ItemId::new(kind, name), live, true)
    }

    fn body(change: &Change, kind: &str, live: Value) -> Value {
        match decided(change, kind, live) {
            Step::Write(proposal) => match proposal.write() {
                Write::Update(body) => body.clone(),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }

    #[allow(clippy::needless_pass_by_value, reason = "called with literals")]
    fn object(metadata: Value, spec: Value) -> Value {
        let mut whole = json!({"name": "web", "namespace": "acme", "uid": "u", "resourceVersion": "7"});
        whole.as_object_mut().expect("an object").extend(metadata.as_object().expect("an object").clone());
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": whole, "spec": spec, "status": {"replicas": 1}})
    }

    #[test]
    fn a_write_is_the_whole_live_object_with_the_change_and_its_uid_and_version() {
        let live = object(
            json!({"labels": {"app": "web", "old": "x"}, "managedFields": [{"manager": "kubectl"}]}),
            json!({"replicas": 2}),
        );
        let change = Change::Labels(values(&[("team", "blue")], &["old", "none"]));
        let wanted = object(json!({"labels": {"app": "web", "team": "blue"}}), json!({"replicas": 2}));
        assert_eq!(body(&change, "Deployment.apps", live), wanted);
    }

    #[test]
    fn metadata_that_is_not_there_is_made_and_what_becomes_empty_goes() {
        let bare = object(json!({}), json!({}));
        let one = object(json!({"annotations": {"note": "a b"}}), json!({}));
        assert_eq!(body(&Change::Annotations(values(&[("note", "a b")], &[])), "Deployment.apps", bare.clone()), one);
        assert_eq!(body(&Change::Annotations(values(&[], &["note"])), "Deployment.apps", one), bare);
    }

    /// The property on which a worker relies that starts over.
    #[test]
    fn what_was_changed_once_is_unchanged_from_then_on() {
        let live = || {
            object(json!({"labels": {"app": "web", "old": "x"}}), json!({"replicas": 2, "template": {"metadata": {}}}))
        };
        for change in [
            Change::Labels(values(&[("team", "blue"), ("app", "api")], &["old"])),
            Change::Annotations(values(&[("note", "x")], &[])),
            Change::Scale(5),
            Change::Restart(at(0)),
            Change::Suspend(true),
        ] {
            let changed = body(&change, "Deployment.apps", live());
            assert_eq!(decided(&change, "Deployment.apps", changed), Step::Unchanged, "{change:?}");
        }
    }

    #[test]
    fn a_field_that_is_not_there_has_its_default() {
        let bare = || object(json!({}), json!({}));
        assert_eq!(decided(&Change::Scale(1), "Deployment.apps", bare()), Step::Unchanged);
        assert_eq!(body(&Change::Scale(0), "Deployment.apps", bare())["spec"]["replicas"], 0);
        assert_eq!(decided(&Change::Suspend(false), "CronJob.batch", bare()), Step::Unchanged);
        assert_eq!(body(&Change::Suspend(true), "CronJob.batch", bare())["spec"]["suspend"], true);
    }

    #[test]
    fn a_restart_has_the_time_of_the_bulk_operation_and_is_not_done_again_after_a_later_one() {
        let restarted = |last: &str| {
            let annotations = json!({"metadata": {"annotations": {RESTARTED_AT: last, "other": "kept"}}});
            object(json!({}), json!({"template": annotations}))
        };
        let change = Change::Restart(at(0));
        for last in ["2026-01-01T00:00:00Z", "2026-01-01T00:00:09Z", "2026-01-01T03:00:00+02:00"] {
            assert_eq!(decided(&change, "Deployment.apps", restarted(last)), Step::Unchanged, "{last}");
        }
        for last in ["2025-12-31T23:59:59Z", "2026-01-01T01:00:00+02:00", "yesterday"] {
            let annotations =
                &body(&change, "Deployment.apps", restarted(last))["spec"]["template"]["metadata"]["annotations"];
            assert_eq!(annotations, &json!({RESTARTED_AT: "2026-01-01T00:00:00Z", "other": "kept"}), "{last}");
        }
    }

    #[test]
    fn an_action_without_its_effect_is_refused() {
        let left = |change: &Change, live: Value| match decided(change, "Deployment.apps", live) {
            Step::Left(left) => (left.skipped, left.remark.code),
            other => panic!("{other:?}"),
        };
        let refused = (false, "NotApplicable".to_owned());
        let controlled = object(json!({"ownerReferences": [{"controller": true}]}), json!({}));
        assert_eq!(left(&Change::Scale(3), controlled.clone()), refused);
        assert_eq!(left(&Change::Restart(at(0)), object(json!({}), json!({"paused": true}))), refused);
        let labelled = Change::Labels(values(&[("a", "b")], &[]));
        assert!(matches!(decided(&labelled, "Deployment.apps", controlled), Step::Write(_)));
    }

    #[test]
    fn what_is_never_changed_is_skipped_with_its_code_and_so_is_what_is_being_deleted() {
        let labels = Change::Labels(values(&[("a", "b")], &[]));
        let named = |name: &str, metadata: Value| {
            let mut live = object(metadata, json!({}));
            live["metadata"]["name"] = json!(name);
            live
        };
        let ended = || {
            let mut live = named("job", json!({}));
            live["status"] = json!({"conditions": [{"type": "Complete", "status": "True"}]});
            live
        };
        for (change, kind, live, code) in [
            (&labels, "Secret", named("backup-password", json!({})), "RepositorySecret"),
            (&labels, "Job.batch", named("op-1", json!({"labels": {MANAGED_BY: MANAGER}})), "OperatorManaged"),
            (&labels, "ServiceAccount", named("tenantatlas-restore", json!({})), "OperatorManaged"),
            (&labels, "ConfigMap", named("kube-root-ca.crt", json!({})), "ClusterManaged"),
            (&Change::Suspend(true), "Job.batch", ended(), "Finished"),
            (&labels, "ConfigMap", named("a", json!({"deletionTimestamp": "2026-01-01T00:00:00Z"})), "BeingDeleted"),
        ] {
            match decided(change, kind, live) {
                Step::Left(left) => assert_eq!((left.skipped, left.remark.code.as_str()), (true, code)),
                other => panic!("{code}: {other:?}"),
            }
        }
        assert!(matches!(decided(&labels, "Job.batch", ended()), Step::Write(_)), "one that has ended may get labels");
    }
}
