//! All writes of a workspace run's reconcile, in the order of the decision: runs, bulk operations or
//! restores are created, then cancelled, then the status records it.

use super::{
    decide::{Decision, Observed},
    orders::Order,
};
use crate::{
    api::{
        BulkOperationRun, ObjectReference, Outcome, Phase, Reason, RestoreRun, WorkspaceRun, WorkspaceRunStatus,
        result::truncate,
        workspace_run::{MAX_REFUSED, RefusedTenant, What, run_names},
    },
    kernel::{
        Error,
        delete::delete_as_seen,
        events::Severity,
        refusal::{CreateFailure, Refusal},
        status,
    },
    kinds::made_for::{self, over_quota, run_refused},
    runs::{context::Context, scheduled::Scheduled},
};
use k8s_openapi::NamespaceResourceScope;
use kube::{Api, Resource, ResourceExt, api::PostParams};
use serde::{Serialize, de::DeserializeOwned};
use std::fmt::Debug;

/// Carries out a decision. A crash in between leaves runs that the next pass finds.
pub async fn act(context: &Context, observed: &Observed, decision: Decision) -> Result<(), Error> {
    let Decision { start, cancel, status, delete, missing: _, gone: _, requeue: _ } = decision;
    let api = Api::all(context.client.clone());
    if delete {
        return delete_as_seen(&api, &*observed.run, |there| context.workspace_runs.wrote(there)).await;
    }
    let before = observed.run.status_or_default();
    let Started { refused, fault } = start_all(context, observed, &start).await;
    let not_cancelled = cancel_all(context, &observed.run, &cancel).await;
    let (failed_at, fault) = match fault {
        Some((namespace, fault)) => (Some(namespace), Some(fault)),
        None => (None, not_cancelled),
    };
    let mut next = match status {
        Some(next) => *next,
        None if !refused.is_empty() => before.clone(),
        None => return fault.map_or(Ok(()), Err),
    };
    next.refused.extend(refused);
    next.refused.sort_by(|one, other| one.namespace.cmp(&other.namespace));
    let current = next.waves.len().saturating_sub(1);
    if let (Some(wave), Some(failed_at)) = (next.waves.last_mut(), failed_at) {
        // A tenant before this mark that has no run gets none. Tenants start by name, so all before the one
        // that failed have had their turn: those that have a run, and those that got one in this pass.
        let earlier = before.waves.get(current).and_then(|wave| wave.started_through.clone());
        let tried = observed.children.keys().cloned().chain(start.iter().map(Order::namespace));
        wave.started_through = mark(earlier, tried, &failed_at);
    }
    let wrote = status::write(&api, &*observed.run, &before, &next, |written| context.workspace_runs.wrote(written));
    let waits = |status: &WorkspaceRunStatus| status.reason.as_deref() == Some(Reason::AwaitingApproval.as_str());
    if wrote.await? && (before.phase != next.phase || waits(&before) != waits(&next)) {
        announce(context, observed, &next);
    }
    fault.map_or(Ok(()), Err)
}

/// The last tenant that had its turn: the recorded one, or a later one before the tenant that failed.
fn mark(recorded: Option<String>, tried: impl Iterator<Item = String>, failed_at: &str) -> Option<String> {
    recorded.max(tried.filter(|namespace| namespace.as_str() < failed_at).max())
}

/// What became of the runs that were to be created.
struct Started {
    /// Tenants in which no run can be created.
    refused: Vec<RefusedTenant>,
    /// The first fault, and the tenant in which it was met. It may pass by itself.
    fault: Option<(String, Error)>,
}

/// Creates runs. If one meets a fault, the others are still created, and the next pass tries it again.
async fn start_all(context: &Context, observed: &Observed, orders: &[Order]) -> Started {
    let mut started = Started { refused: Vec::new(), fault: None };
    let known = observed.run.status.as_ref().map_or(0, |status| status.refused.len());
    for order in orders {
        let namespace = order.namespace();
        if known + started.refused.len() >= MAX_REFUSED {
            started.fault.get_or_insert((namespace, Error::Again("too many runs were refused")));
            break;
        }
        match create(context, observed, order).await {
            Ok(refusal) => {
                started.refused.extend(refusal.map(|Refusal { reason, message }| RefusedTenant {
                    namespace,
                    reason: reason.as_str().to_owned(),
                    message: truncate(&message, 400),
                }));
            }
            Err(error) => {
                tracing::warn!(tenant = namespace, %error, "its run was not created; it is tried again");
                started.fault.get_or_insert((namespace, error));
            }
        }
    }
    started
}

/// Creates what is to be created in a tenant. Returns why it cannot be.
async fn create(context: &Context, observed: &Observed, order: &Order) -> Result<Option<Refusal>, Error> {
    match order {
        Order::Run(run) => create_one(context, observed, &**run, |made| context.wrote(made)).await,
        Order::Bulk(bulk) => {
            create_one(context, observed, &**bulk, |made| context.wrote_child(&context.bulks, made)).await
        }
        Order::Restore(restore) => {
            create_one(context, observed, &**restore, |made| context.wrote_child(&context.restores, made)).await
        }
    }
}

/// Creates an object, under its second name if another one has the first.
async fn create_one<K>(
    context: &Context,
    observed: &Observed,
    object: &K,
    wrote: impl Fn(K),
) -> Result<Option<Refusal>, Error>
where
    K: Scheduled
        + Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned,
{
    let namespace = object.namespace().unwrap_or_default();
    let kind = K::kind(&());
    let api: Api<K> = Api::namespaced(context.client.clone(), &namespace);
    let names = run_names(&observed.run.name_any(), &observed.run.uid().unwrap_or_default());
    for name in &names {
        let mut object = object.clone();
        object.meta_mut().name = Some(name.clone());
        let error = match api.create(&PostParams::default(), &object).await {
            Ok(made) => {
                wrote(made);
                return Ok(None);
            }
            Err(error) => error,
        };
        match CreateFailure::of(&error) {
            CreateFailure::Taken => {
                let there = api.get_opt(name).await?.ok_or(Error::Again("an object came and went"))?;
                // Ours, from before a crash or from another leader; or not ours, whatever it looks
                // like.
                if there.scheduled_by() == object.scheduled_by() {
                    wrote(there);
                    return Ok(None);
                }
            }
            CreateFailure::NamespaceTerminating => return Ok(None),
            CreateFailure::OverQuota(says) => {
                return Ok(Some(over_quota::<K>(&truncate(&says, 150), &namespace, KIND)));
            }
            CreateFailure::Refused(says) => return Ok(Some(run_refused::<K>(&truncate(&says, 150), KIND))),
            CreateFailure::Fault => return Err(error.into()),
        }
    }
    let [first, second] = names;
    let message = format!(
        "{kind}s of others have both names that the one of this tenant may have, {first} and {second}: delete one, then create a new workspace run"
    );
    Ok(Some(Refusal::new(Reason::RunNameTaken, message)))
}

/// Cancels what was created. If one meets a fault, the others are still cancelled. Returns the first
/// fault: the next pass tries it again.
async fn cancel_all(context: &Context, run: &WorkspaceRun, cancel: &[(String, ObjectReference)]) -> Option<Error> {
    let mut fault = None;
    for (namespace, of) in cancel {
        if let Err(error) = cancel_one(context, run, namespace, of).await {
            tracing::warn!(tenant = namespace, %error, "its run was not cancelled; it is tried again");
            fault.get_or_insert(error);
        }
    }
    fault
}

/// Cancels what was created in a tenant.
async fn cancel_one(context: &Context, run: &WorkspaceRun, namespace: &str, of: &ObjectReference) -> Result<(), Error> {
    match run.what() {
        Some(What::Operation(_)) | None => made_for::cancel(context, namespace, of).await,
        Some(What::Bulk(_)) => {
            let wrote = |bulk| context.wrote_child(&context.bulks, bulk);
            made_for::cancel_object::<BulkOperationRun>(context, namespace, of, wrote).await
        }
        Some(What::Restore(_) | What::Undo(_)) => {
            let wrote = |restore| context.wrote_child(&context.restores, restore);
            made_for::cancel_object::<RestoreRun>(context, namespace, of, wrote).await
        }
    }
}

/// The word for the kind in messages.
const KIND: &str = "workspace run";

fn announce(context: &Context, observed: &Observed, next: &WorkspaceRunStatus) {
    let bad = next.phase == Phase::Completed && next.outcome != Outcome::Succeeded;
    let severity = if bad { Severity::Warning } else { Severity::Normal };
    let action = match next.phase {
        Phase::Queued => "Wait",
        Phase::Running => "Run",
        Phase::Completed => "Complete",
    };
    let (reason, message) = (next.reason.as_deref(), next.message.as_deref());
    context.events.publish(&*observed.run, severity, reason.unwrap_or_default(), action, message.unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::mark;

    #[test]
    fn a_tenant_that_fails_hides_no_earlier_turn_and_those_after_it_are_tried_again() {
        let text = |name: &str| Some(name.to_owned());
        let mark = |recorded, tried: &[&str], failed| mark(recorded, tried.iter().map(|one| (*one).to_owned()), failed);
        assert_eq!(
            mark(text("a"), &["a", "b", "c", "d"], "c"),
            text("b"),
            "b got its run in a pass that was not recorded"
        );
        assert_eq!(mark(None, &["c", "d"], "c"), None);
        assert_eq!(mark(text("a"), &["c"], "c"), text("a"));
        assert_eq!(mark(text("b"), &["a", "c"], "c"), text("b"), "it never goes back");
    }
}
