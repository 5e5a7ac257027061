//! What the controller knows of a deletion of many objects. Pure.
//!
//! The backup set that brings the objects back is recorded by the row of restores, which recognizes a
//! result with such a set whatever the type of the run is.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use super::BulkDelete;
use crate::{
    api::{
        execution::RESTORE_ACCOUNT,
        operations::{BULK_DELETE, BULK_DELETE_COMMAND},
    },
    operations::{MadeFor, Operation},
};

impl Operation for BulkDelete {
    fn name(&self) -> &'static str {
        BULK_DELETE
    }

    fn command(&self) -> &'static str {
        BULK_DELETE_COMMAND
    }

    fn about(&self) -> &'static str {
        "Delete many objects of the tenant, and keep what brings them back"
    }

    fn account(&self) -> &'static str {
        RESTORE_ACCOUNT
    }

    fn made_for(&self) -> Option<MadeFor> {
        Some(MadeFor::BulkOperationRun)
    }
}
