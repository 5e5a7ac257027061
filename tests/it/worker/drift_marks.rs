//! Comparisons with the last backup, which read only what has changed since.

use super::{
    api::{object, objects},
    capture_marks::{apply, steps},
    drift::Tenant,
};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use tenantatlas::api::drift::Drift;

/// A tenant whose API server tells its version, with a full backup.
async fn tenant() -> Tenant {
    let mut tenant = Tenant::new().await;
    tenant.api.version("v1.36.3");
    tenant.api.serve_config_maps(objects(40));
    tenant.capture("newer", json!({}), "full").await;
    tenant
}

/// What a run reports of each difference, and its counts without those of findings, which depend on
/// what was found before.
async fn found(tenant: &Tenant, inputs: Value) -> (Vec<String>, Drift) {
    let counts = tenant.counts(inputs).await;
    (tenant.rows(), Drift { new: 0, reopened: 0, resolved: 0, ..counts })
}

fn of_newer() -> Value {
    json!({"baseline": {"backupSet": "newer"}})
}

#[tokio::test]
async fn objects_that_are_as_in_the_last_backup_are_not_read_and_all_others_are_found() {
    let tenant = tenant().await;
    let (rows, counts) = found(&tenant, of_newer()).await;
    assert_eq!((rows.len(), counts.same), (0, 44), "{counts:?}");
    assert_eq!(tenant.api.take_metadata_lists(), 1, "of the ConfigMaps: the other kinds have few objects");

    let mut live = objects(40);
    live[3]["data"] = json!({"of": "somebody else"});
    live[3]["metadata"]["resourceVersion"] = json!("13");
    live[5] = object("item-00005");
    live[5]["metadata"]["uid"] = json!("another");
    live.remove(7);
    live.push(object("late"));
    tenant.api.serve_config_maps(live);
    tenant.api.take_requests();
    let quick = found(&tenant, of_newer()).await;
    let requests = tenant.api.take_requests();
    let whole = requests.iter().filter(|request| request.contains("/namespaces/acme/configmaps/")).count();
    assert_eq!((tenant.api.take_metadata_lists(), whole), (1, 3), "{requests:?}");
    let rows = [
        "core/ConfigMap/item-00003: changed",
        "core/ConfigMap/item-00005: changed Replaced",
        "core/ConfigMap/item-00007: removed",
        "core/ConfigMap/late: added",
    ];
    assert_eq!(quick.0.iter().map(String::as_str).collect::<BTreeSet<_>>(), rows.into());
    let mut inputs = of_newer();
    inputs["readAll"] = json!(true);
    assert_eq!(quick, found(&tenant, inputs).await);
    assert_eq!(tenant.api.take_metadata_lists(), 0);
}

#[tokio::test]
async fn an_older_backup_and_an_inventory_are_compared_by_reading_everything() {
    let mut tenant = tenant().await;
    tenant.capture("newest", json!({}), "full").await;
    tenant.inventory("inventory").await;
    tenant.api.take_metadata_lists();
    for baseline in [json!({"backupSet": "newer"}), json!({"backupSet": "inventory"})] {
        let (rows, counts) = found(&tenant, json!({"baseline": baseline})).await;
        assert_eq!((rows.len(), counts.same, tenant.api.take_metadata_lists()), (0, 44, 0));
    }
    let (_, counts) = found(&tenant, json!({"baseline": {"backupSet": "newest"}})).await;
    assert_eq!((counts.same, tenant.api.take_metadata_lists()), (44, 1));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn whatever_changes_is_found_as_by_a_comparison_that_reads_everything(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let tenant = tenant().await;
            let mut live = objects(40);
            apply(&mut live, &steps, 1);
            tenant.api.serve_config_maps(live);
            for selection in [json!({}), json!({"excludeNames": ["item-00001", "item-00002"]}), json!({"includeKinds": ["ConfigMap"]})] {
                let mut inputs = of_newer();
                inputs["selection"] = selection;
                let quick = found(&tenant, inputs.clone()).await;
                inputs["readAll"] = json!(true);
                assert_eq!(quick, found(&tenant, inputs).await);
            }
        });
    }
}
