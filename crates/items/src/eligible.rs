//! Whether a restore may run at all: everything that is known before the first item is read.
//!
//! Checked twice: by the controller, to block the restore before it gets a run, and by the worker,
//! because time has passed.

use crate::{
    api::{
        BackupRepositorySpec, BackupSet, ObjectReference, Outcome, Phase, Reason, RestoreRun, RestoreRunSpec,
        backup_set::Content, subject::Initiator,
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
    /// The run that made the plan.
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

/// Checks that a set holds objects, and not only an inventory of them.
pub fn holds_objects(set: &BackupSet) -> Result<(), Ineligible> {
    if set.spec.content == Content::Objects {
        return Ok(());
    }
    Err(Ineligible {
        reason: Reason::BackupSetIsInventory,
        message: format!(
            "the backup set {} is an inventory: it records which objects there were, and holds none of them: name a set with spec.content Objects (`kubectl get backupsets` shows it)",
            set.metadata.name.as_deref().unwrap_or_default()
        ),
    })
}

/// Returns the plan of the preview that a restore names, if this restore can carry it out, or
/// `None` if it names no preview. `preview` is the restore of that name.
pub fn previewed_plan(
    restore: &RestoreRunSpec,
    preview: Option<&RestoreRun>,
) -> Result<Option<PreviewedPlan>, Ineligible> {
    let Some(named) = &restore.preview else { return Ok(None) };
    let name = &named.name;
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
    } else if preview.spec.finding != restore.finding {
        no("it is of another finding, or of another path")
    } else if status.phase != Phase::Completed {
        no("it is not completed")
    } else if let (true, Some(run), Some(digest)) = (made, status.operation_run, status.plan_digest) {
        named.rejects(&digest).map_or(Ok(Some(PreviewedPlan { run, digest })), |why| no(&why))
    } else {
        no("it made no plan")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn restore(spec: Value) -> RestoreRunSpec {
        let mut spec = spec;
        spec["backupSet"] = json!({"name": "nightly"});
        serde_json::from_value(spec).expect("a spec")
    }

    #[test]
    fn a_restore_that_nobody_asked_for_is_not_done() {
        let spec = restore(json!({"requestedBy": {"username": "ada"}}));
        assert_eq!(requester(&spec).map(|who| who.username.as_str()), Ok("ada"));
        assert_eq!(requester(&restore(json!({}))).map_err(|error| error.reason), Err(Reason::NoRequester));
    }

    #[test]
    fn terms_that_do_not_read_are_refused_with_the_field() {
        assert!(terms(&restore(json!({"items": [{"kind": "Secret"}]}))).is_ok());
        for (spec, field) in [
            (json!({"items": [{"labelSelector": "=a"}]}), "spec.items"),
            (json!({"excludeItems": [{"labelSelector": "=a"}]}), "spec.excludeItems"),
            (json!({"transforms": [{"select": {}, "patch": [{"op": "remove", "path": "a"}]}]}), "spec.transforms"),
        ] {
            let refused = terms(&restore(spec)).expect_err(field);
            assert_eq!(refused.reason, Reason::InvalidRestore);
            assert!(refused.message.starts_with(field), "{}", refused.message);
        }
    }

    #[test]
    fn a_set_is_of_this_namespace_or_of_one_that_its_repository_adopts() {
        let set: BackupSet = serde_json::from_value(json!({
            "apiVersion": "tenantatlas.io/v1alpha1", "kind": "BackupSet", "metadata": {"name": "nightly"},
            "spec": {"repository": {"name": "main"}, "snapshot": "0".repeat(64), "namespaceUid": "lost",
                "run": {"name": "r", "uid": "u"}}
        }))
        .expect("a set");
        let repository = |adopted: Value| -> BackupRepositorySpec {
            serde_json::from_value(json!({"storage": {}, "passwordSecret": {"name": "p"}, "adopt": adopted}))
                .expect("a spec")
        };
        let adopts = |uid: &str| repository(json!({"namespaceUids": [uid]}));
        assert_eq!(own_set(&set, "lost", None), Ok(()));
        assert_eq!(own_set(&set, "new", Some(&adopts("lost"))), Ok(()));
        for other in [None, Some(repository(Value::Null)), Some(adopts("new"))] {
            let refused = own_set(&set, "new", other.as_ref()).expect_err("foreign");
            assert_eq!(refused.reason, Reason::ForeignBackupSet);
            assert!(refused.message.contains("backup set nightly") && refused.message.contains("the uid lost"));
        }
    }

    #[test]
    fn an_inventory_cannot_be_restored() {
        let set = |content: Option<&str>| -> BackupSet {
            let mut spec = json!({"repository": {"name": "main"}, "snapshot": "0".repeat(64), "namespaceUid": "n",
                "run": {"name": "r", "uid": "u"}});
            if let Some(content) = content {
                spec["content"] = json!(content);
            }
            serde_json::from_value(json!({"apiVersion": "tenantatlas.io/v1alpha1", "kind": "BackupSet",
                "metadata": {"name": "nightly"}, "spec": spec}))
            .expect("a set")
        };
        assert_eq!(holds_objects(&set(None)), Ok(()), "as all sets of 0.1.0");
        assert_eq!(holds_objects(&set(Some("Objects"))), Ok(()));
        let refused = holds_objects(&set(Some("Inventory"))).expect_err("it holds none");
        assert_eq!(refused.reason, Reason::BackupSetIsInventory);
        assert!(refused.message.starts_with("the backup set nightly is an inventory"), "{}", refused.message);
    }

    #[test]
    fn a_preview_is_applied_if_it_is_completed_and_made_a_plan_of_the_same_set() {
        let preview = |change: &dyn Fn(&mut Value)| -> RestoreRun {
            let mut preview = json!({"apiVersion": "tenantatlas.io/v1alpha1", "kind": "RestoreRun", "metadata": {"name": "p"},
                "spec": {"backupSet": {"name": "nightly"}, "dryRun": true},
                "status": {"phase": "completed", "outcome": "succeeded", "planDigest": "d", "operationRun": {"name": "r", "uid": "u"}}});
            change(&mut preview);
            serde_json::from_value(preview).expect("a restore")
        };
        let apply = restore(json!({"preview": {"name": "p"}}));
        let plan = PreviewedPlan { run: ObjectReference { name: "r".into(), uid: "u".into() }, digest: "d".into() };
        assert_eq!(previewed_plan(&restore(json!({})), None), Ok(None));
        let partial = preview(&|preview| preview["status"]["outcome"] = json!("partially_succeeded"));
        for usable in [preview(&|_| ()), partial] {
            assert_eq!(previewed_plan(&apply, Some(&usable)), Ok(Some(plan.clone())));
        }
        for (why, preview) in [
            ("it does not exist", None),
            ("it is not a preview", Some(preview(&|preview| preview["spec"]["dryRun"] = json!(false)))),
            (
                "it is of another backup set",
                Some(preview(&|preview| preview["spec"]["backupSet"]["name"] = json!("x"))),
            ),
            ("it is not completed", Some(preview(&|preview| preview["status"]["phase"] = json!("running")))),
            ("it made no plan", Some(preview(&|preview| preview["status"]["outcome"] = json!("failed")))),
            ("it made no plan", Some(preview(&|preview| preview["status"]["planDigest"] = Value::Null))),
        ] {
            let refused = previewed_plan(&apply, preview.as_ref()).expect_err(why);
            assert_eq!(refused.reason, Reason::PreviewNotUsable);
            assert!(refused.message.contains(why), "{} is not {why}", refused.message);
        }
    }
}
