//! Maintenance by the records of a tenant.

use super::{
    api::{Api, NAMESPACE, RUN_UID, refusal},
    process::{code, message, serve, worker},
    support::{Pod, environment},
};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tenantatlas::{
    api::{Outcome, result::TerminationResult},
    clock::{Clock as _, SystemClock},
    repository::{CaptureOptions, Entry, ItemPath, Repository as _, WriterPermit, entries},
    worker::{check, failure::Failure, maintain, open, sets},
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
fn set(name: &str, snapshot: &str, reason: Option<&str>) -> Value {
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
