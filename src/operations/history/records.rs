//! What the controller knows of the history of an item. It records nothing but the run itself. Pure.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use super::History;
use crate::{
    api::{
        execution::PREVIEW_ACCOUNT,
        operations::{HISTORY, HISTORY_COMMAND},
    },
    operations::Operation,
};

impl Operation for History {
    fn name(&self) -> &'static str {
        HISTORY
    }

    fn command(&self) -> &'static str {
        HISTORY_COMMAND
    }

    fn about(&self) -> &'static str {
        "Report the versions of one item over the backup sets of its tenant"
    }

    /// This account may ask what the requester may read.
    fn account(&self) -> &'static str {
        PREVIEW_ACCOUNT
    }

    /// Who may not read the item is shown nothing of it.
    fn depends_on_requester(&self) -> bool {
        true
    }
}
