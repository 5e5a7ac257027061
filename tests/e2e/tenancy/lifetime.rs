//! How long our objects live is decided by who may delete them: owners, finalizers, holds, retention, maintenance without grace.

use super::{
    assert_refused, call,
    ways::{WAYS, Way},
};
use crate::support::{SOON, Tenant, wait_for};
use kube::Client;
use kube::api::{Api, DeleteParams};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use tenantatlas::api::{
    BackupSchedule, BackupSet, OperationReport, OperationRun, execution::GRACE_HOURS,
    schema::custom_resource_definitions,
};

const GROUP: &str = "tenantatlas.io/v1alpha1";
const POLICY: &str = "tenantatlas-lifetime";

/// A group that can all of our kinds, but for these verbs; everywhere, so that kinds of cluster scope are in it.
async fn can_all_but_delete(tenant: &Tenant, user: &str) -> Client {
    let user = format!("{user}.{}", tenant.name);
    let verbs = ["run", "approve", "get", "list", "create", "update", "patch"];
    let role = json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": { "name": user, "labels": crate::support::tenant::of_story(tenant) },
        "rules": [{ "apiGroups": ["tenantatlas.io"], "resources": ["*"], "verbs": verbs }] });
    let binding = json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": { "name": user, "labels": crate::support::tenant::of_story(tenant) },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": user },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user }] });
    tenant.apply(&role.to_string());
    tenant.apply(&binding.to_string());
    let client = tenant.cluster.as_user(&user, &[]);
    tenant.until_allowed(&client, tenant.right("patch tenantatlas.io/backupsets")).await;
    client
}

fn clear_up(tenant: &Tenant) {
    let story = format!("{}={}", crate::support::tenant::STORY, tenant.name);
    tenant.cluster.kubectl_prints(&["delete", "clusterroles,clusterrolebindings", "--selector", &story]);
}

/// A sound object of a kind, and whether anybody but the operator and its workers may create one.
fn sound(tenant: &Tenant, kind: &str) -> (Value, bool) {
    let (spec, anybody) = match kind {
        "OperationRun" => (json!({ "type": "none" }), true),
        "RestoreRun" => (json!({ "backupSet": { "name": "none" }, "dryRun": true }), true),
        "BulkOperationRun" => {
            (json!({ "resource": { "kind": "ConfigMap" }, "action": "restart", "items": ["none"] }), true)
        }
        "BackupSchedule" => (json!({ "schedule": "@yearly" }), true),
        "BackupRepository" => (
            json!({ "storage": { "persistentVolumeClaim": { "claimName": "none" } }, "passwordSecret": { "name": "none" } }),
            true,
        ),
        "OperationType" => (json!({ "executor": { "worker": { "command": ["capture"] } } }), true),
        "Workspace" => (json!({}), true),
        "WorkspaceRun" => (json!({ "workspace": { "name": "none" }, "operation": { "type": "none" } }), true),
        "Approval" => (
            json!({ "for": { "kind": "RestoreRun", "name": "there", "uid": "uid" }, "planDigest": "a".repeat(64) }),
            true,
        ),
        "BackupSet" => (
            json!({ "repository": { "name": "none" }, "snapshot": "a".repeat(64), "run": { "name": "run", "uid": "uid" },
                "namespaceUid": tenant.uid, "hold": true }),
            false,
        ),
        "OperationReport" => {
            (json!({ "run": { "name": "there", "uid": "uid" }, "chunk": 0, "chunks": 1, "items": [] }), false)
        }
        other => panic!("{other} is new: say here what a sound one is"),
    };
    let name = match kind {
        "OperationType" | "Workspace" | "WorkspaceRun" => format!("there.{}", tenant.name),
        "Approval" => "restorerun-there".to_owned(),
        _ => "there".to_owned(),
    };
    let metadata = json!({ "name": name, "labels": crate::support::tenant::of_story(tenant) });
    (json!({ "apiVersion": GROUP, "kind": kind, "metadata": metadata, "spec": spec }), anybody)
}

fn owner(version: &str, kind: &str) -> Value {
    json!({ "apiVersion": version, "kind": kind, "name": "gone", "uid": "00000000-0000-0000-0000-000000000000" })
}

/// The object with these changed metadata.
fn with(object: &Value, metadata: &Value) -> Value {
    let mut changed = object.clone();
    for (field, value) in metadata.as_object().expect("fields") {
        changed["metadata"][field] = value.clone();
    }
    changed
}

#[tokio::test]
async fn owners_and_finalizers_are_for_who_may_delete_and_none_is_of_our_kinds() {
    let tenant = Tenant::new("lifetime").await;
    let eve = can_all_but_delete(&tenant, "eve").await;
    let root = &tenant.cluster.client;
    let (operator, worker) = (tenant.cluster.as_operator(), tenant.reporter().await);
    let foreign = json!({ "ownerReferences": [owner("v1", "ConfigMap")] });
    let ours = json!({ "ownerReferences": [owner(GROUP, "OperationRun")] });
    let finalizer = json!({ "finalizers": ["example.com/never"] });
    let both = json!({ "ownerReferences": [owner("v1", "ConfigMap")], "finalizers": ["example.com/never"] });
    for definition in custom_resource_definitions() {
        let (kind, plural) = (definition.spec.names.kind.as_str(), definition.spec.names.plural.as_str());
        // Nobody at all changes these: `audit.rs`, `findings.rs`, `imported.rs`.
        if ["AuditEntry", "Finding", "ImportedRun"].contains(&kind) {
            continue;
        }
        let (mut object, anybody) = sound(&tenant, kind);
        let all = if definition.spec.scope == "Namespaced" {
            tenant.path(GROUP, plural)
        } else {
            format!("/apis/{GROUP}/{plural}")
        };
        if anybody {
            for metadata in [&foreign, &ours, &finalizer] {
                let forged = with(&object, metadata);
                assert_refused(
                    call(&eve, "POST", &all, &forged).await,
                    403,
                    &[POLICY, "metadata.ownerReferences", "verb delete"],
                );
            }
            let forged = with(&object, &ours);
            assert_refused(call(root, "POST", &all, &forged).await, 403, &[POLICY, "name no owner of tenantatlas.io"]);
            call(root, "POST", &format!("{all}?dryRun=All"), &with(&object, &both)).await.expect("who may delete may");
        } else if kind == "OperationReport" {
            // As workers make them.
            let run: OperationRun = tenant.api().get("there").await.expect("runs come before reports");
            let uid = run.metadata.uid;
            object["spec"]["run"]["uid"] = json!(uid);
            object["metadata"]["ownerReferences"] =
                json!([{ "apiVersion": GROUP, "kind": "OperationRun", "name": "there", "uid": uid }]);
        }
        let maker = match kind {
            "BackupSet" => &operator,
            "OperationReport" => &worker,
            _ => &eve,
        };
        call(maker, "POST", &all, &object).await.unwrap_or_else(|error| panic!("{kind}: {error}"));
        let path = format!("{all}/{}", object["metadata"]["name"].as_str().expect("a name"));
        if kind == "OperationRun" {
            tenant.completed("there", SOON).await;
        }
        if kind == "RestoreRun" {
            tenant.restored("there").await;
        }
        if kind == "BackupRepository" {
            let described = "was looked at";
            tenant.repository_when("there", described, |repository| repository.status.is_some()).await;
        }
        changes_of_one(&tenant, &eve, &path, (&both, &ours)).await;
        if definition.spec.versions[0].subresources.as_ref().is_some_and(|subresources| subresources.status.is_some()) {
            let mut forged = both.clone();
            forged["labels"] = json!({ "tenantatlas.io/run-uid": "forged" });
            let forged = json!({ "metadata": forged });
            let kept = call(&operator, "PATCH", &format!("{path}/status?dryRun=All"), &forged).await;
            let kept = kept.unwrap_or_else(|error| panic!("{kind}: {error}"))["metadata"].clone();
            assert_eq!(
                (&kept["finalizers"], &kept["ownerReferences"]),
                (&Value::Null, &Value::Null),
                "{kind}: by its status"
            );
            assert_ne!(kept["labels"], forged["metadata"]["labels"], "{kind}: by its status");
        }
    }
    // Nothing went by all that, held or not.
    let set: BackupSet = tenant.api().get("there").await.expect("the set is there");
    assert_eq!((set.spec.hold, set.metadata.owner_references), (true, None));
    clear_up(&tenant);
}

#[tokio::test]
async fn a_controller_of_the_cluster_takes_finalizers_away_without_the_right_to_delete() {
    let tenant = Tenant::new("finalizer").await;
    let path = tenant.path(GROUP, "backupschedules");
    let held = json!({ "apiVersion": GROUP, "kind": "BackupSchedule",
        "metadata": { "name": "held", "finalizers": ["example.com/never"] },
        "spec": { "schedule": "@yearly", "operation": { "inputs": {} } } });
    call(&tenant.cluster.client, "POST", &path, &held).await.expect("who may delete may");
    let rules =
        json!([{ "apiGroups": ["tenantatlas.io"], "resources": ["backupschedules"], "verbs": ["get", "patch"] }]);
    let path = format!("{path}/held");
    let free = json!({ "metadata": { "finalizers": null } });
    let eve = tenant.person_with("eve", rules.clone()).await;
    assert_refused(call(&eve, "PATCH", &path, &free).await, 403, &[POLICY, "verb delete"]);
    let controller = tenant.person_with("system:serviceaccount:kube-system:some-controller", rules).await;
    call(&controller, "PATCH", &path, &free).await.expect("a controller of the cluster may");
}

/// Every change of owners and finalizers of an object, in every way.
async fn changes_of_one(tenant: &Tenant, eve: &Client, path: &str, (both, ours): (&Value, &Value)) {
    let root = &tenant.cluster.client;
    let tell = |way: Way, who: &str| format!("{path} by {who}, {way:?}");
    let get = async || call(root, "GET", path, &Value::Null).await.expect("it is there");
    let field = |metadata: &Value, name: &str| json!({ (name): metadata[name] });
    for way in WAYS {
        let plain = get().await;
        for metadata in [&field(both, "ownerReferences"), &field(both, "finalizers"), ours] {
            let answer = way.send(eve, path, &plain, &with(&plain, metadata)).await;
            assert!(answer.is_err(), "{}: not refused: {metadata}", tell(way, "eve"));
            assert_refused(answer, 403, &[POLICY, "verb delete"]);
        }
        assert_refused(
            way.send(root, path, &plain, &with(&plain, ours)).await,
            403,
            &[POLICY, "no owner of tenantatlas.io"],
        );
        way.send(root, path, &plain, &with(&plain, &field(both, "finalizers")))
            .await
            .unwrap_or_else(|error| panic!("{}: {error}", tell(way, "an administrator")));
        // What tools of delivery set: their labels and annotations.
        let noted = with(&plain, &json!({ "annotations": { "argocd.argoproj.io/tracking-id": "shop" } }));
        way.send(eve, path, &plain, &noted).await.unwrap_or_else(|error| panic!("{}: {error}", tell(way, "eve")));
    }
    // Nor does she take away or turn what there is. An apply by somebody else takes nothing away.
    let kept = field(both, "finalizers");
    call(root, "PATCH", path, &json!({ "metadata": kept })).await.expect("an administrator may");
    for way in [Way::Put, Way::Merge, Way::JsonPatch] {
        let marked = get().await;
        for finalizers in [json!([]), Value::Null, json!(["example.com/other"])] {
            let answer = way.send(eve, path, &marked, &with(&marked, &json!({ "finalizers": finalizers }))).await;
            assert_refused(answer, 403, &[POLICY, "verb delete"]);
        }
    }
    let taken = call(root, "PATCH", path, &json!({ "metadata": { "finalizers": null } })).await;
    taken.expect("an administrator may take it away");
}

#[tokio::test]
async fn what_the_cluster_does_with_owners_and_finalizers_it_still_does() {
    let tenant = Tenant::new("lifetime-cluster").await;
    let worker = tenant.reporter().await;
    // Deleted by each propagation; the first takes a finalizer that the garbage collector takes away, the second orphans.
    for (name, parameters) in [
        ("foreground", DeleteParams::foreground()),
        (
            "orphan",
            DeleteParams { propagation_policy: Some(kube::api::PropagationPolicy::Orphan), ..DeleteParams::default() },
        ),
        ("background", DeleteParams::background()),
    ] {
        tenant.start(name, json!({ "type": "none" })).await;
        let run = tenant.run_when(name, "completed", SOON, OperationRun::is_completed).await;
        let uid = run.metadata.uid;
        let reference = json!({ "apiVersion": GROUP, "kind": "OperationRun", "name": name, "uid": uid });
        let report = json!({ "metadata": { "name": name, "ownerReferences": [reference] },
            "spec": { "run": { "name": name, "uid": uid }, "chunk": 0, "chunks": 1, "items": [] } });
        tenant.create_as::<OperationReport>(worker.clone(), report).await.expect("a report");
        let runs: Api<OperationRun> = tenant.api();
        runs.delete(name, &parameters).await.expect("a run can be deleted");
        wait_for(&format!("what is deleted with {name} is gone"), SOON, async || {
            let run = runs.get_opt(name).await.expect("a read").map(|run| run.metadata);
            let report = tenant.api::<OperationReport>().get_opt(name).await.expect("a read");
            let owners =
                report.as_ref().map(|report| report.metadata.owner_references.clone().unwrap_or_default().len());
            let left = if name == "orphan" { Some(0) } else { None };
            if run.is_none() && owners == left { Ok(()) } else { Err(format!("{run:?}, {owners:?}")) }
        })
        .await;
    }
    // With a finalizer of somebody who may, the namespace waits for them, and goes then.
    let set = json!({ "metadata": { "name": "held", "finalizers": ["example.com/mine"] }, "spec": sound(&tenant, "BackupSet").0["spec"] });
    tenant.create_as::<BackupSet>(tenant.cluster.as_operator(), set).await.expect("a set");
    let path = tenant.path(GROUP, "backupsets/held");
    call(&tenant.cluster.client, "DELETE", &path, &Value::Null).await.expect("a set can be deleted");
    call(&tenant.cluster.client, "PATCH", &path, &json!({ "metadata": { "finalizers": null } })).await.expect("let go");
    tenant.ends().await;
}

#[tokio::test]
async fn what_a_worker_noted_on_a_set_or_a_report_stays_as_it_is() {
    let tenant = Tenant::new("marks").await;
    let (mut object, _) = sound(&tenant, "BackupSet");
    object["metadata"]["labels"]["tenantatlas.io/run-uid"] = json!("mine");
    object["metadata"]["annotations"] = json!({ "tenantatlas.io/items": "7" });
    let all = tenant.path(GROUP, "backupsets");
    call(&tenant.cluster.as_operator(), "POST", &all, &object).await.expect("a set");
    let path = format!("{all}/there");
    let there = call(&tenant.cluster.client, "GET", &path, &Value::Null).await.expect("it is there");
    for (field, key) in [("labels", "tenantatlas.io/run-uid"), ("annotations", "tenantatlas.io/items")] {
        for (key, value) in [(key, json!("8")), (key, Value::Null), ("tenantatlas.io/other", json!("new"))] {
            for way in WAYS {
                let mut marks = there["metadata"][field].as_object().cloned().expect("marks");
                if value.is_null() {
                    marks.remove(key);
                } else {
                    marks.insert(key.to_owned(), value.clone());
                }
                let answer =
                    way.send(&tenant.cluster.client, &path, &there, &with(&there, &json!({ (field): marks }))).await;
                // An apply takes away what its manager set alone.
                if !(way == Way::Apply && value.is_null()) {
                    assert_refused(answer, 403, &["tenantatlas-marks", "as they are"]);
                }
            }
        }
    }
    let noted = json!({ "metadata": { "labels": { "team": "blue" }, "annotations": { "note": "seen" } } });
    call(&tenant.cluster.client, "PATCH", &path, &noted).await.expect("others are anybody's");
}

#[tokio::test]
async fn a_hold_is_set_by_who_may_change_a_set_and_taken_off_by_who_may_delete_it() {
    let tenant = Tenant::new("hold").await;
    let (object, _) = sound(&tenant, "BackupSet");
    let all = tenant.path(GROUP, "backupsets");
    call(&tenant.cluster.as_operator(), "POST", &all, &object).await.expect("a set");
    let path = format!("{all}/there");
    let ada = tenant.person("ada", &["tenantatlas-tenant-operator"]).await;
    let admin = tenant.person("root", &["tenantatlas-tenant-admin"]).await;
    let held = call(&admin, "GET", &path, &Value::Null).await.expect("it is there");
    let (mut free, mut without) = (held.clone(), held.clone());
    free["spec"]["hold"] = json!(false);
    without["spec"].as_object_mut().expect("a spec").remove("hold");
    for way in WAYS {
        for changed in [&free, &without] {
            // An apply takes away what its manager set alone.
            if way != Way::Apply || changed["spec"]["hold"] == false {
                let answer = way.send(&ada, &path, &held, changed).await;
                assert_refused(answer, 403, &["tenantatlas-hold", "leave spec.hold true", "verb delete"]);
            }
            way.send(&admin, &path, &held, changed).await.expect("an administrator of the tenant may");
        }
    }
    call(&admin, "PATCH", &path, &json!({ "spec": { "hold": false } })).await.expect("an administrator may");
    call(&ada, "PATCH", &path, &json!({ "spec": { "hold": true } })).await.expect("an operator may hold it");
}

#[tokio::test]
async fn maintenance_that_waits_for_less_than_a_day_takes_the_right_to_delete_backups() {
    let tenant = Tenant::new("grace").await;
    let ada = tenant.person("ada", &["tenantatlas-tenant-operator"]).await;
    let admin = tenant.person("root", &["tenantatlas-tenant-admin"]).await;
    let runs = tenant.path(GROUP, "operationruns?dryRun=All");
    let schedules = tenant.path(GROUP, "backupschedules?dryRun=All");
    let asked = |hours: &Value| {
        let mut inputs = json!({ "repository": "main" });
        if *hours != json!("left out") {
            inputs["graceHours"] = hours.clone();
        }
        // Whatever the type is called, for a platform team may call it otherwise.
        ["repository.maintain", "backup.capture"].map(|operation| {
            let run = json!({ "apiVersion": GROUP, "kind": "OperationRun", "metadata": { "name": "now" },
                "spec": { "type": operation, "inputs": inputs } });
            let schedule = json!({ "apiVersion": GROUP, "kind": "BackupSchedule", "metadata": { "name": "then" },
                "spec": { "schedule": "@yearly", "operation": { "type": operation, "inputs": inputs } } });
            [(&runs, run), (&schedules, schedule)]
        })
    };
    for hours in [json!("left out"), json!(GRACE_HOURS), json!(GRACE_HOURS + 1)] {
        for (path, object) in asked(&hours).into_iter().flatten() {
            call(&ada, "POST", path, &object).await.unwrap_or_else(|error| panic!("{hours}: {error}"));
        }
    }
    for hours in
        [json!(GRACE_HOURS - 1), json!(0), json!(-1), json!(0.5), json!("99"), json!(null), json!([99]), json!(true)]
    {
        for (path, object) in asked(&hours).into_iter().flatten() {
            let answer = call(&ada, "POST", path, &object).await;
            assert_refused(answer, 403, &["tenantatlas-grace", "24 or more", "verb delete"]);
            call(&admin, "POST", path, &object).await.unwrap_or_else(|error| panic!("{hours}: {error}"));
        }
    }
    // Nor is it brought into a schedule that there is.
    let [_, [_, (_, plain)]] = asked(&json!("left out"));
    call(&ada, "POST", &tenant.path(GROUP, "backupschedules"), &plain).await.expect("captures are hers to schedule");
    let path = tenant.path(GROUP, "backupschedules/then");
    let before = call(&ada, "GET", &path, &Value::Null).await.expect("it is there");
    let mut after = before.clone();
    after["spec"]["operation"]["inputs"]["graceHours"] = json!(0);
    for way in WAYS {
        assert_refused(way.send(&ada, &path, &before, &after).await, 403, &["tenantatlas-grace", "24 or more"]);
    }
    // Where somebody put it there who may, the rest of the schedule is still hers to change.
    call(&admin, "PATCH", &path, &json!({ "spec": { "operation": { "inputs": { "graceHours": 0 } } } }))
        .await
        .expect("root may");
    call(&ada, "PATCH", &path, &json!({ "spec": { "suspend": true } })).await.expect("no input is new");
}

/// Another value for each field of a schedule, and what takes more than the right to change it.
fn edits() -> BTreeMap<&'static str, (Value, &'static [&'static str])> {
    const RUN: &[&str] = &["run"];
    const BOTH: &[&str] = &["run", "delete"];
    BTreeMap::from([
        ("schedule", (json!("@monthly"), BOTH)),
        ("timeZone", (json!("Europe/Berlin"), BOTH)),
        (
            "operation",
            (json!({ "type": "backup.capture", "inputs": { "selection": { "includeNames": ["one"] } } }), BOTH),
        ),
        ("jitterSeconds", (json!(60), RUN)),
        ("suspend", (json!(true), &[][..])),
        ("startingDeadlineSeconds", (json!(60), RUN)),
        ("queueTimeoutSeconds", (json!(60), RUN)),
        ("concurrencyPolicy", (json!("Allow"), RUN)),
        ("immediate", (json!(true), RUN)),
        ("retention", (json!({ "keepLast": 1 }), &["delete"][..])),
        ("successfulRunsHistoryLimit", (json!(20), &[][..])),
        ("failedRunsHistoryLimit", (json!(20), &[][..])),
    ])
}

#[tokio::test]
async fn every_field_of_a_schedule_takes_the_rights_to_what_it_has_done() {
    let tenant = Tenant::new("schedule-fields").await;
    let definition =
        custom_resource_definitions().into_iter().find(|of| of.spec.names.kind == "BackupSchedule").expect("the kind");
    let schema = definition.spec.versions[0].schema.as_ref().and_then(|schema| schema.open_api_v3_schema.clone());
    let spec = schema.and_then(|schema| schema.properties).expect("properties")["spec"].clone();
    // `requestedBy` is written by the API server.
    let fields: BTreeSet<_> =
        spec.properties.into_iter().flatten().map(|(name, _)| name).filter(|name| name != "requestedBy").collect();
    let edits = edits();
    let known: BTreeSet<_> = edits.keys().map(|name| (*name).to_owned()).collect();
    assert_eq!(fields, known, "what does the new field take?");

    let group = json!(["tenantatlas.io"]);
    let write =
        json!({ "apiGroups": group, "resources": ["backupschedules"], "verbs": ["get", "create", "update", "patch"] });
    let run = json!({ "apiGroups": group, "resources": ["operationtypes"], "verbs": ["run"] });
    let delete = json!({ "apiGroups": group, "resources": ["backupsets"], "verbs": ["delete"] });
    let editor = tenant.person_with("editor", json!([write])).await;
    let runner = tenant.person_with("runner", json!([run, write])).await;
    let pruner = tenant.person_with("pruner", json!([delete, write])).await;
    let everybody =
        [("editor", &editor, &[][..]), ("runner", &runner, &["run"][..]), ("pruner", &pruner, &["delete"][..])];
    for (name, retention) in [("kept", json!({ "keepLast": 3 })), ("all", Value::Null)] {
        let mut object = json!({ "metadata": { "name": name }, "spec": { "schedule": "@yearly", "operation": { "inputs": { "a": 1, "b": 2 } } } });
        if !retention.is_null() {
            object["spec"]["retention"] = retention.clone();
        }
        tenant.create::<BackupSchedule>(object).await.expect("a schedule");
        let path = tenant.path(GROUP, &format!("backupschedules/{name}"));
        wait_for("the schedule was looked at", SOON, async || {
            let schedule: BackupSchedule = tenant.api().get(name).await.expect("it is there");
            schedule.status.and_then(|status| status.next_scheduled_for).ok_or("not yet")
        })
        .await;
        let before = call(&editor, "GET", &path, &Value::Null).await.expect("it is there");
        for (field, (value, takes)) in &edits {
            let mut after = before.clone();
            after["spec"][field] = value.clone();
            // Where nothing expires, it is no matter by what.
            let takes = takes.iter().filter(|right| **right != "delete" || name == "kept" || *field == "retention");
            let takes: Vec<&str> = takes.copied().collect();
            for (who, client, has) in everybody {
                for way in WAYS {
                    let answer = way.send(client, &path, &before, &after).await;
                    let lacks: Vec<_> = takes.iter().filter(|right| !has.contains(right)).collect();
                    if lacks.is_empty() {
                        answer.unwrap_or_else(|error| panic!("{name}: {who} changes {field}, {way:?}: {error}"));
                    } else {
                        let told = format!("{answer:?}");
                        assert!(answer.is_err(), "{name}: {who} changes {field}, {way:?}, and lacks {lacks:?}");
                        assert!(
                            told.contains("tenantatlas-retention") || told.contains("tenantatlas-schedule"),
                            "{told}"
                        );
                    }
                }
            }
        }
        // A key that is renamed is another input.
        let renamed = json!([{ "op": "move", "from": "/spec/operation/inputs/a", "path": "/spec/operation/inputs/c" }]);
        let answer = super::ways::patch(&pruner, &path, "json-patch", &renamed).await;
        assert_refused(answer, 403, &["may not have a schedule start"]);
        // Fewer runs of history is a deletion of runs; and a schedule goes on by who may start what it starts.
        for limit in ["successfulRunsHistoryLimit", "failedRunsHistoryLimit"] {
            let answer = call(&runner, "PATCH", &path, &json!({ "spec": { (limit): 1 } })).await;
            assert_refused(answer, 403, &["tenantatlas-retention", "verb delete on operationruns"]);
        }
        call(&editor, "PATCH", &path, &json!({ "spec": { "suspend": true } })).await.expect("suspended");
        assert_refused(
            call(&editor, "PATCH", &path, &json!({ "spec": { "suspend": false } })).await,
            403,
            &["may not have a schedule start"],
        );
        call(&runner, "PATCH", &path, &json!({ "spec": { "suspend": false } })).await.expect("resumed");
        // To keep everything from now on is no deletion.
        call(&editor, "PATCH", &path, &json!({ "spec": { "retention": null } })).await.expect("nothing expires");
    }
}
