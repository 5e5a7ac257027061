//! Items: what is captured, how two of them are compared, and what a restore would do to them, in which order, and why not.
//!
//! From a live object to what is stored of it:
//!
//! ```text
//! skip       is it ever captured?                     canonical  the bytes that are stored
//! ```
//!
//! From a stored object to what is done about it:
//!
//! ```text
//! excluded   is it ever restored?                     selection  was it asked for?
//! sanitize   without what the server owns             owners     whose child it is now
//! transform  with the patches that were asked for     semantic   what of a live object counts, as a keyed hash
//! decide     from both to one of these                proposal   a write, and what a dry run of it says
//! plan       create, update, … or why not             diff       what that changes, for people
//! order      what goes first                          refusal    what it means that the API server says no
//! escalation what it takes to give rights to others     words      which of its words may be shown
//! holdings   what an object holds that its successor needs
//! dependents what the garbage collector takes with what is deleted
//! readers    of which kinds reports may hold values
//! owned      the fields that the server owns, which `sanitize` takes out
//! ```
//!
//! Beside both: `served` (a kind as a cluster serves it), `kinds` (kinds that hold no state), `redact` (what has the form of a secret).
//!
//! Everything here is pure: objects come in as JSON, plans go out as values. Must not: a Kubernetes client or a repository (Cargo.toml
//! names none), a clock (the lints forbid it). What comes out of a repository is untrusted: a tenant holds its key.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub use tenantatlas_api as api;

pub mod canonical;
pub mod decide;
pub mod dependents;
pub mod diff;
pub mod eligible;
pub mod escalation;
pub mod excluded;
pub mod holdings;
pub mod kinds;
pub mod labels;
pub mod order;
pub mod owned;
pub mod owners;
pub mod plan;
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
