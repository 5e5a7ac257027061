//! Which objects of an inventory no backup set holds, over sets that were captured into a real repository.

use super::{
    api::{Answer, RUN_UID, object, objects, refusal},
    compare::{Tenant, rotten},
    support::{environment, inputs_with},
};
use crate::repository::support::faults::{Fault, Request};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::io::ErrorKind;
use tenantatlas::{
    api::{Outcome, coverage::BackupCoverage, result::TerminationResult},
    clock::Clock,
    operations::{
        capture,
        inventory::{
            self,
            coverage::{self, Asked},
        },
    },
    repository::{RusticRepository, WriterPermit},
    worker::failure::Failure,
};

#[derive(Clone, Copy)]
struct At(Timestamp);

impl Clock for At {
    fn now(&self) -> Timestamp {
        self.0
    }
}

/// So long after now.
fn after(hours: i64) -> At {
    At(Timestamp::now() + SignedDuration::from_hours(hours))
}

#[allow(clippy::needless_pass_by_value, reason = "called with literals")]
impl Tenant {
    /// Takes an inventory with these inputs.
    async fn cover(&self, run_uid: &str, clock: At, inputs: Value) -> Result<TerminationResult, Failure> {
        let repository = self.pod.repository().await?;
        self.cover_in(&repository, run_uid, clock, inputs).await
    }

    async fn cover_in(
        &self,
        repository: &RusticRepository,
        run_uid: &str,
        clock: At,
        inputs: Value,
    ) -> Result<TerminationResult, Failure> {
        self.api.forget_reports();
        let mut environment = environment(inputs_with(inputs), None);
        run_uid.clone_into(&mut environment.identity.run_uid);
        let (client, run) = (self.api.client(), serde_json::from_value(self.api.run()).unwrap());
        let permit = WriterPermit::without_maintenance();
        inventory::sync(&client, &environment, repository, &run, &clock, permit).await
    }

    /// Captures a selection as a set, at another time than now.
    async fn capture_at(&mut self, name: &str, clock: At, selection: Value) {
        let mut environment = environment(json!({"repository": "main", "selection": selection}), None);
        environment.identity.run_uid = format!("run-of-{name}");
        let repository = self.pod.repository().await.unwrap();
        let (client, run) = (self.api.client(), serde_json::from_value(self.api.run()).unwrap());
        let permit = WriterPermit::without_maintenance();
        let captured = capture::capture(&client, &environment, &repository, &run, &clock, permit).await.unwrap();
        self.add_set(name, &captured.context.snapshot.unwrap().id, json!({"selection": selection}));
    }

    /// `item reason` of each row.
    fn uncovered(&self) -> Vec<String> {
        let rows = |report: &Value| report["spec"]["uncovered"].as_array().cloned().unwrap_or_default();
        let text = |row: Value| format!("{} {}", row["itemId"].as_str().unwrap(), row["reason"].as_str().unwrap());
        self.api.reports().values().flat_map(rows).map(text).collect()
    }
}

fn covered(result: &TerminationResult) -> BackupCoverage {
    assert_eq!(result.outcome, Some(Outcome::Succeeded), "{result:?}");
    let coverage = *result.context.coverage.clone().unwrap();
    assert_eq!(coverage.reasons.iter().map(|counted| counted.count).sum::<i64>(), coverage.uncovered);
    coverage
}

/// The lists of a kind are refused.
fn refused(path: &'static str) -> impl Fn(&http::Uri, usize) -> Option<Answer> {
    move |uri, _| uri.path().ends_with(path).then(|| refusal(403, "Forbidden"))
}

#[tokio::test]
async fn each_object_that_no_set_holds_is_named_with_the_reason() {
    let mut tenant = Tenant::on_monday().await;
    tenant.sets.clear();
    let labelled = |name: &str| {
        let mut object = object(name);
        object["metadata"]["labels"] = json!({"tenantatlas.io/exclude-from-backup": "true"});
        object
    };
    tenant.api.serve("example.com", "v1", "Widget", "widgets", objects(2));
    tenant.api.fail(refused("/widgets"));
    tenant.capture("nightly", json!({"excludeKinds": ["Secret"], "excludeNames": ["item-00002"]}), "partial").await;
    tenant.api.heal();
    let mut new = object("new");
    new["metadata"]["creationTimestamp"] = json!(Timestamp::now());
    let mut config_maps = objects(3);
    config_maps.extend([labelled("labelled"), object("lost"), new]);
    tenant.api.serve_config_maps(config_maps);
    let mut pod = object("of-a-controller");
    pod["metadata"]["ownerReferences"] = json!([{"kind": "ReplicaSet", "name": "web", "controller": true}]);
    tenant.api.serve("", "v1", "Pod", "pods", vec![pod]);

    let result = tenant.cover(RUN_UID, after(1), json!({"coverageDays": 7})).await.unwrap();
    assert_eq!(
        tenant.uncovered(),
        [
            "core/ConfigMap/item-00002 OutsideSelection",
            "core/ConfigMap/labelled ExcludedByLabel",
            "core/ConfigMap/lost NotInBackup",
            "core/ConfigMap/new NewerThanLastBackup",
            "core/Secret/a ExcludedKind",
            "core/Secret/b ExcludedKind",
            "example.com/Widget/item-00000 KindNotReadable",
            "example.com/Widget/item-00001 KindNotReadable",
        ]
    );
    let coverage = covered(&result);
    // Six ConfigMaps, two Secrets, a Deployment, two Widgets. A Pod of a controller does not count.
    assert_eq!((coverage.objects, coverage.uncovered, coverage.sets, coverage.days), (11, 8, 1, 7));
    let reasons: Vec<_> = coverage.reasons.iter().map(|counted| (counted.reason.as_str(), counted.count)).collect();
    assert_eq!(reasons[..2], [("ExcludedKind", 2), ("KindNotReadable", 2)]);
    assert!(!coverage.selected);
    let message = result.message.unwrap();
    assert!(
        message.contains("; no backup set of the last 7 days holds 8 of 11 objects (2 ExcludedKind, "),
        "{message}"
    );
    assert_eq!(tenant.api.writes(), Vec::<String>::new());
}

#[tokio::test]
async fn an_object_is_covered_by_any_set_of_the_days_whatever_the_newest_selects() {
    let mut tenant = Tenant::on_monday().await;
    tenant.sets.clear();
    tenant.capture_at("old", after(-200), json!({"includeKinds": ["Secret"]})).await;
    tenant.capture_at("middle", after(-100), json!({"includeKinds": ["Deployment.apps"]})).await;
    tenant.capture_at("new", after(-1), json!({"includeKinds": ["ConfigMap"], "includeNames": ["item-00000"]})).await;
    let told = async |name: &str, days: u16| {
        let result = tenant.cover(name, after(0), json!({"coverageDays": days})).await.unwrap();
        let coverage = covered(&result);
        (coverage.sets, tenant.uncovered())
    };
    let (one, two) =
        ("core/ConfigMap/item-00001 ExcludedKind".to_owned(), "core/ConfigMap/item-00002 ExcludedKind".to_owned());
    assert_eq!(told("in-nine-days", 9).await, (3, vec![one.clone(), two.clone()]));
    let (a, b) = ("core/Secret/a ExcludedKind".to_owned(), "core/Secret/b ExcludedKind".to_owned());
    assert_eq!(told("in-five-days", 5).await, (2, vec![one, two, a, b]));
    let (sets, rows) = told("in-a-day", 1).await;
    assert_eq!((sets, rows.len()), (1, 5));
    assert!(rows.iter().all(|row| row.ends_with(" OutsideSelection")), "a set of one object: {rows:?}");
}

#[tokio::test]
async fn sets_of_others_inventories_and_those_outside_the_days_hold_nothing() {
    let mut tenant = Tenant::on_monday().await;
    let all = |reason: &str| {
        let items = ["apps/Deployment/web", "core/ConfigMap/item-00000", "core/ConfigMap/item-00001"];
        let more = ["core/ConfigMap/item-00002", "core/Secret/a", "core/Secret/b"];
        items.into_iter().chain(more).map(|item| format!("{item} {reason}")).collect::<Vec<_>>()
    };
    let result = tenant.cover("covered", after(1), json!({"coverageDays": 1})).await.unwrap();
    assert_eq!((covered(&result).uncovered, tenant.uncovered()), (0, Vec::new()));
    assert!(result.message.unwrap().contains("a backup set of the last day holds each of 6 objects"));
    let result = tenant.cover("too-late", after(25), json!({"coverageDays": 1})).await.unwrap();
    assert_eq!((covered(&result).sets, tenant.uncovered()), (0, all("NoBackup")));
    let whole = tenant.sets.clone();
    for (of, change) in [
        ("another tenant", json!({"namespaceUid": "another"})),
        ("another repository", json!({"repository": {"name": "another"}})),
        ("an inventory", json!({"content": "Inventory"})),
        ("a snapshot that is lost", json!({"snapshot": "0".repeat(64)})),
    ] {
        tenant.sets.clone_from(&whole);
        tenant.change_set("monday", |set| {
            set["spec"].as_object_mut().unwrap().extend(change.as_object().cloned().unwrap());
        });
        let result = tenant.cover(of, after(1), json!({"coverageDays": 1})).await.unwrap();
        assert_eq!((covered(&result).sets, tenant.uncovered()), (0, all("NoBackup")), "{of}");
    }
    tenant.sets.clone_from(&whole);
    tenant.change_set("monday", |set| set["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z"));
    tenant.cover("going", after(1), json!({"coverageDays": 1})).await.unwrap();
    assert_eq!(tenant.uncovered(), all("NoBackup"));
}

#[tokio::test]
async fn an_object_that_is_stored_in_another_version_of_its_kind_or_under_an_odd_name_is_covered() {
    let mut tenant = Tenant::on_monday().await;
    tenant.sets.clear();
    let odd = ["a", "a-b", "a.b", "shop:reader", &"x".repeat(253)].map(object);
    tenant.api.serve("rbac.authorization.k8s.io", "v1", "Role", "roles", odd.into());
    let scalers = |version: &str| {
        tenant.api.serve("autoscaling", version, "HorizontalPodAutoscaler", "horizontalpodautoscalers", objects(2));
    };
    scalers("v1");
    tenant.capture_at("nightly", after(-1), json!({})).await;
    tenant.api.serve("autoscaling", "v1", "HorizontalPodAutoscaler", "horizontalpodautoscalers", Vec::new());
    tenant.api.serve("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers", objects(2));
    let result = tenant.cover(RUN_UID, after(0), json!({"coverageDays": 1})).await.unwrap();
    assert_eq!((covered(&result).uncovered, tenant.uncovered()), (0, Vec::new()));
}

#[tokio::test]
async fn an_inventory_of_a_selection_says_so_and_without_days_no_set_is_looked_at() {
    let tenant = Tenant::on_monday().await;
    let selection = json!({"includeKinds": ["Secret"]});
    let result = tenant.cover("some", after(1), json!({"coverageDays": 3, "selection": selection})).await.unwrap();
    let coverage = covered(&result);
    assert_eq!((coverage.objects, coverage.uncovered, coverage.selected), (2, 0, true));
    let lists = || tenant.api.requests().iter().filter(|request| request.contains("/backupsets")).count();
    let before = lists();
    assert_eq!(before, 1);
    let result = tenant.cover("plain", after(1), json!({})).await.unwrap();
    assert_eq!((result.context.coverage, tenant.uncovered()), (None, Vec::new()));
    assert!(!result.message.unwrap().contains("backup set"));
    assert_eq!(lists(), before);
    for days in [0, 366] {
        let failure = tenant.cover("odd", after(1), json!({"coverageDays": days})).await.unwrap_err();
        assert_eq!((failure.reason.as_str(), failure.exit_code()), ("InvalidInputs", 40));
        assert!(failure.message.contains("inputs.coverageDays"), "{failure}");
    }
}

#[tokio::test]
async fn an_attempt_after_a_crash_finds_the_same_although_there_are_newer_sets() {
    let mut tenant = Tenant::on_monday().await;
    tenant.api.serve_config_maps(vec![object("item-00000"), object("lost")]);
    let (clock, inputs) = (after(1), json!({"coverageDays": 7}));
    // The snapshot is recorded, and the report cannot be written.
    tenant.api.fail(|uri, _| uri.path().ends_with("/operationreports").then_some(Answer::Broken));
    let failure = tenant.cover(RUN_UID, clock, inputs.clone()).await.unwrap_err();
    assert_eq!(failure.exit_code(), 1, "{failure}");
    tenant.api.heal();
    let unworded = |result: TerminationResult| TerminationResult { message: None, ..result };
    let second = tenant.cover(RUN_UID, after(2), inputs.clone()).await.unwrap();
    let (rows, reports) = (tenant.uncovered(), tenant.api.reports());
    assert_eq!(rows, ["core/ConfigMap/lost NotInBackup"]);
    assert_eq!(covered(&second).taken_at.as_second(), clock.0.as_second());
    // A set is recorded meanwhile, which holds it.
    tenant.capture("later", json!({}), "full").await;
    let recorded = (clock.0 + SignedDuration::from_secs(5)).to_string();
    tenant.change_set("later", |set| set["metadata"]["creationTimestamp"] = json!(recorded));
    let third = tenant.cover(RUN_UID, after(2), inputs.clone()).await.unwrap();
    assert_eq!(unworded(third), unworded(second));
    assert_eq!((tenant.uncovered(), tenant.api.reports()), (rows, reports));
    let next = tenant.cover("next", after(2), inputs).await.unwrap();
    assert_eq!((covered(&next).uncovered, covered(&next).sets), (0, 2), "the next run sees it");
}

#[tokio::test]
async fn equal_directories_of_several_sets_are_read_once_and_older_sets_only_while_something_is_missing() {
    let mut tenant = Tenant::on_monday().await;
    for day in 0..12 {
        tenant.api.change("Deployment", "web", |object| object["spec"]["replicas"] = json!(100 + day));
        tenant.capture(&format!("day-{day:02}"), json!({}), "full").await;
    }
    // All sets have the same Secrets, and none has this one.
    let mut secrets = tenant.api.objects_of("Secret");
    secrets.push(object("lost"));
    tenant.api.serve("", "v1", "Secret", "secrets", secrets);
    let taken = tenant.cover(RUN_UID, after(1), json!({})).await.unwrap().context.snapshot.unwrap();
    let repository = tenant.pod.repository().await.unwrap();
    let looked = async |tenant: &Tenant, snapshot: &str| {
        let asked = Asked { snapshot, days: 7, selected: false };
        let environment = environment(json!({"repository": "main"}), None);
        let found = coverage::look(&tenant.api.client(), &environment, &repository, asked).await.unwrap();
        (found.coverage().sets, found.coverage().uncovered, found.directories())
    };
    assert_eq!(looked(&tenant, &taken.id).await, (13, 1, 3), "one directory of each kind");
    let deployments = ["web", "other"].map(object);
    tenant.api.serve("apps", "v1", "Deployment", "deployments", deployments.into());
    let taken = tenant.cover("another", after(1), json!({})).await.unwrap().context.snapshot.unwrap();
    assert_eq!(looked(&tenant, &taken.id).await, (13, 2, 15), "Deployments are others in each set");
}

#[tokio::test]
async fn what_is_damaged_in_a_set_holds_nothing_and_a_store_that_fails_is_tried_again() {
    let tenant = Tenant::on_monday().await;
    let inputs = json!({"coverageDays": 7});
    let before = tenant.pod.packs();
    tenant.cover(RUN_UID, after(1), inputs.clone()).await.unwrap();
    let mut uncovered = 0;
    for pack in &before {
        let good = std::fs::read(pack).unwrap();
        std::fs::write(pack, rotten(&good)).unwrap();
        let result = tenant.cover(RUN_UID, after(1), inputs.clone()).await.unwrap();
        uncovered += covered(&result).uncovered;
        assert!(tenant.uncovered().iter().all(|row| row.ends_with(" NotInBackup")), "{:?}", tenant.uncovered());
        std::fs::write(pack, good).unwrap();
    }
    assert!(uncovered > 0, "the first blob of a pack is an object, or the files of a kind");
    // What the inventory stored can be read.
    let of_sets: Vec<String> =
        before.iter().map(|pack| pack.file_name().unwrap().to_string_lossy().into_owned()).collect();
    let times_out = move |request, path: &str| {
        let is_of_a_set = of_sets.iter().any(|pack| path.ends_with(pack.as_str()));
        (request == Request::Get && is_of_a_set).then_some(Fault::Io(ErrorKind::TimedOut))
    };
    let repository = tenant.pod.repository_behind(times_out).await;
    let failure = tenant.cover_in(&repository, RUN_UID, after(1), inputs).await.unwrap_err();
    assert_eq!((failure.reason.as_str(), failure.exit_code()), ("StoreFailed", 1), "{failure}");
}
