//! Puts one path of an object back as its baseline has it. The path is spelled as in the evidence of
//! a finding.

use super::{
    changes::{Change, Changes, Step},
    evidence::{outermost, text},
    ignore::Ignore,
};
use crate::{
    api::item::ItemId,
    diff::{Place, comparable},
    semantic::Status,
    words::is_secret,
};
use serde_json::Value;
use std::borrow::Cow;

/// Why a path cannot be put back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotPutBack {
    /// What differs lies above or below the path.
    #[error("what differs by now lies above or below this path: find drift again, or put back the whole object")]
    Elsewhere,
    /// Only the order of a list differs.
    #[error("only the order of this list differs: put back the whole object")]
    OrderAlone,
}

/// The live object with one path as in the baseline. Both are sanitized. If nothing differs there,
/// it is the live object.
pub fn put_back(
    item: &ItemId,
    baseline: &Value,
    live: &Value,
    status: Status,
    path: &str,
) -> Result<Value, NotPutBack> {
    let form = |object: &Value| comparable(object, status);
    let (before, after) = (form(baseline), form(live));
    let nothing = Ignore::default();
    let ignore = nothing.of_item(item, None);
    let places = if is_secret(item) {
        // Evidence for readers who may not read Secrets has other paths.
        let mut hidden = Place::secret();
        hidden.hidden = true;
        vec![Place::secret(), hidden]
    } else {
        vec![Place::default()]
    };
    let mut is_near = false;
    for place in &places {
        let changes = Changes::of(place, &before, &after, &ignore).found;
        if let Some(change) = changes.iter().find(|change| change.place.path == path) {
            return one(live, change);
        }
        if let Some(change) = changes.iter().find(|change| text(outermost(&change.steps)) == path) {
            let mut wanted = live.clone();
            let steps = outermost(&change.steps);
            set(&mut wanted, steps, field(&before, steps), field(&after, steps).is_some());
            return Ok(wanted);
        }
        is_near |= changes.iter().any(|change| lies_in(path, &change.place.path) || lies_in(&change.place.path, path));
    }
    if is_near { Err(NotPutBack::Elsewhere) } else { Ok(live.clone()) }
}

fn one(live: &Value, change: &Change<'_>) -> Result<Value, NotPutBack> {
    // Names of elements, not elements.
    if matches!(change.before, Some(Cow::Owned(_))) {
        return Err(NotPutBack::OrderAlone);
    }
    let mut wanted = live.clone();
    set(&mut wanted, &change.steps, change.before.as_deref(), change.after.is_some());
    Ok(wanted)
}

/// The field at the end of some steps, none of which goes into a list.
fn field<'a>(object: &'a Value, steps: &[Step]) -> Option<&'a Value> {
    steps.iter().try_fold(object, |value, step| value.get(step.name()))
}

/// Whether a path lies in another one.
fn lies_in(path: &str, other: &str) -> bool {
    path.strip_prefix(other).is_some_and(|rest| rest.starts_with(['.', '[']))
}

/// Makes a place what it should be. `is_there` is whether the object has it.
fn set(object: &mut Value, steps: &[Step], value: Option<&Value>, is_there: bool) {
    let Some((last, steps)) = steps.split_last() else { return };
    let mut parent = object;
    for step in steps {
        let next = match step {
            Step::Field(name) => {
                if parent.is_null() {
                    *parent = Value::Object(serde_json::Map::new());
                }
                parent.as_object_mut().map(|map| map.entry(name.clone()).or_insert(Value::Null))
            }
            Step::Element { at, .. } => parent.get_mut(*at),
        };
        // Both sides have what lies around a change.
        let Some(next) = next else { return };
        parent = next;
    }
    match (last, parent) {
        (Step::Field(name), parent) => {
            if parent.is_null() && value.is_some() {
                *parent = Value::Object(serde_json::Map::new());
            }
            let Some(map) = parent.as_object_mut() else { return };
            match value {
                Some(value) => drop(map.insert(name.clone(), value.clone())),
                None => drop(map.remove(name)),
            }
        }
        (Step::Element { at, .. }, Value::Array(list)) => match value {
            Some(value) if is_there && *at < list.len() => list[*at] = value.clone(),
            Some(value) => list.insert((*at).min(list.len()), value.clone()),
            None if *at < list.len() => drop(list.remove(*at)),
            None => {}
        },
        (Step::Element { .. }, _) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::item::GroupKind,
        drift::{Differing, Rules, Sides, Verdict, severity::Severities},
        semantic::DigestKey,
    };
    use proptest::prelude::*;
    use serde_json::json;

    fn deployment(spec: &Value) -> Value {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "acme"}, "spec": spec})
    }

    fn put(kind: (&str, &str), baseline: &Value, live: &Value, path: &str) -> Result<Value, NotPutBack> {
        let item = ItemId::new(GroupKind::new(kind.0, kind.1), "web");
        put_back(&item, baseline, live, Status::Observed, path)
    }

    const DEPLOYMENT: (&str, &str) = ("apps", "Deployment");

    #[test]
    fn one_path_is_put_back_and_the_others_stay_as_they_are() {
        let container = |name: &str, image: &str| json!({"name": name, "image": image});
        let baseline = deployment(&json!({"replicas": 1, "paused": true, "list": [1, 2],
            "containers": [container("web", "web:1"), container("log", "log:1")]}));
        let live = deployment(&json!({"replicas": 5, "list": [2], "extra": "x",
            "containers": [container("new", "new:1"), container("web", "web:2")]}));
        let put = |path: &str| put(DEPLOYMENT, &baseline, &live, path).expect(path);
        for (path, place, value) in [
            ("spec.replicas", "/spec/replicas", json!(1)),
            ("spec.paused", "/spec/paused", json!(true)),
            ("spec.list", "/spec/list", json!([1, 2])),
            ("spec.containers[web].image", "/spec/containers/1/image", json!("web:1")),
        ] {
            let wanted = put(path);
            assert_eq!(wanted.pointer(place), Some(&value), "{path}");
            let mut back = wanted.clone();
            let now = live.pointer(place).cloned();
            match (now, back.pointer_mut(place)) {
                (Some(now), Some(there)) => *there = now,
                _ => drop(back["spec"].as_object_mut().expect("a spec").remove("paused")),
            }
            assert_eq!(back, live, "{path}: nothing else changes");
        }
        assert_eq!(put("spec.extra")["spec"].get("extra"), None);
        let names = |wanted: &Value| -> Vec<String> {
            let containers = wanted["spec"]["containers"].as_array().expect("containers").iter();
            containers.map(|container| container["name"].as_str().expect("a name").to_owned()).collect()
        };
        assert_eq!(names(&put("spec.containers[log]")), ["new", "log", "web"], "an element that is missing");
        assert_eq!(names(&put("spec.containers[new]")), ["web"], "an element that was added");
    }

    #[test]
    fn a_path_at_which_nothing_differs_changes_nothing_and_one_of_another_shape_is_refused() {
        let (baseline, live) =
            (deployment(&json!({"a": {"b": 1}, "c": 1})), deployment(&json!({"a": {"b": 2}, "c": 1})));
        assert_eq!(put(DEPLOYMENT, &baseline, &live, "spec.c"), Ok(live.clone()));
        assert_eq!(put(DEPLOYMENT, &baseline, &live, "spec.a.b.c"), Err(NotPutBack::Elsewhere));
        assert_eq!(put(DEPLOYMENT, &baseline, &live, "spec.a"), Err(NotPutBack::Elsewhere));
        let named = |names: [&str; 2]| deployment(&json!({"list": names.map(|name| json!({"name": name}))}));
        let (baseline, live) = (named(["a", "b"]), named(["b", "a"]));
        assert_eq!(put(DEPLOYMENT, &baseline, &live, "spec.list"), Err(NotPutBack::OrderAlone));
    }

    #[test]
    fn the_coarse_paths_of_kinds_whose_values_are_not_shown_put_back_a_whole_field() {
        let (baseline, live) = (deployment(&json!({"a": 1, "b": 1})), deployment(&json!({"a": 2, "c": 1})));
        assert_eq!(put(DEPLOYMENT, &baseline, &live, "spec"), Ok(baseline));
    }

    #[test]
    fn a_key_of_a_secret_is_put_back_whether_or_not_its_data_are_all_gone() {
        let secret =
            |data: &Value| json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "web"}, "data": data});
        let baseline = secret(&json!({"a": "MQ==", "b": "MQ=="}));
        let live = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "web"}});
        let wanted = put(("", "Secret"), &baseline, &live, "data.a");
        assert_eq!(wanted, Ok(secret(&json!({"a": "MQ=="}))));
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![any::<bool>().prop_map(Value::from), (0..3_i64).prop_map(Value::from)];
        leaf.prop_recursive(3, 16, 3, |inner| {
            let keys = prop::sample::select(vec!["name", "ports", "a", "b"]);
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::btree_map(keys, inner, 0..3).prop_map(|map| Value::Object(
                    map.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
                )),
            ]
        })
    }

    proptest! {
        /// Each path of the evidence can be put back, and then differs no more. Paths that are put
        /// back one after the other give the baseline.
        #[test]
        fn every_path_of_the_evidence_can_be_put_back(one in any_json(), other in any_json()) {
            let item = ItemId::new(GroupKind::new("apps", "Deployment"), "web");
            let (baseline, mut live) = (deployment(&json!({"x": one})), deployment(&json!({"x": other})));
            let rules = Rules {
                ignore: Ignore::default(), severities: Severities::new(&[], "").expect("none"), key: DigestKey::new([0; 16]),
            };
            let paths = |live: &Value| -> Vec<String> {
                let differing = Differing { item: &item, sides: Sides::Both(&baseline, live), digests: (None, None),
                    replaced: false, status: Status::Observed, shown: true };
                match rules.judge(&differing) {
                    Verdict::Found(found) => found.evidence.iter().map(|evidence| evidence.path.clone()).collect(),
                    _ => Vec::new(),
                }
            };
            for _ in 0..100 {
                let Some(path) = paths(&live).first().cloned() else { break };
                match put_back(&item, &baseline, &live, Status::Observed, &path) {
                    Ok(wanted) => {
                        prop_assert!(!paths(&wanted).contains(&path) || path.ends_with(']'), "{path} still differs");
                        live = wanted;
                    }
                    Err(NotPutBack::OrderAlone) => return Ok(()),
                    Err(error) => prop_assert!(false, "{path}: {error}"),
                }
            }
            prop_assert_eq!(live, baseline);
        }
    }
}
