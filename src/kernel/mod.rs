//! The kernel turns watched objects into passes: caches, a work queue, leadership, guarded writes, events, refusals.
//!
//! It knows no kind of ours. What is watched, and who is woken by what, is wired in [`crate::controller`].

pub mod cache;
pub mod delete;
pub mod error;
pub mod events;
pub mod lease;
pub mod patch;
pub mod queue;
pub mod refusal;
mod round_robin;
pub mod slim;
pub mod status;
pub mod whole;

pub use error::Error;
