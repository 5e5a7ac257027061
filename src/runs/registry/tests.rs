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
