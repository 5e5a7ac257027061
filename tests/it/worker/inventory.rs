//! Inventories in a real repository: what is recorded, what it costs, and what is read back.

use super::{
    api::{Api, RUN_UID, object, objects, parameter, refusal},
    support::{Pod, environment},
};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use tenantatlas::{
    api::{
        BackupSet, Outcome,
        backup_set::Content,
        inventory::Completeness::{self, Complete, Forbidden, Partial, Undiscovered},
        item::GroupKind,
        outcome::SummaryCounts,
        result::{CapturedSnapshot, TerminationResult},
        selection::Selection,
    },
    items::inventory::Record,
    operations::inventory::read::{Holdings, Recorded},
    repository::{CaptureOptions, Entry, ItemPath, Repository as _, WriterPermit, entries},
};

fn all() -> Value {
    json!({"repository": "main"})
}

fn snapshot_of(result: &TerminationResult) -> CapturedSnapshot {
    result.context.snapshot.clone().unwrap()
}

/// The set that the operator makes of a result.
fn set(snapshot: &CapturedSnapshot, selection: &Selection) -> BackupSet {
    let coverage = if selection.is_everything() && snapshot.incomplete.is_empty() { "full" } else { "partial" };
    serde_json::from_value(json!({
        "apiVersion": "tenantatlas.io/v1alpha1", "kind": "BackupSet", "metadata": {"name": "nightly"},
        "spec": {"repository": {"name": "main"}, "snapshot": snapshot.id, "namespaceUid": "namespace-uid",
            "run": {"name": "r", "uid": "u"}, "content": snapshot.content, "coverage": coverage, "selection": selection},
    }))
    .unwrap()
}

async fn open(pod: &Pod, snapshot: &CapturedSnapshot, selection: &Selection) -> Holdings {
    let repository = pod.repository().await.unwrap();
    Holdings::open(&repository, &set(snapshot, selection), &BTreeSet::new()).await.unwrap()
}

/// What is read back, by kind, with what is no item as text.
async fn read(holdings: &Holdings) -> BTreeMap<String, Vec<Result<Record, String>>> {
    let mut found = BTreeMap::new();
    for collection in holdings.collections() {
        let records: &mut Vec<_> = found.entry(collection.kind.kind.to_string()).or_default();
        let mut reading = holdings.read(collection);
        while let Some(batch) = reading.next().await.unwrap() {
            records.extend(batch.into_iter().map(|recorded| match recorded {
                Recorded::Item(record) => Ok(record),
                Recorded::Unreadable { name, problem } => Err(format!("{}: {problem}", name.unwrap_or_default())),
            }));
        }
        assert_eq!(reading.next().await.unwrap(), None, "an end stays one");
        records.sort_by_key(|record| record.as_ref().map(|record| record.name.clone()).unwrap_or_default());
    }
    found
}

fn kind(group: &str, kind: &str) -> GroupKind {
    GroupKind::new(group, kind)
}

/// Bytes of the files that are in the volume now and were not.
fn added(before: &BTreeMap<std::path::PathBuf, Vec<u8>>, pod: &Pod) -> usize {
    pod.files().iter().filter(|(path, _)| !before.contains_key(*path)).map(|(_, content)| content.len()).sum()
}

#[tokio::test]
async fn identity_and_digest_of_each_object_are_recorded_and_no_content() {
    let (api, pod) = (Api::new(), Pod::new());
    api.serve_config_maps(vec![object("a"), object("b")]);
    api.serve("apps", "v1", "Deployment", "deployments", vec![object("web")]);
    api.serve("", "v1", "Service", "services", Vec::new());
    let result = pod.inventory(&api, RUN_UID, all()).await.unwrap();
    assert_eq!(result.outcome, Some(Outcome::Succeeded));
    let counts = SummaryCounts { total: 3, processed: 3, succeeded: 3, failed: 0, skipped: 0 };
    assert_eq!(result.summary_counts, Some(counts));
    assert!(result.message.as_ref().unwrap().starts_with("recorded 3 items of 2 kinds"), "{:?}", result.message);
    let snapshot = snapshot_of(&result);
    assert_eq!((snapshot.content, snapshot.items, snapshot.items_by_kind["ConfigMap"]), (Content::Inventory, 3, 2));
    assert_eq!(
        pod.paths().await,
        [
            "apps/v1/Deployment.inventory/00000.json",
            "apps/v1/Deployment.inventory/collection.json",
            "core/v1/ConfigMap.inventory/00000.json",
            "core/v1/ConfigMap.inventory/collection.json",
            "core/v1/Service.inventory/collection.json",
        ]
    );
    let stored: Value = serde_json::from_str(&pod.content("core/v1/ConfigMap.inventory/00000.json").await).unwrap();
    let fields = |record: &Value| record.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(fields(&stored[0]), ["created", "digest", "name", "uid"]);
    assert_eq!((&stored[0]["name"], &stored[0]["uid"]), (&json!("a"), &json!("uid-of-a")));
    assert_eq!(snapshot.bytes, {
        let repository = pod.repository().await.unwrap();
        repository.list(&snapshot.id).await.unwrap().iter().map(|item| i64::try_from(item.size).unwrap()).sum::<i64>()
    });
    let holdings = open(&pod, &snapshot, &Selection::default()).await;
    assert_eq!(holdings.scope_key(), Some(Selection::default().scope_key().as_str()));
    assert_eq!(holdings.find(&kind("", "ConfigMap")).unwrap().items(), 2);
    let tags = pod.repository().await.unwrap().snapshots().await.unwrap().remove(0).tags;
    assert!(tags.contains(&"inventory".to_owned()), "{tags:?}");
    assert!(tags.contains(&format!("scope={}", Selection::default().scope_key())), "{tags:?}");
    assert_eq!(holdings.completeness(&kind("", "Service")), Some(Completeness::Complete), "it has none");
    assert_eq!(holdings.completeness(&kind("", "Event")), None, "nobody asked for it");
}

#[tokio::test]
async fn a_backup_of_the_same_objects_reads_as_the_inventory_of_them() {
    let (api, pod) = (Api::new(), Pod::new());
    let mut odd = object("a-b");
    odd["status"] = json!({"seen": 1});
    api.serve_config_maps(vec![object("a"), odd, object("a.b"), object("b")]);
    api.serve(
        "rbac.authorization.k8s.io",
        "v1",
        "Role",
        "roles",
        vec![object("shop:reader"), object(&"x".repeat(253))],
    );
    let inventory = snapshot_of(&pod.inventory(&api, "another-run", all()).await.unwrap());
    let backup = snapshot_of(&pod.capture_all(&api).await.unwrap());
    let everything = Selection::default();
    let (of_inventory, of_backup) = (open(&pod, &inventory, &everything).await, open(&pod, &backup, &everything).await);
    assert_eq!(of_inventory.scope_key(), of_backup.scope_key());
    let records = read(&of_inventory).await;
    assert_eq!(records["ConfigMap"].len(), 4);
    assert_eq!(records["Role.rbac.authorization.k8s.io"].len(), 2);
    assert_eq!(records, read(&of_backup).await);
    // Time passes, and a controller writes; nothing that counts changes. Then something does.
    api.change("ConfigMap", "b", |object| object["metadata"]["resourceVersion"] = json!("99"));
    api.change("ConfigMap", "a-b", |object| object["status"]["seen"] = json!(2));
    let again = snapshot_of(&pod.inventory(&api, "third-run", all()).await.unwrap());
    assert_eq!(read(&open(&pod, &again, &everything).await).await, records);
    api.change("ConfigMap", "b", |object| object["data"]["of"] = json!("another"));
    let changed = snapshot_of(&pod.inventory(&api, "fourth-run", all()).await.unwrap());
    let changed = read(&open(&pod, &changed, &everything).await).await;
    let differ = |name: &&Result<Record, String>| !records["ConfigMap"].contains(name);
    let differ: Vec<_> =
        changed["ConfigMap"].iter().filter(differ).map(|record| &record.as_ref().unwrap().name).collect();
    assert_eq!(differ, ["b"]);
}

#[tokio::test]
async fn an_unchanged_inventory_adds_next_to_nothing_and_a_changed_item_one_small_chunk() {
    let (api, pod) = (Api::new(), Pod::new());
    let mut items = objects(5000);
    api.serve_config_maps(items.clone());
    api.serve("", "v1", "Secret", "secrets", objects(40));
    let first = snapshot_of(&pod.inventory(&api, "first", all()).await.unwrap());
    assert_eq!(first.items, 5040);
    // The pages of a list do not count, nor the order in a page.
    let before = pod.files();
    items.chunks_mut(77).for_each(<[Value]>::reverse);
    api.serve_config_maps(items);
    api.pages_of(77);
    let second = pod.inventory(&api, "second", all()).await.unwrap();
    assert!(second.message.as_ref().unwrap().contains("nothing changed"), "{:?}", second.message);
    let unchanged = added(&before, &pod);
    assert!(unchanged < 1500, "an unchanged inventory adds {unchanged} bytes: a snapshot alone");
    let before = pod.files();
    api.change("ConfigMap", "item-02500", |object| object["data"]["of"] = json!("another"));
    let third = pod.inventory(&api, "third", all()).await.unwrap();
    assert!(!third.message.unwrap().contains("nothing changed"));
    let changed = added(&before, &pod);
    println!("first {} bytes, unchanged {unchanged}, changed {changed}", first.added_bytes);
    assert!(changed < 32 * 1024, "one of 5,040 items changed, which adds {changed} bytes");
    assert_eq!(pod.snapshots().await, 3);
}

#[tokio::test]
async fn each_kind_says_whether_it_is_complete_and_why_not() {
    let (api, pod) = (Api::new(), Pod::new());
    api.serve_config_maps(vec![object("a"), json!({"metadata": {}})]);
    api.serve("", "v1", "Secret", "secrets", objects(3));
    api.serve("", "v1", "Service", "services", objects(35));
    api.serve("velero.io", "v1", "Backup", "backups", objects(3));
    api.serve("apps", "v1", "Deployment", "deployments", vec![object("web")]);
    api.undiscovered("dead.example.com", "v1");
    api.pages_of(10);
    api.fail(|uri, _| match uri.path() {
        path if path.ends_with("/secrets") || path.ends_with("/backups") => Some(refusal(403, "Forbidden")),
        path if path.ends_with("/services") => parameter(uri, "continue").map(|_| refusal(500, "InternalError")),
        _ => None,
    });
    let result = pod.inventory(&api, RUN_UID, all()).await.unwrap();
    assert_eq!(result.outcome, Some(Outcome::PartiallySucceeded));
    let snapshot = snapshot_of(&result);
    let told: Vec<_> =
        snapshot.incomplete.iter().map(|kind| (kind.kind.as_str(), kind.completeness, kind.reason.as_str())).collect();
    let mut expected = vec![
        ("ConfigMap", Partial, "Unreadable"),
        ("Secret", Forbidden, "Forbidden"),
        ("Service", Partial, "Unlistable"),
        ("-.dead.example.com", Undiscovered, "Undiscovered"),
        ("Backup.velero.io", Forbidden, "KindNotReadable"),
    ];
    assert_eq!(told, expected);
    let holdings = open(&pod, &snapshot, &Selection::default()).await;
    let known = |group: &str, of: &str| holdings.completeness(&kind(group, of));
    assert_eq!(known("apps", "Deployment"), Some(Complete));
    assert_eq!([known("", "Secret"), known("velero.io", "Backup")], [Some(Forbidden); 2]);
    assert_eq!([known("", "ConfigMap"), known("", "Service")], [Some(Partial); 2]);
    assert_eq!(known("dead.example.com", "Widget"), Some(Undiscovered));
    assert_eq!(known("another.example.com", "Widget"), Some(Complete), "nothing is served there");
    assert_eq!(read(&holdings).await["Service"].len(), 10, "what was listed before the fault");
    // A backup says the same of the kinds that it has to say something about.
    let other = Pod::new();
    let backup = snapshot_of(&other.capture_all(&api).await.unwrap());
    let mut said: Vec<_> =
        backup.incomplete.iter().map(|kind| (kind.kind.as_str(), kind.completeness, kind.reason.as_str())).collect();
    said.sort_unstable();
    expected.sort_unstable();
    assert_eq!(said, expected);
    let of_backup = open(&other, &backup, &Selection::default()).await;
    for (group, of) in [("apps", "Deployment"), ("", "Secret"), ("", "ConfigMap"), ("dead.example.com", "Widget")] {
        assert_eq!(of_backup.completeness(&kind(group, of)), known(group, of), "{of}");
    }
    assert_eq!(of_backup.completeness(&kind("another.example.com", "Widget")), None, "of what is partial, who knows");
}

#[tokio::test]
async fn a_second_attempt_reports_the_same_and_records_no_second_snapshot() {
    let (api, pod) = (Api::new(), Pod::new());
    api.serve_config_maps(vec![object("a"), json!({"metadata": {}}), object("b")]);
    api.serve("apps", "v1", "Deployment", "deployments", objects(300));
    let first = pod.inventory(&api, RUN_UID, all()).await.unwrap();
    api.serve_config_maps(objects(50));
    let second = pod.inventory(&api, RUN_UID, all()).await.unwrap();
    let unworded = |result: &TerminationResult| TerminationResult { message: None, ..result.clone() };
    assert_eq!(unworded(&second), unworded(&first));
    assert_eq!(pod.snapshots().await, 1);
}

#[tokio::test]
async fn kinds_of_which_one_name_begins_another_are_all_recorded() {
    let (api, pod) = (Api::new(), Pod::new());
    let kinds = ["Kind", "Kind-a", "KindA", "Kind-a-b"];
    for (at, of) in kinds.iter().enumerate() {
        let plural = of.to_lowercase();
        api.serve("example.com", "v1", of, &plural, objects(400 + at));
    }
    api.fail(|uri, _| (uri.path().ends_with("/kind-a")).then(|| refusal(403, "Forbidden")));
    let result = pod.inventory(&api, RUN_UID, all()).await.unwrap();
    let holdings = open(&pod, &snapshot_of(&result), &Selection::default()).await;
    let found = read(&holdings).await;
    let counts = kinds.map(|of| found[&format!("{of}.example.com")].len());
    assert_eq!(counts, [400, 0, 402, 403]);
    assert_eq!(holdings.completeness(&kind("example.com", "Kind-a")), Some(Completeness::Forbidden));
}

#[tokio::test]
async fn a_selection_is_the_scope_of_an_inventory() {
    let (api, pod) = (Api::new(), Pod::new());
    api.serve_config_maps(objects(3));
    api.serve("", "v1", "Secret", "secrets", objects(2));
    let selection = Selection { exclude_kinds: vec!["Secret".into()], ..Selection::default() };
    let inputs = json!({"repository": "main", "selection": selection});
    let snapshot = snapshot_of(&pod.inventory(&api, RUN_UID, inputs).await.unwrap());
    let holdings = open(&pod, &snapshot, &selection).await;
    assert_eq!(holdings.completeness(&kind("", "Secret")), None, "it says nothing of what was not asked for");
    assert_eq!(holdings.completeness(&kind("", "ConfigMap")), Some(Completeness::Complete));
    assert_eq!(holdings.scope_key(), Some(selection.scope_key().as_str()));
    // Of a set that was found in a repository, the snapshot alone knows the key.
    let mut adopted = set(&snapshot, &Selection::default());
    adopted.metadata.name = Some(format!("adopted-{}", &snapshot.id[..16]));
    let repository = pod.repository().await.unwrap();
    let found = Holdings::open(&repository, &adopted, &BTreeSet::new()).await.unwrap();
    assert_eq!(found.scope_key(), Some(selection.scope_key().as_str()));
    assert_eq!(found.completeness(&kind("", "Secret")), None);
}

/// Stores a snapshot that somebody with the key has made up.
async fn forged(pod: &Pod, files: &[(&str, Vec<u8>)]) -> CapturedSnapshot {
    let repository = pod.repository().await.unwrap();
    let (mut sender, receiver) = entries();
    let options = CaptureOptions {
        run_uid: "forged".into(),
        host: "acme".into(),
        tags: vec!["inventory".into(), "scope=0".into()],
        audit: None,
        time: Timestamp::UNIX_EPOCH,
        permit: WriterPermit::without_maintenance(),
    };
    let offer = async {
        for (path, content) in files {
            let path = ItemPath::parse(path).unwrap();
            sender.offer(Entry { path, content: content.clone().into(), mtime: Timestamp::UNIX_EPOCH }).await.unwrap();
        }
        sender.finish().await.unwrap();
    };
    let ((), summary) = tokio::join!(offer, repository.capture(receiver, options));
    CapturedSnapshot { id: summary.unwrap().snapshot.id, content: Content::Inventory, ..CapturedSnapshot::default() }
}

#[tokio::test]
async fn records_that_are_not_what_was_stored_are_neither_there_nor_absent() {
    let pod = Pod::new();
    let record = |name: &str| json!({"name": name, "uid": "u", "created": "", "digest": "0".repeat(32)});
    let chunk = |names: &[&str]| {
        Value::from(names.iter().map(|name| record(name)).collect::<Vec<_>>()).to_string().into_bytes()
    };
    let collection = |items: u64, chunks: u64, form: u32| {
        json!({"completeness": "complete", "form": form, "statusCounts": false, "items": items, "chunks": chunks})
            .to_string()
            .into_bytes()
    };
    let files = [
        ("core/v1/A.inventory/00000.json", b"{]".to_vec()),
        ("core/v1/A.inventory/00001.json", chunk(&["b"])),
        ("core/v1/A.inventory/collection.json", collection(2, 2, 1)),
        ("core/v1/B.inventory/00000.json", chunk(&["a"])),
        ("core/v1/B.inventory/collection.json", b"7".to_vec()),
        ("core/v1/C.inventory/00000.json", chunk(&["a"])),
        ("core/v1/C.inventory/collection.json", collection(1, 2, 1)),
        ("core/v1/D.inventory/00000.json", chunk(&["b"])),
        ("core/v1/D.inventory/00001.json", chunk(&["a"])),
        ("core/v1/D.inventory/collection.json", collection(2, 2, 1)),
        ("core/v1/E.inventory/00000.json", chunk(&["a"])),
        ("core/v1/E.inventory/collection.json", collection(1, 1, 2)),
        ("core/v1/F.inventory/00000.json", chunk(&["a"])),
        ("core/v1/G.inventory/00000.json", chunk(&["a"])),
        ("core/v1/G.inventory/collection.json", collection(5, 1, 1)),
        ("core/v1/H/a.json", b"{}".to_vec()),
        ("core/v1/I.inventory/00000.json", chunk(&["a"])),
        ("core/v1/I.inventory/collection.json", collection(1, 1, 1)),
    ];
    let snapshot = forged(&pod, &files).await;
    let holdings = open(&pod, &snapshot, &Selection::default()).await;
    let found = read(&holdings).await;
    let broken = |of: &str| found[of].iter().filter(|record| record.is_err()).count();
    assert_eq!([broken("A"), broken("D"), broken("E"), broken("G")], [2, 2, 1, 1], "{found:#?}");
    let partial = |of: &str| holdings.completeness(&kind("", of)) == Some(Completeness::Partial);
    assert!(["B", "C", "E", "F"].iter().all(|of| partial(of)), "{found:#?}");
    assert_eq!((found["E"].len(), found.get("H")), (1, None), "of another form; no record");
    assert_eq!((broken("I"), found["I"].len(), partial("I")), (0, 1, false));
}

#[tokio::test]
async fn an_inventory_of_a_kind_that_the_worker_may_not_list_at_all_is_none() {
    let (api, pod) = (Api::new(), Pod::new());
    api.serve_config_maps(objects(3));
    api.fail(|uri, _| uri.path().ends_with("/configmaps").then(|| refusal(403, "Forbidden")));
    let failure = pod.inventory(&api, RUN_UID, all()).await.unwrap_err();
    assert_eq!((failure.reason.as_str(), pod.snapshots().await), ("NothingCaptured", 0));
    assert_eq!(environment(all(), None).repository, "main");
}
