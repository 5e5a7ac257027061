//! What the controller knows of a comparison with a baseline. It records nothing but the run
//! itself: the worker writes the findings. Pure.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use super::Drift;
use crate::{
    api::operations::{DRIFT, DRIFT_COMMAND},
    operations::Operation,
};

impl Operation for Drift {
    fn name(&self) -> &'static str {
        DRIFT
    }

    fn command(&self) -> &'static str {
        DRIFT_COMMAND
    }

    fn about(&self) -> &'static str {
        "Find what differs between the tenant and a baseline"
    }
}
