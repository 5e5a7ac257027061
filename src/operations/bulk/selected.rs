//! Which objects a bulk operation works on. They are selected once: an attempt after a crash works
//! on the same ones.
//!
//! Names in the spec never change. Names that were found by their labels are stored in the run's
//! reports, before the intent is recorded. The intent has the digest of the list, and from then on
//! only the list of that digest counts. An attempt that died before its intent has written nothing,
//! and the next one selects anew.

use crate::{
    api::reason::bulk as reason,
    api::{BulkOperationRunSpec, bulk_operation_run::MAX_SELECTED},
    items::{bulk::digest, served::ServedKind},
    operations::{bulk::access::Denied, intent::not_begun},
    providers::{Provider, call::ListSelection, fault::Fault},
    worker::{
        audit,
        environment::RunIdentity,
        failure::{Failure, call_failure},
        report::{self, Contents},
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
    /// Whether the author named them. Otherwise they were found by their labels.
    pub named: bool,
}

/// Returns the objects, those of an earlier attempt if it recorded its intent.
pub async fn select(
    provider: &dyn Provider,
    client: &Client,
    own: &RunIdentity,
    spec: &BulkOperationRunSpec,
    kind: &ServedKind,
    denied: &Denied,
) -> Result<Selected, Failure> {
    let Some(labels) = &spec.label_selector else {
        let mut names = spec.items.clone();
        names.sort_unstable();
        return Ok(Selected { digest: digest(spec, &names), names, named: true });
    };
    let intent = audit::intent(client, own).await.map_err(|failure| not_begun(&failure))?;
    if let Some(intent) = intent {
        let names = report::read_selected(client, own, &intent.plan_digest).await?;
        let names = names.filter(|names| digest(spec, names) == intent.plan_digest).ok_or_else(lost)?;
        return Ok(Selected { names, digest: intent.plan_digest, named: false });
    }
    if let Some(why) = &denied.get {
        // Even the names say something about objects that the requester may not read.
        return Err(Failure::blocked(reason::FORBIDDEN, format!("nothing was selected: {why}")));
    }
    let names = list(provider, kind, labels).await?;
    let digest = digest(spec, &names);
    report::write(client, own, Contents::Selected(&names, &digest)).await?;
    Ok(Selected { names, digest, named: false })
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
