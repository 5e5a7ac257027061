//! Entries appended to a tenant's audit chain.
//!
//! A create under the next number is the compare-and-swap: of two writers the API server refuses one, which reads what the
//! other wrote and takes the number after. Numbers are contiguous and nobody deletes an entry, so the last one is found by
//! trying numbers: twice as many calls as its number has binary digits, and never a list of the chain.
//!
//! What a run has said it does not say again: an attempt that follows one that died finds its entries by their label.

use crate::{
    api::{AuditEntry, AuditEntrySpec, audit_entry::AuditEvent, labels},
    audit::{Entry, Metadata, Place, Tip, successor},
    cluster::retry::retry,
    worker::{
        environment::RunIdentity,
        failure::{Failure, api_failure, reason},
    },
};
use kube::{
    Api, Client, ResourceExt,
    api::{DynamicObject, ListParams, ObjectMeta, PostParams},
    core::ApiResource,
};
use std::collections::BTreeMap;

/// Appends what a run has to say, unless it has said so before. `spec.previous` is filled in here. The entry's name.
pub async fn append(client: &Client, run: &RunIdentity, spec: AuditEntrySpec) -> Result<String, Failure> {
    if let Some(said) = find_said(client, run, &spec).await? {
        return Ok(said);
    }
    let chain = Chain::of(client, &run.namespace);
    let entries: Api<AuditEntry> = Api::namespaced(client.clone(), &run.namespace);
    let parameters = PostParams::default();
    let mut tip = chain.tip().await?;
    loop {
        let (place, spec) = successor(tip.as_ref(), spec.clone());
        let mut entry = AuditEntry::new(&place.to_string(), spec);
        entry.metadata = ObjectMeta {
            namespace: Some(run.namespace.clone()),
            labels: Some(BTreeMap::from([(labels::RUN_UID.to_owned(), run.run_uid.clone())])),
            ..entry.metadata
        };
        match retry(|| entries.create(&parameters, &entry)).await {
            Ok(created) => return Ok(created.name_any()),
            Err(kube::Error::Api(status)) if status.is_already_exists() => {
                let present = chain.get(place).await?.ok_or_else(|| gone(place))?;
                // Not another's: the answer to our own create was lost.
                if serde_json::from_value(present.spec.clone())
                    .is_ok_and(|present| says_the_same(&present, &entry.spec))
                {
                    return Ok(place.to_string());
                }
                tip = Tip::of(&present);
            }
            Err(error) => return Err(api_failure("write into the audit chain", &error)),
        }
    }
}

/// Whether an earlier attempt of the run has said what it intends, and so may have begun.
pub async fn has_intent(client: &Client, run: &RunIdentity) -> Result<bool, Failure> {
    Ok(of_run(client, run).await?.iter().any(|entry| entry.spec.event == AuditEvent::Intent))
}

/// The last entry of a namespace's chain; none if there is no entry.
pub async fn tip(client: &Client, namespace: &str) -> Result<Option<Tip>, Failure> {
    Chain::of(client, namespace).tip().await
}

/// The entry in which an earlier attempt of the run said the same.
async fn find_said(client: &Client, run: &RunIdentity, spec: &AuditEntrySpec) -> Result<Option<String>, Failure> {
    let said = of_run(client, run).await?;
    Ok(said.iter().find(|entry| says_the_same(&entry.spec, spec)).map(ResourceExt::name_any))
}

/// The entries that attempts of the run wrote. Others may bear its label too: who reads them compares the run.
async fn of_run(client: &Client, run: &RunIdentity) -> Result<Vec<AuditEntry>, Failure> {
    let entries: Api<AuditEntry> = Api::namespaced(client.clone(), &run.namespace);
    let of_run = ListParams::default().labels(&format!("{}={}", labels::RUN_UID, run.run_uid));
    let listed = retry(|| entries.list(&of_run))
        .await
        .map_err(|error| api_failure("look for the audit entries of an earlier attempt", &error))?;
    Ok(listed.items.into_iter().filter(|entry| entry.spec.run.uid == run.run_uid).collect())
}

/// Whether two entries say the same, if at different times.
fn says_the_same(one: &AuditEntrySpec, other: &AuditEntrySpec) -> bool {
    *one == AuditEntrySpec { at: one.at, previous: one.previous.clone(), ..other.clone() }
}

fn gone(place: Place) -> Failure {
    Failure::transient(
        reason::API_REFUSED,
        format!("the audit entry {place} is there and not there: its namespace may be about to go"),
    )
}

/// A chain, read as it is stored: fields that a newer version wrote count in the hashes too.
struct Chain {
    entries: Api<DynamicObject>,
}

impl Chain {
    fn of(client: &Client, namespace: &str) -> Self {
        let entries = ApiResource::erase::<AuditEntry>(&());
        Self { entries: Api::namespaced_with(client.clone(), namespace, &entries) }
    }

    async fn get(&self, place: Place) -> Result<Option<Entry>, Failure> {
        let name = place.to_string();
        let found = retry(|| self.entries.get_opt(&name))
            .await
            .map_err(|error| api_failure(&format!("read the audit entry {name}"), &error))?;
        Ok(found.map(stored))
    }

    /// Doubles the number until nothing is there, then halves what lies between.
    async fn tip(&self) -> Result<Option<Tip>, Failure> {
        let (mut last, mut there, mut not_there) = (None, 0, 1);
        while let Some(entry) = self.at(not_there).await? {
            (last, there, not_there) = (Some(entry), not_there, not_there * 2);
        }
        while not_there - there > 1 {
            let between = there.midpoint(not_there);
            match self.at(between).await? {
                Some(entry) => (last, there) = (Some(entry), between),
                None => not_there = between,
            }
        }
        Ok(last.as_ref().and_then(Tip::of))
    }

    async fn at(&self, number: u64) -> Result<Option<Entry>, Failure> {
        match Place::new(number) {
            Some(place) => self.get(place).await,
            None => Ok(None),
        }
    }
}

/// What counts of an entry.
fn stored(mut object: DynamicObject) -> Entry {
    let metadata = Metadata { name: object.name_any(), namespace: object.namespace().unwrap_or_default() };
    Entry { metadata, spec: object.data["spec"].take() }
}
