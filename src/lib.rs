//! TenantAtlas: every long-running operation on a tenant's namespace is one record, one Job, one outcome.
//!
//! | module | what lives there |
//! |---|---|
//! | [`api`], a crate | custom resources and the pure rules that belong to them; no client, no I/O |
//! | [`audit`] | the chain of audit entries, and what shows that it is not whole; pure |
//! | [`kernel`] | watched objects become passes: caches, work queue, leadership, guarded writes, events; knows no kind |
//! | [`runs`] | the life of an `OperationRun`: observe reads, decide decides, act writes |
//! | [`kinds`] | the other kinds' reconcilers, a folder each |
//! | [`controller`] | the process: options, watches, who is woken by what, leadership, shutdown |
//! | [`operations`] | the built-in operations, a folder each |
//! | [`worker`] | what runs inside a Job, around an operation |
//! | [`items`], a crate | what is captured, compared and restored, in which order, and why not; no client, no I/O |
//! | [`repository`], a crate | snapshots in an object store; knows nothing of Kubernetes |
//! | [`schedule`] | when a schedule is due: cron, time zones, missed ticks; pure |
//! | [`providers`] | where items live: Kubernetes, behind the traits that captures and restores use |
//! | [`cluster`] | the one way to the API server |
//! | [`telemetry`] | logs and metrics |
//! | [`clock`] | the one clock |
//!
//! Invariants that hold everywhere: one live execution for an identity; terminal is terminal; no write when nothing
//! changed; the controller reads no Secret and lists no tenant's objects; no field names another namespace.

pub use tenantatlas_api as api;
pub use tenantatlas_items as items;
pub use tenantatlas_repository as repository;

pub mod audit;
pub mod clock;
pub mod cluster;
pub mod command;
pub mod controller;
pub mod kernel;
pub mod kinds;
pub mod operations;
pub mod providers;
pub mod runs;
pub mod schedule;
pub mod telemetry;
pub mod worker;
