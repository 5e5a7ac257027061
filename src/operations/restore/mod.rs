//! Restores: the order of reads and writes around the decisions of [`crate::items`]. Items are read
//! and written by a [provider](crate::providers).
//!
//! ```text
//! claim      whether the RestoreRun belongs to this run
//! order      the RestoreRun and its BackupSet, compared with the pod's environment
//! reason     stable codes of restores that cannot be done
//! survey     everything known before the first item is decided
//! access     permissions of the requester and of the account that writes
//! inventory  contents of the snapshot, and the owners of its items
//! join       the stored items of a kind joined with its live objects
//! relations  which objects own others
//! walk       all kinds in order, each pair decided
//! revise     items decided again because their owners turned out differently
//! prune      objects that the set does not hold, or names as absent
//! collected  objects that the garbage collector deletes with deleted owners
//! unknown    items that cannot be read
//! execute    one item of a plan, compared once more and written
//! carry      a plan executed item by item
//! made       a plan as a worker makes it, with what users are shown of it
//! absence    what a snapshot says of items that did not exist
//! safety     the undo of a restore, captured before it
//! stored_plan  a plan in the repository, to be executed later
//! apply      the worker that restores: plan, safety capture, intent, writes, results, outcome
//! ```
//!
//! Must not: decide what happens to an item, or use a client to reach one. The client reaches the
//! run, the restore, its sets, its reports and the audit chain.

pub mod absence;
pub mod access;
pub mod apply;
pub mod carry;
pub mod claim;
pub mod collected;
pub mod execute;
pub mod inventory;
pub mod join;
pub mod made;
pub mod order;
pub mod prune;
mod records;
mod relations;
mod revise;
pub mod safety;
pub mod stored_plan;
pub mod survey;
pub mod unknown;
pub mod walk;

use crate::worker::{
    environment::Environment,
    failure::Failure,
    work::{Begun, LeaseNeed, Needs, RepositoryNeed, Site, Work, begun},
};

/// Carries a restore out.
pub struct Restore;

impl Work for Restore {
    fn needs(&self) -> Needs {
        Needs { repository: RepositoryNeed::Ready, lease: LeaseNeed::Writes, last_words: true }
    }

    fn begin(&self, environment: &Environment) -> Result<Begun, Failure> {
        order::read_inputs(environment)?;
        Ok(begun(|site: Site<'_>| {
            Box::pin(async move {
                let permit = site.permit()?;
                apply::apply(site.client, site.environment, site.repository()?, site.clock, site.stop, permit).await
            })
        }))
    }
}
