//! Maintenance by the records of a tenant.

use super::{
    api::{Api, NAMESPACE, RUN_UID, refusal},
    process::{code, message, serve, worker},
    support::{Pod, environment},
};
use crate::repository::{
    restic::restic,
    support::{
        PASSWORD,
        faults::{Fault, Request},
        noise,
    },
};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};
use tenantatlas::{
    api::{Outcome, execution, result::TerminationResult},
    clock::{Clock as _, SystemClock},
    operations::{check, maintain},
    repository::{CaptureOptions, Entry, ItemPath, ReadData, Repository as _, RusticRepository, WriterPermit, entries},
    worker::{
        failure::Failure,
        lease::{Leases, Timings, Use},
        open, sets,
    },
};

const OWN: &str = "namespace=namespace-uid";

/// A snapshot of a run, taken so many hours ago; its id.
async fn snapshot(pod: &Pod, run: &str, tags: &[&str], hours: i64) -> String {
    let repository = pod.repository().await.unwrap();
    let (mut sender, receiver) = entries();
    let options = CaptureOptions {
        run_uid: run.to_owned(),
        host: NAMESPACE.to_owned(),
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        audit: None,
        time: SystemClock.now() - SignedDuration::from_hours(hours),
        permit: WriterPermit::without_maintenance(),
    };
    let offering = async {
        let path = ItemPath::new("", "v1", "ConfigMap", "settings").unwrap();
        let content = format!("{{\"of\":\"{run}\"}}").into();
        sender.offer(Entry { path, content, mtime: Timestamp::UNIX_EPOCH }).await.unwrap();
        sender.finish().await.unwrap();
    };
    let ((), captured) = tokio::join!(offering, repository.capture(receiver, options));
    captured.unwrap().snapshot.id
}

/// A backup set; with a reason it is not Ready.
pub fn set(name: &str, snapshot: &str, reason: Option<&str>) -> Value {
    let mut set = json!({"apiVersion": "tenantatlas.io/v1alpha1", "kind": "BackupSet", "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"repository": {"name": "main"}, "snapshot": snapshot, "run": {"name": name, "uid": "u"}, "namespaceUid": "namespace-uid"}});
    if let Some(reason) = reason {
        set["status"] = json!({"conditions": [{"type": "Ready", "status": "False", "reason": reason, "message": "m",
            "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
    }
    set
}

async fn maintained(api: &Api, pod: &Pod, inputs: Value) -> Result<TerminationResult, Failure> {
    let environment = environment(inputs, None);
    let inputs = maintain::read_inputs(&environment)?;
    let repository = open::open(&environment, &pod.mounts()).await?;
    let permit = WriterPermit::without_maintenance();
    maintain::maintain(&api.client(), &environment, &repository, &inputs, &SystemClock, permit).await
}

async fn checked(api: &Api, pod: &Pod) -> Result<TerminationResult, Failure> {
    let environment = environment(inputs(), None);
    let sets = sets::list(&api.client(), &environment).await?;
    let inputs = check::read_inputs(&environment)?;
    check::check(&pod.repository().await?, &environment, &inputs, &sets, &SystemClock).await
}

async fn left(pod: &Pod) -> Vec<String> {
    let snapshots = pod.repository().await.unwrap().snapshots().await.unwrap();
    snapshots.into_iter().map(|snapshot| snapshot.run_uid.unwrap()).collect()
}

fn inputs() -> Value {
    json!({"repository": "main"})
}

#[tokio::test]
async fn only_what_is_ours_and_nobody_may_need_is_forgotten() {
    let (api, pod) = (Api::new(), Pod::new());
    snapshot(&pod, "of-another-namespace", &["namespace=another"], 70).await;
    let named = snapshot(&pod, "named", &[OWN], 60).await;
    snapshot(&pod, "ended", &[OWN], 50).await;
    snapshot(&pod, "running", &[OWN], 40).await;
    // The run that the server knows is queued; its worker died before it could report.
    snapshot(&pod, RUN_UID, &[OWN], 30).await;
    snapshot(&pod, "young", &[OWN], 20).await;
    api.list("BackupSet", vec![set("nightly", &named, None)]);
    let run = |uid: &str, phase: &str| {
        json!({"apiVersion": "tenantatlas.io/v1alpha1", "kind": "OperationRun", "metadata": {"name": uid, "uid": uid},
            "spec": {"type": "backup.capture"}, "status": {"phase": phase, "outcome": "pending"}})
    };
    api.list("OperationRun", vec![run("running", "running"), run("ended", "completed")]);
    let result = maintained(&api, &pod, inputs()).await.unwrap();
    assert_eq!((result.outcome, result.reason.as_deref()), (Some(Outcome::Succeeded), Some("CheckPassed")));
    let did = result.context.maintained.unwrap();
    assert!(did.forgotten == 1 && did.marked_bytes > 0 && did.deleted_bytes == 0, "{did:?}");
    assert_eq!(left(&pod).await, ["of-another-namespace", "named", "running", RUN_UID, "young"]);
    assert_eq!(result.context.repository.unwrap().snapshots, 5);
    assert!(result.message.unwrap().starts_with("1 snapshots forgotten"));

    // Without a grace the young one goes as well, and what was marked before.
    let did = maintained(&api, &pod, json!({"repository": "main", "graceHours": 0})).await.unwrap();
    let did = did.context.maintained.unwrap();
    assert!(did.forgotten == 1 && did.deleted_bytes > 0, "{did:?}");
    assert_eq!(left(&pod).await, ["of-another-namespace", "named", "running", RUN_UID]);
}

#[tokio::test]
async fn snapshots_of_a_namespace_that_was_adopted_are_kept_by_their_sets() {
    let (api, pod) = (Api::new(), Pod::new());
    let kept = snapshot(&pod, "kept", &["namespace=lost"], 50).await;
    snapshot(&pod, "deleted", &["namespace=lost"], 50).await;
    api.list("BackupSet", vec![set("adopted-1", &kept, None)]);
    maintained(&api, &pod, inputs()).await.unwrap();
    assert_eq!(left(&pod).await.len(), 2, "without consent they are another's");
    let mut environment = environment(inputs(), None);
    environment.repository_spec.adopt = serde_json::from_value(json!({"namespaceUids": ["lost"]})).unwrap();
    let inputs = maintain::read_inputs(&environment).unwrap();
    let repository = pod.repository().await.unwrap();
    let permit = WriterPermit::without_maintenance();
    maintain::maintain(&api.client(), &environment, &repository, &inputs, &SystemClock, permit).await.unwrap();
    assert_eq!(left(&pod).await, ["kept"]);
}

#[tokio::test]
async fn nothing_is_removed_while_the_records_cannot_be_read() {
    for (list, answer) in [("/operationruns", 503), ("/backupsets", 403)] {
        let (api, pod) = (Api::new(), Pod::new());
        snapshot(&pod, "ended", &[OWN], 50).await;
        api.fail(move |uri, _| uri.path().ends_with(list).then(|| refusal(answer, "No")));
        let failure = maintained(&api, &pod, inputs()).await.unwrap_err();
        assert_eq!(failure.exit_code(), if answer == 403 { 40 } else { 1 }, "{failure}");
        assert_eq!(left(&pod).await, ["ended"]);
    }
}

#[tokio::test]
async fn runs_are_listed_before_backup_sets() {
    // In between a run may record its set and be completed: seen in the other order, nobody would need its snapshot.
    let api = Api::new();
    sets::needed(&api.client(), &environment(inputs(), None), SignedDuration::ZERO).await.unwrap();
    let requests = api.requests();
    let listed = |plural: &str| requests.iter().position(|request| request.ends_with(plural)).unwrap();
    assert!(listed("/operationruns") < listed("/backupsets"), "{requests:?}");
    assert_eq!(requests.len(), 2, "each once: {requests:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_owner_s_repository_is_not_maintained() {
    let (api, pod) = (Api::new(), Pod::new());
    snapshot(&pod, "ended", &[OWN], 50).await;
    let before = pod.files();
    let url = serve(&api).await;
    for variable in [execution::CLUSTER_UID, execution::NAMESPACE_UID] {
        let mut worker = worker(&pod, &url, "maintain");
        assert_eq!(code(worker.env(variable, "another")).await, 40, "{variable}");
        assert_eq!(message(&pod)["reason"], "OwnedByAnother", "{variable}");
        assert!(pod.files() == before, "{variable}: nothing was written or removed");
    }
    assert!(api.leases().is_empty());
    assert_eq!(code(&mut worker(&pod, &url, "maintain")).await, 0);
    assert_eq!(left(&pod).await, Vec::<String>::new());
}

#[tokio::test]
async fn damage_is_told_with_the_sets_that_it_concerns() {
    let (api, pod) = (Api::new(), Pod::new());
    let whole = snapshot(&pod, "one", &[OWN], 9).await;
    let before = pod.packs();
    let broken = snapshot(&pod, "two", &[OWN], 8).await;
    let pack = pod.packs().into_iter().find(|pack| !before.contains(pack)).unwrap();
    std::fs::remove_file(pack).unwrap();
    api.list("BackupSet", vec![set("monday", &whole, None), set("tuesday", &broken, None)]);
    let failure = maintained(&api, &pod, inputs()).await.unwrap_err();
    assert_eq!((failure.reason.as_str(), failure.exit_code()), ("Damaged", 40));
    assert!(failure.message.contains("affected backup sets: tuesday"), "{}", failure.message);
    assert_eq!(failure.to_result().context.damaged_snapshots, [broken[..12].to_owned()]);
    assert_eq!(left(&pod).await.len(), 2);
}

#[tokio::test]
async fn a_set_whose_snapshot_is_gone_is_damage_and_what_the_snapshot_needed_stays() {
    let (api, pod) = (Api::new(), Pod::new());
    let gone = snapshot(&pod, "one", &[OWN], 50).await;
    let kept = snapshot(&pod, "two", &[OWN], 50).await;
    let file = pod.mounts().volume.join("snapshots").join(&gone);
    let content = std::fs::read(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    let packs = pod.packs();
    let sets_of = |repository: &str| {
        let mut monday = set("monday", &gone, None);
        monday["spec"]["repository"]["name"] = json!(repository);
        vec![monday, set("tuesday", &kept, None)]
    };
    api.list("BackupSet", sets_of("main"));
    // The first maintenance would mark, the second delete.
    for round in 0..3 {
        let ended = match round {
            0 | 1 => maintained(&api, &pod, json!({"repository": "main", "graceHours": 0})).await,
            _ => checked(&api, &pod).await,
        };
        let failure = ended.unwrap_err();
        assert_eq!((failure.reason.as_str(), failure.exit_code()), ("Damaged", 40));
        assert!(failure.message.contains("affected backup sets: monday ("), "{}", failure.message);
        assert_eq!(failure.to_result().context.damaged_snapshots, [gone[..12].to_owned()]);
        assert_eq!((pod.packs(), left(&pod).await), (packs.clone(), vec!["two".to_owned()]));
    }
    // Another repository's set may lie in another store.
    api.list("BackupSet", sets_of("another"));
    checked(&api, &pod).await.unwrap();
    std::fs::write(&file, content).unwrap();
    api.list("BackupSet", sets_of("main"));
    maintained(&api, &pod, inputs()).await.unwrap();
}

#[tokio::test]
async fn a_set_that_was_found_damaged_is_whole_only_once_all_data_was_read_back() {
    let pod = Pod::new();
    let snapshot = snapshot(&pod, "one", &[OWN], 9).await;
    for (reason, expected) in [("Damaged", "100 %"), ("Another", "structure is whole")] {
        let api = Api::new();
        api.list("BackupSet", vec![set("monday", &snapshot, Some(reason))]);
        let environment = environment(inputs(), None);
        let sets = sets::list(&api.client(), &environment).await.unwrap();
        let inputs = check::read_inputs(&environment).unwrap();
        let repository = pod.repository().await.unwrap();
        let result = check::check(&repository, &environment, &inputs, &sets, &SystemClock).await.unwrap();
        assert!(result.message.clone().unwrap().contains(expected), "{result:?}");
        assert_eq!(result.context.repository.unwrap().read_all, reason == "Damaged");
    }
}

#[tokio::test]
async fn inputs_that_cannot_be_are_refused() {
    let (api, pod) = (Api::new(), Pod::new());
    for inputs in [
        json!({"repository": "main", "readDataPercent": 101}),
        json!({"repository": "main", "graceHours": -1}),
        json!({"repository": "main", "grace": 1}),
    ] {
        let failure = maintained(&api, &pod, inputs).await.unwrap_err();
        assert_eq!((failure.reason.as_str(), failure.exit_code()), ("InvalidInputs", 40));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_a_process_it_takes_the_lease_of_maintenance_and_gives_it_back() {
    let (api, pod) = (Api::new(), Pod::new());
    snapshot(&pod, "ended", &[OWN], 50).await;
    let url = serve(&api).await;
    assert_eq!(code(&mut worker(&pod, &url, "maintain")).await, 0);
    assert_eq!(message(&pod)["context"]["maintained"]["forgotten"], 1);
    assert_eq!(left(&pod).await, Vec::<String>::new());
    let requests = api.requests();
    let leases: Vec<_> = requests.iter().filter(|request| request.contains("/leases")).collect();
    assert!(leases.iter().any(|request| request.starts_with("POST")), "{leases:?}");
    let listed = leases.iter().position(|request| request.starts_with("GET") && request.ends_with("/leases"));
    assert!(listed.is_some(), "it looks for others: {leases:?}");
    assert!(api.leases().is_empty(), "given back");
}

/// A random number generator that gives the same numbers each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % sides
    }

    /// At which of its writes a process dies, if it does.
    fn death(&mut self, writes: usize) -> usize {
        if self.below(2) == 0 { self.below(writes) } else { usize::MAX }
    }
}

/// A process of a pod: its view of the store ends at the write of this number, and its Lease is not given back.
async fn process(pod: &Pod, dies_at: usize) -> RusticRepository {
    let writes = AtomicUsize::new(0);
    pod.repository_behind(move |request, path| {
        let writes_data = matches!(request, Request::Put | Request::Delete) && !path.starts_with("tenantatlas");
        (writes_data && writes.fetch_add(1, SeqCst) == dies_at).then_some(Fault::Die)
    })
    .await
}

fn leases(api: &Api, pod_name: &str, repository: &RusticRepository) -> Leases {
    let mut environment = environment(inputs(), None);
    pod_name.clone_into(&mut environment.identity.pod);
    let timings = Timings {
        lasts: Duration::from_millis(400),
        holds: Duration::from_millis(250),
        renews: Duration::from_millis(50),
        looks: Duration::from_millis(5),
        waits: Duration::from_secs(30),
    };
    Leases::of(&api.client(), &environment, repository).with_timings(timings)
}

/// What a generation holds: one item that all share, one of its own.
pub fn generation(number: usize) -> Vec<Entry> {
    let noise = hex::encode(noise(2000 + number));
    let entry = |name: &str, content: String| Entry {
        path: ItemPath::new("", "v1", "ConfigMap", name).unwrap(),
        content: content.into(),
        mtime: Timestamp::UNIX_EPOCH,
    };
    vec![entry("own", format!("{{\"noise\":\"{noise}\"}}")), entry("shared", "{}".to_owned())]
}

/// A failure as the worker tells it.
fn seen(failure: Failure, is_held: bool) -> Failure {
    if is_held { failure } else { failure.seen_without_lease() }
}

/// A capture in a pod of its own; the snapshot, if it came to its end.
pub async fn captured(api: Api, pod: Arc<Pod>, run: String, number: usize, dies_at: usize) -> Result<String, Failure> {
    let repository = process(&pod, dies_at).await;
    let held = leases(&api, &run, &repository).share(Use::Writes).await?;
    let options = CaptureOptions {
        run_uid: run.clone(),
        host: NAMESPACE.to_owned(),
        tags: vec![OWN.to_owned()],
        audit: None,
        time: SystemClock.now(),
        permit: held.permit(),
    };
    let (mut sender, receiver) = entries();
    let offering = async {
        for entry in generation(number) {
            if sender.offer(entry).await.is_err() {
                return;
            }
        }
        let _ = sender.finish().await;
    };
    let captured = tokio::join!(offering, repository.capture(receiver, options)).1;
    let is_held = held.is_held();
    let captured = captured.map_err(|error| seen(error.into(), is_held))?;
    held.release().await;
    Ok(captured.snapshot.id)
}

/// Whoever fails has died, was kept out or lost its permit; nobody finds anything that is not whole.
fn assert_passes(failure: &Failure, round: usize) {
    // A store that takes no more requests is how the death of a process looks from inside.
    let expected = ["StoreFailed", "PermitLost", "RepositoryBusy"];
    assert!(expected.contains(&failure.reason.as_str()), "round {round}: {failure}");
    assert_eq!(failure.exit_code(), 1, "round {round}: {failure}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn captures_and_maintenance_against_each_other_and_killed_lose_nothing_that_is_named() {
    let (api, pod) = (Api::new(), Arc::new(Pod::new()));
    // Backup sets: which generation the snapshot of each holds.
    let mut named: BTreeMap<String, usize> = BTreeMap::new();
    let mut dice = Dice(7);
    let (mut killed, mut whole) = (0, 0);
    for round in 0..50 {
        let runs: Vec<String> = (0..2).map(|capturer| format!("op-{round}-{capturer}")).collect();
        named.retain(|_, _| dice.below(3) != 0);
        let running = runs.iter().map(|uid| {
            json!({"apiVersion": "tenantatlas.io/v1alpha1", "kind": "OperationRun", "metadata": {"name": uid, "uid": uid},
                "spec": {"type": "backup.capture"}, "status": {"phase": "running", "outcome": "pending"}})
        });
        api.list("OperationRun", running.collect());
        api.list("BackupSet", named.keys().map(|id| set(&id[..12], id, None)).collect());
        let mut work = tokio::task::JoinSet::new();
        for run in runs {
            let (number, dies_at) = (dice.below(8), dice.death(5));
            let captured = captured(api.clone(), pod.clone(), run, number, dies_at);
            work.spawn(async move { captured.await.map(|id| (id, number)) });
        }
        let (dies_at, grace) = (dice.death(8), dice.below(2) * 2);
        let maintained = {
            let (api, pod) = (api.clone(), pod.clone());
            tokio::spawn(async move {
                let repository = process(&pod, dies_at).await;
                let held = leases(&api, &format!("op-{round}-maintain"), &repository).exclude().await?;
                let environment = environment(json!({"repository": "main", "graceHours": grace}), None);
                let inputs = maintain::read_inputs(&environment)?;
                let client = api.client();
                let permit = held.permit();
                let ended = maintain::maintain(&client, &environment, &repository, &inputs, &SystemClock, permit).await;
                let is_held = held.is_held();
                ended.map_err(|failure| seen(failure, is_held))?;
                held.release().await;
                Ok::<_, Failure>(())
            })
        };
        while let Some(captured) = work.join_next().await {
            match captured.unwrap() {
                Ok((id, number)) => {
                    named.insert(id, number);
                }
                Err(failure) => {
                    assert_passes(&failure, round);
                    killed += 1;
                }
            }
        }
        match maintained.await.unwrap() {
            Ok(()) => whole += 1,
            Err(failure) => {
                assert_passes(&failure, round);
                killed += 1;
            }
        }
        let repository = pod.repository().await.unwrap();
        for (snapshot, number) in &named {
            let offered = generation(*number);
            let paths = offered.iter().map(|entry| entry.path.clone()).collect();
            let contents = repository.read(snapshot, paths).await.unwrap();
            assert!(offered.iter().map(|entry| entry.content.to_vec()).eq(contents), "generation {number}");
        }
    }
    assert!(killed > 20 && whole > 10, "{killed} were killed, {whole} maintenances came to their end");
    let repository = pod.repository().await.unwrap();
    let report = repository.check(ReadData::All).await.unwrap();
    assert!(report.is_ok(), "{report:?}");
    repository.add_key(PASSWORD).await.unwrap();
    restic(pod.mounts().volume, &["check", "--read-data"]);
}
