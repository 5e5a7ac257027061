//! What the platform and the workspace of a tenant add to the inputs of a run. Pure.
//!
//! What is added is not recorded in the run's spec, and does not count for the identity of its work.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use crate::{
    api::{
        Inputs, Reason,
        operation_run::MAX_INPUTS_BYTES,
        operations::{IgnoreInput, SeverityInput},
        workspace::DriftDefaults,
    },
    items::drift::{ignore::Ignore, severity::Severities},
    kernel::refusal::Refusal,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

/// Adds rules to the inputs of a run that looks for drift: those of the inputs come first. `from` are
/// sources of rules, each with the words for its field.
pub fn with_drift(inputs: &Inputs, from: &[(String, &DriftDefaults)]) -> Result<Inputs, Refusal> {
    let mut fields = inputs.parse();
    for (place, defaults) in from {
        expect_readable(place, defaults)?;
        add::<IgnoreInput>(&mut fields, "ignore", &defaults.ignore);
        add::<SeverityInput>(&mut fields, "severities", &defaults.severities);
    }
    let length = serde_json::to_vec(&fields).map_or(0, |text| text.len());
    if length > MAX_INPUTS_BYTES && !from.is_empty() {
        let places: Vec<&str> = from.iter().map(|(place, _)| place.as_str()).collect();
        let message = format!(
            "the inputs with the rules of {} have {length} bytes as JSON, and {MAX_INPUTS_BYTES} are possible: leave out some of spec.inputs, or ask for shorter rules, then create a new run",
            places.join(" and ")
        );
        return Err(Refusal::new(Reason::InvalidInputs, message));
    }
    Ok(fields.into())
}

/// Refuses rules that the worker could not read.
pub fn expect_readable(place: &str, defaults: &DriftDefaults) -> Result<(), Refusal> {
    let ignore = Ignore::new(&defaults.ignore, "drift.ignore").map(drop);
    let severities = Severities::new(&defaults.severities, "drift.severities").map(drop);
    ignore.and(severities).map_err(|problem| {
        let message = format!("{place}: {problem}: ask who wrote that to correct it, then create a new run");
        Refusal::new(Reason::InvalidInputs, message)
    })
}

/// Adds rules after those that a field has. One that is no list is left for the worker to refuse.
fn add<T: Serialize + DeserializeOwned>(fields: &mut Map<String, Value>, field: &str, rules: &[T]) {
    if rules.is_empty() {
        return;
    }
    let list = fields.entry(field).or_insert_with(|| Value::Array(Vec::new()));
    if let Value::Array(list) = list {
        list.extend(rules.iter().filter_map(|rule| serde_json::to_value(rule).ok()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn defaults(value: Value) -> DriftDefaults {
        serde_json::from_value(value).expect("defaults")
    }

    fn inputs(value: &Value) -> Inputs {
        value.as_object().expect("fields").clone().into()
    }

    #[test]
    fn rules_of_the_workspace_come_after_those_of_the_run_and_before_those_of_the_platform() {
        let own = inputs(&json!({"repository": "main", "ignore": [{"paths": ["/own"]}]}));
        let workspace = defaults(json!({"ignore": [{"kinds": ["Pod"]}], "severities": [{"severity": "low"}]}));
        let platform = defaults(json!({"ignore": [{"paths": ["/platform"]}]}));
        let from = [("workspace shop".to_owned(), &workspace), ("the platform".to_owned(), &platform)];
        let merged = Value::Object(with_drift(&own, &from).expect("inputs").parse());
        let ignored = merged["ignore"].as_array().expect("rules");
        assert_eq!((&ignored[0]["paths"][0], &ignored[1]["kinds"][0]), (&json!("/own"), &json!("Pod")));
        assert_eq!((&ignored[2]["paths"][0], ignored.len()), (&json!("/platform"), 3));
        assert_eq!((&merged["severities"][0]["severity"], &merged["repository"]), (&json!("low"), &json!("main")));
        assert!(serde_json::from_value::<crate::api::operations::DriftInputs>(merged).is_ok());
        assert_eq!(with_drift(&own, &[]).expect("inputs"), own);
    }

    #[test]
    fn a_rule_that_cannot_be_read_or_is_too_long_blocks_the_run_and_says_whose_it_is() {
        let own = inputs(&json!({"repository": "main"}));
        for (wrong, words) in [
            (json!({"ignore": [{"paths": ["a"]}]}), "drift.ignore[0].paths[0]"),
            (json!({"severities": [{"severity": "low", "kinds": ["a b"]}]}), "drift.severities[0].kinds[0]"),
            (json!({"ignore": [{"paths": vec![format!("/{}", "a".repeat(1000)); 70]}]}), "bytes as JSON"),
        ] {
            let wrong = defaults(wrong);
            let refused = with_drift(&own, &[("workspace shop".to_owned(), &wrong)]).expect_err("refused");
            assert_eq!(refused.reason, Reason::InvalidInputs);
            assert!(refused.message.contains(words) && refused.message.contains("workspace shop"), "{refused:?}");
        }
    }
}
