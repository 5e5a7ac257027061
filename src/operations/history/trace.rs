//! Looks an item up in backup sets, one after the other.
//!
//! A tree that an earlier set has too is not read again, and content that is equal is not read at
//! all ([`Series`]). In memory is one object.

use super::timeline::Timeline;
use crate::{
    api::{BackupSet, history::Sighting, item::ItemId, reason::compare as reason},
    operations::{
        capture::omission::{Note, UNKNOWN, path_of_note},
        compare::{absence::Absence, state::of_set},
        restore::inventory::{StoredKind, parse},
    },
    repository::{self, ContentId, Directory, File, ItemPath, Series},
    worker::failure::Failure,
};
use serde_json::Value;

/// Number of sets whose directories are searched at once, on all processors. A repository keeps four
/// packs in memory: those of the trees and of the content of so many sets. With more sets, packs
/// would be read twice.
const AHEAD: usize = 2;

/// A backup set to look into.
pub struct Held {
    /// Its place in the series.
    pub place: usize,
    /// The set.
    pub set: BackupSet,
    /// When and by which run it was recorded.
    pub seen: Sighting,
}

/// What a set shows of an item.
enum Shown {
    /// The same content as the latest set that held it.
    Same,
    Object(Value),
    Absent,
    /// Nothing: a reason code and a message.
    Nothing(&'static str, String),
}

/// Follows an item through sets, in this order.
pub async fn follow(series: &Series, held: &[Held], item: &ItemId, timeline: &mut Timeline) -> Result<(), Failure> {
    let mut trace = Trace { series, item, latest: None };
    for ahead in held.chunks(AHEAD) {
        trace.look_ahead(ahead).await?;
        for Held { place, set, seen } in ahead {
            let shown = trace.look(*place, set, timeline.is_there()).await;
            match shown.map_err(|error| of_set(&seen.set, error))? {
                Shown::Same => timeline.same(seen.clone()),
                Shown::Object(object) => timeline.object(seen.clone(), &object),
                Shown::Absent => timeline.absent(seen.clone()),
                Shown::Nothing(code, message) => timeline.unknown(seen, code, &message),
            }
        }
    }
    Ok(())
}

struct Trace<'a> {
    series: &'a Series,
    item: &'a ItemId,
    /// Where the latest object was read, and what it was.
    latest: Option<(ItemPath, ContentId)>,
}

impl Trace<'_> {
    /// Searches the directories of sets that are looked into next. What fails here fails again there.
    async fn look_ahead(&self, sets: &[Held]) -> Result<(), Failure> {
        let mut wanted = Vec::new();
        for Held { place, .. } in sets {
            let directories = self.series.directories(*place, &self.item.kind.group).await;
            for directory in directories.iter().flat_map(|directories| directories.iter()) {
                let StoredKind { kind, version } = StoredKind::of_directory(directory.path());
                if kind == self.item.kind
                    && let Ok(path) = ItemPath::new(&kind.group, &version, &kind.kind, &self.item.name)
                {
                    wanted.push((directory.clone(), path));
                }
            }
        }
        Ok(self.series.look_ahead(wanted).await?)
    }

    /// What a set shows. Damage of its snapshot is that of the set alone.
    async fn look(&mut self, place: usize, set: &BackupSet, is_there: bool) -> Result<Shown, repository::Error> {
        match self.find(place, set, is_there).await {
            Err(error) if error.is_of_the_content() => Ok(Shown::Nothing(reason::UNREADABLE, error.to_string())),
            shown => shown,
        }
    }

    async fn find(&mut self, place: usize, set: &BackupSet, is_there: bool) -> Result<Shown, repository::Error> {
        let directories = self.series.directories(place, &self.item.kind.group).await?;
        let mut found: Option<File> = None;
        for directory in &*directories {
            let StoredKind { kind, version } = StoredKind::of_directory(directory.path());
            if kind != self.item.kind {
                continue;
            }
            let path = ItemPath::new(&kind.group, &version, &kind.kind, &self.item.name)?;
            let Some(file) = self.series.find(directory, &path).await? else { continue };
            if found.replace(file).is_some() {
                return Ok(Shown::Nothing(reason::UNREADABLE, "the snapshot holds it in two versions".to_owned()));
            }
        }
        let Some(file) = found else { return self.absence(set, &directories).await };
        let is_latest = |(path, content): &(ItemPath, ContentId)| *path == file.path && *content == file.content;
        if is_there && self.latest.as_ref().is_some_and(is_latest) {
            return Ok(Shown::Same);
        }
        let content = self.series.read(&file).await?;
        Ok(match parse(&file.path, &content) {
            Ok(object) => {
                self.latest = Some((file.path, file.content));
                Shown::Object(object)
            }
            Err(problem) => Shown::Nothing(reason::UNREADABLE, problem),
        })
    }

    /// What it means that a set does not hold the item. More than 500 names of absent items are in
    /// the snapshot of a set that undoes a restore, and are not looked up: such a set cannot tell.
    async fn absence(&self, set: &BackupSet, directories: &[Directory]) -> Result<Shown, repository::Error> {
        let mut absence = Absence::of(set);
        for directory in directories {
            let StoredKind { mut kind, .. } = StoredKind::of_directory(directory.path());
            let Some(path) = path_of_note(directory.path()) else { continue };
            kind.kind.truncate(kind.kind.find('.').unwrap_or(kind.kind.len()));
            if kind.kind != self.item.kind.kind && kind.kind != UNKNOWN {
                continue;
            }
            if let Some(note) = self.series.find(directory, &path).await? {
                absence.add_note(&kind, &Note::from_content(&self.series.read(&note).await?));
            }
        }
        Ok(match absence.of_item(self.item) {
            Ok(()) => Shown::Absent,
            Err(code @ reason::NOT_CAPTURED) => {
                Shown::Nothing(code, "the capture left out the item, or all of its kind".to_owned())
            }
            Err(code) => {
                Shown::Nothing(code, "the set is partial, and does not say whether the item existed".to_owned())
            }
        })
    }
}
