//! What snapshots hold, by the ids of their content, and in what two of them differ.

use tenantatlas::repository::{Differing, Directory, Error, ItemPath, Repository as _, SnapshotReader, differing};

use super::support::{Volume, capture, entry, items, master_key, open};

/// The differences as text: `-`, `+` or `~`, and the path.
async fn differences(first: &SnapshotReader, second: &SnapshotReader) -> Vec<String> {
    let (before, after) = (first.directories().await.unwrap(), second.directories().await.unwrap());
    let mut found = Vec::new();
    let paths: std::collections::BTreeSet<&str> = before.iter().chain(&after).map(Directory::path).collect();
    for path in paths {
        let one = before.iter().find(|directory| directory.path() == path);
        let other = after.iter().find(|directory| directory.path() == path);
        if one.zip(other).is_some_and(|(one, other)| one.holds_the_same(other)) {
            continue;
        }
        let mut files = [Vec::new(), Vec::new()];
        for ((reader, directory), files) in [(first, one), (second, other)].into_iter().zip(&mut files) {
            if let Some(directory) = directory {
                *files = reader.files(directory).await.unwrap();
            }
        }
        let [one, other] = files;
        found.extend(differing(one, other).map(|differing| match differing {
            Differing::First(file) => format!("- {}", file.path),
            Differing::Second(file) => format!("+ {}", file.path),
            Differing::Both(file, _) => format!("~ {}", file.path),
        }));
    }
    found
}

#[tokio::test]
async fn two_snapshots_differ_in_what_was_added_removed_and_changed_and_in_nothing_else() {
    let volume = Volume::new();
    let repository = open(&volume.location(), &master_key()).await.unwrap();
    let before = capture(&repository, "run-1", items()).await.unwrap().snapshot;
    let mut changed = items();
    changed[0].content = "{\"data\":{\"one\":\"2\"}}".to_owned().into();
    changed.remove(1);
    changed.push(entry("Secret", "new", "{}"));
    let after = capture(&repository, "run-2", changed).await.unwrap().snapshot;
    let again = capture(&repository, "run-3", items()).await.unwrap().snapshot;
    let readers = repository.readers([&before, &after, &again].map(|one| one.id.clone()).into()).await.unwrap();
    let [one, other, again] = readers.into_iter().map(Result::unwrap).collect::<Vec<_>>().try_into().unwrap();
    assert_eq!(
        differences(&one, &other).await,
        ["- apps/v1/ConfigMap/a-b.json", "~ apps/v1/ConfigMap/a.json", "+ apps/v1/Secret/new.json"]
    );
    assert_eq!(differences(&one, &again).await, Vec::<String>::new());
    // The same items in the same directories: nothing below is read.
    let (one, other) = (one.directories().await.unwrap(), other.directories().await.unwrap());
    let deployments = |directories: &[Directory]| {
        directories.iter().find(|directory| directory.path() == "apps/v1/Deployment").cloned().unwrap()
    };
    assert!(deployments(&one).holds_the_same(&deployments(&other)));
    assert_eq!(one.iter().map(Directory::path).collect::<Vec<_>>(), ["apps/v1/ConfigMap", "apps/v1/Deployment"]);
}

#[tokio::test]
async fn a_snapshot_that_does_not_exist_fails_alone_and_the_others_tell_what_they_are() {
    let volume = Volume::new();
    let repository = open(&volume.location(), &master_key()).await.unwrap();
    let there = capture(&repository, "run-1", items()).await.unwrap().snapshot;
    let readers = repository.readers(vec!["0".repeat(64), there.id.clone()]).await.unwrap();
    assert!(matches!(readers[0], Err(Error::SnapshotNotFound { .. })), "{readers:?}");
    assert_eq!(readers[1].as_ref().unwrap().snapshot(), there);
    let path = ItemPath::new("apps", "v1", "Deployment", "web").unwrap();
    let content = readers[1].as_ref().unwrap().read(vec![path]).await.unwrap().remove(0).unwrap();
    assert_eq!(content, b"{\"spec\":{\"replicas\":3}}");
}
