//! A backup of one object, as a console asks for it.

use crate::support::{SOON, Tenant};
use futures::future::join_all;
use kube::api::ListParams;
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};
use tenantatlas::api::{BackupSet, OperationRun, OperationRunStatus, Outcome};

impl Tenant {
    /// Has one object captured by a person, and waits for the end.
    async fn item_captured(&self, client: &Client, name: &str, item: &str) -> OperationRunStatus {
        self.capture_item(("ola", client), name, item).await;
        self.completed(name, SOON).await
    }

    /// Has one object captured by a person.
    async fn capture_item(&self, (user, client): (&str, &Client), name: &str, item: &str) {
        let inputs = json!({ "repository": "main", "item": item });
        let run: Value = json!({ "metadata": { "name": name },
            "spec": { "type": "item.capture", "inputs": inputs, "initiator": { "username": user } } });
        let created = self.create_as::<OperationRun>(client.clone(), run).await;
        created.unwrap_or_else(|error| panic!("run {name} is refused: {error}"));
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

#[tokio::test]
async fn who_captures_the_same_object_at_the_same_time_shares_one_job_and_one_set() {
    let tenant = Tenant::new("capture-item-at-once").await;
    tenant.apply(crate::restore::SHOP);
    let restic = tenant.repository("main").await;
    let role = &["tenantatlas-tenant-operator"];
    let (ola, ada) = (tenant.person("ola", role).await, tenant.person("ada", role).await);
    let jobs = tenant.jobs_created();
    let names = ["first", "second", "third", "fourth"];
    let start = |(name, who)| tenant.capture_item(who, name, "core/ConfigMap/shop-settings");
    let people = [("ola", &ola), ("ada", &ada)];
    join_all(names.into_iter().zip(people.into_iter().cycle()).map(start)).await;
    let ends = join_all(names.map(|name| tenant.completed(name, SOON))).await;

    let sets = tenant.api::<BackupSet>().list(&ListParams::default()).await.expect("sets can be listed").items;
    let [set] = sets.as_slice() else { panic!("one set: {sets:#?}") };
    let coverage = serde_json::to_value(set.spec.coverage).expect("JSON");
    assert_eq!((coverage, set.status.as_ref().and_then(|status| status.items)), (json!("partial"), Some(1)));
    for (name, end) in names.iter().zip(&ends) {
        assert_eq!(end.outcome, Outcome::Succeeded, "{name}: {end:#?}");
        assert_eq!(end.context.backup_set, Some(set.name_any()), "{name}: {end:#?}");
    }
    let workers: Vec<_> = names.iter().zip(&ends).filter(|(_, end)| end.job.is_some()).collect();
    let [(worker, _)] = workers.as_slice() else { panic!("one of them has a Job: {ends:#?}") };
    assert_eq!(set.spec.run.name, **worker);
    for end in ends.iter().filter(|end| end.job.is_none()) {
        assert_eq!(end.joined.as_ref().map(|joined| &joined.uid), Some(&set.spec.run.uid), "{end:#?}");
    }
    assert_eq!(tenant.jobs_created() - jobs, 1);
    assert_eq!(restic.snapshots().len(), 1);
}
