//! The versions of one object over the backups of a tenant, told to who may read the object.

use crate::support::{SOON, Tenant};
use crate::tenancy::assert_refused;
use kube::api::{Api, ListParams};
use serde_json::{Value, json};
use tenantatlas::api::{OperationReport, OperationRun, OperationRunStatus, Outcome};

/// Values of Secrets before and after, as they were written and as the API server stores them.
const SECRETS: [&str; 4] =
    ["s3cr3t-t0ken-of-the-shop", "czNjcjN0LXQwa2VuLW9mLXRoZS1zaG9w", "another-t0ken", "YW5vdGhlci10MGtlbg"];

fn asked(name: &str, user: &str, inputs: Value) -> Value {
    let mut inputs = inputs;
    inputs["repository"] = json!("main");
    // Stated for clusters that do not fill it in.
    json!({ "metadata": { "name": name }, "spec": { "type": "item.history", "inputs": inputs, "initiator": { "username": user } } })
}

impl Tenant {
    /// Asks for a history as a person, and waits for its end.
    async fn history(&self, (user, client): (&str, &kube::Client), name: &str, inputs: Value) -> OperationRunStatus {
        let created = self.create_as::<OperationRun>(client.clone(), asked(name, user, inputs)).await;
        created.unwrap_or_else(|error| panic!("run {name} is refused: {error}"));
        self.completed(name, SOON).await
    }

    /// The rows of a history, latest first, as a person reads them.
    async fn rows_of_history(&self, client: &kube::Client, run: &str) -> Vec<Value> {
        let reports: Api<OperationReport> = Api::namespaced(client.clone(), &self.name);
        let of_run = ListParams::default().fields(&format!("spec.run.name={run}"));
        let reports = reports.list(&of_run).await.expect("reports can be listed").items;
        let rows = reports.into_iter().flat_map(|report| report.spec.versions);
        rows.map(|row| serde_json::to_value(row).expect("JSON")).collect()
    }
}

/// `set change` of each row.
fn told(rows: &[Value]) -> Vec<String> {
    let text = |field: &Value| field.as_str().unwrap_or_default().to_owned();
    rows.iter().map(|row| format!("{} {}", text(&row["set"]), text(&row["change"]))).collect()
}

#[tokio::test]
async fn a_tenant_learns_the_versions_of_an_object_and_who_may_not_read_it_learns_nothing() {
    let tenant = Tenant::with_a_captured_shop("history").await;
    let other = tenant.beside("history").await;
    let eve = other.person("eve", &["tenantatlas-tenant-admin"]).await;
    let namespace = ["--namespace", &tenant.name];
    let kubectl = |arguments: &[&str]| tenant.cluster.kubectl_prints(&[arguments, &namespace].concat());
    kubectl(&["patch", "configmap", "shop-settings", "--type=merge", "--patch", r#"{"data":{"currency":"CHF"}}"#]);
    let token = r#"{"stringData":{"token":"another-t0ken"}}"#;
    kubectl(&["patch", "secret", "shop-payment", "--type=merge", "--patch", token]);
    kubectl(&["delete", "service", "shop"]);
    tenant.captured_whole("second").await;
    kubectl(&["label", "configmap", "shop-settings", "reviewed=yes"]);
    tenant.captured_whole("third").await;
    let selection = json!({ "includeKinds": ["Secret"] });
    tenant
        .start(
            "secrets",
            json!({ "type": "backup.capture", "inputs": { "repository": "main", "selection": selection } }),
        )
        .await;
    assert_eq!(tenant.completed("secrets", SOON).await.outcome, Outcome::Succeeded);
    let ada = tenant.person("ada", &["tenantatlas-tenant-admin"]).await;
    let ola = tenant.person("ola", &["tenantatlas-tenant-operator"]).await;
    let (ada, ola) = (("ada", &ada), ("ola", &ola));

    let settings = "core/ConfigMap/shop-settings";
    let status = tenant.history(ola, "settings", json!({ "item": settings })).await;
    assert_eq!(status.outcome, Outcome::Succeeded, "{status:#?}");
    let rows = tenant.rows_of_history(ola.1, "settings").await;
    assert_eq!(told(&rows), ["secrets unknown", "third changed", "second changed", "nightly earliest"], "{rows:#?}");
    assert_eq!(rows[2]["diff"], "~ data.currency: \"EUR\" -> \"CHF\"\n");
    assert_eq!((&rows[2]["after"], &rows[0]["reason"]["code"]), (&json!("nightly"), &json!("OutsideSelection")));
    let history = status.context.history.expect("status.context.history");
    assert_eq!((history.versions, history.deletions, history.sets, history.unknown), (3, 0, 4, 1), "{history:?}");
    assert_eq!(history.since.expect("a set").set, "third");

    // Since when the field has its value, and a deletion.
    let status = tenant.history(ola, "blame", json!({ "item": settings, "path": "/data/currency" })).await;
    let history = status.context.history.expect("status.context.history");
    let since = history.since.expect("a set");
    assert_eq!((since.set.as_str(), since.run.as_str(), history.versions), ("second", "second", 2));
    let backup = tenant.run("second").await;
    assert_eq!(since.initiator, backup.spec.initiator.map(|initiator| initiator.username));
    let status = tenant.history(ola, "service", json!({ "item": "core/Service/shop" })).await;
    assert_eq!(status.context.history.expect("status.context.history").deletions, 1);
    assert_eq!(told(&tenant.rows_of_history(ola.1, "service").await)[1..], ["second deleted", "nightly earliest"]);

    // Stock view reads no Secrets, and neither does an operator; an admin does.
    let payment = json!({ "item": "core/Secret/shop-payment" });
    let refused = tenant.history(ola, "hers", payment.clone()).await;
    assert_eq!(
        (refused.outcome, refused.reason.as_deref()),
        (Outcome::Blocked, Some("RequesterForbidden")),
        "{refused:#?}"
    );
    assert!(refused.message.unwrap_or_default().starts_with("ola may not get secrets in "));
    assert!(refused.context.history.is_none() && tenant.rows_of_history(ola.1, "hers").await.is_empty());
    let status = tenant.history(ada, "his", payment).await;
    assert_eq!(status.outcome, Outcome::Succeeded, "{status:#?}");
    assert!(status.joined.is_none() && status.identity_hash != refused.identity_hash);
    let rows = tenant.rows_of_history(ada.1, "his").await;
    assert_eq!(told(&rows), ["second changed", "nightly earliest"], "the set of Secrets alone holds it, too");
    let diff = rows[0]["diff"].as_str().expect("a diff");
    assert!(diff.starts_with("~ data.token: hmac:"), "{diff}");

    // Nowhere is a value of the Secret.
    let log = |status: &OperationRunStatus| {
        let job = status.job.as_ref().expect("status.job").name.clone();
        kubectl(&["logs", &format!("job/{job}"), "--all-containers"])
    };
    let log = log(&status);
    let events = kubectl(&["get", "events", "--output", "yaml"]);
    let runs = kubectl(&["get", "operationruns", "--output", "yaml"]);
    let reports = kubectl(&["get", "operationreports", "--output", "yaml"]);
    assert!(log.contains("followed") && runs.contains("shop-payment"), "{log}");
    for (place, text) in [("log", log), ("events", events), ("runs", runs), ("reports", reports)] {
        for value in SECRETS {
            assert!(!text.contains(value), "{value} is in the {place}");
        }
    }

    // Another tenant neither asks here nor reads what others asked for.
    let started =
        tenant.create_as::<OperationRun>(eve.clone(), asked("eves", "eve", json!({ "item": settings }))).await;
    assert_refused(started, 403, &["cannot create resource"]);
    let reports: Api<OperationReport> = Api::namespaced(eve, &tenant.name);
    assert_refused(reports.list(&ListParams::default()).await, 403, &["cannot list resource"]);
}
