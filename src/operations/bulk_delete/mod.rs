//! `tenantatlas worker bulk-delete`: deletes many objects, as a preview showed, and keeps what brings
//! them back.
//!
//! ```text
//! order    the deletion, as a plan that only deletes
//! records  what the controller knows of it
//! ```
//!
//! A deletion is a restore of nothing: its plan has the objects as absent, and is made, captured and
//! carried out as that of a restore ([`crate::operations::restore`]). So it has the same rules for what
//! may be lost, for what the garbage collector takes along, and for a crash in any step.
//!
//! Must not: delete what the preview did not show, or anything before the backup set is recorded that
//! brings it back.

pub(super) mod order;
mod records;

use crate::{
    api::{
        operations::{BulkDeleteInputs, BulkInputs},
        reason::{bulk as reason, restore},
        result::TerminationResult,
    },
    clock::Clock,
    items::plan::{Plan, first_of},
    operations::{
        bulk::{self, blocked, claim, order::Order as Asked},
        intent::not_begun,
        restore::{
            apply::{Manner, Words, carry_out, moved_meanwhile, stored},
            survey::Survey,
        },
    },
    providers::{Provider, bounded::Bounded, kubernetes::Kubernetes},
    repository::{Repository, WriterPermit},
    worker::{
        audit,
        environment::{Environment, RunIdentity},
        failure::Failure,
        stop::Stop,
        work::{Begun, LeaseNeed, Needs, RepositoryNeed, Site, Work, begun},
    },
};
use kube::Client;

/// The words of the result.
const DELETED: Words = Words { nothing: reason::NOTHING_CHANGED, done: "deleted", unchanged: "were not there" };

/// Deletes many objects.
pub struct BulkDelete;

impl Work for BulkDelete {
    fn needs(&self) -> Needs {
        Needs { repository: RepositoryNeed::Ready, lease: LeaseNeed::Writes, last_words: true }
    }

    fn begin(&self, environment: &Environment) -> Result<Begun, Failure> {
        read_inputs(environment)?;
        Ok(begun(|site: Site<'_>| {
            Box::pin(async move {
                let provider = Kubernetes::new(site.client, site.environment.identity.namespace.clone());
                let permit = site.permit()?;
                let repository = site.repository()?;
                delete_from(&provider, site.client, site.environment, repository, site.clock, site.stop, permit).await
            })
        }))
    }
}

/// Reads the inputs: those of a bulk operation, and the repository. Call this before anything is
/// opened.
fn read_inputs(environment: &Environment) -> Result<BulkInputs, Failure> {
    let BulkDeleteInputs { repository, bulk_operation_run, plan_digest, approval } = environment.inputs()?;
    environment.expect_repository(&repository)?;
    Ok(BulkInputs { bulk_operation_run, plan_digest, approval })
}

/// Fails if a plan deletes objects of another kind that the garbage collector would not take. Why an item
/// goes is not in the digest of a plan, and who has the repository's password may change it there.
fn own_kind(plan: Plan, asked: &Asked) -> Result<Plan, Failure> {
    let kind = asked.asked.resource.group_kind();
    if plan.items().iter().all(|planned| planned.is_collected() || planned.item.kind == kind) {
        return Ok(plan);
    }
    let message = "make another preview: the plan of this one was changed";
    Err(Failure::blocked(restore::PLAN_LOST, message))
}

async fn has_intent(client: &Client, own: &RunIdentity) -> Result<bool, Failure> {
    audit::has_intent(client, own).await.map_err(|failure| not_begun(&failure))
}

/// Deletes from any provider. `client` reaches the run and its records.
pub async fn delete_from(
    provider: &dyn Provider,
    client: &Client,
    environment: &Environment,
    repository: &impl Repository,
    clock: &dyn Clock,
    stop: &Stop,
    permit: WriterPermit,
) -> Result<TerminationResult, Failure> {
    let provider = &Bounded::new(provider);
    let own = &environment.identity;
    let inputs = read_inputs(environment)?;
    let asked = bulk::order::read(client, own, &inputs).await?;
    let terms = order::terms(environment, &asked)?;
    let previewed = asked.previewed.as_ref().ok_or_else(|| {
        let message = "objects are deleted as a preview showed and no other way: make one with dryRun: true, and name it in spec.preview of a new bulk operation";
        blocked(order::invalid(message))
    })?;
    order::expect_served(provider, &asked).await?;
    let plan = match stored(repository, previewed, terms.clone()).await.and_then(|plan| own_kind(plan, &asked)) {
        Ok(plan) => plan,
        // An earlier attempt may have deleted, so that it is not true that nothing was done.
        Err(failure) if failure.reason == restore::PLAN_LOST && has_intent(client, own).await? => {
            let message = format!(
                "look at what is gone, restore the backup set of run {} if it has to come back, and preview the rest: the plan is gone that an earlier attempt has begun to carry out",
                own.run
            );
            return Err(Failure::permanent(reason::SELECTION_LOST, message));
        }
        Err(failure) => return Err(failure),
    };
    let named = plan.items().iter().filter(|planned| !planned.is_collected()).map(|planned| planned.item.clone());
    let order = order::deletion(&asked, terms, named.collect())?;
    let survey = Survey::take(provider, environment, repository, order).await?;
    let moved = moved_meanwhile(client, own, &survey, &plan).await?;
    if !moved.is_empty() {
        return Err(Failure::blocked(
            reason::PREVIEW_STALE,
            format!(
                "make another preview: nothing was deleted, because not everything is as the preview showed it: {}",
                first_of(&moved)
            ),
        ));
    }
    let claim = async || claim::take(client, own, &inputs).await.map(drop);
    let at_once = bulk::pace(&asked.bulk).parallelism;
    let manner = Manner { at_once, words: &DELETED, clock, stop, permit };
    carry_out(client, environment, repository, &survey, &plan, manner, claim).await
}
