//! What the controller knows of the capture of one object. Pure.
//!
//! Its snapshot is recorded as that of any capture is
//! ([`crate::operations::capture`], `has_made`).

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use super::CaptureItem;
use crate::{
    api::operations::{CAPTURE_ITEM, CAPTURE_ITEM_COMMAND},
    operations::Operation,
};

impl Operation for CaptureItem {
    fn name(&self) -> &'static str {
        CAPTURE_ITEM
    }

    fn command(&self) -> &'static str {
        CAPTURE_ITEM_COMMAND
    }

    fn stores(&self) -> bool {
        true
    }

    fn about(&self) -> &'static str {
        "Capture one object of the tenant into its repository"
    }
}
