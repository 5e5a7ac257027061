//! The undo of a restore or of a deletion: a snapshot of exactly what is about to change or be deleted, taken before
//! the first write.
//!
//! Objects that the plan creates are not in the snapshot. The backup set names them as absent, or
//! the snapshot does if there are many ([`absence`]). The worker creates the set itself, also
//! before the first write, so that a restore killed halfway can be undone. A kind that can no
//! longer be listed, or whose list lacks an object that still exists, is noted in the snapshot. Its
//! objects stay as they are, in every attempt.

use crate::{
    api::reason::{item as reason, worker},
    api::{
        BackupSet, BackupSetSpec, LocalReference, ObjectReference,
        backup_set::{Content, Coverage, MAX_ABSENT, names_for},
        item::{GroupKind, ItemId},
        operation_run::Trigger,
        outcome::{FailureType, ItemFailure},
        result::CapturedSnapshot,
        selection::Selection,
    },
    clock::Clock,
    cluster::retry::retry,
    items::{
        canonical::stored_bytes,
        plan::{Plan, Remark},
        served::ServedKind,
    },
    operations::{
        capture::{
            collect::created_at,
            kind_of,
            omission::{Note, is_note},
        },
        intent::not_begun,
        restore::{
            absence::{self, is_absence},
            survey::Survey,
            unknown::not_listed,
            walk::version_of,
        },
    },
    providers::call::{ListSelection, Target},
    repository::{CaptureOptions, Entry, EntrySender, ItemPath, Repository, WriterPermit, entries},
    worker::{
        audit,
        environment::{Environment, UNDO_TAG},
        failure::{Failure, api_failure, call_failure},
    },
};
use kube::{Api, Client, ResourceExt, api::PostParams};
use std::collections::{BTreeMap, BTreeSet};

/// What the snapshot records about a kind.
#[derive(Default)]
struct Told<'a> {
    /// Names of objects to keep.
    keep: BTreeSet<&'a str>,
    /// Names of objects that did not exist.
    absent: BTreeSet<&'a str>,
}

/// What the snapshot records, with kinds in the order of the tree.
type Tellings<'a> = BTreeMap<ServedKind, Told<'a>>;

/// What was kept.
#[derive(Default)]
struct Kept {
    by_kind: BTreeMap<String, i64>,
    bytes: i64,
    unkept: Unkept,
}

impl Kept {
    fn add(&mut self, kind: String, bytes: impl TryInto<i64>) {
        *self.by_kind.entry(kind).or_default() += 1;
        self.bytes += bytes.try_into().unwrap_or_default();
    }
}

/// The undo of a restore.
pub struct Undo {
    /// Name of the backup set.
    pub set: String,
    /// Snapshot of the set.
    pub snapshot: CapturedSnapshot,
    /// What could not be captured.
    pub unkept: Unkept,
}

/// What the set has nothing of, so that no existing object of it may change, with the reason.
#[derive(Clone, Debug, Default)]
pub struct Unkept {
    kinds: BTreeMap<GroupKind, Remark>,
    items: BTreeMap<ItemId, Remark>,
}

impl Unkept {
    /// Why an item must not change, if so.
    #[must_use]
    pub fn why(&self, item: &ItemId) -> Option<&Remark> {
        self.kinds.get(&item.kind).or_else(|| self.items.get(item))
    }

    /// Adds an item that was gone when the snapshot was taken. It may be there again since.
    fn add_missing(&mut self, item: ItemId) {
        let message = "it was not there when what is about to change was captured: look at it, then try again";
        self.items.insert(item, Remark::new(reason::MOVED, message));
    }
}

/// Takes the snapshot and creates the set, unless an earlier attempt did. Returns `None` if the
/// plan writes nothing.
pub async fn capture(
    client: &Client,
    environment: &Environment,
    repository: &impl Repository,
    survey: &Survey<'_>,
    plan: &Plan,
    clock: &dyn Clock,
    permit: WriterPermit,
) -> Result<Option<Undo>, Failure> {
    let undo = plan.undo();
    if undo.keep.is_empty() && undo.absent.is_empty() {
        return Ok(None);
    }
    // An object in the API server has room for few names.
    let few = undo.absent.len() <= MAX_ABSENT;
    let tellings = tellings(survey, plan, if few { &[] } else { &undo.absent });
    let identity = &environment.identity;
    let tip = audit::tip(client, &identity.namespace).await.map_err(|failure| not_begun(&failure))?;
    let options = CaptureOptions {
        run_uid: identity.run_uid.clone(),
        host: identity.namespace.clone(),
        tags: [environment.snapshot_tags(), vec![UNDO_TAG.to_owned()]].concat(),
        audit: tip.as_ref().map(ToString::to_string),
        time: clock.now(),
        permit,
    };
    // The snapshot of an earlier attempt is kept, because that attempt may have written since. The
    // repository then ends this capture at once.
    let (sender, receiver) = entries();
    let offered = offer(survey, &tellings, sender);
    let (offered, captured) = tokio::join!(offered, repository.capture(receiver, options));
    let (mut kept, captured) = (offered?, captured?);
    let snapshot = captured.snapshot;
    if captured.earlier_attempt {
        kept = Kept::default();
        let mut notes = Vec::new();
        let mut held = BTreeSet::new();
        for item in repository.list(&snapshot.id).await?.into_iter().filter(|item| !is_absence(&item.path)) {
            if is_note(&item.path) {
                notes.push(item.path);
            } else {
                kept.add(kind_of(&item.path), item.size);
                held.insert(item.path);
            }
        }
        for (kind, Told { keep, .. }) in &tellings {
            for name in keep {
                if !held.contains(&ItemPath::new(&kind.group, &kind.version, &kind.kind, name)?) {
                    kept.unkept.add_missing(ItemId::new(kind.group_kind(), *name));
                }
            }
        }
        for content in repository.read(&snapshot.id, notes).await? {
            kept.unkept.kinds.extend(unkept(&Note::from_content(&content)));
        }
    }
    let snapshot = CapturedSnapshot {
        id: snapshot.id,
        items: kept.by_kind.values().sum(),
        bytes: kept.bytes,
        added_bytes: i64::try_from(snapshot.added_bytes).unwrap_or(i64::MAX),
        items_by_kind: kept.by_kind,
        ..CapturedSnapshot::default()
    };
    let named = if few { undo.absent.iter().map(ToString::to_string).collect() } else { Vec::new() };
    // An item that the cluster no longer serves is not created either, and not named.
    let told: usize = tellings.values().map(|told| told.absent.len()).sum();
    let in_snapshot = i64::try_from(told).ok().filter(|told| *told > 0);
    let set = record(client, environment, &snapshot.id, named, in_snapshot).await?;
    Ok(Some(Undo { set, snapshot, unkept: kept.unkept }))
}

/// Reads back the kinds of a note.
fn unkept(note: &Note) -> BTreeMap<GroupKind, Remark> {
    let kind = |failed: &ItemFailure| ItemId::of_object(&failed.item_id).ok().map(|item| item.kind);
    let remark = |failed: &ItemFailure| Remark::new(&failed.reason_code, failed.message.clone());
    note.items.iter().filter_map(|failed| Some((kind(failed)?, remark(failed)))).collect()
}

/// The note of a kind that may not be listed.
fn note(kind: &GroupKind, remark: &Remark) -> Note {
    let mut note = Note::default();
    note.add(ItemFailure {
        item_id: ItemId::new(kind.clone(), "").to_string(),
        reason_code: remark.code.clone(),
        message: remark.message.clone(),
        failure_type: FailureType::Failure,
    });
    note
}

/// Creates the set, unless an earlier attempt did, and returns its name.
async fn record(
    client: &Client,
    environment: &Environment,
    snapshot: &str,
    absent: Vec<String>,
    absent_in_snapshot: Option<i64>,
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
        content: Content::Objects,
        absent,
        absent_in_snapshot,
        backup_schedule: None,
        trigger: Trigger::Manual,
        hold: false,
    };
    let doing = "record the backup set that undoes this, before anything is written";
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
    Err(Failure::transient(worker::API_REFUSED, "both names for the set that undoes this are taken"))
}

fn tellings<'a>(survey: &Survey<'_>, plan: &'a Plan, absent: &[&'a ItemId]) -> Tellings<'a> {
    let version = |item: &ItemId| plan.find(item).map(|planned| version_of(&planned.api_version)).unwrap_or_default();
    let mut tellings = Tellings::new();
    let mut tell = |item: &'a ItemId, list: for<'t> fn(&'t mut Told<'a>) -> &'t mut BTreeSet<&'a str>| {
        let GroupKind { group, kind } = &item.kind;
        if let Some(served) = survey.catalog.find(group, version(item), kind) {
            list(tellings.entry(served.clone()).or_default()).insert(&item.name);
        }
    };
    for item in plan.undo().keep {
        tell(item, |told| &mut told.keep);
    }
    for item in absent {
        tell(item, |told| &mut told.absent);
    }
    tellings
}

/// Why nothing of a kind may change of whose list an item was missing.
fn incomplete(kind: &ServedKind, name: &str) -> Remark {
    let item = ItemId::new(kind.group_kind(), name);
    let message = format!(
        "look at the server of the kind, then try again: its list lacks {item}, so that no backup set would have it as it was"
    );
    Remark::new(reason::SERVER_FAILED, message)
}

/// Sends the live objects and the names of absent ones to the capture, in the order of the tree. If
/// it fails, nothing is captured.
async fn offer(survey: &Survey<'_>, tellings: &Tellings<'_>, mut sender: EntrySender) -> Result<Kept, Failure> {
    let mut kept = Kept::default();
    let session = survey.session();
    for (kind, Told { keep, absent }) in tellings {
        let everything = ListSelection::default();
        let mut not_listed_yet = keep.clone();
        let mut listing = (!keep.is_empty()).then(|| survey.provider.list(kind, &everything));
        let doing = format!("list {}, to be able to undo what is about to change", kind.plural);
        while let Some(listing) = &mut listing {
            let object = match listing.next().await {
                Ok(Some(Ok(object))) => object,
                Ok(Some(Err(_))) => continue,
                Ok(None) => break,
                Err(fault) if fault.is_refusal() => {
                    let (_, remark) = not_listed(&kind.group_kind(), &fault, "no backup set would have it as it was");
                    kept.unkept.kinds.insert(kind.group_kind(), remark);
                    not_listed_yet.clear();
                    break;
                }
                Err(fault) => return Err(call_failure(&doing, &fault)),
            };
            if !not_listed_yet.remove(object.name.as_str()) {
                continue;
            }
            let path = ItemPath::new(&kind.group, &kind.version, &kind.kind, &object.name)?;
            let mtime = created_at(&object.json);
            let content = stored_bytes(object.json, &kind.api_version(), &kind.kind);
            kept.add(kind.group_kind().to_string(), content.len());
            if sender.offer(Entry { path, content: content.into(), mtime }).await.is_err() {
                // The capture accepts no more entries. Its own result has the reason.
                return Ok(kept);
            }
        }
        for name in not_listed_yet {
            // An earlier attempt has captured them, and may have deleted many since.
            if sender.has_ended() {
                return Ok(kept);
            }
            // One that is gone needs no undo. It is not written, even if it is there again by its turn.
            if matches!(session.get(Target { kind, name }).await, Ok(None)) {
                kept.unkept.add_missing(ItemId::new(kind.group_kind(), name));
            } else {
                kept.unkept.kinds.entry(kind.group_kind()).or_insert_with(|| incomplete(kind, name));
            }
        }
        let absent: Vec<&str> = absent.iter().copied().collect();
        for entry in absence::entries(kind, &absent) {
            if sender.offer(entry?).await.is_err() {
                return Ok(kept);
            }
        }
        if let Some(remark) = kept.unkept.kinds.get(&kind.group_kind()) {
            let note = note(&kind.group_kind(), remark).to_entry(&kind.group, &kind.version, &kind.kind)?;
            if sender.offer(note).await.is_err() {
                return Ok(kept);
            }
        }
    }
    // As above: the capture's own result has the reason.
    let _ = sender.finish().await;
    Ok(kept)
}
