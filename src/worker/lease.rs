//! Who uses a repository at the same time: a Lease for each worker, and one that excludes them all.
//!
//! A worker's Lease has its pod's name, that of maintenance a name of the repository's, so that the API server itself refuses a second one.
//! Whoever comes first says so and then looks: a worker makes its Lease and looks for that of maintenance, maintenance takes its and
//! looks for those of workers. So of two that come at once at least one sees the other. A worker that sees maintenance takes
//! its Lease back and waits; maintenance waits until the last worker has gone, and gives up after a while.
//!
//! A Lease that is not renewed runs out: whoever has watched it stand still for [`Timings::lasts`], by the local clock, takes it
//! away, guarded by its version. A holder stops believing in its own well before that ([`Timings::holds`]), and once it has stopped it
//! never begins again. What a Lease says about times is for people.
//!
//! A Lease is no mutual exclusion: a process that stands still between asking for its permit and a request to the store is not
//! stopped by one. That such a write does no harm is [`crate::repository`]'s: content is marked long before it is deleted,
//! nobody relies on what is marked, and a snapshot is read back.

use crate::{
    api::{OperationRun, labels},
    clock::{Clock, SystemClock},
    cluster::retry::{may_pass, retry},
    repository::{Repository, WriterPermit},
    worker::{
        environment::Environment,
        failure::{Failure, api_failure, reason},
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

/// What the derived key is for that tells repositories apart: two that are named differently may be one store.
const PURPOSE: &str = "lease";

/// How a Lease is kept.
#[derive(Clone, Copy, Debug)]
pub struct Timings {
    /// A Lease that nobody has renewed for so long is nobody's.
    pub lasts: Duration,
    /// A holder that could not renew for so long holds it no more. What it had begun then has the rest of `lasts` to end.
    pub holds: Duration,
    /// Time between two renewals.
    pub renews: Duration,
    /// Time between two looks of who waits.
    pub looks: Duration,
    /// How long maintenance waits for workers. Those that come meanwhile wait for it.
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

/// What a worker does with the repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// It reads. Its account may write no Lease but its own.
    Reads,
    /// It writes a snapshot.
    Writes,
}

/// The Leases of one repository, as one pod sees them.
#[derive(Clone)]
pub struct Leases {
    api: Api<Lease>,
    /// Tells repositories of a namespace apart.
    key: String,
    pod: String,
    /// With it a Lease that was left behind goes.
    run: OwnerReference,
    timings: Timings,
}

/// A Lease that is held, and renewed until it is dropped.
pub struct Held {
    leases: Leases,
    name: String,
    state: Arc<State>,
    renewing: JoinHandle<()>,
}

/// What a holder knows of its Lease.
struct State(Mutex<Known>);

struct Known {
    uid: String,
    version: String,
    /// When it stops believing in it; none once it has.
    until: Option<Instant>,
}

impl Leases {
    /// The Leases of an opened repository.
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

    /// The same, kept in another rhythm.
    #[must_use]
    pub fn with_timings(self, timings: Timings) -> Self {
        Self { timings, ..self }
    }

    /// Takes a Lease that workers hold beside each other, once no maintenance is under way.
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
            // It waits for all that are there, so nobody waits for it who is.
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

    /// Takes the Lease that excludes all others, once the last of them has gone.
    pub async fn exclude(&self) -> Result<Held, Failure> {
        let mut seen = Seen::default();
        let deadline = Instant::now() + self.timings.waits;
        let held = self.take(&mut seen, deadline).await?;
        match self.outwait(&held, &mut seen, deadline).await {
            Ok(()) => Ok(held),
            Err(failure) => {
                // Nobody shall wait for one that gave up.
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

    /// Makes this pod's own Lease.
    async fn publish(&self) -> Result<Held, Failure> {
        let sent = Instant::now();
        match self.create(&self.pod).await? {
            Some(lease) => Ok(self.hold(&lease, sent)),
            // Made by a process of this pod before, or by a call whose answer was lost.
            None => match self.get(&self.pod).await? {
                Some(lease) if holder(&lease) == self.pod => self
                    .assume(&lease)
                    .await?
                    .ok_or_else(|| busy(&format!("the Lease {} changed while it was taken", self.pod))),
                _ => Err(busy(&format!("there is a Lease {} of somebody else: delete it", self.pod))),
            },
        }
    }

    /// Takes the Lease of maintenance.
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

    /// The Lease of maintenance, if somebody holds it.
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

    /// Makes a Lease of this pod; none where there is one of that name.
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

    /// Makes a Lease this pod's, as it was looked at; none where it has changed since.
    async fn assume(&self, lease: &Lease) -> Result<Option<Held>, Failure> {
        let sent = Instant::now();
        let now = MicroTime(SystemClock.now());
        let spec = json!({ "holderIdentity": self.pod, "acquireTime": now, "renewTime": now });
        let metadata = json!({ "ownerReferences": [self.run] });
        Ok(self.change(lease, metadata, spec).await?.map(|lease| self.hold(&lease, sent)))
    }

    /// Takes a Lease from its holder, as it was looked at; whether it had not changed since.
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

    /// Removes a Lease as it was looked at; whether it is gone.
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

    /// `sent`: when the call was sent that made it ours.
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
    /// Whether it is still believed in.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.state.is_held()
    }

    /// The permit that goes with it. It does not outlast it.
    #[must_use]
    pub fn permit(&self) -> WriterPermit {
        let state = self.state.clone();
        WriterPermit::new(move || state.is_held())
    }

    /// Gives it back. One that cannot be given back runs out by itself.
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
            // A renewal was on its way.
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

    /// It is ours as of a call that was sent then, unless it was given up meanwhile: what has ended does not begin again.
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
        // The client waits longer for an answer than a Lease is held: one call that hangs would lose it. What was sent and not waited
        // for may have arrived; then the next one is a conflict with ourselves.
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
                // Our own renewal, whose answer was lost; or it was taken away.
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

/// What a waiting process has seen of Leases: their versions, and since when, by its own clock.
#[derive(Default)]
struct Seen(HashMap<String, (Option<String>, Instant)>);

impl Seen {
    /// Whether a Lease has been as it is for so long.
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
