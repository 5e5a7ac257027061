//! Items: what is captured, how two of them are compared, what a restore would do to them, in which
//! order, and why not.
//!
//! From a live object to its stored form:
//!
//! ```text
//! skip       is it ever captured?                   canonical  the bytes that are stored
//! ```
//!
//! From a stored object to what a restore does with it:
//!
//! ```text
//! excluded   is it ever restored?                   selection  is it selected?
//! sanitize   drops the fields that the server owns  owners     its current owners
//! transform  applies the requested patches          semantic   keyed hash of the fields that count
//! compare    how stored and live differ             policy     what a restore does about it
//! decide     the outcome, from stored and live      proposal   a write, and its dry run's verdict
//! plan       create, update, … or why not           diff       what a write changes, for people
//! order      the order of writes                    refusal    what the API server's refusal means
//! escalation the rights needed to grant rights      words      what may be shown of its message
//! holdings   what an object holds that its successor needs
//! dependents what is garbage-collected with a deleted object
//! readers    the kinds whose values reports may contain
//! owned      the fields that the server owns, which `sanitize` drops
//! ```
//!
//! What one action does with many objects: `bulk`.
//!
//! What an inventory keeps of an object instead of its content: `inventory`. What a difference from a
//! baseline is as a finding: `drift`. What its metadata proves of an object: `mark`.
//!
//! Shared by both: `served` (a kind as a cluster serves it), `kinds` (kinds that hold no state),
//! `redact` (what has the form of a secret).
//!
//! Everything here is pure: objects come in as JSON, plans go out as values. Must not use a
//! Kubernetes client or a repository (Cargo.toml names none), or a clock (the lints forbid it).
//! Data from a repository is untrusted: the tenant holds its key.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub use tenantatlas_api as api;

pub mod bulk;
pub mod canonical;
pub mod compare;
pub mod decide;
pub mod dependents;
pub mod diff;
pub mod drift;
pub mod eligible;
pub mod escalation;
pub mod excluded;
pub mod holdings;
pub mod inventory;
pub mod kinds;
pub mod labels;
pub mod mark;
pub mod order;
pub mod owned;
pub mod owners;
pub mod plan;
mod policy;
pub mod proposal;
pub mod readers;
pub mod redact;
pub mod refusal;
pub mod sanitize;
pub mod selection;
pub mod semantic;
pub mod served;
pub mod skip;
pub mod transform;
pub mod words;

#[cfg(test)]
mod secrecy;
#[cfg(test)]
mod tests;
