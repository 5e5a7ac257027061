//! Restores: what is read and written around the decisions of [`crate::items`].
//!
//! ```text
//! claim      whether the RestoreRun is this very run's
//! order      the RestoreRun and its BackupSet, read and compared with what the pod was given
//! survey     everything that is known before the first item is decided about
//! grants     whether who asked may give the rights that an item gives
//! access     what who asked and the account that writes may do
//! inventory  what the snapshot holds, and who owns what there
//! join       the stored items of a kind beside its live objects
//! walk       all kinds in order, each pair decided about
//! prune      what the set does not hold, or names as absent
//! collected  what the garbage collector takes with what is deleted
//! unknown    what becomes of an item that may not be looked at
//! write      one write, tried or meant
//! execute    one item of a plan, looked at once more and written
//! carry      a plan carried out, item by item
//! results    what became of each item of a plan
//! safety     what undoes it, captured before
//! stored_plan  a plan in the repository, to be carried out later
//! record     what the audit chain is told
//! apply      the worker that restores: plan, safety capture, intent, writes, results, outcome
//! rehearse   the worker that tries whether a set could be restored
//! preview    the worker that only looks: a plan, with the API server's opinion of each write, into reports
//! ```
//!
//! Must not: decide what happens to an item.

pub mod access;
pub mod apply;
pub mod carry;
pub mod claim;
pub mod collected;
pub mod execute;
pub mod grants;
pub mod inventory;
pub mod join;
pub mod order;
pub mod preview;
pub mod prune;
pub mod record;
pub mod rehearse;
pub mod results;
mod revise;
pub mod safety;
pub mod stored_plan;
pub mod survey;
pub mod unknown;
pub mod walk;
pub mod write;
