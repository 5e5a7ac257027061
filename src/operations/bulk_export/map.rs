//! The ConfigMap of an export: the objects as YAML, and what became of each.
//!
//! It has the name of the run, and is created once: its account may not change it, and it is immutable
//! for everybody else. So an attempt after a crash reports what the one before it has written. It is
//! owned by the BulkOperationRun, which names it, and goes with it. The API server lets nobody but the
//! pods of exports name such an owner (admission/exports.yaml), so that nobody can write a result here
//! before the worker does. Who reads the ConfigMap can compare it with the digest in the status.

use crate::{
    api::{
        BulkOperationRun, ObjectReference,
        labels::{MANAGED_BY, MANAGER},
        outcome::{ItemFailure, MAX_FAILURES, SummaryCounts},
        reason::{bulk as reason, worker},
        result::truncate,
    },
    cluster::retry::retry,
    worker::{
        environment::RunIdentity,
        failure::{Failure, api_failure},
    },
};
use k8s_openapi::{api::core::v1::ConfigMap, apimachinery::pkg::apis::meta::v1::OwnerReference};
use kube::{
    Api, Client, Resource,
    api::{ObjectMeta, PostParams},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;

/// Key of the objects.
pub const OBJECTS: &str = "objects.yaml";

/// Key of what became of them.
const RESULT: &str = "result.json";

/// Longest id, code and message of an item in a result, in bytes: the limits of the schema.
const MAX_ID: usize = 600;
const MAX_CODE: usize = 128;
const MAX_MESSAGE: usize = 1000;

/// What became of the objects of an export.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Ended {
    /// Number of objects by result.
    pub summary_counts: SummaryCounts,
    /// Objects that are not in the ConfigMap, at most as many as a status names.
    pub failures: Vec<ItemFailure>,
    /// Whether there are more.
    pub failures_truncated: bool,
}

/// What is in the ConfigMap of an export.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    /// What became of the objects.
    pub ended: Ended,
    /// SHA-256 of the objects as they were written, in hexadecimal digits.
    pub digest: String,
}

impl Written {
    fn new(ended: Ended, objects: &str) -> Self {
        Self { ended, digest: hex::encode(Sha256::digest(objects)) }
    }
}

/// What an earlier attempt of the run has exported, if one has. Fails if the name of the ConfigMap is
/// taken.
pub async fn earlier(client: &Client, own: &RunIdentity, bulk: &ObjectReference) -> Result<Option<Written>, Failure> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &own.namespace);
    let found = retry(|| maps.get_opt(&own.run)).await;
    let found = found.map_err(|error| api_failure(&format!("read the ConfigMap {}", own.run), &error))?;
    let Some(map) = found else { return Ok(None) };
    let written = read(&map, bulk).ok_or_else(|| {
        let message = format!(
            "delete the ConfigMap {}, or choose another name for a new bulk operation: an export is written to a ConfigMap of this name, and this one is not its own",
            own.run
        );
        Failure::blocked(reason::EXPORT_NAME_TAKEN, message)
    })?;
    Ok(Some(written))
}

/// What a ConfigMap says that is the export of this bulk operation.
fn read(map: &ConfigMap, bulk: &ObjectReference) -> Option<Written> {
    // Another group than ours is not what the API server reserves for exports.
    let is_its = map.metadata.owner_references.iter().flatten().any(|owner| *owner == owner_of(bulk));
    let data = map.data.as_ref().filter(|_| is_its && map.immutable == Some(true))?;
    let objects = data.get(OBJECTS)?;
    let mut ended: Ended = serde_json::from_str(data.get(RESULT)?).ok()?;
    // With admission off, whoever may create ConfigMaps may have written it.
    if ended.failures.iter().any(|failure| failure.item_id.len() > MAX_ID || failure.reason_code.len() > MAX_CODE) {
        return None;
    }
    ended.failures_truncated |= ended.failures.len() > MAX_FAILURES;
    ended.failures.truncate(MAX_FAILURES);
    for failure in &mut ended.failures {
        failure.message = truncate(&failure.message, MAX_MESSAGE);
    }
    ended.summary_counts.add_up().then(|| Written::new(ended, objects))
}

/// How the ConfigMap names the BulkOperationRun.
fn owner_of(bulk: &ObjectReference) -> OwnerReference {
    OwnerReference {
        api_version: BulkOperationRun::api_version(&()).into_owned(),
        kind: BulkOperationRun::kind(&()).into_owned(),
        name: bulk.name.clone(),
        uid: bulk.uid.clone(),
        ..OwnerReference::default()
    }
}

/// Creates the ConfigMap. If another pod of this run was faster, its ConfigMap counts.
pub async fn create(
    client: &Client,
    own: &RunIdentity,
    bulk: &ObjectReference,
    objects: String,
    ended: Ended,
) -> Result<Written, Failure> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &own.namespace);
    let result = serde_json::to_string(&ended).unwrap_or_default();
    let written = Written::new(ended, &objects);
    let map = ConfigMap {
        metadata: ObjectMeta {
            name: Some(own.run.clone()),
            namespace: Some(own.namespace.clone()),
            labels: Some(BTreeMap::from([(MANAGED_BY.to_owned(), MANAGER.to_owned())])),
            owner_references: Some(vec![owner_of(bulk)]),
            ..ObjectMeta::default()
        },
        immutable: Some(true),
        data: Some(BTreeMap::from([(OBJECTS.to_owned(), objects), (RESULT.to_owned(), result)])),
        ..ConfigMap::default()
    };
    let parameters = PostParams::default();
    match retry(|| maps.create(&parameters, &map)).await {
        Ok(_) => Ok(written),
        Err(kube::Error::Api(status)) if status.is_already_exists() => {
            earlier(client, own, bulk).await?.ok_or_else(|| {
                let message = format!("the ConfigMap {} was deleted while it was created: it is tried again", own.run);
                Failure::transient(worker::INTERRUPTED, message)
            })
        }
        Err(error) => Err(api_failure(&format!("create the ConfigMap {}", own.run), &error)),
    }
}
