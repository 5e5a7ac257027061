//! The health that Argo CD shows: its script, by tests in Argo CD's own format, and beside what kstatus would say.

use std::path::PathBuf;

use mlua::{Lua, LuaSerdeExt as _};
use serde::Deserialize;
use serde_json::{Value, json};
use tenantatlas::api::{Outcome, Phase, conditions};

#[derive(Deserialize)]
struct Tests {
    tests: Vec<Test>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Test {
    health_status: Health,
    input_path: String,
}

#[derive(Deserialize, Debug, PartialEq)]
pub struct Health {
    pub status: String,
    #[serde(default)]
    message: String,
}

fn folder() -> PathBuf {
    let customizations = "integrations/argo-cd/resource_customizations/tenantatlas.io/_";
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(customizations)
}

fn text(name: &str) -> String {
    std::fs::read_to_string(folder().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// What the script says of an object, as Argo CD runs it: with the object as `obj`.
pub fn health(object: &Value) -> Health {
    let lua = Lua::new();
    let object = lua.to_value(object).expect("an object for Lua");
    lua.globals().set("obj", object).expect("a global");
    let answer = lua.load(text("health.lua")).eval().expect("the script runs");
    lua.from_value(answer).expect("a status and a message")
}

#[test]
fn argo_cds_own_tests_of_the_health_script_pass() {
    let tests: Tests = serde_saphyr::from_str(&text("health_test.yaml")).expect("tests in Argo CD's format");
    let tried: Vec<_> = tests.tests.iter().map(|test| test.input_path.clone()).collect();
    for test in tests.tests {
        let object: Value = serde_saphyr::from_str(&text(&test.input_path)).expect("an object");
        assert_eq!(health(&object), test.health_status, "{}", test.input_path);
    }
    let data = std::fs::read_dir(folder().join("testdata")).expect("a folder");
    for file in data {
        let name = format!("testdata/{}", file.expect("a file").file_name().to_string_lossy());
        assert!(tried.contains(&name), "no test uses {name}");
    }
}

#[test]
fn a_run_is_progressing_until_its_end_and_then_healthy_or_degraded() {
    let phases = [Phase::Queued, Phase::Running, Phase::Completed];
    let outcomes =
        [Outcome::Pending, Outcome::Succeeded, Outcome::PartiallySucceeded, Outcome::Failed, Outcome::Blocked];
    for (phase, outcome) in phases.into_iter().flat_map(|phase| outcomes.map(|outcome| (phase, outcome))) {
        let wanted = conditions::of_run(phase, outcome);
        let merged = conditions::merge(&[], &wanted, "Reason", "words", Some(3), jiff::Timestamp::UNIX_EPOCH);
        let run = json!({ "kind": "OperationRun", "metadata": { "generation": 3 }, "spec": {},
            "status": { "observedGeneration": 3, "conditions": merged } });
        let expected = match (phase, outcome) {
            (Phase::Queued | Phase::Running, _) | (_, Outcome::Pending) => "Progressing",
            (_, Outcome::Succeeded) => "Healthy",
            (_, Outcome::PartiallySucceeded | Outcome::Failed | Outcome::Blocked) => "Degraded",
        };
        let expected = Health { status: expected.to_owned(), message: "words".to_owned() };
        assert_eq!(health(&run), expected, "{phase:?}, {outcome:?}");
    }
}
