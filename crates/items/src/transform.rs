//! Changes to objects during a restore: JSON patches (RFC 6902), each for some of the items.
//!
//! A transform applies as a whole, or the item fails: nothing is half-applied. A transform cannot
//! change an object's identity (kind, name, namespace), because its results would be counted for
//! another item. It can change the version, if the cluster serves another one.

use crate::{
    api::{item::ItemId, restore_run::Transform},
    selection::{InvalidSelection, Matcher},
    words::is_secret,
};
use json_patch::{PatchOperation, patch_unsafe};
use serde_json::Value;

/// Advice for an operation that copies a Secret's data out of the data fields.
const COPIES_SECRET: &str = "set the value with `add`: a transform may not copy out of a Secret's data or annotations, because who may not read Secrets sees the rest";

/// The parsed transforms of a spec.
#[derive(Clone, Debug, Default)]
pub struct Transforms(Vec<(Matcher, Vec<PatchOperation>)>);

/// Why the transforms of a spec could not be parsed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTransform {
    /// The selector is invalid.
    #[error("{0}")]
    Selector(InvalidSelection),
    /// An operation copies a Secret's data to where it is shown.
    #[error("transforms[{index}].patch[{operation}]: {COPIES_SECRET}")]
    CopiesSecret {
        /// The transform's index, from 0.
        index: usize,
        /// The operation's index in the transform, from 0.
        operation: usize,
    },
    /// The operation is invalid: a path is not a JSON pointer, or a value or a `from` is missing.
    #[error(
        "transforms[{index}].patch[{operation}]: {problem}: a path is a JSON pointer such as `/spec/replicas`; `add`, `replace` and `test` need a value, `move` and `copy` a from"
    )]
    Operation {
        /// The transform's index, from 0.
        index: usize,
        /// The operation's index in the transform, from 0.
        operation: usize,
        /// The parser's message.
        problem: String,
    },
}

/// Why a transform could not be applied to an item.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{item}: transforms[{index}]{}: {problem}", self.place())]
pub struct TransformFailed {
    /// The item.
    pub item: ItemId,
    /// The transform's index, from 0.
    pub index: usize,
    /// The operation's index in the transform, from 0, and its path.
    pub operation: Option<(usize, String)>,
    /// What went wrong.
    pub problem: String,
}

impl TransformFailed {
    fn place(&self) -> String {
        self.operation.as_ref().map_or(String::new(), |(place, path)| format!(".patch[{place}] at {path:?}"))
    }
}

impl Transforms {
    /// Parses the transforms of a spec.
    pub fn new(transforms: &[Transform]) -> Result<Self, InvalidTransform> {
        let read = |(index, transform): (usize, &Transform)| {
            let matcher = Matcher::new(&transform.select).map_err(|problem| {
                InvalidTransform::Selector(InvalidSelection { field: "transforms", index, problem })
            })?;
            let operations = transform.patch.iter().enumerate().map(|(operation, written)| {
                let read = serde_json::to_value(written).and_then(serde_json::from_value);
                read.map_err(|error| InvalidTransform::Operation { index, operation, problem: error.to_string() })
            });
            let operations = operations.collect::<Result<Vec<_>, _>>()?;
            let select = &transform.select;
            let of_secrets =
                select.kind.as_deref() == Some("Secret") && select.group.as_deref().is_none_or(str::is_empty);
            match operations.iter().position(copies_secret) {
                Some(operation) if of_secrets => Err(InvalidTransform::CopiesSecret { index, operation }),
                _ => Ok((matcher, operations)),
            }
        };
        transforms.iter().enumerate().map(read).collect::<Result<_, _>>().map(Self)
    }

    /// Applies the transforms for this item, in order. If one fails, the object is left as it was.
    pub fn apply(&self, item: &ItemId, object: &mut Value) -> Result<(), Box<TransformFailed>> {
        let before = object.clone();
        for (index, (matcher, operations)) in self.0.iter().enumerate() {
            // Matched by the current labels: a transform may depend on what an earlier one set.
            if !matcher.matches(item, object) {
                continue;
            }
            let failed =
                |operation, problem| Box::new(TransformFailed { item: item.clone(), index, operation, problem });
            if is_secret(item)
                && let Some(operation) = operations.iter().position(copies_secret)
            {
                let path = operations[operation].path().to_string();
                *object = before;
                return Err(failed(Some((operation, path)), COPIES_SECRET.to_owned()));
            }
            // Not `patch`: its rollback panics for some patches, and the object is reset below
            // anyway.
            let applied = patch_unsafe(object, operations)
                .map_err(|error| {
                    // Only the kind of the library's error is used, because no message may quote a
                    // value.
                    failed(Some((error.operation, error.path.to_string())), error.kind.to_string())
                })
                .and_then(|()| match changed_identity(&before, object) {
                    None => Ok(()),
                    Some(field) => Err(failed(
                        None,
                        format!("it changes {field}, which says what the object is: leave it as it is"),
                    )),
                });
            if let Err(error) = applied {
                *object = before;
                return Err(error);
            }
        }
        Ok(())
    }
}

/// Whether an operation, applied to a Secret, copies something out of its data, or out of its
/// annotations, which may repeat the data. Values that stay there are only shown as stand-ins.
fn copies_secret(operation: &PatchOperation) -> bool {
    let (from, to) = match operation {
        PatchOperation::Copy(copy) => (copy.from.as_str(), copy.path.as_str()),
        PatchOperation::Move(moved) => (moved.from.as_str(), moved.path.as_str()),
        _ => return false,
    };
    let steps = |pointer: &str| -> Vec<String> {
        pointer.split('/').skip(1).map(|step| step.replace("~1", "/").replace("~0", "~")).collect()
    };
    let (from, to) = (steps(from), steps(to));
    let lies =
        |steps: &[String], place: &[&str]| steps.len() >= place.len() && steps.iter().zip(place).all(|(a, b)| a == b);
    let touches = |steps: &[String], place: &[&str]| steps.iter().zip(place).all(|(a, b)| a == b);
    let data: [&[&str]; 2] = [&["data"], &["stringData"]];
    let annotations: &[&str] = &["metadata", "annotations"];
    let into_data = data.iter().any(|place| lies(&to, place));
    let of_data = data.iter().any(|place| touches(&from, place));
    let of_annotations = touches(&from, annotations);
    (of_data && !into_data) || (of_annotations && !into_data && !lies(&to, annotations))
}

fn changed_identity(before: &Value, after: &Value) -> Option<&'static str> {
    let group = |object: &Value| {
        let api_version = object["apiVersion"].as_str().unwrap_or_default();
        api_version.split_once('/').map_or("", |(group, _)| group).to_owned()
    };
    let name = |object: &Value, field: &str| object["metadata"][field].clone();
    if group(before) != group(after) || !after["apiVersion"].is_string() {
        Some("the group in apiVersion")
    } else if before["kind"] != after["kind"] {
        Some("kind")
    } else if name(before, "name") != name(after, "name") {
        Some("metadata.name")
    } else if name(before, "namespace") != name(after, "namespace") {
        Some("metadata.namespace")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::item::GroupKind;
    use serde_json::json;

    fn transforms(value: Value) -> Result<Transforms, InvalidTransform> {
        Transforms::new(&serde_json::from_value::<Vec<Transform>>(value).expect("transforms"))
    }

    fn web() -> (ItemId, Value) {
        let object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "labels": {"app": "web"}}, "spec": {"replicas": 3}});
        (ItemId::new(GroupKind::new("apps", "Deployment"), "web"), object)
    }

    fn applied(value: Value) -> Result<Value, Box<TransformFailed>> {
        let (item, mut object) = web();
        let before = object.clone();
        let result = transforms(value).expect("they read").apply(&item, &mut object);
        if result.is_err() {
            assert_eq!(object, before, "what failed left something behind");
        }
        result.map(|()| object)
    }

    #[test]
    fn every_operation_does_what_rfc_6902_says() {
        let object = applied(json!([{"select": {"kind": "Deployment"}, "patch": [
            {"op": "test", "path": "/spec/replicas", "value": 3},
            {"op": "replace", "path": "/spec/replicas", "value": 1},
            {"op": "add", "path": "/spec/paused", "value": null},
            {"op": "copy", "from": "/metadata/labels", "path": "/metadata/annotations"},
            {"op": "move", "from": "/metadata/labels", "path": "/spec/moved"},
            {"op": "remove", "path": "/metadata/annotations/app"}]}]));
        let expected = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "annotations": {}},
            "spec": {"replicas": 1, "paused": null, "moved": {"app": "web"}}});
        assert_eq!(object, Ok(expected));
    }

    #[test]
    fn a_transform_is_for_the_items_it_selects() {
        let patch = json!([{"op": "replace", "path": "/spec/replicas", "value": 1}]);
        for (select, expected) in [
            (json!({"group": "apps", "kind": "Deployment"}), 1),
            (json!({"name": "w*"}), 1),
            (json!({"labelSelector": "app=web"}), 1),
            (json!({}), 1),
            (json!({"group": ""}), 3),
            (json!({"kind": "StatefulSet"}), 3),
            (json!({"name": "api"}), 3),
            (json!({"labelSelector": "app=api"}), 3),
        ] {
            let object = applied(json!([{"select": select, "patch": patch}])).expect("applies");
            assert_eq!(object["spec"]["replicas"], expected, "{select}");
        }
    }

    #[test]
    fn a_failure_names_the_item_the_transform_and_the_path_and_changes_nothing() {
        let error = applied(json!([
            {"select": {}, "patch": [{"op": "replace", "path": "/spec/replicas", "value": 1}]},
            {"select": {}, "patch": [{"op": "add", "path": "/spec/a", "value": 1}, {"op": "test", "path": "/spec/replicas", "value": 3}]}]))
        .expect_err("the test fails");
        assert_eq!(error.operation, Some((1, "/spec/replicas".to_owned())));
        assert!(
            error.to_string().starts_with("apps/Deployment/web: transforms[1].patch[1] at \"/spec/replicas\": "),
            "{error}"
        );
    }

    #[test]
    fn what_an_object_is_cannot_be_changed_but_its_version_can() {
        for (path, value) in [
            ("/kind", json!("StatefulSet")),
            ("/metadata/name", json!("other")),
            ("/metadata/namespace", json!("kube-system")),
            ("/apiVersion", json!("batch/v1")),
            ("/apiVersion", json!(1)),
            ("/metadata", json!({})),
            ("", json!(7)),
        ] {
            let patch = json!([{"select": {}, "patch": [{"op": "add", "path": path, "value": value}]}]);
            let error = applied(patch).expect_err(path);
            assert!(error.problem.contains("what the object is"), "{error}");
        }
        let object =
            applied(json!([{"select": {}, "patch": [{"op": "replace", "path": "/apiVersion", "value": "apps/v2"}]}]));
        assert_eq!(object.expect("applies")["apiVersion"], "apps/v2");
    }

    #[test]
    fn an_operation_that_does_not_read_is_named_by_its_place() {
        for operation in [
            json!({"op": "replace", "path": "spec", "value": 1}),
            json!({"op": "replace", "path": "/spec"}),
            json!({"op": "move", "path": "/spec"}),
        ] {
            let error = transforms(json!([{"select": {}, "patch": [{"op": "remove", "path": "/a"}, operation]}]))
                .expect_err("refused");
            assert!(error.to_string().starts_with("transforms[0].patch[1]: "), "{error}");
        }
        let error =
            transforms(json!([{"select": {"labelSelector": "a in b"}, "patch": [{"op": "remove", "path": "/a"}]}]))
                .expect_err("refused");
        assert!(error.to_string().starts_with("transforms[0].labelSelector"), "{error}");
    }

    #[test]
    fn nothing_is_copied_out_of_a_secret_s_data_or_annotations_and_within_them_anything() {
        let data = ("/data/p", "/stringData/p");
        for (from, to, copies) in [
            (data.0, "/data/q", false),
            (data.0, data.1, false),
            (data.1, "/data", false),
            (data.0, "/metadata/annotations/x", true),
            (data.1, "/metadata/labels/x", true),
            (data.0, "/datas/p", true),
            (data.0, "", true),
            ("/data", "/type", true),
            ("", "/elsewhere", true),
            ("/metadata/annotations/a", "/metadata/annotations/b", false),
            ("/metadata/annotations/a", data.1, false),
            ("/metadata/annotations/a", "/metadata/labels/b", true),
            ("/metadata/annotations/a", "/metadata", true),
            ("/metadata", "/elsewhere", true),
            ("/metadata/labels/a", "/metadata/labels/b", false),
            ("/type", "/metadata/annotations/a", false),
        ] {
            for op in ["copy", "move"] {
                let operation =
                    serde_json::from_value(json!({"op": op, "from": from, "path": to})).expect("an operation");
                assert_eq!(copies_secret(&operation), copies, "{op} from {from:?} to {to:?}");
            }
        }
        for other in [json!({"op": "remove", "path": data.0}), json!({"op": "add", "path": "/type", "value": "x"})] {
            assert!(!copies_secret(&serde_json::from_value(other).expect("an operation")));
        }
    }
}
