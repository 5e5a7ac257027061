//! The tables of docs/guides/tenancy.md, cell by cell: by what the API server says of each role's rights, and by requests, as dry runs, where
//! policies decide.

use super::{call, may};
use crate::findings::{digest, finding};
use crate::support::Tenant;
use kube::Client;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use tenantatlas::api::{BackupSchedule, BackupSet, Finding, schema::custom_resource_definitions};

const GROUP: &str = "tenantatlas.io/v1alpha1";
const GUIDE: &str = include_str!("../../../docs/guides/tenancy.md");

/// The columns of both tables.
const ROLES: [&str; 6] =
    ["tenantatlas-tenant-viewer", "tenantatlas-tenant-operator", "tenantatlas-tenant-admin", "view", "edit", "admin"];

/// The words of the first table, and the verbs that each stands for.
const WORDS: [(&str, &[&str]); 4] = [
    ("read", &["get", "list", "watch"]),
    ("create", &["create"]),
    ("change", &["update", "patch"]),
    ("delete", &["delete"]),
];

/// The rows of a table below a heading: first cell, then one for each role.
fn rows(heading: &str) -> Vec<(String, Vec<String>)> {
    let text = GUIDE.split_once(&format!("\n## {heading}\n")).unwrap_or_else(|| panic!("no section {heading}")).1;
    let text = text.split("\n## ").next().expect("a section");
    let table = text.lines().filter(|line| line.starts_with('|'));
    let mut rows = table.map(|line| {
        let cells: Vec<String> = line.trim_matches('|').split('|').map(|cell| cell.trim().replace('`', "")).collect();
        (cells[0].clone(), cells[1..].to_vec())
    });
    let header = rows.next().expect("a header");
    let columns = ROLES.map(|role| role.trim_start_matches("tenantatlas-").to_owned());
    assert_eq!(header.1, columns, "{heading}");
    rows.skip(1).collect()
}

/// The plural names of our kinds.
fn kinds() -> BTreeSet<String> {
    custom_resource_definitions().into_iter().map(|definition| definition.spec.names.plural).collect()
}

#[test]
fn the_guide_has_a_row_for_each_kind_and_a_cell_for_each_role() {
    let rows = rows("What each role may do with each kind");
    assert_eq!(rows.iter().map(|(kind, _)| kind.clone()).collect::<BTreeSet<_>>(), kinds());
    for (kind, cells) in rows {
        assert_eq!(cells.len(), ROLES.len(), "{kind}");
        for word in cells.iter().flat_map(|cell| cell.split(", ")) {
            assert!(word == "–" || WORDS.iter().any(|(known, _)| *known == word), "{kind}: {word:?}");
        }
    }
}

impl Tenant {
    async fn one_of_each_role(&self) -> Vec<Client> {
        let mut people = Vec::new();
        for role in ROLES {
            people.push(self.person(&format!("one-{role}"), &[role]).await);
        }
        people
    }
}

#[tokio::test]
async fn each_role_may_do_with_each_kind_what_the_guide_says_and_no_more() {
    let tenant = Tenant::new("role-table").await;
    let people = tenant.one_of_each_role().await;
    let mut faults = Vec::new();
    for (kind, cells) in rows("What each role may do with each kind") {
        for ((role, client), cell) in ROLES.iter().zip(&people).zip(&cells) {
            let says: Vec<&str> = cell.split(", ").collect();
            for (word, verbs) in WORDS {
                for verb in verbs {
                    // A right to a whole collection is never held without the one to each.
                    let of_kind =
                        |verb: &str, below: &str| tenant.right(&format!("{verb} tenantatlas.io/{kind}{below}"));
                    if may(client, of_kind(verb, "")).await != says.contains(&word) {
                        faults.push(format!("{role}: {verb} {kind}: the guide says {cell}"));
                    }
                    if word == "change" && may(client, of_kind(verb, "/status")).await {
                        faults.push(format!("{role}: {verb} {kind}/status"));
                    }
                    if word == "delete" && !says.contains(&word) && may(client, of_kind("deletecollection", "")).await {
                        faults.push(format!("{role}: deletecollection {kind}"));
                    }
                }
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// What stands in the second table, as a request.
fn request(tenant: &Tenant, row: &str, who: &str) -> (&'static str, String, Value) {
    let path = |rest: &str| tenant.path(GROUP, rest);
    let object = |kind: &str, name: &str, spec: Value| json!({ "apiVersion": GROUP, "kind": kind, "metadata": { "name": name }, "spec": spec });
    let run = |spec: Value| ("POST", path("operationruns"), object("OperationRun", "new", spec));
    let inputs = json!({ "repository": "main" });
    let repository =
        json!({ "storage": { "persistentVolumeClaim": { "claimName": "a" } }, "passwordSecret": { "name": "a" } });
    let owners = json!({ "metadata": { "ownerReferences": [{ "apiVersion": "v1", "kind": "ConfigMap", "name": "gone", "uid": "0" }] } });
    match row {
        row if let Some(name) = row.strip_prefix("start ") => run(json!({ "type": name, "inputs": inputs })),
        "maintain with graceHours below 24" => {
            run(json!({ "type": "repository.maintain", "inputs": { "repository": "main", "graceHours": 0 } }))
        }
        "preview a restore" => {
            let spec = json!({ "backupSet": { "name": "none" }, "dryRun": true });
            ("POST", path("restoreruns"), object("RestoreRun", "new", spec))
        }
        "restore" => {
            ("POST", path("restoreruns"), object("RestoreRun", "new", json!({ "backupSet": { "name": "none" } })))
        }
        "preview a change in bulk" => {
            let spec =
                json!({ "resource": { "kind": "ConfigMap" }, "action": "restart", "items": ["none"], "dryRun": true });
            ("POST", path("bulkoperationruns"), object("BulkOperationRun", "new", spec))
        }
        "change many objects in bulk" => {
            let spec = json!({ "resource": { "kind": "ConfigMap" }, "action": "restart", "items": ["none"] });
            ("POST", path("bulkoperationruns"), object("BulkOperationRun", "new", spec))
        }
        "capture many objects" => {
            let spec = json!({ "resource": { "kind": "ConfigMap" }, "action": "capture", "items": ["none"],
                "options": { "repository": "main" } });
            ("POST", path("bulkoperationruns"), object("BulkOperationRun", "new", spec))
        }
        "export many objects" => {
            let spec = json!({ "resource": { "kind": "ConfigMap" }, "action": "export", "items": ["none"] });
            ("POST", path("bulkoperationruns"), object("BulkOperationRun", "new", spec))
        }
        "cancel a run" => ("PATCH", path("operationruns/there"), json!({ "spec": { "cancel": true } })),
        "create a schedule" => {
            ("POST", path("backupschedules"), object("BackupSchedule", "new", json!({ "schedule": "@daily" })))
        }
        "change when a schedule fires, or what it starts" => {
            ("PATCH", path("backupschedules/there"), json!({ "spec": { "schedule": "@monthly" } }))
        }
        "have it start one now" => (
            "PATCH",
            path("backupschedules/there"),
            json!({ "metadata": { "annotations": { "tenantatlas.io/run-now": "1" } } }),
        ),
        "suspend a schedule" => ("PATCH", path("backupschedules/there"), json!({ "spec": { "suspend": true } })),
        "set or change its retention" => {
            ("PATCH", path("backupschedules/there"), json!({ "spec": { "retention": { "keepLast": 1 } } }))
        }
        "change what decides which of its sets expire" => {
            ("PATCH", path("backupschedules/kept"), json!({ "spec": { "timeZone": "Europe/Berlin" } }))
        }
        "hold a backup set" => ("PATCH", path("backupsets/free"), json!({ "spec": { "hold": true } })),
        "take a hold off" => ("PATCH", path("backupsets/held"), json!({ "spec": { "hold": false } })),
        "accept a finding" => {
            let accepted = json!({ "note": "planned", "digest": digest(1), "by": { "username": who } });
            ("PATCH", path("findings/there"), json!({ "spec": { "acknowledged": accepted } }))
        }
        "change or delete a finding otherwise" => {
            ("PATCH", path("findings/there"), json!({ "spec": { "severity": "low" } }))
        }
        "approve a restore" => {
            let spec = json!({ "for": { "kind": "RestoreRun", "name": "new", "uid": "0" }, "planDigest": digest(1),
                "approvedBy": { "username": who } });
            ("POST", path("approvals"), object("Approval", "restorerun-new", spec))
        }
        "delete a backup set" => ("DELETE", path("backupsets/free"), Value::Null),
        "set up a repository" => ("POST", path("backuprepositories"), object("BackupRepository", "new", repository)),
        "adopt a store of other namespaces" => {
            let mut spec = repository;
            spec["adopt"] = json!({ "namespaceUids": ["0"] });
            ("POST", path("backuprepositories"), object("BackupRepository", "new", spec))
        }
        "give a run an owner or a finalizer" => ("PATCH", path("operationruns/there"), owners),
        "give a backup set an owner or a finalizer" => ("PATCH", path("backupsets/free"), owners),
        "change a type of the catalog" => {
            ("PATCH", format!("/apis/{GROUP}/operationtypes/backup.capture"), json!({ "spec": { "suspend": true } }))
        }
        "write a record: a set, a report, an audit entry" => {
            let spec = json!({ "repository": { "name": "main" }, "snapshot": "a".repeat(64), "run": { "name": "a", "uid": "a" },
                "namespaceUid": tenant.uid });
            ("POST", path("backupsets"), object("BackupSet", "new", spec))
        }
        "write a status" => ("PATCH", path("backupsets/free/status"), json!({ "status": { "items": 1 } })),
        "read the data of backups: the password of a repository is a Secret" => {
            ("GET", tenant.path("v1", "secrets/password"), Value::Null)
        }
        "be an account of operations" => (
            "POST",
            tenant.path("v1", "serviceaccounts/tenantatlas-worker/token"),
            json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {} }),
        ),
        other => panic!("{other:?} is new: say here which request it is"),
    }
}

#[tokio::test]
async fn each_role_gets_done_what_the_guide_says_and_no_more() {
    let tenant = Tenant::new("request-table").await;
    tenant.password("password", "secret");
    // Long running, for only such a run can be cancelled.
    let operation = tenant.script_type("long", crate::support::types::FOREVER, |_| {}).await;
    tenant.start("there", json!({ "type": operation })).await;
    tenant
        .create::<BackupSchedule>(json!({ "metadata": { "name": "there" }, "spec": { "schedule": "@yearly" } }))
        .await
        .expect("one");
    let kept =
        json!({ "metadata": { "name": "kept" }, "spec": { "schedule": "@yearly", "retention": { "keepLast": 2 } } });
    tenant.create::<BackupSchedule>(kept).await.expect("a schedule");
    for (name, hold) in [("free", false), ("held", true)] {
        let set = json!({ "metadata": { "name": name }, "spec": { "repository": { "name": "main" }, "snapshot": "a".repeat(64),
            "run": { "name": name, "uid": name }, "namespaceUid": tenant.uid, "hold": hold } });
        tenant.create_as::<BackupSet>(tenant.cluster.as_operator(), set).await.expect("a set");
    }
    let there = finding("there", &tenant.baseline("compared").await);
    tenant.create_as::<Finding>(tenant.finder(), there).await.expect("a finding");
    let people = tenant.one_of_each_role().await;
    let mut faults = Vec::new();
    for (row, cells) in rows("What each role gets done") {
        for ((role, client), cell) in ROLES.iter().zip(&people).zip(&cells) {
            let (method, path, body) = request(&tenant, &row, &format!("one-{role}"));
            // A token that is asked for as a dry run is given all the same.
            let path = if method == "GET" || path.ends_with("/token") { path } else { format!("{path}?dryRun=All") };
            let answer = match call(client, method, &path, &body).await {
                Ok(_) => "yes".to_owned(),
                Err(kube::Error::Api(status)) if status.code == 403 => "–".to_owned(),
                Err(error) => error.to_string(),
            };
            if answer != *cell {
                faults.push(format!("{role}: {row}: {answer}, and the guide says {cell}"));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
