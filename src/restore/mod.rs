//! Restore, as far as it can be thought without a cluster: what would be written, in which order, and why not.
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
//! Everything here is pure: objects come in as JSON, plans go out as values. Must not: a Kubernetes client, a clock, a
//! repository (a test looks). What comes out of a repository is untrusted: a tenant holds its key.

pub mod decide;
pub mod dependents;
pub mod diff;
pub mod eligible;
pub mod escalation;
pub mod excluded;
pub mod holdings;
pub mod labels;
pub mod order;
pub mod owned;
pub mod owners;
pub mod plan;
pub mod proposal;
pub mod readers;
pub mod refusal;
pub mod sanitize;
pub mod selection;
pub mod semantic;
pub mod transform;
pub mod words;

#[cfg(test)]
mod secrecy;
#[cfg(test)]
mod tests;
