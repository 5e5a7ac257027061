//! What undoes a restore: a snapshot of exactly what is about to change or vanish, taken before the first write.
//!
//! What is about to be made is not in it: it is what the plan creates, and the backup set names it as absent.

use crate::{
    api::{
        item::{GroupKind, ItemId},
        result::CapturedSnapshot,
    },
    clock::Clock,
    cluster::{
        canonical::stored_bytes,
        discovery::ServedKind,
        list::{ListSelection, Listing},
    },
    repository::{CaptureOptions, Entry, EntrySender, ItemPath, Repository, WriterPermit, entries},
    restore::plan::{Plan, PlannedItem},
    worker::{
        audit,
        collect::created_at,
        environment::Environment,
        failure::{Failure, api_failure},
        restore::{survey::Survey, walk::version_of},
    },
};
use kube::Client;
use std::collections::{BTreeMap, BTreeSet};

/// Names to keep, by kind; kinds in the order of the tree.
type Kept<'a> = BTreeMap<ServedKind, BTreeSet<&'a str>>;

/// Takes the snapshot, unless an earlier attempt did; none where nothing is about to change or vanish.
pub async fn capture(
    client: &Client,
    environment: &Environment,
    repository: &impl Repository,
    survey: &Survey,
    plan: &Plan,
    clock: &dyn Clock,
) -> Result<Option<CapturedSnapshot>, Failure> {
    let kept = kept(survey, plan);
    if kept.is_empty() {
        return Ok(None);
    }
    let identity = &environment.identity;
    let options = CaptureOptions {
        run_uid: identity.run_uid.clone(),
        host: identity.namespace.clone(),
        tags: vec![
            format!("cluster={}", environment.cluster_uid),
            format!("namespace={}", environment.namespace_uid),
            "undo".to_owned(),
        ],
        audit: audit::tip(client, &identity.namespace).await?.as_ref().map(ToString::to_string),
        time: clock.now(),
        permit: WriterPermit::without_maintenance(),
    };
    // The snapshot of an earlier attempt stays: since then it may have written. The repository ends this one at once.
    let (sender, receiver) = entries();
    let offered = offer(client, &identity.namespace, &kept, sender);
    let (offered, captured) = tokio::join!(offered, repository.capture(receiver, options));
    let items_by_kind = offered?;
    let snapshot = captured?.snapshot;
    let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    Ok(Some(CapturedSnapshot {
        id: snapshot.id,
        items: signed(snapshot.items),
        bytes: signed(snapshot.bytes),
        added_bytes: signed(snapshot.added_bytes),
        items_by_kind,
    }))
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
