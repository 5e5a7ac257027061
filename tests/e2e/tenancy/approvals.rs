//! A second pair of eyes: what needs an approval waits for somebody else's, of exactly its plan, and both people are
//! in the audit chain.

use super::initiator::{fills_in, without_mutation};
use super::{assert_refused, call};
use crate::support::{SOON, Tenant, wait_for};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, ListParams};
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};
use tenantatlas::api::{
    Approval, AuditEntry, BulkOperationRun, BulkOperationRunStatus, OperationRun, Outcome, Phase, RestoreRun,
};

const GROUP: &str = "tenantatlas.io/v1alpha1";
const POLICY: &str = "tenantatlas-approver";
const ADMIN: &str = "tenantatlas-tenant-admin";
const APPROVER: &str = "tenantatlas-tenant-approver";

/// An approval of a plan, as somebody writes it who claims to be another.
fn approval(kind: &str, name: &str, uid: &str, digest: &str) -> Value {
    let metadata = json!({ "name": format!("{}-{name}", kind.to_lowercase()) });
    json!({ "apiVersion": GROUP, "kind": "Approval", "metadata": metadata, "spec": {
        "for": { "kind": kind, "name": name, "uid": uid }, "planDigest": digest, "note": "looked at" } })
}

/// The manifest in the message of what waits.
fn manifest_of(message: &str) -> Value {
    let manifest =
        message.split_once("echo '").and_then(|(_, rest)| rest.split_once("' | kubectl create")).expect(message);
    serde_json::from_str(manifest.0).expect("a manifest")
}

impl Tenant {
    /// Deletes an approval, as somebody.
    async fn withdraw(&self, client: &Client, name: &str) {
        let path = self.path(GROUP, &format!("approvals/{name}"));
        call(client, "DELETE", &path, &Value::Null).await.expect("who approves may withdraw");
    }

    /// Waits until a restore waits for an approval, and says so in these words.
    async fn restore_awaits(&self, name: &str, words: &str) -> String {
        let status = self
            .restore_when(name, words, |status| {
                status.phase == Phase::Queued
                    && status.conditions.iter().any(|condition| condition.reason == "AwaitingApproval")
                    && status.message.as_deref().is_some_and(|message| message.contains(words))
            })
            .await;
        assert_eq!(status.operation_run, None, "nothing was started");
        status.message.unwrap_or_default()
    }

    async fn bulk_when(&self, name: &str, is_so: impl Fn(&BulkOperationRunStatus) -> bool) -> BulkOperationRunStatus {
        wait_for(&format!("bulk operation {}/{name}", self.name), SOON, async || {
            let bulk = self.api::<BulkOperationRun>().get(name).await.map_err(|error| error.to_string())?;
            let status = bulk.status_or_default();
            if is_so(&status) { Ok(status) } else { Err(format!("{status:#?}")) }
        })
        .await
    }

    async fn bulk_awaits(&self, name: &str) -> String {
        let awaits = |status: &BulkOperationRunStatus| status.reason.as_deref() == Some("AwaitingApproval");
        let status = self.bulk_when(name, awaits).await;
        assert_eq!((status.phase, status.operation_run), (Phase::Queued, None));
        status.message.unwrap_or_default()
    }
}

#[tokio::test]
async fn a_restore_waits_until_somebody_else_approves_exactly_its_plan_and_the_chain_names_both() {
    let tenant = Tenant::with_a_captured_shop("approvals-restore").await;
    let maps = tenant.api::<ConfigMap>();
    maps.delete("shop-settings", &DeleteParams::default()).await.expect("it can be deleted");
    let ada = tenant.person("ada", &[ADMIN, APPROVER]).await;
    let bob = tenant.person("bob", &[APPROVER]).await;
    let items = json!([{ "kind": "ConfigMap", "name": "shop-settings" }]);
    let restore = |name: &str, mut spec: Value| {
        spec["backupSet"] = json!({ "name": "nightly" });
        spec["requestedBy"] = json!({ "username": "ada" });
        json!({ "metadata": { "name": name }, "spec": spec })
    };
    let needs = json!({ "required": true });
    // Without a preview there is nothing to approve.
    let blind = restore("blind", json!({ "items": items, "approval": needs }));
    assert_refused(
        tenant.create_as::<RestoreRun>(ada.clone(), blind).await,
        422,
        &["what is approved is the plan of a preview"],
    );
    let look = restore("look", json!({ "items": items, "dryRun": true }));
    tenant.create_as::<RestoreRun>(ada.clone(), look).await.expect("a preview");
    let look = tenant.restored("look").await;
    let digest = look.plan_digest.expect("a plan");
    let put_back = restore("put-back", json!({ "preview": { "name": "look" }, "approval": needs }));
    let made: RestoreRun = tenant.create_as(ada.clone(), put_back).await.expect("a restore");
    let uid = made.uid().expect("a uid");
    let message = tenant.restore_awaits("put-back", "spec.approval requires").await;
    assert!(message.contains(&digest) && message.contains("somebody else than ada"), "{message}");
    wait_for("an event says so", SOON, async || {
        let events = tenant.events_about("put-back").await;
        if events.iter().any(|event| event.starts_with("AwaitingApproval: ")) { Ok(()) } else { Err(events.join("\n")) }
    })
    .await;

    // The requester's own approval is no second pair of eyes.
    let good = approval("RestoreRun", "put-back", &uid, &digest);
    tenant.create_as::<Approval>(ada.clone(), good.clone()).await.expect("she has the verb");
    tenant.restore_awaits("put-back", "is by the requester, ada").await;
    tenant.withdraw(&ada, "restorerun-put-back").await;
    // Nor is one of another plan, or of another object.
    for (made, words) in [
        (approval("RestoreRun", "put-back", &uid, &"0".repeat(64)), "is of another plan, 0000"),
        (approval("RestoreRun", "put-back", "earlier", &digest), "is for an earlier RestoreRun"),
    ] {
        tenant.create_as::<Approval>(bob.clone(), made).await.expect("bob has the verb");
        tenant.restore_awaits("put-back", words).await;
        // It never changes: another one takes its place.
        let path = tenant.path(GROUP, "approvals/restorerun-put-back");
        let changed = json!({ "spec": { "planDigest": "1".repeat(64) } });
        let answer = call(&tenant.cluster.client, "PATCH", &path, &changed).await;
        assert_refused(answer, 422, &["an approval is immutable"]);
        let label = json!({ "metadata": { "labels": { "team": "blue" } } });
        call(&tenant.cluster.client, "PATCH", &path, &label).await.expect("a label is harmless");
        tenant.withdraw(&bob, "restorerun-put-back").await;
    }
    assert!(maps.get_opt("shop-settings").await.expect("a read").is_none(), "nothing was written");

    // Somebody else's, with the command in the message.
    let manifest = manifest_of(&tenant.restore_awaits("put-back", "requires; to approve").await);
    let given: Approval = tenant.create_as(bob.clone(), manifest).await.expect("bob approves");
    assert_eq!(given.spec.approved_by.as_ref().map(|by| by.username.as_str()), Some("bob"));
    let done = tenant.restored("put-back").await;
    assert_eq!((done.outcome, done.plan_digest.as_deref()), (Outcome::Succeeded, Some(digest.as_str())), "{done:#?}");
    assert!(maps.get_opt("shop-settings").await.expect("a read").is_some());
    let entries = tenant.api::<AuditEntry>().list(&ListParams::default()).await.expect("entries").items;
    let records: Vec<_> = entries.iter().filter_map(|entry| entry.spec.record()).collect();
    assert_eq!(records.len(), 2, "{records:#?}");
    for record in records {
        let approval = record.approval.expect("the approval");
        assert_eq!((record.who.username.as_str(), approval.approved_by.username.as_str()), ("ada", "bob"));
        assert_eq!((approval.name, Some(approval.uid)), (given.name_any(), given.uid()));
        assert_eq!((approval.plan_digest, record.plan_digest), (digest.clone(), digest.clone()));
    }

    // What has moved since is not written, whoever approved it.
    let stale = restore("stale", json!({ "preview": { "name": "look" }, "approval": needs }));
    tenant.create_as::<RestoreRun>(ada.clone(), stale).await.expect("a restore");
    let manifest = manifest_of(&tenant.restore_awaits("stale", "to approve").await);
    tenant.create_as::<Approval>(bob, manifest).await.expect("bob approves");
    let stale = tenant.restored("stale").await;
    assert_eq!(stale.failure_reason.as_deref(), Some("PreviewStale"), "{stale:#?}");
}

#[tokio::test]
async fn a_workspace_says_what_needs_an_approval_and_who_cannot_give_one() {
    let tenant = Tenant::new("approvals-bulk").await;
    tenant.join_workspace(json!({ "approvals": [{ "types": ["bulk.apply"], "minItems": 3 }] })).await;
    let map = |name: &str| json!({ "metadata": { "name": name, "labels": { "app": "many" } } });
    for number in 0..3 {
        tenant.create::<ConfigMap>(map(&format!("item-{number}"))).await.expect("a ConfigMap");
    }
    let ada = tenant.person("ada", &[ADMIN]).await;
    let bob = tenant.person("bob", &[APPROVER]).await;
    let order = async |name: &str, fields: Value| {
        let mut spec =
            json!({ "resource": { "kind": "ConfigMap" }, "action": "label", "requestedBy": { "username": "ada" } });
        spec.as_object_mut().expect("a spec").extend(fields.as_object().expect("fields").clone());
        let bulk = json!({ "metadata": { "name": name }, "spec": spec });
        tenant.create_as::<BulkOperationRun>(ada.clone(), bulk).await.expect("a bulk operation")
    };
    let all = json!({ "labelSelector": "app=many", "options": { "set": { "team": "blue" } } });
    order("blind", all.clone()).await;
    let blind = tenant.bulk_end("blind").await;
    assert_eq!(
        (blind.outcome, blind.reason.as_deref()),
        (Outcome::Blocked, Some("ApprovalNeedsPreview")),
        "{blind:#?}"
    );
    let says = blind.message.unwrap_or_default();
    for words in ["make a dry run first", &format!("spec.approvals[0] of workspace {}", tenant.name)] {
        assert!(says.contains(words), "{says}");
    }
    let mut look = all;
    look["dryRun"] = json!(true);
    order("look", look).await;
    assert_eq!(tenant.bulk_end("look").await.outcome, Outcome::Succeeded, "a dry run takes no approval");
    let apply = json!({ "preview": { "name": "look" } });
    order("apply", apply.clone()).await;
    let manifest = manifest_of(&tenant.bulk_awaits("apply").await);

    // Who may not: by RBAC, by the verb, by where an account is.
    let path = tenant.path(GROUP, "approvals");
    let edit = tenant.person("eve", &["edit"]).await;
    for client in [&ada, &edit] {
        assert_refused(call(client, "POST", &path, &manifest).await, 403, &["cannot create resource \"approvals\""]);
    }
    let create = json!({ "apiGroups": ["tenantatlas.io"], "resources": ["approvals"], "verbs": ["create"] });
    let approve = |of: &str| json!({ "apiGroups": ["tenantatlas.io"], "resources": ["operationtypes"], "resourceNames": [of], "verbs": ["approve"] });
    let other = tenant.person_with("dan", json!([create, approve("restore.apply")])).await;
    let answer = call(&other, "POST", &path, &manifest).await;
    assert_refused(answer, 403, &[POLICY, "verb approve on operationtypes.tenantatlas.io/bulk.apply", APPROVER]);
    let account = format!("system:serviceaccount:{}:ci", tenant.name);
    let account = tenant.person_with(&account, json!([create, approve("bulk.apply")])).await;
    assert_refused(call(&account, "POST", &path, &manifest).await, 403, &[POLICY, "account of another namespace"]);
    // Its name follows from what it approves, so that there is one at most.
    let mut renamed = manifest.clone();
    renamed["metadata"]["name"] = json!("bulkoperationrun-other");
    assert_refused(call(&bob, "POST", &path, &renamed).await, 422, &["the name of an approval"]);

    let mut forged = manifest;
    forged["spec"]["approvedBy"] = json!({ "username": "root", "uid": "0" });
    if fills_in(&tenant, POLICY).await {
        let made = call(&bob, "POST", &path, &forged).await.expect("bob approves");
        assert_eq!(made["spec"]["approvedBy"], json!({ "username": "bob" }));
    } else {
        assert_refused(call(&bob, "POST", &path, &forged).await, 403, &[POLICY, "write bob"]);
        forged["spec"]["approvedBy"] = json!({ "username": "bob" });
        call(&bob, "POST", &path, &forged).await.expect("bob approves");
    }
    let done = tenant.bulk_end("apply").await;
    assert_eq!(done.outcome, Outcome::Succeeded, "{done:#?}");
    let entries = tenant.api::<AuditEntry>().list(&ListParams::default()).await.expect("entries").items;
    let by = entries.iter().filter_map(|entry| Some(entry.spec.record()?.approval?.approved_by.username));
    assert_eq!(by.collect::<Vec<_>>(), ["bob", "bob"]);

    // What waits is cancelled without having started, and a change of the workspace lets it go on.
    let back = json!({ "labelSelector": "app=many", "options": { "remove": ["team"] }, "dryRun": true });
    order("look-again", back).await;
    assert_eq!(tenant.bulk_end("look-again").await.outcome, Outcome::Succeeded);
    for name in ["cancelled", "free"] {
        order(name, json!({ "preview": { "name": "look-again" } })).await;
        tenant.bulk_awaits(name).await;
    }
    tenant.merge::<BulkOperationRun>("cancelled", json!({ "spec": { "cancel": true } })).await;
    assert_eq!(tenant.bulk_end("cancelled").await.reason.as_deref(), Some("Cancelled"));
    tenant.change_workspace(json!({ "approvals": [{ "types": ["bulk.apply"], "minItems": 4 }] })).await;
    let free = tenant.bulk_end("free").await;
    assert_eq!(free.outcome, Outcome::Succeeded, "{free:#?}");
    let runs = tenant.api::<OperationRun>().list(&ListParams::default()).await.expect("runs").items;
    assert!(!runs.iter().any(|run| run.name_any().starts_with("cancelled")), "it never had a run");
    tenant.workspaces().delete(&tenant.name, &DeleteParams::default()).await.expect("it is deleted");
}

#[tokio::test]
async fn where_the_api_server_cannot_write_who_approves_the_author_states_it_truthfully() {
    let tenant = Tenant::new("approvals-stated").await;
    let bob = tenant.person("bob", &[APPROVER]).await;
    let with = |by: Value| {
        let mut approval = approval("RestoreRun", "none", "uid", &"0".repeat(64));
        approval["spec"]["approvedBy"] = by;
        approval
    };
    without_mutation(&tenant, POLICY, "approvals", with(Value::Null)).await;
    for (by, words) in [
        (Value::Null, "spec.approvedBy.username must be who approves"),
        (json!({ "username": "root" }), "write bob"),
        (json!({ "username": "bob", "uid": "0" }), "spec.approvedBy.uid is not yours"),
    ] {
        let answer = tenant.create_as::<Approval>(bob.clone(), with(by)).await;
        assert_refused(answer, 403, &[POLICY, words]);
    }
    tenant.create_as::<Approval>(bob, with(json!({ "username": "bob" }))).await.expect("the truth is taken");
}
