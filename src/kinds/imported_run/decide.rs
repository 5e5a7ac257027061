//! What becomes of an imported run. Pure.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use super::records::{Record, Wanted};
use crate::api::{ImportedRun, ImportedRunSpec, ImportedRunStatus, ObjectReference, labels};
use jiff::Timestamp;
use kube::{ResourceExt, core::ObjectMeta};
use std::{collections::BTreeMap, sync::Arc};

/// What a decision is made from.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The namespace.
    pub namespace: String,
    /// The name of the imported run.
    pub name: String,
    /// Whether the namespace is a tenant.
    pub is_tenant: bool,
    /// When the namespace was created.
    pub since: Option<Timestamp>,
    /// Whether the namespace is being deleted, and everything in it.
    pub terminating: bool,
    /// The imported run, if there is one.
    pub existing: Option<Arc<ImportedRun>>,
    /// The record that it should be about.
    pub wanted: Wanted,
    /// The run of the tenant that the record names.
    pub run: Option<RunView>,
}

/// A run of ours that a record names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunView {
    /// The run.
    pub reference: ObjectReference,
    /// When it was created.
    pub created: Option<Timestamp>,
    /// When it completed, if it has.
    pub completed: Option<Timestamp>,
}

/// What becomes of an imported run.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// It stays as it is, or is not there and stays away.
    Nothing,
    /// It is created.
    Create(Box<ImportedRun>),
    /// Its record is gone, is none of the newest or older than the namespace, or the namespace is no
    /// tenant.
    Delete(Arc<ImportedRun>),
    /// Its status is another one now.
    Say(Arc<ImportedRun>, Box<ImportedRunStatus>),
}

/// Decides about one name.
#[must_use]
pub fn decide(observed: &Observed) -> Decision {
    let existing = observed.existing.as_ref();
    if observed.terminating || existing.is_some_and(|existing| existing.metadata.deletion_timestamp.is_some()) {
        return Decision::Nothing;
    }
    let record = match &observed.wanted {
        Wanted::Record(record) if observed.is_tenant && is_of_this_tenant(record, observed.since) => record,
        // What the other system has is not known yet: nothing is deleted for that.
        Wanted::Unknown if observed.is_tenant => return Decision::Nothing,
        _ => return existing.map_or(Decision::Nothing, |existing| Decision::Delete(existing.clone())),
    };
    let Some(existing) = existing else { return Decision::Create(Box::new(new(observed, record))) };
    if existing.spec != spec(record) {
        return Decision::Delete(existing.clone());
    }
    let status = ImportedRunStatus { run: link(record, observed.run.as_ref()), ..record.status.clone() };
    if existing.status.as_ref() == Some(&status) {
        return Decision::Nothing;
    }
    Decision::Say(existing.clone(), Box::new(status))
}

/// Whether a record is not older than the namespace. Another owner may have had the namespace before,
/// under the same name, and Velero keeps the records of that one.
fn is_of_this_tenant(record: &Record, since: Option<Timestamp>) -> bool {
    since.zip(record.status.created_at).is_some_and(|(since, created)| created >= since)
}

fn spec(record: &Record) -> ImportedRunSpec {
    ImportedRunSpec { system: record.system, source: record.source.clone() }
}

fn new(observed: &Observed, record: &Record) -> ImportedRun {
    ImportedRun {
        metadata: ObjectMeta {
            name: Some(observed.name.clone()),
            namespace: Some(observed.namespace.clone()),
            labels: Some(BTreeMap::from([(labels::MANAGED_BY.to_owned(), labels::MANAGER.to_owned())])),
            ..ObjectMeta::default()
        },
        spec: spec(record),
        status: None,
    }
}

/// The run that a record names, if both were under way at the same time.
///
/// The annotation alone proves nothing: a template copies it to each record that is made from it.
fn link(record: &Record, run: Option<&RunView>) -> Option<ObjectReference> {
    let run = run.filter(|run| record.claims.as_deref() == Some(run.reference.name.as_str()))?;
    let (created, of_run) = (record.status.created_at?, run.created?);
    let began_before = |began: Timestamp, ended: Option<Timestamp>| ended.is_none_or(|ended| began <= ended);
    let overlap = began_before(created, run.completed) && began_before(of_run, record.status.completed_at);
    overlap.then(|| run.reference.clone())
}

impl RunView {
    /// What a link depends on.
    #[must_use]
    pub fn of(run: &crate::api::OperationRun) -> Self {
        Self {
            reference: ObjectReference::of(run),
            created: run.creation_timestamp().map(|time| time.0),
            completed: run.status.as_ref().and_then(|status| status.completed_at),
        }
    }
}
