//! Tests of whole modules that need no cluster.

mod repository;
mod worker;
