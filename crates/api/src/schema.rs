//! Schema fragments, and the custom resource definitions as they are installed.

use crate::{
    Approval, AuditEntry, BackupRepository, BackupSchedule, BackupSet, BulkOperationRun, Finding, ImportedRun,
    OperationReport, OperationRun, OperationType, RestoreRun, Workspace, WorkspaceRun,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionVersion, JSON, JSONSchemaProps, JSONSchemaPropsOrArray,
    JSONSchemaPropsOrBool,
};
use kube::core::CustomResourceExt;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

/// Maximum number of top-level fields in the inputs of an operation. Nested fields are not bounded
/// here: docs/adr/0031-*.
const MAX_INPUTS: usize = 100;

/// Any JSON object. Its fields are preserved.
#[must_use]
pub fn any_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object", "default": {}, "maxProperties": MAX_INPUTS, "x-kubernetes-preserve-unknown-fields": true
    })
}

/// Any JSON object, for an optional field.
#[must_use]
pub fn optional_any_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}

/// An RFC 3339 time.
#[must_use]
pub fn date_time(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "format": "date-time" })
}

/// Returns the definitions of all kinds, as stored in `crds/` and in the chart.
#[must_use]
pub fn custom_resource_definitions() -> Vec<CustomResourceDefinition> {
    let mut definitions = vec![
        OperationRun::crd(),
        OperationType::crd(),
        BackupRepository::crd(),
        BackupSchedule::crd(),
        BackupSet::crd(),
        OperationReport::crd(),
        RestoreRun::crd(),
        BulkOperationRun::crd(),
        AuditEntry::crd(),
        Finding::crd(),
        Workspace::crd(),
        WorkspaceRun::crd(),
        Approval::crd(),
        ImportedRun::crd(),
    ];
    for definition in &mut definitions {
        for version in &mut definition.spec.versions {
            if let Some(schema) = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut()) {
                say_list_type_and_refuse_null(schema);
            }
        }
        merge_conditions_by_type(definition);
        bound_conditions(definition);
        match definition.spec.names.kind.as_str() {
            "OperationRun" | "RestoreRun" | "BulkOperationRun" | "WorkspaceRun" => {
                default_status(
                    definition,
                    &json!({ "phase": "queued", "outcome": "pending", "observedGeneration": -1 }),
                );
            }
            "BackupRepository" | "BackupSchedule" | "Finding" | "OperationType" | "Workspace" => {
                default_status(definition, &json!({ "observedGeneration": -1 }));
            }
            _ => {}
        }
    }
    definitions
}

/// Returns the schema of a version's status.
fn status_of(version: &mut CustomResourceDefinitionVersion) -> Option<&mut JSONSchemaProps> {
    version.schema.as_mut()?.open_api_v3_schema.as_mut()?.properties.as_mut()?.get_mut("status")
}

/// Makes every list atomic unless it says otherwise: server-side apply then replaces the list as a
/// whole. Makes nothing nullable: the API server drops a null before it sets defaults, so a field
/// is either present or absent. The only exception is a field of any JSON, where null is a value.
fn say_list_type_and_refuse_null(schema: &mut JSONSchemaProps) {
    if schema.type_.as_deref() == Some("array") {
        schema.x_kubernetes_list_type.get_or_insert_with(|| "atomic".to_owned());
    }
    if schema.type_.is_some() {
        schema.nullable = None;
    }
    for property in schema.properties.iter_mut().flat_map(|properties| properties.values_mut()) {
        say_list_type_and_refuse_null(property);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        say_list_type_and_refuse_null(items);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        say_list_type_and_refuse_null(values);
    }
}

/// Makes conditions a map by type. If two managers apply conditions of different types, neither
/// removes those of the other.
fn merge_conditions_by_type(definition: &mut CustomResourceDefinition) {
    for version in &mut definition.spec.versions {
        let conditions = status_of(version)
            .and_then(|status| status.properties.as_mut())
            .and_then(|properties| properties.get_mut("conditions"));
        if let Some(conditions) = conditions {
            conditions.x_kubernetes_list_type = Some("map".to_owned());
            conditions.x_kubernetes_list_map_keys = Some(vec!["type".to_owned()]);
        }
    }
}

/// Bounds the fields of a condition as in Kubernetes' own type. The Rust type does not carry these
/// bounds.
fn bound_conditions(definition: &mut CustomResourceDefinition) {
    for version in &mut definition.spec.versions {
        let condition =
            status_of(version).and_then(|status| status.properties.as_mut()?.get_mut("conditions")?.items.as_mut());
        let mut condition = condition.and_then(|items| match items {
            JSONSchemaPropsOrArray::Schema(condition) => condition.properties.as_mut(),
            JSONSchemaPropsOrArray::Schemas(_) => None,
        });
        for (field, most) in [("type", 316), ("status", 16), ("reason", 1024), ("message", 32_768)] {
            if let Some(schema) = condition.as_deref_mut().and_then(|fields| fields.get_mut(field)) {
                schema.max_length = Some(most);
            }
        }
    }
}

/// Defaults the status at creation, without a write by the operator. A run then reads `queued` and
/// `pending`, and kstatus sees that the object was not observed yet.
fn default_status(definition: &mut CustomResourceDefinition, default: &Value) {
    for version in &mut definition.spec.versions {
        if let Some(status) = status_of(version) {
            status.default = Some(JSON(default.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of any shape that no schema bounds, and what bounds them instead.
    const FREE: [(&str, &str); 4] = [
        ("operationtypes.spec.executor.jobTemplate", "who writes the catalog owns the platform"),
        ("operationtypes.spec.inputsSchema", "the same"),
        ("restoreruns.spec.transforms[].patch[].value", "any JSON: the operator reads at most 256 KiB of a field"),
        ("workspaceruns.spec.restore.transforms[].patch[].value", "the same, and a platform team writes it"),
    ];

    /// Collects a schema and all schemas below it, with their paths.
    fn places(schema: &Value, path: &str, found: &mut Vec<(String, Value)>) {
        found.push((path.to_owned(), schema.clone()));
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            places(property, &format!("{path}.{name}"), found);
        }
        for (key, inner) in [("items", "[]"), ("additionalProperties", "{}")] {
            if schema[key].is_object() {
                places(&schema[key], &format!("{path}{inner}"), found);
            }
        }
    }

    #[test]
    fn every_list_says_its_type_and_nothing_is_nullable_but_any_json() {
        let mut nullable = Vec::new();
        for definition in custom_resource_definitions() {
            let definition = serde_json::to_value(definition).expect("JSON");
            let plural = definition["spec"]["names"]["plural"].as_str().expect("a name");
            let mut found = Vec::new();
            places(&definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"], plural, &mut found);
            for (path, schema) in found {
                assert!(schema["type"] != "array" || schema["x-kubernetes-list-type"].is_string(), "{path}");
                if schema["nullable"] == true {
                    nullable.push(path);
                }
            }
        }
        let any =
            ["restoreruns.spec.transforms[].patch[].value", "workspaceruns.spec.restore.transforms[].patch[].value"];
        assert_eq!(nullable, any);
    }

    /// Collects all places in a schema that can grow without bound.
    fn unbounded(schema: &Value, path: &str, found: &mut Vec<String>) {
        let lacks = |bound: &str| schema[bound].is_null();
        let grows = match schema["type"].as_str() {
            Some("array") => lacks("maxItems"),
            Some("string") => lacks("maxLength") && lacks("enum") && schema["format"] != "date-time",
            Some("object") => schema["properties"].is_null() && lacks("maxProperties"),
            Some(_) => false,
            None => schema["x-kubernetes-preserve-unknown-fields"] == true,
        };
        // Every object has metadata, and a kind's schema can restrict little of it: see the policy
        // tenantatlas-metadata.
        if grows && !path.ends_with(".metadata") {
            found.push(path.to_owned());
        }
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            // The API server accepts only its own kinds and versions.
            if !["apiVersion", "kind"].contains(&name.as_str()) || path.contains('.') {
                unbounded(property, &format!("{path}.{name}"), found);
            }
        }
        for (key, inner) in [("items", "[]"), ("additionalProperties", "{}")] {
            if schema[key].is_object() {
                unbounded(&schema[key], &format!("{path}{inner}"), found);
            }
        }
    }

    #[test]
    fn every_list_map_and_text_of_our_kinds_has_a_bound() {
        let mut found = Vec::new();
        for definition in custom_resource_definitions() {
            let definition = serde_json::to_value(definition).expect("JSON");
            let plural = definition["spec"]["names"]["plural"].as_str().expect("a name");
            for version in definition["spec"]["versions"].as_array().expect("versions") {
                unbounded(&version["schema"]["openAPIV3Schema"], plural, &mut found);
            }
        }
        found.sort();
        assert_eq!(found, FREE.map(|(path, _)| path), "each takes a bound, or what bounds it in this test");
    }

    #[test]
    fn conditions_are_merged_by_type_and_bounded_and_a_status_has_a_default_where_it_has_a_phase_or_a_generation() {
        for definition in custom_resource_definitions() {
            let kind = definition.spec.names.kind.clone();
            let definition = serde_json::to_value(definition).expect("JSON");
            let status = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"];
            let default = match kind.as_str() {
                "OperationRun" | "RestoreRun" | "BulkOperationRun" | "WorkspaceRun" => {
                    json!({"phase": "queued", "outcome": "pending", "observedGeneration": -1})
                }
                "BackupRepository" | "BackupSchedule" | "Finding" | "OperationType" | "Workspace" => {
                    json!({"observedGeneration": -1})
                }
                _ => json!(null),
            };
            assert_eq!(status["default"], default, "{kind}");
            let conditions = &status["properties"]["conditions"];
            if conditions.is_object() {
                assert_eq!(conditions["x-kubernetes-list-type"], "map", "{kind}");
                assert_eq!(conditions["x-kubernetes-list-map-keys"], json!(["type"]), "{kind}");
                assert_eq!(conditions["items"]["properties"]["message"]["maxLength"], 32_768, "{kind}");
            }
        }
    }

    #[test]
    fn the_schema_of_any_object_allows_any_object_and_that_of_a_time_says_so() {
        let mut generator = SchemaGenerator::default();
        assert_eq!(any_object(&mut generator).as_value()["default"], json!({}));
        let optional = optional_any_object(&mut generator);
        assert_eq!(optional.as_value(), &json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}));
        assert_eq!(date_time(&mut generator).as_value(), &json!({"type": "string", "format": "date-time"}));
    }
}
