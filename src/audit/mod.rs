//! The audit chain of a tenant: what makes a list of entries one chain, and what shows that it is not whole.
//!
//! Each entry holds the hash of the one before, and its name is its place, so a create is the compare-and-swap: of two
//! that would be the same place the API server refuses one. Whoever alters an entry has to alter all that follow; whoever
//! then cuts or alters the end is found by a [`Tip`] that was noted elsewhere.
//!
//! Must not: any I/O, any Kubernetes client, any clock (a test looks).

mod entry;
mod verify;

pub use entry::{Entry, Metadata, Place, Tip, successor};
pub use verify::{Fault, verify};
