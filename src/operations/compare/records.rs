//! What the controller knows of a comparison. It records nothing but the run itself. Pure.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use super::Compare;
use crate::{
    api::operations::{COMPARE, COMPARE_COMMAND},
    operations::Operation,
};

impl Operation for Compare {
    fn name(&self) -> &'static str {
        COMPARE
    }

    fn command(&self) -> &'static str {
        COMPARE_COMMAND
    }

    fn about(&self) -> &'static str {
        "Report what differs between two backup sets, or list what one holds"
    }
}
