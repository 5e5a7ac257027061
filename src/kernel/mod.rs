//! The kernel turns watched objects into reconciles: caches, a work queue, leader election, guarded
//! writes, events, refusals.
//!
//! It knows none of our kinds. What is watched, and which objects a change wakes, is wired in
//! [`crate::controller`].

pub mod cache;
pub mod delete;
pub mod error;
pub mod events;
pub mod lease;
pub mod name;
pub mod packed;
pub mod patch;
pub mod queue;
pub mod refusal;
mod round_robin;
pub mod slim;
pub mod status;
pub mod whole;

pub use error::Error;
