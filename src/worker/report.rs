//! `OperationReport`s: what a run has to say about its items and a status has no room for.
//!
//! Names and contents follow from the run and its items alone, so a worker that died in between writes the same
//! ones again, and finding one is success.

use crate::{
    api::{
        ObjectReference, OperationReport, OperationReportSpec,
        item::ItemId,
        operation_report::{ItemResult, MAX_BYTES, MAX_ITEMS, PlannedObject, Remark},
        operation_run::ItemFailure,
        result::truncate,
    },
    cluster::retry::retry,
    restore::plan::Plan,
    worker::{
        environment::RunIdentity,
        failure::{Failure, api_failure},
    },
};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{
    Api, Client, Resource,
    api::{ListParams, ObjectMeta, PostParams},
};
use serde::Serialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

/// Reports written at once: while one is looked at by the API server, the next is made.
const AT_ONCE: usize = 4;

/// Room for everything of a report but its items, in bytes.
const ENVELOPE: usize = 4096;

/// The longest message of an item, in bytes (the schema's bound).
const MAX_MESSAGE: usize = 1000;

/// The most warnings of an item (the schema's bound).
const MAX_WARNINGS: usize = 8;

/// What reports are about. Each has names of its own.
#[derive(Clone, Copy, Debug)]
pub enum Contents<'a> {
    /// What failed or was left out.
    Failures(&'a [ItemFailure]),
    /// The plan of a restore, in its order, with the differences it shows by item.
    Plan(&'a Plan, &'a BTreeMap<ItemId, String>),
    /// What became of the items of a restore, in the order of the plan.
    Results(&'a [ItemResult]),
}

/// Writes all reports of a run.
pub async fn write(client: &Client, run: &RunIdentity, contents: Contents<'_>) -> Result<(), Failure> {
    let reports: Api<OperationReport> = Api::namespaced(client.clone(), &run.namespace);
    let parameters = PostParams::default();
    let create = async |report: OperationReport| match retry(|| reports.create(&parameters, &report)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
        Err(error) => Err(api_failure("write a report of the run's items", &error)),
    };
    stream::iter(of_run(run, contents)).map(create).buffer_unordered(AT_ONCE).try_collect().await
}

/// The plan with this digest that a run stored, if all of it is there.
pub async fn read_plan(
    client: &Client,
    run: &RunIdentity,
    digest: &str,
) -> Result<Option<Vec<PlannedObject>>, Failure> {
    let reports: Api<OperationReport> = Api::namespaced(client.clone(), &run.namespace);
    let what = plan_name(digest);
    let (mut plan, mut chunk) = (Vec::new(), 0);
    loop {
        let name = name(run, &what, chunk);
        let report = retry(|| reports.get_opt(&name))
            .await
            .map_err(|error| api_failure(&format!("read the report {name}"), &error))?;
        let is_it = |report: &OperationReport| {
            report.spec.run.uid == run.run_uid && report.spec.plan_digest.as_deref() == Some(digest)
        };
        let Some(report) = report.filter(is_it) else { return Ok(None) };
        plan.extend(report.spec.plan);
        chunk += 1;
        if chunk >= report.spec.chunks {
            return Ok(Some(plan));
        }
    }
}

/// The digest and items of the plan that an earlier attempt of this run stored, if all of it is there. What is not all
/// there was not carried out.
pub async fn find_plan(client: &Client, run: &RunIdentity) -> Result<Option<(String, Vec<PlannedObject>)>, Failure> {
    let reports: Api<OperationReport> = Api::namespaced(client.clone(), &run.namespace);
    let of_run = ListParams::default().fields(&format!("spec.run.name={}", run.run));
    let list = retry(|| reports.list(&of_run))
        .await
        .map_err(|error| api_failure("look for the plan of an earlier attempt", &error))?;
    let own = list.items.into_iter().filter(|report| report.spec.run.uid == run.run_uid);
    let digests: BTreeSet<String> = own.filter_map(|report| report.spec.plan_digest).collect();
    for digest in digests {
        if let Some(plan) = read_plan(client, run, &digest).await? {
            return Ok(Some((digest, plan)));
        }
    }
    Ok(None)
}

/// What became of a completed run's items.
pub async fn read_results(client: &Client, namespace: &str, run: &ObjectReference) -> Result<Vec<ItemResult>, Failure> {
    let reports: Api<OperationReport> = Api::namespaced(client.clone(), namespace);
    let of_run = ListParams::default().fields(&format!("spec.run.name={}", run.name));
    let doing = format!("read the results of run {}", run.name);
    let list = retry(|| reports.list(&of_run)).await.map_err(|error| api_failure(&doing, &error))?;
    let own = list.items.into_iter().filter(|report| report.spec.run.uid == run.uid);
    Ok(own.flat_map(|report| report.spec.results).collect())
}

/// A plan's reports are named by its digest: an attempt that finds things otherwise makes another plan, and parts of
/// two must never be taken for one.
fn plan_name(digest: &str) -> String {
    format!("plan-{}-", digest.get(..8).unwrap_or(digest))
}

const FAILURES: &str = "";
const RESULTS: &str = "results-";

/// The reports, each within the bounds, and made when it is its turn: all of them are larger than all else that a worker
/// holds of its items.
fn of_run<'a>(run: &'a RunIdentity, contents: Contents<'a>) -> Box<dyn Iterator<Item = OperationReport> + 'a> {
    match contents {
        Contents::Failures(items) => {
            let mut sorted: Vec<&ItemFailure> = items.iter().collect();
            sorted.sort_by(|one, other| one.item_id.cmp(&other.item_id));
            let item = move |place: usize| {
                let item = sorted[place];
                ItemFailure { message: truncate(&item.message, MAX_MESSAGE), ..item.clone() }
            };
            Box::new(chunked(run, FAILURES.to_owned(), items.len(), item, |spec, items| spec.items = items))
        }
        Contents::Plan(plan, diffs) => {
            let digest = plan.digest();
            let item = move |place: usize| {
                let planned = &plan.items()[place];
                let mut planned = planned.to_report(diffs.get(&planned.item).cloned());
                planned.warnings.truncate(MAX_WARNINGS);
                planned.reason.iter_mut().chain(&mut planned.warnings).for_each(bound);
                planned
            };
            let what = plan_name(&digest);
            // An empty plan is one that was made.
            let empty = plan.items().is_empty().then(|| report(run, &what, 0, 1));
            let reports = chunked(run, what, plan.items().len(), item, |spec, plan| spec.plan = plan);
            Box::new(reports.chain(empty).map(move |mut report| {
                report.spec.plan_digest = Some(digest.clone());
                report
            }))
        }
        Contents::Results(results) => {
            let item = move |place: usize| {
                let mut result: ItemResult = results[place].clone();
                result.reason.iter_mut().for_each(bound);
                result
            };
            Box::new(chunked(run, RESULTS.to_owned(), results.len(), item, |spec, results| spec.results = results))
        }
    }
}

fn bound(remark: &mut Remark) {
    remark.message = truncate(&remark.message, MAX_MESSAGE);
}

/// Reports of `count` items, each of which `item` makes.
fn chunked<T: Serialize>(
    run: &RunIdentity,
    what: String,
    count: usize,
    item: impl Fn(usize) -> T,
    put: impl Fn(&mut OperationReportSpec, Vec<T>),
) -> impl Iterator<Item = OperationReport> {
    let sizes = (0..count).map(|place| serde_json::to_vec(&item(place)).map_or(0, |json| json.len() + 1));
    let chunks = split(sizes);
    let of = i32::try_from(chunks.len()).unwrap_or(i32::MAX);
    (0..).zip(chunks).map(move |(chunk, places)| {
        let mut report = report(run, &what, chunk, of);
        put(&mut report.spec, places.map(&item).collect());
        report
    })
}

/// Which items, of these sizes, share a report.
fn split(sizes: impl Iterator<Item = usize>) -> Vec<Range<usize>> {
    let mut chunks: Vec<Range<usize>> = Vec::new();
    let mut bytes = 0;
    for (place, size) in sizes.enumerate() {
        match chunks.last_mut() {
            Some(chunk) if chunk.len() < MAX_ITEMS && bytes + size <= MAX_BYTES - ENVELOPE => {
                bytes += size;
                chunk.end += 1;
            }
            _ => {
                bytes = size;
                chunks.push(place..place + 1);
            }
        }
    }
    chunks
}

fn name(run: &RunIdentity, what: &str, chunk: i32) -> String {
    // A part of the uid: a later run of the same name has reports of its own.
    let incarnation: String = run.run_uid.chars().filter(char::is_ascii_alphanumeric).take(8).collect();
    format!("{}-{}-{what}{chunk}", run.run, incarnation.to_ascii_lowercase())
}

fn report(run: &RunIdentity, what: &str, chunk: i32, chunks: i32) -> OperationReport {
    let owner = OwnerReference {
        api_version: crate::api::OperationRun::api_version(&()).into_owned(),
        kind: crate::api::OperationRun::kind(&()).into_owned(),
        name: run.run.clone(),
        uid: run.run_uid.clone(),
        ..OwnerReference::default()
    };
    OperationReport {
        metadata: ObjectMeta {
            name: Some(name(run, what, chunk)),
            namespace: Some(run.namespace.clone()),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: OperationReportSpec {
            run: ObjectReference { name: run.run.clone(), uid: run.run_uid.clone() },
            chunk,
            chunks,
            items: Vec::new(),
            plan_digest: None,
            plan: Vec::new(),
            results: Vec::new(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::operation_run::FailureType;
    use proptest::prelude::*;

    fn run() -> RunIdentity {
        RunIdentity {
            run: "r".repeat(200),
            run_uid: "0B4EE1C5-6c0f".into(),
            namespace: "acme".into(),
            job_uid: "job".into(),
        }
    }

    fn item(number: usize, length: usize) -> ItemFailure {
        ItemFailure {
            item_id: format!("core/ConfigMap/{number:06}{}", "n".repeat(length % 250)),
            reason_code: "Unreadable".into(),
            message: "m".repeat(length),
            failure_type: FailureType::Failure,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(8))]
        #[test]
        fn reports_are_within_their_bounds_and_lose_nothing(lengths in prop::collection::vec(0_usize..3000, 0..1800)) {
            let items: Vec<_> = lengths.iter().enumerate().map(|(number, length)| item(number, *length)).collect();
            let mut shuffled = items.clone();
            shuffled.reverse();
            let run = run();
            let reports: Vec<_> = of_run(&run, Contents::Failures(&items)).collect();
            let others: Vec<_> = of_run(&run, Contents::Failures(&shuffled)).collect();
            prop_assert_eq!(&reports, &others, "the order of the items does not matter");
            let mut ids: Vec<_> = items.iter().map(|item| item.item_id.clone()).collect();
            ids.sort();
            let reported: Vec<_> = reports.iter().flat_map(|report| &report.spec.items).map(|item| item.item_id.clone()).collect();
            prop_assert_eq!(reported, ids);
            for (place, report) in reports.iter().enumerate() {
                prop_assert!(report.spec.items.len() <= MAX_ITEMS);
                prop_assert!(serde_json::to_vec(report).expect("JSON").len() <= MAX_BYTES);
                let name = report.metadata.name.clone().expect("a name");
                prop_assert_eq!(&name, &format!("{}-0b4ee1c5-{place}", "r".repeat(200)));
                prop_assert!(name.len() <= 253);
                prop_assert_eq!(usize::try_from(report.spec.chunks), Ok(reports.len()));
            }
        }
    }
}
