//! What a run records on other objects when it ends: its backup set, the state of its repository,
//! marks on damaged sets. Which of these it records is the operation's to say
//! ([`crate::operations::record`]); here is what each means for the object, and the writes.

pub mod backup_set;
pub mod marks;
pub mod repository;
mod write;

pub use write::write;
