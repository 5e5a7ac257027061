//! A backup of one object, as a console asks for it.

use crate::support::{SOON, Tenant};
use serde_json::{Value, json};
use tenantatlas::api::{BackupSet, OperationRun, OperationRunStatus, Outcome};

impl Tenant {
    /// Has one object captured by a person.
    async fn item_captured(&self, client: &kube::Client, name: &str, item: &str) -> OperationRunStatus {
        let inputs = json!({ "repository": "main", "item": item });
        let run: Value = json!({ "metadata": { "name": name },
            "spec": { "type": "item.capture", "inputs": inputs, "initiator": { "username": "ola" } } });
        let created = self.create_as::<OperationRun>(client.clone(), run).await;
        created.unwrap_or_else(|error| panic!("run {name} is refused: {error}"));
        self.completed(name, SOON).await
    }
}

#[tokio::test]
async fn a_tenant_captures_one_object_and_the_set_says_nothing_of_any_other() {
    let tenant = Tenant::with_a_captured_shop("capture-item").await;
    let ola = tenant.person("ola", &["tenantatlas-tenant-operator"]).await;
    let status = tenant.item_captured(&ola, "settings", "core/ConfigMap/shop-settings").await;
    assert_eq!(status.outcome, Outcome::Succeeded, "{status:#?}");
    let set = tenant.api::<BackupSet>().get(&status.context.backup_set.expect("a set")).await.expect("a set");
    let spec = serde_json::to_value(&set.spec).expect("JSON");
    assert_eq!((&spec["coverage"], &spec["selection"]["includeNames"]), (&json!("partial"), &json!(["shop-settings"])));
    assert_eq!(spec["selection"]["includeKinds"], json!(["ConfigMap"]));
    assert_eq!(set.status.expect("a status").items, Some(1));
    let none = tenant.item_captured(&ola, "none", "core/ConfigMap/no-such-map").await;
    assert_eq!((none.outcome, none.reason.as_deref()), (Outcome::Failed, Some("TargetNotFound")), "{none:#?}");
    let ours = tenant.item_captured(&ola, "ours", "tenantatlas.io/BackupSet/nightly").await;
    assert_eq!((ours.outcome, ours.reason.as_deref()), (Outcome::Failed, Some("InvalidInputs")), "{ours:#?}");
}
