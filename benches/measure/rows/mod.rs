//! The rows of the table, one file each.

mod admission;
mod bulk;
mod capture;
mod compare;
mod drift;
mod duplicates;
mod fairness;
mod history;
mod idle;
mod job;
mod latency;
mod memory;
mod metadata;
mod objects;
mod repository;
mod restore;
mod schedules;
mod sets;
mod shape;
mod velero;
mod waiting;
mod workspace;
mod writes;

use crate::Result;
use crate::bed::Bed;
use crate::report::Report;
use clap::ValueEnum;
use futures::StreamExt as _;

/// A row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Row {
    /// Operator writes for a run
    Writes,
    /// Many copies of one run at once
    Duplicates,
    /// From a run to its Job
    Latency,
    /// A run beside a bare Job
    Job,
    /// Captures beside a client that lists and parses
    Capture,
    /// Restores beside a client that writes the same objects
    Restore,
    /// A bulk operation, compared with a client that makes the same patches
    Bulk,
    /// What drifted from a baseline, beside a client that lists and parses
    Drift,
    /// The history of one item over many backup sets, beside the stock client
    History,
    /// Two backup sets compared, beside the stock client
    Compare,
    /// Lists of metadata beside lists of whole objects
    Metadata,
    /// What a repository holds after many captures, and what its care takes
    Repository,
    /// Runs a second
    Admission,
    /// Thousands of schedules that are due at once
    Schedules,
    /// Thousands of schedules of which none is due
    SchedulesRest,
    /// Runs that wait for a slot
    Waiting,
    /// A quiet tenant's run beside thousands of a loud one
    Fairness,
    /// One workspace run over many tenants, compared with the same number of bare Jobs
    Workspace,
    /// The controller's memory
    Memory,
    /// The controller at rest
    Idle,
    /// The same objects through Velero
    Velero,
}

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How often each side.
    pub repetitions: usize,
    /// Small sizes.
    pub quick: bool,
}

impl Plan {
    /// The size that counts, or the small one.
    pub fn size(self, whole: usize, quick: usize) -> usize {
        if self.quick { quick } else { whole }
    }
}

/// Measures a row.
pub async fn measure(row: Row, bed: &Bed, plan: Plan) -> Result<Report> {
    match row {
        Row::Writes => writes::measure(bed, plan).await,
        Row::Duplicates => duplicates::measure(bed, plan).await,
        Row::Latency => latency::measure(bed, plan).await,
        Row::Job => job::measure(bed, plan).await,
        Row::Capture => capture::measure(bed, plan).await,
        Row::Restore => restore::measure(bed, plan).await,
        Row::Bulk => bulk::measure(bed, plan).await,
        Row::Drift => drift::measure(bed, plan).await,
        Row::History => history::measure(bed, plan).await,
        Row::Compare => compare::measure(bed, plan).await,
        Row::Metadata => metadata::measure(bed, plan).await,
        Row::Repository => repository::measure(bed, plan).await,
        Row::Admission => admission::measure(bed, plan).await,
        Row::Schedules => schedules::measure(bed, plan).await,
        Row::SchedulesRest => schedules::rest(bed, plan).await,
        Row::Waiting => waiting::measure(bed, plan).await,
        Row::Fairness => fairness::measure(bed, plan).await,
        Row::Workspace => workspace::measure(bed, plan).await,
        Row::Memory => memory::measure(bed, plan).await,
        Row::Idle => idle::measure(bed, plan).await,
        Row::Velero => velero::measure(bed, plan).await,
    }
}

/// Does something for each number below `count`, so many at once; the first fault ends it.
async fn at_once(count: usize, concurrency: usize, each: impl AsyncFn(usize) -> Result<()>) -> Result<()> {
    let each = &each;
    let mut all = futures::stream::iter(0..count).map(|number| each(number)).buffer_unordered(concurrency);
    while let Some(done) = all.next().await {
        done?;
    }
    Ok(())
}
