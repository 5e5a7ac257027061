//! `OperationReport`s: the items of a run that failed or were left out, where there are more than a status holds.
//!
//! Names and contents follow from the run and its items alone, so a worker that died in between writes the same
//! ones again, and finding one is success.

use crate::{
    api::{
        ObjectReference, OperationReport, OperationReportSpec,
        operation_report::{MAX_BYTES, MAX_ITEMS},
        operation_run::ItemFailure,
        result::truncate,
    },
    cluster::retry::retry,
    worker::{
        environment::RunIdentity,
        failure::{Failure, api_failure},
    },
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{
    Api, Client, Resource,
    api::{ObjectMeta, PostParams},
};

/// Room for everything of a report but its items, in bytes.
const ENVELOPE: usize = 4096;

/// The longest message of an item, in bytes (the schema's bound).
const MAX_MESSAGE: usize = 1000;

/// Writes all reports of a run.
pub async fn write(client: &Client, run: &RunIdentity, items: Vec<ItemFailure>) -> Result<(), Failure> {
    let reports: Api<OperationReport> = Api::namespaced(client.clone(), &run.namespace);
    let parameters = PostParams::default();
    for report in of_run(run, items) {
        let created = retry(|| reports.create(&parameters, &report)).await;
        match created {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.is_already_exists() => {}
            Err(error) => return Err(api_failure("write the report of the items that failed", &error)),
        }
    }
    Ok(())
}

/// The reports, each within the bounds.
fn of_run(run: &RunIdentity, mut items: Vec<ItemFailure>) -> Vec<OperationReport> {
    items.sort_by(|one, other| one.item_id.cmp(&other.item_id));
    for item in &mut items {
        item.message = truncate(&item.message, MAX_MESSAGE);
    }
    let chunks = split(items);
    let count = i32::try_from(chunks.len()).unwrap_or(i32::MAX);
    (0..).zip(chunks).map(|(chunk, items)| report(run, chunk, count, items)).collect()
}

fn split(items: Vec<ItemFailure>) -> Vec<Vec<ItemFailure>> {
    let mut chunks: Vec<Vec<ItemFailure>> = Vec::new();
    let mut bytes = 0;
    for item in items {
        let size = serde_json::to_vec(&item).map_or(0, |json| json.len() + 1);
        match chunks.last_mut() {
            Some(chunk) if chunk.len() < MAX_ITEMS && bytes + size <= MAX_BYTES - ENVELOPE => {
                bytes += size;
                chunk.push(item);
            }
            _ => {
                bytes = size;
                chunks.push(vec![item]);
            }
        }
    }
    chunks
}

fn report(run: &RunIdentity, chunk: i32, chunks: i32, items: Vec<ItemFailure>) -> OperationReport {
    let owner = OwnerReference {
        api_version: crate::api::OperationRun::api_version(&()).into_owned(),
        kind: crate::api::OperationRun::kind(&()).into_owned(),
        name: run.run.clone(),
        uid: run.run_uid.clone(),
        ..OwnerReference::default()
    };
    // A part of the uid: a later run of the same name has reports of its own.
    let incarnation: String = run.run_uid.chars().filter(char::is_ascii_alphanumeric).take(8).collect();
    OperationReport {
        metadata: ObjectMeta {
            name: Some(format!("{}-{}-{chunk}", run.run, incarnation.to_ascii_lowercase())),
            namespace: Some(run.namespace.clone()),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: OperationReportSpec {
            run: ObjectReference { name: run.run.clone(), uid: run.run_uid.clone() },
            chunk,
            chunks,
            items,
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
            let reports = of_run(&run(), items.clone());
            prop_assert_eq!(&reports, &of_run(&run(), shuffled), "the order of the items does not matter");
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
