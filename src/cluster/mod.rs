//! The only way to the API server: the client, bounds on responses, retries and pace.
//!
//! Must not: know about runs, repositories, reconcilers or items.

pub mod client;
pub mod pace;
pub mod ready;
pub mod retry;
pub mod trim;
