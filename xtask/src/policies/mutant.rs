//! What can be taken out of admission policies: one binding, one validation, one match condition, one mutation. Read from the policies
//! themselves, so that a policy added tomorrow is in it.

use serde_json::{Value, json};

/// An admission policy with its binding, as the chart installs them.
#[derive(Clone, Debug)]
pub(super) struct Policy {
    pub(super) policy: Value,
    pub(super) binding: Value,
}

/// What is taken out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Binding,
    Validation(usize),
    Condition(usize),
    Mutation(usize),
}

/// A policy without one of its parts.
#[derive(Clone, Debug)]
pub(super) struct Mutant<'a> {
    pub(super) of: &'a Policy,
    pub(super) part: Part,
}

impl Policy {
    /// The policies among the manifests of a chart, each with its binding.
    pub(super) fn all(manifests: &[Value]) -> Vec<Self> {
        let is = |object: &Value, kind: &str| object["kind"].as_str() == Some(kind);
        let policies =
            manifests.iter().filter(|one| is(one, "ValidatingAdmissionPolicy") || is(one, "MutatingAdmissionPolicy"));
        let bound = policies.filter_map(|policy| {
            let kind = format!("{}Binding", policy["kind"].as_str()?);
            let binding = manifests
                .iter()
                .find(|one| is(one, &kind) && one["spec"]["policyName"] == policy["metadata"]["name"])?;
            Some(Self { policy: policy.clone(), binding: binding.clone() })
        });
        bound.collect()
    }

    pub(super) fn name(&self) -> &str {
        self.policy["metadata"]["name"].as_str().unwrap_or_default()
    }

    pub(super) fn mutates(&self) -> bool {
        self.policy["kind"] == "MutatingAdmissionPolicy"
    }

    /// A name that no policy of the other kind shares.
    pub(super) fn id(&self) -> String {
        if self.mutates() { format!("{}(writes)", self.name()) } else { self.name().to_owned() }
    }

    pub(super) fn list(&self, field: &str) -> &[Value] {
        self.policy["spec"][field].as_array().map(Vec::as_slice).unwrap_or_default()
    }

    /// Each way to take one part out.
    pub(super) fn mutants(&self) -> Vec<Mutant<'_>> {
        let of = |field: &str, part: fn(usize) -> Part| (0..self.list(field).len()).map(part).collect::<Vec<_>>();
        let parts = [
            vec![Part::Binding],
            of("validations", Part::Validation),
            of("matchConditions", Part::Condition),
            of("mutations", Part::Mutation),
        ];
        parts.concat().into_iter().map(|part| Mutant { of: self, part }).collect()
    }
}

impl Mutant<'_> {
    /// `policy:part`, as it is printed and chosen.
    pub(super) fn id(&self) -> String {
        let policy = self.of.id();
        match &self.part {
            Part::Binding => format!("{policy}:binding"),
            Part::Validation(index) => format!("{policy}:validation:{index}"),
            Part::Condition(index) => {
                let name = self.of.list("matchConditions")[*index]["name"].as_str().unwrap_or_default();
                format!("{policy}:condition:{name}")
            }
            Part::Mutation(index) => format!("{policy}:mutation:{index}"),
        }
    }

    /// The policy without the part; none where the binding is taken.
    pub(super) fn policy(&self) -> Option<Value> {
        let mut policy = self.of.policy.clone();
        let spec = &mut policy["spec"];
        match self.part {
            Part::Binding => return None,
            // A policy must have a validation, so the one that is taken holds for everything instead.
            Part::Validation(index) => spec["validations"][index]["expression"] = json!("true"),
            Part::Condition(index) => spec["matchConditions"][index]["expression"] = json!("true"),
            Part::Mutation(index) => {
                // A list without an element has no type that the API server takes.
                let nothing = "false ? [JSONPatch{op: 'remove', path: '/spec'}] : []";
                spec["mutations"][index] = json!({ "patchType": "JSONPatch", "jsonPatch": { "expression": nothing } });
            }
        }
        Some(policy)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn policy() -> Policy {
        let policy = json!({ "kind": "ValidatingAdmissionPolicy", "metadata": { "name": "p" }, "spec": {
            "matchConditions": [{ "name": "not-the-operator", "expression": "a" }],
            "validations": [{ "expression": "b" }, { "expression": "c", "message": "no" }] } });
        let bound = |name: &str| json!({ "kind": "ValidatingAdmissionPolicyBinding", "spec": { "policyName": name } });
        let others = [bound("q"), json!({ "kind": "ClusterRole" }), policy, bound("p")];
        let mut all = Policy::all(&others);
        assert_eq!(all.len(), 1);
        all.remove(0)
    }

    #[test]
    fn each_part_of_a_policy_is_taken_out_once_and_nothing_else_changes() {
        let policy = policy();
        let mutants = policy.mutants();
        let ids: Vec<String> = mutants.iter().map(Mutant::id).collect();
        assert_eq!(ids, ["p:binding", "p:validation:0", "p:validation:1", "p:condition:not-the-operator"]);
        assert!(mutants[0].policy().is_none());
        let without = |index: usize, pointer: &str| {
            let mut changed = mutants[index].policy().unwrap();
            let expression = changed.pointer_mut(pointer).unwrap();
            assert_eq!(*expression, "true");
            *expression = policy.policy.pointer(pointer).unwrap().clone();
            assert_eq!(changed, policy.policy);
        };
        without(1, "/spec/validations/0/expression");
        without(2, "/spec/validations/1/expression");
        without(3, "/spec/matchConditions/0/expression");
    }
}
