//! What a kubelet makes of the texts in our Jobs: its own algorithm, reimplemented for tests.
//!
//! Sources: `k8s.io/kubernetes/third_party/forked/golang/expansion/expand.go`, and its use in
//! `pkg/kubelet/container/helpers.go`. The variables of a container are expanded one after the
//! other, each with the ones before it; `command` and `args` are expanded with all of them.

use super::job::{JobSettings, build};
use super::prepare::Prepared;
use crate::api::{
    BackupRepository, OperationRun, OperationRunSpec, OperationType,
    execution::{INPUTS, NAMESPACE, REPOSITORY_SPEC, RUN, RUN_UID, TARGET, TYPE},
    identity::Identity,
    operation_run::Target,
};
use k8s_openapi::api::core::v1::Container;
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use std::{collections::BTreeMap, sync::Arc};

fn expand(input: &str, variables: &BTreeMap<String, String>) -> String {
    let mut expanded = String::new();
    let mut rest = input;
    while let Some(at) = rest.find('$') {
        expanded.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        match after.chars().next() {
            // A `$` at the end is literal.
            None => return expanded + "$",
            Some('$') => {
                expanded.push('$');
                rest = &after[1..];
            }
            Some('(') => {
                if let Some(end) = after.find(')') {
                    let unknown = &rest[rest.len() - after.len() - 1..][..end + 2];
                    expanded.push_str(variables.get(&after[1..end]).map_or(unknown, String::as_str));
                    rest = &after[end + 1..];
                } else {
                    expanded.push_str("$(");
                    rest = &after[1..];
                }
            }
            Some(other) => {
                expanded.push('$');
                expanded.push(other);
                rest = &after[other.len_utf8()..];
            }
        }
    }
    expanded + rest
}

/// What a container sees: its environment, with this value for each variable from a Secret, and its
/// command line.
fn run_in_kubelet(container: &Container, secret: &str) -> (BTreeMap<String, String>, Vec<String>) {
    let mut variables = BTreeMap::new();
    for variable in container.env.iter().flatten() {
        let value = match (&variable.value, &variable.value_from) {
            (Some(value), _) => expand(value, &variables),
            (None, Some(source)) if source.secret_key_ref.is_some() => secret.to_owned(),
            _ => String::new(),
        };
        variables.insert(variable.name.clone(), value);
    }
    let line = container.command.iter().chain(&container.args).flatten();
    let line = line.map(|word| expand(word, &variables)).collect();
    (variables, line)
}

fn run(text: &str, inputs: &Map<String, Value>) -> OperationRun {
    let mut run = OperationRun::new(text, OperationRunSpec::default());
    run.metadata.namespace = Some("acme".into());
    run.metadata.uid = Some("uid".into());
    run.spec.operation_type = "custom".into();
    run.spec.inputs = inputs.clone().into();
    run.spec.target = Some(Target { api_version: "v1".into(), kind: "ConfigMap".into(), name: text.into() });
    run
}

fn operation_type(executor: &Value) -> OperationType {
    OperationType::new("custom", serde_json::from_value(json!({ "executor": executor })).expect("a type"))
}

fn prepared(
    operation_type: &OperationType,
    inputs: &Map<String, Value>,
    repository: Option<BackupRepository>,
) -> Prepared {
    Prepared {
        tenant_uid: "tenant".into(),
        operation_type: Arc::new(operation_type.clone()),
        identity: Identity::new("tenant", "custom", None, "tenantatlas-worker", inputs, None),
        inputs: inputs.clone().into(),
        account: "tenantatlas-worker".into(),
        repository: repository.map(Arc::new),
    }
}

fn settings() -> JobSettings {
    JobSettings {
        image: "image".into(),
        image_pull_policy: "Never".into(),
        image_pull_secrets: Vec::new(),
        worker_resources: json!({}),
        cluster_uid: "cluster".into(),
    }
}

/// Texts in which the syntax of the kubelet is frequent.
fn hostile() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        4 => Just("$".to_owned()),
        2 => Just("(".to_owned()),
        2 => Just(")".to_owned()),
        2 => Just("DB_PASSWORD".to_owned()),
        1 => Just("ATLAS_RUN".to_owned()),
        1 => Just("$(DB_PASSWORD)".to_owned()),
        1 => Just("é\u{1f98a}\\\"".to_owned()),
        1 => "[a-z0-9$]{0,4}",
    ];
    proptest::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
}

proptest! {
    /// Our own variables, in a container of any image and in the fence. In a template,
    /// `$(ATLAS_INPUTS)` expands to the inputs, once.
    #[test]
    fn what_a_tenant_says_arrives_in_a_container_as_it_was_said(text in hostile(), key in hostile()) {
        let secret = "a-secret-of-the-template";
        let inputs = Map::from_iter([("text".to_owned(), json!(text)), (key, json!([text.clone()]))]);
        let template = operation_type(&json!({ "jobTemplate": { "spec": { "template": { "spec": { "containers": [{
            "name": "main", "image": "image",
            "command": ["dump", "--inputs=$(ATLAS_INPUTS)"], "args": ["$(ATLAS_RUN)"],
            "env": [
                { "name": "DB_PASSWORD", "valueFrom": { "secretKeyRef": { "name": "db", "key": "password" } } },
                { "name": "ATLAS_INPUTS", "value": "$(DB_PASSWORD)" },
            ],
        }]}}}}}));
        let run = run(&text, &inputs);
        let job = build(&run, &prepared(&template, &inputs, None), &settings()).expect("a Job");
        let pod = job.spec.and_then(|spec| spec.template.spec).expect("a pod");
        let said = String::from_utf8(crate::api::canonical::to_vec(&Value::Object(inputs))).expect("UTF-8");
        let target = String::from_utf8(crate::api::canonical::to_vec(&json!(run.spec.target))).expect("UTF-8");
        let mut seen = 0;
        for container in pod.containers.iter().chain(pod.init_containers.iter().flatten()) {
            let (variables, line) = run_in_kubelet(container, secret);
            for (name, expected) in [
                (INPUTS, said.as_str()), (TARGET, &target), (RUN, &text), (RUN_UID, "uid"), (NAMESPACE, "acme"), (TYPE, "custom"),
            ] {
                prop_assert_eq!(variables.get(name).map(String::as_str), Some(expected), "{} of {}", name, &container.name);
            }
            prop_assert!(variables.iter().all(|(name, value)| name == "DB_PASSWORD" || !value.contains(secret)));
            if container.name == "main" {
                prop_assert_eq!(line, vec!["dump".to_owned(), format!("--inputs={said}"), text.clone()]);
            }
            seen += 1;
        }
        prop_assert_eq!(seen, 2);
    }

    /// The spec of a repository, which a tenant writes, in our own worker.
    #[test]
    fn what_a_repository_says_arrives_in_the_worker_as_it_was_said(text in hostile()) {
        let spec = json!({
            "storage": { "s3": { "bucket": text, "prefix": text, "endpoint": text, "region": text, "roleArn": text } },
            "passwordSecret": { "name": "password" },
        });
        let repository = BackupRepository::new(&text, serde_json::from_value(spec).expect("a spec"));
        let inputs = Map::new();
        let worker = operation_type(&json!({ "worker": { "command": ["capture"] } }));
        let job = build(&run("run", &inputs), &prepared(&worker, &inputs, Some(repository.clone())), &settings()).expect("a Job");
        let pod = job.spec.and_then(|spec| spec.template.spec).expect("a pod");
        let (variables, line) = run_in_kubelet(&pod.containers[0], "");
        let spec = String::from_utf8(crate::api::canonical::to_vec(&json!(repository.spec))).expect("UTF-8");
        prop_assert_eq!(&variables[REPOSITORY_SPEC], &spec);
        prop_assert_eq!(&variables["AWS_ROLE_ARN"], &text);
        prop_assert_eq!(line, ["worker", "capture"]);
    }
}

/// The cases of the kubelet's own table (`expand_test.go`) that distinguish its rules.
#[test]
fn the_algorithm_is_the_kubelets() {
    let pairs = [("VAR_A", "A"), ("VAR_B", "B"), ("VAR_C", "C"), ("VAR_REF", "$(VAR_A)"), ("VAR_EMPTY", "")];
    let variables = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter().collect();
    for (input, expected) in [
        ("$(VAR_A)", "A"),
        ("___$(VAR_B)___", "___B___"),
        ("$(VAR_A)$(VAR_B)$(VAR_C)", "ABC"),
        ("$(VAR_A)_$(VAR_REF)", "A_$(VAR_A)"),
        ("foo\\$(VAR_C)bar", "foo\\Cbar"),
        ("$$(VAR_A)", "$(VAR_A)"),
        ("$$$(VAR_A)", "$A"),
        ("$$$$$(VAR_A)", "$$A"),
        ("$VAR_A", "$VAR_A"),
        ("$$", "$"),
        ("$", "$"),
        ("$$$", "$$"),
        ("f000-$VAR_A)", "f000-$VAR_A)"),
        ("$(VAR_A", "$(VAR_A"),
        ("$(VAR_DNE)", "$(VAR_DNE)"),
        ("$(VAR_EMPTY)foo", "foo"),
        ("$($(VAR_A)", "$($(VAR_A)"),
        ("$?_boo_$!", "$?_boo_$!"),
        ("$é", "$é"),
        ("", ""),
    ] {
        assert_eq!(expand(input, &variables), expected, "{input}");
    }
}
