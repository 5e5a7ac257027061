//! Writes what a run records on other objects when it ends. A crash between two writes leaves a
//! state from which the next reconcile of the run writes the rest.

use super::{
    backup_set::{Ready, mark_as, settle, settle_new},
    marks::{Mark, marks},
    repository,
};
use crate::{
    api::{
        BackupRepository, BackupSet, BackupSetSpec, BackupSetStatus, Inputs, LocalReference, ObjectReference, Outcome,
        Reason,
        backup_schedule::{Origin, origin},
        backup_set::{Coverage, DAMAGED, Verified, names_for, status_of_adopted},
        coverage::{BackupCoverage, RepositoryCoverage},
        item::ItemId,
        operation_run::Target,
        result::CapturedSnapshot,
        selection::{Selection, target_item},
    },
    kernel::{Error, events::Severity, status},
    operations::record::{Record, RepositoryCheck},
    runs::{context::Context, observed::Observed},
};
use kube::{
    Api, ResourceExt,
    api::{ListParams, PostParams},
};

/// Writes a record. Returns the name of the set that the status of the run has to name, if it is one.
pub async fn write(context: &Context, observed: &Observed, record: Record) -> Result<Option<String>, Error> {
    match record {
        Record::NewSet { snapshot, complete } => new_set(context, observed, &snapshot, complete).await.map(Some),
        Record::SharedSet { set, captured_by } => shared_set(context, observed, &set, &captured_by).await,
        Record::WorkersSet { name, snapshot } => workers_set(context, observed, name, &snapshot).await,
        Record::Verified { set, outcome } => verified(context, observed, &set, outcome).await.map(|()| None),
        Record::Covered { repository, coverage } => {
            covered(context, observed, &repository, *coverage).await.map(|()| None)
        }
        Record::Checked(check) => checked(context, observed, &check).await.map(|()| None),
    }
}

/// Records a snapshot as a backup set. Returns the name of the set.
async fn new_set(
    context: &Context,
    observed: &Observed,
    snapshot: &CapturedSnapshot,
    complete: bool,
) -> Result<String, Error> {
    let set = make_set(context, observed, backup_set_spec(observed, snapshot, complete)?).await?;
    write_set_status(context, &set, snapshot).await?;
    Ok(set.name_any())
}

/// Records a set of a snapshot that another run captured. Returns `None` if that run's set is gone.
async fn shared_set(
    context: &Context,
    observed: &Observed,
    theirs: &str,
    captured_by: &str,
) -> Result<Option<String>, Error> {
    let sets: Api<BackupSet> = Api::namespaced(context.client.clone(), &observed.run.namespace().unwrap_or_default());
    // A rehearsal also names a set, one that it did not capture.
    let Some(theirs) = sets.get_opt(theirs).await?.filter(|set| set.spec.run.uid == captured_by) else {
        return Ok(None);
    };
    let spec = BackupSetSpec {
        run: ObjectReference::of(&*observed.run),
        backup_schedule: origin(&observed.run).map(Origin::reference),
        trigger: observed.run.spec.trigger,
        hold: false,
        ..theirs.spec
    };
    let set = make_set(context, observed, spec).await?;
    let figures = theirs.status.unwrap_or_default();
    let status = BackupSetStatus {
        items: figures.items,
        items_by_kind: figures.items_by_kind,
        incomplete: figures.incomplete,
        incomplete_truncated: figures.incomplete_truncated,
        bytes: figures.bytes,
        added_bytes: figures.added_bytes,
        ..set.status.clone().unwrap_or_default()
    };
    settle(context, &set, status, "ReadBack", "the snapshot, which the run that it joined captured, was read back")
        .await?;
    Ok(Some(set.name_any()))
}

/// Creates the run's set. The set has the name of the run, so that a second reconcile finds the set
/// of the first.
async fn make_set(context: &Context, observed: &Observed, spec: BackupSetSpec) -> Result<BackupSet, Error> {
    let sets: Api<BackupSet> = Api::namespaced(context.client.clone(), &observed.run.namespace().unwrap_or_default());
    for name in names_for(&observed.run.name_any(), observed.uid()) {
        match sets.create(&PostParams::default(), &BackupSet::new(&name, spec.clone())).await {
            Ok(set) => return Ok(set),
            Err(kube::Error::Api(status)) if status.is_already_exists() => match sets.get_opt(&name).await? {
                Some(set) if set.spec.run.uid == observed.uid() => return Ok(set),
                // An earlier run of this name left a set, which is not ours to touch.
                _ => {}
            },
            Err(error) => return Err(error.into()),
        }
    }
    Err(Error::Again("both names for the backup set are taken"))
}

/// Records the figures of a set that the run's worker created. A set that was deleted since is not
/// an error.
async fn workers_set(
    context: &Context,
    observed: &Observed,
    name: String,
    snapshot: &CapturedSnapshot,
) -> Result<Option<String>, Error> {
    let sets: Api<BackupSet> = Api::namespaced(context.client.clone(), &observed.run.namespace().unwrap_or_default());
    let Some(set) = sets.get_opt(&name).await?.filter(|set| set.spec.run.uid == observed.uid()) else {
        return Ok(None);
    };
    write_set_status(context, &set, snapshot).await?;
    Ok(Some(name))
}

/// Records how a set was verified. A set that is gone is not an error. A second reconcile of the
/// same run writes a later time, which is equally true.
async fn verified(context: &Context, observed: &Observed, set: &str, outcome: Outcome) -> Result<(), Error> {
    let sets: Api<BackupSet> = Api::namespaced(context.client.clone(), &observed.run.namespace().unwrap_or_default());
    let Some(found) = sets.get_opt(set).await? else { return Ok(()) };
    let before = found.status.clone().unwrap_or_default();
    let verified = Some(Verified { at: context.clock.now(), outcome });
    let after = BackupSetStatus { verified, ..before.clone() };
    // Sets are in no cache.
    status::write(&sets, &found, &before, &after, drop).await.map(drop)
}

/// Records on a repository what its backup sets hold of the tenant. A repository that is gone is not
/// an error.
async fn covered(
    context: &Context,
    observed: &Observed,
    repository: &str,
    coverage: BackupCoverage,
) -> Result<(), Error> {
    let namespace = observed.run.namespace().unwrap_or_default();
    let repositories: Api<BackupRepository> = Api::namespaced(context.client.clone(), &namespace);
    let Some(found) = repositories.get_opt(repository).await? else { return Ok(()) };
    let before = found.status.clone().unwrap_or_default();
    let coverage = RepositoryCoverage { run: ObjectReference::of(&*observed.run), found: coverage };
    let Some(after) = repository::after_coverage(&before, coverage) else { return Ok(()) };
    let remember = |written| context.repositories.wrote(written);
    status::write(&repositories, &found, &before, &after, remember).await.map(drop)
}

async fn write_set_status(context: &Context, set: &BackupSet, snapshot: &CapturedSnapshot) -> Result<(), Error> {
    let status = BackupSetStatus {
        items: Some(snapshot.items),
        items_by_kind: snapshot.items_by_kind.clone(),
        incomplete: snapshot.incomplete.clone(),
        incomplete_truncated: snapshot.incomplete_truncated,
        bytes: Some(snapshot.bytes),
        added_bytes: Some(snapshot.added_bytes),
        ..set.status.clone().unwrap_or_default()
    };
    settle(context, set, status, "ReadBack", "the snapshot was read back after it was written").await
}

fn backup_set_spec(observed: &Observed, snapshot: &CapturedSnapshot, complete: bool) -> Result<BackupSetSpec, Error> {
    let inputs = observed.prepared.as_ref().map_or(&observed.run.spec.inputs, |prepared| &prepared.inputs);
    let selection = selection(observed.run.spec.target.as_ref(), inputs)?;
    let repository = inputs.text_of("repository").unwrap_or_default();
    let whole = selection.is_everything() && complete;
    Ok(BackupSetSpec {
        repository: LocalReference::new(repository),
        snapshot: snapshot.id.clone(),
        run: ObjectReference::of(&*observed.run),
        selection,
        namespace_uid: observed.tenant.as_ref().map(|tenant| tenant.uid.clone()).unwrap_or_default(),
        coverage: if whole { Coverage::Full } else { Coverage::Partial },
        content: snapshot.content,
        absent: Vec::new(),
        absent_in_snapshot: None,
        backup_schedule: origin(&observed.run).map(Origin::reference),
        trigger: observed.run.spec.trigger,
        hold: false,
    })
}

/// What was selected for a capture: the target, the one item of the inputs, or their selection.
fn selection(target: Option<&Target>, inputs: &Inputs) -> Result<Selection, Error> {
    if let Some(target) = target {
        return Ok(Selection::of_item(&target_item(&target.api_version, &target.kind, &target.name)));
    }
    if let Some(item) = inputs.text_of("item") {
        // The worker has read it; a set must not pass for one of everything.
        let item = ItemId::of_object(&item).map_err(serde::de::Error::custom).map_err(Error::Serialize)?;
        return Ok(Selection::of_item(&item));
    }
    Ok(inputs.get("selection").map(serde_json::from_value).transpose()?.unwrap_or_default())
}

/// Reports that the sets which checks found in an adopted repository can be used: those of this
/// check, and of an earlier one that did not finish. After a crash in between, the next reconcile
/// settles the rest.
async fn settle_adopted(context: &Context, namespace: &str, check: &RepositoryCheck) -> Result<(), Error> {
    let sets: Api<BackupSet> = Api::namespaced(context.client.clone(), namespace);
    for set in sets.list(&of_repository(check)).await?.items.iter().filter(|set| set.is_adopted()) {
        let message = "found in an adopted repository, whose structure is whole";
        settle_new(context, set, status_of_adopted(set), "Adopted", message).await?;
    }
    Ok(())
}

/// Selects the sets of a check's repository.
fn of_repository(check: &RepositoryCheck) -> ListParams {
    ListParams::default().fields(&format!("spec.repository.name={}", check.repository))
}

/// Reports on the sets of a repository what its check found. After a crash in between, the next
/// reconcile marks the rest.
async fn mark_sets(context: &Context, namespace: &str, check: &RepositoryCheck) -> Result<(), Error> {
    let sets: Api<BackupSet> = Api::namespaced(context.client.clone(), namespace);
    for (set, mark) in marks(&sets.list(&of_repository(check)).await?.items, check) {
        let (ready, reason, message) = match mark {
            Mark::Damaged => {
                (Ready::No, DAMAGED, "a check found that something of it cannot be restored; a rehearsal says what can")
            }
            Mark::PerhapsDamaged => (
                Ready::No,
                DAMAGED,
                "a check found more damage than it can name, and this set may be concerned; a rehearsal says what can be restored",
            ),
            Mark::Whole => (Ready::Yes, Reason::CheckPassed.as_str(), "a check read it back: it is whole again"),
        };
        mark_as(context, set, ready, reason, message).await?;
    }
    Ok(())
}

/// Records a check on its repository. A repository that is gone is not an error.
async fn checked(context: &Context, observed: &Observed, check: &RepositoryCheck) -> Result<(), Error> {
    let namespace = observed.run.namespace().unwrap_or_default();
    if check.figures.as_ref().is_some_and(|figures| figures.adopted > 0) {
        settle_adopted(context, &namespace, check).await?;
    }
    if check.passed || !check.damaged.is_empty() || check.damaged_truncated {
        mark_sets(context, &namespace, check).await?;
    }
    let repositories: Api<BackupRepository> = Api::namespaced(context.client.clone(), &namespace);
    let Some(found) = repositories.get_opt(&check.repository).await? else { return Ok(()) };
    let before = found.status.clone().unwrap_or_default();
    let run = ObjectReference::of(&*observed.run);
    let Some(status) = repository::after(check, &found, run, context.clock.now()) else { return Ok(()) };
    let remember = |written| context.repositories.wrote(written);
    if status::write(&repositories, &found, &before, &status, remember).await? {
        // A second reconcile of the same run does not count again.
        if let Some(figures) = check.maintained.filter(|_| before.last_check_run != status.last_check_run) {
            context.metrics.maintained(&found, figures);
        }
        if repository::is_news(check, &before.conditions) {
            context.events.publish(&found, Severity::Warning, &check.reason, "Check", &check.message);
        }
    }
    Ok(())
}
