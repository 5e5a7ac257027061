//! What the controller knows of the capture of many objects. Pure.
//!
//! Its snapshot is recorded as that of any capture is
//! ([`crate::operations::capture`], `has_made`).

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use super::BulkCapture;
use crate::{
    api::operations::{BULK_CAPTURE, BULK_CAPTURE_COMMAND},
    operations::{MadeFor, Operation},
};

impl Operation for BulkCapture {
    fn name(&self) -> &'static str {
        BULK_CAPTURE
    }

    fn command(&self) -> &'static str {
        BULK_CAPTURE_COMMAND
    }

    fn stores(&self) -> bool {
        true
    }

    fn about(&self) -> &'static str {
        "Capture many objects of the tenant into its repository"
    }

    fn made_for(&self) -> Option<MadeFor> {
        Some(MadeFor::BulkOperationRun)
    }
}
