//! What a watch leaves out because of its size may be any value, so what is left must decode: an object that does not is
//! ignored by the operator, whoever made the value that large.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use tenantatlas::{
    api::{
        Approval, BackupRepository, BackupSchedule, BulkOperationRun, Finding, ImportedRun, OperationRun,
        OperationType, RestoreRun, Workspace, WorkspaceRun, schema::custom_resource_definitions,
    },
    cluster::trim::{Trim, left_out},
};

/// A property in a schema: the names on the way to it, `[]` for an element.
type Path = Vec<String>;

/// All properties of a schema that an object may have.
fn paths(schema: &Value, at: &Path, found: &mut Vec<Path>) {
    let mut below = |name: &str, schema: &Value| {
        let path: Path = at.iter().cloned().chain([name.to_owned()]).collect();
        found.push(path.clone());
        paths(schema, &path, found);
    };
    for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
        below(name, schema);
    }
    if schema["items"].is_object() {
        below("[]", &schema["items"]);
    }
}

/// A value of a schema with all its properties, in which all strings below `large` are as long as they may be.
fn value(schema: &Value, at: &mut Path, large: &Path) -> Value {
    let is_large = at.starts_with(large);
    if let Some(first) = schema["enum"].as_array().and_then(|values| values.first()) {
        return first.clone();
    }
    let longest = |limit: &str, most: u64| usize::try_from(schema[limit].as_u64().unwrap_or(most).min(most)).unwrap();
    match schema["type"].as_str() {
        Some("object") if schema["properties"].is_object() => {
            let properties = schema["properties"].as_object().into_iter().flatten();
            let members = properties.map(|(name, schema)| {
                at.push(name.clone());
                let value = value(schema, at, large);
                at.pop();
                (name.clone(), value)
            });
            Value::Object(members.collect::<Map<_, _>>())
        }
        Some("array") => {
            at.push("[]".to_owned());
            let element = value(&schema["items"], at, large);
            at.pop();
            Value::Array(vec![element; if is_large { longest("maxItems", 30) } else { 1 }])
        }
        Some("string") if schema["format"] == "date-time" => json!("2026-01-01T00:00:00Z"),
        Some("string") => json!("x".repeat(if is_large { longest("maxLength", 20_000) } else { 1 })),
        Some("integer") => json!(1),
        Some("boolean") => json!(true),
        // Of any form.
        _ if is_large => json!({ "a": "x".repeat(20_000) }),
        _ => json!({}),
    }
}

/// Tries a kind with each of its properties in turn; returns those with which it does not decode, and how many were left out.
fn broken<K: DeserializeOwned + kube::Resource>(plural: &str) -> (Vec<String>, usize) {
    let definitions = custom_resource_definitions();
    let definition = definitions.iter().find(|definition| definition.spec.names.plural == plural).expect("a kind");
    let schema = definition.spec.versions[0].schema.as_ref().expect("a schema").open_api_v3_schema.as_ref();
    let schema = serde_json::to_value(schema).expect("JSON");
    let mut all = Vec::new();
    paths(&schema, &Path::new(), &mut all);
    let (mut broken, mut cut) = (Vec::new(), 0);
    for large in all {
        let mut object = value(&schema, &mut Path::new(), &large);
        object["apiVersion"] = json!("tenantatlas.io/v1alpha1");
        object["kind"] = json!(definition.spec.names.kind);
        object["metadata"] = json!({ "name": "large", "namespace": "acme", "uid": "uid", "resourceVersion": "5" });
        let mut trim = Trim::of("get", &format!("{plural}.tenantatlas.io"));
        let mut held = Trim::of("list", &format!("{plural}.tenantatlas.io"));
        // What is fetched alone has larger limits, which no schema reaches.
        let mut whole = trim.take(object.to_string().as_bytes());
        whole.extend(trim.end());
        let mut listed = held.take(json!({ "metadata": {}, "items": [object] }).to_string().as_bytes());
        listed.extend(held.end());
        let listed: Value = serde_json::from_slice(&listed).expect("JSON");
        for text in [String::from_utf8(whole).expect("text"), listed["items"][0].to_string()] {
            match serde_json::from_str::<K>(&text) {
                Ok(object) => cut += usize::from(left_out(&object).is_some()),
                Err(error) => broken.push(format!("{plural}: {}: {error}", large.join("."))),
            }
        }
    }
    (broken, cut)
}

#[test]
fn an_object_with_any_of_its_values_as_large_as_its_schema_allows_decodes_as_it_is_cached() {
    let found = [
        broken::<OperationRun>("operationruns"),
        broken::<RestoreRun>("restoreruns"),
        broken::<BulkOperationRun>("bulkoperationruns"),
        broken::<BackupSchedule>("backupschedules"),
        broken::<BackupRepository>("backuprepositories"),
        broken::<OperationType>("operationtypes"),
        broken::<Workspace>("workspaces"),
        broken::<WorkspaceRun>("workspaceruns"),
        broken::<Finding>("findings"),
        broken::<Approval>("approvals"),
        broken::<ImportedRun>("importedruns"),
    ];
    let broken: Vec<&String> = found.iter().flat_map(|(broken, _)| broken).collect();
    assert!(broken.is_empty(), "{broken:#?}");
    let cut: usize = found.iter().map(|(_, cut)| cut).sum();
    assert!(cut > 50, "{cut} were cut: the values are not large enough to try anything");
}
