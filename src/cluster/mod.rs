//! The only way to the API server, and objects as dynamic JSON: discovery, lists.
//!
//! Must not: know about runs, repositories or reconcilers.

pub mod access;
pub mod client;
pub mod discovery;
pub mod list;
pub mod pace;
pub mod retry;
pub mod trim;
