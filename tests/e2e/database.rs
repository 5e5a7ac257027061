//! An operation of one's own, as the example has it: a real database is dumped by an image that knows nothing of us.

use crate::support::cluster::environment;
use crate::support::run::assert_ended;
use crate::support::{SOON, Tenant, wait_for};
use k8s_openapi::api::apps::v1::StatefulSet;
use serde_json::{Value, json};
use tenantatlas::api::{Outcome, Reason};

const TYPE: &str = include_str!("../../examples/database-dump/type.yaml");
const DATABASE: &str = include_str!("../../examples/database-dump/database.yaml");
/// The image that the example names.
const IMAGE: &str = "localhost/tenantatlas-example-sqlite:1";

/// The example's type under the story's own name.
async fn dump_type(tenant: &Tenant) -> String {
    let text = TYPE.replace(IMAGE, &environment("ATLAS_SHELL_IMAGE"));
    let arguments = ["create", "--dry-run=client", "--validate=false", "--output", "json", "--filename", "-"];
    let manifest: Value = serde_json::from_str(&tenant.cluster.kubectl_reads(&arguments, &text)).expect("JSON");
    tenant.operation_type("dump", manifest["spec"].clone()).await
}

#[tokio::test]
async fn a_database_is_dumped_and_the_run_counts_its_tables() {
    let tenant = Tenant::new("database").await;
    let operation = dump_type(&tenant).await;
    tenant.volume("database").await;
    let dumps = tenant.volume("database-dumps").await;
    // The claims exist already, bound to this story's volumes.
    let database = DATABASE
        .replace(IMAGE, &environment("ATLAS_SHELL_IMAGE"))
        .replace("namespace: acme", &format!("namespace: {}", tenant.name));
    let stateful_set =
        database.split("---\n").find(|document| document.contains("kind: StatefulSet")).expect("a database");
    tenant.apply(stateful_set);
    wait_for("the database is ready", SOON, async || {
        let database = tenant.api::<StatefulSet>().get("database").await.map_err(|error| error.to_string())?;
        let ready = database.status.and_then(|status| status.ready_replicas);
        if ready == Some(1) { Ok(()) } else { Err(tenant.look()) }
    })
    .await;

    tenant.start("dump-1", json!({ "type": operation, "inputs": { "database": "shop", "note": "monday" } })).await;
    let status = tenant.completed("dump-1", SOON).await;
    assert_ended(&status, Outcome::Succeeded, Reason::Succeeded);
    let counts = status.summary_counts.expect("counts");
    assert_eq!((counts.total, counts.succeeded), (3, 3), "three tables");
    assert_eq!(status.progress.as_deref(), Some("3/3"));
    let sql = std::fs::read_to_string(dumps.join("dump-1.sql")).expect("the dump lies on its volume");
    assert_eq!(sql.matches("INSERT INTO orders").count(), 1000, "every row");
    assert!(sql.starts_with("PRAGMA") && sql.trim_end().ends_with("COMMIT;"), "whole");
}

#[tokio::test]
async fn without_a_database_the_dump_fails_for_good_in_its_own_words() {
    let tenant = Tenant::new("no-database").await;
    let operation = dump_type(&tenant).await;
    tenant.volume("database").await;
    tenant.volume("database-dumps").await;
    tenant.start("dump", json!({ "type": operation, "inputs": { "database": "shop" } })).await;
    let status = tenant.completed("dump", SOON).await;
    assert_ended(&status, Outcome::Failed, Reason::PermanentFailure);
    assert_eq!(status.message.as_deref(), Some("there is no database at /data/shop.db: has it been started?"));
    assert_eq!(status.attempts, Some(1), "not tried again, though the type has retries");
}
