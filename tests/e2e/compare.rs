//! What changed between two backups, told by a run that a tenant starts itself.

use crate::support::{SOON, Tenant};
use crate::tenancy::assert_refused;
use kube::api::{Api, ListParams};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tenantatlas::api::{OperationReport, OperationRun, OperationRunStatus, Outcome};

/// Values of Secrets before and after, as they were written and as the API server stores them.
const SECRETS: [&str; 4] =
    ["s3cr3t-t0ken-of-the-shop", "czNjcjN0LXQwa2VuLW9mLXRoZS1zaG9w", "another-t0ken", "YW5vdGhlci10MGtlbg"];

fn comparison(name: &str, inputs: Value) -> Value {
    let mut inputs = inputs;
    inputs["repository"] = json!("main");
    // Stated for clusters that do not fill it in.
    json!({ "metadata": { "name": name }, "spec": { "type": "sets.compare", "inputs": inputs, "initiator": { "username": "ada" } } })
}

impl Tenant {
    /// Starts a comparison as a person, and waits for its end.
    async fn compared(&self, client: &kube::Client, name: &str, inputs: Value) -> OperationRunStatus {
        let created = self.create_as::<OperationRun>(client.clone(), comparison(name, inputs)).await;
        created.unwrap_or_else(|error| panic!("run {name} is refused: {error}"));
        self.completed(name, SOON).await
    }

    /// The rows of a comparison by item, as a person reads them.
    async fn rows(&self, client: &kube::Client, run: &str) -> BTreeMap<String, Value> {
        let reports: Api<OperationReport> = Api::namespaced(client.clone(), &self.name);
        let of_run = ListParams::default().fields(&format!("spec.run.name={run}"));
        let reports = reports.list(&of_run).await.expect("reports can be listed").items;
        let rows = reports.into_iter().flat_map(|report| report.spec.differences);
        rows.map(|row| (row.item_id.clone(), serde_json::to_value(row).expect("JSON"))).collect()
    }
}

/// The items with this change.
fn with<'a>(rows: &'a BTreeMap<String, Value>, change: &str) -> Vec<&'a str> {
    rows.iter().filter(|(_, row)| row["change"] == change).map(|(item, _)| item.as_str()).collect()
}

#[tokio::test]
async fn a_tenant_compares_two_backups_and_sees_each_change_and_no_secret() {
    let tenant = Tenant::with_a_captured_shop("compare").await;
    let other = tenant.beside("compare").await;
    let eve = other.person("eve", &["tenantatlas-tenant-admin"]).await;
    let namespace = ["--namespace", &tenant.name];
    let kubectl = |arguments: &[&str]| tenant.cluster.kubectl_prints(&[arguments, &namespace].concat());
    kubectl(&["patch", "configmap", "shop-settings", "--type=merge", "--patch", r#"{"data":{"currency":"CHF"}}"#]);
    let token = r#"{"stringData":{"token":"another-t0ken"}}"#;
    kubectl(&["patch", "secret", "shop-payment", "--type=merge", "--patch", token]);
    kubectl(&["annotate", "role", "shop:reader", "note=for-auditors-alone"]);
    kubectl(&["delete", "service", "shop"]);
    kubectl(&["create", "configmap", "shop-banner", "--from-literal=text=sale"]);
    tenant.captured_whole("today").await;
    // Only now: what makes her an operator is an object of the tenant, too.
    let ada = tenant.person("ada", &["tenantatlas-tenant-operator"]).await;

    let status = tenant.compared(&ada, "changes", json!({ "from": "nightly", "to": "today" })).await;
    assert_eq!(status.outcome, Outcome::Succeeded, "{status:#?}");
    let rows = tenant.rows(&ada, "changes").await;
    assert_eq!(with(&rows, "added"), ["core/ConfigMap/shop-banner"], "{rows:#?}");
    assert_eq!(with(&rows, "removed"), ["core/Service/shop"]);
    assert_eq!(
        with(&rows, "changed"),
        ["core/ConfigMap/shop-settings", "core/Secret/shop-payment", "rbac.authorization.k8s.io/Role/shop:reader"]
    );
    assert_eq!(rows.len(), 5, "{rows:#?}");
    assert_eq!(rows["core/ConfigMap/shop-settings"]["diff"], "~ data.currency: \"EUR\" -> \"CHF\"\n");
    let secret = rows["core/Secret/shop-payment"]["diff"].as_str().expect("a diff");
    assert!(secret.starts_with("~ data.token: hmac:"), "{secret}");
    let role = rows["rbac.authorization.k8s.io/Role/shop:reader"]["diff"].as_str().expect("a diff");
    assert!(role.contains("metadata.annotations: hmac:"), "stock view reads no Roles: {role}");
    let found = status.context.compared.clone().expect("status.context.compared");
    assert_eq!((found.added, found.removed, found.changed, found.not_compared), (1, 1, 3, 0), "{found:?}");
    let counts = status.summary_counts.expect("counts");
    assert!(found.same > 10 && counts.failed == 0 && counts.total == 5 + found.same + found.status_only, "{found:?}");
    let config_maps = found.kinds.iter().find(|kind| kind.kind == "ConfigMap").expect("a kind");
    assert_eq!((config_maps.added, config_maps.changed), (1, 1));

    // Nowhere is a value of the Secret.
    let job = status.job.expect("status.job").name;
    let log = kubectl(&["logs", &format!("job/{job}"), "--all-containers"]);
    let events = kubectl(&["get", "events", "--output", "yaml"]);
    let run = kubectl(&["get", "operationrun", "changes", "--output", "yaml"]);
    let reports = kubectl(&["get", "operationreports", "--output", "yaml"]);
    assert!(log.contains("compared") && reports.contains("shop-payment"), "{log}");
    for (place, text) in [("log", log), ("events", events), ("run", run), ("reports", reports)] {
        for value in SECRETS.iter().chain(&["for-auditors-alone"]) {
            assert!(!text.contains(value), "{value} is in the {place}");
        }
    }

    // The other way round, and what was there.
    let back = tenant.compared(&ada, "back", json!({ "from": "today", "to": "nightly" })).await;
    let mirrored = back.context.compared.expect("status.context.compared");
    assert_eq!((mirrored.added, mirrored.removed, mirrored.changed), (1, 1, 3));
    assert_eq!((mirrored.same, mirrored.status_only), (found.same, found.status_only));
    let held = tenant.compared(&ada, "held", json!({ "from": "nightly" })).await;
    let listed = tenant.rows(&ada, "held").await;
    assert!(listed.contains_key("core/Service/shop") && !listed.contains_key("core/ConfigMap/shop-banner"));
    assert_eq!(held.context.compared.expect("counts").listed, i64::try_from(listed.len()).expect("a count"));

    // A partial set says nothing of what it does not select.
    let selection = json!({ "includeKinds": ["ConfigMap"] });
    tenant
        .start("maps", json!({ "type": "backup.capture", "inputs": { "repository": "main", "selection": selection } }))
        .await;
    assert_eq!(tenant.completed("maps", SOON).await.outcome, Outcome::Succeeded);
    let partial = tenant.compared(&ada, "partial", json!({ "from": "nightly", "to": "maps" })).await;
    let rows = tenant.rows(&ada, "partial").await;
    assert_eq!((with(&rows, "removed"), with(&rows, "added")), (vec![], vec!["core/ConfigMap/shop-banner"]));
    assert_eq!(rows["core/Service/shop"]["reason"]["code"], "OutsideSelection");
    let message = partial.message.unwrap_or_default();
    assert!(message.ends_with("maps does not hold the whole tenant"), "{message}");

    // What cannot be compared says why.
    for (name, inputs, outcome, reason) in [
        ("unknown", json!({ "from": "nightly", "to": "no-such-set" }), Outcome::Blocked, "BackupSetNotFound"),
        ("twice", json!({ "from": "nightly", "to": "nightly" }), Outcome::Failed, "InvalidInputs"),
    ] {
        let status = tenant.compared(&ada, name, inputs).await;
        assert_eq!((status.outcome, status.reason.as_deref()), (outcome, Some(reason)), "{status:#?}");
    }

    // Another tenant neither starts a comparison here nor reads one.
    let inputs = json!({ "from": "nightly", "to": "today" });
    let started = tenant.create_as::<OperationRun>(eve.clone(), comparison("hers", inputs)).await;
    assert_refused(started, 403, &["cannot create resource"]);
    assert!(tenant.api::<OperationRun>().get_opt("hers").await.expect("a read").is_none());
    let reports: Api<OperationReport> = Api::namespaced(eve, &tenant.name);
    assert_refused(reports.list(&ListParams::default()).await, 403, &["cannot list resource"]);
}
