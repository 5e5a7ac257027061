//! Items that did not exist when the snapshot that undoes a restore was taken. If there are more
//! than a backup set can name, the snapshot itself records them.
//!
//! The names of a kind are stored next to the kind's directory, a limited number per file:
//! `group/version/Kind.absent/00000.json`, a JSON list. No kind's name contains a dot, so a file of
//! names is never mistaken for an item, and it sorts directly after its kind. The backup set
//! records the total number of names, so that neither a list that lost names nor one that gained
//! some is accepted.

use crate::{
    api::item::{GroupKind, ItemId},
    items::served::ServedKind,
    repository::{self, Entry, Item, ItemPath, SnapshotReader},
    worker::failure::Failure,
};
use jiff::Timestamp;

/// Suffix of the directory with the names.
const SUFFIX: &str = ".absent";

/// Names per file: some hundred kilobytes, so that neither the writer nor the reader holds much in
/// memory.
const NAMES: usize = 5000;

/// Whether a path in a snapshot is a file of names rather than an item.
#[must_use]
pub fn is_absence(path: &ItemPath) -> bool {
    path.directory().ends_with(SUFFIX)
}

/// Snapshot entries with the names of a kind.
pub fn entries<'a>(
    kind: &'a ServedKind,
    names: &'a [&str],
) -> impl Iterator<Item = Result<Entry, repository::Error>> + 'a {
    names.chunks(NAMES).enumerate().map(|(place, names)| {
        let content = serde_json::to_vec(names).unwrap_or_default();
        Ok(Entry {
            path: ItemPath::new(&kind.group, &kind.version, &format!("{}{SUFFIX}", kind.kind), &format!("{place:05}"))?,
            content: content.into(),
            mtime: Timestamp::UNIX_EPOCH,
        })
    })
}

/// Reads the absent items from the files of names among the items of a snapshot. Returns `None`
/// unless there are exactly `count`: some were lost, or a restore did not record them.
pub async fn read(reader: &SnapshotReader, stored: &[Item], count: i64) -> Result<Option<Vec<ItemId>>, Failure> {
    let count = usize::try_from(count).unwrap_or_default();
    let mut items = Vec::new();
    for path in stored.iter().map(|item| &item.path).filter(|path| is_absence(path)) {
        for content in reader.read(vec![path.clone()]).await? {
            let Ok(names) = serde_json::from_slice::<Vec<String>>(&content?) else { return Ok(None) };
            if items.len() + names.len() > count {
                return Ok(None);
            }
            let kind = kind_of(path);
            items.extend(names.into_iter().map(|name| ItemId::new(kind.clone(), name)));
        }
    }
    Ok((items.len() == count).then_some(items))
}

/// The kind whose names a file holds.
fn kind_of(path: &ItemPath) -> GroupKind {
    let mut segments = path.directory().split('/');
    let group = segments.next().filter(|group| *group != "core").unwrap_or_default();
    let kind = segments.nth(1).unwrap_or_default();
    GroupKind::new(group, kind.strip_suffix(SUFFIX).unwrap_or(kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lie_behind_their_kind_in_files_of_a_bounded_size_and_lose_none() {
        let kind = ServedKind {
            group: "apps".into(),
            version: "v1".into(),
            kind: "Deployment".into(),
            plural: "deployments".into(),
        };
        let names: Vec<String> = (0..=2 * NAMES).map(|number| format!("n-{number:06}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let files: Vec<Entry> = entries(&kind, &names).collect::<Result<_, _>>().expect("paths");
        assert_eq!(files.len(), 3);
        let read = files.iter().flat_map(|file| serde_json::from_slice::<Vec<String>>(&file.content).expect("names"));
        assert_eq!(read.collect::<Vec<_>>(), names);
        let item = |kind: &str, name: &str| ItemPath::new("apps", "v1", kind, name).expect("a path");
        for file in &files {
            assert!(is_absence(&file.path) && kind_of(&file.path) == kind.group_kind());
            assert!(item("Deployment", "zzz") < file.path && file.path < item("Deployments", "a"));
        }
        assert!(files.is_sorted_by(|one, other| one.path < other.path));
        assert!(!is_absence(&item("Deployment", "a.absent")));
    }
}
