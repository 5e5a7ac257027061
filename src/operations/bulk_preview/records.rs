//! What the controller knows of a preview of a bulk operation; it records nothing on other objects.
//! Pure.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use super::BulkPreview;
use crate::{
    api::{
        execution::PREVIEW_ACCOUNT,
        operations::{BULK_PREVIEW, BULK_PREVIEW_COMMAND},
    },
    operations::{MadeFor, Operation},
};

impl Operation for BulkPreview {
    fn name(&self) -> &'static str {
        BULK_PREVIEW
    }

    fn command(&self) -> &'static str {
        BULK_PREVIEW_COMMAND
    }

    fn about(&self) -> &'static str {
        "Report what a bulk operation would do with each object, and change nothing"
    }

    fn account(&self) -> &'static str {
        PREVIEW_ACCOUNT
    }

    fn made_for(&self) -> Option<MadeFor> {
        Some(MadeFor::BulkOperationRun)
    }
}
