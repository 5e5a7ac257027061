//! What a bulk operation is to do: its BulkOperationRun, and the preview that it applies.

use super::claim;
use crate::{
    api::{
        BulkOperationRun, BulkOperationRunSpec, PreviewReference, approval::Consent, operations::BulkInputs,
        reason::bulk as reason,
    },
    cluster::retry::retry,
    items::{bulk::previewed, eligible::PreviewedPlan},
    operations::{approval, intent::not_begun},
    worker::{
        audit,
        environment::RunIdentity,
        failure::{Failure, api_failure},
    },
};
use jiff::Timestamp;
use kube::{Api, Client};

/// A bulk operation, as read from the API server.
#[derive(Clone, Debug)]
pub struct Order {
    /// The BulkOperationRun of this run.
    pub bulk: BulkOperationRun,
    /// What is done with which objects: that of the preview, if it applies one.
    pub asked: BulkOperationRunSpec,
    /// When that was asked for: the same in each attempt.
    pub created: Timestamp,
    /// What the preview made that it applies.
    pub previewed: Option<PreviewedPlan>,
    /// The approval of that, if one was needed.
    pub approval: Option<Consent>,
}

/// Reads what to do.
pub async fn read(client: &Client, own: &RunIdentity, inputs: &BulkInputs) -> Result<Order, Failure> {
    let bulk = claim::take(client, own, inputs).await?;
    let approval = inputs.approval.clone();
    let Some(PreviewReference { name, .. }) = &bulk.spec.preview else {
        approval::expect_plan(inputs.plan_digest.as_deref(), approval.as_ref(), None)?;
        return Ok(Order { asked: bulk.spec.clone(), created: created(&bulk), previewed: None, approval, bulk });
    };
    let bulks: Api<BulkOperationRun> = Api::namespaced(client.clone(), &own.namespace);
    let preview = retry(|| bulks.get_opt(name)).await;
    let preview = preview.map_err(|error| api_failure(&format!("read the BulkOperationRun {name}"), &error))?;
    match (previewed(&bulk.spec, preview.as_ref()), preview) {
        (Ok(previewed), Some(preview)) => {
            let digest = previewed.as_ref().map(|made| made.digest.as_str());
            if let Err(failure) = approval::expect_plan(inputs.plan_digest.as_deref(), approval.as_ref(), digest) {
                let begun = audit::has_intent(client, own).await.map_err(|failure| not_begun(&failure))?;
                return Err(if begun { lost() } else { failure });
            }
            Ok(Order { created: created(&preview), asked: preview.spec, previewed, approval, bulk })
        }
        (Ok(_), None) => Err(lost()),
        // An earlier attempt may have written, so that it is not true that nothing was done.
        (Err(_), _) if audit::has_intent(client, own).await.map_err(|failure| not_begun(&failure))? => Err(lost()),
        (Err(ineligible), _) => Err(super::blocked(ineligible)),
    }
}

fn lost() -> Failure {
    let message =
        "see what is done, and preview the rest: the preview is gone that an earlier attempt has begun to apply";
    Failure::permanent(reason::SELECTION_LOST, message)
}

/// When a bulk operation was created.
fn created(bulk: &BulkOperationRun) -> Timestamp {
    bulk.metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0)
}
