//! The API server must ask somebody who does not answer, because the restore has yet to bring them back.

use crate::support::{SOON, Tenant, wait_for};
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use kube::api::{Api, PostParams};
use serde_json::json;
use tenantatlas::api::{OperationReport, Outcome, Phase, RestoreRun};

/// A webhook that must be asked about each ConfigMap of the tenant, and that its Service `shop`, behind which nobody listens, serves.
/// Gone at the latest when it is dropped.
struct Webhook<'a>(&'a Tenant);

impl<'a> Webhook<'a> {
    async fn of(tenant: &'a Tenant) -> Self {
        let rule = json!({ "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["configmaps"] });
        let configuration = json!({ "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": { "name": tenant.name }, "webhooks": [{
            "name": "guard.example.com", "rules": [rule], "failurePolicy": "Fail", "sideEffects": "None", "timeoutSeconds": 2,
            "admissionReviewVersions": ["v1"],
            "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": tenant.name } },
            "clientConfig": { "service": { "namespace": tenant.name, "name": "shop", "port": 80 } },
        }]});
        tenant.cluster.kubectl_reads(&["create", "--filename", "-"], &configuration.to_string());
        let webhook = Self(tenant);
        let maps: Api<ConfigMap> = tenant.api();
        let probe: ConfigMap = serde_json::from_value(json!({ "metadata": { "name": "probe" } })).expect("a ConfigMap");
        let dry_run = PostParams { dry_run: true, ..PostParams::default() };
        wait_for("the webhook is asked", SOON, async || match maps.create(&dry_run, &probe).await {
            Ok(_) => Err("it is not".to_owned()),
            Err(error) if error.to_string().contains("failed calling webhook") => Ok(()),
            Err(error) => Err(error.to_string()),
        })
        .await;
        webhook
    }
}

impl Drop for Webhook<'_> {
    fn drop(&mut self) {
        let name = &self.0.name;
        self.0.cluster.kubectl(&["delete", "validatingwebhookconfiguration", name, "--ignore-not-found"]);
    }
}

/// The plan's words about the lost ConfigMap.
async fn planned(tenant: &Tenant, restore: &str) -> serde_json::Value {
    let status = tenant.restored(restore).await;
    let run = status.operation_run.expect("status.operationRun");
    let reports: Api<OperationReport> = tenant.api();
    let reports = reports.list(&Default::default()).await.expect("reports can be listed").items;
    let of_run = reports.into_iter().filter(|report| report.spec.run.name == run.name);
    let mut items = of_run.flat_map(|report| report.spec.plan);
    let item = items.find(|item| item.item_id == "core/ConfigMap/shop-settings").expect("an item of the plan");
    serde_json::to_value(item).expect("JSON")
}

#[tokio::test]
async fn what_a_webhook_holds_up_is_written_once_it_lets_it_pass_and_the_rest_does_not_wait() {
    let tenant = Tenant::with_a_captured_shop("unready").await;
    tenant.damage().await;
    let webhook = Webhook::of(&tenant).await;

    // A preview waits for nobody. Whether the restore itself may bring the webhook back makes the difference.
    tenant.restore("alone", "nightly", json!({ "dryRun": true, "items": [{ "kind": "ConfigMap" }] })).await;
    let alone = planned(&tenant, "alone").await;
    assert_eq!(
        (&alone["action"], &alone["reason"]["code"]),
        (&json!("conflict"), &json!("WebhookUnavailable")),
        "{alone}"
    );
    assert!(alone["reason"]["message"].as_str().is_some_and(|words| words.contains("guard.example.com")), "{alone}");
    tenant.restore("look", "nightly", json!({ "dryRun": true, "existingResourcePolicy": "update" })).await;
    let look = planned(&tenant, "look").await;
    assert_eq!((&look["action"], &look["warnings"][0]["code"]), (&json!("create"), &json!("NotTried")), "{look}");

    tenant.restore("put-back", "nightly", json!({ "preview": { "name": "look" } })).await;
    let services: Api<Service> = tenant.api();
    wait_for("what comes after ConfigMaps is back", SOON, async || {
        services.get("shop").await.map(drop).map_err(|error| error.to_string())
    })
    .await;
    let restores: Api<RestoreRun> = tenant.api();
    let maps: Api<ConfigMap> = tenant.api();
    assert!(maps.get_opt("shop-settings").await.expect("ConfigMaps can be read").is_none());
    assert_ne!(restores.get("put-back").await.expect("it is there").status_or_default().phase, Phase::Completed);
    drop(webhook);
    let status = tenant.restored("put-back").await;
    assert_eq!(status.outcome, Outcome::Succeeded, "{status:#?}");
    assert_eq!(maps.get("shop-settings").await.expect("it is back").data.expect("data")["currency"], "EUR");
}
