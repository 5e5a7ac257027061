//! What a workspace run has done in each tenant, other than a run of an operation type. The fields are
//! those of the kinds that are created in the tenants.

use crate::{
    LocalReference,
    bulk_operation_run::{BulkAction, BulkOptions, BulkResource},
    restore_run::{ExistingResourcePolicy, ItemSelector, Only, Transform},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A BulkOperationRun in each tenant.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BulkTemplate {
    /// Kind of the objects.
    pub resource: BulkResource,
    /// What is done with each object. `capture` and `export` are not accepted.
    pub action: BulkAction,
    /// Names of the objects, each once, the same in each tenant. Exactly one of `items`,
    /// `labelSelector` and the `preview` of the workspace run is set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(min = 1, max = 500),
        inner(length(min = 1, max = 253), regex(pattern = r"^[^/%]*[^./%][^/%]*$")),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub items: Vec<String>,
    /// Selects all objects of the kind whose labels match, in the syntax of `kubectl -l`: at most
    /// 5,000 in each tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub label_selector: Option<String>,
    /// What the action needs to know. `options.repository` defaults to the repository that the
    /// workspace gives its tenants.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub options: Option<BulkOptions>,
    /// How many objects of a tenant are worked on at once. Defaults to 8.
    #[serde(default = "parallelism")]
    #[schemars(range(min = 1, max = 16))]
    pub parallelism: i32,
    /// Stops in a tenant when so many of its objects have failed; the rest is skipped. If unset, all
    /// objects are tried. Not accepted with `delete`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 5000))]
    pub stop_after_failures: Option<i32>,
}

fn parallelism() -> i32 {
    8
}

/// A RestoreRun in each tenant.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestoreTemplate {
    /// Backup set to restore from, of the same name in each tenant: what a workspace run captured, and
    /// what a schedule of the workspace captured at one time, has one name in all of them.
    pub backup_set: LocalReference,
    /// Items to restore. If unset, all items of the set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 500))]
    pub items: Vec<ItemSelector>,
    /// Items not to restore. Takes precedence over `items`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 500))]
    pub exclude_items: Vec<ItemSelector>,
    /// Restores only items that are `missing` in the namespace, or only those that exist and are
    /// `different`. If unset, both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only: Option<Only>,
    /// What to do with an object that exists and differs: leave it (`none`, the default), replace
    /// it as a whole (`update`), or delete and recreate it (`recreate`).
    #[serde(default)]
    pub existing_resource_policy: ExistingResourcePolicy,
    /// Whether to delete objects that a full set does not hold, or that a partial set lists as
    /// absent. Accepted only with `dryRun: true`. Defaults to false.
    #[serde(default)]
    pub prune: bool,
    /// Whether to allow actions that lose data for good: deleting or recreating a volume claim, or
    /// an object with finalizers. If false, the default, such an item is a `conflict`.
    #[serde(default)]
    pub allow_data_loss: bool,
    /// Changes to make to the objects before they are written, in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub transforms: Vec<Transform>,
}

#[cfg(test)]
mod tests {
    use crate::schema::custom_resource_definitions;
    use serde_json::Value;

    /// The schema of a kind's spec, as it is installed.
    fn spec_of(plural: &str) -> Value {
        let definitions = custom_resource_definitions().into_iter();
        let mut definitions = definitions.map(|definition| serde_json::to_value(definition).expect("JSON"));
        let definition =
            definitions.find(|definition| definition["spec"]["names"]["plural"] == plural).expect("a kind");
        definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"].clone()
    }

    /// A schema without its descriptions, which may differ.
    fn bare(schema: &Value) -> Value {
        match schema {
            Value::Object(fields) => fields
                .iter()
                .filter(|(name, value)| *name != "description" || !value.is_string())
                .map(|(name, value)| (name.clone(), bare(value)))
                .collect(),
            other => other.clone(),
        }
    }

    #[test]
    fn each_field_of_a_template_is_bounded_and_has_its_default_as_in_what_is_created() {
        let templates = spec_of("workspaceruns");
        for (template, kind) in [("bulk", "bulkoperationruns"), ("restore", "restoreruns")] {
            let kind = spec_of(kind);
            let fields = templates["properties"][template]["properties"].as_object().expect("fields");
            assert!(fields.len() > 5, "{fields:#?}");
            for (field, schema) in fields {
                assert_eq!(bare(schema), bare(&kind["properties"][field]), "{template}.{field}");
            }
        }
    }

    /// Rules about several fields of a bulk operation are in the workspace run, too.
    #[test]
    fn what_a_bulk_operation_refuses_is_refused_in_a_template() {
        let rules = |plural: &str| -> Vec<String> {
            let spec = spec_of(plural);
            let rules = spec["x-kubernetes-validations"].as_array().expect("rules").iter();
            rules.filter_map(|rule| rule["rule"].as_str().map(str::to_owned)).collect()
        };
        let of_template = rules("workspaceruns");
        let mut compared = 0;
        for rule in rules("bulkoperationruns") {
            // A workspace run refuses the actions that only read as a whole.
            if rule.contains("'capture'") || rule.contains("'export'") {
                continue;
            }
            // A deletion has a repository by default, and no approval of its own.
            if !rule.contains("self.action") || rule.contains("oldSelf") || rule.contains("!= 'delete' || (has") {
                continue;
            }
            let of_bulk = ["action", "options", "stopAfterFailures"].iter().fold(rule.clone(), |rule, field| {
                rule.replace(&format!("self.{field}"), &format!("self.bulk.{field}"))
            });
            let wanted = format!("!has(self.bulk) || {of_bulk}");
            assert!(of_template.contains(&wanted), "{wanted}");
            compared += 1;
        }
        assert_eq!(compared, 5);
    }
}
