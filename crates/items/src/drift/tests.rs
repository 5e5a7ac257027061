//! Tests of what counts, what is shown, and how much it matters.

use super::*;
use crate::api::{
    finding::{MAX_EVIDENCE, MAX_VALUE},
    operations::{IgnoreInput, SeverityInput},
};
use proptest::prelude::*;
use serde_json::Map;

fn rules(ignore: &Value, severities: &Value) -> Rules {
    let ignore: Vec<IgnoreInput> = serde_json::from_value(ignore.clone()).expect("rules");
    let severities: Vec<SeverityInput> = serde_json::from_value(severities.clone()).expect("rules");
    Rules {
        ignore: Ignore::new(&ignore, "inputs.ignore").expect("rules"),
        severities: Severities::new(&severities, "inputs.severities").expect("rules"),
        key: DigestKey::new(*b"0123456789abcdef"),
    }
}

fn item(text: &str) -> ItemId {
    text.parse().expect("an item")
}

fn judge_with(rules: &Rules, id: &str, sides: Sides<'_>, replaced: bool, shown: bool) -> Verdict {
    let item = item(id);
    let digests = (Some("a"), Some("b"));
    rules.judge(&Differing { item: &item, sides, digests, replaced, status: Status::Observed, shown })
}

fn judge(rules: &Rules, id: &str, before: &Value, after: &Value) -> Verdict {
    judge_with(rules, id, Sides::Both(before, after), false, true)
}

fn found(verdict: Verdict) -> Found {
    let Verdict::Found(found) = verdict else { panic!("{verdict:?}") };
    *found
}

fn paths(found: &Found) -> Vec<&str> {
    found.evidence.iter().map(|evidence| evidence.path.as_str()).collect()
}

fn deployment(image: &str, replicas: i64) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "uid": "u", "labels": {"app": "web"},
            "managedFields": [
                {"manager": "helm", "operation": "Apply", "time": "2026-01-01T00:00:00Z", "fieldsV1": {"f:spec": {"f:replicas": {},
                    "f:template": {"f:spec": {"f:containers": {r#"k:{"name":"web"}"#: {".": {}, "f:name": {}, "f:image": {}}}}}}}},
                {"manager": "kubectl-set", "operation": "Update", "time": "2026-01-02T00:00:00Z", "fieldsV1":
                    {"f:spec": {"f:template": {"f:spec": {"f:containers": {r#"k:{"name":"web"}"#: {"f:image": {}}}}}}}}]},
        "spec": {"replicas": replicas, "template": {"spec": {"containers": [{"name": "web", "image": image}]}}},
        "status": {"readyReplicas": replicas}})
}

const WEB: &str = "apps/Deployment/web";

#[test]
fn a_changed_field_is_shown_with_both_values_and_who_wrote_it_last() {
    let rules = rules(&json!([]), &json!([]));
    let found = found(judge(&rules, WEB, &deployment("web:1", 1), &deployment("web:2", 1)));
    assert_eq!((found.change, found.severity, found.left_out), (Change::Modified, Severity::Medium, 0));
    let evidence = &found.evidence[0];
    assert_eq!(evidence.path, "spec.template.spec.containers[web].image");
    assert_eq!((evidence.before.as_deref(), evidence.after.as_deref()), (Some(r#""web:1""#), Some(r#""web:2""#)));
    assert_eq!((evidence.manager.as_deref(), evidence.operation.as_deref()), (Some("kubectl-set"), Some("Update")));
    assert_eq!(evidence.at.map(|at| at.to_string()).as_deref(), Some("2026-01-02T00:00:00Z"));
}

#[test]
fn replicas_count_unless_an_autoscaler_targets_the_item() {
    let mut rules = rules(&json!([]), &json!([]));
    let scaled = |rules: &Rules| judge(rules, WEB, &deployment("web:1", 1), &deployment("web:1", 5));
    assert_eq!(paths(&found(scaled(&rules))), ["spec.replicas"]);
    let autoscaler =
        |kind: &str| json!({"spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": kind, "name": "web"}}});
    rules.ignore.add_autoscaler(&autoscaler("StatefulSet"));
    rules.ignore.add_autoscaler(&json!({"spec": 7}));
    assert_eq!(paths(&found(scaled(&rules))), ["spec.replicas"]);
    rules.ignore.add_autoscaler(&autoscaler("Deployment"));
    assert_eq!(scaled(&rules), Verdict::Ignored);
    let both = judge(&rules, WEB, &deployment("web:1", 1), &deployment("web:2", 5));
    assert_eq!(paths(&found(both)), ["spec.template.spec.containers[web].image"]);
}

#[test]
fn a_sidecar_that_a_webhook_adds_to_a_pod_does_not_count_and_in_a_deployment_it_does() {
    let rules = rules(&json!([]), &json!([]));
    let with = |mut object: Value, list: &str, name: &str| {
        object
            .pointer_mut(list)
            .and_then(Value::as_array_mut)
            .expect("a list")
            .push(json!({"name": name, "image": "x"}));
        object
    };
    let before = deployment("web:1", 1);
    let after = with(before.clone(), "/spec/template/spec/containers", "istio-proxy");
    assert_eq!(paths(&found(judge(&rules, WEB, &before, &after))), ["spec.template.spec.containers[istio-proxy]"]);
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [{"name": "web"}]}});
    let injected = with(pod.clone(), "/spec/containers", "istio-proxy");
    assert_eq!(judge(&rules, "core/Pod/p", &pod, &injected), Verdict::Ignored);
    assert!(matches!(judge(&rules, "core/Pod/p", &injected, &pod), Verdict::Found(_)), "nor that it is gone");
    let other = with(pod.clone(), "/spec/containers", "miner");
    assert_eq!(paths(&found(judge(&rules, "core/Pod/p", &pod, &other))), ["spec.containers[miner]"]);
}

#[test]
fn what_a_rule_ignores_is_ignored_in_the_items_and_at_the_paths_that_it_names_and_nowhere_else() {
    let (before, mut after) = (deployment("web:1", 1), deployment("web:2", 2));
    after["metadata"]["annotations"] = json!({"tool/a": "1", "tool/b": "2"});
    let all = [
        "spec.replicas",
        "spec.template.spec.containers[web].image",
        "metadata.annotations.tool/a",
        "metadata.annotations.tool/b",
    ];
    for (rule, left) in [
        (json!({"paths": ["/spec/replicas"]}), vec![1, 2, 3]),
        (json!({"paths": ["/spec"]}), vec![2, 3]),
        (json!({"paths": ["/spec/template/spec/containers/*/image"]}), vec![0, 2, 3]),
        (json!({"paths": ["/spec/template/spec/containers/web/image"]}), vec![0, 2, 3]),
        (json!({"paths": ["/spec/template/spec/containers/0/image"]}), vec![0, 2, 3]),
        (json!({"paths": ["/spec/template/spec/containers/1/image"]}), vec![0, 1, 2, 3]),
        (json!({"paths": ["/metadata/annotations/tool~1a"]}), vec![0, 1, 3]),
        (json!({"kinds": ["StatefulSet.apps"], "paths": ["/spec"]}), vec![0, 1, 2, 3]),
        (json!({"kinds": ["*.apps"], "namePattern": "w*", "labelSelector": "app=web", "paths": ["/spec"]}), vec![2, 3]),
        (json!({"namePattern": "x*", "paths": ["/spec"]}), vec![0, 1, 2, 3]),
        (json!({"labelSelector": "app=other", "paths": ["/spec"]}), vec![0, 1, 2, 3]),
    ] {
        let found = found(judge(&rules(&json!([rule]), &json!([])), WEB, &before, &after));
        assert_eq!(paths(&found), left.iter().map(|at| all[*at]).collect::<Vec<_>>(), "{rule}");
    }
    let whole = rules(&json!([{"kinds": ["Deployment.apps"]}]), &json!([]));
    for sides in [Sides::Both(&before, &after), Sides::Added(Some(&after)), Sides::Removed(None), Sides::Digests] {
        assert_eq!(judge_with(&whole, WEB, sides, true, true), Verdict::Ignored);
    }
    // Labels that somebody has put on since do not hide what else they did.
    let by_label = rules(&json!([{"labelSelector": "hide=me"}]), &json!([]));
    let mut hidden = after.clone();
    hidden["metadata"]["labels"]["hide"] = json!("me");
    assert!(matches!(judge(&by_label, WEB, &before, &hidden), Verdict::Found(_)));
}

#[test]
fn a_rule_that_cannot_be_read_says_where_it_is_wrong() {
    for (rule, place) in [
        (json!({}), "inputs.ignore[0]: say what"),
        (json!({"paths": ["/a", "b"]}), "inputs.ignore[0].paths[1]: "),
        (json!({"kinds": ["a b"]}), "inputs.ignore[0].kinds[0]: "),
        (json!({"labelSelector": "a in"}), "inputs.ignore[0].labelSelector: "),
    ] {
        let inputs: Vec<IgnoreInput> = serde_json::from_value(json!([rule])).expect("a rule");
        let problem = Ignore::new(&inputs, "inputs.ignore").expect_err("wrong");
        assert!(problem.starts_with(place), "{problem}");
    }
    let inputs: Vec<SeverityInput> =
        serde_json::from_value(json!([{"severity": "low", "paths": ["x"]}])).expect("a rule");
    assert!(
        Severities::new(&inputs, "inputs.severities")
            .expect_err("wrong")
            .starts_with("inputs.severities[0].paths[0]: ")
    );
}

#[test]
fn rights_and_secrets_are_high_labels_alone_low_all_else_medium_and_inputs_say_otherwise() {
    let none = rules(&json!([]), &json!([]));
    let added = |rules: &Rules, id: &str| found(judge_with(rules, id, Sides::Added(None), false, true)).severity;
    for id in [
        "core/Secret/a",
        "core/ServiceAccount/a",
        "rbac.authorization.k8s.io/Role/a",
        "rbac.authorization.k8s.io/RoleBinding/a",
    ] {
        assert_eq!(added(&none, id), Severity::High, "{id}");
    }
    assert_eq!(added(&none, "core/ConfigMap/a"), Severity::Medium);
    let (before, mut after) = (deployment("web:1", 1), deployment("web:1", 1));
    after["metadata"]["labels"]["team"] = json!("a");
    assert_eq!(found(judge(&none, WEB, &before, &after)).severity, Severity::Low);
    after["spec"]["paused"] = json!(true);
    assert_eq!(found(judge(&none, WEB, &before, &after)).severity, Severity::Medium);
    let set = rules(
        &json!([]),
        &json!([{"severity": "high", "paths": ["/spec/paused"]}, {"severity": "low", "kinds": ["Secret"]}]),
    );
    assert_eq!(found(judge(&set, WEB, &before, &after)).severity, Severity::High);
    assert_eq!((added(&set, "core/Secret/a"), added(&set, WEB)), (Severity::Low, Severity::Medium));
}

#[test]
fn no_value_of_a_secret_is_shown_nor_any_of_a_kind_that_readers_may_not_read() {
    let rules = rules(&json!([]), &json!([]));
    let secret = |value: &str| {
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a", "annotations": {"copy": value}},
        "data": {"password": value}})
    };
    for shown in [true, false] {
        let (before, after) = (secret("aHVudGVyMg=="), secret("c2VjcmV0"));
        let found = found(judge_with(&rules, "core/Secret/a", Sides::Both(&before, &after), false, shown));
        assert_eq!(paths(&found), ["data.password", "metadata.annotations.copy"]);
        assert!(found.evidence[0].before.as_ref().is_some_and(|value| value.starts_with("hmac:")));
        let text = format!("{found:?}");
        assert!(!text.contains("aHVu") && !text.contains("c2Vj"), "{text}");
    }
    let (before, after) = (deployment("web:1", 1), deployment("web:2", 1));
    let hidden = found(judge_with(&rules, WEB, Sides::Both(&before, &after), false, false));
    assert_eq!((paths(&hidden), &hidden.evidence[0].before, &hidden.evidence[0].after), (vec!["spec"], &None, &None));
    // In a larger value, too.
    let mut added = deployment("web:1", 1);
    added["spec"]["template"]["spec"]["containers"].as_array_mut().expect("a list").push(
        json!({"name": "new", "env": [{"name": "DB_PASSWORD", "value": "hunter2"}, {"name": "MODE", "value": "fast"}]}),
    );
    let text = format!("{:?}", found(judge(&rules, WEB, &before, &added)));
    assert!(!text.contains("hunter2") && text.contains("fast") && text.contains("hmac:"), "{text}");
}

#[test]
fn evidence_is_bounded_and_says_what_was_left_out_and_cut() {
    let rules = rules(&json!([]), &json!([]));
    let map = |value: &str, count: usize| {
        let data: Map<String, Value> = (0..count).map(|number| (format!("key-{number:04}"), json!(value))).collect();
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data})
    };
    let few = found(judge(&rules, "core/ConfigMap/a", &map("a", 70), &map("b", 70)));
    assert_eq!((few.evidence.len(), few.left_out), (MAX_EVIDENCE, 20));
    let long = found(judge(&rules, "core/ConfigMap/a", &map(&"a ".repeat(1000), 70), &map("b", 70)));
    assert!(long.evidence.len() < MAX_EVIDENCE && long.evidence.len() + long.left_out == 70);
    let before = long.evidence[0].before.as_ref().expect("a value");
    assert!(before.len() <= MAX_VALUE && before.ends_with("…(cut)"), "{before}");
    assert!(serde_json::to_vec(&long.evidence).expect("JSON").len() < 40 * 1024);
    // What is cut and left out still counts.
    let other = found(judge(&rules, "core/ConfigMap/a", &map(&format!("{}b", "a ".repeat(1000)), 70), &map("b", 70)));
    assert_eq!(other.evidence, long.evidence);
    assert_ne!(other.digest, long.digest);
}

#[test]
fn an_item_that_was_created_again_is_replaced_even_if_its_content_is_the_same() {
    let rules = rules(&json!([]), &json!([]));
    let (before, mut after) = (deployment("web:1", 1), deployment("web:1", 1));
    after["metadata"]["uid"] = json!("later");
    let of = |after: &Value| found(judge_with(&rules, WEB, Sides::Both(&before, after), true, true));
    assert_eq!((of(&after).change, of(&after).evidence.len()), (Change::Replaced, 0));
    let first = of(&after).digest;
    after["metadata"]["uid"] = json!("again");
    assert_ne!(of(&after).digest, first, "replaced once more, it is another difference");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn two_reads_of_an_unchanged_item_are_no_finding_whatever_the_cluster_writes(
        replicas in 0_i64..9, revision in 0_u32..99, time in "2026-0[1-9]-0[1-9]T00:00:00Z", manager in "[a-z]{1,8}", ready in any::<bool>(),
    ) {
        let before = deployment("web:1", 1);
        let mut after = deployment("web:1", replicas);
        after["status"] = json!({"conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": time}], "observedGeneration": revision});
        after["metadata"]["generation"] = json!(revision);
        after["metadata"]["resourceVersion"] = json!(revision.to_string());
        after["metadata"]["annotations"] = json!({"deployment.kubernetes.io/revision": revision.to_string(),
            "kubectl.kubernetes.io/last-applied-configuration": time});
        after["metadata"]["managedFields"] = json!([{"manager": manager, "operation": "Update", "time": time, "fieldsV1": {"f:spec": {}}}]);
        after["spec"]["template"]["metadata"] = json!({"annotations": {"kubectl.kubernetes.io/restartedAt": time}});
        let mut rules = rules(&json!([]), &json!([]));
        rules.ignore.add_autoscaler(&json!({"spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}}}));
        let verdict = judge(&rules, WEB, &before, &after);
        prop_assert!(!matches!(verdict, Verdict::Found(_)), "{verdict:?}");
    }

    #[test]
    fn the_other_way_round_the_same_paths_differ_with_the_values_exchanged(
        one in prop::collection::btree_map("[a-c]", "[x-z]{0,2}", 0..4), other in prop::collection::btree_map("[a-c]", "[x-z]{0,2}", 0..4),
    ) {
        let object = |data: &std::collections::BTreeMap<String, String>| {
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data})
        };
        let rules = rules(&json!([]), &json!([]));
        let (there, back) = (
            judge(&rules, "core/ConfigMap/a", &object(&one), &object(&other)),
            judge(&rules, "core/ConfigMap/a", &object(&other), &object(&one)),
        );
        match (there, back) {
            (Verdict::Found(there), Verdict::Found(back)) => {
                let swapped: Vec<_> = back.evidence.into_iter().map(|evidence| Evidence {
                    before: evidence.after.clone(), after: evidence.before.clone(), ..evidence
                }).collect();
                prop_assert_eq!(there.evidence, swapped);
            }
            (there, back) => {
                prop_assert_eq!(&there, &Verdict::Same);
                prop_assert_eq!(&back, &Verdict::Same);
                prop_assert_eq!(one, other);
            }
        }
    }
}
