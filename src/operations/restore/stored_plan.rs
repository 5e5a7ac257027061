//! Stores a plan so that it can be executed later exactly as it is: by the restore that a preview
//! was made for, or by an attempt after a crash.
//!
//! A plan is stored in the repository, as documents of its run ([`crate::repository`]), because it
//! is as large as the tenant. The run's reports show users which items differ, warn or fail.
//!
//! The parts are named after the plan's digest, and the document with the digest is written last.
//! So parts of two plans are never mixed, and an incomplete plan is not a plan. A plan that is read
//! back must have the digest: a repository is untrusted.
//!
//! Must not: decide whether a plan still applies. That is the job of `apply`.

use crate::{
    api::reason::restore as reason,
    api::{
        item::{InvalidItem, ItemId},
        operation_report::PlannedObject,
    },
    items::plan::{Plan, PlannedItem, Terms},
    repository::Repository,
    worker::failure::Failure,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Items per part.
const PART: usize = 2000;

/// The document that names the parts.
const HEAD: &str = "plan";

/// The document with the failed items, if reports do not name them all.
const FAILED: &str = "failed";

/// Contents of the document that names the parts.
#[derive(Serialize, Deserialize)]
struct Head {
    digest: String,
    parts: usize,
}

/// An item of a plan, with the hashes it was decided from.
#[derive(Serialize, Deserialize)]
struct Row {
    #[serde(flatten)]
    object: PlannedObject,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    live: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    wanted: Option<String>,
}

impl Row {
    fn of(planned: &PlannedItem) -> Self {
        Self { object: planned.to_report(None), live: planned.live.clone(), wanted: planned.wanted.clone() }
    }

    fn into_item(self) -> Result<PlannedItem, InvalidItem> {
        PlannedItem::from_report(self.object, self.live, self.wanted)
    }
}

/// Stores the plan of a run.
pub async fn put(repository: &impl Repository, run_uid: &str, plan: &Plan) -> Result<(), Failure> {
    let digest = plan.digest();
    let parts = plan.items().chunks(PART);
    let head = Head { digest: digest.clone(), parts: parts.len() };
    for (place, items) in parts.enumerate() {
        let rows: Vec<Row> = items.iter().map(Row::of).collect();
        repository.put_document(run_uid, &part(&digest, place), json(&rows)).await?;
    }
    Ok(repository.put_document(run_uid, HEAD, json(&head)).await?)
}

/// The digest of the plan that a run has stored, if any.
pub async fn digest(repository: &impl Repository, run_uid: &str) -> Result<Option<String>, Failure> {
    Ok(find::<Head>(repository, run_uid, HEAD).await?.map(|head| head.digest))
}

/// The plan with this digest that a run has stored. Returns `None` if it is incomplete or was
/// changed.
pub async fn read(
    repository: &impl Repository,
    run_uid: &str,
    digest: &str,
    terms: Terms,
) -> Result<Option<Plan>, Failure> {
    let head = find::<Head>(repository, run_uid, HEAD).await?.filter(|head| head.digest == digest);
    let Some(head) = head else { return Ok(None) };
    let mut items = Vec::new();
    for place in 0..head.parts {
        let Some(rows) = find::<Vec<Row>>(repository, run_uid, &part(digest, place)).await? else { return Ok(None) };
        for row in rows {
            let Ok(item) = row.into_item() else { return Ok(None) };
            items.push(item);
        }
    }
    Ok(Some(Plan::stored(terms, items)).filter(|plan| plan.digest() == digest))
}

/// Stores the items that failed.
pub async fn put_failed(repository: &impl Repository, run_uid: &str, failed: &[String]) -> Result<(), Failure> {
    Ok(repository.put_document(run_uid, FAILED, json(failed)).await?)
}

/// The items that failed, if they were stored.
pub async fn failed(repository: &impl Repository, run_uid: &str) -> Result<Option<Vec<ItemId>>, Failure> {
    let failed = find::<Vec<String>>(repository, run_uid, FAILED).await?;
    Ok(failed.map(|failed| failed.iter().filter_map(|item| ItemId::of_object(item).ok()).collect()))
}

fn part(digest: &str, place: usize) -> String {
    format!("{HEAD}-{}-{place:05}", digest.get(..16).unwrap_or(digest))
}

fn json(value: &(impl Serialize + ?Sized)) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

/// Reads and parses a document. A document that cannot be parsed is not one of ours: the plan is
/// lost.
async fn find<T: DeserializeOwned>(
    repository: &impl Repository,
    run_uid: &str,
    name: &str,
) -> Result<Option<T>, Failure> {
    let Some(content) = repository.find_document(run_uid, name).await? else { return Ok(None) };
    serde_json::from_slice(&content).map(Some).map_err(|_| {
        let message = "make another preview, or restore again with a new run: what the run stored of its plan is not what it should be";
        Failure::blocked(reason::PLAN_LOST, message)
    })
}
