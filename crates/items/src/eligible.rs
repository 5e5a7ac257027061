//! Whether a restore may be done at all: what can be known of it before the first item is looked at.
//!
//! Asked twice: by the controller, so that it is blocked before there is a run, and by the worker, because time has passed.

use crate::{
    api::{
        BackupRepositorySpec, BackupSet, LocalReference, ObjectReference, Outcome, Phase, Reason, RestoreRun,
        RestoreRunSpec, subject::Initiator,
    },
    selection::ItemSelection,
    transform::Transforms,
};

/// Why a restore is not done. Final.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ineligible {
    /// The code.
    pub reason: Reason,
    /// What is wrong, where, and what to do.
    pub message: String,
}

/// A plan that a preview made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreviewedPlan {
    /// The run that made it, and has it in its reports.
    pub run: ObjectReference,
    /// Its digest.
    pub digest: String,
}

/// Who asked.
pub fn requester(spec: &RestoreRunSpec) -> Result<&Initiator, Ineligible> {
    spec.requested_by.as_ref().ok_or_else(|| Ineligible {
        reason: Reason::NoRequester,
        message: "spec.requestedBy is empty, so that it is not known what this restore may do: admission sets it; where that is off, state it in a new restore".to_owned(),
    })
}

/// What is selected, and what is changed on the way, read.
pub fn terms(spec: &RestoreRunSpec) -> Result<(ItemSelection, Transforms), Ineligible> {
    let invalid = |error: &dyn std::fmt::Display| Ineligible {
        reason: Reason::InvalidRestore,
        message: format!("spec.{error}: correct it in a new restore"),
    };
    let selection = ItemSelection::new(&spec.items, &spec.exclude_items).map_err(|error| invalid(&error))?;
    let transforms = Transforms::new(&spec.transforms).map_err(|error| invalid(&error))?;
    Ok((selection, transforms))
}

/// Makes sure that a set is of this namespace, or of one that its repository adopts.
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

/// The plan of the preview that a restore names, if it can be carried out by this restore; none if it names none.
/// `preview` is the restore of that name.
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
