//! Tests on a real cluster, one file a user story. `cargo xtask test --only e2e` makes the cluster, installs the
//! operator and runs them; each works in namespaces of its own, so they run side by side and in any order. `lost_cluster` is the
//! step `recovery`, which has a second cluster.
//!
//! They use what a user has: manifests, kubectl, restic. Nothing of the operator is replaced or switched.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
// A fixture is asked as a whole, and a story reads better without the shortest form of each call.
#![allow(clippy::unused_self, clippy::default_trait_access, clippy::format_collect, clippy::map_unwrap_or)]

mod support;

mod adoption;
mod alone;
mod applications;
mod blocked;
mod bucket;
mod bulk;
mod bulk_capture;
mod bulk_delete;
mod bulk_export;
mod cancel;
mod capture;
mod capture_item;
mod compare;
mod database;
mod disaster;
mod drift;
mod duplicates;
mod fairness;
mod findings;
mod history;
mod inventory;
mod lost_cluster;
mod maintenance;
mod metrics;
mod repository;
mod restore;
mod results;
mod round_trip;
mod runs;
mod schedule;
mod schedule_trouble;
mod templates;
mod tenancy;
mod undrifted;
mod unready;
mod waiting;
mod workspace_approvals;
mod workspace_orders;
mod workspace_runs;
mod workspaces;
