//! How the API server's audit log comes to say whom each part of a policy stops, so that a mutant is shown to those stories alone that
//! could notice: bindings that write down what they refuse, and policies that refuse nothing and write down what a condition keeps out.

use super::mutant::{Mutant, Part, Policy};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Where the names of probes begin.
const PREFIX: &str = "probe.";

/// Where the API server writes which validation did not hold. Of several it writes the first, which is the one that is answered.
pub(super) const REFUSAL: &str = "validation.policy.admission.k8s.io/validation_failure";

/// What is applied while stories are recorded and taken away again: policies and bindings.
pub(super) fn probes(policy: &Policy) -> Vec<Value> {
    let conditions = policy.list("matchConditions");
    let mut objects = if policy.mutates() { probe(policy, None, conditions) } else { Vec::new() };
    for (index, condition) in conditions.iter().enumerate() {
        let mut inverted = conditions.to_vec();
        let expression = condition["expression"].as_str().unwrap_or_default();
        inverted[index]["expression"] = json!(format!("!({expression})"));
        objects.extend(probe(policy, Some(index), &inverted));
    }
    objects
}

/// The binding of a policy, which writes down what it refuses. A policy that writes refuses nothing.
pub(super) fn loud(policy: &Policy) -> Option<Value> {
    let mut binding = policy.binding.clone();
    binding["spec"]["validationActions"] = json!(["Deny", "Audit"]);
    (!policy.mutates()).then_some(binding)
}

/// What a request met, by the annotations of its event in the audit log.
pub(super) fn met(event: &Value) -> BTreeSet<String> {
    let mut met = BTreeSet::new();
    for (key, value) in event["annotations"].as_object().into_iter().flatten() {
        if key.starts_with(PREFIX) {
            met.insert(key.clone());
        } else if key == REFUSAL {
            let refusals: Value = value.as_str().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
            for refusal in refusals.as_array().into_iter().flatten() {
                let index = usize::try_from(refusal["expressionIndex"].as_u64().unwrap_or_default());
                met.insert(refused(refusal["policy"].as_str().unwrap_or_default(), index.unwrap_or_default()));
            }
        }
    }
    met
}

/// What a story met that surely notices a mutant, and what one met that may.
pub(super) fn keys(mutant: &Mutant<'_>) -> (Vec<String>, Vec<String>) {
    let policy = mutant.of;
    let passed = |condition| format!("{}/met", name(policy, condition));
    match mutant.part {
        Part::Validation(index) => (vec![refused(policy.name(), index)], Vec::new()),
        Part::Binding if !policy.mutates() => {
            ((0..policy.list("validations").len()).map(|index| refused(policy.name(), index)).collect(), Vec::new())
        }
        Part::Condition(index) => (vec![format!("{}/refused", name(policy, Some(index)))], vec![passed(Some(index))]),
        Part::Binding | Part::Mutation(_) => (Vec::new(), vec![passed(None)]),
    }
}

fn refused(policy: &str, validation: usize) -> String {
    format!("{policy} refuses by {validation}")
}

fn name(policy: &Policy, condition: Option<usize>) -> String {
    let writes = if policy.mutates() { "writes." } else { "" };
    match condition {
        Some(index) => format!("{PREFIX}{writes}{}.{index}", policy.name()),
        None => format!("{PREFIX}{writes}{}", policy.name()),
    }
}

fn probe(policy: &Policy, condition: Option<usize>, conditions: &[Value]) -> Vec<Value> {
    let api = "admissionregistration.k8s.io/v1";
    let name = name(policy, condition);
    let spec = &policy.policy["spec"];
    let mut annotations = vec![json!({ "key": "met", "valueExpression": "'yes'" })];
    let expressions = policy.list("validations").iter().filter_map(|validation| validation["expression"].as_str());
    let all: Vec<String> = expressions.map(|expression| format!("({expression})")).collect();
    if !all.is_empty() {
        // Not by validations of its own: the log has one place for those of all policies. An expression that asks what somebody may do is
        // not known here, and then it is only known that the request was met.
        let refused = format!("{} ? '' : 'yes'", all.join(" && "));
        annotations.push(json!({ "key": "refused", "valueExpression": refused }));
    }
    let mut probe = json!({ "apiVersion": api, "kind": "ValidatingAdmissionPolicy", "metadata": { "name": name }, "spec": {
        // It must stop nobody, whatever an expression does that was turned round.
        "failurePolicy": "Ignore",
        "matchConstraints": spec["matchConstraints"],
        "matchConditions": conditions,
        "auditAnnotations": annotations,
    }});
    if spec["variables"].is_array() && !policy.mutates() {
        probe["spec"]["variables"] = spec["variables"].clone();
    }
    let binding = json!({ "apiVersion": api, "kind": "ValidatingAdmissionPolicyBinding", "metadata": { "name": name }, "spec": {
        "policyName": name, "validationActions": ["Audit"],
    }});
    vec![probe, binding]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> Policy {
        Policy {
            policy: json!({ "kind": "ValidatingAdmissionPolicy", "metadata": { "name": "p" }, "spec": {
                "matchConstraints": { "resourceRules": [1] },
                "matchConditions": [{ "name": "one", "expression": "a" }, { "name": "two", "expression": "b" }],
                "validations": [{ "expression": "c" }, { "expression": "d" }] } }),
            binding: json!({ "spec": { "validationActions": ["Deny"] } }),
        }
    }

    #[test]
    fn a_probe_refuses_nothing_and_lets_in_what_one_condition_keeps_out() {
        let objects = probes(&policy());
        let policies: Vec<&Value> = objects.iter().step_by(2).collect();
        let names: Vec<&Value> = policies.iter().map(|one| &one["metadata"]["name"]).collect();
        assert_eq!(names, ["probe.p.0", "probe.p.1"]);
        assert!(objects.iter().skip(1).step_by(2).all(|one| one["spec"]["validationActions"] == json!(["Audit"])));
        assert_eq!(policies[1]["spec"]["matchConditions"][0]["expression"], "a");
        assert_eq!(policies[1]["spec"]["matchConditions"][1]["expression"], "!(b)");
        assert!(policies.iter().all(|one| one["spec"]["validations"].is_null()));
        assert_eq!(policies[1]["spec"]["auditAnnotations"][1]["valueExpression"], "(c) && (d) ? '' : 'yes'");
    }

    #[test]
    fn what_the_audit_log_says_of_a_refusal_is_what_its_mutants_ask_for() {
        let refusal = r#"[{"policy":"p","expressionIndex":1}]"#;
        let event = json!({ "annotations": { REFUSAL: refusal, "probe.p.0/met": "yes", "other": "" } });
        let met = met(&event);
        let policy = policy();
        let notices: Vec<String> = policy
            .mutants()
            .iter()
            .filter(|mutant| {
                let (surely, maybe) = keys(mutant);
                surely.iter().chain(&maybe).any(|key| met.contains(key))
            })
            .map(Mutant::id)
            .collect();
        assert_eq!(notices, ["p:binding", "p:validation:1", "p:condition:one"]);
    }
}
