//! One approval for a workspace run: somebody else looks at what is done in all tenants, once.

use crate::support::cluster::environment;
use crate::support::tenant::of_story;
use crate::support::{SOON, Tenant, wait_for};
use crate::tenancy::assert_refused;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};
use tenantatlas::api::{
    Approval, AuditEntry, Outcome, Phase, RestoreRun, WorkspaceRun, WorkspaceRunStatus, workspace_run::run_names,
};

const ROLES: &str = "rbac.authorization.k8s.io/v1";

/// An approver: may create approvals in the namespace of the operator, and has the verb on a workspace.
fn approver(tenant: &Tenant, user: &str, workspace: &str) -> Client {
    let metadata = json!({ "name": format!("{}-{user}", tenant.name), "labels": of_story(tenant) });
    let binding = |kind: &str, role: &str| {
        json!({ "apiVersion": ROLES, "kind": kind, "metadata": metadata,
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": role, "name": metadata["name"] },
            "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user }] })
    };
    let approve = json!([{ "apiGroups": ["tenantatlas.io"], "resources": ["workspaces"], "resourceNames": [workspace], "verbs": ["approve"] }]);
    let write = json!([{ "apiGroups": ["tenantatlas.io"], "resources": ["approvals"], "verbs": ["create", "delete"] }]);
    let of_cluster = [
        json!({ "apiVersion": ROLES, "kind": "ClusterRole", "metadata": metadata, "rules": approve }),
        binding("ClusterRoleBinding", "ClusterRole"),
    ];
    let in_namespace = [
        json!({ "apiVersion": ROLES, "kind": "Role", "metadata": metadata, "rules": write }),
        binding("RoleBinding", "Role"),
    ];
    let namespace = environment("ATLAS_OPERATOR_NAMESPACE");
    for manifest in of_cluster {
        tenant.apply(&manifest.to_string());
    }
    for manifest in in_namespace {
        let apply = ["apply", "--server-side", "--namespace", &namespace, "--filename", "-"];
        tenant.cluster.kubectl_reads(&apply, &manifest.to_string());
    }
    tenant.cluster.as_user(user, &[])
}

/// Approvals of workspace runs, as somebody.
fn approvals(client: &Client) -> Api<Approval> {
    Api::namespaced(client.clone(), &environment("ATLAS_OPERATOR_NAMESPACE"))
}

/// The manifest in the message of what waits, as somebody writes it.
fn manifest_of(status: &WorkspaceRunStatus, user: &str) -> Approval {
    let message = status.message.as_deref().unwrap_or_default();
    let manifest =
        message.split_once("echo '").and_then(|(_, rest)| rest.split_once("' | kubectl create")).expect(message);
    let mut manifest: Value = serde_json::from_str(manifest.0).expect("a manifest");
    manifest["spec"]["approvedBy"] = json!({ "username": user });
    serde_json::from_value(manifest).expect("an approval")
}

impl Tenant {
    async fn awaits_over_all(&self, name: &str, words: &str) -> WorkspaceRunStatus {
        self.over_all_when(name, words, |status| {
            status.phase == Phase::Queued
                && status.reason.as_deref() == Some("AwaitingApproval")
                && status.message.as_deref().is_some_and(|message| message.contains(words))
        })
        .await
    }
}

/// Neither who approves in a tenant or for another workspace, nor the requester.
async fn nobody_else_approves(tenant: &Tenant, run: &WorkspaceRun, status: &WorkspaceRunStatus) {
    let name = &run.name_any();
    let bob = tenant.person("bob", &["tenantatlas-tenant-approver"]).await;
    let his = manifest_of(status, "bob");
    assert_refused(approvals(&bob).create(&PostParams::default(), &his).await, 403, &["cannot create"]);
    let in_tenant = Api::<Approval>::namespaced(bob, &tenant.name).create(&PostParams::default(), &his).await;
    assert_refused(in_tenant, 422, &["is in the namespace of the operator"]);
    let dave = approver(tenant, "dave", &format!("{}-other", tenant.name));
    let refused = approvals(&dave).create(&PostParams::default(), &manifest_of(status, "dave")).await;
    assert_refused(refused, 403, &["it takes the verb approve on workspaces.tenantatlas.io/"]);
    // He may for the other workspace, and that does not count.
    let mut other = manifest_of(status, "dave");
    other.spec.approves.workspace = Some(format!("{}-other", tenant.name));
    let made = wait_for("dave has the verb", SOON, async || {
        approvals(&dave).create(&PostParams::default(), &other).await.map_err(|error| error.to_string())
    })
    .await;
    tenant.awaits_over_all(name, "is for another workspace").await;
    approvals(&dave).delete(&made.name_any(), &DeleteParams::default()).await.expect("he withdraws it");
    // Nor does the requester's own count.
    let admin = &tenant.cluster.client;
    let own = run.spec.requested_by.as_ref().expect("who asked").username.clone();
    let own = approvals(admin).create(&PostParams::default(), &manifest_of(status, &own)).await.expect("an approval");
    tenant.awaits_over_all(name, "is by the requester").await;
    approvals(admin).delete(&own.name_any(), &DeleteParams::default()).await.expect("it is withdrawn");
    tenant.awaits_over_all(name, "requires; to approve").await;
}

#[tokio::test]
async fn a_restore_in_all_tenants_waits_for_one_approval_that_the_audit_chain_of_each_names() {
    let tenant = Tenant::new("all-restore").await;
    tenant.repository("main").await;
    tenant.create_many("ConfigMap", 1);
    tenant.join_workspace(json!({ "approvals": [{ "types": ["restore.apply"] }] })).await;
    let of = |what: Value| {
        let mut spec = json!({ "workspace": { "name": tenant.name } });
        spec.as_object_mut().expect("fields").extend(what.as_object().expect("fields").clone());
        spec
    };
    let captures = format!("{}-before", tenant.name);
    let capture = of(json!({ "operation": { "type": "backup.capture", "inputs": { "repository": "main" } } }));
    let captured = tenant.run_over_all(&captures, capture).await;
    assert_eq!(tenant.over_all(&captures).await.outcome, Outcome::Succeeded);
    let [set, _] = run_names(&captures, &captured.uid().expect("a uid"));
    let before = tenant.data().await;
    let change = async || {
        let changed = Patch::Merge(json!({ "data": { "number": "changed" } }));
        let maps = tenant.api::<k8s_openapi::api::core::v1::ConfigMap>();
        maps.patch("item-000", &PatchParams::default(), &changed).await.expect("it is changed");
        tenant.data().await
    };
    let changed = change().await;
    let restore = json!({ "backupSet": { "name": set }, "existingResourcePolicy": "update",
        "items": [{ "kind": "ConfigMap", "name": "item-000" }] });
    let back = async |look: &str, name: &str| {
        let seen = tenant.done_over_all(look, of(json!({ "restore": restore, "dryRun": true }))).await;
        assert_eq!((seen.outcome, seen.preview.map(|sum| sum.update)), (Outcome::Succeeded, Some(1)), "{seen:#?}");
        let back = json!({ "restore": { "backupSet": { "name": set } }, "preview": tenant.named(look) });
        let run = tenant.run_over_all(name, of(back)).await;
        let status = tenant.awaits_over_all(name, "somebody else than").await;
        assert_eq!((&status.plan_digest, status.started_at), (&seen.plan_digest, None));
        (run, status)
    };
    let name = format!("{}-back", tenant.name);
    let (run, status) = back("look", &name).await;
    let [child, _] = run_names(&name, &run.uid().expect("a uid"));
    let restores = tenant.api::<RestoreRun>();
    assert!(restores.get_opt(&child).await.expect("a read").is_none(), "nothing is created before");

    let carol = approver(&tenant, "carol", &tenant.name);
    nobody_else_approves(&tenant, &run, &status).await;
    assert_eq!(tenant.data().await, changed, "nothing was written");

    let approve = async |status: &WorkspaceRunStatus| {
        wait_for("carol may", SOON, async || {
            let made = approvals(&carol).create(&PostParams::default(), &manifest_of(status, "carol")).await;
            made.map_err(|error| error.to_string())
        })
        .await
    };
    let given = approve(&status).await;
    let done = tenant.over_all(&name).await;
    assert_eq!(done.outcome, Outcome::Succeeded, "{done:#?}");
    assert_eq!(done.approval.as_ref().map(|by| by.approved_by.username.as_str()), Some("carol"));
    assert_eq!(tenant.data().await, before);
    let plan = restores.get(&child).await.expect("its record").status.and_then(|status| status.plan_digest);
    let entries = tenant.api::<AuditEntry>().list(&kube::api::ListParams::default()).await.expect("entries").items;
    let records: Vec<_> = entries.iter().filter_map(|entry| entry.spec.record()).collect();
    assert_eq!(records.len(), 2, "{records:#?}");
    for record in records {
        let approval = record.approval.expect("the approval");
        assert_eq!((approval.workspace_run.as_deref(), approval.uid), (Some(name.as_str()), given.uid().unwrap()));
        assert_eq!((approval.approved_by.username.as_str(), Some(approval.plan_digest)), ("carol", plan.clone()));
    }

    // One that was approved and is under way is cancelled in each tenant. No pod starts here.
    let again = format!("{}-again", tenant.name);
    let changed = change().await;
    let (run, status) = back("look-again", &again).await;
    let quota = json!({ "apiVersion": "v1", "kind": "ResourceQuota", "metadata": { "name": "no-pods" },
        "spec": { "hard": { "pods": "0" } } });
    tenant.apply(&quota.to_string());
    wait_for("the quota is counted", SOON, async || {
        let counted = tenant.api::<k8s_openapi::api::core::v1::ResourceQuota>().get("no-pods").await;
        let status = counted.map_err(|error| error.to_string())?.status.unwrap_or_default();
        status.used.map(drop).ok_or("not yet".to_owned())
    })
    .await;
    approve(&status).await;
    tenant.over_all_when(&again, "has one under way", |status| status.counts.active == 1).await;
    tenant.change_over_all(&again, json!({ "cancel": true })).await;
    let status = tenant.over_all(&again).await;
    assert_eq!((status.outcome, status.reason.as_deref()), (Outcome::Failed, Some("Cancelled")), "{status:#?}");
    let [child, _] = run_names(&again, &run.uid().expect("a uid"));
    let cancelled = restores.get(&child).await.expect("its record");
    assert_eq!((cancelled.spec.cancel, cancelled.is_completed()), (true, true));
    assert_eq!(tenant.data().await, changed);
    let admin = &tenant.cluster.client;
    for name in [&name, &again] {
        let approval = format!("workspacerun-{name}");
        approvals(admin).delete(&approval, &DeleteParams::default()).await.expect("it is deleted");
    }
    let namespace = environment("ATLAS_OPERATOR_NAMESPACE");
    for user in ["carol", "dave"] {
        let name = format!("{}-{user}", tenant.name);
        for kind in ["role", "rolebinding"] {
            tenant.cluster.kubectl(&["delete", kind, &name, "--namespace", &namespace]);
        }
    }
}
