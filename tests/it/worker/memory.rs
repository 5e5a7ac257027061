//! Memory: what a restore needs for each object that it makes, and how much that is for the largest tenant.

use super::{
    api::{Api, object},
    restore::Tenant,
    support::Pod,
};
use serde_json::{Value, json};
use std::{path::Path, process::Command};
use tenantatlas::api::Outcome;

const CHILD: &str = "ATLAS_TEST_RESTORES";
const NAME: &str = "worker::memory::a_restore_takes_little_memory_for_each_object_that_it_makes";

/// The most bytes that a restore takes for each object, in one arena. At 100,000 objects that is less than half of the
/// chart's limit.
const MOST: u64 = 2048;

fn config_map(number: usize) -> Value {
    let mut object = object(&format!("item-of-a-usual-length-{number:06}"));
    object["data"] = json!({"text": format!("{number} of some kilobyte ").repeat(50)});
    object
}

/// The largest this process ever was, in KiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// The peak of a process that restores so many objects into an empty namespace, with the capture that undoes it, in KiB.
async fn peak_of_a_restore(objects: usize) -> u64 {
    let api = Api::new();
    api.serve_config_maps((0..objects).map(config_map).collect());
    let pod = Pod::new();
    let snapshot = pod.capture_all(&api).await.unwrap().context.snapshot.unwrap().id;
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", NAME, "--nocapture"])
        .env(CHILD, format!("{snapshot} {objects} {}", pod.root().display()))
        // What arenas keep depends on how threads happen to run.
        .env("MALLOC_ARENA_MAX", "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text.lines().find_map(|line| line.split_once("peak KiB: ")).unwrap().1.trim().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_takes_little_memory_for_each_object_that_it_makes() {
    let Ok(order) = std::env::var(CHILD) else {
        let (few, many) = match std::env::var("ATLAS_RESTORES") {
            Ok(many) => (5_000, many.parse().unwrap()),
            Err(_) => (5_000, 12_000),
        };
        let (small, large) = (peak_of_a_restore(few).await, peak_of_a_restore(many).await);
        let each = large.saturating_sub(small) * 1024 / (many - few) as u64;
        println!(
            "peak: {} MiB for {few} objects, {} MiB for {many}; {each} bytes an object",
            small / 1024,
            large / 1024
        );
        assert!(each <= MOST, "{each} bytes an object");
        return;
    };
    let mut order = order.splitn(3, ' ');
    let (snapshot, objects, root) = (order.next().unwrap(), order.next().unwrap(), order.next().unwrap());
    let api = Api::new();
    api.serve_config_maps(Vec::new());
    api.forget();
    let tenant = Tenant::with_set(api, Pod::with_files_of(Path::new(root)), snapshot);
    let result = tenant.apply(json!({"dryRun": false})).await.unwrap();
    assert_eq!(result.outcome, Some(Outcome::Succeeded));
    assert_eq!(result.summary_counts.unwrap().succeeded, objects.parse::<i64>().unwrap());
    assert!(result.context.undo_set.is_some());
    println!("peak KiB: {}", peak());
}
