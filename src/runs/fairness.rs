//! Concurrency limits, and a fair order between tenants. Pure.
//!
//! A free slot goes to the tenant with the fewest active runs of any type; among several, to the
//! one whose last start is the longest ago; within that tenant, to the oldest run that no limit
//! holds. A tenant with a thousand queued runs therefore delays another tenant's first run by one
//! run, not by a thousand. This also holds if there is one slot and no run is active when it
//! becomes free.
//!
//! Ten thousand runs may wait, so the order is maintained and never searched. The cost of a query
//! depends on the number of waiting types and of free slots, not on the number of waiting runs.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// How many runs may be active; `None` is unlimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Runs of this type in one tenant.
    pub type_per_tenant: Option<usize>,
    /// Runs of this type.
    pub type_total: Option<usize>,
    /// Runs of all types in one tenant.
    pub per_tenant: Option<usize>,
    /// Runs of all types.
    pub total: Option<usize>,
}

/// One waiting run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiter {
    /// When it was created, by the API server's clock.
    pub created: Timestamp,
    /// Its uid, which settles ties.
    pub uid: String,
    /// Its tenant.
    pub tenant: String,
    /// Its type.
    pub operation_type: String,
}

/// The limit that holds a run, and how many other runs wait for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The limit in words.
    pub limit: String,
    /// Runs that wait, too. Not a place in line: tenants take turns.
    pub others: usize,
}

/// When a tenant last started a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Start {
    /// By an earlier process: when the Job of the run was created, as the run records it.
    Before(Timestamp),
    /// By this process: the number of starts until then. No clock is involved.
    Here(u64),
}

/// How many free slots are assigned in advance to find out which run may start. Runs beyond that
/// are woken when these slots are taken.
const FORESIGHT: usize = 32;

/// A tenant and a type.
type Kind = (String, String);

/// Waiting runs of one tenant and type, oldest first.
type Queue = BTreeSet<(Timestamp, String)>;

/// Sort key of a turn: the active runs of the tenant, its last start, then the oldest run that it
/// would start.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    active: usize,
    started: Option<Start>,
    created: Timestamp,
    uid: String,
    tenant: String,
}

/// A slot that was assigned to see which run is next, and what to restore afterwards.
struct Given {
    waiter: Waiter,
    last_start: Option<Start>,
}

/// Active and waiting runs.
#[derive(Clone, Debug, Default)]
pub struct Line {
    of_type: HashMap<String, Limits>,
    per_tenant: Option<usize>,
    total: Option<usize>,
    active: HashMap<Kind, usize>,
    active_in_tenant: HashMap<String, usize>,
    active_of_type: HashMap<String, usize>,
    active_in_all: usize,
    /// Number of starts, and the last start of each tenant. An entry is kept until the tenant is
    /// gone: a tenant that was forgotten earlier would go first again.
    starts: u64,
    last_start: HashMap<String, Start>,
    waiters: HashMap<String, Waiter>,
    queues: HashMap<String, BTreeMap<String, Queue>>,
    /// By type, the tenants whose own limits allow them to start a run.
    ready: BTreeMap<String, BTreeSet<Turn>>,
    turns: HashMap<Kind, Turn>,
    waiting_of_type: HashMap<String, usize>,
    /// Number of entries visited: the cost of all operations.
    #[cfg(test)]
    pub steps: std::cell::Cell<u64>,
}

impl Line {
    /// Sets the limits of a type. The limits for all types together are the same in each call.
    pub fn limit(&mut self, operation_type: &str, limits: Limits) {
        let same_for_all = (self.per_tenant, self.total) == (limits.per_tenant, limits.total);
        (self.per_tenant, self.total) = (limits.per_tenant, limits.total);
        let same = self.of_type.get(operation_type) == Some(&limits);
        if !same {
            self.of_type.insert(operation_type.to_owned(), limits);
        }
        if same && same_for_all {
            return;
        }
        // A limit was changed, which is rare.
        let changed = |kind: &Kind| !same_for_all || kind.1 == operation_type;
        let kinds =
            self.queues.iter().flat_map(|(tenant, queues)| queues.keys().map(|of| (tenant.clone(), of.clone())));
        for (tenant, of) in kinds.filter(changed).collect::<Vec<_>>() {
            self.place(&tenant, &of);
        }
    }

    /// Counts a run as active.
    pub fn begin(&mut self, tenant: &str, operation_type: &str) {
        *self.active.entry((tenant.to_owned(), operation_type.to_owned())).or_default() += 1;
        *self.active_in_tenant.entry(tenant.to_owned()).or_default() += 1;
        *self.active_of_type.entry(operation_type.to_owned()).or_default() += 1;
        self.active_in_all += 1;
        self.place_all(tenant);
    }

    /// Records that a tenant starts a run now.
    pub fn start(&mut self, tenant: &str) {
        self.starts += 1;
        self.last_start.insert(tenant.to_owned(), Start::Here(self.starts));
        self.place_all(tenant);
    }

    /// Records a start that this process knows only from the run itself.
    pub fn started(&mut self, tenant: &str, at: Timestamp) {
        let last = self.last_start.get(tenant).copied();
        if last < Some(Start::Before(at)) {
            self.last_start.insert(tenant.to_owned(), Start::Before(at));
            self.place_all(tenant);
        }
    }

    /// Forgets the last start of a tenant that is gone.
    pub fn forget(&mut self, tenant: &str) {
        if self.last_start.remove(tenant).is_some() {
            self.place_all(tenant);
        }
    }

    /// Counts a run as no longer active.
    pub fn end(&mut self, tenant: &str, operation_type: &str) {
        decrease(&mut self.active, &(tenant.to_owned(), operation_type.to_owned()));
        decrease(&mut self.active_in_tenant, tenant);
        decrease(&mut self.active_of_type, operation_type);
        self.active_in_all = self.active_in_all.saturating_sub(1);
        self.place_all(tenant);
    }

    /// Adds a run to the queue.
    pub fn stand(&mut self, waiter: Waiter) {
        if self.waiters.contains_key(&waiter.uid) {
            return;
        }
        let queues = self.queues.entry(waiter.tenant.clone()).or_default();
        queues.entry(waiter.operation_type.clone()).or_default().insert((waiter.created, waiter.uid.clone()));
        *self.waiting_of_type.entry(waiter.operation_type.clone()).or_default() += 1;
        self.place(&waiter.tenant, &waiter.operation_type);
        self.waiters.insert(waiter.uid.clone(), waiter);
    }

    /// Removes a run from the queue. Returns whether it was queued.
    pub fn leave(&mut self, uid: &str) -> bool {
        let Some(waiter) = self.waiters.remove(uid) else { return false };
        let Waiter { created, uid, tenant, operation_type } = waiter;
        if let Some(queues) = self.queues.get_mut(&tenant) {
            if let Some(queue) = queues.get_mut(&operation_type) {
                queue.remove(&(created, uid));
                if queue.is_empty() {
                    queues.remove(&operation_type);
                }
            }
            if queues.is_empty() {
                self.queues.remove(&tenant);
            }
        }
        decrease(&mut self.waiting_of_type, operation_type.as_str());
        self.place(&tenant, &operation_type);
        true
    }

    /// Whether a run is queued.
    #[must_use]
    pub fn is_in_line(&self, uid: &str) -> bool {
        self.waiters.contains_key(uid)
    }

    /// What keeps a run from starting now, queued or not. `None` if a slot is left for it after the
    /// runs before it have taken theirs.
    pub fn held_by(&mut self, waiter: &Waiter) -> Option<Held> {
        let (tenant, operation_type) = (waiter.tenant.as_str(), waiter.operation_type.as_str());
        if let Some(limit) = self.holds(tenant, operation_type) {
            return Some(self.held(limit, waiter));
        }
        let stood = self.is_in_line(&waiter.uid);
        self.stand(waiter.clone());
        let mut given = Vec::new();
        let mut may = false;
        while given.len() < FORESIGHT
            && let Some(next) = self.next()
        {
            if next.uid == waiter.uid {
                may = true;
                break;
            }
            given.push(self.give(next));
        }
        let limit = self.holds(tenant, operation_type);
        self.take_back(given);
        if !stood {
            self.leave(&waiter.uid);
        }
        (!may).then(|| self.held(limit.unwrap_or(Limit::Turn), waiter))
    }

    /// The runs that start next, as far as slots are free; the caller wakes them.
    pub fn turns(&mut self) -> Vec<Waiter> {
        let mut given = Vec::new();
        while given.len() < FORESIGHT
            && let Some(next) = self.next()
        {
            given.push(self.give(next));
        }
        let turns = given.iter().map(|given| given.waiter.clone()).collect();
        self.take_back(given);
        turns
    }

    fn next(&self) -> Option<Waiter> {
        if self.total.is_some_and(|limit| self.active_in_all >= limit) {
            return None;
        }
        let is_free = |of: &str| {
            let limit = self.of_type.get(of).and_then(|limits| limits.type_total);
            limit.is_none_or(|limit| count(&self.active_of_type, of) < limit)
        };
        let first = self.ready.iter().filter(|(of, _)| is_free(of)).filter_map(|(_, turns)| {
            self.count_step();
            turns.first()
        });
        self.waiters.get(&first.min()?.uid).cloned()
    }

    fn give(&mut self, waiter: Waiter) -> Given {
        let last_start = self.last_start.get(&waiter.tenant).copied();
        self.leave(&waiter.uid);
        self.begin(&waiter.tenant, &waiter.operation_type);
        self.start(&waiter.tenant);
        Given { waiter, last_start }
    }

    fn take_back(&mut self, given: Vec<Given>) {
        for Given { waiter, last_start } in given.into_iter().rev() {
            self.starts -= 1;
            match last_start {
                Some(number) => self.last_start.insert(waiter.tenant.clone(), number),
                None => self.last_start.remove(&waiter.tenant),
            };
            self.end(&waiter.tenant, &waiter.operation_type);
            self.stand(waiter);
        }
    }

    /// The limit that the active runs alone have reached.
    fn holds(&self, tenant: &str, operation_type: &str) -> Option<Limit> {
        let limits = self.limits_of(operation_type);
        let reached = |limit: Option<usize>, now: usize| limit.filter(|limit| now >= *limit);
        let of_tenant = self.active_of(tenant, operation_type);
        reached(limits.type_per_tenant, of_tenant)
            .map(Limit::TypeInTenant)
            .or_else(|| reached(self.per_tenant, count(&self.active_in_tenant, tenant)).map(Limit::Tenant))
            .or_else(|| reached(limits.type_total, count(&self.active_of_type, operation_type)).map(Limit::Type))
            .or_else(|| reached(self.total, self.active_in_all).map(Limit::All))
    }

    fn held(&self, limit: Limit, waiter: &Waiter) -> Held {
        let queues = self.queues.get(&waiter.tenant);
        let of_tenant = || queues.map_or(0, |queues| queues.values().map(BTreeSet::len).sum());
        let waiting = match limit {
            Limit::TypeInTenant(_) => {
                queues.and_then(|queues| queues.get(&waiter.operation_type)).map_or(0, BTreeSet::len)
            }
            Limit::Tenant(_) => of_tenant(),
            Limit::Type(_) => count(&self.waiting_of_type, waiter.operation_type.as_str()),
            Limit::All(_) | Limit::Turn => self.waiters.len(),
        };
        Held { limit: limit.words(), others: waiting - usize::from(waiting > 0 && self.is_in_line(&waiter.uid)) }
    }

    fn limits_of(&self, operation_type: &str) -> Limits {
        self.of_type.get(operation_type).copied().unwrap_or_default()
    }

    fn active_of(&self, tenant: &str, operation_type: &str) -> usize {
        self.active.get(&(tenant.to_owned(), operation_type.to_owned())).copied().unwrap_or(0)
    }

    fn place_all(&mut self, tenant: &str) {
        let types: Vec<_> = self.queues.get(tenant).into_iter().flat_map(BTreeMap::keys).cloned().collect();
        for of in types {
            self.place(tenant, &of);
        }
    }

    /// Places the oldest waiting run of a tenant and type according to its turn.
    fn place(&mut self, tenant: &str, operation_type: &str) {
        self.count_step();
        let kind = (tenant.to_owned(), operation_type.to_owned());
        if let Some(turn) = self.turns.remove(&kind)
            && let Some(turns) = self.ready.get_mut(operation_type)
        {
            turns.remove(&turn);
            if turns.is_empty() {
                self.ready.remove(operation_type);
            }
        }
        let active = count(&self.active_in_tenant, tenant);
        let is_free = self.per_tenant.is_none_or(|limit| active < limit)
            && self
                .limits_of(operation_type)
                .type_per_tenant
                .is_none_or(|limit| self.active_of(tenant, operation_type) < limit);
        let oldest = self.queues.get(tenant).and_then(|queues| queues.get(operation_type)).and_then(BTreeSet::first);
        let Some((created, uid)) = oldest.filter(|_| is_free) else { return };
        let started = self.last_start.get(tenant).copied();
        let turn = Turn { active, started, created: *created, uid: uid.clone(), tenant: tenant.to_owned() };
        self.ready.entry(operation_type.to_owned()).or_default().insert(turn.clone());
        self.turns.insert(kind, turn);
    }

    /// Number of tenants with a recorded start.
    #[cfg(test)]
    pub fn known(&self) -> usize {
        self.last_start.len()
    }

    #[cfg(test)]
    fn count_step(&self) {
        self.steps.set(self.steps.get() + 1);
    }

    #[cfg(not(test))]
    #[allow(clippy::unused_self, reason = "tests count here")]
    fn count_step(&self) {}
}

#[derive(Clone, Copy, Debug)]
enum Limit {
    TypeInTenant(usize),
    Tenant(usize),
    Type(usize),
    All(usize),
    /// No limit is reached yet; the runs before it take the free slots.
    Turn,
}

impl Limit {
    fn words(self) -> String {
        match self {
            Self::TypeInTenant(limit) => format!("{limit} active of this type in this tenant"),
            Self::Tenant(limit) => format!("{limit} active in this tenant"),
            Self::Type(limit) => format!("{limit} active of this type"),
            Self::All(limit) => format!("{limit} active in the cluster"),
            Self::Turn => "others are before it".to_owned(),
        }
    }
}

fn count(counts: &HashMap<String, usize>, key: &str) -> usize {
    counts.get(key).copied().unwrap_or(0)
}

fn decrease<K, Q>(counts: &mut HashMap<K, usize>, key: &Q)
where
    K: std::borrow::Borrow<Q> + std::hash::Hash + Eq,
    Q: std::hash::Hash + Eq + ?Sized,
{
    if let Some(number) = counts.get_mut(key) {
        *number = number.saturating_sub(1);
        if *number == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod quiet;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn waiter(second: i64, tenant: &str, operation_type: &str) -> Waiter {
        Waiter {
            created: Timestamp::from_second(second).expect("a time"),
            uid: format!("{tenant}-{operation_type}-{second:06}"),
            tenant: tenant.into(),
            operation_type: operation_type.into(),
        }
    }

    /// Starts every run that may start, in the order of the list, until none may.
    fn started(line: &mut Line, mut waiting: Vec<Waiter>) -> Vec<Waiter> {
        let mut order = Vec::new();
        while let Some(next) = waiting.iter().find(|one| line.held_by(one).is_none()).cloned() {
            line.give(next.clone());
            waiting.retain(|one| *one != next);
            order.push(next);
        }
        order
    }

    fn line(limits: Limits, waiting: &[Waiter]) -> Line {
        let mut line = Line::default();
        for one in waiting {
            line.limit(&one.operation_type, limits);
            line.stand(one.clone());
        }
        line
    }

    #[test]
    fn a_tenant_with_many_runs_does_not_delay_anothers_first() {
        let mut waiting: Vec<_> = (0..100).map(|second| waiter(second, "many", "a")).collect();
        waiting.push(waiter(1000, "one", "b"));
        let mut line = line(Limits { total: Some(2), ..Limits::default() }, &waiting);
        // All runs are asked before any starts: no query sees a start.
        let may: Vec<_> = waiting.iter().filter(|one| line.held_by(one).is_none()).cloned().collect();
        assert_eq!(may, [waiter(0, "many", "a"), waiter(1000, "one", "b")]);
        assert_eq!(line.turns(), may);
        assert_eq!(started(&mut line, waiting).len(), 2);
    }

    #[test]
    fn with_one_slot_a_tenant_with_many_runs_delays_anothers_first_by_one() {
        let many: Vec<_> = (0..100).map(|second| waiter(second, "many", "a")).collect();
        let mut line = line(Limits { type_total: Some(1), ..Limits::default() }, &many);
        line.give(many[0].clone());
        let one = waiter(1000, "one", "a");
        line.stand(one.clone());
        assert!(line.held_by(&one).is_some());
        line.end("many", "a");
        assert_eq!(line.turns(), std::slice::from_ref(&one));
        assert!(line.held_by(&many[1]).is_some());
        line.give(one);
        line.end("one", "a");
        assert_eq!(line.turns(), [many[1].clone()], "and the other way round");
    }

    #[test]
    fn a_slot_that_the_oldest_may_not_take_goes_to_another_tenant() {
        let mut line = Line::default();
        line.limit("x", Limits { per_tenant: Some(1), ..Limits::default() });
        line.limit("y", Limits { type_total: Some(1), type_per_tenant: Some(2), per_tenant: Some(1), total: None });
        line.begin("a", "x");
        let (first, second) = (waiter(1, "a", "y"), waiter(2, "b", "y"));
        line.stand(first.clone());
        line.stand(second.clone());
        assert_eq!(line.held_by(&first), Some(Held { limit: "1 active in this tenant".into(), others: 0 }));
        assert_eq!(line.held_by(&second), None);
    }

    #[test]
    fn who_is_not_in_line_is_asked_about_as_if_it_were() {
        let mut line = line(Limits { total: Some(1), ..Limits::default() }, &[waiter(5, "a", "x")]);
        assert!(line.held_by(&waiter(9, "a", "x")).is_some());
        assert!(line.held_by(&waiter(1, "a", "x")).is_none());
        assert_eq!(line.turns(), [waiter(5, "a", "x")], "it was not put there");
    }

    #[test]
    fn what_it_costs_does_not_grow_with_how_many_wait() {
        let cost = |tenants: i64, waiting: i64| {
            let limits = Limits { total: Some(10), type_per_tenant: Some(1), ..Limits::default() };
            let runs: Vec<_> =
                (0..waiting).map(|second| waiter(second, &format!("t{}", second % tenants), "x")).collect();
            let mut line = line(limits, &runs);
            let mut ends = Vec::new();
            // One reconcile and one freed slot for each waiting run.
            for run in &runs {
                let _ = line.held_by(run);
                for next in line.turns() {
                    line.give(next.clone());
                    ends.push(next);
                }
                let end = ends.remove(0);
                line.end(&end.tenant, &end.operation_type);
            }
            line.steps.get() / waiting.unsigned_abs()
        };
        for tenants in [1, 100, 10_000] {
            let (few, many) = (cost(tenants, 500), cost(tenants, 10_000));
            assert!(many < few * 2 + 20, "{tenants} tenants: {few} entries a run of 500, {many} of 10,000");
        }
    }

    fn limit() -> impl Strategy<Value = Option<usize>> {
        proptest::option::of(1_usize..5)
    }

    proptest! {
        #[test]
        fn no_limit_is_exceeded_no_slot_stays_free_and_the_tenant_with_the_fewest_is_next(
            begun in proptest::collection::vec((0_usize..4, 0_usize..3), 0..8),
            runs in proptest::collection::vec((0_i64..50, 0_usize..4, 0_usize..3), 0..30),
            of_types in proptest::collection::vec((limit(), limit()), 3),
            per_tenant in limit(),
            total in proptest::option::of(1_usize..12),
        ) {
            let name = |number: usize| format!("t{number}");
            let limits: Vec<_> = of_types.iter().map(|(type_per_tenant, type_total)| Limits {
                type_per_tenant: *type_per_tenant, type_total: *type_total, per_tenant, total,
            }).collect();
            let mut line = Line::default();
            for (of, limits) in limits.iter().enumerate() { line.limit(&name(of), *limits); }
            // Counted by hand: tenant and type of each active run.
            let mut active: Vec<(String, String)> = Vec::new();
            let fits = |active: &[(String, String)], tenant: &str, of: &str| {
                let limits = limits[of[1..].parse::<usize>().expect("a number")];
                let now = |matches: &dyn Fn(&(String, String)) -> bool| active.iter().filter(|one| matches(one)).count();
                limits.type_per_tenant.is_none_or(|limit| now(&|one| one.0 == tenant && one.1 == of) < limit)
                    && limits.type_total.is_none_or(|limit| now(&|one| one.1 == of) < limit)
                    && per_tenant.is_none_or(|limit| now(&|one| one.0 == tenant) < limit)
                    && total.is_none_or(|limit| active.len() < limit)
            };
            let (mut starts, mut last_start) = (0, HashMap::new());
            for (tenant, of) in begun {
                if fits(&active, &name(tenant), &name(of)) {
                    starts += 1;
                    last_start.insert(name(tenant), starts);
                    line.begin(&name(tenant), &name(of));
                    line.start(&name(tenant));
                    active.push((name(tenant), name(of)));
                }
            }
            let mut waiting: Vec<_> = runs.iter().map(|(second, tenant, of)| waiter(*second, &name(*tenant), &name(*of))).collect();
            waiting.sort_by(|one, other| one.uid.cmp(&other.uid));
            waiting.dedup();
            for one in &waiting { line.stand(one.clone()); }
            loop {
                let load = |one: &Waiter| active.iter().filter(|(tenant, _)| *tenant == one.tenant).count();
                let next = waiting.iter().filter(|one| fits(&active, &one.tenant, &one.operation_type))
                    .min_by_key(|one| (load(one), last_start.get(&one.tenant).copied().unwrap_or(0), one.created, one.uid.clone())).cloned();
                prop_assert_eq!(line.turns().first().cloned(), next.clone());
                for one in &waiting {
                    if let Some(Held { others, .. }) = line.held_by(one) { prop_assert!(others < waiting.len()); }
                    else { prop_assert!(fits(&active, &one.tenant, &one.operation_type)); }
                }
                let Some(next) = next else { break };
                prop_assert!(line.held_by(&next).is_none());
                line.give(next.clone());
                starts += 1;
                last_start.insert(next.tenant.clone(), starts);
                active.push((next.tenant.clone(), next.operation_type.clone()));
                waiting.retain(|one| *one != next);
            }
        }
    }

    #[test]
    fn a_limit_that_is_raised_lets_those_go_that_it_held_whichever_limit_it_is() {
        let waits = |uid: &str, of: &str| Waiter {
            created: Timestamp::UNIX_EPOCH,
            uid: uid.to_owned(),
            tenant: "acme".to_owned(),
            operation_type: of.to_owned(),
        };
        let going = |line: &mut Line| line.turns().into_iter().map(|waiter| waiter.uid).collect::<Vec<_>>();
        let of_type = |most| Limits { type_per_tenant: Some(most), ..Limits::default() };
        let mut line = Line::default();
        line.limit("a", of_type(1));
        line.begin("acme", "a");
        line.stand(waits("1", "a"));
        assert!(going(&mut line).is_empty());
        line.limit("a", of_type(2));
        assert_eq!(going(&mut line), ["1"]);
        let of_tenant = |most| Limits { per_tenant: Some(most), ..Limits::default() };
        let mut line = Line::default();
        line.limit("a", of_tenant(1));
        line.begin("acme", "a");
        line.stand(waits("1", "b"));
        assert!(going(&mut line).is_empty());
        line.limit("a", of_tenant(2));
        assert_eq!(going(&mut line), ["1"], "of another type, and of the same tenant");
    }

    #[test]
    fn those_that_wait_are_counted_without_who_asks() {
        let waits = |uid: &str| Waiter {
            created: Timestamp::UNIX_EPOCH,
            uid: uid.to_owned(),
            tenant: "acme".to_owned(),
            operation_type: "a".to_owned(),
        };
        for limits in [
            Limits { type_total: Some(1), ..Limits::default() },
            Limits { type_per_tenant: Some(1), ..Limits::default() },
            Limits { per_tenant: Some(1), ..Limits::default() },
            Limits { total: Some(1), ..Limits::default() },
        ] {
            let mut line = Line::default();
            line.limit("a", limits);
            line.begin("acme", "a");
            for uid in ["1", "2", "3"] {
                line.stand(waits(uid));
            }
            let others = |line: &mut Line, uid: &str| line.held_by(&waits(uid)).map(|held| held.others);
            assert_eq!((others(&mut line, "1"), others(&mut line, "new")), (Some(2), Some(3)), "{limits:?}");
        }
    }
}
