//! The workspace run that another one applies or undoes: whether it can be, in which tenants, and the
//! digest over the plans of all of them. Pure.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use super::plan::Tenant;
use crate::{
    api::{ObjectReference, Outcome, PreviewReference, Reason, WorkspaceRun, canonical, workspace_run::What},
    kernel::refusal::Refusal,
    runs::children::Child,
};
use kube::ResourceExt;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// The workspace run in `spec.preview`, or else in `spec.undoOf`.
#[derive(Clone, Debug, Default)]
pub enum Source {
    /// None is named.
    #[default]
    NotAsked,
    /// There is none of this name.
    Missing,
    /// What it created.
    Found {
        /// The workspace run of that name, while this one has not started.
        named: Option<Arc<WorkspaceRun>>,
        /// It, as it was at the start.
        reference: ObjectReference,
        /// Its bulk operations or restores, by namespace.
        children: BTreeMap<String, Child>,
    },
}

impl Source {
    /// What it created in a tenant.
    #[must_use]
    pub fn child(&self, namespace: &str) -> Option<&Child> {
        match self {
            Self::Found { children, .. } => children.get(namespace),
            Self::NotAsked | Self::Missing => None,
        }
    }

    /// The tenants that are taken, if these follow from it: those to which the preview showed
    /// something, or in which there is something to undo.
    #[must_use]
    pub fn tenants(&self, run: &WorkspaceRun) -> Option<BTreeSet<&str>> {
        let Self::Found { children, .. } = self else { return None };
        let takes = |child: &Child| match run.spec.preview {
            Some(_) => child.shown().is_some(),
            None => child.undo().is_some(),
        };
        Some(children.iter().filter(|(_, child)| takes(child)).map(|(namespace, _)| namespace.as_str()).collect())
    }
}

/// The digest over the plans that a preview has shown, in the order of the names of the tenants;
/// `None` if it has shown none. The uid of each preview is part of it.
#[must_use]
pub fn digest_of(children: &BTreeMap<String, Child>) -> Option<String> {
    let shown = children.iter().filter_map(|(namespace, child)| {
        child.shown().map(|digest| json!({ "namespace": namespace, "uid": child.run.uid, "planDigest": digest }))
    });
    let shown: Vec<Value> = shown.collect();
    (!shown.is_empty()).then(|| canonical::digest(&Value::from(shown)))
}

/// Refuses what cannot be applied or undone, before the workspace run starts.
pub fn expect_usable(run: &WorkspaceRun, source: &Source, tenants: &[Tenant]) -> Result<(), Refusal> {
    match (&run.spec.preview, source, &run.spec.undo_of) {
        (Some(preview), Source::Missing, _) => Err(not_usable(preview, "does not exist")),
        (Some(preview), Source::Found { named: Some(named), children, .. }, _) => {
            expect_preview(run, preview, named, children, tenants)
        }
        (None, Source::Missing, Some(undone)) => Err(no_undo(&undone.name, "does not exist")),
        (None, Source::Found { named: Some(named), .. }, Some(undone)) => expect_undo(run, &undone.name, named, source),
        _ => Ok(()),
    }
}

fn not_usable(preview: &PreviewReference, why: &str) -> Refusal {
    let message = format!(
        "spec.preview: workspace run {} {why}: name a completed one with dryRun: true that is otherwise the same",
        preview.name
    );
    Refusal::new(Reason::PreviewNotUsable, message)
}

fn no_undo(name: &str, why: &str) -> Refusal {
    let message = format!(
        "spec.undoOf: workspace run {name} {why}: name a completed one that deleted objects, or restored, in tenants of this workspace"
    );
    Refusal::new(Reason::UndoNotPossible, message)
}

fn expect_preview(
    run: &WorkspaceRun,
    preview: &PreviewReference,
    named: &WorkspaceRun,
    children: &BTreeMap<String, Child>,
    tenants: &[Tenant],
) -> Result<(), Refusal> {
    let no = |why: &str| Err(not_usable(preview, why));
    let status = named.status_or_default();
    if !named.spec.dry_run {
        return no("is not a preview");
    }
    if named.spec.workspace != run.spec.workspace {
        return no("is of another workspace");
    }
    if !is_same(run, named) {
        return no("does something else");
    }
    if !named.is_completed() {
        return no("is not completed");
    }
    let (true, Some(digest)) =
        (matches!(status.outcome, Outcome::Succeeded | Outcome::PartiallySucceeded), status.plan_digest)
    else {
        return no("made no plan that can be applied");
    };
    if let Some(why) = preview.rejects(&digest) {
        return no(&format!("is not usable: {why}"));
    }
    let stale = |why: String| {
        let message = format!("nothing is done: {why}; create a preview again");
        Err(Refusal::new(Reason::PreviewStale, message))
    };
    if digest_of(children) != Some(digest) {
        return stale(format!(
            "what workspace run {} showed of some tenants is deleted, or their namespaces are",
            preview.name
        ));
    }
    let there: BTreeSet<&str> = tenants.iter().map(|tenant| tenant.namespace.as_str()).collect();
    let left =
        children.iter().find(|(namespace, child)| child.shown().is_some() && !there.contains(namespace.as_str()));
    match left {
        Some((namespace, _)) => {
            stale(format!("{namespace} is no tenant of workspace {} any more", run.spec.workspace.name))
        }
        None => Ok(()),
    }
}

/// Whether another workspace run did, or showed, what this one is to do. What is compared is kept in the
/// cache of completed ones.
#[must_use]
pub fn is_same(run: &WorkspaceRun, other: &WorkspaceRun) -> bool {
    match (run.what(), other.what()) {
        (Some(What::Operation(one)), Some(What::Operation(other))) => one.operation_type == other.operation_type,
        (Some(What::Bulk(one)), Some(What::Bulk(other))) => {
            one.resource == other.resource && one.action == other.action
        }
        (Some(What::Restore(one)), Some(What::Restore(other))) => one.backup_set == other.backup_set,
        (Some(What::Undo(one)), Some(What::Undo(other))) => one == other,
        _ => false,
    }
}

fn expect_undo(run: &WorkspaceRun, name: &str, named: &WorkspaceRun, source: &Source) -> Result<(), Refusal> {
    let no = |why: &str| Err(no_undo(name, why));
    if named.spec.workspace != run.spec.workspace {
        no("is of another workspace")
    } else if !named.is_completed() {
        no("is not completed")
    } else if named.spec.dry_run {
        no("is a preview, which changed nothing")
    } else if source.tenants(run).is_none_or(|tenants| tenants.is_empty()) {
        no("left no backup set of what it changed, or its records are deleted")
    } else {
        Ok(())
    }
}

/// Reference to a workspace run.
#[must_use]
pub fn reference_to(run: &WorkspaceRun) -> ObjectReference {
    ObjectReference { name: run.name_any(), uid: run.uid().unwrap_or_default() }
}
