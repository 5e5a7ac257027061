//! Every string field of every kind, with what an attacker would put there. Whatever is accepted, nothing is asked for
//! outside the tenant, and nothing panics.
//!
//! The fields come from the schemas, so that a new one is tried without anybody thinking of it.

use crate::support::cluster::environment;
use crate::support::{SOON, Tenant, wait_for};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::Client;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, LogParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use tenantatlas::api::{OperationRun, labels, schema::custom_resource_definitions};

/// A step into an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Field(String),
    Item,
    Key,
}

/// The paths of all strings below a schema.
fn strings(schema: &JSONSchemaProps, path: &mut Vec<Step>, found: &mut Vec<Vec<Step>>) {
    if schema.type_.as_deref() == Some("string") && schema.enum_.is_none() {
        found.push(path.clone());
    }
    let mut below = |step: Step, schema: &JSONSchemaProps| {
        path.push(step);
        strings(schema, path, found);
        path.pop();
    };
    for (name, schema) in schema.properties.iter().flatten() {
        below(Step::Field(name.clone()), schema);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(schema)) = &schema.items {
        below(Step::Item, schema);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(schema)) = &schema.additional_properties {
        below(Step::Key, schema);
    }
}

/// The paths of all strings in a kind's spec.
fn strings_of(definition: &CustomResourceDefinition) -> Vec<Vec<Step>> {
    let schema = definition.spec.versions[0].schema.as_ref().and_then(|schema| schema.open_api_v3_schema.as_ref());
    let properties = schema.and_then(|schema| schema.properties.as_ref()).expect("a schema with properties");
    let mut found = Vec::new();
    strings(&properties["spec"], &mut Vec::new(), &mut found);
    found
}

/// Puts a value at a path, making what is on the way.
fn put(object: &mut Value, path: &[Step], value: &Value) {
    let Some((step, rest)) = path.split_first() else {
        *object = value.clone();
        return;
    };
    match step {
        Step::Field(name) => {
            if !object.is_object() {
                *object = json!({});
            }
            put(&mut object[name], rest, value);
        }
        Step::Key => {
            *object = json!({ "key": null });
            put(&mut object["key"], rest, value);
        }
        Step::Item => {
            if object.as_array().is_none_or(Vec::is_empty) {
                *object = json!([null]);
            }
            put(&mut object[0], rest, value);
        }
    }
}

/// A sound spec to put a hostile value into. `storage` alternatives exclude each other, so the field says which.
fn sound(kind: &str, path: &[Step]) -> Value {
    match kind {
        "OperationRun" => json!({ "type": "backup.capture", "inputs": { "repository": "main" } }),
        "OperationType" => {
            let in_template = path.iter().any(|step| *step == Step::Field("jobTemplate".into()));
            let container = json!({ "name": "main", "image": "none" });
            if in_template {
                let pod = json!({ "spec": { "containers": [container] } });
                json!({ "executor": { "jobTemplate": { "spec": { "template": pod } } } })
            } else {
                json!({ "executor": { "worker": { "command": ["capture"] } } })
            }
        }
        "BackupRepository" => {
            let storage = match path {
                [Step::Field(first), Step::Field(storage), ..] if first == "storage" => storage.as_str(),
                _ => "persistentVolumeClaim",
            };
            let storage = match storage {
                "s3" => json!({ "s3": { "bucket": "backups", "endpoint": "http://192.0.2.1" } }),
                "gcs" => json!({ "gcs": { "bucket": "backups" } }),
                "azure" => json!({ "azure": { "account": "account", "container": "backups" } }),
                _ => json!({ "persistentVolumeClaim": { "claimName": "none" } }),
            };
            json!({ "storage": storage, "passwordSecret": { "name": "none" } })
        }
        // It is due in a year: what it starts then has the fields of a run, which are tried as such.
        "BackupSchedule" => json!({ "schedule": "@yearly",
            "operation": { "type": "backup.capture", "inputs": { "repository": "main" } } }),
        "BackupSet" => json!({ "repository": { "name": "main" }, "snapshot": "0".repeat(64),
            "run": { "name": "run", "uid": "uid" }, "selection": {}, "namespaceUid": "uid", "coverage": "full" }),
        "OperationReport" => json!({ "run": { "name": "run", "uid": "uid" }, "chunk": 0, "chunks": 1, "items": [] }),
        "Finding" => crate::findings::finding("it", &json!({ "name": "none", "uid": "uid" }))["spec"].clone(),
        "AuditEntry" => json!({ "entry": "{}", "event": "intent", "who": "ada", "pod": AUDITING_POD,
            "operationType": "restore.apply", "run": { "name": "run", "uid": "uid" }, "planDigest": "0".repeat(64),
            "restoreRun": { "name": "restore", "uid": "uid" } }),
        "RestoreRun" => {
            let mut spec = json!({ "backupSet": { "name": "none" }, "dryRun": true });
            // One of a list is whole but for the value that is tried.
            if let [Step::Field(list), ..] = path
                && list == "transforms"
            {
                spec["transforms"] = json!([{ "select": {}, "patch": [{ "op": "remove", "path": "/spec" }] }]);
            }
            spec
        }
        // The action fits no such kind, so that it has no run.
        "BulkOperationRun" => {
            let mut spec = json!({ "resource": { "kind": "ConfigMap" }, "action": "label", "labelSelector": "a=b",
                "options": { "set": { "tenantatlas.io/a": "b" } } });
            let spec_fields = spec.as_object_mut().expect("an object");
            match path {
                [Step::Field(field), ..] if field == "items" => drop(spec_fields.remove("labelSelector")),
                [Step::Field(field), ..] if field == "preview" => {
                    spec_fields.retain(|field, _| ["resource", "action"].contains(&field.as_str()));
                }
                _ => {}
            }
            spec
        }
        "Workspace" => json!({}),
        // There is no such type, so that it has no runs.
        "WorkspaceRun" => {
            let mut spec = json!({ "workspace": { "name": "none" } });
            match path {
                [Step::Field(field), below @ ..] if field == "bulk" => {
                    spec["bulk"] = sound("BulkOperationRun", below);
                }
                [Step::Field(field), below @ ..] if field == "restore" => {
                    spec["restore"] = sound("RestoreRun", below);
                    spec["restore"].as_object_mut().expect("an object").remove("dryRun");
                }
                [Step::Field(field), ..] if field == "undoOf" => spec["dryRun"] = json!(true),
                [Step::Field(field), ..] if field == "preview" => spec["undoOf"] = json!({ "name": "none" }),
                [Step::Field(field), ..] if field == "approval" => {
                    (spec["undoOf"], spec["preview"]) = (json!({ "name": "none" }), json!({ "name": "none" }));
                }
                [Step::Field(field), ..] if field == "waves" => {
                    (spec["operation"], spec["waves"]) = (json!({ "type": "none" }), json!([{}]));
                }
                _ => spec["operation"] = json!({ "type": "none" }),
            }
            spec
        }
        "ImportedRun" => json!({ "system": "velero", "source": { "apiVersion": "velero.io/v1", "kind": "Backup",
            "namespace": "velero", "name": "none", "uid": "uid" } }),
        "Approval" => {
            json!({ "for": { "kind": "RestoreRun", "name": "none", "uid": "uid" }, "planDigest": "0".repeat(64) })
        }
        other => panic!("{other} is new: say here what a sound one is"),
    }
}

/// A pod that may write audit entries.
const AUDITING_POD: &str = "op-00000000000000000000-restore-hostile";

/// What an attacker would try, another tenant's name among it.
fn hostile(other: &str) -> Vec<(&'static str, String)> {
    vec![
        ("another tenant", other.to_owned()),
        ("another tenant's object", format!("{other}/main")),
        ("a way up", format!("../../{other}/secrets/main")),
        ("an absolute path", "/etc/passwd".to_owned()),
        ("a URL", "https://kubernetes.default.svc/api/v1/secrets?limit=1#".to_owned()),
        ("another account", "system:serviceaccount:kube-system:default".to_owned()),
        ("a variable", "$(ATLAS_RUN_UID)${HOME}`id`".to_owned()),
        ("control characters", "a\u{0}\u{1b}[2J\r\n\u{202e}b".to_owned()),
        ("nothing", String::new()),
        ("a megabyte", "x".repeat(1_000_000)),
    ]
}

/// What the tries led to.
#[derive(Default)]
struct Tally {
    accepted: usize,
    refused: usize,
}

impl Tenant {
    fn kind(&self, client: &Client, definition: &CustomResourceDefinition) -> Api<DynamicObject> {
        let names = &definition.spec.names;
        let kind = GroupVersionKind::gvk(&definition.spec.group, &definition.spec.versions[0].name, &names.kind);
        let resource = ApiResource::from_gvk_with_plural(&kind, &names.plural);
        match definition.spec.scope.as_str() {
            "Namespaced" => Api::namespaced_with(client.clone(), &self.name, &resource),
            _ => Api::all_with(client.clone(), &resource),
        }
    }

    /// Creates an object with a hostile value, lets the operator see it, and removes what is not a run.
    async fn attempt(&self, definition: &CustomResourceDefinition, name: &str, spec: &Value) -> Result<(), String> {
        let kind = definition.spec.names.kind.as_str();
        // Records are the operator's alone: what it would be made to write is tried in its name.
        let client = match kind {
            "BackupSet" | "OperationReport" | "ImportedRun" => {
                let namespace = environment("ATLAS_OPERATOR_NAMESPACE");
                let user = format!("system:serviceaccount:{namespace}:tenantatlas-controller");
                self.cluster.as_user(&user, &["system:serviceaccounts"])
            }
            "Finding" => self.finder(),
            // And these the pod's of a restore.
            "AuditEntry" => {
                let user = format!("system:serviceaccount:{}:tenantatlas-restore", self.name);
                self.cluster.as_user_in_pod(&user, AUDITING_POD)
            }
            _ => self.cluster.client.clone(),
        };
        let mut labels = crate::support::tenant::of_story(self);
        if kind == "AuditEntry" {
            labels[labels::RUN_UID] = spec["run"]["uid"].clone();
        }
        let manifest = json!({ "apiVersion": "tenantatlas.io/v1alpha1", "kind": kind,
            "metadata": { "name": name, "labels": labels }, "spec": spec });
        let manifest = serde_json::from_value(manifest).expect("an object");
        let created = self.kind(&client, definition).create(&PostParams::default(), &manifest).await;
        let made = created.map_err(|error| error.to_string())?;
        let objects = self.kind(&self.cluster.client, definition);
        if kind == "BackupRepository" {
            let repository = made.try_parse().expect("a repository");
            let check = tenantatlas::kinds::backup_repository::decide::check_name(&repository);
            self.completed_or_waiting(&check).await;
        }
        // An entry goes with its tenant alone.
        if kind == "ImportedRun" {
            // There is no such record, so that the operator may have deleted it by now.
            let deleted = self.kind(&client, definition).delete(name, &DeleteParams::default()).await;
            assert!(
                deleted.is_ok() || matches!(&deleted, Err(kube::Error::Api(status)) if status.is_not_found()),
                "{deleted:?}"
            );
        } else if !matches!(kind, "OperationRun" | "AuditEntry") {
            objects.delete(name, &DeleteParams::default()).await.expect("it can be deleted");
        }
        Ok(())
    }

    /// Waits until the operator has made of a run what it can.
    async fn completed_or_waiting(&self, name: &str) {
        let runs: Api<OperationRun> = self.api();
        wait_for(&format!("a decision about run {name}"), SOON * 3, async || {
            let run = runs.get(name).await.map_err(|error| error.to_string())?;
            let status = run.status_or_default();
            if status.job.is_some() || run.is_completed() || status.waiting.is_some() {
                Ok(())
            } else {
                Err(serde_json::to_string(&status).unwrap_or_default())
            }
        })
        .await;
    }
}

#[tokio::test]
async fn whatever_stands_in_a_field_nothing_outside_the_tenant_is_touched_and_nothing_panics() {
    let tenant = Tenant::alone("hostile").await;
    let other = tenant.beside("hostile-other").await;
    tenant.repository("main").await;
    let operators: BTreeSet<_> = operator_containers(&tenant).await;
    let before = other.audit().len();
    let mut tally = Tally::default();
    let mut runs = Vec::new();
    for definition in custom_resource_definitions() {
        let kind = definition.spec.names.kind.clone();
        let mut paths = strings_of(&definition);
        // Deep inside a pod template they are Kubernetes' own fields; a few stand for all of them.
        paths.retain(|path| !path.contains(&Step::Field("jobTemplate".into())) || path.len() <= 4);
        assert!(!paths.is_empty(), "{kind} has no string");
        if kind == "OperationRun" {
            paths.extend(inputs());
        }
        for path in paths {
            for (what, value) in hostile(&other.name) {
                let mut spec = sound(&kind, &path);
                put(&mut spec, &path, &value.into());
                let name = match kind.as_str() {
                    "OperationType" | "Workspace" | "WorkspaceRun" => {
                        format!("hostile-{}.{}", tally.accepted + tally.refused, tenant.name)
                    }
                    // Its name follows from what it approves. It is deleted before the next.
                    "Approval" => "restorerun-none".to_owned(),
                    "AuditEntry" => format!("{:012}", tally.accepted + tally.refused + 2),
                    _ => format!("hostile-{}", tally.accepted + tally.refused),
                };
                match tenant.attempt(&definition, &name, &spec).await {
                    Ok(()) => {
                        tally.accepted += 1;
                        if kind == "OperationRun" {
                            runs.push(name);
                        }
                    }
                    Err(why) => {
                        tally.refused += 1;
                        let told = ["invalid", "Invalid", "denied", "forbidden", "limit", "large", "decod", "must"];
                        assert!(told.iter().any(|word| why.contains(word)), "{kind} {path:?} with {what}: {why}");
                    }
                }
            }
        }
    }
    assert!(tally.accepted > 50 && tally.refused > 50, "{} accepted, {} refused", tally.accepted, tally.refused);
    let all: Api<OperationRun> = tenant.api();
    for name in runs {
        wait_for(&format!("the end of run {name}"), SOON * 10, async || {
            // There are more than the history holds: one that is gone was completed.
            match all.get_opt(&name).await.map_err(|error| error.to_string())? {
                Some(run) if !run.is_completed() => Err(format!("{:#?}", run.status)),
                _ => Ok(()),
            }
        })
        .await;
    }

    assert_eq!(operator_containers(&tenant).await, operators, "no replica ended");
    for pod in tenant.cluster.operator_pods().await {
        let pods: Api<k8s_openapi::api::core::v1::Pod> =
            Api::namespaced(tenant.cluster.client.clone(), &environment("ATLAS_OPERATOR_NAMESPACE"));
        let name = pod.metadata.name.expect("a name");
        let log = pods.logs(&name, &LogParams::default()).await.expect("a log");
        assert!(!log.contains("panicked"), "{name} panicked");
    }
    let ended = tenant.api::<k8s_openapi::api::core::v1::Pod>().list(&ListParams::default()).await.expect("pods").items;
    for pod in ended {
        let statuses = pod.status.into_iter().flat_map(|status| status.container_statuses.unwrap_or_default());
        for ended in statuses.filter_map(|status| status.state?.terminated) {
            assert!(ended.exit_code != 101 && ended.exit_code != 134, "a worker panicked: {:?}", ended.message);
        }
    }
    let outside: Vec<_> = tenant
        .audit_of_accounts()
        .into_iter()
        .filter(|(namespace, _)| namespace.as_deref().is_some_and(|namespace| namespace != tenant.name))
        .collect();
    assert!(outside.is_empty(), "a worker asked outside its tenant: {outside:?}");
    let asked: Vec<_> =
        other.audit().into_iter().skip(before).filter(crate::support::audit::Request::by_operator).collect();
    assert!(asked.is_empty(), "the operator asked about another tenant: {asked:?}");
}

/// The inputs of a capture, which no schema of the kind describes.
fn inputs() -> Vec<Vec<Step>> {
    let field = |name: &str| Step::Field(name.to_owned());
    let of_selection = |name: &str| vec![field("inputs"), field("selection"), field(name)];
    let mut paths = vec![
        vec![field("inputs"), field("repository")],
        vec![field("inputs"), field("unknown")],
        of_selection("labelSelector"),
    ];
    for list in ["includeKinds", "excludeKinds", "includeNames", "excludeNames"] {
        paths.push([of_selection(list), vec![Step::Item]].concat());
    }
    paths
}

/// The operator's containers, by their ids: a restarted one has another.
async fn operator_containers(tenant: &Tenant) -> BTreeSet<String> {
    let pods = tenant.cluster.operator_pods().await;
    let statuses = pods.into_iter().filter_map(|pod| pod.status?.container_statuses).flatten();
    statuses.filter_map(|status| status.container_id).collect()
}
