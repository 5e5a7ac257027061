//! What undoes a restore: a snapshot of exactly what is about to change or vanish, taken before the first write.
//!
//! What is about to be made is not in it: it is what the plan creates, and the backup set names it as absent. The worker
//! makes the set itself, also before the first write: a restore that is killed in the middle can be undone.

use crate::{
    api::{
        BackupSet, BackupSetSpec, LocalReference, ObjectReference,
        backup_set::{Coverage, MAX_ABSENT, names_for},
        item::{GroupKind, ItemId},
        result::CapturedSnapshot,
        selection::Selection,
    },
    clock::Clock,
    cluster::{
        canonical::stored_bytes,
        discovery::ServedKind,
        list::{ListSelection, Listing},
        retry::retry,
    },
    repository::{CaptureOptions, Entry, EntrySender, ItemPath, Repository, WriterPermit, entries},
    restore::plan::{Plan, PlannedItem},
    worker::{
        audit,
        collect::created_at,
        environment::Environment,
        failure::{Failure, api_failure},
        restore::{order::reason, survey::Survey, walk::version_of},
    },
};
use kube::{Api, Client, ResourceExt, api::PostParams};
use std::collections::{BTreeMap, BTreeSet};

/// On the snapshot of what is about to change.
pub const UNDO_TAG: &str = "undo";

/// Names to keep, by kind; kinds in the order of the tree.
type Kept<'a> = BTreeMap<ServedKind, BTreeSet<&'a str>>;

/// What undoes a restore.
pub struct Undo {
    /// Name of the backup set.
    pub set: String,
    /// Its snapshot.
    pub snapshot: CapturedSnapshot,
}

/// Takes the snapshot and makes the set, unless an earlier attempt did; none where the plan writes nothing.
pub async fn capture(
    client: &Client,
    environment: &Environment,
    repository: &impl Repository,
    survey: &Survey,
    plan: &Plan,
    clock: &dyn Clock,
    permit: WriterPermit,
) -> Result<Option<Undo>, Failure> {
    let kept = kept(survey, plan);
    let absent: Vec<String> = plan.undo().absent.iter().map(ToString::to_string).collect();
    if kept.is_empty() && absent.is_empty() {
        return Ok(None);
    }
    if absent.len() > MAX_ABSENT {
        return Err(Failure::blocked(
            reason::UNDO_TOO_LARGE,
            format!(
                "the restore would make {} objects, and a backup set that undoes it can name {MAX_ABSENT}: restore in parts with spec.items, or set spec.safetyCapture to false; nothing was written",
                absent.len()
            ),
        ));
    }
    let identity = &environment.identity;
    let options = CaptureOptions {
        run_uid: identity.run_uid.clone(),
        host: identity.namespace.clone(),
        tags: [environment.snapshot_tags(), vec![UNDO_TAG.to_owned()]].concat(),
        audit: audit::tip(client, &identity.namespace).await?.as_ref().map(ToString::to_string),
        time: clock.now(),
        permit,
    };
    // The snapshot of an earlier attempt stays: since then it may have written. The repository ends this one at once.
    let (sender, receiver) = entries();
    let offered = offer(client, &identity.namespace, &kept, sender);
    let (offered, captured) = tokio::join!(offered, repository.capture(receiver, options));
    let items_by_kind = offered?;
    let snapshot = captured?.snapshot;
    let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let snapshot = CapturedSnapshot {
        id: snapshot.id,
        items: signed(snapshot.items),
        bytes: signed(snapshot.bytes),
        added_bytes: signed(snapshot.added_bytes),
        items_by_kind,
    };
    let set = record(client, environment, &snapshot.id, absent).await?;
    Ok(Some(Undo { set, snapshot }))
}

/// Makes the set, unless an earlier attempt did; its name.
async fn record(
    client: &Client,
    environment: &Environment,
    snapshot: &str,
    absent: Vec<String>,
) -> Result<String, Failure> {
    let identity = &environment.identity;
    let sets: Api<BackupSet> = Api::namespaced(client.clone(), &identity.namespace);
    let spec = BackupSetSpec {
        repository: LocalReference::new(&environment.repository),
        snapshot: snapshot.to_owned(),
        run: ObjectReference { name: identity.run.clone(), uid: identity.run_uid.clone() },
        selection: Selection::default(),
        namespace_uid: environment.namespace_uid.clone(),
        coverage: Coverage::Partial,
        absent,
        backup_schedule: None,
        expires_at: None,
        hold: false,
    };
    let doing = "record the backup set that undoes the restore, before anything is written";
    let parameters = PostParams::default();
    for name in names_for(&identity.run, &identity.run_uid) {
        let set = BackupSet::new(&name, spec.clone());
        match retry(|| sets.create(&parameters, &set)).await {
            Ok(set) => return Ok(set.name_any()),
            Err(kube::Error::Api(status)) if status.is_already_exists() => {
                let present = retry(|| sets.get_opt(&name)).await.map_err(|error| api_failure(doing, &error))?;
                if present.is_some_and(|set| set.spec.run.uid == identity.run_uid) {
                    return Ok(name);
                }
            }
            Err(error) => return Err(api_failure(doing, &error)),
        }
    }
    Err(Failure::transient(
        crate::worker::failure::reason::API_REFUSED,
        "both names for the set that undoes the restore are taken",
    ))
}

fn kept<'a>(survey: &Survey, plan: &'a Plan) -> Kept<'a> {
    let by_item: BTreeMap<&ItemId, &PlannedItem> =
        plan.items().iter().map(|planned| (&planned.item, planned)).collect();
    let mut kept = Kept::new();
    for item in plan.undo().keep {
        let version = by_item.get(item).map_or("", |planned| version_of(&planned.api_version));
        let GroupKind { group, kind } = &item.kind;
        if let Some(served) = survey.discovered.find(group, version, kind) {
            kept.entry(served.clone()).or_default().insert(&item.name);
        }
    }
    kept
}

/// Offers the live objects, in the order of the tree. If it fails, nothing is captured.
async fn offer(
    client: &Client,
    namespace: &str,
    kept: &Kept<'_>,
    mut sender: EntrySender,
) -> Result<BTreeMap<String, i64>, Failure> {
    let mut items_by_kind = BTreeMap::new();
    for (kind, names) in kept {
        let everything = ListSelection::default();
        let mut listing = Listing::new(client, kind, namespace, &everything);
        let doing = format!("list {}, to be able to undo what is about to change", kind.plural);
        while let Some(object) = listing.next().await.map_err(|error| api_failure(&doing, &error))? {
            let Ok(object) = object else { continue };
            if !names.contains(object.name.as_str()) {
                continue;
            }
            let path = ItemPath::new(&kind.group, &kind.version, &kind.kind, &object.name)?;
            let mtime = created_at(&object.json);
            let content = stored_bytes(object.json, &kind.api_version(), &kind.kind);
            if sender.offer(Entry { path, content: content.into(), mtime }).await.is_err() {
                // The capture takes no more; its own result says why.
                return Ok(items_by_kind);
            }
            *items_by_kind.entry(kind.group_kind().to_string()).or_default() += 1;
        }
    }
    // As above.
    let _ = sender.finish().await;
    Ok(items_by_kind)
}
