//! The audit chain: written by the pods of operations, changed by nobody, gone with its namespace.

use super::{assert_refused, assert_refused_by_either, call};
use crate::support::cluster::environment;
use crate::support::run::assert_ended;
use crate::support::{SOON, Tenant, wait_for};
use kube::Client;
use serde_json::{Value, json};
use tenantatlas::{
    api::{
        AuditEntry, ObjectReference, OperationRun, Outcome, Reason, RestoreRun,
        audit_entry::{AuditEvent, AuditRecord},
        provenance::PlanSummary,
        subject::Initiator,
    },
    audit::{Entry, Fault, Foreign, Place, Tip, successor, verify},
    worker::{audit, environment::RunIdentity},
};

const GROUP: &str = "tenantatlas.io/v1alpha1";
/// A pod as operations have them.
const POD: &str = "op-0123456789abcdef0123-restore-x7k2p";
const FIRST: &str = "000000000001";
const SECOND: &str = "000000000002";

fn record(run_uid: &str) -> AuditRecord {
    AuditRecord {
        name: String::new(),
        namespace: String::new(),
        previous: String::new(),
        groups_left_out: 0,
        approval: None,
        pod: POD.into(),
        event: AuditEvent::Intent,
        at: "2026-01-02T03:04:05.000678Z".parse().expect("a time"),
        who: Initiator { username: "ada".into(), groups: vec!["devs".into()], uid: None },
        operation_type: "restore.apply".into(),
        run: ObjectReference { name: "mine".into(), uid: run_uid.to_owned() },
        restore_run: None,
        bulk_operation_run: None,
        change: None,
        backup_set: None,
        plan_digest: "0".repeat(64),
        summary: Some(PlanSummary { create: 2, ..PlanSummary::default() }),
        outcome: None,
        counts: None,
    }
}

/// An entry as a manifest.
fn manifest(name: &str) -> Value {
    let spec = successor(None, Place::FIRST, "acme", record("uid"));
    json!({ "metadata": { "name": name, "labels": { "tenantatlas.io/run-uid": "uid" } }, "spec": spec })
}

impl Tenant {
    /// Who writes entries: the account of restores in the pod of an operation, once the API server knows of its rights.
    async fn writer(&self) -> Client {
        let account = format!("system:serviceaccount:{}:tenantatlas-restore", self.name);
        let client = self.cluster.as_user_in_pod(&account, POD);
        self.until_allowed(&client, self.right("create tenantatlas.io/auditentries")).await;
        client
    }

    /// Appends as a worker does. The entry's name.
    async fn tell(&self, writer: &Client, run_uid: &str) -> String {
        let identity = RunIdentity {
            run: "mine".into(),
            run_uid: run_uid.to_owned(),
            namespace: self.name.clone(),
            job_uid: String::new(),
            pod: POD.into(),
        };
        audit::append(writer, &identity, record(run_uid)).await.expect("an operation's pod may")
    }

    /// The chain as the API server has it.
    async fn audit_chain(&self) -> Vec<Entry> {
        let list = call(&self.cluster.client, "GET", &self.path(GROUP, "auditentries"), &Value::Null).await;
        serde_json::from_value(list.expect("entries can be listed")["items"].take()).expect("entries")
    }

    /// Somebody with every right on entries.
    async fn omnipotent(&self, user: &str) -> Client {
        let verbs = ["deletecollection", "delete", "update", "patch", "create", "get", "list", "watch"];
        let rules = json!([{ "apiGroups": ["tenantatlas.io"], "resources": ["auditentries"], "verbs": verbs }]);
        self.person_with(user, rules).await
    }
}

#[tokio::test]
async fn entries_are_written_by_the_pods_of_operations_one_after_the_other_and_read_by_the_tenant() {
    let tenant = Tenant::new("audit").await;
    let writer = tenant.writer().await;
    assert_eq!(tenant.tell(&writer, "a").await, FIRST);
    assert_eq!(tenant.tell(&writer, "a").await, FIRST, "what was said is not said again");
    // All at once: the API server lets one through at a time.
    let told = ["b", "c", "d", "e"].map(|uid| tenant.tell(&writer, uid));
    futures::future::join_all(told).await;
    let mut chain = tenant.audit_chain().await;
    assert_eq!(chain.len(), 5);
    assert_eq!(verify(&tenant.name, &chain, &[]), [], "the hashes are those of what the API server keeps");
    let tip = Tip::of(&chain[4]).expect("a tip");
    chain[2].spec["entry"] = chain[2].text().replace("ada", "eve").into();
    let at = "000000000004".parse().expect("a place");
    assert!(verify(&tenant.name, &chain, &[tip]).contains(&Fault::MissingBefore { at }));

    let ada = tenant.person("ada", &["tenantatlas-tenant-viewer"]).await;
    call(&ada, "GET", &tenant.path(GROUP, &format!("auditentries/{FIRST}")), &Value::Null)
        .await
        .expect("it is readable");
    let table = tenant.cluster.kubectl_prints(&["get", "audit", "--namespace", &tenant.name]);
    let mut lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    assert_eq!(lines.next().expect("a header"), ["NAME", "EVENT", "TYPE", "WHO", "RESTORE", "BULK", "OUTCOME", "AGE"]);
    assert_eq!(lines.next().expect("an entry")[..4], [FIRST, "intent", "restore.apply", "ada"]);
}

#[tokio::test]
async fn nobody_else_writes_an_entry() {
    let tenant = Tenant::new("audit-forged").await;
    let words = ["tenantatlas-audit-writers", "pods of restores"];
    let eve = tenant.omnipotent("eve").await;
    for client in [&eve, &tenant.cluster.client, &tenant.cluster.as_operator()] {
        let forged = tenant.create_as::<AuditEntry>(client.clone(), manifest(FIRST)).await;
        match forged {
            // The operator has no right to begin with.
            Err(kube::Error::Api(status)) if status.message.contains("cannot create resource") => {
                assert!(status.message.contains("tenantatlas-controller"), "{}", status.message);
            }
            other => assert_refused(other, 403, &words),
        }
    }
    // Neither a pod that is none of an operation's, nor an operation's pod of another tenant, nor that of an operation that is no
    // restore: an image of somebody's may run there, under the same account.
    let own = format!("system:serviceaccount:{}:web", tenant.name);
    let other = "system:serviceaccount:other:tenantatlas-restore".to_owned();
    tenant.omnipotent(&own).await;
    tenant.omnipotent(&other).await;
    for (user, pod) in [
        (own.clone(), "web-0"),
        (own.clone(), "op-0123456789abcdef0123-x7k2p"),
        (own, "op-0123456789abcdef0123-restorex-x7k2p"),
        (other, POD),
    ] {
        let client = tenant.cluster.as_user_in_pod(&user, pod);
        assert_refused(tenant.create_as::<AuditEntry>(client, manifest(FIRST)).await, 403, &words);
    }
    assert_eq!(tenant.audit_chain().await, []);
}

#[tokio::test]
async fn an_entry_has_its_place_its_run_and_nobody_it_goes_with() {
    let tenant = Tenant::new("audit-shape").await;
    let writer = tenant.writer().await;
    let run = json!({ "apiVersion": GROUP, "kind": "OperationRun", "name": "mine", "uid": "uid" });
    let changed = |pointer: &str, value: Value| {
        let mut entry = manifest(FIRST);
        let (parent, field) = pointer.rsplit_once('/').expect("a field");
        entry.pointer_mut(parent).expect("a parent")[field] = value;
        entry
    };
    for (entry, words) in [
        (manifest("latest"), "12 digits"),
        (manifest("000000000000"), "12 digits"),
        (manifest("1000000000000"), "12 digits"),
        (changed("/spec/entry", json!("")), "spec.entry"),
        (changed("/spec/entry", json!("x".repeat(32_769))), "spec.entry"),
        (changed("/spec/event", json!("outcome")), "an outcome has an outcome"),
        (changed("/spec/planDigest", json!("1")), "spec.planDigest"),
        (changed("/spec/who", json!("")), "spec.who"),
        (changed("/metadata/labels", json!({})), "must be spec.run.uid"),
        (changed("/metadata/labels", json!({ "tenantatlas.io/run-uid": "other" })), "must be spec.run.uid"),
    ] {
        assert_refused(tenant.create_as::<AuditEntry>(writer.clone(), entry).await, 422, &[words]);
    }
    // Of these tenantatlas-lifetime may be asked first: the writer may not delete an entry.
    for entry in [
        changed("/metadata/ownerReferences", json!([run])),
        changed("/metadata/finalizers", json!(["example.com/never"])),
    ] {
        let answer = tenant.create_as::<AuditEntry>(writer.clone(), entry).await;
        let (code, words) = match &answer {
            Err(kube::Error::Api(status)) if status.code == 403 => (403, ["tenantatlas-lifetime", "verb delete"]),
            _ => (422, ["tenantatlas-audit-writers", "has no owner and no finalizer"]),
        };
        assert_refused(answer, code, &words);
    }
    // Nor may a restore's own account that has every right on entries, `delete` among them.
    let own = format!("system:serviceaccount:{}:own", tenant.name);
    tenant.omnipotent(&own).await;
    let config_map = json!({ "apiVersion": "v1", "kind": "ConfigMap", "name": "mine", "uid": "uid" });
    for entry in [
        changed("/metadata/ownerReferences", json!([config_map])),
        changed("/metadata/finalizers", json!(["example.com/never"])),
    ] {
        let answer = tenant.create_as::<AuditEntry>(tenant.cluster.as_user_in_pod(&own, POD), entry).await;
        assert_refused(answer, 422, &["tenantatlas-audit-writers", "has no owner and no finalizer"]);
    }
    let of_another = changed("/spec/pod", json!("op-0123456789abcdef0123-restore-other"));
    let answer = tenant.create_as::<AuditEntry>(writer.clone(), of_another).await;
    assert_refused(answer, 403, &["tenantatlas-audit-writers", "spec.pod"]);
    assert_eq!(tenant.audit_chain().await, []);
    tenant.create_as::<AuditEntry>(writer.clone(), manifest(FIRST)).await.expect("as it should be");
    assert_refused(tenant.create_as::<AuditEntry>(writer, manifest(FIRST)).await, 409, &["already exists"]);
}

#[tokio::test]
async fn nobody_changes_or_deletes_an_entry_whatever_their_rights() {
    let tenant = Tenant::new("audit-kept").await;
    let writer = tenant.writer().await;
    tenant.tell(&writer, "a").await;
    tenant.tell(&writer, "b").await;
    let (all, first) = (tenant.path(GROUP, "auditentries"), tenant.path(GROUP, &format!("auditentries/{FIRST}")));
    let before = call(&tenant.cluster.client, "GET", &all, &Value::Null).await.expect("entries")["items"].take();
    let eve = tenant.omnipotent("eve").await;
    let owner = |version: &str, kind: &str| json!({ "apiVersion": version, "kind": kind, "name": "mine", "uid": "0" });
    let namespace_controller =
        tenant.cluster.as_user("system:serviceaccount:kube-system:namespace-controller", &["system:serviceaccounts"]);
    // Of an owner of ours another policy may be asked first.
    let chain = "with binding 'tenantatlas-audit-chain' denied request: audit entry 000000000001 cannot be changed";
    for client in [&eve, &tenant.cluster.client] {
        for (change, other) in [
            (json!({ "metadata": { "labels": { "tenantatlas.io/run-uid": "other" } } }), chain),
            (json!({ "metadata": { "annotations": { "note": "mine" } } }), chain),
            (json!({ "metadata": { "generateName": "altered" } }), chain),
            (json!({ "metadata": { "finalizers": ["example.com/never"] } }), chain),
            (json!({ "metadata": { "ownerReferences": [owner("v1", "ConfigMap")] } }), chain),
            (json!({ "metadata": { "ownerReferences": [owner(GROUP, "OperationRun")] } }), "tenantatlas-lifetime"),
        ] {
            assert_refused_by_either(call(client, "PATCH", &first, &change).await, [(403, &[chain]), (403, &[other])]);
            let mut whole = before[0].clone();
            whole["metadata"].as_object_mut().expect("metadata").extend(
                change["metadata"]
                    .as_object()
                    .expect("metadata")
                    .iter()
                    .map(|(key, value)| (key.clone(), value.clone())),
            );
            whole["apiVersion"] = GROUP.into();
            whole["kind"] = "AuditEntry".into();
            assert_refused_by_either(call(client, "PUT", &first, &whole).await, [(403, &[chain]), (403, &[other])]);
        }
        // The kind itself is asked before the policies are.
        let forged = json!({ "spec": { "who": "mallory" } });
        assert_refused(call(client, "PATCH", &first, &forged).await, 422, &["an audit entry is immutable"]);
        let deleted = call(client, "DELETE", &first, &Value::Null).await;
        assert_refused(deleted, 403, &["tenantatlas-audit-chain", "cannot be deleted"]);
        assert_refused(call(client, "DELETE", &all, &Value::Null).await, 403, &["tenantatlas-audit-chain"]);
    }
    // Who may at the end of the namespace may not before.
    let early = call(&namespace_controller, "DELETE", &first, &Value::Null).await;
    assert_refused(early, 403, &["tenantatlas-audit-chain"]);
    // Nor those who wrote it, nor the tenant's admin by the chart's roles.
    let ada = tenant.person("ada", &["tenantatlas-tenant-admin"]).await;
    for client in [&writer, &ada] {
        for method in ["PATCH", "DELETE"] {
            assert_refused(call(client, method, &first, &json!({})).await, 403, &["cannot"]);
        }
    }
    // What changes nothing is let through: storage migration does just that.
    call(&tenant.cluster.client, "PATCH", &first, &json!({})).await.expect("nothing changed");
    let after = call(&tenant.cluster.client, "GET", &all, &Value::Null).await.expect("entries")["items"].take();
    assert_eq!(after, before, "byte for byte, their versions too");
}

#[tokio::test]
async fn forged_entries_end_nothing_are_called_foreign_and_can_be_removed_by_a_group_that_the_chart_names() {
    let tenant = Tenant::new("audit-foreign").await;
    let writer = tenant.writer().await;
    tenant.tell(&writer, "a").await;
    tenant.tell(&writer, "b").await;
    // As if a pod of a restore had been somebody else's: all powers of two, and the last number there is.
    let mut expected = Vec::new();
    for place in (2..39).map(|power| 1_u64 << power).chain([999_999_999_999]).filter_map(Place::new) {
        let nothing = Tip { place, hash: "f".repeat(64) };
        let spec = successor(Some(&nothing), place, &tenant.name, record("uid"));
        let labels = json!({ "tenantatlas.io/run-uid": "uid" });
        let forged = json!({ "metadata": { "name": place.to_string(), "labels": labels }, "spec": spec });
        tenant.create_as::<AuditEntry>(writer.clone(), forged).await.expect("a pod of a restore writes");
        expected.push(Fault::Foreign { name: place.to_string(), why: Foreign::Unlinked });
    }
    for (uid, place) in [("c", "000000000003"), ("d", "000000000005"), ("e", "000000000006")] {
        assert_eq!(tenant.tell(&writer, uid).await, place, "the chain goes on around them");
    }
    assert_eq!(verify(&tenant.name, &tenant.audit_chain().await, &[]), expected);

    // The group of the chart's value, with the right to.
    let rules = json!([{ "apiGroups": ["tenantatlas.io"], "resources": ["auditentries"], "verbs": ["delete"] }]);
    let alone = tenant.person_with("olga", rules).await;
    let platform = tenant.cluster.as_user("olga", &[&environment("ATLAS_BREAK_GLASS_GROUP")]);
    for fault in &expected {
        let Fault::Foreign { name, .. } = fault else { panic!("{fault}") };
        let path = tenant.path(GROUP, &format!("auditentries/{name}"));
        let refused = call(&alone, "DELETE", &path, &Value::Null).await;
        assert_refused(refused, 403, &["tenantatlas-audit-chain", "breakGlassGroups"]);
        call(&platform, "DELETE", &path, &Value::Null).await.expect("a platform team takes it away");
    }
    assert_eq!(tenant.tell(&writer, "f").await, "000000000007");
    assert_eq!(verify(&tenant.name, &tenant.audit_chain().await, &[]), []);
}

#[tokio::test]
async fn a_tenant_with_entries_can_be_deleted() {
    let tenant = Tenant::new("audit-end").await;
    let writer = tenant.writer().await;
    for uid in ["a", "b", "c"] {
        tenant.tell(&writer, uid).await;
    }
    tenant.ends().await;
}

#[tokio::test]
async fn the_snapshots_of_a_tenant_hold_the_end_of_its_chain_for_stock_restic_to_show() {
    let tenant = Tenant::new("audit-tip").await;
    let restic = tenant.repository("main").await;
    let writer = tenant.writer().await;
    for uid in ["a", "b", "c"] {
        tenant.tell(&writer, uid).await;
    }
    tenant.start("capture", json!({ "type": "backup.capture", "inputs": { "repository": "main" } })).await;
    assert_ended(&tenant.completed("capture", SOON).await, Outcome::Succeeded, Reason::Succeeded);
    let snapshot = restic.snapshots_of(&tenant.run("capture").await).remove(0);
    let tags: Vec<&str> = snapshot["tags"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let held = tags.iter().find_map(|tag| tag.strip_prefix("audit=")).expect("the tag");
    let chain = tenant.audit_chain().await;
    assert_eq!(Some(held.parse().expect("a tip")), Tip::of(&chain[2]), "{tags:?}");
}

#[tokio::test]
async fn a_restore_leaves_two_entries_that_outlive_it_and_a_preview_none() {
    let tenant = Tenant::new("audit-restore").await;
    tenant.apply(&json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "kept" } }).to_string());
    tenant.repository("main").await;
    tenant.captured_whole("nightly").await;
    tenant.cluster.kubectl_prints(&["delete", "configmap", "kept", "--namespace", &tenant.name]);
    tenant.restore("look", "nightly", json!({ "dryRun": true })).await;
    assert_eq!(tenant.restored("look").await.audit, None);
    assert_eq!(tenant.audit_chain().await, []);

    tenant.restore("put-back", "nightly", json!({ "preview": { "name": "look" } })).await;
    let status = tenant.restored("put-back").await;
    assert_eq!(status.outcome, Outcome::Succeeded, "{status:?}");
    let audit = status.audit.expect("status.audit");
    assert_eq!((audit.intent.as_str(), audit.outcome.as_deref()), (FIRST, Some(SECOND)));
    let chain = tenant.audit_chain().await;
    assert_eq!(verify(&tenant.name, &chain, &[]), []);
    let restore: RestoreRun = tenant.api().get("put-back").await.expect("the restore");
    let [intent, outcome] =
        [0, 1].map(|place| serde_json::from_str::<AuditRecord>(chain[place].text()).expect("an entry"));
    let job = tenant.run("put-back-restore").await.status_or_default().job.expect("a Job").name;
    for entry in [&intent, &outcome] {
        assert!(job.ends_with("-restore") && entry.pod.starts_with(&job), "{} of {job}", entry.pod);
        assert_eq!(Some(&entry.who), restore.spec.requested_by.as_ref());
        assert_eq!(entry.operation_type, "restore.apply");
        assert_eq!(Some(&entry.run), status.operation_run.as_ref());
        let of_restore = entry.restore_run.as_ref().expect("the restore");
        assert_eq!((of_restore.name.as_str(), Some(&of_restore.uid)), ("put-back", restore.metadata.uid.as_ref()));
        assert_eq!(entry.backup_set.as_ref().map(|set| set.name.as_str()), Some("nightly"));
        assert_eq!(Some(&entry.plan_digest), status.plan_digest.as_ref());
    }
    assert!(intent.at < outcome.at);
    assert_eq!(intent.summary.map(|summary| summary.create), Some(1));
    assert_eq!((outcome.outcome, outcome.counts), (Some(Outcome::Succeeded), status.results));

    tenant.cluster.kubectl_prints(&["delete", "restorerun", "put-back", "--namespace", &tenant.name]);
    let run = status.operation_run.expect("a run").name;
    wait_for("its run is gone", SOON, async || {
        let run = tenant.api::<OperationRun>().get_opt(&run).await.map_err(|error| error.to_string())?;
        if run.is_none() { Ok(()) } else { Err("it is there".to_owned()) }
    })
    .await;
    assert_eq!(tenant.audit_chain().await, chain);
}
