//! The worker, with a real repository in a directory, against an API server that can be made to fail.
//!
//! What a real API server does is tried on a real cluster (tests/e2e); here are the faults it cannot be asked for.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod api;
mod audit;
mod bulk;
mod bulk_capture;
mod bulk_delete;
mod bulk_export;
mod bulk_preview;
mod capture;
mod capture_item;
mod capture_marks;
mod check;
mod compare;
mod coverage;
mod drift;
mod drift_input;
mod drift_marks;
mod fence;
mod history;
mod inventory;
mod killed;
mod lease;
mod maintain;
mod memory;
mod process;
mod restore;
mod restore_finding;
mod support;
mod toy;
mod unready;
