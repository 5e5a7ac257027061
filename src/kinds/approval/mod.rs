//! Whether a restore, a bulk operation or a workspace run needs an approval, and whether it has one.
//!
//! An approval is not reconciled: it only lets what it approves start. It counts when that gets its
//! run, and the run names it, so that the audit chain does.

pub mod decide;
pub mod observe;

pub use decide::{Asked, Known, Plan, Verdict, decide, no_requester};
