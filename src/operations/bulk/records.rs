//! What the controller knows of a bulk operation; it records nothing on other objects. Pure.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use super::Bulk;
use crate::{
    api::{
        execution::RESTORE_ACCOUNT,
        operations::{BULK, BULK_COMMAND},
    },
    operations::{MadeFor, Operation},
};

impl Operation for Bulk {
    fn name(&self) -> &'static str {
        BULK
    }

    fn command(&self) -> &'static str {
        BULK_COMMAND
    }

    fn about(&self) -> &'static str {
        "Do one thing with many objects of the tenant"
    }

    fn account(&self) -> &'static str {
        RESTORE_ACCOUNT
    }

    fn made_for(&self) -> Option<MadeFor> {
        Some(MadeFor::BulkOperationRun)
    }
}
