//! What a comparison with a baseline makes of bad input: baselines that cannot be used or cannot tell, selections of nothing and
//! of everything, kinds that are gone or have another version, long names, objects that were made again.

use super::{
    api::{object, objects},
    drift::{DRIFTED, Tenant},
};
use serde_json::{Value, json};
use tenantatlas::api::{Outcome, finding::MAX_FINDINGS};

fn widget(name: &str, size: i64) -> Value {
    let mut widget = object(name);
    widget["spec"] = json!({"size": size});
    widget
}

impl Tenant {
    /// Serves Widgets in one version.
    fn serve_widgets(&self, version: &str, widgets: Vec<Value>) {
        self.api.unserve("Widget");
        self.api.serve("example.com", version, "Widget", "widgets", widgets);
    }

    /// With two Widgets, captured as `widgets`.
    async fn with_widgets(version: &str) -> Self {
        let mut tenant = Self::new().await;
        tenant.serve_widgets(version, vec![widget("a", 1), widget("b", 1)]);
        tenant.capture("widgets", json!({}), "full").await;
        tenant
    }
}

const WIDGETS: &str = "example.com/Widget/: not_compared";

fn of_widgets() -> Value {
    json!({"baseline": {"backupSet": "widgets"}})
}

#[tokio::test]
async fn a_set_of_a_selection_says_nothing_of_other_items_and_everything_of_its_own() {
    let mut tenant = Tenant::new().await;
    let maps = json!({"includeKinds": ["ConfigMap"]});
    tenant.capture("maps", maps.clone(), "partial").await;
    tenant.drift();
    let mut more = tenant.api.objects_of("ConfigMap");
    more.push(object("new-map"));
    tenant.api.serve_config_maps(more);
    // Of all kinds: what the set holds is compared, what it lacks may have existed.
    let drift = tenant.counts(json!({"baseline": {"backupSet": "maps"}})).await;
    assert_eq!((drift.added, drift.removed, drift.modified), (0, 1, 1));
    // The Secrets, the Deployments and the autoscaler, and the ConfigMap that is new.
    assert_eq!(drift.not_compared, 6, "{:?}", tenant.rows());
    assert!(tenant.rows().contains(&"core/ConfigMap/new-map: not_compared BaselineOfAnotherScope".to_owned()));
    // Of the same selection: it would hold what it lacks.
    let drift = tenant.counts(json!({"baseline": {"backupSet": "maps"}, "selection": maps})).await;
    assert_eq!((drift.added, drift.removed, drift.modified, drift.not_compared), (1, 1, 1, 0));
}

#[tokio::test]
async fn a_damaged_set_is_no_baseline_by_default_and_by_name_it_is_read_as_far_as_it_can_be() {
    let mut tenant = Tenant::new().await;
    tenant.drift();
    tenant.run(json!({})).await.unwrap();
    tenant.api.take_finding_writes();
    let damaged = json!({"type": "Ready", "status": "False", "reason": "Damaged", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"});
    tenant.change_set(|set| set["status"] = json!({"conditions": [damaged]}));
    assert_eq!(tenant.run(json!({})).await.unwrap_err().reason, "NoBaseline");
    let named = json!({"baseline": {"backupSet": "base"}});
    assert_eq!(tenant.counts(named.clone()).await.drifted(), 5);
    // What it names is gone from the store.
    for pack in tenant.pod.packs() {
        std::fs::remove_file(pack).unwrap();
    }
    let failure = tenant.run(named).await.unwrap_err();
    assert!(failure.message.contains("backup set base"), "{failure:?}");
    assert_eq!(tenant.findings(), DRIFTED);
    assert_eq!(tenant.api.take_finding_writes(), Vec::<String>::new());
}

#[tokio::test]
async fn a_selection_of_nothing_finds_nothing_and_one_of_everything_all() {
    let tenant = Tenant::new().await;
    tenant.drift();
    for nothing in [json!({"includeNames": ["no-such-item"]}), json!({"includeKinds": ["Lease.coordination.k8s.io"]})] {
        let result = tenant.run(json!({"selection": nothing})).await;
        let drift = result.unwrap().context.drift.unwrap();
        assert_eq!((drift.drifted(), drift.same, drift.ignored, drift.not_compared), (0, 0, 0, 0), "{nothing}");
        assert_eq!(tenant.findings(), Vec::<String>::new());
    }
    let drift = tenant.counts(json!({"selection": {"excludeNames": ["no-such-item"]}})).await;
    assert_eq!((drift.drifted(), drift.not_compared), (5, 0));
    assert_eq!(tenant.findings(), DRIFTED);
}

#[tokio::test]
async fn items_of_a_kind_whose_definition_is_gone_are_removed_and_unknown_while_its_server_is_away() {
    let tenant = Tenant::with_widgets("v1").await;
    tenant.api.unserve("Widget");
    tenant.api.undiscovered("example.com", "v1");
    let away = tenant.run(of_widgets()).await.unwrap();
    let drift = away.context.drift.unwrap();
    assert_eq!((drift.removed, drift.not_compared, drift.unreadable), (0, 2, 1));
    assert_eq!(away.outcome, Some(Outcome::PartiallySucceeded));
    assert_eq!(tenant.findings(), Vec::<String>::new());

    let tenant = Tenant::with_widgets("v1").await;
    tenant.api.unserve("Widget");
    let gone = tenant.counts(of_widgets()).await;
    assert_eq!((gone.removed, gone.not_compared), (2, 0));
    assert_eq!(tenant.findings(), ["Widget/a removed medium", "Widget/b removed medium"]);
    // They are back, and the run finds that although no side lists the kind in the meantime.
    tenant.serve_widgets("v1", vec![widget("a", 1), widget("b", 1)]);
    assert_eq!(tenant.counts(of_widgets()).await.resolved, 2);
}

#[tokio::test]
async fn items_in_another_version_than_the_baseline_s_are_not_compared_and_never_modified() {
    let tenant = Tenant::with_widgets("v1beta1").await;
    tenant.serve_widgets("v1beta1", vec![widget("a", 2), widget("b", 1)]);
    assert_eq!(tenant.counts(of_widgets()).await.modified, 1);
    let found = tenant.findings();
    tenant.api.take_finding_writes();
    // After an upgrade that serves one version more, the old one is read.
    tenant.api.serve("example.com", "v1", "Widget", "widgets", vec![widget("a", 2), widget("b", 1)]);
    assert_eq!(tenant.counts(of_widgets()).await.modified, 1);
    // After the next one, which serves the old one no more, nothing is known.
    tenant.serve_widgets("v1", vec![widget("a", 3), widget("c", 1)]);
    let drift = tenant.counts(of_widgets()).await;
    assert_eq!((drift.drifted(), drift.not_compared, drift.resolved), (0, 2, 0));
    assert_eq!(tenant.rows(), [format!("{WIDGETS} OtherVersion")]);
    assert_eq!(tenant.findings(), found, "what was found stays");
    assert_eq!(tenant.api.take_finding_writes(), Vec::<String>::new());
}

#[tokio::test]
async fn items_with_the_longest_names_have_findings_and_reports() {
    let long = |letter: &str| letter.repeat(253);
    let mut tenant = Tenant::new().await;
    let mut maps = objects(3);
    maps.extend([object(&long("c")), object(&long("r"))]);
    tenant.api.serve_config_maps(maps);
    tenant.capture("long", json!({}), "full").await;
    let mut changed = object(&long("c"));
    changed["data"] = json!({"k".repeat(253): "v".repeat(2000)});
    let mut maps = objects(3);
    maps.extend([object(&long("a")), changed]);
    tenant.api.serve_config_maps(maps);
    let result = tenant.run(json!({"baseline": {"backupSet": "long"}})).await.unwrap();
    let drift = result.context.drift.clone().unwrap();
    assert_eq!((drift.added, drift.removed, drift.modified), (1, 1, 1));
    for (letter, change) in [("a", "added"), ("r", "removed"), ("c", "modified")] {
        let finding = tenant.finding(&long(letter));
        assert_eq!(finding["spec"]["change"], change);
        assert!(finding["metadata"]["name"].as_str().unwrap().len() <= 63, "{finding}");
    }
    assert_eq!(tenant.rows().len(), 3);
    assert!(result.to_message().len() <= 4096, "{}", result.to_message());
}

#[tokio::test]
async fn an_item_that_was_made_again_is_replaced_whatever_else_changed_until_it_is_the_baseline() {
    let mut tenant = Tenant::new().await;
    tenant.api.change("ConfigMap", "item-00001", |object| {
        object["metadata"]["uid"] = json!("another");
        object["data"] = json!({"of": "somebody else"});
    });
    tenant.api.change("ConfigMap", "item-00002", |object| object["metadata"]["uid"] = json!("another"));
    let drift = tenant.counts(json!({})).await;
    assert_eq!((drift.replaced, drift.modified, drift.added, drift.removed), (2, 0, 0, 0));
    let replaced = tenant.finding("item-00001");
    assert_eq!(replaced["spec"]["subject"]["uid"], "another");
    assert_eq!(replaced["spec"]["evidence"][0]["path"], "data.of");
    assert_eq!(tenant.counts(json!({})).await.replaced, 2, "it stays so");
    tenant.capture("later", json!({}), "full").await;
    let drift = tenant.counts(json!({"baseline": {"backupSet": "later"}})).await;
    assert_eq!((drift.drifted(), drift.resolved), (0, 2));
}

#[tokio::test]
async fn more_drifted_items_than_findings_are_counted_and_only_so_many_written() {
    let tenant = Tenant::new().await;
    tenant.api.serve_config_maps(objects(MAX_FINDINGS + 203));
    let drift = tenant.counts(json!({})).await;
    assert_eq!((drift.added, drift.not_shown, drift.new), (1200, 200, 1000));
    assert_eq!(tenant.findings().len(), MAX_FINDINGS);
    tenant.api.take_finding_writes();
    assert_eq!(tenant.counts(json!({})).await.new, 0);
    assert_eq!(tenant.api.take_finding_writes(), Vec::<String>::new(), "the same ones are kept");
}
