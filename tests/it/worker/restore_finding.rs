//! Restores that put back the item of a finding, or one path of it.

use super::{
    api::object,
    restore::{Tenant, counts},
};
use serde_json::{Value, json};
use tenantatlas::api::Outcome;

fn finding(path: Option<&str>) -> Value {
    let mut finding = json!({"name": "drift-0"});
    if let Some(path) = path {
        finding["path"] = json!(path);
    }
    finding
}

/// A tenant in which a ConfigMap and a Deployment were changed at two places each.
async fn drifted() -> Tenant {
    let tenant = Tenant::usual().await;
    tenant.api.change("ConfigMap", "item-00001", |object| object["data"] = json!({"number": "x", "more": "y"}));
    tenant.api.change("Deployment", "web", |object| {
        object["spec"]["replicas"] = json!(7);
        object["spec"]["template"]["spec"]["containers"][0]["image"] = json!("web:2");
    });
    tenant
}

fn of<'a>(objects: &'a [Value], name: &str) -> &'a Value {
    objects.iter().find(|object| object["metadata"]["name"] == name).expect(name)
}

#[tokio::test]
async fn the_item_of_a_finding_is_previewed_and_put_back_and_nothing_else_is() {
    let mut tenant = drifted().await;
    tenant.of_finding("apps/Deployment/web");
    let spec = |more: Value| {
        let mut spec = json!({"finding": finding(None)});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec
    };
    tenant.previewed(spec(json!({"dryRun": true}))).await;
    let applied = tenant.apply(spec(json!({"dryRun": false, "preview": {"name": "look"}}))).await.unwrap();
    assert_eq!((applied.outcome, counts(&applied).succeeded, counts(&applied).total), (Some(Outcome::Succeeded), 1, 1));
    assert_eq!(tenant.results(), ["apps/Deployment/web: done"]);
    let web = tenant.api.objects_of("Deployment");
    assert_eq!(of(&web, "web")["spec"]["replicas"], 2);
    assert_eq!(of(&web, "web")["spec"]["template"]["spec"]["containers"][0]["image"], "web:1");
    assert_eq!(of(&tenant.api.objects_of("ConfigMap"), "item-00001")["data"]["more"], "y", "it is not of the finding");
    // Once more: nothing is left to do.
    tenant.next_run();
    let again = tenant.apply(spec(json!({"dryRun": false}))).await.unwrap();
    assert_eq!((tenant.results(), counts(&again).succeeded), (vec!["apps/Deployment/web: unchanged".to_owned()], 1));
}

#[tokio::test]
async fn one_path_of_a_finding_is_put_back_and_the_rest_of_the_object_stays_as_it_is() {
    let mut tenant = drifted().await;
    tenant.of_finding("apps/Deployment/web");
    let path = "spec.template.spec.containers[web].image";
    tenant.previewed(json!({"finding": finding(Some(path)), "dryRun": true})).await;
    let diff = tenant.planned();
    assert!(diff.is_empty(), "the next run has no plan of its own");
    let applied = tenant
        .apply(json!({"finding": finding(Some(path)), "dryRun": false, "preview": {"name": "look"}}))
        .await
        .unwrap();
    assert_eq!(applied.outcome, Some(Outcome::Succeeded), "{applied:?}");
    let web = of(&tenant.api.objects_of("Deployment"), "web").clone();
    assert_eq!(web["spec"]["template"]["spec"]["containers"][0]["image"], "web:1");
    assert_eq!(web["spec"]["replicas"], 7, "another path");
    // The run that is killed after the write is followed by one that finds it done.
    let again = tenant.apply_again().await.unwrap();
    assert_eq!((counts(&again).succeeded, counts(&again).failed), (1, 0), "{again:?}");
    // A path that differs no more changes nothing; an object that is gone has no paths.
    tenant.next_run();
    let same = tenant.apply(json!({"finding": finding(Some(path)), "dryRun": false})).await.unwrap();
    assert_eq!(
        (tenant.results(), same.outcome),
        (vec!["apps/Deployment/web: unchanged".to_owned()], Some(Outcome::Succeeded))
    );
    tenant.api.serve("apps", "v1", "Deployment", "deployments", vec![]);
    tenant.next_run();
    let gone = tenant.apply(json!({"finding": finding(Some(path)), "dryRun": false})).await.unwrap();
    assert_eq!(tenant.results(), ["apps/Deployment/web: failed PathNotRestorable"]);
    assert!(gone.failures[0].message.contains("leave out path"), "{gone:?}");
}

#[tokio::test]
async fn an_item_that_was_added_is_deleted_by_a_preview_with_prune_alone_and_comes_back_by_the_undo() {
    let mut tenant = drifted().await;
    let mut added = object("added");
    added["data"] = json!({"a": "b"});
    tenant.api.serve_config_maps(vec![added, object("other")]);
    tenant.of_finding("core/ConfigMap/added");
    tenant.previewed(json!({"finding": finding(None), "dryRun": true, "prune": true})).await;
    let applied =
        tenant.apply(json!({"finding": finding(None), "dryRun": false, "preview": {"name": "look"}})).await.unwrap();
    assert_eq!(tenant.results(), ["core/ConfigMap/added: done"], "{applied:?}");
    let names = |tenant: &Tenant| -> Vec<Value> {
        tenant.api.objects_of("ConfigMap").iter().map(|object| object["metadata"]["name"].clone()).collect()
    };
    assert_eq!(names(&tenant), [json!("other")], "no other object of the baseline or of the tenant is touched");
    assert!(applied.context.undo_set.is_some());
}

#[tokio::test]
async fn a_star_in_the_name_that_a_finding_has_selects_no_other_item() {
    let mut tenant = drifted().await;
    for item in ["core/ConfigMap/*", "core/ConfigMap/item-0000*"] {
        tenant.of_finding(item);
        tenant.next_run();
        let refused = tenant.apply(json!({"finding": finding(None), "dryRun": false})).await.unwrap_err();
        assert_eq!(refused.reason, "NothingSelected", "{refused:?}");
    }
    assert_eq!(tenant.api.writes(), Vec::<String>::new());
}

#[tokio::test]
async fn a_run_that_has_no_item_of_a_finding_does_not_restore_the_whole_set_instead() {
    let tenant = drifted().await;
    // As a forged or old run would be: its inputs name no item, and the restore names no set.
    let spec = json!({"finding": finding(None), "backupSet": {"name": "nightly"}, "dryRun": false});
    let refused = tenant.apply(spec).await.unwrap_err();
    assert_eq!(refused.reason, "InvalidRestore", "{refused:?}");
    assert_eq!(tenant.api.writes(), Vec::<String>::new());
}
