//! What says that it never changes: every change to every field, in every way to send one.
//!
//! The fields come from the schemas. What is tried is made from objects in which each of them is set: a field added tomorrow is missed
//! by the first check here until somebody says what a sound value of it is.

use super::{call, ways::Way};
use crate::support::types::FOREVER;
use crate::support::{SOON, Tenant};
use futures::{StreamExt, stream};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{JSONSchemaProps, JSONSchemaPropsOrArray};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use tenantatlas::api::{
    BackupSet, BulkOperationRun, OperationReport, OperationRun, Reason, RestoreRun, schema::custom_resource_definitions,
};

const GROUP: &str = "tenantatlas.io/v1alpha1";

/// The kinds whose spec never changes, but for one field. Audit entries take no change at all: `audit.rs`.
const KINDS: [(&str, &str); 6] = [
    ("OperationRun", "cancel"),
    ("RestoreRun", "cancel"),
    ("BulkOperationRun", "cancel"),
    ("WorkspaceRun", "cancel"),
    ("BackupSet", "hold"),
    ("OperationReport", ""),
];

/// Requests at once.
const AT_ONCE: usize = 8;

/// JSON as no schema knows it.
fn anything() -> Value {
    json!({ "a": { "b": 1, "c": [1, 2, { "d": null }] }, "text": "words", "none": null, "list": ["x", "y"],
        "empty": {}, "nothing": [], "exact": 1.5, "yes": true })
}

/// For whom the operator creates bulk operations and restores.
fn of_workspace_run() -> Value {
    json!({ "kind": "WorkspaceRun", "name": "none", "uid": "uid", "tick": "2026-01-02T03:04:05Z" })
}

/// Specs in which, taken together, every field of the kind is set.
fn sound(kind: &str) -> Vec<Value> {
    let selector = json!({ "provider": "kubernetes", "group": "apps", "kind": "Deployment", "name": "web", "labelSelector": "a=b" });
    let (one, other) = (selector.clone(), json!({ "kind": "Secret" }));
    match kind {
        "OperationRun" => {
            vec![
                json!({ "type": "none", "inputs": anything(), "onDuplicate": "Reject", "timeoutSeconds": 900, "queueTimeoutSeconds": 86_400,
            "target": { "apiVersion": "apps/v1", "kind": "Deployment", "name": "web" }, "rerunOf": { "name": "earlier" },
            "trigger": "retry", "scheduledBy": { "kind": "BackupSchedule", "name": "nightly", "uid": "uid",
                "tick": "2026-01-02T03:04:05Z" } }),
            ]
        }
        "RestoreRun" => vec![
            json!({ "backupSet": { "name": "none" }, "dryRun": true, "items": [one, other], "excludeItems": [one, other],
                "only": "missing", "existingResourcePolicy": "update", "prune": true, "allowDataLoss": true,
                "safetyCapture": false, "serviceAccountName": "own", "rerunOf": { "name": "earlier" },
                "queueTimeoutSeconds": 86_400,
                "transforms": [
                    { "select": selector, "patch": [
                        { "op": "add", "path": "/metadata/labels", "from": "/metadata/annotations", "value": anything() },
                        { "op": "test", "path": "/data", "value": null },
                        { "op": "replace", "path": "/data", "value": ["x", "y"] },
                        { "op": "replace", "path": "/kind", "value": "text" }] },
                    { "select": {}, "patch": [{ "op": "remove", "path": "/spec" }] }] }),
            json!({ "backupSet": { "name": "none" }, "preview": { "name": "look", "planDigest": "a".repeat(64) },
                "approval": { "required": true, "validSeconds": 3600 } }),
            json!({ "finding": { "name": "drift-0", "path": "data.a" } }),
            json!({ "backupSet": { "name": "none" }, "scheduledBy": of_workspace_run() }),
        ],
        "BulkOperationRun" => vec![
            json!({ "resource": { "provider": "kubernetes", "group": "apps", "kind": "Deployment" }, "action": "label",
                "items": ["a", "b"], "options": { "set": { "tenantatlas.io/a": "b" }, "remove": ["c", "d"] },
                "parallelism": 3, "stopAfterFailures": 4, "queueTimeoutSeconds": 86_400 }),
            json!({ "resource": { "kind": "Pod" }, "action": "delete", "items": ["a"], "dryRun": true,
                "options": { "repository": "main", "allowDataLoss": true } }),
            json!({ "resource": { "kind": "Pod" }, "action": "scale", "labelSelector": "a=b",
                "options": { "replicas": 3 } }),
            json!({ "resource": { "kind": "Pod" }, "action": "label", "preview": { "name": "look", "planDigest": "a".repeat(64) },
                "approval": { "required": true, "validSeconds": 3600 } }),
            json!({ "resource": { "kind": "Pod" }, "action": "restart", "items": ["a"], "dryRun": true }),
            json!({ "resource": { "kind": "Pod" }, "action": "restart", "items": ["a"], "scheduledBy": of_workspace_run() }),
        ],
        "WorkspaceRun" => {
            let selectors = json!([{ "provider": "kubernetes", "group": "apps", "kind": "Deployment", "name": "web", "labelSelector": "a=b" }, {}]);
            let one = json!({ "workspace": { "name": "none" }, "operation": { "type": "none", "inputs": anything() },
            "tenantSelector": "a=b", "parallelism": 3, "stopAfterFailures": 4, "rerunOf": { "name": "earlier" },
            "timeoutSeconds": 900, "queueTimeoutSeconds": 86_400, "ttlSecondsAfterFinished": 86_400,
            "waves": [{ "tenants": 1, "waitSeconds": 5 }, { "percent": 10 }, { "tenantSelector": "a=b" }] });
            let of = |spec: Value| {
                let mut whole = json!({ "workspace": { "name": "none" } });
                whole.as_object_mut().expect("fields").extend(spec.as_object().expect("fields").clone());
                whole
            };
            let preview = json!({ "name": "look", "planDigest": "a".repeat(64) });
            vec![
                one,
                of(json!({ "bulk": { "resource": { "provider": "kubernetes", "group": "apps", "kind": "Deployment" },
                    "action": "label", "items": ["a", "b"], "parallelism": 3, "stopAfterFailures": 4,
                    "options": { "set": { "tenantatlas.io/a": "b" }, "remove": ["c", "d"] } } })),
                of(json!({ "dryRun": true, "bulk": { "resource": { "kind": "Pod" }, "action": "delete",
                    "labelSelector": "a=b", "options": { "repository": "main", "allowDataLoss": true } } })),
                of(json!({ "bulk": { "resource": { "kind": "Pod" }, "action": "scale", "items": ["a"],
                    "options": { "replicas": 3 } } })),
                of(json!({ "dryRun": true, "restore": { "backupSet": { "name": "none" }, "items": selectors,
                    "excludeItems": selectors, "only": "missing", "existingResourcePolicy": "update", "prune": true,
                    "allowDataLoss": true, "transforms": [{ "select": selectors[0], "patch": [
                        { "op": "add", "path": "/metadata/labels", "from": "/metadata/annotations", "value": anything() },
                        { "op": "test", "path": "/data", "value": null }] }] } })),
                of(json!({ "undoOf": { "name": "earlier" }, "preview": preview,
                    "approval": { "required": true, "validSeconds": 3600 } })),
            ]
        }
        "BackupSet" => vec![json!({ "repository": { "name": "main" }, "snapshot": "a".repeat(64),
            "run": { "name": "run", "uid": "uid" }, "namespaceUid": "uid", "content": "Inventory", "coverage": "full", "absent": ["a/B/c", "d/E/f"], "absentInSnapshot": 3,
            "selection": { "provider": "kubernetes", "includeKinds": ["A", "B"], "excludeKinds": ["C", "D"], "labelSelector": "a=b",
                "includeNames": ["a", "b"], "excludeNames": ["c", "d"] },
            "backupSchedule": { "name": "nightly", "uid": "uid" }, "trigger": "scheduled" })],
        "OperationReport" => {
            let remark = json!({ "code": "A", "message": "words" });
            let planned = json!({ "itemId": "a/B/c", "apiVersion": "v1", "action": "create", "reason": remark,
                "warnings": [remark, { "code": "B", "message": "more" }], "diff": "+a", "live": "0a", "wanted": "0b" });
            let result = json!({ "itemId": "a/B/c", "action": "create", "outcome": "done", "reason": remark });
            let item = json!({ "itemId": "a/B/c", "reasonCode": "A", "message": "words", "type": "skipped" });
            let difference = json!({ "itemId": "a/B/c", "change": "changed", "reason": remark, "diff": "+a" });
            let version = json!({ "change": "created", "set": "a", "time": "2026-01-01T00:00:00Z", "run": "r", "initiator": "ada",
                "after": "b", "sets": 2, "apiVersion": "v1", "reason": remark, "diff": "+a" });
            vec![json!({ "run": { "name": "mine", "uid": "uid" }, "chunk": 1, "chunks": 2, "items": [item],
                "planDigest": "0a", "plan": [planned], "results": [result], "differences": [difference], "versions": [version],
                "uncovered": [{ "itemId": "a/B/c", "reason": "NoBackup" }], "selected": ["a", "b"], "selectedStates": "0a", "omitted": 2 })]
        }
        other => panic!("{other}: say here what a sound one is"),
    }
}

/// The names of all fields below a schema, as pointers into an object in which the first of each list stands for all.
fn fields(schema: &JSONSchemaProps, at: &str, found: &mut BTreeSet<String>) {
    for (name, schema) in schema.properties.iter().flatten() {
        let at = format!("{at}/{name}");
        fields(schema, &at, found);
        found.insert(at);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(schema)) = &schema.items {
        fields(schema, &format!("{at}/0"), found);
    }
}

fn fields_of(kind: &str) -> BTreeSet<String> {
    let definition = custom_resource_definitions().into_iter().find(|definition| definition.spec.names.kind == kind);
    let version = definition.expect("the kind").spec.versions.remove(0);
    let schema = version.schema.and_then(|schema| schema.open_api_v3_schema).expect("a schema");
    let mut found = BTreeSet::new();
    fields(&schema.properties.expect("properties")["spec"], "", &mut found);
    found
}

/// A value of the same form that is another one.
fn other(value: &Value) -> Value {
    match value {
        Value::Null => json!("was null"),
        Value::Bool(yes) => json!(!yes),
        Value::Number(number) => number.as_i64().map_or(json!(2.5), |number| json!(number + 1)),
        Value::String(text) => {
            let words = [
                ("retry", "manual"),
                ("scheduled", "run_now"),
                ("BackupSchedule", "BackupRepository"),
                ("Reject", "Join"),
                ("full", "partial"),
                ("Inventory", "Objects"),
                ("changed", "added"),
                ("created", "deleted"),
                ("missing", "different"),
                ("label", "annotate"),
                ("scale", "resume"),
                ("restart", "suspend"),
                ("update", "recreate"),
                ("add", "replace"),
                ("test", "replace"),
                ("replace", "test"),
                ("remove", "move"),
                ("create", "delete"),
                ("done", "failed"),
                ("skipped", "failure"),
            ];
            if let Some((_, other)) = words.iter().find(|(word, _)| *word == text.as_str()) {
                return json!(other);
            }
            // What a pattern takes it takes again: a digit for a digit, a letter for a letter.
            let mut letters: Vec<char> = text.chars().collect();
            let last = letters.iter().rposition(char::is_ascii_digit);
            let last = last.or_else(|| letters.iter().rposition(char::is_ascii_alphabetic));
            if let Some(at) = last {
                letters[at] = match letters[at] {
                    '9' => '8',
                    'f' | 'z' => 'a',
                    'F' | 'Z' => 'A',
                    letter => char::from_u32(u32::from(letter) + 1).expect("a letter"),
                };
            }
            json!(letters.into_iter().collect::<String>())
        }
        Value::Array(_) | Value::Object(_) => Value::Null,
    }
}

/// All small changes to a value: of each part of it, and what is put beside the parts or in their place.
fn changes(value: &Value) -> Vec<Value> {
    let mut changed = vec![Value::Null, other(value)];
    match value {
        Value::Object(members) => {
            changed.push(json!({}));
            changed.push(with(members, |members| drop(members.insert("another".to_owned(), json!(1)))));
            for (name, member) in members {
                changed.push(with(members, |members| drop(members.remove(name))));
                // Renamed, with the value as it was: as many members as before.
                changed.push(with(members, |members| {
                    members.remove(name);
                    members.insert(format!("{name}x"), member.clone());
                }));
                changed.extend(
                    changes(member)
                        .into_iter()
                        .map(|change| with(members, |members| drop(members.insert(name.clone(), change)))),
                );
            }
        }
        Value::Array(items) => {
            changed.push(json!([]));
            changed.push(items.iter().rev().cloned().collect());
            changed.push(items.iter().chain(items.last()).cloned().collect());
            changed.push(items.iter().skip(1).cloned().collect());
            for (at, item) in items.iter().enumerate() {
                changed.extend(changes(item).into_iter().map(|change| {
                    let mut items = items.clone();
                    items[at] = change;
                    Value::Array(items)
                }));
            }
        }
        // Another form of it.
        _ => changed.push(json!({ "value": value })),
    }
    changed.retain(|change| change != value);
    changed
}

fn with(members: &Map<String, Value>, change: impl FnOnce(&mut Map<String, Value>)) -> Value {
    let mut members = members.clone();
    change(&mut members);
    Value::Object(members)
}

/// An object whose spec is tried.
struct Tried {
    path: String,
    object: Value,
    /// The one field that may change.
    free: &'static str,
}

impl Tried {
    /// All of its spec that never changes.
    fn fixed(&self, spec: &Value) -> Value {
        let mut spec = spec.clone();
        spec.as_object_mut().expect("a spec").remove(self.free);
        spec
    }

    /// Sends every change of every field in every way, as dry runs. The fields for which it was said that they never change.
    async fn try_everything(&self, tenant: &Tenant) -> BTreeSet<String> {
        let mut tries = Vec::new();
        for (field, value) in self.object["spec"].as_object().expect("a spec") {
            if field == self.free {
                continue;
            }
            let mut whole: Vec<Value> = vec![json!({ (field): null })];
            whole.extend(changes(value).into_iter().map(|change| json!({ (field): change })));
            for (number, change) in whole.into_iter().enumerate() {
                let mut changed = self.object.clone();
                for (field, value) in change.as_object().expect("one field") {
                    changed["spec"][field] = value.clone();
                }
                if number == 0 {
                    changed["spec"].as_object_mut().expect("a spec").remove(field);
                }
                // What is deep inside goes by JSON patch, and by one of the others in turn.
                let others = [Way::Put, Way::Merge, Way::Apply];
                let ways = if number < 8 { others.to_vec() } else { vec![others[number % 3]] };
                for way in ways.into_iter().chain([Way::JsonPatch]) {
                    tries.push((field.clone(), way, changed.clone()));
                }
            }
        }
        assert!(tries.len() > 20, "{}: {} tries", self.path, tries.len());
        let wanted = self.fixed(&self.object["spec"]);
        let answers = stream::iter(tries).map(|(field, way, changed)| {
            let wanted = &wanted;
            async move {
                match way.send(&tenant.cluster.client, &self.path, &self.object, &changed).await {
                    Ok(after) => {
                        let after = self.fixed(&after["spec"]);
                        assert_eq!(&after, wanted, "{} {way:?}: changed by {}", self.path, changed["spec"][&field]);
                        None
                    }
                    // 500: an apply whose object does not read.
                    Err(kube::Error::Api(status)) if [400, 403, 409, 422, 500].contains(&status.code) => {
                        let says = ["immutable", "never changes"];
                        says.iter().any(|word| status.message.contains(word)).then_some(field)
                    }
                    Err(error) => panic!("{} {way:?} {}: {error}", self.path, changed["spec"][&field]),
                }
            }
        });
        answers.buffer_unordered(AT_ONCE).filter_map(|field| async move { field }).collect().await
    }
}

impl Tenant {
    async fn tried(&self, kind: &str, name: &str) -> Tried {
        let plural = format!("{}s", kind.to_lowercase());
        let path = match kind {
            "WorkspaceRun" => format!("/apis/{GROUP}/{plural}/{name}"),
            _ => self.path(GROUP, &format!("{plural}/{name}")),
        };
        let object = call(&self.cluster.client, "GET", &path, &Value::Null).await.expect("it is there");
        let free = KINDS.iter().find(|(of, _)| *of == kind).expect("a kind").1;
        Tried { path, object, free }
    }
}

#[test]
fn every_field_of_every_kind_that_never_changes_is_tried() {
    for (kind, free) in KINDS {
        let specs = sound(kind);
        for field in fields_of(kind) {
            // Who asked is written by the API server.
            let written = ["/initiator", "/requestedBy"].iter().any(|prefix| field.starts_with(prefix));
            // In a list, one entry stands for all: the schema takes one of these fields in each.
            let in_list = field.strip_prefix("/waves/0/").is_some_and(|field| {
                (1..3)
                    .any(|number| specs.iter().any(|spec| spec.pointer(&format!("/waves/{number}/{field}")).is_some()))
            });
            let set = written
                || in_list
                || field == format!("/{free}")
                || specs.iter().any(|spec| spec.pointer(&field).is_some());
            assert!(set, "{kind}: say what a sound value of spec{field} is");
        }
    }
}

#[tokio::test]
async fn what_never_changes_is_changed_by_nobody_in_no_way_and_at_no_time() {
    let tenant = Tenant::new("immutable").await;
    let one = |spec: &mut Value| spec["concurrency"] = json!({ "perTenant": 1 });
    let operation = tenant.script_type("long", FOREVER, one).await;
    let mut spec = sound("OperationRun").remove(0);
    let operator = tenant.cluster.as_operator();
    // With what it names it would be blocked at once, as the third is. Which schedule it is for is the operator's to say.
    let completed = json!({ "metadata": { "name": "completed" }, "spec": spec });
    tenant.create_as::<OperationRun>(operator.clone(), completed).await.expect("a run of a schedule");
    let spec_of = spec.as_object_mut().expect("a spec");
    (spec_of["type"], spec_of["trigger"]) = (json!(operation), json!("manual"));
    spec_of.retain(|field, _| !["rerunOf", "scheduledBy"].contains(&field.as_str()));
    tenant.start("running", spec.clone()).await;
    tenant.running("running", SOON).await;
    spec["inputs"]["text"] = json!("other words");
    tenant.start("queued", spec).await;
    tenant.waiting("queued", Reason::ConcurrencyLimit, SOON).await;
    tenant.completed("completed", SOON).await;
    for (number, spec) in sound("RestoreRun").into_iter().enumerate() {
        let name = format!("restore-{number}");
        if spec.get("scheduledBy").is_some() {
            let restore = json!({ "metadata": { "name": name }, "spec": spec });
            tenant.create_as::<RestoreRun>(operator.clone(), restore).await.expect("a restore of a workspace run");
        } else {
            tenant.ask(&name, spec).await;
        }
        // So that its status is written no more.
        tenant.restored(&name).await;
    }
    for (number, spec) in sound("BulkOperationRun").into_iter().enumerate() {
        // What these ask for is blocked, so that their status is written no more.
        let bulk = json!({ "metadata": { "name": format!("bulk-{number}") }, "spec": spec });
        let of_operator = bulk["spec"].get("scheduledBy").map(|_| operator.clone());
        let client = of_operator.unwrap_or_else(|| tenant.cluster.client.clone());
        tenant.create_as::<BulkOperationRun>(client, bulk).await.expect("a bulk operation");
        tenant.bulk_end(&format!("bulk-{number}")).await;
    }
    let all = |number: usize| format!("{}-all-{number}", tenant.name);
    for (number, spec) in sound("WorkspaceRun").into_iter().enumerate() {
        // The workspace has no tenants, so that it is blocked.
        tenant.run_over_all(&all(number), spec).await;
        tenant.over_all(&all(number)).await;
    }
    for spec in sound("BackupSet") {
        let set = json!({ "metadata": { "name": "set" }, "spec": spec });
        tenant.create_as::<BackupSet>(operator.clone(), set).await.expect("a set");
    }
    let uid = tenant.run("completed").await.metadata.uid;
    for mut spec in sound("OperationReport") {
        spec["run"] = json!({ "name": "completed", "uid": uid });
        let owner = json!({ "apiVersion": GROUP, "kind": "OperationRun", "name": "completed", "uid": uid });
        let report = json!({ "metadata": { "name": "report", "ownerReferences": [owner] }, "spec": spec });
        tenant.create_as::<OperationReport>(tenant.reporter().await, report).await.expect("a report");
    }

    let mut said: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (kind, name) in [
        ("OperationRun", "queued"),
        ("OperationRun", "running"),
        ("OperationRun", "completed"),
        ("RestoreRun", "restore-0"),
        ("RestoreRun", "restore-1"),
        ("RestoreRun", "restore-2"),
        ("BulkOperationRun", "bulk-0"),
        ("BulkOperationRun", "bulk-1"),
        ("BulkOperationRun", "bulk-2"),
        ("BulkOperationRun", "bulk-3"),
        ("BulkOperationRun", "bulk-5"),
        ("RestoreRun", "restore-3"),
        ("WorkspaceRun", &all(0)),
        ("WorkspaceRun", &all(1)),
        ("WorkspaceRun", &all(2)),
        ("WorkspaceRun", &all(4)),
        ("WorkspaceRun", &all(5)),
        ("BackupSet", "set"),
        ("OperationReport", "report"),
    ] {
        let tried = tenant.tried(kind, name).await;
        said.entry(kind).or_default().extend(tried.try_everything(&tenant).await);
    }
    for (kind, free) in KINDS {
        let top: BTreeSet<String> = fields_of(kind)
            .iter()
            .filter_map(|field| field.strip_prefix('/').filter(|field| !field.contains('/') && *field != free))
            .map(str::to_owned)
            .collect();
        assert_eq!(said[kind], top, "{kind}: each of its fields was said never to change");
    }

    // A key that is renamed, and then brought back with another value: the way that was open.
    let path = tenant.path(GROUP, "operationruns/queued");
    let renamed = json!([{ "op": "move", "from": "/spec/inputs/text", "path": "/spec/inputs/txet" }]);
    let answer = super::ways::patch(&tenant.cluster.client, &path, "json-patch", &renamed).await;
    super::assert_refused(answer, 422, &["immutable"]);
    // The status is another matter, and carries no spec along.
    let before = call(&operator, "GET", &path, &Value::Null).await.expect("the run")["spec"].clone();
    let forged = json!({ "spec": { "inputs": { "text": "forged" } }, "status": { "progress": "1/2" } });
    let after = call(&operator, "PATCH", &format!("{path}/status?dryRun=All"), &forged).await.expect("a status");
    assert_eq!(after["spec"], before);
    assert_eq!(
        tenant.api::<OperationRun>().get("queued").await.expect("a read").spec.inputs.text_of("text").as_deref(),
        Some("other words")
    );
}
