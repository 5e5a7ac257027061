//! Who saw everything: watches of all runs, pods and restores, independent of the operator.

use crate::log::lock;
use futures::{Stream, StreamExt as _};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::Api;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Client, Resource, ResourceExt as _};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use tenantatlas::api::{OperationRun, Phase, RestoreRun, labels};

/// See the module's text.
#[derive(Default)]
pub struct Witness {
    state: Mutex<Seen>,
}

/// All that was seen, by uid.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The last state of each run.
    pub runs: HashMap<String, OperationRun>,
    /// Every end that a run was seen with.
    pub ends: HashMap<String, BTreeSet<(String, String)>>,
    /// The last run that a run was seen to have joined.
    pub joined: HashMap<String, String>,
    pub pods: HashMap<String, Pod>,
    pub restores: HashMap<String, RestoreRun>,
    /// Runs that are there.
    there: BTreeSet<String>,
}

impl Witness {
    /// Starts watching.
    pub fn start(client: &Client) -> Arc<Self> {
        let witness = Arc::new(Self::default());
        let runs = watcher(Api::<OperationRun>::all(client.clone()), watcher::Config::default());
        tokio::spawn(follow(Arc::clone(&witness), runs.default_backoff(), Seen::saw_run, Seen::run_is_gone));
        let pods = watcher(Api::<Pod>::all(client.clone()), watcher::Config::default().labels(labels::RUN_UID));
        let saw_pod = |seen: &mut Seen, pod: Pod| _ = seen.pods.insert(pod.uid().unwrap_or_default(), pod);
        tokio::spawn(follow(Arc::clone(&witness), pods.default_backoff(), saw_pod, |_, _| ()));
        let restores = watcher(Api::<RestoreRun>::all(client.clone()), watcher::Config::default());
        let saw_restore =
            |seen: &mut Seen, restore: RestoreRun| _ = seen.restores.insert(restore.uid().unwrap_or_default(), restore);
        tokio::spawn(follow(Arc::clone(&witness), restores.default_backoff(), saw_restore, |_, _| ()));
        witness
    }

    /// All that was seen so far.
    pub fn seen(&self) -> Seen {
        lock(&self.state).clone()
    }

    /// How many runs are in which state: their outcome once they are completed, else their phase.
    pub fn by_state(&self) -> BTreeMap<String, usize> {
        let seen = lock(&self.state);
        let mut states = BTreeMap::new();
        for (uid, run) in &seen.runs {
            let status = run.status.as_ref();
            let state = match (seen.ends.get(uid).and_then(BTreeSet::first), seen.there.contains(uid)) {
                (Some((outcome, _)), _) => outcome.clone(),
                (None, false) => "deleted".to_owned(),
                (None, true) => match status.map_or(Phase::Queued, |status| status.phase) {
                    Phase::Running => "running".to_owned(),
                    _ => "queued".to_owned(),
                },
            };
            *states.entry(state).or_default() += 1;
        }
        states
    }
}

impl Seen {
    fn saw_run(&mut self, run: OperationRun) {
        let uid = run.uid().unwrap_or_default();
        if let Some(status) = &run.status {
            if status.phase == Phase::Completed {
                let end = (status.outcome.as_str().to_owned(), status.reason.clone().unwrap_or_default());
                self.ends.entry(uid.clone()).or_default().insert(end);
            }
            if let Some(joined) = &status.joined {
                self.joined.insert(uid.clone(), joined.uid.clone());
            }
        }
        self.there.insert(uid.clone());
        self.runs.insert(uid, run);
    }

    fn run_is_gone(&mut self, uid: &str) {
        self.there.remove(uid);
    }
}

/// Follows a watch. What a list after an interruption lacks is gone, too.
async fn follow<K: Resource + Send>(
    witness: Arc<Witness>,
    events: impl Stream<Item = watcher::Result<watcher::Event<K>>>,
    saw: impl Fn(&mut Seen, K),
    gone: impl Fn(&mut Seen, &str),
) {
    let mut events = std::pin::pin!(events);
    let (mut known, mut listed) = (BTreeSet::new(), BTreeSet::new());
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) => {
                let uid = object.meta().uid.clone().unwrap_or_default();
                known.insert(uid.clone());
                listed.insert(uid);
                saw(&mut lock(&witness.state), object);
            }
            Ok(watcher::Event::Delete(object)) => {
                let uid = object.meta().uid.clone().unwrap_or_default();
                known.remove(&uid);
                let mut state = lock(&witness.state);
                // The last state of what is deleted comes with its deletion.
                saw(&mut state, object);
                gone(&mut state, &uid);
            }
            Ok(watcher::Event::Init) => listed.clear(),
            Ok(watcher::Event::InitDone) => {
                for uid in known.difference(&listed) {
                    gone(&mut lock(&witness.state), uid);
                }
                known.retain(|uid| listed.contains(uid));
            }
            // It is tried again.
            Err(_) => {}
        }
    }
}

/// When the worker of a pod started, and until when it is known to have run.
pub fn worked(pod: &Pod) -> (Option<Timestamp>, Option<Timestamp>) {
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    let states = statuses.filter_map(|container| container.state.as_ref());
    let (mut started, mut ended) = (None, None);
    for state in states {
        if let Some(running) = &state.running {
            started = running.started_at.as_ref().map(|at| at.0);
        }
        if let Some(terminated) = &state.terminated {
            started = terminated.started_at.as_ref().map(|at| at.0);
            ended = terminated.finished_at.as_ref().map(|at| at.0);
        }
    }
    // A container that never ran has begun at the beginning of time.
    (started.filter(|at| *at > Timestamp::UNIX_EPOCH), ended)
}
