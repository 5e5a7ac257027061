//! What the stories share: the cluster, a tenant of one's own, waiting, looking, breaking.
//!
//! A fixture says in its panic what it did not find. Nothing here decides what is right: that stands in the stories.

pub(crate) mod audit;
pub(crate) mod blockade;
pub(crate) mod cluster;
pub(crate) mod findings;
pub(crate) mod operator;
pub(crate) mod policies;
pub(crate) mod repository;
pub(crate) mod run;
pub(crate) mod tenant;
pub(crate) mod types;
pub(crate) mod wait;

pub(crate) use tenant::Tenant;
pub(crate) use wait::{SOON, wait_for};
