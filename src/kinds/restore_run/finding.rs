//! The finding whose item a restore puts back. Pure.
//!
//! A worker wrote the finding, so its names are checked before they are used. What is restored is
//! pinned when the run is created: the finding may have another baseline by the time it is done.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use crate::{
    api::{
        Finding, FindingStatus, LocalReference, ObjectReference, OperationRun, Outcome, Reason, RestoreRun,
        RestoreRunSpec,
        finding::{Change, Restored},
        item::{GroupKind, ItemId},
        operations::BaselineItem,
        reference::is_object_name,
        restore_run::FindingReference,
    },
    kernel::refusal::Refusal,
};
use kube::{Resource, ResourceExt};

/// How many paths a message names.
const NAMED: usize = 5;

/// The backup set that a restore is to be restored from: the one that it names, or the baseline of
/// its finding, or of the finding when its preview was made.
#[must_use]
pub fn backup_set<'a>(
    spec: &'a RestoreRunSpec,
    finding: Option<&'a Finding>,
    preview: Option<&'a RestoreRun>,
) -> Option<&'a str> {
    let previewed = preview.and_then(|preview| preview.status.as_ref()?.backup_set.as_ref());
    let named = spec.backup_set.as_ref().or(previewed.filter(|_| spec.finding.is_some()));
    let name = match named {
        Some(LocalReference { name }) => name.as_str(),
        None => finding?.spec.baseline.backup_set.name.as_str(),
    };
    is_object_name(name).then_some(name)
}

/// The item to put back from a set, if the restore is of a finding.
pub fn item(
    restore: &RestoreRun,
    finding: Option<&Finding>,
    set: Option<&ObjectReference>,
) -> Result<Option<BaselineItem>, Refusal> {
    let spec = &restore.spec;
    let Some(FindingReference { name, path }) = &spec.finding else { return Ok(None) };
    let Some(finding) = finding else {
        let namespace = restore.namespace().unwrap_or_default();
        return Err(Refusal::new(
            Reason::FindingNotFound,
            format!(
                "spec.finding: there is no Finding {name:?} in namespace {namespace}: `kubectl get findings -n {namespace}` lists those there are"
            ),
        ));
    };
    let (subject, baseline) = (&finding.spec.subject, &finding.spec.baseline.backup_set);
    // A set of the preview is named by its plan.
    if set.is_none_or(|set| spec.preview.is_none() && set.uid != baseline.uid) {
        return Err(Refusal::new(
            Reason::BackupSetNotFound,
            format!(
                "spec.finding: the baseline of {name}, the BackupSet {:?}, is gone: find drift again with another baseline, or name a set in spec.backupSet and the item in spec.items",
                baseline.name
            ),
        ));
    }
    let no = |why: &str| Err(Refusal::new(Reason::FindingNotRestorable, format!("spec.finding: {name} {why}")));
    let mut item = ItemId::new(GroupKind::new(&subject.group, &subject.kind), &subject.name);
    item.provider = subject.provider.clone();
    let text = item.to_string();
    // A kind with a slash in it would read as another item.
    if ItemId::of_object(&text).ok() != Some(item) {
        return no("names no object that a restore could write: put its item back in another way");
    }
    match finding.spec.change {
        Change::Added if path.is_some() => {
            return no("is of an item that its baseline does not hold: leave out path");
        }
        Change::Added if !spec.prune && spec.preview.is_none() => {
            return no(
                "is of an item that its baseline does not hold, so putting it back deletes it: look at that first, with dryRun: true and prune: true, then create a restore whose preview names that run",
            );
        }
        Change::Removed if path.is_some() => {
            return no("is of an item that is gone: leave out path, and the whole object is put back");
        }
        _ => {}
    }
    let evidence = &finding.spec.evidence;
    let is_known = |path: &String| evidence.iter().any(|evidence| evidence.path == *path);
    if let Some(path) = path.as_ref().filter(|path| finding.spec.evidence_left_out == 0 && !is_known(path)) {
        if evidence.is_empty() {
            return no("shows no paths: leave out path, and the whole object is put back");
        }
        let paths: Vec<&str> = evidence.iter().take(NAMED).map(|evidence| evidence.path.as_str()).collect();
        return no(&format!("has no evidence at {path:?}: its paths are {}", paths.join(", ")));
    }
    Ok(Some(BaselineItem { backup_set: set.map(|set| set.name.clone()).unwrap_or_default(), item: text }))
}

/// The status of a finding whose item a run has put back from `set`. Nothing if the run has not, if
/// the status says so already, or if the finding has another baseline by now: that of a preview may
/// be older.
#[must_use]
pub fn restored(
    restore: &RestoreRun,
    run: &OperationRun,
    set: Option<&LocalReference>,
    finding: &Finding,
) -> Option<FindingStatus> {
    let FindingReference { path, .. } = restore.spec.finding.as_ref()?;
    let status = run.status_or_default();
    let all_done = status.outcome == Outcome::Succeeded
        && status.summary_counts.is_some_and(|counts| counts.succeeded > 0 && counts.failed == 0);
    let is_baseline = set.is_some_and(|set| set.name == finding.spec.baseline.backup_set.name);
    // With a path, only if nothing else differs.
    let all_paths = path.as_ref().is_none_or(|path| {
        let spec = &finding.spec;
        let is_path = |evidence: &crate::api::finding::Evidence| evidence.path == *path;
        spec.change == Change::Modified && spec.evidence_left_out == 0 && spec.evidence.iter().all(is_path)
    });
    let at = status.started_at?;
    let restore_run = ObjectReference::of(restore);
    let before = finding.status.clone().unwrap_or_default();
    let told = before.restored.as_ref().is_some_and(|restored| restored.restore_run == restore_run);
    if restore.spec.dry_run
        || !all_done
        || !is_baseline
        || !all_paths
        || told
        || finding.meta().deletion_timestamp.is_some()
    {
        return None;
    }
    Some(FindingStatus { restored: Some(Restored { restore_run, at }), ..before })
}
