//! Appends entries to a tenant's audit chain.
//!
//! Creating an entry under the first free number is the compare-and-swap: if two writers race, the
//! API server rejects one, which then reads the chain again. [`crate::audit`] defines the chain and
//! where it continues. Finding the end takes all entries of the namespace, one page at a time.
//! Anything else in the namespace's entries is skipped, so nothing that a user writes there can
//! fail a restore.
//!
//! A run never records the same entry twice: an attempt after a crash finds the entries of the
//! earlier attempt by their label.

use crate::{
    api::reason::worker as reason,
    api::{
        AuditEntry,
        audit_entry::{AuditEvent, AuditRecord},
        labels,
    },
    audit::{Chain, Entry, Metadata, Tip, successor},
    cluster::retry::retry,
    worker::{
        environment::RunIdentity,
        failure::{Failure, api_failure},
    },
};
use kube::{
    Api, Client, ResourceExt,
    api::{DynamicObject, ListParams, ObjectMeta, PostParams},
    core::ApiResource,
};
use std::collections::BTreeMap;

/// Entries per page: a few MiB at most.
const PAGE: u32 = 100;

/// How often an append may lose its place to another writer.
const MOST_RACES: usize = 1000;

/// Appends a run's record, unless an earlier attempt appended it, and returns the name of the
/// entry. Name, namespace and the hash of the previous entry are filled in here.
pub async fn append(client: &Client, run: &RunIdentity, record: AuditRecord) -> Result<String, Failure> {
    let api: Api<AuditEntry> = Api::namespaced(client.clone(), &run.namespace);
    let parameters = PostParams::default();
    for _ in 0..MOST_RACES {
        if let Some(said) = find_said(client, run, &record).await? {
            return Ok(said);
        }
        let chain = read(client, &run.namespace).await?;
        let tip = chain.tip();
        let place = chain.vacant(tip.as_ref()).ok_or_else(|| full(&run.namespace))?;
        let mut entry =
            AuditEntry::new(&place.to_string(), successor(tip.as_ref(), place, &run.namespace, record.clone()));
        entry.metadata = ObjectMeta {
            namespace: Some(run.namespace.clone()),
            labels: Some(BTreeMap::from([(labels::RUN_UID.to_owned(), run.run_uid.clone())])),
            ..entry.metadata
        };
        match retry(|| api.create(&parameters, &entry)).await {
            Ok(created) => return Ok(created.name_any()),
            // Another writer's entry, or our own whose response was lost. The next lookup finds the
            // latter.
            Err(kube::Error::Api(status)) if status.is_already_exists() => {}
            Err(error) => return Err(api_failure("write into the audit chain", &error)),
        }
    }
    Err(Failure::transient(
        reason::API_REFUSED,
        "the next place in the audit chain was another's each time: too many restores in this namespace at once",
    ))
}

/// Whether an earlier attempt of the run recorded its intent, and so may have started to write.
pub async fn has_intent(client: &Client, run: &RunIdentity) -> Result<bool, Failure> {
    Ok(intent(client, run).await?.is_some())
}

/// The intent that an earlier attempt of the run recorded.
pub async fn intent(client: &Client, run: &RunIdentity) -> Result<Option<AuditRecord>, Failure> {
    let said = of_run(client, run).await?;
    Ok(said.into_iter().map(|(_, record)| record).find(|record| record.event == AuditEvent::Intent))
}

/// The last entry of a namespace's chain, or `None` if there is no entry.
pub async fn tip(client: &Client, namespace: &str) -> Result<Option<Tip>, Failure> {
    Ok(read(client, namespace).await?.tip())
}

/// Name of the entry in which an earlier attempt recorded the same.
async fn find_said(client: &Client, run: &RunIdentity, record: &AuditRecord) -> Result<Option<String>, Failure> {
    let said = of_run(client, run).await?;
    Ok(said.into_iter().find(|(_, said)| says_the_same(said, record)).map(|(name, _)| name))
}

/// Entries written by attempts of the run, that is by pods of its Job. Other entries may have its
/// label too.
async fn of_run(client: &Client, run: &RunIdentity) -> Result<Vec<(String, AuditRecord)>, Failure> {
    let entries: Api<AuditEntry> = Api::namespaced(client.clone(), &run.namespace);
    let of_run = ListParams::default().labels(&format!("{}={}", labels::RUN_UID, run.run_uid));
    let listed = retry(|| entries.list(&of_run))
        .await
        .map_err(|error| api_failure("look for the audit entries of an earlier attempt", &error))?;
    let mine = |entry: &AuditEntry, record: &AuditRecord| {
        record.run.uid == run.run_uid && job_of(&entry.spec.pod) == job_of(&run.pod)
    };
    let said = listed.items.into_iter().filter_map(|entry| {
        let record = entry.spec.record().filter(|record| mine(&entry, record))?;
        Some((entry.name_any(), record))
    });
    Ok(said.collect())
}

/// Name of the Job that a pod belongs to.
fn job_of(pod: &str) -> &str {
    pod.rsplit_once('-').map_or(pod, |(job, _)| job)
}

/// Whether two records are equal except for their time, their place in the chain and their pod.
fn says_the_same(one: &AuditRecord, other: &AuditRecord) -> bool {
    let other = AuditRecord {
        name: one.name.clone(),
        namespace: one.namespace.clone(),
        previous: one.previous.clone(),
        pod: one.pod.clone(),
        at: one.at,
        ..other.clone().bounded()
    };
    *one == other
}

fn full(namespace: &str) -> Failure {
    Failure::permanent(
        reason::API_REFUSED,
        format!("no number is left for an entry of the audit chain in namespace {namespace}"),
    )
}

/// Reads all entries of a namespace as stored, including those of another version or of a user.
async fn read(client: &Client, namespace: &str) -> Result<Chain, Failure> {
    let entries: Api<DynamicObject> =
        Api::namespaced_with(client.clone(), namespace, &ApiResource::erase::<AuditEntry>(&()));
    let mut chain = Chain::default();
    let mut page = ListParams::default().limit(PAGE);
    loop {
        let listed = match retry(|| entries.list(&page)).await {
            Ok(listed) => listed,
            // The continue token expired. Start again from the first page.
            Err(kube::Error::Api(status)) if status.code == 410 && page.continue_token.is_some() => {
                page.continue_token = None;
                chain = Chain::default();
                continue;
            }
            Err(error) => return Err(api_failure("read the audit chain", &error)),
        };
        for object in listed.items {
            chain.add(&stored(object));
        }
        page.continue_token = listed.metadata.continue_.filter(|token| !token.is_empty());
        if page.continue_token.is_none() {
            return Ok(chain);
        }
    }
}

/// The parts of an entry that the chain depends on.
fn stored(mut object: DynamicObject) -> Entry {
    let metadata = Metadata { name: object.name_any(), namespace: object.namespace().unwrap_or_default() };
    Entry { metadata, spec: object.data["spec"].take() }
}
