//! When a schedule is due: cron expressions, time zones, jitter, missed ticks. Pure.
//!
//! A tick is the minute an expression names; it fires then, or up to `jitter` later. What daylight saving does to ticks is said
//! in [`timetable`]. Must not: a Kubernetes client, a clock.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod cron;
pub mod due;
pub mod retention;
pub mod timetable;
pub mod zone;

#[cfg(test)]
mod admitted;
#[cfg(test)]
mod tests;

pub use cron::{Expression, Mistake};
pub use due::{Due, due, jitter};
pub use timetable::Timetable;

use jiff::SignedDuration;

/// The longest time until what has ticks is looked at again: clocks step, and a timer does not see it.
pub const LONGEST_REST: SignedDuration = SignedDuration::from_mins(10);

/// By how much the clocks of two leaders may differ.
pub const CLOCKS_DIFFER: SignedDuration = SignedDuration::from_mins(5);
