//! Stories that no other story runs beside: they end the operator's processes, or need all of the machine.
//!
//! `cargo xtask test` runs every story with `alone::` in its path after all others, one at a time. A story of a subject that
//! has its own file stands there, in a module of this name.

mod bounded;
mod crash;
mod hostile;
mod imported;
mod leader;
mod restore_history;
