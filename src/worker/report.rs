//! `OperationReport`s: results about a run's items that do not fit into a status.
//!
//! Names and contents depend only on the run and its items. A worker that retries after a crash
//! writes the same reports, and a report that already exists is a success.
//!
//! Reports are stored in etcd, which all tenants share, so their size per run is bounded, whatever
//! the tenant contains. If not all items fit, the reports name those that failed, differ or warn,
//! and count the rest. What is needed of each item to execute a plan is stored in the repository.

use crate::{
    api::{
        ObjectReference, OperationReport, OperationReportSpec,
        comparison::{Change, ItemDifference},
        coverage::UncoveredItem,
        history::{ItemChange, ItemVersion},
        item::ItemId,
        operation_report::{Action, ItemOutcome, ItemResult, MAX_BYTES, MAX_ITEMS, MAX_OF_ALL, PlannedObject, Remark},
        outcome::{FailureType, ItemFailure},
        result::truncate,
    },
    cluster::retry::retry,
    items::{
        bulk::{State, read_states, write_states},
        plan::{Plan, PlannedItem},
    },
    worker::{
        environment::RunIdentity,
        failure::{Failure, api_failure},
        results::Results,
    },
};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{
    Api, Client, Resource,
    api::{ListParams, ObjectMeta, PostParams},
};
use serde::Serialize;
use std::{collections::BTreeMap, ops::Range};

/// Reports written concurrently: the next is built while the API server handles one.
const AT_ONCE: usize = 4;

/// Bytes reserved for everything in a report except its items.
const ENVELOPE: usize = 4096;

/// Maximum length of an item's message in bytes (the schema's limit).
const MAX_MESSAGE: usize = 1000;

/// Maximum number of warnings of an item (the schema's limit).
const MAX_WARNINGS: usize = 8;

/// Subject of reports. Each subject has its own names.
#[derive(Clone, Copy, Debug)]
pub enum Contents<'a> {
    /// Items that failed or were skipped.
    Failures(&'a [ItemFailure]),
    /// The plan of a restore in its order, with the diffs to show by item.
    Plan(&'a Plan, &'a BTreeMap<ItemId, String>),
    /// The results of a restore's items, in the order of the plan.
    Results(&'a Results<'a>),
    /// What a comparison found, in the order of the items.
    Differences(&'a [ItemDifference]),
    /// The versions of an item.
    Versions(&'a [ItemVersion]),
    /// The objects that no backup set holds, in the order of their ids.
    Uncovered(&'a [UncoveredItem]),
    /// The names of the objects that a bulk operation works on, what a preview found of each, and the
    /// digest of what it does. All of them have to fit ([`fits`]).
    Selected(&'a [String], Option<&'a [State]>, &'a str),
    /// What a bulk operation would do with each object, with the diffs to show by item, and its
    /// digest.
    Previewed(&'a [PlannedItem], &'a BTreeMap<ItemId, String>, &'a str),
}

/// Writes the reports of a run about one subject.
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

/// Reads the results of a completed run's items, as far as its reports name them. Also returns
/// whether the reports name all of them.
pub async fn read_results(
    client: &Client,
    namespace: &str,
    run: &ObjectReference,
) -> Result<(Vec<ItemResult>, bool), Failure> {
    let reports: Api<OperationReport> = Api::namespaced(client.clone(), namespace);
    let of_run = ListParams::default().fields(&format!("spec.run.name={}", run.name));
    let doing = format!("read the results of run {}", run.name);
    let list = retry(|| reports.list(&of_run)).await.map_err(|error| api_failure(&doing, &error))?;
    let own = list.items.into_iter().map(|report| report.spec).filter(|report| report.run.uid == run.uid);
    // Without the reports of the plan.
    let own: Vec<OperationReportSpec> = own.filter(|report| report.plan_digest.is_none()).collect();
    let all = own.iter().all(|report| report.omitted.is_none());
    Ok((own.into_iter().flat_map(|report| report.results).collect(), all))
}

/// Whether reports can name so many selected objects with names of these lengths together.
#[must_use]
pub fn fits(names: &[String]) -> bool {
    names.iter().map(size).sum::<usize>() <= MAX_OF_ALL
}

/// The objects of a bulk operation, as its reports name them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SelectedObjects {
    /// Their names, in ascending order.
    pub names: Vec<String>,
    /// What a preview found of each of them.
    pub states: Option<Vec<State>>,
}

/// Reads the objects that a run's reports of this digest name. `None` if they are not complete.
pub async fn read_selected(
    client: &Client,
    namespace: &str,
    run: &ObjectReference,
    digest: &str,
) -> Result<Option<SelectedObjects>, Failure> {
    let reports: Api<OperationReport> = Api::namespaced(client.clone(), namespace);
    let of_run = ListParams::default().fields(&format!("spec.run.name={}", run.name));
    let list = retry(|| reports.list(&of_run)).await;
    let list = list.map_err(|error| api_failure("read which objects were selected before", &error))?;
    let own = list.items.into_iter().map(|report| report.spec);
    let own = own.filter(|report| report.run.uid == run.uid && report.plan_digest.as_deref() == Some(digest));
    let mut own: Vec<OperationReportSpec> = own.filter(|report| !report.selected.is_empty()).collect();
    own.sort_by_key(|report| report.chunk);
    let chunks = own.first().map_or(0, |report| report.chunks);
    if chunks == 0 || !own.iter().map(|report| report.chunk).eq(0..chunks) {
        return Ok(None);
    }
    let states: String = own.iter().filter_map(|report| report.selected_states.as_deref()).collect();
    let states = if states.is_empty() { Some(None) } else { read_states(&states).map(Some) };
    let names: Vec<String> = own.into_iter().flat_map(|report| report.selected).collect();
    let selected = states.map(|states| SelectedObjects { names, states });
    Ok(selected.filter(|selected| selected.states.as_ref().is_none_or(|states| states.len() == selected.names.len())))
}

/// Reports of a plan are named after its digest. An attempt that finds other objects makes another
/// plan, and parts of two plans must never be mixed.
fn plan_name(digest: &str) -> String {
    format!("{PLAN}{}-", digest.get(..8).unwrap_or(digest))
}

const PLAN: &str = "plan-";

const FAILURES: &str = "";
const RESULTS: &str = "results-";
const DIFFERENCES: &str = "differences-";
const VERSIONS: &str = "versions-";
const UNCOVERED: &str = "uncovered-";
const SELECTED: &str = "selected-";

/// How important it is that a report names an item, most important first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Telling {
    /// The item failed, or would fail.
    Failed,
    /// The item changes, or there is something to report about it.
    Differs,
    /// The count is enough: the item is created, unchanged or left alone.
    Plain,
}

fn of_planned(planned: &PlannedItem, has_diff: bool) -> Telling {
    match planned.action {
        action if action.fails() => Telling::Failed,
        Action::Update | Action::Recreate | Action::Delete => Telling::Differs,
        _ if has_diff || !planned.warnings.is_empty() => Telling::Differs,
        _ => Telling::Plain,
    }
}

fn of_difference(difference: &ItemDifference) -> Telling {
    match difference.change {
        Change::Unreadable => Telling::Failed,
        Change::Added | Change::Removed | Change::Changed | Change::Listed => Telling::Differs,
        Change::NotCompared => Telling::Plain,
    }
}

/// Builds the reports, each within the limits.
fn of_run(run: &RunIdentity, contents: Contents<'_>) -> Vec<OperationReport> {
    match contents {
        Contents::Failures(items) => {
            let mut sorted: Vec<&ItemFailure> = items.iter().collect();
            sorted.sort_by(|one, other| one.item_id.cmp(&other.item_id));
            let item = |place: usize| {
                let item = sorted[place];
                ItemFailure { message: truncate(&item.message, MAX_MESSAGE), ..item.clone() }
            };
            let telling = |place: usize| match sorted[place].failure_type {
                FailureType::Failure => Telling::Failed,
                FailureType::Skipped => Telling::Differs,
            };
            chunked(run, FAILURES, items.len(), telling, item, |spec, items| spec.items = items)
        }
        Contents::Plan(plan, diffs) => of_run(run, Contents::Previewed(plan.items(), diffs, &plan.digest())),
        Contents::Results(results) => {
            let item = |place: usize| {
                let mut result = results.result(place);
                result.reason.iter_mut().for_each(bound);
                result
            };
            let telling = |place: usize| match results.outcome(place) {
                ItemOutcome::Failed => Telling::Failed,
                _ => Telling::Plain,
            };
            chunked(run, RESULTS, results.len(), telling, item, |spec, results| spec.results = results)
        }
        Contents::Differences(differences) => {
            let item = |place: usize| {
                let mut difference = differences[place].clone();
                difference.reason.iter_mut().for_each(bound);
                difference
            };
            let telling = |place: usize| of_difference(&differences[place]);
            chunked(run, DIFFERENCES, differences.len(), telling, item, |spec, differences| {
                spec.differences = differences;
            })
        }
        Contents::Versions(versions) => {
            let item = |place: usize| {
                let mut version = versions[place].clone();
                version.reason.iter_mut().for_each(bound);
                version
            };
            let telling = |place: usize| match versions[place].change {
                ItemChange::Unknown => Telling::Plain,
                _ => Telling::Differs,
            };
            chunked(run, VERSIONS, versions.len(), telling, item, |spec, versions| spec.versions = versions)
        }
        Contents::Uncovered(items) => {
            let item = |place: usize| items[place].clone();
            chunked(run, UNCOVERED, items.len(), |_| Telling::Differs, item, |spec, items| spec.uncovered = items)
        }
        Contents::Selected(names, states, digest) => {
            // Named after the digest, as plans are: an attempt may find other objects, as long as
            // none has recorded its intent.
            let what = format!("{SELECTED}{}-", digest.get(..8).unwrap_or(digest));
            let item = |place: usize| names[place].clone();
            let put = |spec: &mut OperationReportSpec, names| {
                spec.selected = names;
                spec.plan_digest = Some(digest.to_owned());
            };
            let mut reports = chunked(run, &what, names.len(), |_| Telling::Differs, item, put);
            let mut rest = states.unwrap_or_default();
            for OperationReport { spec, .. } in &mut reports {
                let (own, later) = rest.split_at(spec.selected.len().min(rest.len()));
                spec.selected_states = states.map(|_| write_states(own));
                rest = later;
            }
            reports
        }
        Contents::Previewed(planned, diffs, digest) => {
            let row = |place: usize| row(&planned[place], diffs);
            let telling = |place: usize| of_planned(&planned[place], diffs.contains_key(&planned[place].item));
            let put = |spec: &mut OperationReportSpec, plan| {
                spec.plan = plan;
                spec.plan_digest = Some(digest.to_owned());
            };
            chunked(run, &plan_name(digest), planned.len(), telling, row, put)
        }
    }
}

/// Whether the reports of results name every item that failed.
#[must_use]
pub fn name_all_failed(results: &Results<'_>) -> bool {
    let bytes = results.failed().map(|result| size(&result));
    let of_all = || (0..results.len()).map(|place| size(&results.result(place))).sum::<usize>();
    bytes.sum::<usize>() <= MAX_OF_ALL || of_all() <= MAX_OF_ALL
}

fn row(planned: &PlannedItem, diffs: &BTreeMap<ItemId, String>) -> PlannedObject {
    let mut row = planned.to_report(diffs.get(&planned.item).cloned());
    row.warnings.truncate(MAX_WARNINGS);
    row.reason.iter_mut().chain(&mut row.warnings).for_each(bound);
    row
}

fn bound(remark: &mut Remark) {
    remark.message = truncate(&remark.message, MAX_MESSAGE);
}

fn size(item: &impl Serialize) -> usize {
    serde_json::to_vec(item).map_or(0, |json| json.len() + 1)
}

/// Builds reports of the items that fit, out of `count` items that `item` returns. If not all fit,
/// only the important ones are reported, most important first. The reported items keep their order.
fn chunked<T: Serialize>(
    run: &RunIdentity,
    what: &str,
    count: usize,
    telling: impl Fn(usize) -> Telling,
    item: impl Fn(usize) -> T,
    put: impl Fn(&mut OperationReportSpec, Vec<T>),
) -> Vec<OperationReport> {
    let sizes: Vec<usize> = (0..count).map(|place| size(&item(place))).collect();
    let places = choose(&sizes, telling);
    let chunks = split(places.iter().map(|place| sizes[*place]));
    let of = i32::try_from(chunks.len().max(1)).unwrap_or(i32::MAX);
    let mut reports: Vec<OperationReport> = (0..)
        .zip(chunks)
        .map(|(chunk, chosen)| {
            let mut report = report(run, what, chunk, of);
            put(&mut report.spec, places[chosen].iter().map(|place| item(*place)).collect());
            report
        })
        .collect();
    let omitted = count - places.len();
    if reports.is_empty() && (omitted > 0 || what.starts_with(PLAN)) {
        // A plan that is empty, or has nothing to report, still counts as made.
        reports.push(report(run, what, 0, 1));
    }
    if let Some(first) = reports.first_mut() {
        first.spec.omitted = i64::try_from(omitted).ok().filter(|omitted| *omitted > 0);
    }
    reports
}

/// Chooses the items to name.
fn choose(sizes: &[usize], telling: impl Fn(usize) -> Telling) -> Vec<usize> {
    let all = 0..sizes.len();
    if sizes.iter().sum::<usize>() <= MAX_OF_ALL {
        return all.collect();
    }
    let mut telling: Vec<(Telling, usize)> = all.map(|place| (telling(place), place)).collect();
    telling.retain(|(telling, _)| *telling != Telling::Plain);
    telling.sort_unstable();
    let mut bytes = 0;
    let fits = telling.into_iter().map(|(_, place)| place).take_while(|place| {
        bytes += sizes[*place];
        bytes <= MAX_OF_ALL
    });
    let mut places: Vec<usize> = fits.collect();
    places.sort_unstable();
    places
}

/// Groups items of these sizes into reports.
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
    // Part of the uid, so that a later run of the same name has its own reports.
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
            omitted: None,
            items: Vec::new(),
            plan_digest: None,
            plan: Vec::new(),
            results: Vec::new(),
            differences: Vec::new(),
            versions: Vec::new(),
            uncovered: Vec::new(),
            selected: Vec::new(),
            selected_states: None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::{RestoreRunSpec, item::GroupKind},
        items::plan::Terms,
    };
    use proptest::prelude::*;

    fn run() -> RunIdentity {
        RunIdentity {
            run: "r".repeat(200),
            run_uid: "0B4EE1C5-6c0f".into(),
            namespace: "acme".into(),
            job_uid: "job".into(),
            pod: "op-1-x".into(),
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

    fn bytes<T: Serialize>(items: impl IntoIterator<Item = T>) -> usize {
        items.into_iter().map(|item| size(&item)).sum()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(8))]
        #[test]
        fn reports_are_within_their_bounds_and_count_what_they_do_not_name(
            lengths in prop::collection::vec(0_usize..3000, 0..1800), few in 1_usize..200,
        ) {
            let mut items: Vec<_> = lengths.iter().enumerate().map(|(number, length)| item(number, *length)).collect();
            for skipped in items.iter_mut().skip(1).step_by(2) {
                skipped.failure_type = FailureType::Skipped;
            }
            for items in [&items[..], &items[..items.len().min(few)]] {
                let shuffled: Vec<_> = items.iter().rev().cloned().collect();
                let run = run();
                let reports = of_run(&run, Contents::Failures(items));
                prop_assert_eq!(&reports, &of_run(&run, Contents::Failures(&shuffled)), "in whatever order they come");
                let named: Vec<_> = reports.iter().flat_map(|report| &report.spec.items).collect();
                prop_assert!(named.is_sorted_by(|one, other| one.item_id < other.item_id));
                prop_assert!(bytes(&named) <= MAX_OF_ALL);
                let omitted = reports.first().and_then(|report| report.spec.omitted).unwrap_or_default();
                prop_assert_eq!(usize::try_from(omitted).expect("a count") + named.len(), items.len());
                let cut = |item: &ItemFailure| ItemFailure { message: truncate(&item.message, MAX_MESSAGE), ..item.clone() };
                prop_assert_eq!(omitted == 0, bytes(items.iter().map(cut)) <= MAX_OF_ALL);
                let skipped = named.iter().any(|item| item.failure_type == FailureType::Skipped);
                let failed = |item: &&ItemFailure| item.failure_type == FailureType::Failure;
                let all_failed = items.iter().filter(failed).count() == named.iter().copied().filter(failed).count();
                prop_assert!(!skipped || all_failed, "what failed is named first");
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

    const ACTIONS: [Action; 9] = [
        Action::Create,
        Action::Update,
        Action::Recreate,
        Action::Delete,
        Action::Unchanged,
        Action::Skip,
        Action::Conflict,
        Action::Forbidden,
        Action::Invalid,
    ];

    fn plan_of(count: usize, action: Action, warns: bool) -> Plan {
        let spec = RestoreRunSpec::of(crate::api::LocalReference::new("nightly"));
        let remark = || Remark::new("Forbidden", "w".repeat(300));
        let planned = |number: usize| PlannedItem {
            item: ItemId::new(GroupKind::new("", "ConfigMap"), format!("a-name-of-a-usual-length-{number:06}")),
            api_version: "v1".into(),
            action,
            reason: action.fails().then(remark),
            warnings: warns.then(remark).into_iter().collect(),
            live: Some("0".repeat(64)),
            wanted: Some("1".repeat(64)),
        };
        Plan::stored(Terms::new(&spec, None, "0".repeat(64)), (0..count).map(planned).collect())
    }

    #[test]
    fn of_more_differences_than_fit_those_are_named_that_are_known_and_the_rest_is_counted() {
        let difference = |number: usize| ItemDifference {
            item_id: format!("core/ConfigMap/{number:06}"),
            change: if number.is_multiple_of(100) { Change::Changed } else { Change::NotCompared },
            reason: Some(Remark::new("OutsideSelection", "r".repeat(2000))),
            diff: None,
        };
        let differences: Vec<_> = (0..5000).map(difference).collect();
        let reports = of_run(&run(), Contents::Differences(&differences));
        let named: Vec<_> = reports.iter().flat_map(|report| &report.spec.differences).collect();
        assert!(named.iter().all(|difference| difference.change == Change::Changed), "{}", named.len());
        assert_eq!((named.len(), reports[0].spec.omitted), (50, Some(4950)));
        assert!(bytes(&named) <= MAX_OF_ALL && reports[0].metadata.name.as_ref().expect("a name").len() <= 253);
        let few = of_run(&run(), Contents::Differences(&differences[..20]));
        assert_eq!((few[0].spec.differences.len(), few[0].spec.omitted), (20, None));
    }

    /// Size in etcd and number of the reports of a run, for every result of its items.
    #[test]
    fn what_the_reports_of_a_run_take_in_etcd_is_bounded_whatever_its_items_are() {
        let run = run();
        let measure = |reports: &[OperationReport]| -> usize {
            reports.iter().map(|report| serde_json::to_vec(report).expect("JSON").len()).sum()
        };
        let mut told = Vec::new();
        for count in [100, 3000] {
            for (action, warns, has_diff) in ACTIONS.into_iter().flat_map(|action| {
                [(false, false), (false, true), (true, false)].map(|(warns, diff)| (action, warns, diff))
            }) {
                let plan = plan_of(count, action, warns);
                let diffs: BTreeMap<ItemId, String> = plan
                    .items()
                    .iter()
                    .filter(|_| has_diff)
                    .map(|planned| (planned.item.clone(), "d".repeat(200)))
                    .collect();
                let reports = of_run(&run, Contents::Plan(&plan, &diffs));
                let bytes = measure(&reports);
                let named: usize = reports.iter().map(|report| report.spec.plan.len()).sum();
                told.push(format!("{count} {action:?} warns={warns} diff={has_diff}: {bytes} B, {named} named"));
                assert!(bytes <= MAX_BYTES, "{}", told[told.len() - 1]);
                let plain = !warns && !has_diff && matches!(action, Action::Create | Action::Unchanged | Action::Skip);
                // If not all items fit, those whose count is enough are not named.
                assert!(count == 100 || !plain || bytes < 2000, "{}", told[told.len() - 1]);
                let omitted = reports[0].spec.omitted.unwrap_or_default();
                assert_eq!(named + usize::try_from(omitted).expect("a count"), count);
            }
            for outcome in [ItemOutcome::Done, ItemOutcome::Unchanged, ItemOutcome::Skipped, ItemOutcome::Failed] {
                let reason = (outcome == ItemOutcome::Failed).then(|| Remark::new("Forbidden", "w".repeat(300)));
                let plan = plan_of(count, Action::Update, false);
                let results = Results::new(&plan, vec![(outcome, reason.map(Box::new)); count]);
                let reports = of_run(&run, Contents::Results(&results));
                let bytes = measure(&reports);
                told.push(format!("{count} {outcome:?}: {bytes} B"));
                assert!(bytes <= MAX_BYTES, "{}", told[told.len() - 1]);
                assert_eq!(name_all_failed(&results), count == 100 || outcome != ItemOutcome::Failed);
            }
        }
        println!("{}", told.join("\n"));
    }
}
