//! Entries appended to a tenant's audit chain.
//!
//! A create under the first free number is the compare-and-swap: of two writers the API server refuses one, which looks
//! again. What the chain is, and where it goes on, is said in [`crate::audit`]; it takes all entries of the namespace, a page at a
//! time. Whatever else stands among them is passed over: nothing that somebody wrote there ends a restore.
//!
//! What a run has said it does not say again: an attempt that follows one that died finds its entries by their label.

use crate::{
    api::{
        AuditEntry,
        audit_entry::{AuditEvent, AuditRecord},
        labels,
    },
    audit::{Chain, Entry, Metadata, Tip, successor},
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

/// Entries in a page: at their longest, a few MiB.
const PAGE: u32 = 100;

/// How often a place may be lost to another writer.
const MOST_RACES: usize = 1000;

/// Appends what a run has to say, unless it has said so before. Name, namespace and hash of the one before are filled in
/// here. The entry's name.
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
            // Another's; or ours, whose answer was lost, and then it is found.
            Err(kube::Error::Api(status)) if status.is_already_exists() => {}
            Err(error) => return Err(api_failure("write into the audit chain", &error)),
        }
    }
    Err(Failure::transient(
        reason::API_REFUSED,
        "the next place in the audit chain was another's each time: too many restores in this namespace at once",
    ))
}

/// Whether an earlier attempt of the run has said what it intends, and so may have begun.
pub async fn has_intent(client: &Client, run: &RunIdentity) -> Result<bool, Failure> {
    Ok(of_run(client, run).await?.iter().any(|(_, record)| record.event == AuditEvent::Intent))
}

/// The last entry of a namespace's chain; none if there is no entry.
pub async fn tip(client: &Client, namespace: &str) -> Result<Option<Tip>, Failure> {
    Ok(read(client, namespace).await?.tip())
}

/// The entry in which an earlier attempt of the run said the same.
async fn find_said(client: &Client, run: &RunIdentity, record: &AuditRecord) -> Result<Option<String>, Failure> {
    let said = of_run(client, run).await?;
    Ok(said.into_iter().find(|(_, said)| says_the_same(said, record)).map(|(name, _)| name))
}

/// The entries that attempts of the run wrote: pods of its Job. Others may bear its label too.
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

/// The name of a Job, by that of its pod.
fn job_of(pod: &str) -> &str {
    pod.rsplit_once('-').map_or(pod, |(job, _)| job)
}

/// Whether two records say the same, if at different times, in different places and from different pods.
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

/// All entries of a namespace, as they are stored: also those that another version wrote, or somebody else.
async fn read(client: &Client, namespace: &str) -> Result<Chain, Failure> {
    let entries: Api<DynamicObject> =
        Api::namespaced_with(client.clone(), namespace, &ApiResource::erase::<AuditEntry>(&()));
    let mut chain = Chain::default();
    let mut page = ListParams::default().limit(PAGE);
    loop {
        let listed = match retry(|| entries.list(&page)).await {
            Ok(listed) => listed,
            // The list went on for longer than the API server keeps one: from its beginning again.
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

/// What counts of an entry.
fn stored(mut object: DynamicObject) -> Entry {
    let metadata = Metadata { name: object.name_any(), namespace: object.namespace().unwrap_or_default() };
    Entry { metadata, spec: object.data["spec"].take() }
}
