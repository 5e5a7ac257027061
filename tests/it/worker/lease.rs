//! Leases on a repository: who waits for whom, and what becomes of those of the dead.

use super::{
    api::{Answer, Api, LEASES},
    support::{Pod, environment},
};
use serde_json::json;
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};
use tenantatlas::{
    repository::RusticRepository,
    worker::lease::{Held, Leases, Timings, Use},
};

/// Quick, and with room for a machine that stands still now and then.
const TIMINGS: Timings = Timings {
    lasts: Duration::from_secs(2),
    holds: Duration::from_millis(1200),
    renews: Duration::from_millis(100),
    looks: Duration::from_millis(5),
    waits: Duration::from_secs(20),
};

/// A namespace with one repository, and an API server.
struct Namespace {
    api: Api,
    repository: RusticRepository,
    _pod: Pod,
}

impl Namespace {
    async fn new() -> Self {
        let pod = Pod::new();
        let repository = pod.repository().await.unwrap();
        Self { api: Api::new(), repository, _pod: pod }
    }

    fn pod(&self, name: &str) -> Leases {
        let mut environment = environment(json!({"repository": "main"}), None);
        name.clone_into(&mut environment.identity.pod);
        Leases::of(&self.api.client(), &environment, &self.repository).with_timings(TIMINGS)
    }

    fn holders(&self) -> Vec<String> {
        let leases = self.api.leases();
        leases.values().map(|lease| lease["spec"]["holderIdentity"].as_str().unwrap().to_owned()).collect()
    }
}

/// Polls until something is so, for at most 20 s.
async fn until(what: &str, so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !so() {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn workers_share_a_repository_and_maintenance_waits_for_the_last_of_them() {
    let namespace = Namespace::new().await;
    let one = namespace.pod("one").share(Use::Writes).await.unwrap();
    let two = namespace.pod("two").share(Use::Reads).await.unwrap();
    let leases = namespace.pod("maintenance");
    let maintenance = tokio::spawn(async move { leases.exclude().await });
    until("it says that it waits", || namespace.holders().contains(&"maintenance".to_owned())).await;
    one.release().await;
    until("the first has gone", || namespace.holders().len() == 2).await;
    assert!(!maintenance.is_finished() && two.is_held());
    two.release().await;
    let maintenance = maintenance.await.unwrap().unwrap();
    assert_eq!(namespace.holders(), ["maintenance"]);
    maintenance.release().await;
    assert_eq!(namespace.holders(), Vec::<String>::new(), "nothing is left behind");
}

#[tokio::test]
async fn who_comes_during_maintenance_waits_until_it_has_ended_and_holds_nothing_meanwhile() {
    let namespace = Namespace::new().await;
    let maintenance = namespace.pod("maintenance").exclude().await.unwrap();
    let leases = namespace.pod("worker");
    let worker = tokio::spawn(async move { leases.share(Use::Writes).await });
    let lease = format!("{LEASES}/worker");
    until("it takes its own back", || namespace.api.requests().contains(&format!("DELETE {lease}"))).await;
    assert!(!worker.is_finished());
    assert_eq!(namespace.holders(), ["maintenance"]);
    maintenance.release().await;
    assert!(worker.await.unwrap().unwrap().is_held());
}

#[tokio::test]
async fn one_maintenance_waits_for_another_and_other_repositories_for_nobody() {
    let namespace = Namespace::new().await;
    let elsewhere = Namespace { api: namespace.api.clone(), ..Namespace::new().await };
    let first = namespace.pod("first").exclude().await.unwrap();
    elsewhere.pod("second").exclude().await.unwrap().release().await;
    let leases = namespace.pod("third");
    let third = tokio::spawn(async move { leases.exclude().await });
    tokio::task::yield_now().await;
    assert!(!third.is_finished());
    first.release().await;
    assert!(third.await.unwrap().unwrap().is_held());
}

#[tokio::test]
async fn maintenance_gives_up_after_a_while_and_says_who_is_in_its_way() {
    let namespace = Namespace::new().await;
    let worker = namespace.pod("op-worker").share(Use::Writes).await.unwrap();
    let hurried = Timings { waits: Duration::from_millis(50), ..TIMINGS };
    let busy = namespace.pod("maintenance").with_timings(hurried).exclude().await.err().unwrap();
    assert_eq!((busy.reason.as_str(), busy.exit_code()), ("RepositoryBusy", 1));
    assert!(busy.message.contains("op-worker"), "{}", busy.message);
    assert_eq!(namespace.holders(), ["op-worker"], "nobody waits for it any more");
    assert!(worker.is_held());
}

#[tokio::test]
async fn the_lease_of_a_dead_worker_runs_out_and_is_taken_away() {
    let namespace = Namespace::new().await;
    drop(namespace.pod("dead").share(Use::Writes).await.unwrap());
    assert_eq!(namespace.holders(), ["dead"]);
    let asked = Instant::now();
    let maintenance = namespace.pod("maintenance").exclude().await.unwrap();
    assert!(asked.elapsed() >= TIMINGS.lasts, "not before it has run out");
    assert_eq!(namespace.holders(), ["maintenance"]);
    assert!(maintenance.is_held());
}

#[tokio::test]
async fn the_lease_of_a_dead_maintenance_runs_out_and_its_holder_cannot_come_back() {
    let namespace = Namespace::new().await;
    drop(namespace.pod("dead").exclude().await.unwrap());
    let asked = Instant::now();
    let reader = namespace.pod("reader").share(Use::Reads).await.unwrap();
    assert!(asked.elapsed() >= TIMINGS.lasts, "not before it has run out");
    assert!(namespace.holders().contains(&"dead".to_owned()), "a reader may write no Lease but its own");
    let writer = namespace.pod("writer").share(Use::Writes).await.unwrap();
    assert!(!namespace.holders().contains(&"dead".to_owned()));
    reader.release().await;
    writer.release().await;
    assert!(namespace.pod("next").exclude().await.unwrap().is_held());
}

#[tokio::test]
async fn a_pod_takes_up_the_lease_that_it_had_before_its_process_died() {
    let namespace = Namespace::new().await;
    drop(namespace.pod("again").share(Use::Writes).await.unwrap());
    assert!(namespace.pod("again").share(Use::Writes).await.unwrap().is_held());
    drop(namespace.pod("again").exclude().await);
}

#[tokio::test]
async fn a_permit_ends_with_its_lease_and_never_begins_again() {
    let namespace = Namespace::new().await;
    let held = namespace.pod("worker").share(Use::Writes).await.unwrap();
    let permit = held.permit();
    assert_eq!(format!("{permit:?}"), "WriterPermit(held: true)");
    namespace.api.remove_lease("worker");
    until("its renewal finds out", || !held.is_held()).await;
    let another = namespace.pod("worker").share(Use::Writes).await.unwrap();
    assert!(another.is_held() && !held.is_held());
    assert_eq!(format!("{permit:?}"), "WriterPermit(held: false)");
    let permit = another.permit();
    another.release().await;
    assert_eq!(format!("{permit:?}"), "WriterPermit(held: false)", "given back is not held");
}

#[tokio::test]
async fn a_holder_that_cannot_renew_stops_believing_in_its_lease_before_others_do() {
    let namespace = Namespace::new().await;
    let held = namespace.pod("worker").share(Use::Writes).await.unwrap();
    namespace.api.fail(|uri, _| uri.path().starts_with(LEASES).then_some(Answer::Broken));
    let cut = Instant::now();
    until("it gives up", || !held.is_held()).await;
    assert!(cut.elapsed() < TIMINGS.lasts, "{:?}", cut.elapsed());
    namespace.api.heal();
    let version = namespace.api.leases()["worker"]["metadata"]["resourceVersion"].clone();
    tokio::time::sleep(3 * TIMINGS.renews).await;
    assert!(!held.is_held());
    assert_eq!(namespace.api.leases()["worker"]["metadata"]["resourceVersion"], version, "it is not renewed again");
}

#[tokio::test]
async fn a_renewal_that_hangs_is_given_up_and_the_next_one_keeps_the_lease() {
    let namespace = Namespace::new().await;
    let held = namespace.pod("worker").share(Use::Writes).await.unwrap();
    // Two of four calls hang, which is the first renewals; the third conflicts, and the fourth looks why.
    let hung = Arc::new(AtomicUsize::new(0));
    let hangs = hung.clone();
    namespace.api.fail(move |uri, _| {
        (uri.path() == format!("{LEASES}/worker") && hangs.fetch_add(1, SeqCst) % 4 < 2).then_some(Answer::Hangs)
    });
    namespace.api.touch_lease("worker");
    let until = Instant::now() + 2 * TIMINGS.holds;
    while Instant::now() < until {
        assert!(held.is_held());
        tokio::time::sleep(TIMINGS.looks).await;
    }
    assert!(hung.load(SeqCst) > 5, "some of them hung");
}

#[tokio::test]
async fn a_lease_is_renewed_for_as_long_as_it_is_held() {
    let namespace = Namespace::new().await;
    let held = namespace.pod("worker").share(Use::Writes).await.unwrap();
    // As if the answer to a renewal had been lost.
    namespace.api.touch_lease("worker");
    let until = Instant::now() + 2 * TIMINGS.lasts;
    while Instant::now() < until {
        assert!(held.is_held());
        tokio::time::sleep(TIMINGS.renews).await;
    }
    let lease = &namespace.api.leases()["worker"];
    assert_ne!(lease["spec"]["renewTime"], lease["spec"]["acquireTime"]);
    assert_eq!(lease["metadata"]["ownerReferences"][0]["kind"], "OperationRun", "with its run it goes");
}

/// Who holds what at this moment: whether it excludes the others, and its Lease.
type Table = Arc<Mutex<Vec<Option<(bool, Arc<Held>)>>>>;

/// Whether somebody believes in a Lease that excludes others, and another believes in one at the same time.
fn is_violated(table: &Table) -> bool {
    let there: Vec<_> = table.lock().unwrap().iter().flatten().cloned().collect();
    there.iter().enumerate().any(|(place, (excludes, held))| {
        let others = || there.iter().enumerate().any(|(other, (_, theirs))| other != place && theirs.is_held());
        // Once it has ended it never begins again: what holds before and after holds in between.
        *excludes && held.is_held() && others() && held.is_held()
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_killed_when_maintenance_and_workers_are_never_in_at_once() {
    let timings = Timings {
        lasts: Duration::from_millis(300),
        holds: Duration::from_millis(150),
        renews: Duration::from_millis(20),
        ..TIMINGS
    };
    let namespace = Namespace::new().await;
    let table: Table = Arc::new(Mutex::new((0..4).map(|_| None).collect()));
    let mut seats = tokio::task::JoinSet::new();
    for seat in 0..4_usize {
        let (table, excludes) = (table.clone(), seat == 0);
        let pods: Vec<_> =
            (0..20).map(|round| namespace.pod(&format!("op-{seat}-{round}")).with_timings(timings)).collect();
        seats.spawn(async move {
            let mut ins = 0;
            for (round, leases) in pods.into_iter().enumerate() {
                let taken = if excludes { leases.exclude().await } else { leases.share(Use::Writes).await };
                let Ok(held) = taken else { continue };
                let held = Arc::new(held);
                table.lock().unwrap()[seat] = Some((excludes, held.clone()));
                for _ in 0..5 {
                    assert!(!is_violated(&table), "maintenance and another were in at once");
                    tokio::time::sleep(Duration::from_millis(3)).await;
                }
                ins += usize::from(held.is_held());
                table.lock().unwrap()[seat] = None;
                // Every third is killed: its Lease stays.
                if (round + seat) % 3 != 0
                    && let Some(held) = Arc::into_inner(held)
                {
                    held.release().await;
                }
            }
            (excludes, ins)
        });
    }
    let (mut alone, mut together) = (0, 0);
    while let Some(seat) = seats.join_next().await {
        let (excludes, ins) = seat.unwrap();
        *(if excludes { &mut alone } else { &mut together }) += ins;
    }
    assert!(alone >= 5 && together >= 20, "{alone} maintenances and {together} workers were in");
}
