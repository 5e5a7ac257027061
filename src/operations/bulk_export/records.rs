//! What the controller knows of an export of many objects; it records nothing on other objects. Pure.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use super::BulkExport;
use crate::{
    api::{
        execution::PREVIEW_ACCOUNT,
        operations::{BULK_EXPORT, BULK_EXPORT_COMMAND},
    },
    operations::{MadeFor, Operation},
};

impl Operation for BulkExport {
    fn name(&self) -> &'static str {
        BULK_EXPORT
    }

    fn command(&self) -> &'static str {
        BULK_EXPORT_COMMAND
    }

    fn about(&self) -> &'static str {
        "Write many objects of the tenant into a ConfigMap, as clean YAML"
    }

    /// It reads what it is to do, and may write nothing but one ConfigMap.
    fn account(&self) -> &'static str {
        PREVIEW_ACCOUNT
    }

    fn made_for(&self) -> Option<MadeFor> {
        Some(MadeFor::BulkOperationRun)
    }
}
