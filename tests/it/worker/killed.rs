//! Maintenance as a process, killed by the kernel at any change of the repository's files.

use super::{
    api::Api,
    maintain::{captured, generation, set},
    process::{code, serve, worker},
    support::Pod,
};
use crate::repository::{restic::restic, support::PASSWORD};
use jiff::SignedDuration;
use serde_json::json;
use std::{
    collections::BTreeSet,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};
use tenantatlas::{
    api::execution,
    repository::{Pruning, ReadData, Repository as _, WriterPermit},
};
use tokio::process::Child;

/// All files below a folder, as far as they are still there while this looks.
fn files(folder: &Path) -> BTreeSet<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { [path].into() }).collect()
}

/// Watches a process that works on a repository, and kills it when it has changed the files once more than so many times.
fn kill_after(changes: usize, child: &mut Child, repository: &Path) {
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut seen = files(repository);
    let mut left = changes;
    while child.try_wait().unwrap().is_none() {
        let now = files(repository);
        if now != seen && left == 0 {
            child.start_kill().unwrap();
            return;
        }
        left -= usize::from(now != seen);
        seen = now;
        assert!(Instant::now() < deadline, "maintenance comes to its end, or changes files");
    }
}

/// What sets name: the snapshot, and which generation it holds.
async fn assert_whole(pod: &Pod, named: &[(String, usize)]) {
    let repository = pod.repository().await.unwrap();
    for (snapshot, number) in named {
        let offered = generation(*number);
        let paths = offered.iter().map(|entry| entry.path.clone()).collect();
        let contents = repository.read(snapshot, paths).await.unwrap();
        assert!(offered.iter().map(|entry| entry.content.to_vec()).eq(contents), "generation {number}");
    }
    let report = repository.check(ReadData::All).await.unwrap();
    assert!(report.is_ok(), "{report:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_process_of_maintenance_that_is_killed_loses_nothing_that_is_named_and_the_next_one_ends_its_work() {
    let (api, before) = (Api::new(), Arc::new(Pod::new()));
    let mut snapshots = Vec::new();
    for number in 0..6 {
        let id = captured(api.clone(), before.clone(), format!("run-{number}"), number, usize::MAX).await;
        snapshots.push((id.unwrap(), number));
    }
    // Some of it is marked already, and will be deleted; some is marked, and moved.
    let repository = before.repository().await.unwrap();
    let permit = WriterPermit::without_maintenance();
    repository.forget(vec![snapshots.remove(1).0], permit.clone()).await.unwrap();
    repository.prune(Pruning { keep_marked: SignedDuration::from_hours(1), permit }).await.unwrap();
    repository.add_key(PASSWORD).await.unwrap();
    let named = snapshots.split_off(3);
    let inputs = json!({"repository": "main", "graceHours": 0}).to_string();

    let mut killed = 0;
    // Changes that come at once, as this sees them, are one: on a busy machine it may see few, and plays it again.
    for _ in 0..5 {
        for changes in 0.. {
            let (api, pod) = (Api::new(), before.copied());
            api.list("BackupSet", named.iter().map(|(id, _)| set(&id[..12], id, None)).collect());
            let url = serve(&api).await;
            let maintain = || {
                let mut maintain = worker(&pod, &url, "maintain");
                maintain.env(execution::INPUTS, &inputs);
                maintain
            };
            let mut child = maintain().spawn().unwrap();
            tokio::task::block_in_place(|| kill_after(changes, &mut child, &pod.mounts().volume));
            let status = child.wait().await.unwrap();
            assert_whole(&pod, &named).await;
            if status.signal().is_some() {
                killed += 1;
                assert_eq!(code(&mut maintain()).await, 0, "killed after {changes} changes");
                assert_whole(&pod, &named).await;
            } else {
                assert_eq!(status.code(), Some(0));
            }
            assert_eq!(pod.snapshots().await, named.len(), "all others are forgotten");
            restic(pod.mounts().volume, &["check", "--read-data"]);
            if status.success() {
                break;
            }
        }
        if killed >= 3 {
            return;
        }
    }
    panic!("it was killed {killed} times");
}
