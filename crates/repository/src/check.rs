//! Checks a repository, and measures it.

use std::collections::{HashMap, HashSet};

use rustic_core::repofile::{BlobType, MasterKey};
use rustic_core::{CheckOptions, CheckResults, ReadSubsetOption};

use super::engine;
use super::error::Result;
use super::format::SHOWN_DIGITS;
use super::read;
use super::snapshot::Snapshot;
use super::store::BlockingStore;

/// Maximum number of findings in a report.
const NAMED: usize = 50;

/// Part of the engine's message about a pack that maintenance has marked because nothing needs it.
/// The size of such a pack is lost when its mark is carried over. Once the pack is deleted, a
/// reader of an older index still looks for it. Neither concerns what can be restored.
const OF_A_MARKED_PACK: &str = "marked to delete: true";

/// The golden ratio minus one, times 2^32.
const GOLDEN_RATIO: u32 = 2_654_435_769;

/// How much content a check reads. The index and all trees are always read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadData {
    /// None: content that exists counts as good.
    No,
    /// All of it.
    All,
    /// One of `of` parts (`part` is taken modulo `of`).
    Part {
        /// Index of the part.
        part: u32,
        /// Number of parts.
        of: u32,
    },
}

impl ReadData {
    /// Reads about `percent` of the content. Checks a fixed number of days apart eventually read
    /// all of it, whatever that number is.
    ///
    /// Days modulo the number of parts would not do: with seven parts, a check every seven days
    /// would always read the same one. Multiples of the golden ratio modulo one leave no gap for
    /// long, and neither does every n-th of these multiples.
    #[must_use]
    pub fn percent(percent: u8, day: u32) -> Self {
        match percent {
            0 => Self::No,
            100.. => Self::All,
            percent => {
                let of = 100_u32.div_ceil(u32::from(percent));
                // A fraction of 2^32: overflow removes the integer part.
                let fraction = day.wrapping_mul(GOLDEN_RATIO);
                Self::Part { part: share(fraction, of), of }
            }
        }
    }
}

/// Index of the part that contains `number`, if all 32-bit numbers are split into `of` equal parts.
fn share(number: u32, of: u32) -> u32 {
    u32::try_from((u64::from(number) * u64::from(of)) >> 32).unwrap_or(0)
}

/// The result of a check.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CheckReport {
    /// Number of findings that mean that something cannot be restored.
    pub errors: usize,
    /// Number of findings that only cost space, such as leftovers of a killed writer.
    pub warnings: usize,
    /// The first findings, errors before warnings, for people.
    pub findings: Vec<String>,
    /// IDs of the snapshots that cannot be restored completely.
    pub damaged: Vec<String>,
}

impl CheckReport {
    /// Whether everything that was checked can be restored.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.errors == 0
    }
}

/// The size of a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Number of snapshots.
    pub snapshots: u64,
    /// Size of all snapshots if each were restored by itself, in bytes.
    pub restorable_bytes: u64,
    /// Size of the distinct content of all items, in bytes before compression.
    pub unique_bytes: u64,
    /// Size in the store, in bytes: packs, indexes, snapshots and keys.
    pub stored_bytes: u64,
}

impl Stats {
    /// Restorable bytes per stored byte; `None` for an empty repository or one without snapshots.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "a ratio for people")]
    pub fn dedup_ratio(&self) -> Option<f64> {
        (self.stored_bytes > 0 && self.snapshots > 0).then(|| self.restorable_bytes as f64 / self.stored_bytes as f64)
    }
}

pub(super) fn check(store: &BlockingStore, key: &MasterKey, read_data: ReadData) -> Result<CheckReport> {
    let opened = engine::open(store, key)?;
    let mut options = CheckOptions::default();
    options.read_data = read_data != ReadData::No;
    if let ReadData::Part { part, of } = read_data {
        // Not the engine's percentage: it never reads a pack that is larger than the share, so no
        // pack of a small repository would ever be read.
        options.read_data_subset = ReadSubsetOption::IdSubSet((part % of.max(1), of.max(1)));
    }
    let results = opened.repository.check(options).map_err(|error| opened.explain(&error))?;
    // A store that stopped answering shows up as findings, which say nothing about the repository.
    if let Some(fault) = opened.backend.fault()
        && !matches!(fault, super::Error::Damaged { .. })
    {
        return Err(fault);
    }
    let mut report = CheckReport::default();
    let mut warnings = Vec::new();
    let mut rotten = HashSet::new();
    for (level, finding) in results.0 {
        let text = finding.to_string().lines().next().unwrap_or_default().to_owned();
        // The type of the level is not exported, but the engine can judge a list of findings.
        if CheckResults(vec![(level, finding)]).is_ok().is_err() && !text.contains(OF_A_MARKED_PACK) {
            rotten.extend(ids(&text));
            report.errors += 1;
            report.findings.push(text);
        } else {
            report.warnings += 1;
            warnings.push(text);
        }
    }
    report.findings.append(&mut warnings);
    report.findings.truncate(NAMED);
    if !report.is_ok() {
        report.damaged = damaged(store, key, rotten)?;
    }
    Ok(report)
}

/// First digits of the ids that a finding names, including those of packs. The engine's type for
/// findings is not exported.
fn ids(finding: &str) -> impl Iterator<Item = String> {
    let words = finding.split(|character: char| !character.is_ascii_hexdigit());
    words.filter(|word| word.len() == SHOWN_DIGITS).map(str::to_owned)
}

/// The snapshots that need content that is missing, or that only exists in a corrupt pack.
fn damaged(store: &BlockingStore, key: &MasterKey, rotten: HashSet<String>) -> Result<Vec<String>> {
    let opened = engine::open(store, key)?;
    let files = opened.repository.get_all_snapshots().map_err(|error| opened.explain(&error))?;
    opened.backend.distrust(rotten);
    let opened = opened.for_reading()?;
    // Captures without a change between them have the same tree.
    let mut verdicts = HashMap::new();
    let mut damaged = Vec::new();
    for file in files {
        let whole = match verdicts.get(&file.tree) {
            Some(whole) => *whole,
            None => match read::tally(&opened, file.tree) {
                Ok(_) => true,
                Err(error) if error.is_of_the_content() => false,
                Err(error) => return Err(error),
            },
        };
        verdicts.insert(file.tree, whole);
        if !whole {
            damaged.push(file.id.to_hex().as_str().to_owned());
        }
    }
    Ok(damaged)
}

pub(super) fn stats(store: &BlockingStore, key: &MasterKey) -> Result<Stats> {
    let opened = engine::open(store, key)?;
    let explain = |error: Box<rustic_core::RusticError>| opened.explain(&error);
    let snapshots = opened.repository.get_all_snapshots().map_err(explain)?;
    let index = opened.repository.infos_index().map_err(explain)?;
    let files = opened.repository.infos_files().map_err(explain)?;
    Ok(Stats {
        snapshots: snapshots.len() as u64,
        restorable_bytes: snapshots.iter().map(|file| Snapshot::from_file(file).bytes).sum(),
        unique_bytes: index
            .blobs
            .iter()
            .filter(|blobs| blobs.blob_type == BlobType::Data)
            .map(|blobs| blobs.data_size)
            .sum(),
        stored_bytes: files.repo.iter().map(|kind| kind.size).sum(),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::ReadData;

    /// Number of checks until every part was read once, and number of parts.
    fn checks(percent: u8, first: u32, days: u32) -> (u32, u32) {
        let mut read = BTreeSet::new();
        for check in 1.. {
            let ReadData::Part { part, of } = ReadData::percent(percent, first + (check - 1) * days) else {
                panic!("{percent} % is a part");
            };
            assert!(part < of);
            read.insert(part);
            if read.len() == of as usize {
                return (check, of);
            }
            assert!(check < 10_000, "every {days} days, {percent} %: only {} of {of} parts", read.len());
        }
        unreachable!("it is bounded")
    }

    #[test]
    fn checks_every_day_and_every_week_read_all_parts_soon() {
        for percent in 1..100 {
            let (daily, of) = checks(percent, 20_000, 1);
            assert!(daily <= 2 * of, "{percent} %: {daily} days for {of} parts");
            let (weekly, of) = checks(percent, 20_000, 7);
            assert!(weekly <= 6 * of, "{percent} %: {weekly} weeks for {of} parts");
        }
    }

    proptest! {
        #[test]
        fn checks_any_number_of_days_apart_come_around_to_every_part(
            percent in 1_u8..100, first in 0_u32..100_000, days in 1_u32..32,
        ) {
            let (checks, of) = checks(percent, first, days);
            prop_assert!(checks <= 25 * of, "every {days} days, {percent} %: {checks} checks for {of} parts");
        }
    }
}
