//! Who saw everything, and does the work: a watch of all Jobs and runs, independent of the controller, and the payload of
//! the Jobs that kube-controller-manager leaves alone (`managedBy`).
//!
//! A payload passes the real fence, writes what it does into the ledger, and ends its Job. What it is to do is an input of
//! the run: `succeed` (default), `fail_once`, `time_out`.

use futures::{Stream, StreamExt as _};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tenantatlas::api::{OperationRun, Outcome, Phase, execution, labels};
use tenantatlas::worker::environment::RunIdentity;
use tenantatlas::worker::fence;
use tokio::sync::watch;

/// `spec.managedBy` of the Jobs whose payload is here.
pub(crate) const MANAGER: &str = "tenantatlas.io/stub";

/// See the module's text.
pub(crate) struct Witness {
    client: Client,
    /// Who may say how a Job of an operation ended.
    controller: Client,
    state: Mutex<HashMap<String, Place>>,
    /// Namespaces whose payloads may end.
    open: watch::Sender<BTreeSet<String>>,
}

/// What was seen in one namespace.
#[derive(Clone, Debug, Default)]
pub(crate) struct Place {
    /// Every Job there ever was, by uid: the run's uid and the identity.
    pub(crate) jobs: BTreeMap<String, (String, String)>,
    /// The work done, oldest first.
    pub(crate) ledger: Vec<Entry>,
    /// Every run there ever was, by uid.
    pub(crate) runs: BTreeMap<String, Life>,
    /// What must never be.
    pub(crate) faults: Vec<String>,
    /// Identities at work, and the Job that does it.
    live: HashMap<String, String>,
    /// The ends of runs, by uid.
    ends: HashMap<String, (Outcome, Option<String>, Option<Timestamp>)>,
}

/// A run as it was seen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Life {
    /// The resource version at which it was seen first. The versions of all runs are one sequence.
    pub(crate) begun: u64,
    /// The one at which it was seen completed.
    pub(crate) ended: Option<u64>,
}

/// One piece of work.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) run: String,
    pub(crate) run_uid: String,
    pub(crate) job_uid: String,
}

impl Witness {
    /// Starts watching.
    pub(crate) fn start(client: Client, controller: Client) -> Arc<Self> {
        let (state, open) = (Mutex::default(), watch::Sender::default());
        let witness = Arc::new(Self { client: client.clone(), controller, state, open });
        let jobs = watcher(Api::<Job>::all(client.clone()), watcher::Config::default().labels(labels::RUN_UID));
        tokio::spawn(Arc::clone(&witness).watch_jobs(jobs.default_backoff()));
        let runs = watcher(Api::<OperationRun>::all(client), watcher::Config::default());
        tokio::spawn(Arc::clone(&witness).watch_runs(runs.default_backoff()));
        witness
    }

    /// Lets the payloads in a namespace come to their ends.
    pub(crate) fn open(&self, namespace: &str) {
        self.open.send_modify(|open| {
            open.insert(namespace.to_owned());
        });
    }

    /// What was seen in a namespace so far.
    pub(crate) fn place(&self, namespace: &str) -> Place {
        self.state().get(namespace).cloned().unwrap_or_default()
    }

    fn state(&self) -> MutexGuard<'_, HashMap<String, Place>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn watch_runs(self: Arc<Self>, events: impl Stream<Item = watcher::Result<watcher::Event<OperationRun>>>) {
        let mut events = std::pin::pin!(events);
        while let Some(event) = events.next().await {
            let Ok(watcher::Event::Apply(run) | watcher::Event::InitApply(run)) = event else { continue };
            let status = run.status_or_default();
            let mut state = self.state();
            let place = state.entry(run.namespace().unwrap_or_default()).or_default();
            let version = run.resource_version().and_then(|version| version.parse().ok()).unwrap_or_default();
            let life = place.runs.entry(run.uid().unwrap_or_default());
            let life = life.or_insert(Life { begun: version, ended: None });
            if status.phase == Phase::Completed {
                life.ended.get_or_insert(version);
            }
            let now = (status.outcome, status.reason, status.completed_at);
            if status.phase == Phase::Completed {
                let before = place.ends.entry(run.uid().unwrap_or_default()).or_insert_with(|| now.clone());
                if *before != now {
                    place.faults.push(format!("the end of {} changed: {before:?}, then {now:?}", run.name_any()));
                }
            } else if let Some(before) = place.ends.get(&run.uid().unwrap_or_default()) {
                place.faults.push(format!("{} was completed ({before:?}) and is {:?}", run.name_any(), status.phase));
            }
        }
    }

    async fn watch_jobs(self: Arc<Self>, events: impl Stream<Item = watcher::Result<watcher::Event<Job>>>) {
        let mut events = std::pin::pin!(events);
        while let Some(event) = events.next().await {
            match event {
                Ok(watcher::Event::Apply(job) | watcher::Event::InitApply(job)) => self.saw(job),
                Ok(watcher::Event::Delete(job)) => self.ended(&job),
                Ok(_) | Err(_) => {}
            }
        }
    }

    fn saw(self: &Arc<Self>, job: Job) {
        let label = |key| job.labels().get(key).cloned().unwrap_or_default();
        let uid = job.uid().unwrap_or_default();
        let seen = (label(labels::RUN_UID), label(labels::IDENTITY));
        let new = {
            let mut state = self.state();
            let place = state.entry(job.namespace().unwrap_or_default()).or_default();
            place.jobs.insert(uid, seen).is_none()
        };
        let stub = job.spec.as_ref().is_some_and(|spec| spec.managed_by.as_deref() == Some(MANAGER));
        let over = job.status.as_ref().is_some_and(|status| status.start_time.is_some());
        if new && stub && !over {
            tokio::spawn(Arc::clone(self).work(job));
        }
    }

    /// A Job is over, or gone: its payload with it.
    fn ended(&self, job: &Job) {
        let identity = job.labels().get(labels::IDENTITY).cloned().unwrap_or_default();
        let mut state = self.state();
        let place = state.entry(job.namespace().unwrap_or_default()).or_default();
        if place.live.get(&identity) == job.uid().as_ref() {
            place.live.remove(&identity);
        }
    }

    /// The payload of one Job.
    async fn work(self: Arc<Self>, job: Job) {
        let namespace = job.namespace().unwrap_or_default();
        let given = variables(&job);
        let own = RunIdentity {
            run: given.get(execution::RUN).cloned().unwrap_or_default(),
            run_uid: given.get(execution::RUN_UID).cloned().unwrap_or_default(),
            namespace: namespace.clone(),
            job_uid: job.uid().unwrap_or_default(),
            pod: format!("{}-proof", job.name_any()),
        };
        if let Err(fenced) = fence::pass(&self.client, &own).await {
            if fenced.reason == "Cancelled" {
                // A pod's last word would say so; here is none. The operator deletes the Job.
                return;
            }
            let _ = self.end(&job, failed("PodFailurePolicy", &fenced.message)).await;
            return;
        }
        let identity = job.labels().get(labels::IDENTITY).cloned().unwrap_or_default();
        let earlier = {
            let mut state = self.state();
            let place = state.entry(namespace.clone()).or_default();
            if let Some(other) = place.live.insert(identity, own.job_uid.clone()) {
                let fault = format!("two at work for one identity: Jobs {other} and {}", own.job_uid);
                place.faults.push(fault);
            }
            let earlier = place.ledger.len();
            if let Some(before) = place.ledger.iter().find(|before| before.run_uid == own.run_uid) {
                let fault =
                    format!("the work of {} was done twice: Jobs {} and {}", own.run, before.job_uid, own.job_uid);
                place.faults.push(fault);
            }
            place.ledger.push(Entry { run: own.run, run_uid: own.run_uid, job_uid: own.job_uid });
            earlier
        };
        let mut open = self.open.subscribe();
        // The sender lives as long as this.
        let _ = open.wait_for(|open| open.contains(&namespace)).await;
        let inputs: Value = serde_json::from_str(given.get(execution::INPUTS).map_or("{}", String::as_str)).unwrap();
        let status = match inputs["work"].as_str().unwrap_or("succeed") {
            "fail_once" if earlier == 0 => failed("BackoffLimitExceeded", "the payload failed"),
            "time_out" => failed("DeadlineExceeded", "the payload took too long"),
            _ => succeeded(),
        };
        if self.end(&job, status).await.is_ok() {
            self.ended(&job);
        }
    }

    /// Ends a Job, if it is still there.
    async fn end(&self, job: &Job, mut status: Value) -> Result<(), kube::Error> {
        let jobs: Api<Job> = Api::namespaced(self.controller.clone(), &job.namespace().unwrap_or_default());
        let now = Timestamp::now().to_string();
        status["startTime"] = json!(now);
        if status["succeeded"] == 1 {
            status["completionTime"] = json!(now);
        }
        for condition in status["conditions"].as_array_mut().unwrap() {
            condition["lastTransitionTime"] = json!(now);
            condition["status"] = json!("True");
        }
        let patch = Patch::Merge(json!({ "metadata": { "uid": job.uid() }, "status": status }));
        let ended = jobs.patch_status(&job.name_any(), &PatchParams::default(), &patch).await;
        match ended {
            // Deleted meanwhile, and perhaps made anew.
            Err(kube::Error::Api(error)) if error.is_not_found() || error.message.contains("metadata.uid") => {
                Err(kube::Error::Api(error))
            }
            Err(error) => {
                let fault = format!("the stub cannot end Job {}: {error}", job.name_any());
                self.state().entry(job.namespace().unwrap_or_default()).or_default().faults.push(fault);
                Err(error)
            }
            Ok(_) => Ok(()),
        }
    }
}

fn succeeded() -> Value {
    json!({ "succeeded": 1, "conditions": [
        { "type": "SuccessCriteriaMet", "reason": "CompletionsReached" }, { "type": "Complete", "reason": "CompletionsReached" },
    ]})
}

fn failed(reason: &str, message: &str) -> Value {
    json!({ "failed": 1, "conditions": [
        { "type": "FailureTarget", "reason": reason, "message": message }, { "type": "Failed", "reason": reason, "message": message },
    ]})
}

/// The plain variables of a Job's first container.
pub(crate) fn variables(job: &Job) -> HashMap<String, String> {
    let pod = job.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
    let container = pod.and_then(|pod| pod.containers.first());
    let variables = container.into_iter().flat_map(|container| container.env.iter().flatten());
    variables.filter_map(|variable| Some((variable.name.clone(), variable.value.clone()?))).collect()
}
