//! Which kinds of other systems are watched, and how: each that is switched on, as soon as the API
//! server serves it and for as long as it does.
//!
//! Must not: write anything, or say what a record means ([`crate::kinds::imported_run`]).

use super::wakes::PAGE;
use crate::{
    api::ImportedRun,
    kernel::name::Name,
    kinds::imported_run::{
        foreign::{Foreign, Kind},
        records::{Records, Watch},
        shelf::Newest,
    },
};
use futures::StreamExt as _;
use kube::{
    Api, Client,
    api::ListParams,
    runtime::{WatchStreamExt, watcher},
};
use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
    time::Duration,
};
use tokio::{sync::mpsc, time::Instant};

/// How often it is looked whether a kind is served, while it is not. Also the shortest time between
/// two lists of the same records, but for those that a failed watch takes.
const LOOK_AGAIN: Duration = Duration::from_mins(1);

/// Which records of other systems are listed.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Imports {
    /// Namespaces of Velero, whose Backups, Restores and Schedules are listed in the tenants that
    /// they name. None if unset.
    #[arg(long = "import-velero-namespaces", env = "ATLAS_IMPORT_VELERO_NAMESPACES", value_delimiter = ',')]
    velero_namespaces: Vec<String>,
    /// Whether K8up's Backups and Schedules are listed.
    #[arg(long = "import-k8up", env = "ATLAS_IMPORT_K8UP")]
    k8up: bool,
    /// Whether Jobs that CronJobs made are listed.
    #[arg(long = "import-cron-jobs", env = "ATLAS_IMPORT_CRON_JOBS")]
    cron_jobs: bool,
}

impl Imports {
    /// An index of what is switched on.
    pub(super) fn records(&self) -> Records {
        let namespaces: BTreeSet<&String> = self.velero_namespaces.iter().filter(|name| !name.is_empty()).collect();
        let velero = [Kind::VeleroBackup, Kind::VeleroRestore, Kind::VeleroSchedule].into_iter();
        let velero = velero.flat_map(|kind| {
            namespaces.iter().map(move |namespace| Watch { kind, namespace: Some((*namespace).clone()) })
        });
        let k8up = [Kind::K8upBackup, Kind::K8upSchedule].into_iter().filter(|_| self.k8up);
        let jobs = self.cron_jobs.then_some(Kind::Job);
        let everywhere = k8up.chain(jobs).map(|kind| Watch { kind, namespace: None });
        Records::new(velero.chain(everywhere))
    }
}

/// Starts all watches.
pub(super) fn watch(client: &Client, records: &Arc<Records>, queue: &mpsc::UnboundedSender<Name<ImportedRun>>) {
    for watch in records.watches() {
        tokio::spawn(while_served(client.clone(), records.clone(), watch, queue.clone()));
    }
}

/// Watches a kind whenever the API server serves it.
async fn while_served(
    client: Client,
    records: Arc<Records>,
    watch: Watch,
    queue: mpsc::UnboundedSender<Name<ImportedRun>>,
) {
    let (group, version, kind, plural) = watch.kind.names();
    let mut missing = false;
    loop {
        let began = Instant::now();
        match is_served(&client, watch.kind).await {
            Ok(true) => {
                if missing {
                    tracing::info!(kind, group, "records of this kind can be listed now");
                }
                missing = false;
                follow(&client, &records, &watch, &queue).await;
            }
            Ok(false) => {
                if !missing {
                    tracing::warn!(
                        kind,
                        group,
                        "no records are listed: the cluster has no {plural}.{group}/{version}; install the system or switch its import off. It is looked for every minute"
                    );
                }
                missing = true;
                wake(&queue, records.absent(&watch));
            }
            Err(error) => {
                tracing::warn!(kind, group, %error, "it cannot be seen whether the cluster has this kind");
                wake(&queue, records.fail(&watch));
            }
        }
        tokio::time::sleep_until(began + LOOK_AGAIN).await;
    }
}

/// Whether the API server serves a kind.
async fn is_served(client: &Client, kind: Kind) -> Result<bool, kube::Error> {
    let (group, version, _, plural) = kind.names();
    match client.list_api_group_resources(&format!("{group}/{version}")).await {
        Ok(list) => Ok(list.resources.iter().any(|resource| resource.name == plural)),
        // Of a group that it does not know, the API server says so in plain text, without a reason.
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
        Err(error) => Err(error),
    }
}

/// Feeds the index from a watch, until the kind is gone or all must be listed again.
async fn follow(client: &Client, records: &Records, watch: &Watch, queue: &mpsc::UnboundedSender<Name<ImportedRun>>) {
    let Some(signal) = records.again(watch) else { return };
    let api = api(client, watch.kind, watch.namespace.as_deref());
    let events = watcher(api, watcher::Config::default().page_size(PAGE)).default_backoff();
    let mut events = std::pin::pin!(events);
    let mut again = Again::after(Instant::now());
    let mut told = String::new();
    let (group, _, kind, _) = watch.kind.names();
    loop {
        let due = again.due();
        let event = tokio::select! {
            event = events.next() => event,
            () = signal.notified() => {
                again.add(records.short(watch));
                continue;
            }
            () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                let Some(namespace) = again.take(Instant::now()) else { continue };
                // Records of Velero are beside those of other tenants, and cannot be listed alone.
                if watch.namespace.is_some() {
                    return;
                }
                match list_again(client, records, watch, &namespace).await {
                    Ok(changed) => wake(queue, changed),
                    Err(error) => {
                        tracing::warn!(kind, group, namespace, %error, "records are not listed again; it is tried in a minute");
                        again.add([namespace]);
                    }
                }
                continue;
            }
        };
        match event {
            None => return,
            Some(Ok(event)) => {
                match event {
                    watcher::Event::Init => again = Again::after(Instant::now()),
                    watcher::Event::InitDone => told.clear(),
                    _ => {}
                }
                wake(queue, take(records, watch, event));
            }
            Some(Err(error)) => {
                wake(queue, records.fail(watch));
                if is_gone(&error) {
                    return;
                }
                let error = error.to_string();
                if told != error {
                    tracing::warn!(kind, group, namespace = watch.namespace, error, "watch failed; it is tried again");
                    told = error;
                }
            }
        }
    }
}

fn api(client: &Client, kind: Kind, namespace: Option<&str>) -> Api<Foreign> {
    let (client, resource) = (client.clone(), kind.resource());
    match namespace {
        Some(namespace) => Api::namespaced_with(client, namespace, &resource),
        None => Api::all_with(client, &resource),
    }
}

/// Hands an event over to the index. Returns which imported runs may change by that.
fn take(records: &Records, watch: &Watch, event: watcher::Event<Foreign>) -> HashSet<Name<ImportedRun>> {
    match event {
        watcher::Event::Init => {
            records.begin(watch);
            HashSet::new()
        }
        watcher::Event::InitDone => {
            let changed = records.end(watch);
            let (group, _, kind, _) = watch.kind.names();
            tracing::info!(kind, group, namespace = watch.namespace, held = records.len(), "records listed");
            changed
        }
        watcher::Event::Apply(record) | watcher::Event::InitApply(record) => records.apply(watch, &record),
        watcher::Event::Delete(record) => {
            let (namespace, name) = record.place();
            records.remove(watch, namespace, name)
        }
    }
}

/// Lists the records of one namespace again, while the watch of all namespaces waits with its events:
/// it cannot report a record as deleted that the list then brings back. Only the newest are kept.
async fn list_again(
    client: &Client,
    records: &Records,
    watch: &Watch,
    namespace: &str,
) -> Result<HashSet<Name<ImportedRun>>, kube::Error> {
    let api = api(client, watch.kind, Some(namespace));
    let mut newest = Newest::of(watch.kind);
    let mut params = ListParams::default().limit(PAGE);
    loop {
        let page = api.list(&params).await?;
        page.items.into_iter().for_each(|record| newest.add(record));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params.continue_token = Some(token),
            None => return Ok(records.fill(watch, &newest)),
        }
    }
}

/// Which namespaces are listed again, and when. They are taken in rounds with a minute between: who
/// creates and deletes records without end causes one list of the own namespace a minute.
struct Again {
    /// Those of this round, one after the other: events of the watch are taken in between.
    round: BTreeSet<String>,
    /// Those of the next round.
    waiting: BTreeSet<String>,
    /// When the next round begins.
    next: Instant,
}

impl Again {
    /// None: everything is listed now.
    fn after(now: Instant) -> Self {
        Self { round: BTreeSet::new(), waiting: BTreeSet::new(), next: now + LOOK_AGAIN }
    }

    fn add(&mut self, namespaces: impl IntoIterator<Item = String>) {
        self.waiting.extend(namespaces);
    }

    /// When a namespace is to be taken. `None` as long as there is none.
    fn due(&self) -> Option<Instant> {
        (!self.round.is_empty() || !self.waiting.is_empty()).then_some(self.next)
    }

    /// Takes the next namespace that is due.
    fn take(&mut self, now: Instant) -> Option<String> {
        if now < self.next {
            return None;
        }
        if self.round.is_empty() {
            self.round = std::mem::take(&mut self.waiting);
        }
        let namespace = self.round.pop_first();
        if self.round.is_empty() {
            self.next = now + LOOK_AGAIN;
        }
        namespace
    }
}

/// Whether the API server does not know the kind any more.
fn is_gone(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => status.code == 404,
        _ => false,
    }
}

fn wake(queue: &mpsc::UnboundedSender<Name<ImportedRun>>, names: impl IntoIterator<Item = Name<ImportedRun>>) {
    for name in names {
        // The receiver lives as long as the process.
        let _ = queue.send(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_listed_again_at_most_once_a_minute_however_often_it_is_short() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let mut again = Again::after(start);
        assert_eq!(again.due(), None);
        let (mut lists, mut now) = (Vec::new(), start);
        while now < start + 4 * LOOK_AGAIN {
            again.add(["acme".to_owned(), "beta".to_owned()]);
            if again.due().is_some_and(|due| due <= now) {
                lists.push((now, again.take(now).expect("it is due")));
            }
            now += second;
        }
        for namespace in ["acme", "beta"] {
            let at: Vec<_> = lists.iter().filter(|(_, listed)| listed == namespace).map(|(at, _)| *at).collect();
            assert_eq!(at.len(), 3, "{namespace} is not forgotten");
            assert!(at[0] >= start + LOOK_AGAIN, "all was listed at the start");
            assert!(at.windows(2).all(|two| two[1] - two[0] >= LOOK_AGAIN), "{namespace}");
        }
    }

    #[test]
    fn those_of_one_round_are_listed_without_a_wait_and_the_others_in_the_next() {
        let start = Instant::now();
        let mut again = Again::after(start);
        again.add(["acme".to_owned(), "beta".to_owned()]);
        assert_eq!(again.take(start), None, "too early");
        let first = again.due().expect("two wait");
        assert_eq!(again.take(first).as_deref(), Some("acme"));
        again.add(["acme".to_owned()]);
        assert!(again.due().is_some_and(|due| due <= first));
        assert_eq!(again.take(first).as_deref(), Some("beta"));
        assert_eq!(again.due(), Some(first + LOOK_AGAIN));
        assert_eq!(again.take(first), None);
        assert_eq!(again.take(first + LOOK_AGAIN).as_deref(), Some("acme"));
        assert_eq!(again.due(), None);
    }

    #[test]
    fn nothing_is_watched_unless_it_is_switched_on_and_velero_in_its_namespaces_alone() {
        assert!(Imports::default().records().watches().is_empty());
        let all = Imports {
            velero_namespaces: vec!["velero".into(), String::new(), "velero".into(), "other".into()],
            k8up: true,
            cron_jobs: true,
        };
        let watches = all.records().watches();
        let of = |kind: Kind| watches.iter().filter(|watch| watch.kind == kind).collect::<Vec<_>>();
        assert_eq!(watches.len(), 9);
        for kind in [Kind::VeleroBackup, Kind::VeleroRestore, Kind::VeleroSchedule] {
            let namespaces: Vec<_> = of(kind).iter().map(|watch| watch.namespace.as_deref()).collect();
            assert_eq!(namespaces, [Some("other"), Some("velero")]);
        }
        for kind in [Kind::K8upBackup, Kind::K8upSchedule, Kind::Job] {
            assert_eq!(of(kind).len(), 1);
        }
    }
}
