//! What is said while it goes on, and what is kept of it.

use jiff::Timestamp;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Lines for the developer, and counts by kind.
pub struct Log {
    file: Mutex<File>,
    counts: Mutex<BTreeMap<(&'static str, String), usize>>,
    outages: Mutex<Vec<(Timestamp, Timestamp)>>,
}

impl Log {
    pub fn create(path: &Path) -> crate::Result<Self> {
        Ok(Self { file: Mutex::new(File::create(path)?), counts: Mutex::default(), outages: Mutex::default() })
    }

    /// To the developer and into the file.
    pub fn say(&self, line: &str) {
        eprintln!("   {line}");
        self.note(line);
    }

    /// Into the file alone.
    pub fn note(&self, line: &str) {
        // A full disk must not hide what the soak finds.
        let _ = writeln!(lock(&self.file), "{} {line}", Timestamp::now().strftime("%H:%M:%S%.3f"));
    }

    /// One more of a kind, in one table.
    pub fn count(&self, table: &'static str, kind: &str) {
        *lock(&self.counts).entry((table, kind.to_owned())).or_default() += 1;
    }

    /// The counts of a table.
    pub fn counts(&self, table: &'static str) -> BTreeMap<String, usize> {
        let counts = lock(&self.counts);
        counts.iter().filter(|((of, _), _)| *of == table).map(|((_, kind), count)| (kind.clone(), *count)).collect()
    }

    /// The audit log may lack lines of this time.
    pub fn outage(&self, from: Timestamp) {
        lock(&self.outages).push((from, Timestamp::now()));
    }

    pub fn outages(&self) -> Vec<(Timestamp, Timestamp)> {
        lock(&self.outages).clone()
    }
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
