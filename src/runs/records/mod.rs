//! What a run records on other objects when it ends: its backup set, the state of its repository,
//! marks on damaged sets.

pub mod backup_set;
pub mod marks;
pub mod repository;
