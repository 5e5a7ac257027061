//! `tenantatlas worker bulk-preview`: reports what a bulk operation would do with each object, and
//! changes nothing.
//!
//! Every write is only a dry run. The names of the objects and what was found of each are stored in
//! the run's reports under a digest, so that a bulk operation can be applied exactly as previewed; the
//! parts that matter to users are in reports, too. An attempt that died may leave its own reports
//! behind. If the objects have changed since, their digest differs, and no worker reads them.

mod made;
mod records;

use crate::{
    api::{
        item::ItemId,
        operation_report::Action,
        operations::BulkInputs,
        reason::{bulk as reason, item},
        result::TerminationResult,
    },
    items::{
        bulk::{Left, State, Step, digest},
        plan::PlannedItem,
        proposal::{Proposal, Verdict},
        semantic::DigestKey,
    },
    operations::bulk::{
        READS, begin_to_read,
        carry::LOOKS,
        expected::UNREAD,
        order, pace,
        selected::find,
        survey::{Looked, Reach, Survey},
    },
    providers::{
        Provider,
        bounded::Bounded,
        call::{Target, Tried, without_fields},
    },
    worker::{
        environment::{Environment, RunIdentity},
        failure::Failure,
        progress::Progress,
        report::{self, Contents},
        work::{Begun, Needs, Work},
    },
};
use futures::{StreamExt, TryStreamExt, stream};
use kube::Client;
use made::Made;

/// Maximum size of the diff of one object, in bytes.
const MAX_DIFF: usize = 4096;

/// Plans a bulk operation.
pub struct BulkPreview;

impl Work for BulkPreview {
    fn needs(&self) -> Needs {
        READS
    }

    fn begin(&self, environment: &Environment) -> Result<Begun, Failure> {
        begin_to_read(environment, preview_of)
    }
}

/// Plans a bulk operation with any provider. `client` reaches the run and its records.
pub async fn preview_of(
    provider: &dyn Provider,
    client: &Client,
    environment: &Environment,
    inputs: &BulkInputs,
) -> Result<TerminationResult, Failure> {
    let provider = &Bounded::new(provider);
    let own = &environment.identity;
    let order = order::read(client, own, inputs).await?;
    let survey = Survey::take(provider, &order).await?;
    let names = find(provider, &order.asked, &survey.kind, survey.denied.read.as_deref()).await?;
    tracing::info!(items = names.len(), action = order.asked.action.as_str(), "selected");
    let progress = Progress::of(client.clone(), own);
    let mut made = Made::of(names.len());
    if let Some(why) = survey.denied.any() {
        for name in &names {
            let item = ItemId::new(survey.kind.group_kind(), name.as_str());
            let row = PlannedItem::new(item, survey.kind.api_version(), Action::Forbidden);
            made.add(left(row, &Left::failed(reason::FORBIDDEN, why)), State { seen: UNREAD, writes: false }, None);
        }
    } else {
        let reach = survey.reach().await?;
        // Stand-ins for values of Secrets need no lasting key: nothing is compared with them.
        let key = DigestKey::new(own.run_uid.as_bytes());
        let at_once = pace(&order.bulk).parallelism;
        let planned = stream::iter(&names).map(|name| plan_one(&reach, name, &key)).buffered(at_once);
        let mut planned = std::pin::pin!(planned);
        while let Some((planned, state, diff)) = planned.try_next().await? {
            made.add(planned, state, diff);
            progress.update(made.counts());
        }
    }
    let digest = digest(&order.asked, &names, Some(made.states()));
    publish(client, own, &names, &made, &digest).await?;
    progress.finish(made.counts()).await;
    Ok(made.to_result(digest))
}

/// Stores what was found, and shows users what would be done.
async fn publish(
    client: &Client,
    own: &RunIdentity,
    names: &[String],
    made: &Made,
    digest: &str,
) -> Result<(), Failure> {
    report::write(client, own, Contents::Selected(names, Some(made.states()), digest)).await?;
    report::write(client, own, Contents::Previewed(made.planned(), made.diffs(), digest)).await
}

/// What would be done with one object: its row of the plan, what that depends on, and the diff to
/// show.
async fn plan_one(
    reach: &Reach<'_>,
    name: &str,
    key: &DigestKey,
) -> Result<(PlannedItem, State, Option<String>), Failure> {
    let row = |action| PlannedItem::new(reach.item(name), reach.kind.api_version(), action);
    for _ in 0..LOOKS {
        let Looked { seen, step } = reach.look(name).await?;
        let (planned, diff) = match step {
            Step::Unchanged => (row(Action::Unchanged), None),
            Step::Left(why) => (left(row(Action::Skip), &why), None),
            Step::Write(proposal) => {
                if let Some((action, remark)) = reach.guard.refuses(&proposal, None).await? {
                    (proposal.refused(action, remark), None)
                } else {
                    let tried = reach.session.rehearse(Target { kind: reach.kind, name }, &proposal).await?;
                    if matches!(tried.verdict, Verdict::Refused { code: 409, .. }) {
                        // Others have changed it in between.
                        continue;
                    }
                    settled(*proposal, tried, key)
                }
            }
        };
        let state = State { seen: seen.unwrap_or(UNREAD), writes: planned.action.writes() };
        return Ok((planned, state, diff));
    }
    let message = "others changed it each time that it was looked at: make another preview";
    let planned = left(row(Action::Conflict), &Left::failed(reason::MOVED, message));
    Ok((planned, State { seen: UNREAD, writes: false }, None))
}

/// The row of an object that the API server was asked about, and its diff.
fn settled(proposal: Proposal, Tried { verdict, dropped }: Tried, key: &DigestKey) -> (PlannedItem, Option<String>) {
    let diff = proposal.diff(&verdict, key, MAX_DIFF);
    let mut planned = proposal.settle(&verdict);
    planned.warnings.extend(dropped.filter(|_| planned.action.writes()).as_deref().map(without_fields));
    let diff = (planned.action.writes() && !diff.is_empty()).then(|| diff.to_string());
    (planned, diff)
}

/// The row of an object that is left as it is.
fn left(row: PlannedItem, Left { skipped, remark }: &Left) -> PlannedItem {
    let action = match remark.code.as_str() {
        _ if *skipped => Action::Skip,
        item::FORBIDDEN => Action::Forbidden,
        _ => Action::Conflict,
    };
    PlannedItem { action, reason: Some(remark.clone()), ..row }
}
