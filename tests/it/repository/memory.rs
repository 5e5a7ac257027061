//! Memory: what a capture needs does not grow with the content it captures.

use std::fmt::Write as _;
use std::process::Command;

use tenantatlas::api::execution;
use tenantatlas::repository::{Entry, Repository as _, entries};

use super::support::{Volume, entry, master_key, open, options};

const CHILD: &str = "TENANTATLAS_TEST_MEMORY_ITEMS";
const NAME: &str = "repository::memory::memory_does_not_grow_with_content";

/// Content that compresses by half, different for each number.
fn item(number: usize, size: usize) -> Entry {
    let mut content = String::with_capacity(size);
    let mut state = number as u64 + 1;
    while content.len() < size {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let at = content.len();
        write!(content, "\"key-{at}\":\"{state:016x}\",").unwrap();
    }
    entry("ConfigMap", &format!("item-{number:06}"), &content)
}

/// The largest this process ever was, in MiB.
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

/// Captures in a process of its own, as its memory is not to be told from that of the tests beside it.
fn peak_of_a_capture(items: usize, size: usize) -> u64 {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", NAME, "--nocapture"])
        .env(CHILD, format!("{items}x{size}"))
        // As in a Job.
        .env(execution::HEAP.0, execution::HEAP.1)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let peak = text.lines().find_map(|line| line.split_once("peak MiB: ")).unwrap();
    peak.1.trim().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_does_not_grow_with_content() {
    let Ok(items) = std::env::var(CHILD) else {
        let small = peak_of_a_capture(10_000, 1_800);
        let large = peak_of_a_capture(10_000, 18_000);
        let many = peak_of_a_capture(50_000, 1_800);
        println!("peak in MiB: 10,000 items of 1.8 KB {small}, of 18 KB {large}; 50,000 items of 1.8 KB {many}");
        // Packs fill up, no more.
        assert!(large < small + 24, "{small} MiB for 18 MB of content, {large} MiB for 180 MB");
        // The ids of all items are held, and their directory as compressed: less than half a KiB an item.
        assert!(many < small + 40_000 / 2 / 1024, "{small} MiB for 10,000 items, {many} MiB for 50,000");
        return;
    };
    let (items, size) = items.split_once('x').unwrap();
    let (items, size): (usize, usize) = (items.parse().unwrap(), size.parse().unwrap());
    let volume = Volume::new();
    let repository = open(&volume.location(), &master_key()).await.unwrap();
    let (mut sender, receiver) = entries();
    let offering = async {
        for number in 0..items {
            sender.offer(item(number, size)).await.unwrap();
        }
        sender.finish().await.unwrap();
    };
    let summary = tokio::join!(repository.capture(receiver, options("run-1")), offering).0.unwrap();
    assert_eq!(summary.snapshot.items, items as u64);
    println!("peak MiB: {}", peak_mib());
}
