//! All reads of an imported run's pass, from caches.

use super::{
    decide::{Observed, RunView},
    records::Records,
};
use crate::{api::ImportedRun, kernel::name::Name, runs::context::Context};

/// Reads what a decision about a name depends on.
pub(super) fn observe(context: &Context, records: &Records, name: &Name<ImportedRun>) -> Observed {
    let (namespace, name) = (name.namespace(), name.name());
    let tenant = context.namespaces.get("", namespace);
    let existing = context.imported.get(namespace, name);
    let wanted = records.wanted(namespace, name, existing.as_deref());
    let run = wanted.claims().and_then(|run| context.runs.get(namespace, run)).map(|run| RunView::of(&run));
    Observed {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        is_tenant: tenant.is_some(),
        since: tenant.as_ref().and_then(|tenant| tenant.metadata.creation_timestamp.as_ref()).map(|time| time.0),
        terminating: tenant.is_some_and(|tenant| tenant.metadata.deletion_timestamp.is_some()),
        existing,
        wanted,
        run,
    }
}
