//! Schema fragments, and the custom resource definitions as they are installed.

use crate::api::{
    AuditEntry, BackupRepository, BackupSchedule, BackupSet, OperationReport, OperationRun, OperationType, RestoreRun,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionVersion, JSON, JSONSchemaProps,
};
use kube::CustomResourceExt;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

/// Any JSON object; its fields are kept.
#[must_use]
pub fn any_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "default": {}, "x-kubernetes-preserve-unknown-fields": true })
}

/// Any JSON object, or nothing.
#[must_use]
pub fn optional_any_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "nullable": true, "x-kubernetes-preserve-unknown-fields": true })
}

/// A time in RFC 3339.
#[must_use]
pub fn date_time(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "format": "date-time" })
}

/// A time in RFC 3339, or nothing.
#[must_use]
pub fn optional_date_time(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "format": "date-time", "nullable": true })
}

/// The definitions of every kind, as `crds/` and the chart hold them.
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
        AuditEntry::crd(),
    ];
    for definition in &mut definitions {
        merge_conditions_by_type(definition);
        match definition.spec.names.kind.as_str() {
            "OperationRun" | "RestoreRun" => {
                default_status(
                    definition,
                    &json!({ "phase": "queued", "outcome": "pending", "observedGeneration": -1 }),
                );
            }
            "BackupRepository" | "BackupSchedule" => {
                default_status(definition, &json!({ "observedGeneration": -1 }));
            }
            _ => {}
        }
    }
    definitions
}

/// The properties of a version's status.
fn status_of(version: &mut CustomResourceDefinitionVersion) -> Option<&mut JSONSchemaProps> {
    version.schema.as_mut()?.open_api_v3_schema.as_mut()?.properties.as_mut()?.get_mut("status")
}

/// Conditions are a map by type, so that two writers never overwrite each other's.
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

/// A status from birth, at no write of ours: a run reads `queued` and `pending`, and kstatus sees that nothing was looked at yet.
fn default_status(definition: &mut CustomResourceDefinition, default: &Value) {
    for version in &mut definition.spec.versions {
        if let Some(status) = status_of(version) {
            status.default = Some(JSON(default.clone()));
        }
    }
}
