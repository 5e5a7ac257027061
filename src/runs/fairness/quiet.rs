//! What a tenant with many waiting runs costs a quiet one: the time of one slot, whichever limit holds.

use super::{Limits, Line, Waiter};
use jiff::Timestamp;
use proptest::prelude::*;
use std::collections::HashMap;

const QUIET: &str = "quiet";

fn waiter(tenant: &str, operation_type: &str, second: usize) -> Waiter {
    Waiter {
        created: Timestamp::from_second(i64::try_from(second).expect("few")).expect("a time"),
        uid: format!("{tenant}-{operation_type}-{second:06}"),
        tenant: tenant.to_owned(),
        operation_type: operation_type.to_owned(),
    }
}

/// Starts what may start. Returns the types of the runs, in their order.
fn start_all(line: &mut Line) -> Vec<String> {
    let mut types = Vec::new();
    while let Some(next) = line.turns().into_iter().next() {
        types.push(next.operation_type.clone());
        line.give(next);
    }
    types
}

/// A loud tenant with so many runs of the types `a` and `b`. All that may start have started; the types of those.
fn loud(limits: Limits, runs: usize) -> (Line, Vec<String>) {
    let mut line = Line::default();
    for of in ["a", "b", "c"] {
        line.limit(of, limits);
    }
    for number in 0..runs {
        line.stand(waiter("loud", ["a", "b"][number % 2], number));
    }
    let active = start_all(&mut line);
    (line, active)
}

/// How many of the active runs end, the oldest first, until a run of the quiet tenant is next; and the entries that are
/// visited for that. Slots that the quiet run does not take go to the loud tenant. Runs that end and leave no slot that the
/// quiet one could take, because another type's limit is reached, do not count.
fn slots(mut line: Line, mut active: Vec<String>, limits: Limits, of: &str) -> (usize, u64) {
    let before = line.steps.get();
    let quiet = waiter(QUIET, of, 1_000_000);
    line.stand(quiet.clone());
    let mut slots = 0;
    while line.held_by(&quiet).is_some() {
        let ended = active.remove(0);
        line.end("loud", &ended);
        slots += usize::from(limits.total.is_some() || ended == of);
        while let Some(next) = line.turns().into_iter().next().filter(|next| next.tenant != QUIET) {
            active.push(next.operation_type.clone());
            line.give(next);
        }
    }
    (slots, line.steps.get() - before)
}

#[test]
fn beside_ten_thousand_waiting_runs_of_another_tenant_the_first_takes_the_next_slot_under_each_limit() {
    let none = Limits::default();
    for limits in [
        Limits { type_per_tenant: Some(2), ..none },
        Limits { per_tenant: Some(2), ..none },
        Limits { type_total: Some(2), ..none },
        Limits { total: Some(2), ..none },
        Limits { type_per_tenant: Some(2), per_tenant: Some(2), type_total: Some(2), total: Some(2) },
        Limits { type_per_tenant: Some(1), per_tenant: Some(3), type_total: Some(2), total: Some(2) },
    ] {
        let (few, many) = (loud(limits, 100), loud(limits, 10_000));
        // The loud tenant has nothing of type `c`.
        for of in ["a", "b", "c"] {
            let waits = limits.total.is_some() || (limits.type_total.is_some() && of != "c");
            let (slots_few, cost_few) = slots(few.0.clone(), few.1.clone(), limits, of);
            let (slots_many, cost_many) = slots(many.0.clone(), many.1.clone(), limits, of);
            assert_eq!((slots_few, slots_many), (usize::from(waits), usize::from(waits)), "{of} under {limits:?}");
            assert_eq!(cost_few, cost_many, "entries visited for {of} under {limits:?}");
        }
    }
}

fn limit() -> impl Strategy<Value = Option<usize>> {
    proptest::option::of(1_usize..4)
}

/// Whether the limits allow one more run, by a plain count of tenant and type of the active ones.
fn fits(limits: &HashMap<String, Limits>, active: &[(String, String)], tenant: &str, of: &str) -> bool {
    let Limits { type_per_tenant, type_total, per_tenant, total } = limits[of];
    let room = |limit: Option<usize>, counts: &dyn Fn(&str, &str) -> bool| {
        limit.is_none_or(|limit| active.iter().filter(|one| counts(&one.0, &one.1)).count() < limit)
    };
    room(type_per_tenant, &|its, type_| its == tenant && type_ == of)
        && room(type_total, &|_, type_| type_ == of)
        && room(per_tenant, &|its, _| its == tenant)
        && room(total, &|_, _| true)
}

proptest! {
    /// Any loud tenants, limits and order of ends; the quiet one may have run something before.
    #[test]
    fn a_tenant_without_an_active_run_is_passed_at_most_once_by_each_other_and_no_slot_that_it_may_take_stays_free(
        of_types in proptest::collection::vec((limit(), limit()), 3),
        per_tenant in limit(),
        total in limit(),
        runs in proptest::collection::vec((0_usize..3, 0_usize..3), 0..40),
        ended_before in proptest::collection::vec(any::<proptest::sample::Index>(), 0..10),
        ends in proptest::collection::vec(any::<proptest::sample::Index>(), 1..10),
        earlier in proptest::option::of(0_usize..3),
        of in 0_usize..3,
    ) {
        let name = |number: usize| format!("t{number}");
        let types = of_types.into_iter().enumerate().map(|(number, (type_per_tenant, type_total))| {
            (name(number), Limits { type_per_tenant, type_total, per_tenant, total })
        });
        let limits: HashMap<_, _> = types.collect();
        let mut line = Line::default();
        for (of, limits) in &limits { line.limit(of, *limits); }
        let mut active: Vec<(String, String)> = Vec::new();
        let start = |line: &mut Line, active: &mut Vec<_>, next: Waiter| {
            active.push((next.tenant.clone(), next.operation_type.clone()));
            line.give(next);
        };
        let end = |line: &mut Line, active: &mut Vec<(String, String)>, which: usize| {
            let (tenant, of) = active.remove(which);
            line.end(&tenant, &of);
        };
        if let Some(of) = earlier { line.stand(waiter(QUIET, &name(of), 0)); }
        for (number, (tenant, of)) in runs.iter().enumerate() {
            line.stand(waiter(&name(*tenant), &name(*of), number));
        }
        while let Some(next) = line.turns().first().cloned() { start(&mut line, &mut active, next); }
        for which in ended_before {
            if active.is_empty() { break }
            let which = which.index(active.len());
            end(&mut line, &mut active, which);
            while let Some(next) = line.turns().first().cloned() { start(&mut line, &mut active, next); }
        }
        // What the quiet tenant had is over.
        while line.queues.contains_key(QUIET) || active.iter().any(|(tenant, _)| tenant == QUIET) {
            let which = active.iter().position(|(tenant, _)| tenant == QUIET).unwrap_or_default();
            end(&mut line, &mut active, which);
            while let Some(next) = line.turns().first().cloned() { start(&mut line, &mut active, next); }
        }

        let quiet = waiter(QUIET, &name(of), 1000);
        line.stand(quiet.clone());
        let mut passed: HashMap<String, usize> = HashMap::new();
        'waits: for which in ends.iter().cycle() {
            while let Some(next) = line.turns().first().cloned() {
                if next == quiet { break 'waits }
                if fits(&limits, &active, QUIET, &quiet.operation_type) {
                    *passed.entry(next.tenant.clone()).or_default() += 1;
                }
                start(&mut line, &mut active, next);
            }
            prop_assert!(!fits(&limits, &active, QUIET, &quiet.operation_type), "a slot stays free");
            let which = which.index(active.len());
            end(&mut line, &mut active, which);
        }
        prop_assert!(passed.values().all(|times| *times == 1), "{passed:?}");
    }
}
