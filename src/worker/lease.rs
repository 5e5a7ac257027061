//! Coordinates the concurrent users of a repository: one Lease per worker, and one for maintenance
//! that excludes them all.
//!
//! A worker's Lease is named after its pod, the Lease of maintenance after the repository, so the
//! API server itself rejects a second one. Each side publishes its Lease before it checks: a worker
//! creates its Lease and then looks for the one of maintenance; maintenance takes its Lease and
//! then looks for those of workers. So if two start at once, at least one sees the other. A worker
//! that sees maintenance releases its Lease and waits. Maintenance waits until the last worker is
//! done, and gives up after a while.
//!
//! A Lease that is not renewed expires: a process that has seen it unchanged for
//! [`Timings::lasts`], by the local clock, takes it away, guarded by its resourceVersion. A holder
//! stops relying on its Lease well before that ([`Timings::holds`]), and never starts again after
//! it has stopped. The times in a Lease are informational.
//!
//! A Lease is not mutual exclusion: it does not stop a process that is paused between checking its
//! permit and sending a request to the store. [`crate::repository`] makes such a late write
//! harmless: content is marked long before it is deleted, marked content is never relied on, and a
//! snapshot is read back.

use crate::{
    api::reason::worker as reason,
    api::{OperationRun, labels},
    clock::{Clock, SystemClock},
    cluster::retry::{may_pass, retry},
    repository::{Repository, WriterPermit},
    worker::{
        environment::Environment,
        failure::{Failure, api_failure},
    },
};
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, OwnerReference},
};
use kube::{
    Api, Client, Error, Resource, ResourceExt,
    api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams, Preconditions},
};
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::task::JoinHandle;

/// Purpose of the derived key that identifies a repository: two with different names may be one
/// store.
const PURPOSE: &str = "lease";

/// Timings of a Lease.
#[derive(Clone, Copy, Debug)]
pub struct Timings {
    /// A Lease that was not renewed for this long has expired.
    pub lasts: Duration,
    /// A holder that could not renew its Lease for this long no longer relies on it. Requests
    /// already in flight have the rest of `lasts` to end.
    pub holds: Duration,
    /// Time between two renewals.
    pub renews: Duration,
    /// Poll interval while waiting.
    pub looks: Duration,
    /// How long maintenance waits for workers. Workers that start meanwhile wait for maintenance.
    pub waits: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            lasts: Duration::from_mins(1),
            holds: Duration::from_secs(40),
            renews: Duration::from_secs(10),
            looks: Duration::from_secs(2),
            waits: Duration::from_mins(10),
        }
    }
}

/// How a worker uses the repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Only reads. The account of such a worker may write no Lease but its own.
    Reads,
    /// Writes a snapshot.
    Writes,
}

/// The Leases of one repository, as seen by one pod.
#[derive(Clone)]
pub struct Leases {
    api: Api<Lease>,
    /// Distinguishes the repositories of a namespace.
    key: String,
    pod: String,
    /// Owner of the Leases: one that is left behind is garbage-collected with the run.
    run: OwnerReference,
    timings: Timings,
}

/// A held Lease, renewed until it is dropped.
pub struct Held {
    leases: Leases,
    name: String,
    state: Arc<State>,
    renewing: JoinHandle<()>,
}

/// What a holder knows about its Lease.
struct State(Mutex<Known>);

struct Known {
    uid: String,
    version: String,
    /// When the holder stops relying on the Lease. `None` once it has stopped.
    until: Option<Instant>,
}

impl Leases {
    /// Leases of an opened repository.
    #[must_use]
    pub fn of(client: &Client, environment: &Environment, repository: &impl Repository) -> Self {
        let identity = &environment.identity;
        Self {
            api: Api::namespaced(client.clone(), &identity.namespace),
            key: hex::encode(&repository.derived_key(PURPOSE)[..8]),
            pod: environment.identity.pod.clone(),
            run: OwnerReference {
                api_version: OperationRun::api_version(&()).into_owned(),
                kind: OperationRun::kind(&()).into_owned(),
                name: identity.run.clone(),
                uid: identity.run_uid.clone(),
                ..OwnerReference::default()
            },
            timings: Timings::default(),
        }
    }

    /// The same Leases with other timings.
    #[must_use]
    pub fn with_timings(self, timings: Timings) -> Self {
        Self { timings, ..self }
    }

    /// Acquires a Lease that workers hold concurrently, once no maintenance is running.
    pub async fn share(&self, what: Use) -> Result<Held, Failure> {
        let mut seen = Seen::default();
        loop {
            let held = self.publish().await?;
            let Some(maintenance) = self.maintenance().await? else { return Ok(held) };
            if seen.stands_still(&maintenance, self.timings.lasts)
                // Else a holder that slept could go on where it was.
                && (what == Use::Reads || self.free(&maintenance).await?)
            {
                return Ok(held);
            }
            // Maintenance waits for every worker that holds a Lease, so a waiting worker holds
            // none.
            held.release().await;
            tracing::info!(holder = holder(&maintenance), "maintenance is under way: waiting until it has ended");
            while let Some(maintenance) = self.maintenance().await? {
                if seen.stands_still(&maintenance, self.timings.lasts) {
                    break;
                }
                tokio::time::sleep(self.timings.looks).await;
            }
        }
    }

    /// Acquires the Lease that excludes all others, once the last of them is released.
    pub async fn exclude(&self) -> Result<Held, Failure> {
        let mut seen = Seen::default();
        let deadline = Instant::now() + self.timings.waits;
        let held = self.take(&mut seen, deadline).await?;
        match self.outwait(&held, &mut seen, deadline).await {
            Ok(()) => Ok(held),
            Err(failure) => {
                // No worker must wait for maintenance that gave up.
                held.release().await;
                Err(failure)
            }
        }
    }

    /// Waits until no worker is left.
    async fn outwait(&self, held: &Held, seen: &mut Seen, deadline: Instant) -> Result<(), Failure> {
        loop {
            let mut workers = Vec::new();
            for lease in self.workers().await? {
                if !seen.stands_still(&lease, self.timings.lasts) || !self.remove(&lease).await? {
                    workers.push(lease.name_any());
                }
            }
            if !held.is_held() {
                return Err(busy("its Lease was lost while it waited for others"));
            }
            if workers.is_empty() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(busy(&format!("these pods still use it: {}", workers.join(", "))));
            }
            tokio::time::sleep(self.timings.looks).await;
        }
    }

    /// Creates this pod's own Lease.
    async fn publish(&self) -> Result<Held, Failure> {
        let sent = Instant::now();
        match self.create(&self.pod).await? {
            Some(lease) => Ok(self.hold(&lease, sent)),
            // Created by an earlier process of this pod, or by a call whose response was lost.
            None => match self.get(&self.pod).await? {
                Some(lease) if holder(&lease) == self.pod => self
                    .assume(&lease)
                    .await?
                    .ok_or_else(|| busy(&format!("the Lease {} changed while it was taken", self.pod))),
                _ => Err(busy(&format!("there is a Lease {} of somebody else: delete it", self.pod))),
            },
        }
    }

    /// Acquires the Lease of maintenance.
    async fn take(&self, seen: &mut Seen, deadline: Instant) -> Result<Held, Failure> {
        let name = self.name_of_maintenance();
        loop {
            let sent = Instant::now();
            match self.get(&name).await? {
                None => {
                    if let Some(lease) = self.create(&name).await? {
                        return Ok(self.hold(&lease, sent));
                    }
                }
                Some(lease) => {
                    let is_free = is_free(&lease) || holder(&lease) == self.pod;
                    if (is_free || seen.stands_still(&lease, self.timings.lasts))
                        && let Some(held) = self.assume(&lease).await?
                    {
                        return Ok(held);
                    }
                    if Instant::now() >= deadline {
                        return Err(busy(&format!("the pod {} maintains it", holder(&lease))));
                    }
                    tokio::time::sleep(self.timings.looks).await;
                }
            }
        }
    }

    /// The Lease of maintenance, if it is held.
    async fn maintenance(&self) -> Result<Option<Lease>, Failure> {
        Ok(self.get(&self.name_of_maintenance()).await?.filter(|lease| !is_free(lease)))
    }

    /// The Leases of workers.
    async fn workers(&self) -> Result<Vec<Lease>, Failure> {
        let of_repository = ListParams::default().labels(&format!("{}={}", labels::LEASED, self.key));
        let listed = retry(|| self.api.list(&of_repository)).await;
        let mut leases = listed.map_err(|error| api_failure("list the Leases on the repository", &error))?.items;
        leases.retain(|lease| lease.name_any() != self.name_of_maintenance());
        Ok(leases)
    }

    fn name_of_maintenance(&self) -> String {
        format!("tenantatlas-maintenance-{}", self.key)
    }

    async fn get(&self, name: &str) -> Result<Option<Lease>, Failure> {
        retry(|| self.api.get_opt(name)).await.map_err(|error| api_failure(&format!("read the Lease {name}"), &error))
    }

    /// Creates a Lease held by this pod. Returns `None` if one of that name exists.
    async fn create(&self, name: &str) -> Result<Option<Lease>, Failure> {
        let now = MicroTime(SystemClock.now());
        let lease = Lease {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                labels: Some(
                    [(labels::LEASED.to_owned(), self.key.clone())]
                        .into_iter()
                        .chain([(labels::MANAGED_BY.to_owned(), labels::MANAGER.to_owned())])
                        .collect(),
                ),
                owner_references: Some(vec![self.run.clone()]),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.pod.clone()),
                lease_duration_seconds: i32::try_from(self.timings.lasts.as_secs().max(1)).ok(),
                acquire_time: Some(now.clone()),
                renew_time: Some(now),
                ..LeaseSpec::default()
            }),
        };
        let parameters = PostParams::default();
        match retry(|| self.api.create(&parameters, &lease)).await {
            Ok(lease) => Ok(Some(lease)),
            Err(Error::Api(status)) if status.is_already_exists() => Ok(None),
            Err(error) => Err(api_failure(&format!("make the Lease {name}"), &error)),
        }
    }

    /// Makes this pod the holder of a Lease. Returns `None` if the Lease has changed since it was
    /// read.
    async fn assume(&self, lease: &Lease) -> Result<Option<Held>, Failure> {
        let sent = Instant::now();
        let now = MicroTime(SystemClock.now());
        let spec = json!({ "holderIdentity": self.pod, "acquireTime": now, "renewTime": now });
        let metadata = json!({ "ownerReferences": [self.run] });
        Ok(self.change(lease, metadata, spec).await?.map(|lease| self.hold(&lease, sent)))
    }

    /// Clears the holder of a Lease. Returns false if the Lease has changed since it was read.
    async fn free(&self, lease: &Lease) -> Result<bool, Failure> {
        tracing::warn!(lease = lease.name_any(), holder = holder(lease), "a Lease was not renewed: it is taken away");
        Ok(self.change(lease, json!({}), json!({ "holderIdentity": "" })).await?.is_some())
    }

    async fn change(&self, lease: &Lease, mut metadata: Value, spec: Value) -> Result<Option<Lease>, Failure> {
        let name = lease.name_any();
        metadata["uid"] = json!(lease.uid());
        metadata["resourceVersion"] = json!(lease.resource_version());
        let body = json!({ "metadata": metadata, "spec": spec });
        let (parameters, patch) = (PatchParams::default(), Patch::Merge(&body));
        match retry(|| self.api.patch(&name, &parameters, &patch)).await {
            Ok(lease) => Ok(Some(lease)),
            Err(Error::Api(status)) if status.is_conflict() || status.is_not_found() => Ok(None),
            Err(error) => Err(api_failure(&format!("change the Lease {name}"), &error)),
        }
    }

    /// Deletes a Lease in the version that was read. Returns whether it is gone.
    async fn remove(&self, lease: &Lease) -> Result<bool, Failure> {
        let name = lease.name_any();
        let preconditions = Preconditions { uid: lease.uid(), resource_version: lease.resource_version() };
        let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        match retry(|| self.api.delete(&name, &parameters)).await {
            Ok(_) => Ok(true),
            Err(Error::Api(status)) if status.is_not_found() => Ok(true),
            Err(Error::Api(status)) if status.is_conflict() => Ok(false),
            Err(error) => Err(api_failure(&format!("remove the Lease {name}"), &error)),
        }
    }

    /// `sent` is when the call was sent that acquired the Lease.
    fn hold(&self, lease: &Lease, sent: Instant) -> Held {
        let state = Arc::new(State(Mutex::new(Known {
            uid: lease.uid().unwrap_or_default(),
            version: lease.resource_version().unwrap_or_default(),
            until: Some(sent + self.timings.holds),
        })));
        let name = lease.name_any();
        let renewing = tokio::spawn(renew(self.clone(), name.clone(), state.clone()));
        Held { leases: self.clone(), name, state, renewing }
    }
}

impl Held {
    /// Whether the holder still relies on the Lease.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.state.is_held()
    }

    /// The permit that belongs to the Lease. It is valid no longer than the Lease.
    #[must_use]
    pub fn permit(&self) -> WriterPermit {
        let state = self.state.clone();
        WriterPermit::new(move || state.is_held())
    }

    /// Releases the Lease. If that fails, the Lease expires by itself.
    pub async fn release(self) {
        self.renewing.abort();
        let (uid, version) = {
            let mut known = self.state.known();
            known.until = None;
            (known.uid.clone(), known.version.clone())
        };
        let metadata = ObjectMeta {
            name: Some(self.name.clone()),
            uid: Some(uid),
            resource_version: Some(version),
            ..ObjectMeta::default()
        };
        match self.leases.remove(&Lease { metadata, spec: None }).await {
            Ok(true) => {}
            // A renewal was in flight.
            Ok(false) => {
                if let Ok(Some(lease)) = self.leases.get(&self.name).await
                    && holder(&lease) == self.leases.pod
                {
                    let _ = self.leases.remove(&lease).await;
                }
            }
            Err(error) => tracing::debug!(%error, lease = self.name, "a Lease was not given back; it runs out"),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.renewing.abort();
        self.state.known().until = None;
    }
}

impl State {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_held(&self) -> bool {
        self.known().until.is_some_and(|until| Instant::now() < until)
    }

    /// Records a successful renewal, unless the Lease was given up meanwhile: a Lease that has
    /// ended is never resumed.
    fn renewed(&self, lease: &Lease, until: Instant) {
        let mut known = self.known();
        if known.until.is_some_and(|believed| Instant::now() < believed) {
            known.version = lease.resource_version().unwrap_or_default();
            known.until = Some(until);
        }
    }
}

/// Renews a Lease until it is lost.
async fn renew(leases: Leases, name: String, state: Arc<State>) {
    let timings = leases.timings;
    let mut pause = timings.renews;
    loop {
        tokio::time::sleep(pause).await;
        if !state.is_held() {
            break;
        }
        let sent = Instant::now();
        let (uid, version) = {
            let known = state.known();
            (known.uid.clone(), known.version.clone())
        };
        let body = json!({
            "metadata": { "uid": uid, "resourceVersion": version },
            "spec": { "renewTime": MicroTime(SystemClock.now()) },
        });
        // The client's timeout is longer than a Lease is held, so one hanging call would lose the
        // Lease. A request that was sent but not awaited may have been applied. The next renewal
        // then conflicts with our own.
        let (parameters, patch) = (PatchParams::default(), Patch::Merge(&body));
        let sending = leases.api.patch(&name, &parameters, &patch);
        let Ok(answer) = tokio::time::timeout(timings.renews, sending).await else {
            tracing::warn!(lease = name, "a Lease was not renewed in time; it is tried again");
            pause = timings.looks;
            continue;
        };
        match answer {
            Ok(lease) => {
                state.renewed(&lease, sent + timings.holds);
                pause = timings.renews;
            }
            Err(Error::Api(status)) if status.is_conflict() => {
                // Either our own renewal, whose response was lost, or the Lease was taken away.
                let found = tokio::time::timeout(timings.renews, leases.get(&name)).await;
                match found.unwrap_or_else(|_| Err(busy("its Lease cannot be read"))) {
                    Ok(Some(lease)) if lease.uid().as_ref() == Some(&uid) && holder(&lease) == leases.pod => {
                        state.renewed(&lease, sent + timings.holds);
                    }
                    Ok(_) => break,
                    Err(_) => pause = timings.looks,
                }
            }
            Err(Error::Api(status)) if status.is_not_found() => break,
            Err(error) => {
                tracing::warn!(%error, lease = name, again = may_pass(&error), "a Lease was not renewed");
                pause = timings.looks;
            }
        }
    }
    state.known().until = None;
    tracing::error!(lease = name, "the Lease on the repository is lost: nothing more is written to it");
}

/// Versions of Leases that a waiting process has seen, and since when, by its own clock.
#[derive(Default)]
struct Seen(HashMap<String, (Option<String>, Instant)>);

impl Seen {
    /// Whether a Lease has been unchanged for this long.
    fn stands_still(&mut self, lease: &Lease, lasts: Duration) -> bool {
        let (version, now) = (lease.resource_version(), Instant::now());
        let (seen, since) = self.0.entry(lease.name_any()).or_insert_with(|| (version.clone(), now));
        if *seen != version {
            (*seen, *since) = (version, now);
        }
        since.elapsed() >= lasts
    }
}

fn holder(lease: &Lease) -> String {
    lease.spec.as_ref().and_then(|spec| spec.holder_identity.clone()).unwrap_or_default()
}

fn is_free(lease: &Lease) -> bool {
    holder(lease).is_empty()
}

fn busy(why: &str) -> Failure {
    Failure::transient(reason::REPOSITORY_BUSY, format!("the repository is in use: {why}: it is tried again"))
}
