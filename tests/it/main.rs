//! Tests of whole modules that need no cluster.

mod purity;
mod repository;
mod worker;
