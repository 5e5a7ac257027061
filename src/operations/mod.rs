//! The built-in operations, one folder each: what the worker does in the Job.
//!
//! Must not: decide what a run becomes (`src/runs`), or contain what surrounds every operation in a
//! Job (`src/worker`).

pub mod capture;
pub mod check;
pub mod maintain;
pub mod preview;
pub mod rehearse;
pub mod restore;
