//! The audit chain of a tenant: what makes entries one chain, and what shows that it is not whole.
//!
//! What an entry says is one string, and its hash is that of the string's bytes: no default, pruning or conversion of the
//! API server can change it. The string holds the hash of the entry before. So the chain is followed from one entry
//! to the next by these hashes. Names are the lock: of two that would follow the same entry both take the first free
//! number after it, and the API server lets one through. A number proves nothing: an entry that follows none is not of the
//! chain, wherever it stands, and the chain goes on around it.
//!
//! Whoever alters an entry has to alter all that follow; whoever then cuts or alters the end is found by a [`Tip`] that was
//! noted elsewhere.
//!
//! Must not: any I/O, any Kubernetes client, any clock (a test looks).

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod chain;
mod entry;
mod verify;

pub use chain::Chain;
pub use entry::{Entry, Metadata, Place, Tip, successor};
pub use verify::{Fault, Foreign, verify};
