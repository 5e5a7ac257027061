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
    },
};
use futures::StreamExt as _;
use kube::{
    Api, Client,
    runtime::{WatchStreamExt, watcher},
};
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use tokio::{sync::mpsc, time::Instant};

/// How often it is looked whether a kind is served, while it is not. Also the shortest time between
/// two lists of all records of a kind, but for those that a failed watch takes.
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
            Err(error) => tracing::warn!(kind, group, %error, "it cannot be seen whether the cluster has this kind"),
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
    let (client, resource) = (client.clone(), watch.kind.resource());
    let api: Api<Foreign> = match &watch.namespace {
        Some(namespace) => Api::namespaced_with(client, namespace, &resource),
        None => Api::all_with(client, &resource),
    };
    let Some(mut again) = records.again(watch.kind.system()) else { return };
    let events = watcher(api, watcher::Config::default().page_size(PAGE)).default_backoff();
    let mut events = std::pin::pin!(events);
    let mut told = String::new();
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            // An error means that the index is gone, and the process with it.
            _ = again.changed() => return,
        };
        let changed = match event {
            None => return,
            Some(Ok(watcher::Event::Init)) => {
                records.begin(watch);
                continue;
            }
            Some(Ok(watcher::Event::InitDone)) => {
                told.clear();
                let changed = records.end(watch);
                let (group, _, kind, _) = watch.kind.names();
                tracing::info!(kind, group, namespace = watch.namespace, held = records.len(), "records listed");
                changed
            }
            Some(Ok(watcher::Event::Apply(record) | watcher::Event::InitApply(record))) => {
                records.apply(watch, &record)
            }
            Some(Ok(watcher::Event::Delete(record))) => {
                let (namespace, name) = record.place();
                records.remove(watch, namespace, name)
            }
            Some(Err(error)) => {
                if is_gone(&error) {
                    return;
                }
                let error = error.to_string();
                if told != error {
                    let (group, _, kind, _) = watch.kind.names();
                    tracing::warn!(kind, group, namespace = watch.namespace, error, "watch failed; it is tried again");
                    told = error;
                }
                continue;
            }
        };
        wake(queue, changed);
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
