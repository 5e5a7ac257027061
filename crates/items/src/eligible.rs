//! Whether a restore may run at all: everything that is known before the first item is read.
//!
//! Checked twice: by the controller, to block the restore before it gets a run, and by the worker,
//! because time has passed.

use crate::{
    api::{
        BackupRepositorySpec, BackupSet, LocalReference, ObjectReference, Outcome, Phase, Reason, RestoreRun,
        RestoreRunSpec, subject::Initiator,
    },
    selection::ItemSelection,
    transform::Transforms,
};

/// Why a restore is not carried out. Final.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ineligible {
    /// The reason code.
    pub reason: Reason,
    /// What is wrong, where, and what to do.
    pub message: String,
}

/// The plan of a preview.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreviewedPlan {
    /// The run that made the plan and has it in its reports.
    pub run: ObjectReference,
    /// The plan's digest.
    pub digest: String,
}

/// The requester of a restore.
pub fn requester(spec: &RestoreRunSpec) -> Result<&Initiator, Ineligible> {
    spec.requested_by.as_ref().ok_or_else(|| Ineligible {
        reason: Reason::NoRequester,
        message: "spec.requestedBy is empty, so that it is not known what this restore may do: admission sets it; where that is off, state it in a new restore".to_owned(),
    })
}

/// Parses the selection and the transforms of a restore.
pub fn terms(spec: &RestoreRunSpec) -> Result<(ItemSelection, Transforms), Ineligible> {
    let invalid = |error: &dyn std::fmt::Display| Ineligible {
        reason: Reason::InvalidRestore,
        message: format!("spec.{error}: correct it in a new restore"),
    };
    let selection = ItemSelection::new(&spec.items, &spec.exclude_items).map_err(|error| invalid(&error))?;
    let transforms = Transforms::new(&spec.transforms).map_err(|error| invalid(&error))?;
    Ok((selection, transforms))
}

/// Checks that a set belongs to this namespace, or to one that its repository adopts.
pub fn own_set(
    set: &BackupSet,
    namespace_uid: &str,
    repository: Option<&BackupRepositorySpec>,
) -> Result<(), Ineligible> {
    let of = &set.spec.namespace_uid;
    let adopted = repository.and_then(|repository| repository.adopt.as_ref());
    if of == namespace_uid || adopted.is_some_and(|adopt| adopt.namespace_uids.contains(of)) {
        return Ok(());
    }
    Err(Ineligible {
        reason: Reason::ForeignBackupSet,
        message: format!(
            "the backup set {} is of another namespace, with the uid {of}: an administrator may adopt it with spec.adopt.namespaceUids of BackupRepository {}",
            set.metadata.name.as_deref().unwrap_or_default(),
            set.spec.repository.name
        ),
    })
}

/// Returns the plan of the preview that a restore names, if this restore can carry it out, or
/// `None` if it names no preview. `preview` is the restore of that name.
pub fn previewed_plan(
    restore: &RestoreRunSpec,
    preview: Option<&RestoreRun>,
) -> Result<Option<PreviewedPlan>, Ineligible> {
    let Some(LocalReference { name }) = &restore.preview else { return Ok(None) };
    let no = |why: &str| {
        Err(Ineligible {
            reason: Reason::PreviewNotUsable,
            message: format!(
                "spec.preview: restore {name} cannot be applied: {why}: name a completed run with dryRun: true, of the same backup set"
            ),
        })
    };
    let Some(preview) = preview else { return no("it does not exist (the history limit may have deleted it)") };
    let status = preview.status_or_default();
    let made = matches!(status.outcome, Outcome::Succeeded | Outcome::PartiallySucceeded);
    if !preview.spec.dry_run {
        no("it is not a preview")
    } else if preview.spec.backup_set != restore.backup_set {
        no("it is of another backup set")
    } else if status.phase != Phase::Completed {
        no("it is not completed")
    } else if let (true, Some(run), Some(digest)) = (made, status.operation_run, status.plan_digest) {
        Ok(Some(PreviewedPlan { run, digest }))
    } else {
        no("it made no plan")
    }
}
