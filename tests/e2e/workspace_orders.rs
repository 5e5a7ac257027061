//! A platform team changes, deletes and restores objects in all tenants of a workspace: as it saw, no more than it may in
//! each, and back again.

use crate::bulk::{ADMIN, codes};
use crate::support::{SOON, Tenant, wait_for};
use crate::workspace_runs::tenants;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};
use tenantatlas::api::{Approval, BulkOperationRun, Outcome, Phase, Reason, WorkspaceRun, WorkspaceRunStatus};

fn clear(tenant: &Tenant, also: &Value) -> Value {
    let mut spec = json!({ "workspace": { "name": tenant.name }, "bulk": { "resource": { "kind": "ConfigMap" }, "action": "delete" } });
    spec.as_object_mut().expect("fields").extend(also.as_object().expect("fields").clone());
    spec
}

fn look(tenant: &Tenant) -> Value {
    let mut spec = clear(tenant, &json!({ "dryRun": true }));
    spec["bulk"]["labelSelector"] = json!("app=many");
    spec["bulk"]["options"] = json!({ "repository": "main" });
    spec
}

impl Tenant {
    pub(crate) async fn done_over_all(&self, name: &str, spec: Value) -> WorkspaceRunStatus {
        let name = format!("{}-{name}", self.name);
        self.run_over_all(&name, spec).await;
        self.over_all(&name).await
    }

    pub(crate) fn named(&self, name: &str) -> Value {
        json!({ "name": format!("{}-{name}", self.name) })
    }

    pub(crate) async fn data(&self) -> Vec<(String, Option<std::collections::BTreeMap<String, String>>)> {
        let maps = self.api::<ConfigMap>().list(&ListParams::default().labels("app=many")).await.expect("a list").items;
        maps.into_iter().map(|map| (map.name_any(), map.data)).collect()
    }
}

#[tokio::test]
async fn objects_of_all_tenants_are_deleted_under_one_digest_and_one_undo_brings_them_back() {
    let tenants = tenants("all-delete", 2).await;
    for tenant in &tenants {
        tenant.repository("main").await;
        tenant.create_many("ConfigMap", 3);
    }
    let [one, two] = &tenants[..] else { panic!("two tenants") };
    let before = one.data().await;
    let seen = one.done_over_all("look", look(one)).await;
    assert_eq!((seen.outcome, seen.preview.map(|sum| sum.delete)), (Outcome::Succeeded, Some(6)), "{seen:#?}");
    let digest = seen.plan_digest.clone().expect("a digest over both");
    assert_eq!((one.data().await, two.data().await), (before.clone(), before.clone()), "nothing is deleted");

    let mut preview = one.named("look");
    preview["planDigest"] = json!("0".repeat(64));
    let other = one.done_over_all("other", clear(one, &json!({ "preview": preview }))).await;
    assert_eq!((other.outcome, other.reason.as_deref()), (Outcome::Blocked, Some("PreviewNotUsable")), "{other:#?}");
    preview["planDigest"] = json!(digest);
    let done = one.done_over_all("clear", clear(one, &json!({ "preview": preview }))).await;
    assert_eq!((done.outcome, done.undo_tenants), (Outcome::Succeeded, 2), "{done:#?}");
    assert_eq!((done.plan_digest, done.items.map(|items| items.succeeded)), (Some(digest), Some(6)));
    assert_eq!((one.data().await, two.data().await), (vec![], vec![]));

    let undo = |also: Value| {
        let mut spec = json!({ "workspace": { "name": one.name }, "undoOf": one.named("clear") });
        spec.as_object_mut().expect("fields").extend(also.as_object().expect("fields").clone());
        spec
    };
    let seen = one.done_over_all("undo-look", undo(json!({ "dryRun": true }))).await;
    assert_eq!((seen.outcome, seen.preview.map(|sum| sum.create)), (Outcome::Succeeded, Some(6)), "{seen:#?}");
    // The records of the tenants are what counts, not those of the workspace runs.
    let undone = one.done_over_all("undo", undo(json!({ "preview": one.named("undo-look") }))).await;
    assert_eq!((undone.outcome, undone.undo_tenants), (Outcome::Succeeded, 2), "{undone:#?}");
    assert_eq!((one.data().await, two.data().await), (before.clone(), before));

    // The undo of a preview, of what left nothing, and of one that does not exist.
    for (of, words) in [("undo-look", "is a preview"), ("other", "left no backup set"), ("nothing", "does not exist")] {
        let mut spec = undo(json!({ "dryRun": true }));
        spec["undoOf"] = one.named(of);
        let status = one.done_over_all(&format!("undo-{of}"), spec).await;
        assert_eq!((status.outcome, status.reason.as_deref()), (Outcome::Blocked, Some("UndoNotPossible")));
        assert!(status.message.as_deref().unwrap_or_default().contains(words), "{status:#?}");
    }
}

#[tokio::test]
async fn a_tenant_that_changed_since_the_preview_is_left_as_it_is_and_named() {
    let tenants = tenants("all-stale", 2).await;
    for tenant in &tenants {
        tenant.repository("main").await;
        tenant.create_many("ConfigMap", 2);
    }
    let [one, two] = &tenants[..] else { panic!("two tenants") };
    let seen = one.done_over_all("look", look(one)).await;
    assert_eq!(seen.outcome, Outcome::Succeeded, "{seen:#?}");
    let changed = Patch::Merge(json!({ "data": { "number": "changed" } }));
    two.api::<ConfigMap>().patch("item-001", &PatchParams::default(), &changed).await.expect("it is changed");
    let kept = two.data().await;
    let done = one.done_over_all("clear", clear(one, &json!({ "preview": one.named("look") }))).await;
    assert_eq!((done.outcome, done.undo_tenants), (Outcome::PartiallySucceeded, 1), "{done:#?}");
    let first = &done.tenants[0];
    assert_eq!((first.namespace.as_str(), first.outcome), (two.name.as_str(), Outcome::Blocked));
    assert_eq!(first.reason.as_deref(), Some("PreviewStale"));
    assert_eq!((one.data().await, two.data().await), (vec![], kept.clone()));

    // A preview of which a tenant deleted its part shows not all that would be done.
    let again = one.done_over_all("look-again", look(one)).await;
    assert_eq!(again.outcome, Outcome::PartiallySucceeded, "nothing is selected in the first: {again:#?}");
    let part =
        again.tenants.iter().find(|row| row.namespace == two.name).and_then(|row| row.run.clone()).expect("a run");
    two.api::<BulkOperationRun>().delete(&part.name, &DeleteParams::default()).await.expect("it can be deleted");
    wait_for("it is gone", SOON, async || {
        match two.api::<BulkOperationRun>().get_opt(&part.name).await.map_err(|error| error.to_string())? {
            None => Ok(()),
            Some(there) => Err(format!("{there:#?}")),
        }
    })
    .await;
    let stale = one.done_over_all("clear-again", clear(one, &json!({ "preview": one.named("look-again") }))).await;
    assert_eq!((stale.outcome, stale.reason.as_deref()), (Outcome::Blocked, Some("PreviewStale")), "{stale:#?}");
    assert_eq!(two.data().await, kept);
}

#[tokio::test]
async fn who_changes_all_tenants_changes_in_each_what_they_may_change_there_and_a_restore_brings_it_back() {
    let tenants = tenants("all-label", 2).await;
    for tenant in &tenants {
        tenant.repository("main").await;
        tenant.create_many("ConfigMap", 2);
    }
    let [one, two] = &tenants[..] else { panic!("two tenants") };
    let name = &one.name;
    // One set in each tenant, of one name.
    let captures = format!("{name}-before");
    let capture = json!({ "workspace": { "name": name },
        "operation": { "type": "backup.capture", "inputs": { "repository": "main" } } });
    let captured = one.run_over_all(&captures, capture).await;
    assert_eq!(one.over_all(&captures).await.outcome, Outcome::Succeeded);
    let [set, _] = tenantatlas::api::workspace_run::run_names(&captures, &captured.uid().expect("a uid"));

    // She is an admin of the first tenant alone.
    let ada = one.person("ada", ADMIN).await;
    let rules = json!([
        { "apiGroups": ["tenantatlas.io"], "resources": ["workspaceruns"], "verbs": ["get", "create"] },
        { "apiGroups": ["tenantatlas.io"], "resources": ["workspaces"], "resourceNames": [name], "verbs": ["run"] },
        { "apiGroups": ["tenantatlas.io"], "resources": ["operationtypes"], "resourceNames": ["bulk.apply"], "verbs": ["run"] },
    ]);
    let user = ada_of(one, &rules);
    let label = json!({ "workspace": { "name": name }, "requestedBy": { "username": user },
        "bulk": { "resource": { "kind": "ConfigMap" }, "action": "label", "labelSelector": "app=many",
            "options": { "set": { "tier": "gold" } }, "parallelism": 2, "stopAfterFailures": 9 },
        "queueTimeoutSeconds": 600 });
    let run = json!({ "apiVersion": "tenantatlas.io/v1alpha1", "kind": "WorkspaceRun", "spec": label,
        "metadata": { "name": format!("{name}-label"), "labels": crate::support::tenant::of_story(one) } });
    let run: WorkspaceRun = serde_json::from_value(run).expect("a workspace run");
    wait_for("she may", SOON, async || {
        Api::<WorkspaceRun>::all(ada.clone())
            .create(&PostParams::default(), &run)
            .await
            .map_err(|error| error.to_string())
    })
    .await;
    let done = one.over_all(&format!("{name}-label")).await;
    assert_eq!(done.outcome, Outcome::PartiallySucceeded, "{done:#?}");
    let gold = async |tenant: &Tenant| {
        let gold = ListParams::default().labels("tier=gold");
        tenant.api::<ConfigMap>().list(&gold).await.expect("a list").items.len()
    };
    assert_eq!((gold(one).await, gold(two).await), (2, 0));
    let row = done.tenants.iter().find(|row| row.namespace == two.name).expect("a row");
    let refused = two.api::<BulkOperationRun>().get(&row.run.as_ref().expect("a run").name).await.expect("its record");
    let spec = &refused.spec;
    assert_eq!((spec.parallelism, spec.stop_after_failures, spec.queue_timeout_seconds), (2, Some(9), Some(600)));
    assert_eq!(spec.requested_by.as_ref().map(|by| by.username.as_str()), Some(user.as_str()));
    let said = refused.status.expect("a status");
    assert!(codes(&said).values().all(|code| code == "Forbidden"), "{said:#?}");

    let back = json!({ "workspace": { "name": name },
        "restore": { "backupSet": { "name": set }, "items": [{ "kind": "ConfigMap", "labelSelector": "app=many" }],
            "existingResourcePolicy": "update" } });
    let status = one.done_over_all("back", back).await;
    assert_eq!((status.outcome, status.undo_tenants), (Outcome::Succeeded, 1), "{status:#?}");
    assert_eq!((gold(one).await, gold(two).await), (0, 0));
}

/// The name of a person, who is given these rules in the whole cluster.
fn ada_of(tenant: &Tenant, rules: &Value) -> String {
    let metadata =
        json!({ "name": format!("{}-ada", tenant.name), "labels": crate::support::tenant::of_story(tenant) });
    let role = json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": metadata, "rules": rules });
    let binding = json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": metadata,
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": metadata["name"] },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "ada" }] });
    tenant.apply(&role.to_string());
    tenant.apply(&binding.to_string());
    "ada".to_owned()
}

#[tokio::test]
async fn a_rule_that_begins_to_apply_in_the_middle_is_waited_for_in_each_tenant_that_is_not_done() {
    let one = Tenant::new("all-approve").await;
    one.join_workspace(json!({})).await;
    let two = one.beside("all-approve-1").await;
    let three = one.beside("all-approve-2").await;
    for tenant in [&two, &three] {
        tenant.move_to(&json!(one.name)).await;
    }
    for tenant in [&one, &two, &three] {
        tenant.create_many("ConfigMap", 1);
    }
    let label = |also: Value| {
        let mut bulk = json!({ "resource": { "kind": "ConfigMap" }, "action": "label" });
        if also.get("preview").is_none() {
            bulk["labelSelector"] = json!("app=many");
            bulk["options"] = json!({ "set": { "tier": "gold" } });
        }
        let mut spec = json!({ "workspace": { "name": one.name }, "bulk": bulk });
        spec.as_object_mut().expect("fields").extend(also.as_object().expect("fields").clone());
        spec
    };
    let seen = one.done_over_all("look", label(json!({ "dryRun": true }))).await;
    assert_eq!((seen.outcome, seen.preview.map(|sum| sum.update)), (Outcome::Succeeded, Some(3)), "{seen:#?}");
    let name = format!("{}-gold", one.name);
    let waves = json!([{ "tenants": 1, "waitSeconds": 20 }]);
    let run = one.run_over_all(&name, label(json!({ "preview": one.named("look"), "waves": waves }))).await;
    let first = one
        .over_all_when(&name, "waits before its second wave", |status| {
            status.reason.as_deref() == Some(Reason::NextWaveWaits.as_str())
        })
        .await;
    one.change_workspace(json!({ "approvals": [{ "types": ["bulk.apply"] }] })).await;
    let done = first.tenants.iter().find(|row| row.outcome == Outcome::Succeeded).expect("the first").namespace.clone();
    let (first, mut rest): (Vec<&Tenant>, Vec<&Tenant>) =
        [&one, &two, &three].into_iter().partition(|tenant| tenant.name == done);
    let (first, three, two) = (first[0], rest.pop().expect("a third"), rest.pop().expect("a second"));
    let [child, _] = tenantatlas::api::workspace_run::run_names(&name, &run.uid().expect("a uid"));
    let waits = async |tenant: &Tenant| {
        wait_for("it waits for an approval", SOON, async || {
            let bulk = tenant.api::<BulkOperationRun>().get(&child).await.map_err(|error| error.to_string())?;
            let status = bulk.status_or_default();
            let waits = status.reason.as_deref() == Some("AwaitingApproval");
            if waits { Ok(()) } else { Err(format!("{status:#?}")) }
        })
        .await;
    };
    one.over_all_when(&name, "says that the others wait", |status| {
        status.message.as_deref().unwrap_or_default().contains("wait for an approval")
    })
    .await;

    // A tenant makes a preview of its own under the name of the one that was looked at, and approves it.
    waits(two).await;
    waits(three).await;
    let shown = seen.tenants.iter().find(|row| row.namespace == three.name).and_then(|row| row.run.clone());
    let shown = shown.expect("its preview").name;
    let bulks = three.api::<BulkOperationRun>();
    bulks.delete(&shown, &DeleteParams::default()).await.expect("it can be deleted");
    wait_for("it is gone", SOON, async || {
        bulks
            .get_opt(&shown)
            .await
            .map_err(|error| error.to_string())?
            .map_or(Ok(()), |there| Err(format!("{there:#?}")))
    })
    .await;
    let other = json!({ "metadata": { "name": shown }, "spec": { "resource": { "kind": "ConfigMap" }, "action": "label",
        "dryRun": true, "labelSelector": "app=many", "options": { "set": { "tier": "forged" } },
        "requestedBy": { "username": "kubernetes-admin" } } });
    three.create::<BulkOperationRun>(other).await.expect("the name is free");
    let forged = three.bulk_end(&shown).await;
    let carol = three.person("carol", &["tenantatlas-tenant-approver"]).await;
    let uid = bulks.get(&child).await.expect("what waits").uid();
    let approval = json!({ "metadata": { "name": format!("bulkoperationrun-{child}") }, "spec": {
        "planDigest": forged.plan_digest, "approvedBy": { "username": "carol" },
        "for": { "kind": "BulkOperationRun", "name": child, "uid": uid } } });
    three.create_as::<Approval>(carol, approval).await.expect("carol approves");
    let refused = three.bulk_end(&child).await;
    assert_eq!(
        (refused.outcome, refused.reason.as_deref()),
        (Outcome::Blocked, Some("PreviewNotUsable")),
        "{refused:#?}"
    );
    one.change_over_all(&name, json!({ "cancel": true })).await;
    let status = one.over_all(&name).await;
    assert_eq!((status.outcome, status.reason.as_deref()), (Outcome::Failed, Some("Cancelled")), "{status:#?}");
    assert_eq!((status.counts.succeeded, status.counts.failed), (1, 2), "{status:#?}");
    let gold = ListParams::default().labels("tier=gold");
    let forged = ListParams::default().labels("tier=forged");
    assert!(three.api::<ConfigMap>().list(&forged).await.expect("a list").items.is_empty());
    for (tenant, labelled) in [(first, 1), (two, 0), (three, 0)] {
        assert_eq!(tenant.api::<ConfigMap>().list(&gold).await.expect("a list").items.len(), labelled);
    }
    let cancelled = two.api::<BulkOperationRun>().get(&child).await.expect("its record");
    assert_eq!((cancelled.spec.cancel, cancelled.status_or_default().phase), (true, Phase::Completed));
}
