//! Walks the table.

use super::{
    TABLE, of_command, of_executor, of_type,
    record::{Ended, Ran, Record},
    records,
};
use crate::{
    api::reason::worker as reason,
    api::{
        Inputs, Outcome,
        execution::{self, ACCOUNTS, PREVIEW_ACCOUNT},
        operation_type::Executor,
        operations::BUILT_IN,
        result::{CapturedSnapshot, ResultContext},
    },
    worker::{
        environment::{Environment, tests::variables},
        work::{LeaseNeed, RepositoryNeed},
    },
};
use serde_json::{Value, json};
use std::collections::BTreeSet;

#[test]
fn each_built_in_operation_is_in_the_table_once_with_its_command() {
    let mut table: Vec<_> = TABLE.iter().map(|operation| (operation.name(), operation.command())).collect();
    let mut built_in: Vec<_> = BUILT_IN.iter().map(|operation| (operation.name, operation.command)).collect();
    table.sort_unstable();
    built_in.sort_unstable();
    assert_eq!(table, built_in);
}

#[test]
fn each_operation_is_found_by_its_name_its_command_and_its_executor() {
    for operation in TABLE {
        let executor: Executor =
            serde_json::from_value(json!({"worker": {"command": [operation.command()]}})).expect("an executor");
        let found = [of_type(operation.name()), of_command(operation.command()), of_executor(&executor)];
        let names = found.map(|found| found.map(super::Operation::name));
        assert_eq!(names, [Some(operation.name()); 3]);
    }
    assert!(of_command("another").is_none() && of_type("another").is_none());
    assert!(of_executor(&Executor::default()).is_none());
}

#[test]
fn what_an_operation_needs_fits_its_account() {
    let told: BTreeSet<&str> = TABLE.iter().map(|operation| operation.about()).collect();
    assert_eq!(told.len(), TABLE.len(), "the help tells them apart");
    for operation in TABLE {
        let (name, needs) = (operation.name(), operation.needs());
        assert!(ACCOUNTS.contains(&operation.account()), "{name}");
        if operation.account() == PREVIEW_ACCOUNT {
            let own_alone = [LeaseNeed::Reads, LeaseNeed::None].contains(&needs.lease);
            assert!(own_alone, "{name}: the account may write no Lease but its own");
        }
        let without = (needs.repository == RepositoryNeed::None, needs.lease == LeaseNeed::None);
        assert_eq!(without.0, without.1, "{name}: a Lease is on a repository");
        if needs.repository == RepositoryNeed::Any {
            assert_eq!(needs.lease, LeaseNeed::Reads, "{name}: nobody writes to what no check has passed");
        }
    }
}

fn environment(inputs: &Value) -> Environment {
    let mut variables = variables();
    variables.insert(execution::INPUTS, inputs.to_string());
    Environment::read(&|name| variables.get(name).cloned()).expect("an environment")
}

/// The least that a schema of inputs takes.
fn least(schema: &Value) -> Value {
    let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let value = |name: &str| match name {
        "restoreRun" | "bulkOperationRun" => json!({"name": "put-back", "uid": "0123"}),
        "item" => json!("core/ConfigMap/settings"),
        "selection" => json!({"includeKinds": ["ConfigMap"], "includeNames": ["settings"]}),
        _ => json!("main"),
    };
    Value::Object(required.map(|name| (name.to_owned(), value(name))).collect())
}

#[test]
fn each_operation_begins_with_the_inputs_of_its_schema_and_with_no_others() {
    for built_in in BUILT_IN {
        let operation = of_type(built_in.name).expect("an operation");
        let inputs = least(&built_in.inputs_schema());
        assert!(operation.begin(&environment(&inputs)).is_ok(), "{}: {inputs}", built_in.name);
        for (name, value) in [("misspelled", json!(1)), ("repository", json!(7))] {
            let mut wrong = inputs.clone();
            wrong[name] = value;
            let refused = operation.begin(&environment(&wrong)).err().map(|failure| failure.reason);
            assert_eq!(refused.as_deref(), Some(reason::INVALID_INPUTS), "{}: {wrong}", built_in.name);
        }
    }
}

fn ended<'a>(made: &'a ResultContext, inputs: &'a Inputs, ran: Ran<'a>) -> Ended<'a> {
    let (reason, message) = ("Succeeded", "done");
    Ended { ran, outcome: Outcome::Succeeded, reason, message, failures: &[], made, inputs, repository: Some("main") }
}

#[test]
fn a_snapshot_is_recorded_though_the_type_of_its_run_is_gone_and_by_one_operation_alone() {
    let ran = Ran::Worker { generation: None, spec: None };
    let inputs = Inputs::default();
    let captured = ResultContext { snapshot: Some(CapturedSnapshot::default()), ..ResultContext::default() };
    let restored = ResultContext { undo_set: Some("undo".to_owned()), ..captured.clone() };
    for made in [&captured, &restored] {
        let ended = ended(made, &inputs, ran);
        let found = records(None, &ended);
        assert_eq!(TABLE.iter().filter(|operation| operation.has_made(made)).count(), 1);
        assert!(matches!(found.as_slice(), [Record::NewSet { complete: true, .. } | Record::WorkersSet { .. }]));
        let by = TABLE.into_iter().find(|operation| operation.has_made(made));
        assert_eq!(records(by, &ended), found, "once, if its type is still there");
    }
}

#[test]
fn without_a_job_of_our_worker_nothing_is_recorded_but_why_a_check_did_not_run() {
    let (made, inputs) = (ResultContext::default(), Inputs::default());
    for ran in [Ran::Nothing, Ran::Another] {
        let ended = ended(&made, &inputs, ran);
        assert_eq!(records(None, &ended), []);
        for operation in TABLE {
            let takes_any = operation.needs().repository == RepositoryNeed::Any;
            let some = !records(Some(operation), &ended).is_empty();
            assert_eq!(some, takes_any && ran == Ran::Nothing, "{} {ran:?}", operation.name());
        }
    }
}
