//! Capturing and reading back.

use tenantatlas::repository::{ReadData, Repository as _};

use super::support::{Volume, capture, entry, items, master_key, open};

#[tokio::test]
async fn what_was_captured_is_read_back_byte_by_byte() {
    let volume = Volume::new();
    let repository = open(&volume.location(), &master_key()).await.unwrap();
    let summary = capture(&repository, "run-1", items()).await.unwrap();
    assert_eq!(summary.snapshot.items, 4);
    assert!(!summary.unchanged && !summary.earlier_attempt);

    let listed = repository.list(&summary.snapshot.id).await.unwrap();
    let paths: Vec<_> = listed.iter().map(|item| item.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "apps/v1/ConfigMap/a-b.json",
            "apps/v1/ConfigMap/a.b.json",
            "apps/v1/ConfigMap/a.json",
            "apps/v1/Deployment/web.json"
        ]
    );
    let offered = items();
    let contents =
        repository.read(&summary.snapshot.id, offered.iter().map(|entry| entry.path.clone()).collect()).await.unwrap();
    for (entry, content) in offered.iter().zip(contents) {
        assert_eq!(entry.content, content, "{}", entry.path);
    }
    let report = repository.check(ReadData::All).await.unwrap();
    assert!(report.is_ok() && report.warnings == 0, "{report:?}");
}

#[tokio::test]
async fn a_change_of_equal_size_is_a_change() {
    let volume = Volume::new();
    let repository = open(&volume.location(), &master_key()).await.unwrap();
    let web = |replicas: u8| vec![entry("Deployment", "web", &format!("{{\"replicas\":{replicas}}}"))];
    capture(&repository, "run-1", web(3)).await.unwrap();
    let changed = capture(&repository, "run-2", web(5)).await.unwrap();
    assert!(!changed.unchanged);
    let content = repository.read(&changed.snapshot.id, vec![web(5)[0].path.clone()]).await.unwrap();
    assert_eq!(content, [b"{\"replicas\":5}"]);
    let same = capture(&repository, "run-3", web(5)).await.unwrap();
    assert!(same.unchanged);
    assert_eq!(same.snapshot.added_bytes, 0, "{same:?}");
}
