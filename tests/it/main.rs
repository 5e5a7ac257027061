//! Tests of whole modules that need no cluster.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(missing_docs, clippy::missing_panics_doc, reason = "nothing here is used elsewhere")]

mod argo_cd;
mod bounded;
mod kstatus;
mod left_out;
mod operations;
mod repository;
mod soak;
mod upgrade;
mod worker;
