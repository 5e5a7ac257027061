//! Which objects a bulk operation works on. They are selected once: an attempt after a crash works
//! on the same ones.
//!
//! Names in the spec never change. Names that were found by their labels are stored in the run's
//! reports, before the intent is recorded. The intent has the digest of the list, and from then on
//! only the list of that digest counts. An attempt that died before its intent has written nothing,
//! and the next one selects anew. A bulk operation that applies a preview takes the list from the
//! reports of the preview's run.

use super::order::Order;
use crate::{
    api::reason::bulk as reason,
    api::{BulkOperationRunSpec, ObjectReference, bulk_operation_run::MAX_SELECTED},
    items::{
        bulk::{State, digest},
        eligible::PreviewedPlan,
        served::ServedKind,
    },
    operations::{bulk::access::Denied, intent::not_begun},
    providers::{Provider, call::ListSelection, fault::Fault},
    worker::{
        audit,
        environment::RunIdentity,
        failure::{Failure, call_failure},
        report::{self, Contents, SelectedObjects},
    },
};
use kube::Client;

/// The objects of a bulk operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selected {
    /// Their names, ascending, each once.
    pub names: Vec<String>,
    /// Digest of what is done, and with which objects.
    pub digest: String,
    /// What the preview found of each, if one is applied.
    pub expected: Option<Vec<State>>,
    /// Whether an earlier attempt has recorded its intent, so that it may have written.
    pub begun: bool,
}

/// Returns the objects, those of an earlier attempt if it recorded its intent.
pub async fn select(
    provider: &dyn Provider,
    client: &Client,
    own: &RunIdentity,
    order: &Order,
    kind: &ServedKind,
    denied: &Denied,
) -> Result<Selected, Failure> {
    let spec = &order.asked;
    if order.previewed.is_none() && spec.label_selector.is_none() {
        let names = named(spec);
        return Ok(Selected { digest: digest(spec, &names, None), names, expected: None, begun: false });
    }
    let intent = audit::intent(client, own).await.map_err(|failure| not_begun(&failure))?;
    let begun = intent.is_some();
    if let Some(previewed) = &order.previewed {
        if intent.is_some_and(|intent| intent.plan_digest != previewed.digest) {
            return Err(lost());
        }
        let SelectedObjects { names, states } = of_preview(client, own, spec, previewed).await?;
        return Ok(Selected { names, digest: previewed.digest.clone(), expected: states, begun });
    }
    if let Some(intent) = intent {
        let own_run = ObjectReference { name: own.run.clone(), uid: own.run_uid.clone() };
        let selected = report::read_selected(client, &own.namespace, &own_run, &intent.plan_digest).await?;
        let is_it = |selected: &SelectedObjects| digest(spec, &selected.names, None) == intent.plan_digest;
        let SelectedObjects { names, .. } = selected.filter(is_it).ok_or_else(lost)?;
        return Ok(Selected { names, digest: intent.plan_digest, expected: None, begun });
    }
    let names = find(provider, spec, kind, denied.read.as_deref()).await?;
    let digest = digest(spec, &names, None);
    report::write(client, own, Contents::Selected(&names, None, &digest)).await?;
    Ok(Selected { names, digest, expected: None, begun })
}

/// The names in a spec, in ascending order.
fn named(spec: &BulkOperationRunSpec) -> Vec<String> {
    let mut names = spec.items.clone();
    names.sort_unstable();
    names
}

/// The objects that a spec means now. `hidden` is why the requester may not read the kind, if so.
pub async fn find(
    provider: &dyn Provider,
    spec: &BulkOperationRunSpec,
    kind: &ServedKind,
    hidden: Option<&str>,
) -> Result<Vec<String>, Failure> {
    let Some(labels) = &spec.label_selector else { return Ok(named(spec)) };
    if let Some(why) = hidden {
        // Even the names say something about objects that the requester may not read.
        return Err(Failure::blocked(reason::FORBIDDEN, format!("nothing was selected: {why}")));
    }
    list(provider, kind, labels).await
}

/// The objects of a preview, with what it found of each.
async fn of_preview(
    client: &Client,
    own: &RunIdentity,
    spec: &BulkOperationRunSpec,
    previewed: &PreviewedPlan,
) -> Result<SelectedObjects, Failure> {
    let selected = report::read_selected(client, &own.namespace, &previewed.run, &previewed.digest).await?;
    let is_it = |selected: &SelectedObjects| {
        selected.states.as_ref().is_some_and(|states| digest(spec, &selected.names, Some(states)) == previewed.digest)
    };
    selected.filter(is_it).ok_or_else(|| {
        let message = "make another preview: the reports with what this one found are not all there, or were changed";
        Failure::blocked(reason::PLAN_LOST, message)
    })
}

async fn list(provider: &dyn Provider, kind: &ServedKind, labels: &str) -> Result<Vec<String>, Failure> {
    let selection = ListSelection { label_selector: Some(labels.to_owned()), name: None };
    let failed = |fault: &Fault| call_failure(&format!("list {}", kind.plural), fault);
    let mut listing = provider.list(kind, &selection);
    let mut names = Vec::new();
    while let Some(listed) = listing.next().await.map_err(|fault| failed(&fault))? {
        let name = match listed {
            Ok(object) => object.name,
            Err(broken) => broken.name,
        };
        if name.is_empty() {
            return Err(failed(&Fault::Garbled));
        }
        names.push(name);
        if names.len() > MAX_SELECTED {
            return Err(too_many(kind, labels));
        }
    }
    names.sort_unstable();
    names.dedup();
    if names.is_empty() {
        let message = format!(
            "correct spec.labelSelector in a new bulk operation: no {} of this namespace has labels that match {labels:?}",
            kind.group_kind()
        );
        return Err(Failure::blocked(reason::NOTHING_SELECTED, message));
    }
    if !report::fits(&names) {
        return Err(too_many(kind, labels));
    }
    Ok(names)
}

fn too_many(kind: &ServedKind, labels: &str) -> Failure {
    let message = format!(
        "narrow spec.labelSelector in several bulk operations: {labels:?} matches more {} than one takes, which is {MAX_SELECTED}, or 240 KiB of names",
        kind.plural
    );
    Failure::blocked(reason::TOO_MANY_SELECTED, message)
}

fn lost() -> Failure {
    Failure::permanent(
        reason::SELECTION_LOST,
        "create a new bulk operation: the reports with the objects that an earlier attempt selected are not all there, or were changed",
    )
}
