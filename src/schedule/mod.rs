//! When a schedule is due: cron expressions, time zones, jitter, missed ticks. Pure.
//!
//! A tick is the minute that an expression names. It fires then, or up to `jitter` later.
//! [`timetable`] defines what daylight saving time does to ticks.
//!
//! Must not: use a Kubernetes client or a clock.

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

/// The longest time until an object with ticks is reconciled again: clocks step, and a timer does
/// not see it.
pub const LONGEST_REST: SignedDuration = SignedDuration::from_mins(10);

/// How far the clocks of two leaders may differ.
pub const CLOCKS_DIFFER: SignedDuration = SignedDuration::from_mins(5);
