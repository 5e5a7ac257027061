//! The table of built-in operations, and what the chart and the worker have of it.

use std::{collections::BTreeSet, fs, path::Path};

use clap::CommandFactory;
use serde_json::Value;
use tenantatlas::{
    api::{OperationType, operations::BUILT_IN},
    command::Arguments,
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
