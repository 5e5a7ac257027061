//! The table of built-in operations, and what the chart and the worker have of it.

use std::{collections::BTreeSet, fs, path::Path};

use clap::CommandFactory;
use serde_json::Value;
use tenantatlas::{
    api::{
        OperationType,
        execution::PREVIEW_ACCOUNT,
        operations::{self as built_in, BUILT_IN},
        schema::custom_resource_definitions,
    },
    command::Arguments,
    operations::{MadeFor, TABLE},
};

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/tenantatlas/operation-types")
}

#[test]
fn the_chart_installs_each_built_in_operation_with_its_command_and_the_schema_of_its_inputs() {
    let files: BTreeSet<String> =
        fs::read_dir(folder()).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    let names: BTreeSet<String> = BUILT_IN.iter().map(|operation| format!("{}.yaml", operation.name)).collect();
    assert_eq!(files, names);
    for operation in BUILT_IN {
        let text = fs::read_to_string(folder().join(format!("{}.yaml", operation.name))).unwrap();
        let spec: Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(spec["inputsSchema"], operation.inputs_schema(), "{}: cargo xtask generate", operation.name);
        let object = serde_json::json!({ "apiVersion": "tenantatlas.io/v1alpha1", "kind": "OperationType",
            "metadata": { "name": operation.name }, "spec": spec });
        let installed: OperationType = serde_json::from_value(object).unwrap();
        let worker = installed.spec.executor.worker.unwrap();
        assert_eq!(worker.command, [operation.command], "{}", operation.name);
    }
}

#[test]
fn the_worker_has_a_command_for_each_built_in_operation() {
    let arguments = Arguments::command();
    let worker = arguments.find_subcommand("worker").unwrap();
    for operation in BUILT_IN {
        assert!(worker.find_subcommand(operation.command).is_some(), "worker {}", operation.command);
    }
}

/// A template of the chart as text, with runs of white space as one space.
fn template(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/tenantatlas/templates").join(name);
    fs::read_to_string(path).unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn a_type_of_the_chart_that_changes_nothing_has_an_account_that_may_change_nothing() {
    for operation in TABLE {
        let text = fs::read_to_string(folder().join(format!("{}.yaml", operation.name()))).unwrap();
        let spec: Value = serde_saphyr::from_str(&text).unwrap();
        let writes = operation.account() == tenantatlas::api::execution::RESTORE_ACCOUNT;
        assert_eq!(spec["readOnly"], !writes, "{}", operation.name());
    }
}

#[test]
fn a_tenant_s_operator_may_run_each_built_in_operation_and_no_other() {
    let template = template("rbac/tenant-roles.yaml");
    let (_, after) = template.split_once("resources: [operationtypes]").unwrap();
    let named = after.split_once("verbs: [run]").unwrap().0;
    // The files are those of the table, as tested above.
    let each_file = r#"{{- range $path, $_ := .Files.Glob "operation-types/*.yaml" }} - {{ base $path | trimSuffix ".yaml" }} {{- end }}"#;
    assert!(named.ends_with(&format!("resourceNames: {each_file} ")), "{named}");
}

#[test]
fn admission_lets_nobody_start_what_the_operator_starts_for_restores_and_bulk_operations() {
    let start = template("admission/start.yaml");
    let (_, after) = start.split_once("!(object.spec.type in ['").unwrap();
    let named: BTreeSet<&str> = after.split_once("'])").unwrap().0.split("', '").collect();
    let made = TABLE.iter().filter(|operation| operation.made_for().is_some());
    let wanted: BTreeSet<&str> = made.map(|operation| operation.name()).collect();
    assert_eq!(named, wanted);
    for kind in [MadeFor::RestoreRun, MadeFor::BulkOperationRun] {
        let of_kind = TABLE.iter().filter(|operation| operation.made_for() == Some(kind));
        let of_account = |previews: bool| {
            let is_its = move |account: &str| (account == PREVIEW_ACCOUNT) == previews;
            of_kind.clone().filter(move |operation| is_its(operation.account())).map(|operation| operation.name())
        };
        let orders: Vec<(&str, &str)> = of_account(false)
            .flat_map(|writes| of_account(true).map(move |previews| (previews, writes)))
            .filter(|(previews, writes)| {
                start.contains(&format!("object.spec.?dryRun.orValue(false) ? '{previews}' : '{writes}'"))
            })
            .collect();
        let asked: BTreeSet<&str> = orders.iter().flat_map(|(previews, writes)| [*previews, *writes]).collect();
        // One that only reads has no preview, and is asked for by its action alone.
        let reads = |name: &str| {
            let action = name.trim_start_matches("bulk.");
            start.contains(&format!("object.spec.action == '{action}' ? '{name}' :"))
        };
        let all: BTreeSet<&str> =
            of_kind.clone().map(|operation| operation.name()).filter(|name| !reads(name)).collect();
        assert_eq!((asked, orders.len()), (all.clone(), all.len() / 2), "the verb that an order takes: {orders:?}");
    }
    let writes = built_in::APPLY;
    let own_account = format!("oldObject.spec.type == '{writes}'");
    assert!(template("admission/status.yaml").contains(&own_account), "whose account the inputs may name");
}

#[test]
fn admission_asks_for_the_operations_that_a_repository_and_a_schedule_start() {
    let start = template("admission/start.yaml");
    for name in [built_in::CHECK, built_in::MAINTAIN] {
        assert!(start.contains(&format!(".name('{name}').check('run')")), "{name}");
    }
    let default = format!("object.spec.?operation.?type.orValue('{}')", built_in::CAPTURE);
    assert!(start.contains(&default), "the type of a schedule that names none: {default}");
}

#[test]
fn a_schedule_starts_nothing_that_is_made_for_an_order() {
    let definitions = serde_json::to_string(&custom_resource_definitions()).unwrap();
    let (_, after) = definitions.split_once("!(self.operation.type in ['").unwrap();
    let named: BTreeSet<&str> = after.split_once("'])").unwrap().0.split("', '").collect();
    let made = TABLE.iter().filter(|operation| operation.made_for().is_some());
    assert_eq!(named, made.map(|operation| operation.name()).collect());
}
