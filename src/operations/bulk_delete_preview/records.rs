//! What the controller knows of a preview of a deletion; it records nothing on other objects. Pure.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use super::BulkDeletePreview;
use crate::{
    api::{
        execution::PREVIEW_ACCOUNT,
        operations::{BULK_DELETE_PREVIEW, BULK_DELETE_PREVIEW_COMMAND},
    },
    operations::{MadeFor, Operation},
};

impl Operation for BulkDeletePreview {
    fn name(&self) -> &'static str {
        BULK_DELETE_PREVIEW
    }

    fn command(&self) -> &'static str {
        BULK_DELETE_PREVIEW_COMMAND
    }

    fn about(&self) -> &'static str {
        "Report what a deletion of many objects would do, and change nothing"
    }

    fn account(&self) -> &'static str {
        PREVIEW_ACCOUNT
    }

    fn made_for(&self) -> Option<MadeFor> {
        Some(MadeFor::BulkOperationRun)
    }
}
