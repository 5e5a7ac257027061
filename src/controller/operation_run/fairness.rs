//! Limits, and a fair order between tenants. Pure.
//!
//! Every slot that comes free goes to the tenant with the fewest active runs; within a tenant, to the oldest run. So a
//! tenant with a thousand queued runs delays another's first by one run, not by a thousand.

use std::collections::HashMap;

/// How many runs may be active; none: as many as there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Of this type in one tenant.
    pub type_per_tenant: Option<usize>,
    /// Of this type.
    pub type_total: Option<usize>,
    /// Of all types in one tenant.
    pub per_tenant: Option<usize>,
    /// Of all types.
    pub total: Option<usize>,
}

/// Runs active now, as the candidate's limits count them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Active {
    /// Of the candidate's type, by tenant.
    pub of_type: HashMap<String, usize>,
    /// Of any type, by tenant.
    pub of_any: HashMap<String, usize>,
}

/// One waiting run; ordered by age.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Waiter {
    /// When it was created, by the API server's clock.
    pub created: jiff::Timestamp,
    /// Its uid, which settles ties.
    pub uid: String,
    /// Its tenant.
    pub tenant: String,
}

/// A limit that holds a run, and how many go before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The limit in words.
    pub limit: String,
    /// Runs that go first.
    pub ahead: usize,
}

/// Whether a run may start beside those that are active, given all that wait for the same limits (itself included).
pub fn may_start(candidate: &Waiter, waiting: &[Waiter], active: &Active, limits: &Limits) -> Result<(), Held> {
    let rank_in_tenant = waiting.iter().filter(|other| other.tenant == candidate.tenant && *other < candidate).count();
    let count = |map: &HashMap<String, usize>| map.get(&candidate.tenant).copied().unwrap_or(0);
    for (limit, now, words) in [
        (limits.type_per_tenant, count(&active.of_type), "of this type in this tenant"),
        (limits.per_tenant, count(&active.of_any), "in this tenant"),
    ] {
        if let Some(limit) = limit.filter(|limit| now + rank_in_tenant >= *limit) {
            return Err(Held { limit: format!("{limit} active {words}"), ahead: rank_in_tenant });
        }
    }
    for (limit, map, words) in
        [(limits.type_total, &active.of_type, "of this type"), (limits.total, &active.of_any, "in the cluster")]
    {
        if let Some(limit) = limit {
            let now: usize = map.values().sum();
            let ahead = ahead_of(candidate, waiting, map, limits.type_per_tenant.or(limits.per_tenant));
            if now + ahead >= limit {
                return Err(Held { limit: format!("{limit} active {words}"), ahead });
            }
        }
    }
    Ok(())
}

/// How many waiting runs go before the candidate when slots are given to the tenant with the fewest active runs.
fn ahead_of(
    candidate: &Waiter,
    waiting: &[Waiter],
    active: &HashMap<String, usize>,
    per_tenant: Option<usize>,
) -> usize {
    let mut sorted: Vec<&Waiter> = waiting.iter().collect();
    sorted.sort_unstable();
    let mut given: HashMap<&str, usize> = HashMap::new();
    let mut keys: Vec<(usize, &Waiter)> = Vec::with_capacity(sorted.len());
    for waiter in sorted {
        let given = given.entry(&waiter.tenant).or_insert(0);
        let load = active.get(&waiter.tenant).copied().unwrap_or(0) + *given;
        *given += 1;
        // One that its own tenant's limit holds takes no slot from others.
        if per_tenant.is_none_or(|limit| load < limit) || waiter == candidate {
            keys.push((load, waiter));
        }
    }
    keys.sort_unstable();
    keys.iter().position(|(_, waiter)| *waiter == candidate).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn waiter(second: i64, tenant: &str) -> Waiter {
        Waiter {
            created: jiff::Timestamp::from_second(second).expect("a time"),
            uid: format!("{tenant}-{second}"),
            tenant: tenant.into(),
        }
    }

    fn started(mut waiting: Vec<Waiter>, limits: Limits) -> Vec<Waiter> {
        let mut active = Active::default();
        let mut order = Vec::new();
        loop {
            let Some(next) = waiting.iter().find(|one| may_start(one, &waiting, &active, &limits).is_ok()).cloned()
            else {
                return order;
            };
            waiting.retain(|one| one != &next);
            *active.of_type.entry(next.tenant.clone()).or_default() += 1;
            *active.of_any.entry(next.tenant.clone()).or_default() += 1;
            order.push(next);
        }
    }

    #[test]
    fn a_tenant_with_many_runs_does_not_delay_anothers_first() {
        let mut waiting: Vec<_> = (0..100).map(|second| waiter(second, "many")).collect();
        waiting.push(waiter(1000, "one"));
        let order = started(waiting, Limits { total: Some(2), ..Limits::default() });
        let tenants: Vec<_> = order.iter().map(|one| one.tenant.as_str()).collect();
        assert_eq!(tenants.len(), 2);
        assert!(tenants.contains(&"one"), "{tenants:?}");
    }

    #[test]
    fn free_slots_are_shared_out_before_any_of_them_is_taken() {
        let mut waiting: Vec<_> = (0..100).map(|second| waiter(second, "many")).collect();
        waiting.push(waiter(1000, "one"));
        // All passes look at the same moment: a start is not yet seen by the next.
        let limits = Limits { total: Some(2), ..Limits::default() };
        let may = waiting.iter().filter(|one| may_start(one, &waiting, &Active::default(), &limits).is_ok());
        assert_eq!(may.cloned().collect::<Vec<_>>(), [waiter(0, "many"), waiter(1000, "one")]);
    }

    #[test]
    fn within_a_tenant_the_oldest_goes_first() {
        let waiting = vec![waiter(3, "a"), waiter(1, "a"), waiter(2, "a")];
        let order = started(waiting, Limits { type_per_tenant: Some(2), ..Limits::default() });
        assert_eq!(order, [waiter(1, "a"), waiter(2, "a")]);
    }

    proptest! {
        #[test]
        fn limits_hold_and_no_slot_stays_free_while_a_run_could_take_it(
            runs in proptest::collection::vec((0_i64..50, 0_u8..4), 0..40),
            total in proptest::option::of(1_usize..10),
            per_tenant in proptest::option::of(1_usize..5),
        ) {
            let mut waiting: Vec<_> = runs.iter().map(|(second, tenant)| waiter(*second, &format!("t{tenant}"))).collect();
            waiting.sort();
            waiting.dedup();
            let limits = Limits { type_total: total, type_per_tenant: per_tenant, ..Limits::default() };
            let all = waiting.clone();
            let order = started(waiting, limits);
            let mut by_tenant: HashMap<&str, usize> = HashMap::new();
            for one in &order { *by_tenant.entry(&one.tenant).or_default() += 1; }
            if let Some(total) = total { prop_assert!(order.len() <= total); }
            if let Some(per_tenant) = per_tenant { prop_assert!(by_tenant.values().all(|count| *count <= per_tenant)); }
            let mut waiting_by_tenant: HashMap<&str, usize> = HashMap::new();
            for one in &all { *waiting_by_tenant.entry(&one.tenant).or_default() += 1; }
            let possible: usize = waiting_by_tenant.values().map(|count| per_tenant.map_or(*count, |limit| limit.min(*count))).sum();
            prop_assert_eq!(order.len(), total.map_or(possible, |limit| limit.min(possible)));
        }
    }
}
