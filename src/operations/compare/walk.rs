//! Walks two open backup sets, kind by kind. Directories and items with equal ids are passed over.
//!
//! In memory are the items of one kind that differ, and the contents of one batch of them.

use super::{
    found::Found,
    judge::{Judged, judge},
    state::{Named, State},
};
use crate::{
    api::{
        comparison::Change,
        item::{GroupKind, ItemId},
        reason::compare as reason,
    },
    items::{
        readers::Readers,
        semantic::{DigestKey, Status},
    },
    operations::restore::inventory::{StoredKind, batches, parse, stem},
    repository::{Differing, Directory, File, ItemPath, differing},
    worker::failure::Failure,
};
use std::collections::{BTreeMap, BTreeSet};

/// How items are compared and shown.
pub struct Terms {
    /// The kinds of which reports may hold values.
    pub readers: Readers,
    /// The kinds whose status is a field like any other.
    pub status_is_data: BTreeSet<GroupKind>,
    /// Key of the stand-ins for secret values.
    pub key: DigestKey,
}

/// The directories of a kind on both sides, by version.
#[derive(Default)]
struct OfKind<'a> {
    from: BTreeMap<String, &'a Directory>,
    to: BTreeMap<String, &'a Directory>,
}

/// Lists what a set holds.
pub async fn list(state: &State) -> Result<Found, Failure> {
    let mut found = Found::default();
    for directory in &state.directories {
        let StoredKind { kind, .. } = StoredKind::of_directory(directory.path());
        for named in state.names(state.files(Some(directory)).await?).await? {
            add_alone(&mut found, state, &ItemId::new(kind.clone(), &named.name), &named, Change::Listed);
        }
    }
    Ok(found)
}

/// Compares two sets.
pub async fn compare(from: &State, to: &State, terms: &Terms) -> Result<Found, Failure> {
    let mut kinds: BTreeMap<GroupKind, OfKind<'_>> = BTreeMap::new();
    for directory in &from.directories {
        let StoredKind { kind, version } = StoredKind::of_directory(directory.path());
        kinds.entry(kind).or_default().from.insert(version, directory);
    }
    for directory in &to.directories {
        let StoredKind { kind, version } = StoredKind::of_directory(directory.path());
        kinds.entry(kind).or_default().to.insert(version, directory);
    }
    let mut walk = Walk { from, to, terms, found: Found::default(), differ: 0 };
    for (kind, directories) in &kinds {
        walk.kind(kind, directories).await?;
    }
    let Walk { mut found, differ, .. } = walk;
    found.add_same(from.items.saturating_sub(differ));
    Ok(found)
}

struct Walk<'a> {
    from: &'a State,
    to: &'a State,
    terms: &'a Terms,
    found: Found,
    /// Number of items of the first set that are not the same in the second.
    differ: u64,
}

impl Walk<'_> {
    async fn kind(&mut self, kind: &GroupKind, directories: &OfKind<'_>) -> Result<(), Failure> {
        let versions: BTreeSet<&String> = directories.from.keys().chain(directories.to.keys()).collect();
        let (mut removed, mut added, mut both) = (Vec::new(), Vec::new(), Vec::new());
        for version in versions {
            let (one, other) = (directories.from.get(version), directories.to.get(version));
            if one.zip(other).is_some_and(|(one, other)| one.holds_the_same(other)) {
                continue;
            }
            let (one, other) = (self.from.files(one.copied()).await?, self.to.files(other.copied()).await?);
            for differing in differing(one, other) {
                match differing {
                    Differing::First(file) => removed.push(file),
                    Differing::Second(file) => added.push(file),
                    Differing::Both(one, other) => both.push((one, other)),
                }
            }
        }
        self.differ += (removed.len() + both.len()) as u64;
        self.on_one_side(kind, removed, added).await?;
        self.on_both_sides(kind, both).await
    }

    async fn on_one_side(&mut self, kind: &GroupKind, removed: Vec<File>, added: Vec<File>) -> Result<(), Failure> {
        let (from, to) = (self.from, self.to);
        let removed = from.names(removed).await?;
        let mut added: BTreeMap<String, Named> =
            to.names(added).await?.into_iter().map(|named| (named.name.clone(), named)).collect();
        let version = |named: &Named| StoredKind::of_directory(named.path.directory()).api_version();
        for named in &removed {
            match added.remove(&named.name) {
                None => self.alone(kind, named, from, to, Change::Removed),
                Some(other) => {
                    let item = ItemId::new(kind.clone(), &named.name);
                    let message = format!(
                        "{} holds it as {}, {} as {}, in which its fields may have other forms",
                        from.set,
                        version(named),
                        to.set,
                        version(&other)
                    );
                    self.found.add_not_compared(&item, reason::OTHER_VERSION, message);
                }
            }
        }
        for named in added.values() {
            self.alone(kind, named, to, from, Change::Added);
        }
        Ok(())
    }

    /// Adds an item that one set holds and the other lacks.
    fn alone(&mut self, kind: &GroupKind, named: &Named, holder: &State, lacking: &State, change: Change) {
        let item = ItemId::new(kind.clone(), &named.name);
        let why = match lacking.absence.of_item(&item) {
            Ok(()) => return add_alone(&mut self.found, holder, &item, named, change),
            Err(code @ reason::NOT_CAPTURED) => (code, "left out the item, or all of its kind"),
            Err(code) => (code, "is partial, and does not say whether the item existed"),
        };
        self.found.add_not_compared(&item, why.0, format!("backup set {} {}", lacking.set, why.1));
    }

    async fn on_both_sides(&mut self, kind: &GroupKind, both: Vec<(File, File)>) -> Result<(), Failure> {
        let status = if self.terms.status_is_data.contains(kind) { Status::Data } else { Status::Observed };
        let shown = self.terms.readers.may_read(kind);
        for batch in batches(both.into_iter(), |(one, other)| one.size.saturating_add(other.size)) {
            let paths: Vec<ItemPath> = batch.iter().map(|(one, _)| one.path.clone()).collect();
            let (ones, others) = batch.into_iter().unzip();
            let before = self.from.contents(ones).await?;
            let after = self.to.contents(others).await?;
            for (path, (before, after)) in paths.iter().zip(before.into_iter().zip(after)) {
                let object = |state: &State, content: Result<Vec<u8>, String>| {
                    let object = content.and_then(|content| parse(path, &content));
                    object.map_err(|problem| format!("backup set {}: {problem}", state.set))
                };
                let (from, to) = match (object(self.from, before), object(self.to, after)) {
                    (Ok(from), Ok(to)) => (from, to),
                    (Err(problem), _) | (_, Err(problem)) => {
                        self.found.add_unreadable(&ItemId::new(kind.clone(), stem(path)), &problem);
                        continue;
                    }
                };
                let name = to["metadata"]["name"].as_str().unwrap_or_default();
                match judge(&from, &to, status, shown, &self.terms.key) {
                    Judged::StatusOnly => self.found.add_status_only(),
                    Judged::Changed(diff) => self.found.add_changed(&ItemId::new(kind.clone(), name), diff),
                }
            }
        }
        Ok(())
    }
}

/// Adds an item of one set, or what is wrong with it.
fn add_alone(found: &mut Found, holder: &State, item: &ItemId, named: &Named, change: Change) {
    match &named.problem {
        None => found.add(item, change),
        Some(problem) => found.add_unreadable(item, &format!("backup set {}: {problem}", holder.set)),
    }
}
