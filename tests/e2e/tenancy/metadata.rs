//! How much metadata an object of ours may hold, for who writes it and for who adds to it.

use super::{assert_refused, call};
use crate::support::{SOON, Tenant, wait_for};
use serde_json::{Map, Value, json};
use tenantatlas::api::{OperationRun, labels};

const GROUP: &str = "tenantatlas.io/v1alpha1";

/// So many keys, each with a value of so many characters.
fn many(number: usize, length: usize) -> Value {
    let keys = (0..number).map(|index| (format!("example.com/{index:03}"), json!("x".repeat(length))));
    Value::Object(keys.collect::<Map<_, _>>())
}

fn schedule(name: &str, metadata: &Value) -> Value {
    let mut object = json!({ "apiVersion": GROUP, "kind": "BackupSchedule", "metadata": { "name": name },
        "spec": { "schedule": "@yearly", "suspend": true, "operation": { "inputs": { "repository": "main" } } } });
    for (key, value) in metadata.as_object().expect("metadata") {
        object["metadata"][key] = value.clone();
    }
    object
}

#[tokio::test]
async fn metadata_is_bounded_for_who_writes_it_and_what_kubectl_keeps_is_not_counted() {
    let tenant = Tenant::new("metadata").await;
    let ada = tenant.person("ada", &["tenantatlas-tenant-operator"]).await;
    let schedules = tenant.path(GROUP, "backupschedules");
    let one = format!("{schedules}/fits");
    let last_applied = "kubectl.kubernetes.io/last-applied-configuration";
    let mut annotations = many(30, 1000);
    annotations[last_applied] = json!("y".repeat(100_000));
    let fits = schedule("fits", &json!({ "labels": many(100, 1), "annotations": annotations }));
    call(&ada, "POST", &schedules, &fits).await.expect("as much as is taken");
    for (metadata, words) in [
        (json!({ "labels": many(101, 1) }), "leave out labels of large: it has 101"),
        (json!({ "annotations": many(101, 1) }), "leave out annotations of large: it has 101"),
        (json!({ "annotations": many(33, 1000) }), "shorten the annotations of large"),
    ] {
        let large = schedule("large", &metadata);
        assert_refused(call(&ada, "POST", &schedules, &large).await, 422, &["tenantatlas-metadata", words]);
        let grown = json!({ "metadata": metadata });
        let words = words.replace("large", "fits");
        let words = words.split(": it has").next().expect("words");
        assert_refused(call(&ada, "PATCH", &one, &grown).await, 422, &["tenantatlas-metadata", words]);
    }
    // One more than is taken, of one that is there: by its own label or annotation, not by another's.
    let label = json!({ "metadata": { "labels": { "example.com/more": "" } } });
    assert_refused(call(&ada, "PATCH", &one, &label).await, 422, &["leave out labels of fits: it has 101"]);
    let renamed = json!({ "metadata": { "labels": { "example.com/more": "", "example.com/000": null } } });
    call(&ada, "PATCH", &one, &renamed).await.expect("as many as before");
}

#[tokio::test]
async fn a_run_with_all_the_labels_that_are_taken_is_given_the_operators_own() {
    let tenant = Tenant::new("labelled").await;
    let operation = tenant.script_type("greet", "true", |_| {}).await;
    // Admission adds three before it counts.
    let run = json!({ "metadata": { "name": "full", "labels": many(97, 1) }, "spec": { "type": operation } });
    tenant.create::<OperationRun>(run).await.expect("a run");
    wait_for("the label of its outcome", SOON, async || {
        let run = tenant.api::<OperationRun>().get("full").await.map_err(|error| error.to_string())?;
        let labels = run.metadata.labels.unwrap_or_default();
        if labels.len() > 100 && labels.contains_key(labels::OUTCOME) { Ok(()) } else { Err(format!("{labels:?}")) }
    })
    .await;
}
