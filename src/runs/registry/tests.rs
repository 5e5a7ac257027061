//! What the index knows about tenants, whatever happened before.

use super::*;
use jiff::SignedDuration;
use proptest::prelude::*;
use serde_json::{Value, json};

const TENANTS: usize = 4;

fn base() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().expect("a time")
}

fn tenant(number: usize) -> String {
    format!("t{number}")
}

fn run(uid: &str, tenant: &str, status: &Value) -> OperationRun {
    serde_json::from_value(json!({
        "apiVersion": "tenantatlas.io/v1alpha1", "kind": "OperationRun",
        "metadata": {"name": uid, "namespace": tenant, "uid": uid, "creationTimestamp": base()},
        "spec": {"type": "work"}, "status": status
    }))
    .expect("a run")
}

fn limit(total: usize) -> Limits {
    Limits { total: Some(total), ..Limits::default() }
}

/// The tenants in the order in which each starts a run of its own, one at a time.
fn order(registry: &Registry, active: usize) -> Vec<String> {
    let waiting: Vec<_> = (0..TENANTS).map(|number| format!("waits-{number}")).collect();
    for (number, uid) in waiting.iter().enumerate() {
        registry.apply(&run(uid, &tenant(number), &json!({})));
        registry.slot(uid, &limit(active + 1));
        registry.stand_in_line(uid, true);
    }
    let mut order = Vec::new();
    while order.len() < TENANTS {
        let mut left = waiting.iter().filter(|uid| !order.contains(*uid));
        let next = left.find(|uid| registry.claim(uid, &limit(active + 1))).expect("one is next");
        registry.apply(&run(next, &tenant(0), &json!({"phase": "completed", "outcome": "succeeded"})));
        order.push(next.clone());
    }
    order
}

proptest! {
    /// Runs that started a minute apart, each of some tenant, some of them completed.
    #[test]
    fn a_new_process_goes_on_in_the_order_in_which_the_tenants_started_their_last_runs(
        runs in proptest::collection::vec((0..TENANTS, any::<bool>()), 0..12),
        from in any::<proptest::sample::Index>(),
    ) {
        let (mut now, long) = (base(), Registry::default());
        let (mut held, mut active) = (Vec::new(), 0);
        for (number, (of, ended)) in runs.iter().enumerate() {
            now = now.checked_add(SignedDuration::from_mins(1)).expect("a time");
            let uid = format!("run-{number}");
            long.apply(&run(&uid, &tenant(*of), &json!({})));
            prop_assert!(long.claim(&uid, &limit(100)));
            let (phase, outcome) = if *ended { ("completed", "succeeded") } else { ("running", "pending") };
            active += usize::from(!ended);
            let status = json!({"phase": phase, "outcome": outcome, "startedAt": now, "job": {"name": "op", "uid": uid}});
            let started = run(&uid, &tenant(*of), &status);
            long.apply(&started);
            held.push(started);
        }
        let new = Registry::default();
        // A list returns runs by name.
        let from = if held.is_empty() { 0 } else { from.index(held.len()) };
        for run in held[from..].iter().chain(&held[..from]) {
            new.apply(run);
        }
        prop_assert_eq!(order(&new, active), order(&long, active));
        for run in &held {
            new.remove(run, true);
        }
        for number in 0..TENANTS {
            new.forget_tenant(&tenant(number));
        }
        prop_assert_eq!(new.state().line.known(), 0, "a tenant that is gone costs nothing");
    }
}

#[test]
fn a_run_that_is_seen_after_its_tenant_went_leaves_nothing_behind() {
    let registry = Registry::default();
    let started =
        run("a", "acme", &json!({"phase": "running", "startedAt": base(), "job": {"name": "op", "uid": "j"}}));
    registry.forget_tenant("acme");
    registry.apply(&started);
    registry.remove(&started, false);
    assert_eq!(registry.state().line.known(), 0);
}

#[test]
fn who_deletes_their_completed_runs_does_not_go_first_by_that() {
    let registry = Registry::default();
    for number in 0..2 {
        registry.apply(&run(&format!("first-{number}"), &tenant(number), &json!({})));
        assert!(registry.claim(&format!("first-{number}"), &limit(100)));
    }
    let ended = run("first-1", "t1", &json!({"phase": "completed", "outcome": "succeeded", "startedAt": base()}));
    registry.apply(&ended);
    registry.apply(&run("first-0", "t0", &json!({"phase": "completed", "outcome": "succeeded", "startedAt": base()})));
    registry.remove(&ended, true);
    assert_eq!(order(&registry, 0)[..2], ["waits-2", "waits-3"], "they never started one");
}

#[test]
fn the_end_of_a_run_wakes_the_quiet_tenant_s_run_and_none_of_ten_thousand_others() {
    let registry = Registry::default();
    let waits = |uid: &str, tenant: &str| {
        registry.apply(&run(uid, tenant, &json!({})));
        assert!(matches!(registry.slot(uid, &limit(1)), Slot::Waiting { .. }), "{uid} has a slot");
        registry.stand_in_line(uid, true);
    };
    registry.apply(&run("active", "loud", &json!({})));
    assert!(registry.claim("active", &limit(1)));
    for number in 0..10_000 {
        waits(&format!("many-{number}"), "loud");
    }
    waits("only", "quiet");
    let woken = registry.apply(&run("active", "loud", &json!({"phase": "completed", "outcome": "succeeded"})));
    // The completed run itself is looked at because of its history.
    assert_eq!(woken, [Name::new("quiet", "only"), Name::new("loud", "active")]);
    assert!(!registry.claim("many-0", &limit(1)), "it is not its turn");
    assert!(registry.claim("only", &limit(1)));
    let woken = registry.apply(&run("only", "quiet", &json!({"phase": "completed", "outcome": "succeeded"})));
    assert_eq!(woken, [Name::new("loud", "many-0"), Name::new("quiet", "only")], "and then the oldest");
}

#[test]
fn runs_ahead_in_a_tenant_are_counted_until_they_are_completed_and_no_further_than_asked() {
    let registry = Registry::default();
    let open = |uid: &str, of: usize| registry.apply(&run(uid, &tenant(of), &json!({})));
    for uid in ["a", "b", "c", "d"] {
        open(uid, 0);
    }
    open("other", 1);
    let older = |uid: &str| registry.ahead_in_tenant(uid, 10);
    // Of the same time, the uid decides.
    assert_eq!(["a", "b", "d", "other", "unknown"].map(older), [0, 1, 3, 0, 0]);
    assert_eq!(registry.ahead_in_tenant("d", 2), 2);
    // One that has started is ahead, whatever its uid.
    let job = |uid: &str| json!({"phase": "running", "job": {"name": "op", "uid": uid}});
    registry.apply(&run("d", &tenant(0), &job("of d")));
    assert_eq!(["a", "b", "c"].map(older), [1, 2, 3]);
    registry.apply(&run("d", &tenant(0), &json!({})));
    registry.apply(&run("b", &tenant(0), &json!({"phase": "completed", "outcome": "failed"})));
    assert_eq!((older("d"), registry.open_in_tenant("t0")), (2, 3));
    registry.remove(&run("a", &tenant(0), &json!({})), true);
    assert_eq!((older("d"), registry.open_in_tenant("t0"), registry.open_in_tenant("t1")), (1, 2, 1));
    let good = "2026-01-02T00:00:00Z";
    let ended = |outcome: &str, at: &str| json!({"phase": "completed", "outcome": outcome, "completedAt": at});
    registry.apply(&run("c", &tenant(0), &ended("partially_succeeded", good)));
    registry.apply(&run("b", &tenant(0), &ended("failed", "2026-01-03T00:00:00Z")));
    let last = |of: usize, type_: &str| registry.last_good(&tenant(of), type_);
    let good: Timestamp = good.parse().expect("a time");
    assert_eq!([last(0, "work"), last(1, "work"), last(0, "other")], [Some(good), None, None]);
    let names: Vec<String> = registry.by_namespace("t0").iter().map(|name| name.name().to_owned()).collect();
    assert_eq!(names, ["d"]);
}
