//! The main job: a tenant's namespace is captured by a run, stored encrypted, and readable with the stock restic.

use crate::support::repository::Restic;
use crate::support::run::assert_ended;
use crate::support::{SOON, Tenant, wait_for};
use kube::api::ListParams;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use tenantatlas::api::{
    BackupSet, OperationRun, OperationRunStatus, Outcome, Phase, Reason, backup_set::Coverage, inventory::Completeness,
    outcome::FailureType,
};

/// Objects of most kinds.
const SHOP: &str = include_str!("data/shop.yaml");

impl Tenant {
    /// Captures with these inputs, the repository's aside, and waits for the end.
    async fn captured(&self, name: &str, mut inputs: Value) -> OperationRunStatus {
        inputs["repository"] = "main".into();
        self.start(name, json!({ "type": "backup.capture", "inputs": inputs })).await;
        self.completed(name, SOON).await
    }

    /// The backup set a run made.
    async fn backup_set(&self, status: &OperationRunStatus) -> BackupSet {
        let name = status.context.backup_set.as_deref().expect("context.backupSet");
        self.api().get(name).await.unwrap_or_else(|error| panic!("BackupSet {name} cannot be read: {error}"))
    }
}

#[tokio::test]
async fn a_namespace_is_captured_and_stock_restic_reads_every_object_of_it() {
    let tenant = Tenant::new("capture").await;
    tenant.apply(SHOP);
    let restic = tenant.repository("main").await;
    // Nothing may write between the capture and the comparison: this controller looks every 15 seconds.
    let autoscaler = "horizontalpodautoscaler/shop-later";
    let looked =
        ["wait", "--for=condition=AbleToScale=False", autoscaler, "--namespace", &tenant.name, "--timeout=60s"];
    tenant.cluster.kubectl_prints(&looked);

    let born = tenant.start("first", json!({ "type": "backup.capture", "inputs": { "repository": "main" } })).await;
    assert_eq!(born.status_or_default().phase, Phase::Queued);
    let status = tenant.completed("first", SOON).await;
    assert_ended(&status, Outcome::Succeeded, Reason::Succeeded);
    let phases: Vec<Phase> = status.transitions.iter().map(|transition| transition.phase).collect();
    assert_eq!(phases, [Phase::Running, Phase::Completed]);
    assert_eq!(status.context.repository.as_deref(), Some("main"));
    assert_eq!(status.context.workspace.as_deref(), Some(tenant.workspace.as_str()));

    // What the operator recorded.
    let set = tenant.backup_set(&status).await;
    let run = tenant.run("first").await;
    assert_eq!((set.spec.run.name.as_str(), Some(&set.spec.run.uid)), ("first", run.metadata.uid.as_ref()));
    assert_eq!(set.spec.namespace_uid, tenant.uid);
    assert_eq!(set.spec.coverage, Coverage::Full);
    assert!(!set.spec.hold && set.spec.absent.is_empty());

    // What is in the store, as restic says.
    restic.prints(&["check", "--read-data"]);
    let snapshots = restic.snapshots_of(&run);
    assert_eq!(snapshots.len(), 1, "one snapshot with the run's uid as a tag: {snapshots:#?}");
    assert_eq!(snapshots[0]["id"], set.spec.snapshot.as_str());
    let files = restic.files(&set.spec.snapshot);
    let counts = status.summary_counts.expect("counts");
    assert_eq!(i64::try_from(files.len()).unwrap(), counts.succeeded, "as many files as items: {files:#?}");
    let recorded = set.status.expect("the set's status");
    assert_eq!(recorded.items, Some(counts.succeeded));
    assert_eq!(recorded.items_by_kind.values().sum::<i64>(), counts.succeeded);
    assert_eq!(recorded.items_by_kind.get("Deployment.apps"), Some(&1));

    // Every object that was applied, and nothing that must not be stored.
    for path in [
        "/core/v1/ConfigMap/shop-settings.json",
        "/core/v1/ConfigMap/shop-logo.json",
        "/core/v1/ConfigMap/scratch.json",
        "/core/v1/Secret/shop-payment.json",
        "/core/v1/Service/shop.json",
        "/core/v1/ServiceAccount/shop.json",
        "/core/v1/ResourceQuota/shop.json",
        "/core/v1/LimitRange/shop.json",
        "/core/v1/PersistentVolumeClaim/main.json",
        "/apps/v1/Deployment/shop.json",
        "/apps/v1/StatefulSet/shop-database.json",
        "/batch/v1/CronJob/shop-report.json",
        "/networking.k8s.io/v1/Ingress/shop.json",
        "/networking.k8s.io/v1/NetworkPolicy/shop.json",
        "/rbac.authorization.k8s.io/v1/Role/shop:reader.json",
        "/rbac.authorization.k8s.io/v1/RoleBinding/shop:reader.json",
        "/autoscaling/v2/HorizontalPodAutoscaler/shop-later.json",
        "/policy/v1/PodDisruptionBudget/shop.json",
    ] {
        assert!(files.iter().any(|file| file == path), "{path} is missing in {files:#?}");
    }
    // The snapshot itself says what it does not hold, and why.
    let note = restic.dump(&set.spec.snapshot, "/core/v1/Secret.not-captured/items.json");
    assert!(note.to_string().contains("RepositorySecret"), "{note}");
    for file in &files {
        let never = ["/tenantatlas.io/", "/core/v1/Event/", "/core/v1/Pod/op-", "/batch/v1/Job/op-", "/never-captured"];
        assert!(!never.iter().any(|never| file.contains(never)), "{file} must not be stored");
        assert_ne!(file, "/core/v1/Secret/main.json", "the repository's own password");
    }
    for file in &files {
        assert_eq!(restic.dump(&set.spec.snapshot, file), as_kubectl_shows(&tenant, file), "{file}");
    }
}

/// The object behind a file of a snapshot, without the fields that are never stored.
fn as_kubectl_shows(tenant: &Tenant, file: &str) -> Value {
    let parts: Vec<&str> = file.trim_start_matches('/').trim_end_matches(".json").splitn(4, '/').collect();
    let [group, version, kind, name] = parts[..] else { panic!("{file} is not group/version/kind/name.json") };
    let kind = if group == "core" { kind.to_owned() } else { format!("{kind}.{version}.{group}") };
    let shown = tenant.cluster.kubectl_prints(&["get", &kind, name, "--namespace", &tenant.name, "--output", "json"]);
    let mut object: Value = serde_json::from_str(&shown).expect("kubectl prints JSON");
    object["metadata"].as_object_mut().expect("metadata").remove("resourceVersion");
    // Of field managers those are stored that apply: a restore gives their fields back to them.
    let shown = ["get", &kind, name, "--namespace", &tenant.name, "--output", "json", "--show-managed-fields"];
    let shown: Value = serde_json::from_str(&tenant.cluster.kubectl_prints(&shown)).expect("kubectl prints JSON");
    let managers = shown["metadata"]["managedFields"].as_array().into_iter().flatten();
    let mut applied: Vec<Value> = managers.filter(|manager| manager["operation"] == "Apply").cloned().collect();
    for manager in &mut applied {
        manager.as_object_mut().expect("a manager").remove("time");
    }
    if !applied.is_empty() {
        object["metadata"]["managedFields"] = applied.into();
    }
    object
}

#[tokio::test]
async fn nothing_in_the_store_can_be_read_without_the_password() {
    let tenant = Tenant::new("encrypted").await;
    tenant.apply(SHOP);
    let restic = tenant.repository("main").await;
    assert_ended(&tenant.captured("first", json!({})).await, Outcome::Succeeded, Reason::Succeeded);
    let mut files = 0;
    visit(&restic.folder(), &mut |path, bytes| {
        files += 1;
        for word in ["s3cr3t-t0ken", "czNjcjN0LXQwa2Vu", "shop-payment", "shop-settings"] {
            let found = bytes.windows(word.len()).any(|window| window == word.as_bytes());
            assert!(!found, "{} holds {word:?} in the clear", path.display());
        }
    });
    assert!(files > 4, "config, a key, an index, a snapshot, packs: {files} files");
}

fn visit(folder: &std::path::Path, look: &mut impl FnMut(&std::path::Path, &[u8])) {
    for entry in std::fs::read_dir(folder).expect("the repository's folder").flatten() {
        if entry.path().is_dir() {
            visit(&entry.path(), look);
        } else {
            look(&entry.path(), &std::fs::read(entry.path()).expect("a file of the repository"));
        }
    }
}

#[tokio::test]
async fn an_unchanged_namespace_costs_almost_nothing_and_a_changed_digit_is_not_missed() {
    let tenant = Tenant::new("again").await;
    tenant.apply(SHOP);
    let restic = tenant.repository("main").await;
    let first = tenant.captured("first", json!({})).await;
    let second = tenant.captured("second", json!({})).await;
    assert_ended(&second, Outcome::Succeeded, Reason::Succeeded);
    let (first, second) = (tenant.backup_set(&first).await, tenant.backup_set(&second).await);
    assert_ne!(first.spec.snapshot, second.spec.snapshot, "a snapshot a run");
    let added = second.status.and_then(|status| status.added_bytes).expect("addedBytes");
    assert!(added < 8 * 1024, "nothing but the claim's and the account's bookkeeping may have changed: {added} bytes");

    // The same length, no modification time: what a backup tool is tempted to take for unchanged.
    let patch = json!({ "spec": { "minAvailable": 2 } }).to_string();
    let budget =
        ["patch", "poddisruptionbudget", "shop", "--namespace", &tenant.name, "--type=merge", "--patch", &patch];
    tenant.cluster.kubectl_prints(&budget);
    let third = tenant.captured("third", json!({})).await;
    let third = tenant.backup_set(&third).await;
    let file = "/policy/v1/PodDisruptionBudget/shop.json";
    assert_eq!(restic.dump(&second.spec.snapshot, file)["spec"]["minAvailable"], 1);
    assert_eq!(restic.dump(&third.spec.snapshot, file)["spec"]["minAvailable"], 2);
    restic.prints(&["check", "--read-data"]);
}

/// The paths a selection leaves, without those that the fixture's own objects are at.
async fn selected(tenant: &Tenant, restic: &Restic, name: &str, selection: Value) -> (BTreeSet<String>, BackupSet) {
    let status = tenant.captured(name, json!({ "selection": selection })).await;
    assert_ended(&status, Outcome::Succeeded, Reason::Succeeded);
    let set = tenant.backup_set(&status).await;
    (restic.files(&set.spec.snapshot).into_iter().collect(), set)
}

#[tokio::test]
async fn a_selection_takes_kinds_names_and_labels() {
    let tenant = Tenant::new("selection").await;
    tenant.apply(SHOP);
    let restic = tenant.repository("main").await;
    let paths = |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect::<BTreeSet<_>>();

    let kinds = json!({ "includeKinds": ["Service", "Deployment.apps"] });
    let (files, set) = selected(&tenant, &restic, "kinds", kinds).await;
    assert_eq!(files, paths(&["/apps/v1/Deployment/shop.json", "/core/v1/Service/shop.json"]));
    assert_eq!(set.spec.coverage, Coverage::Partial, "not the whole tenant");
    assert_eq!(set.spec.selection.include_kinds, ["Service", "Deployment.apps"]);

    let (files, _) = selected(&tenant, &restic, "without", json!({ "excludeKinds": ["Secret", "ConfigMap"] })).await;
    assert!(files.contains("/core/v1/Service/shop.json"));
    assert!(!files.iter().any(|file| file.contains("/Secret/") || file.contains("/ConfigMap/")), "{files:#?}");

    let labelled = json!({ "labelSelector": "tier,tier!=scratch" });
    let (files, _) = selected(&tenant, &restic, "labels", labelled).await;
    assert_eq!(files, paths(&["/core/v1/ConfigMap/shop-settings.json"]));

    let named =
        json!({ "includeKinds": ["ConfigMap"], "includeNames": ["scratch", "shop-logo"], "excludeNames": ["scratch"] });
    let (files, _) = selected(&tenant, &restic, "names", named).await;
    assert_eq!(files, paths(&["/core/v1/ConfigMap/shop-logo.json"]));
}

#[tokio::test]
async fn kinds_that_are_left_out_by_default_are_captured_where_they_are_named() {
    let tenant = Tenant::new("named-kinds").await;
    let restic = tenant.repository("main").await;
    let lease = json!({ "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": { "name": "mine" } });
    tenant.apply(&lease.to_string());
    let kinds = json!({ "includeKinds": [
        "Lease.coordination.k8s.io", "Event", "Event.events.k8s.io", "ControllerRevision.apps",
        "CSIStorageCapacity.storage.k8s.io",
    ]});
    let (files, _) = selected(&tenant, &restic, "named", kinds).await;
    assert!(files.contains("/coordination.k8s.io/v1/Lease/mine.json"), "{files:#?}");
}

#[tokio::test]
async fn hundreds_of_objects_are_captured_with_progress_and_are_not_read_again_unless_they_change() {
    const MANY: usize = 1100;
    let tenant = Tenant::new("many").await;
    let restic = tenant.repository("main").await;
    let maps: Vec<Value> = (0..MANY)
        .map(|number| {
            json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": format!("map-{number:04}") },
                "data": { "text": format!("{number} ").repeat(100) } })
        })
        .collect();
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": maps });
    tenant.cluster.kubectl_reads(&["create", "--namespace", &tenant.name, "--filename", "-"], &list.to_string());
    let status = tenant.captured("all", json!({ "selection": { "includeKinds": ["ConfigMap"] } })).await;
    assert_ended(&status, Outcome::Succeeded, Reason::Succeeded);
    let counts = status.summary_counts.expect("counts");
    // One more: kube-root-ca.crt, which every namespace has, is either stored or left out, and counted either way.
    assert!(counts.succeeded >= i64::try_from(MANY).unwrap(), "{counts:?}");
    assert_eq!(status.progress, Some(format!("{}/{}", counts.processed, counts.total)));
    let set = tenant.backup_set(&status).await;
    let files = restic.files(&set.spec.snapshot);
    let maps = files.iter().filter(|file| file.starts_with("/core/v1/ConfigMap/map-")).count();
    assert_eq!(maps, MANY);

    // What did not change is not read again, and is in the next set all the same.
    let change = json!({ "data": { "text": "another" } }).to_string();
    let patch = ["patch", "configmap", "map-0007", "--namespace", &tenant.name, "--type=merge", "--patch", &change];
    tenant.cluster.kubectl_prints(&patch);
    let status = tenant.captured("again", json!({ "selection": { "includeKinds": ["ConfigMap"] } })).await;
    let message = status.message.clone().expect("a message");
    let unread = message.split("; ").find_map(|clause| clause.split_once(" were not read").map(|(count, _)| count));
    let unread: usize = unread.and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("{message}"));
    assert!((MANY - 1..=MANY).contains(&unread), "all but one, and the cluster's own: {message}");
    let again = tenant.backup_set(&status).await;
    assert_eq!(restic.files(&again.spec.snapshot), files);
    assert_eq!(restic.dump(&again.spec.snapshot, "/core/v1/ConfigMap/map-0007.json")["data"]["text"], "another");
    assert_eq!(
        restic.dump(&again.spec.snapshot, "/core/v1/ConfigMap/map-0008.json"),
        restic.dump(&set.spec.snapshot, "/core/v1/ConfigMap/map-0008.json")
    );
    restic.prints(&["check", "--read-data"]);
}

#[tokio::test]
async fn two_runs_of_the_same_capture_store_one_snapshot_and_both_name_its_backup_set() {
    let tenant = Tenant::new("joined").await;
    tenant.apply(SHOP);
    let restic = tenant.repository("main").await;
    for name in ["nightly", "manual"] {
        tenant.start(name, json!({ "type": "backup.capture", "inputs": { "repository": "main" } })).await;
    }
    let (nightly, manual) = (tenant.completed("nightly", SOON).await, tenant.completed("manual", SOON).await);
    assert_ended(&nightly, Outcome::Succeeded, Reason::Succeeded);
    assert_eq!(manual.outcome, Outcome::Succeeded);
    assert_eq!(nightly.context.backup_set, manual.context.backup_set, "the same work, the same set");
    assert_eq!(restic.snapshots().len(), 1);
    let sets = tenant.api::<BackupSet>().list(&ListParams::default()).await.expect("sets can be listed");
    assert_eq!(sets.items.len(), 1);
    let run: OperationRun = tenant.run("manual").await;
    assert_eq!(run.status_or_default().summary_counts, nightly.summary_counts);
}

/// No other story runs beside these.
mod alone {
    use super::*;

    #[tokio::test]
    async fn objects_of_a_custom_kind_are_captured_whole_and_a_kind_that_workers_may_not_list_is_left_out_and_named() {
        // Alone: every tenant's worker would meet the kind that it may not list.
        let tenant = Tenant::alone("custom").await;
        // The kind is the cluster's, so its name must be this story's own.
        let group = format!("{}.example.com", tenant.name);
        let definition = json!({
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": { "name": format!("ovens.{group}") },
            "spec": { "group": group, "scope": "Namespaced",
                "names": { "kind": "Oven", "plural": "ovens", "singular": "oven" },
                "versions": [{ "name": "v1", "served": true, "storage": true,
                    "schema": { "openAPIV3Schema": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } } }] },
        });
        tenant.apply(&definition.to_string());
        let definition = format!("customresourcedefinition/ovens.{group}");
        tenant.cluster.kubectl_prints(&["wait", "--for=condition=Established", "--timeout=60s", &definition]);
        let oven = json!({ "apiVersion": format!("{group}/v1"), "kind": "Oven", "metadata": { "name": "pizza" },
            "spec": { "degrees": 300, "unknown": { "to": ["any", "type"] } } });
        tenant.apply(&oven.to_string());
        let restic = tenant.repository("main").await;

        let status = tenant.captured("unlisted", json!({})).await;
        assert_ended(&status, Outcome::Succeeded, Reason::Succeeded);
        let message = status.message.as_deref().unwrap_or_default();
        assert!(message.contains("has not let workers read") && message.contains("Oven"), "{message}");
        let failure =
            status.failures.iter().find(|failure| failure.item_id.contains("Oven")).expect("the kind as one left out");
        assert_eq!(failure.failure_type, FailureType::Skipped);
        assert!(
            failure.message.contains("tenantatlas.io/aggregate-to-worker"),
            "who extends which role: {}",
            failure.message
        );
        let counts = status.summary_counts.expect("counts");
        assert!(counts.failed == 0 && counts.skipped > 0 && counts.succeeded > 0, "{counts:?}");
        assert_eq!(tenant.backup_set(&status).await.spec.coverage, Coverage::Full, "it is all that workers may read");
        // An inventory says how much is known of each kind.
        let inventory = tenant.set_of(&tenant.inventoried("inventory").await).await.status.expect("a status");
        let told = inventory.incomplete.iter().find(|incomplete| incomplete.kind == format!("Oven.{group}"));
        assert_eq!(told.map(|told| told.completeness), Some(Completeness::Forbidden), "{:?}", inventory.incomplete);
        // Asked for by name it is a failure.
        tenant.apply(&json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "beside" } }).to_string());
        let kinds = json!({ "selection": { "includeKinds": [format!("Oven.{group}"), "ConfigMap"] } });
        let status = tenant.captured("asked-for", kinds).await;
        assert_ended(&status, Outcome::PartiallySucceeded, Reason::PartiallySucceeded);

        // An administrator extends the worker's role, as the documents say.
        let role = json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": { "name": format!("ovens-{}", tenant.name),
                "labels": { "tenantatlas.io/aggregate-to-worker": "true" } },
            "rules": [{ "apiGroups": [group], "resources": ["ovens"], "verbs": ["get", "list"] }] });
        tenant.apply(&role.to_string());
        let account = format!("--as=system:serviceaccount:{}:tenantatlas-worker", tenant.name);
        wait_for("the role is aggregated", SOON, async || {
            let ovens = format!("ovens.{group}");
            let asked =
                tenant.cluster.kubectl(&["auth", "can-i", "list", &ovens, "--namespace", &tenant.name, &account]);
            if asked.status.success() { Ok(()) } else { Err("not yet") }
        })
        .await;
        let status = tenant.captured("listed", json!({})).await;
        assert_ended(&status, Outcome::Succeeded, Reason::Succeeded);
        let set = tenant.backup_set(&status).await;
        let stored = restic.dump(&set.spec.snapshot, &format!("/{group}/v1/Oven/pizza.json"));
        assert_eq!(stored["spec"], oven["spec"]);

        tenant.cluster.kubectl_prints(&[
            "delete",
            &definition,
            &format!("clusterrole/ovens-{}", tenant.name),
            "--wait=false",
        ]);
    }
}
