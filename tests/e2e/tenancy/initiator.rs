//! Who asked for a run.

use super::{assert_refused, call};
use crate::support::{SOON, Tenant, wait_for};
use serde_json::{Value, json};
use tenantatlas::api::{BulkOperationRun, OperationRun, RestoreRun};

/// The policy that writes who asked for a run.
const POLICY: &str = "tenantatlas-initiator";

/// Where a policy that writes is bound; older clusters have none.
fn binding(policy: &str) -> String {
    format!("/apis/admissionregistration.k8s.io/v1/mutatingadmissionpolicybindings/{policy}")
}

/// Whether the API server fills in who asks. Where not, there is another story.
pub(super) async fn fills_in(tenant: &Tenant, policy: &str) -> bool {
    call(&tenant.cluster.client, "GET", &binding(policy), &Value::Null).await.is_ok()
}

fn run(name: &str, initiator: &Value) -> Value {
    json!({
        "metadata": { "name": name },
        "spec": { "type": "backup.capture", "inputs": { "repository": "none" }, "initiator": initiator },
    })
}

#[tokio::test]
async fn the_api_server_writes_who_asks_and_what_was_forged_is_gone() {
    let tenant = Tenant::new("initiator").await;
    if !fills_in(&tenant, POLICY).await {
        // An older cluster: the story for it is below.
        return;
    }
    let ada = tenant.person("ada", &["tenantatlas-tenant-operator"]).await;
    let mut forged = run("forged", &json!({ "username": "root", "uid": "0", "groups": ["system:masters"] }));
    forged["metadata"]["labels"] = json!({
        "team": "blue",
        "tenantatlas.io/identity": "0".repeat(40), "tenantatlas.io/outcome": "succeeded",
        "tenantatlas.io/initiator": "0".repeat(40), "tenantatlas.io/type": "other", "tenantatlas.io/workspace": "other",
    });
    for manifest in [forged, run("plain", &Value::Null)] {
        let made: OperationRun = tenant.create_as(ada.clone(), manifest).await.expect("ada may start a backup");
        let initiator = made.spec.initiator.expect("who asked");
        assert_eq!(initiator.username, "ada");
        assert_eq!(initiator.uid, None);
        assert_eq!(initiator.groups, ["system:authenticated"]);
        // As they are at birth: the operator has yet to add those that it alone knows.
        let mut labels = made.metadata.labels.expect("labels");
        assert_eq!(labels.remove("team").is_some(), made.metadata.name.as_deref() == Some("forged"));
        let ours = [
            ("tenantatlas.io/trigger", "manual"),
            ("tenantatlas.io/type", "backup.capture"),
            ("tenantatlas.io/workspace", tenant.workspace.as_str()),
        ];
        assert_eq!(labels, ours.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
    }
}

#[tokio::test]
async fn a_trigger_other_than_manual_and_another_initiator_are_the_operators() {
    let tenant = Tenant::new("trigger").await;
    let ada = tenant.person("ada", &["tenantatlas-tenant-operator"]).await;
    let mut scheduled = run("scheduled", &json!({ "username": "ada" }));
    scheduled["spec"]["trigger"] = "scheduled".into();
    let answer = tenant.create_as::<OperationRun>(ada, scheduled.clone()).await;
    assert_refused(answer, 403, &["tenantatlas-initiator", "spec.trigger"]);
    assert_refused(tenant.create::<OperationRun>(scheduled.clone()).await, 403, &["spec."]);
    let mut retry = run("retry", &Value::Null);
    retry["spec"]["trigger"] = "retry".into();
    assert_refused(tenant.create::<OperationRun>(retry).await, 403, &["spec.rerunOf"]);
    // What a run was made for decides what schedules, repositories and retention believe of it.
    let mut forged = run("forged", &Value::Null);
    forged["spec"]["scheduledBy"] = json!({ "name": "nightly", "uid": "u" });
    assert_refused(tenant.create::<OperationRun>(forged).await, 403, &["spec.scheduledBy"]);
    let by = json!({ "kind": "WorkspaceRun", "name": "all", "uid": "u" });
    let restore =
        json!({ "metadata": { "name": "forged" }, "spec": { "backupSet": { "name": "none" }, "scheduledBy": by } });
    assert_refused(tenant.create::<RestoreRun>(restore.clone()).await, 403, &["spec.scheduledBy"]);
    let bulk = json!({ "metadata": { "name": "forged" }, "spec": { "resource": { "kind": "Pod" }, "action": "restart",
        "items": ["a"], "scheduledBy": by } });
    assert_refused(tenant.create::<BulkOperationRun>(bulk.clone()).await, 403, &["spec.scheduledBy"]);
    // There is no such workspace run, so that what a stalled leader would create for it is not carried out.
    let operator = tenant.cluster.as_operator();
    for mut object in [restore, bulk] {
        object["spec"]["requestedBy"] = json!({ "username": "ada" });
        let (made, reason) = if object["spec"].get("action").is_some() {
            let made = tenant.create_as::<BulkOperationRun>(operator.clone(), object).await.expect("the operator may");
            (made.spec.requested_by, tenant.bulk_end("forged").await.reason)
        } else {
            let made = tenant.create_as::<RestoreRun>(operator.clone(), object).await.expect("the operator may");
            (made.spec.requested_by, tenant.restored("forged").await.failure_reason)
        };
        assert_eq!(made.expect("passed on").username, "ada");
        assert_eq!(reason.as_deref(), Some("CreatedLate"));
    }

    let made: OperationRun = tenant.create_as(tenant.cluster.as_operator(), scheduled).await.expect("the operator may");
    assert_eq!(made.spec.initiator.expect("passed on").username, "ada");
    let own = tenant.create_as(tenant.cluster.as_operator(), run("own", &Value::Null)).await;
    let own: OperationRun = own.expect("the operator may start a run by itself");
    if let Some(initiator) = own.spec.initiator {
        assert!(initiator.username.ends_with(":tenantatlas-controller"), "{}", initiator.username);
    }
}

#[tokio::test]
async fn where_the_api_server_cannot_write_it_the_author_states_it_truthfully() {
    let tenant = Tenant::new("stated").await;
    let ada = tenant.person("ada", &["tenantatlas-tenant-operator"]).await;
    without_mutation(&tenant, POLICY, "operationruns", run("probe", &Value::Null)).await;

    let attempt = async |name: &str, initiator: Value| -> Result<OperationRun, kube::Error> {
        tenant.create_as(ada.clone(), run(name, &initiator)).await
    };
    let policy = "tenantatlas-initiator";
    assert_refused(attempt("missing", Value::Null).await, 403, &[policy, "spec.initiator.username", "ada"]);
    assert_refused(
        attempt("other", json!({ "username": "root" })).await,
        403,
        &[policy, "spec.initiator.username", "ada"],
    );
    let uid = json!({ "username": "ada", "uid": "0" });
    assert_refused(attempt("uid", uid).await, 403, &[policy, "spec.initiator.uid"]);
    let groups = json!({ "username": "ada", "groups": ["system:authenticated", "system:masters"] });
    assert_refused(attempt("groups", groups).await, 403, &[policy, "spec.initiator.groups"]);
    assert!(tenant.api::<OperationRun>().list(&Default::default()).await.expect("a list").items.is_empty());

    for (name, initiator) in [
        ("name", json!({ "username": "ada" })),
        ("all", json!({ "username": "ada", "groups": ["system:authenticated"] })),
    ] {
        let made = attempt(name, initiator).await.expect("the truth is taken");
        assert_eq!(made.spec.initiator.expect("as stated").username, "ada");
    }
}

/// Leaves this tenant alone out of what a policy that writes is bound to, as on a cluster that has no such policy. The probe is
/// an object that does not say who asks.
pub(super) async fn without_mutation(tenant: &Tenant, policy: &str, plural: &str, mut probe: Value) {
    if !fills_in(tenant, policy).await {
        return;
    }
    let client = &tenant.cluster.client;
    let binding = binding(policy);
    let excepted = json!({ "key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": [tenant.name] });
    let selector = json!({ "matchExpressions": [excepted] });
    let patch = json!({ "spec": { "matchResources": { "namespaceSelector": selector } } });
    call(client, "PATCH", &binding, &patch).await.expect("the binding can be changed");
    probe["apiVersion"] = "tenantatlas.io/v1alpha1".into();
    probe["kind"] = match plural {
        "operationruns" => "OperationRun",
        "restoreruns" => "RestoreRun",
        "backupschedules" => "BackupSchedule",
        "approvals" => "Approval",
        other => panic!("{other}: nobody asks for one"),
    }
    .into();
    let dry = tenant.path("tenantatlas.io/v1alpha1", &format!("{plural}?dryRun=All"));
    wait_for("the API server to leave who asks alone", SOON, async || match call(client, "POST", &dry, &probe).await {
        Ok(_) => Err("still written"),
        Err(_) => Ok(()),
    })
    .await;
}

#[tokio::test]
async fn an_object_without_a_spec_is_refused_for_that_and_not_for_who_asks() {
    let tenant = Tenant::new("no-spec").await;
    let group = "tenantatlas.io/v1alpha1";
    for (kind, plural) in [
        ("OperationRun", "operationruns"),
        ("RestoreRun", "restoreruns"),
        ("BulkOperationRun", "bulkoperationruns"),
        ("BackupSchedule", "backupschedules"),
        ("Approval", "approvals"),
    ] {
        let object = json!({ "apiVersion": group, "kind": kind, "metadata": { "name": "empty" } });
        let answer = call(&tenant.cluster.client, "POST", &tenant.path(group, plural), &object).await;
        assert_refused(answer, 422, &["spec: Required value"]);
    }
}
