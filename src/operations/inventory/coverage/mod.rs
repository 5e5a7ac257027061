//! Which objects of an inventory are in no backup set of the last days, and why.
//!
//! ```text
//! backups  which backup sets count, and which of them say why they lack an object
//! walk     looks the objects of the inventory up in the sets, kind by kind
//! judge    why no set holds an object
//! found    counts, rows for the reports, a sentence for the run
//! ```
//!
//! What is looked at is the snapshot of the inventory, and the sets that had been recorded when it
//! was taken. So another attempt of the run finds the same, as long as no set is deleted.
//!
//! An object is covered by its kind and name. Whether a set holds it as it is now is a matter of
//! drift. No object is read: names are in the trees of the snapshots, and in the records of the
//! inventory.

mod backups;
mod found;
mod judge;
mod walk;

pub use found::Found;

use crate::{
    operations::inventory::coverage::{
        backups::{Backups, Window},
        walk::Walk,
    },
    repository::Repository,
    worker::{environment::Environment, failure::Failure},
};
use kube::Client;

/// What to look at.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The snapshot of the inventory.
    pub snapshot: &'a str,
    /// Of how many days backup sets count.
    pub days: u16,
    /// Whether the inventory is of a selection.
    pub selected: bool,
}

/// Looks which objects of an inventory no backup set holds.
pub async fn look(
    client: &Client,
    environment: &Environment,
    repository: &impl Repository,
    asked: Asked<'_>,
) -> Result<Found, Failure> {
    let recorded = backups::list(client, environment).await?;
    let snapshots = recorded.iter().map(|set| set.snapshot.clone());
    // The inventory has the first place.
    let series = repository.series(std::iter::once(asked.snapshot.to_owned()).chain(snapshots).collect()).await?;
    let mut snapshots = series.snapshots();
    let inventory = snapshots.next().transpose()?.ok_or_else(|| walk::no_inventory("the snapshot is gone"))?;
    let window = Window { end: inventory.time, days: asked.days };
    let backups = Backups::new(recorded.into_iter().zip(snapshots), window);
    let mut found = Found::new(window, backups.sets.len(), asked.selected);
    Walk::new(&series, &backups).follow(&mut found).await?;
    found.sort();
    let (coverage, directories) = (found.coverage(), found.directories());
    tracing::info!(sets = coverage.sets, directories, uncovered = coverage.uncovered, "looked for backups");
    Ok(found)
}
