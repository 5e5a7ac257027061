//! No value of a Secret appears in a plan, a diff or a message, whatever transforms do and whatever
//! messages quote.

use super::{
    decide::{Decision, Live, Planner, Stored},
    dependents::Dependents,
    excluded::ExclusionRules,
    owners::Family,
    plan::Terms,
    proposal::{Proposal, Verdict, Write},
    readers::Readers,
    semantic::DigestKey,
    transform::Transforms,
    words::{Answer, words},
};
use crate::api::{
    item::{GroupKind, ItemId},
    restore_run::RestoreRunSpec,
};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Paths in a Secret; operations copy values between them.
const PLACES: [&str; 16] = [
    "",
    "/data",
    "/data/p",
    "/data/q",
    "/stringData",
    "/stringData/p",
    "/metadata",
    "/metadata/annotations",
    "/metadata/annotations/note",
    "/metadata/annotations/kubectl.kubernetes.io~1last-applied-configuration",
    "/metadata/labels",
    "/metadata/labels/x",
    "/metadata/ownerReferences",
    "/type",
    "/immutable",
    "/elsewhere",
];

fn secret(value: &str, label: &str) -> Value {
    let applied = json!({"data": {"p": value}}).to_string();
    json!({"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "data": {"p": value, "q": value}, "stringData": {"p": value},
        "metadata": {"name": "vault", "namespace": "acme", "uid": "u", "resourceVersion": "7", "labels": {"x": label},
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": applied, "objectset.example.com/applied": value}}})
}

fn planner(policy: &str, transforms: &Value) -> Option<Planner> {
    let spec = json!({"backupSet": {"name": "nightly"}, "existingResourcePolicy": policy, "transforms": transforms});
    let spec: RestoreRunSpec = serde_json::from_value(spec).expect("a spec");
    let terms = Terms::new(&spec, None, "0".repeat(64));
    Some(Planner {
        // A transform that is rejected beforehand shows nothing.
        transforms: Transforms::new(&terms.transforms).ok()?,
        terms,
        namespace: "acme".to_owned(),
        key: DigestKey::new(*b"0123456789abcdef"),
        exclusions: ExclusionRules::default(),
        family: Family::default(),
        served: BTreeMap::from([(GroupKind::new("", "Secret"), BTreeSet::from(["v1".to_owned()]))]),
        refused: BTreeMap::new(),
        status_is_data: BTreeSet::new(),
        dependents: Dependents::default(),
        dependents_unknown: None,
        unlisted: BTreeMap::new(),
        // Even if a cluster lets every reader of reports read Secrets.
        readers: Readers::of([GroupKind::new("", "Secret")]),
    })
}

/// Everything that a report contains of a proposal, for every kind of verdict.
fn reports(proposal: &Proposal, key: &DigestKey) -> Vec<String> {
    let body = match proposal.write() {
        Write::Create(body) | Write::Update(body) | Write::Recreate(_, body) => body.clone(),
        Write::Delete(_) => Value::Null,
    };
    let quoting = |code: u16, message: &str| {
        let message = format!("{message}{body}");
        let answer = Answer { code, reason: "Invalid", message: &message, fields: &["data[p]"] };
        Verdict::Refused {
            code,
            reason: "Invalid".to_owned(),
            message: words(proposal.item(), &answer, &Readers::of([proposal.item().kind.clone()])),
        }
    };
    let verdicts = [
        Verdict::Accepted(Some(body.clone())),
        Verdict::Accepted(None),
        Verdict::NotAsked("why".to_owned()),
        quoting(422, "Secret \"vault\" is invalid: data[p]: Invalid value: "),
        quoting(403, "admission webhook \"g\" denied the request: "),
        quoting(422, "secrets \"vault\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: "),
        quoting(500, "Internal error occurred: failed calling webhook \"g\": "),
        quoting(400, ""),
    ];
    let report = |verdict: &Verdict| {
        let diff = proposal.diff(verdict, key, 100_000);
        let planned = proposal.clone().settle(verdict).to_report(Some(diff.to_string()));
        serde_json::to_string(&planned).expect("a report")
    };
    verdicts.iter().map(report).collect()
}

fn operation() -> impl Strategy<Value = Value> {
    let place = || prop::sample::select(PLACES.to_vec());
    (prop::sample::select(vec!["copy", "move", "add", "replace", "remove", "test"]), place(), place()).prop_map(
        |(op, from, path)| match op {
            "copy" | "move" => json!({"op": op, "from": from, "path": path}),
            "remove" => json!({"op": op, "path": path}),
            _ => json!({"op": op, "path": path, "value": "mine"}),
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn no_value_of_a_secret_shows_in_any_plan(
        // Letters that no digest contains.
        stored in "[G-Z]{12,24}", live in "[G-Z]{12,24}", is_there in any::<bool>(), by_name in any::<bool>(),
        policy in prop::sample::select(vec!["none", "update", "recreate"]),
        operations in prop::collection::vec(operation(), 0..4)
    ) {
        let select = if by_name { json!({"name": "vault"}) } else { json!({"kind": "Secret"}) };
        let transforms = if operations.is_empty() { json!([]) } else { json!([{"select": select, "patch": operations}]) };
        let Some(planner) = planner(policy, &transforms) else { return Ok(()) };
        let item = ItemId::new(GroupKind::new("", "Secret"), "vault");
        let there = Live { object: secret(&live, "b"), left_out: None };
        let decision = planner.decide(&item, "v1", Stored::Object(secret(&stored, "a")), is_there.then_some(&there));
        let reports = match decision {
            Decision::Settled(planned) => vec![serde_json::to_string(&planned.to_report(None)).expect("a report")],
            Decision::Proposed(proposal) => reports(&proposal, &planner.key),
        };
        for value in [&stored, &live] {
            for report in &reports {
                prop_assert!(!report.contains(&value[..8]), "{} shows in {}", value, report);
            }
        }
    }
}

#[test]
fn stand_ins_of_equal_values_are_equal_in_one_field_alone() {
    let planner = planner("update", &json!([])).expect("a planner");
    let item = ItemId::new(GroupKind::new("", "Secret"), "vault");
    let mut live = secret("SAME", "a");
    live["data"] = json!({"p": "OTHER", "q": "OTHER"});
    let there = Live { object: live, left_out: None };
    let Decision::Proposed(proposal) = planner.decide(&item, "v1", Stored::Object(secret("SAME", "a")), Some(&there))
    else {
        panic!("it differs")
    };
    let shown = proposal.diff(&Verdict::Accepted(None), &planner.key, 10_000).to_string();
    let of = |field: &str| shown.lines().find_map(|line| line.strip_prefix(field)).map(str::to_owned).expect("a line");
    assert_ne!(of("~ data.p: "), of("~ data.q: "), "whoever may write one field could try what another holds: {shown}");
}
