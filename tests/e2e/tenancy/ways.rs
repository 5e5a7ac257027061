//! The ways to change an object over the wire.

use kube::Client;
use serde_json::{Map, Value, json};

/// How a change is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// The whole object.
    Put,
    /// A JSON merge patch of what differs.
    Merge,
    /// A JSON patch of what differs.
    JsonPatch,
    /// A forced server-side apply of the whole object by somebody else.
    Apply,
}

/// All of them.
pub(super) const WAYS: [Way; 4] = [Way::Put, Way::Merge, Way::JsonPatch, Way::Apply];

impl Way {
    /// Tries to turn an object at a path into another, as a dry run. What would be stored.
    pub(super) async fn send(
        self,
        client: &Client,
        path: &str,
        before: &Value,
        after: &Value,
    ) -> Result<Value, kube::Error> {
        let dry = format!("{path}?dryRun=All");
        match self {
            Self::Put => {
                // Whatever was written meanwhile, a status above all: what is tried is not whether it is met.
                let mut after = after.clone();
                let mut answer = Ok(Value::Null);
                for _ in 0..10 {
                    let now = super::call(client, "GET", path, &Value::Null).await?;
                    after["metadata"]["resourceVersion"] = now["metadata"]["resourceVersion"].clone();
                    answer = super::call(client, "PUT", &dry, &after).await;
                    if !matches!(&answer, Err(kube::Error::Api(status)) if status.reason == "Conflict") {
                        break;
                    }
                }
                answer
            }
            Self::Merge => patch(client, &dry, "merge-patch", &merge(before, after)).await,
            Self::JsonPatch => {
                let patches = json_patch::diff(before, after);
                patch(client, &dry, "json-patch", &serde_json::to_value(patches).expect("a patch")).await
            }
            Self::Apply => {
                let mut after = after.clone();
                for field in ["managedFields", "resourceVersion"] {
                    after["metadata"].as_object_mut().into_iter().for_each(|metadata| drop(metadata.remove(field)));
                }
                after.as_object_mut().into_iter().for_each(|object| drop(object.remove("status")));
                patch(client, &format!("{dry}&fieldManager=somebody&force=true"), "apply-patch", &after).await
            }
        }
    }
}

/// Sends a patch of this sort.
pub(super) async fn patch(client: &Client, path: &str, sort: &str, body: &Value) -> Result<Value, kube::Error> {
    let content = if sort == "apply-patch" {
        "application/apply-patch+yaml".to_owned()
    } else {
        format!("application/{sort}+json")
    };
    let request = http::Request::builder().method("PATCH").uri(path).header("content-type", content);
    client.request(request.body(body.to_string().into_bytes()).expect("a request")).await
}

/// The JSON merge patch from one value to another. A null in the other one cannot be said, and removes.
fn merge(before: &Value, after: &Value) -> Value {
    let (Value::Object(old), Value::Object(new)) = (before, after) else { return after.clone() };
    let mut patch = Map::new();
    for (name, value) in new {
        match old.get(name) {
            Some(earlier) if earlier == value => {}
            Some(earlier) if earlier.is_object() && value.is_object() => {
                patch.insert(name.clone(), merge(earlier, value));
            }
            _ => drop(patch.insert(name.clone(), value.clone())),
        }
    }
    patch.extend(old.keys().filter(|name| !new.contains_key(*name)).map(|name| (name.clone(), json!(null))));
    Value::Object(patch)
}
