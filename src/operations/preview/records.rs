//! What the controller knows of a preview; it records nothing on other objects. Pure.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use super::Preview;
use crate::{
    api::{
        execution::PREVIEW_ACCOUNT,
        operations::{PREVIEW, PREVIEW_COMMAND},
    },
    operations::{MadeFor, Operation},
};

impl Operation for Preview {
    fn name(&self) -> &'static str {
        PREVIEW
    }

    fn command(&self) -> &'static str {
        PREVIEW_COMMAND
    }

    fn about(&self) -> &'static str {
        "Report what a restore would do to each item, and change nothing"
    }

    fn account(&self) -> &'static str {
        PREVIEW_ACCOUNT
    }

    fn made_for(&self) -> Option<MadeFor> {
        Some(MadeFor::RestoreRun)
    }
}
