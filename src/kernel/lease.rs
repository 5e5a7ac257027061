//! Leader election on a Lease, with client-go's timings.
//!
//! Times are measured on the local clock alone. A candidate waits until the record it observed has
//! not changed for a whole lease duration; it never compares the times in the record with its own
//! clock. A Lease is not mutual exclusion, so every write is also guarded by a name, a uid or a
//! resource version.

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api, Client, ResourceExt,
    api::{ObjectMeta, PostParams},
};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How long a lease lasts without renewal.
pub const LEASE_DURATION: Duration = Duration::from_secs(15);
/// How long the leader retries a renewal before it gives up.
pub const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// Time between two attempts.
pub const RETRY_PERIOD: Duration = Duration::from_secs(2);

/// Whether the leader's last renewal is recent, for those who are about to act on its behalf.
///
/// A process that was stopped (or starved) for longer than the Lease lasts resumes where it was,
/// with caches that are as old. Its elector notices the loss only a moment later. Whatever starts
/// in that moment would be decided on a view that the next leader has already changed.
#[derive(Clone, Debug)]
pub struct Term(watch::Receiver<Instant>);

impl Term {
    /// Whether the Lease was renewed within [`RENEW_DEADLINE`], by the local clock.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.0.borrow().elapsed() < RENEW_DEADLINE
    }
}

/// A candidate for one Lease.
pub struct Elector {
    api: Api<Lease>,
    name: String,
    identity: String,
    /// The record as last observed, and when (local clock).
    observed: Option<(LeaseSpec, Instant)>,
    /// When the last successful renewal was sent.
    renewed: watch::Sender<Instant>,
}

impl Elector {
    /// Creates a candidate with this identity (the name of the pod) for a Lease in a namespace.
    #[must_use]
    pub fn new(client: Client, namespace: &str, name: &str, identity: &str) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            name: name.to_owned(),
            identity: identity.to_owned(),
            observed: None,
            renewed: watch::Sender::new(Instant::now()),
        }
    }

    /// The leader's term; it means nothing before [`Elector::acquire`] has returned.
    #[must_use]
    pub fn term(&self) -> Term {
        Term(self.renewed.subscribe())
    }

    /// Waits until this candidate holds the Lease.
    pub async fn acquire(&mut self) {
        loop {
            match self.try_acquire_or_renew().await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, lease = self.name, "lease not reached; it is tried again"),
            }
            tokio::time::sleep(RETRY_PERIOD).await;
        }
    }

    /// Renews the Lease until renewals have failed for [`RENEW_DEADLINE`]. After it returns,
    /// nothing may be written any more.
    pub async fn hold(&mut self) {
        loop {
            tokio::time::sleep(RETRY_PERIOD).await;
            let left = RENEW_DEADLINE.saturating_sub(self.renewed.borrow().elapsed());
            match tokio::time::timeout(left, self.try_acquire_or_renew()).await {
                Ok(Ok(false)) => {
                    tracing::error!(lease = self.name, "another replica leads");
                    return;
                }
                Ok(Err(error)) => tracing::warn!(%error, lease = self.name, "lease not renewed; it is tried again"),
                Ok(Ok(true)) | Err(_) => {}
            }
            if self.renewed.borrow().elapsed() >= RENEW_DEADLINE {
                tracing::error!(lease = self.name, "lease lost: not renewed in {RENEW_DEADLINE:?}");
                return;
            }
        }
    }

    /// Releases the Lease, so that the next replica need not wait.
    pub async fn release(&mut self) {
        let Ok(Some(mut lease)) = self.api.get_opt(&self.name).await else { return };
        if let Some(spec) = lease.spec.as_mut().filter(|spec| spec.holder_identity.as_deref() == Some(&self.identity)) {
            spec.holder_identity = Some(String::new());
            spec.lease_duration_seconds = Some(1);
            if let Err(error) = self.api.replace(&self.name, &PostParams::default(), &lease).await {
                tracing::debug!(%error, "lease not released; it runs out by itself");
            }
        }
    }

    async fn try_acquire_or_renew(&mut self) -> Result<bool, kube::Error> {
        let sent = Instant::now();
        let Some(lease) = self.api.get_opt(&self.name).await? else {
            let lease = Lease {
                metadata: ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() },
                spec: Some(self.record(None)),
            };
            return match self.api.create(&PostParams::default(), &lease).await {
                Ok(lease) => Ok(self.note(lease, sent)),
                Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(false),
                Err(error) => Err(error),
            };
        };
        let spec = lease.spec.clone().unwrap_or_default();
        if self.observed.as_ref().is_none_or(|(seen, _)| *seen != spec) {
            self.observed = Some((spec.clone(), Instant::now()));
        }
        let holder = spec.holder_identity.as_deref().unwrap_or_default();
        let expired = self.observed.as_ref().is_some_and(|(spec, seen)| {
            let lasts = spec
                .lease_duration_seconds
                .and_then(|seconds| u64::try_from(seconds).ok())
                .map_or(LEASE_DURATION, Duration::from_secs);
            seen.elapsed() >= lasts
        });
        if !holder.is_empty() && holder != self.identity && !expired {
            return Ok(false);
        }
        // The resource version makes this a compare-and-swap.
        let next = Lease {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                resource_version: lease.resource_version(),
                ..ObjectMeta::default()
            },
            spec: Some(self.record(Some(&spec))),
        };
        match self.api.replace(&self.name, &PostParams::default(), &next).await {
            Ok(lease) => Ok(self.note(lease, sent)),
            Err(kube::Error::Api(status)) if status.is_conflict() => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn note(&mut self, lease: Lease, sent: Instant) -> bool {
        self.renewed.send_replace(sent);
        self.observed = lease.spec.map(|spec| (spec, Instant::now()));
        true
    }

    fn record(&self, before: Option<&LeaseSpec>) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        let ours = before.filter(|before| before.holder_identity.as_deref() == Some(&self.identity));
        let transitions = before.and_then(|before| before.lease_transitions).unwrap_or(0);
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(LEASE_DURATION.as_secs()).ok(),
            acquire_time: ours.and_then(|ours| ours.acquire_time.clone()).or_else(|| Some(now.clone())),
            renew_time: Some(now),
            lease_transitions: Some(if ours.is_some() || before.is_none() { transitions } else { transitions + 1 }),
            ..LeaseSpec::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_term_ends_when_the_lease_was_not_renewed_in_time_whoever_notices_first() {
        let renewed = watch::Sender::new(Instant::now());
        let term = Term(renewed.subscribe());
        assert!(term.is_current());
        let ago = |time| Instant::now().checked_sub(time).expect("the machine runs for longer");
        renewed.send_replace(ago(RENEW_DEADLINE / 2));
        assert!(term.is_current());
        renewed.send_replace(ago(RENEW_DEADLINE));
        assert!(!term.is_current());
        renewed.send_replace(Instant::now());
        assert!(term.is_current());
    }
}
