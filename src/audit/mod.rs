//! The audit chain of a tenant: what makes entries one chain, and what shows that it is not whole.
//!
//! The content of an entry is one string, and its hash covers the bytes of that string: no default,
//! pruning or conversion of the API server can change it. The string contains the hash of the
//! previous entry. So the chain is followed from one entry to the next by these hashes. Names are
//! the lock: two writers that follow the same entry both take the first free number after it, and
//! the API server accepts only one. A number proves nothing: an entry that follows no other is not
//! part of the chain, wherever it is, and the chain continues around it.
//!
//! Altering an entry requires altering all entries after it. If the end is then cut off or altered
//! as well, a [`Tip`] that was recorded elsewhere reveals it.
//!
//! Must not: do I/O, or use a Kubernetes client or a clock (lints deny the last two).

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod chain;
mod entry;
mod verify;

pub use chain::Chain;
pub use entry::{Entry, Metadata, Place, Tip, successor};
pub use verify::{Fault, Foreign, verify};
