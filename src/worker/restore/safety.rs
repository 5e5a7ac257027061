//! What undoes a restore: a snapshot of exactly what is about to change or vanish, taken before the first write.
//!
//! What is about to be made is not in it: it is what the plan creates, and the backup set names it as absent, or the snapshot
//! where it is much ([`absence`]). The worker makes the set itself, also before the first write: a restore that is killed in the
//! middle can be undone.

use crate::{
    api::{
        BackupSet, BackupSetSpec, LocalReference, ObjectReference,
        backup_set::{Coverage, MAX_ABSENT, names_for},
        item::{GroupKind, ItemId},
        operation_run::Trigger,
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
        absence::{self, is_absence},
        audit,
        capture::kind_of,
        collect::created_at,
        environment::Environment,
        failure::{Failure, api_failure},
        restore::{record::not_begun, survey::Survey, walk::version_of},
    },
};
use kube::{Api, Client, ResourceExt, api::PostParams};
use std::collections::{BTreeMap, BTreeSet};

/// On the snapshot of what is about to change.
pub const UNDO_TAG: &str = "undo";

/// What the snapshot is to tell of a kind.
#[derive(Default)]
struct Told<'a> {
    /// Names of what is kept.
    keep: BTreeSet<&'a str>,
    /// Names of what did not exist.
    absent: BTreeSet<&'a str>,
}

/// The same by kind; kinds in the order of the tree.
type Tellings<'a> = BTreeMap<ServedKind, Told<'a>>;

/// What was kept.
#[derive(Default)]
struct Kept {
    by_kind: BTreeMap<String, i64>,
    bytes: i64,
}

impl Kept {
    fn add(&mut self, kind: String, bytes: impl TryInto<i64>) {
        *self.by_kind.entry(kind).or_default() += 1;
        self.bytes += bytes.try_into().unwrap_or_default();
    }
}

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
    let undo = plan.undo();
    if undo.keep.is_empty() && undo.absent.is_empty() {
        return Ok(None);
    }
    // An object of the API server has room for few names.
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
    // The snapshot of an earlier attempt stays: since then it may have written. The repository ends this one at once.
    let (sender, receiver) = entries();
    let offered = offer(client, &identity.namespace, &tellings, sender);
    let (offered, captured) = tokio::join!(offered, repository.capture(receiver, options));
    let (mut kept, captured) = (offered?, captured?);
    let snapshot = captured.snapshot;
    if captured.earlier_attempt {
        kept = Kept::default();
        for item in repository.list(&snapshot.id).await?.into_iter().filter(|item| !is_absence(&item.path)) {
            kept.add(kind_of(&item.path), item.size);
        }
    }
    let snapshot = CapturedSnapshot {
        id: snapshot.id,
        items: kept.by_kind.values().sum(),
        bytes: kept.bytes,
        added_bytes: i64::try_from(snapshot.added_bytes).unwrap_or(i64::MAX),
        items_by_kind: kept.by_kind,
    };
    let named = if few { undo.absent.iter().map(ToString::to_string).collect() } else { Vec::new() };
    // What the cluster does not serve any more is not made either, and not named.
    let told: usize = tellings.values().map(|told| told.absent.len()).sum();
    let in_snapshot = i64::try_from(told).ok().filter(|told| *told > 0);
    let set = record(client, environment, &snapshot.id, named, in_snapshot).await?;
    Ok(Some(Undo { set, snapshot }))
}

/// Makes the set, unless an earlier attempt did; its name.
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
        absent,
        absent_in_snapshot,
        backup_schedule: None,
        trigger: Trigger::Manual,
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

fn tellings<'a>(survey: &Survey, plan: &'a Plan, absent: &[&'a ItemId]) -> Tellings<'a> {
    let versions: BTreeMap<&ItemId, &str> =
        plan.items().iter().map(|planned: &PlannedItem| (&planned.item, version_of(&planned.api_version))).collect();
    let mut tellings = Tellings::new();
    let mut tell = |item: &'a ItemId, list: for<'t> fn(&'t mut Told<'a>) -> &'t mut BTreeSet<&'a str>| {
        let GroupKind { group, kind } = &item.kind;
        if let Some(served) = survey.discovered.find(group, versions.get(item).copied().unwrap_or_default(), kind) {
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

/// Offers the live objects and the names of those that are not there, in the order of the tree. If it fails, nothing is captured.
async fn offer(
    client: &Client,
    namespace: &str,
    tellings: &Tellings<'_>,
    mut sender: EntrySender,
) -> Result<Kept, Failure> {
    let mut kept = Kept::default();
    for (kind, Told { keep, absent }) in tellings {
        let everything = ListSelection::default();
        let mut listing = (!keep.is_empty()).then(|| Listing::new(client, kind, namespace, &everything));
        let doing = format!("list {}, to be able to undo what is about to change", kind.plural);
        while let Some(listing) = &mut listing {
            let listed = listing.next().await.map_err(|error| api_failure(&doing, &error))?;
            let Some(object) = listed else { break };
            let Ok(object) = object else { continue };
            if !keep.contains(object.name.as_str()) {
                continue;
            }
            let path = ItemPath::new(&kind.group, &kind.version, &kind.kind, &object.name)?;
            let mtime = created_at(&object.json);
            let content = stored_bytes(object.json, &kind.api_version(), &kind.kind);
            kept.add(kind.group_kind().to_string(), content.len());
            if sender.offer(Entry { path, content: content.into(), mtime }).await.is_err() {
                // The capture takes no more; its own result says why.
                return Ok(kept);
            }
        }
        let absent: Vec<&str> = absent.iter().copied().collect();
        for entry in absence::entries(kind, &absent) {
            if sender.offer(entry?).await.is_err() {
                return Ok(kept);
            }
        }
    }
    // As above.
    let _ = sender.finish().await;
    Ok(kept)
}
