//! What the controller knows and records of a check. Pure.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use super::Check;
use crate::{
    api::operations::{CHECK, CHECK_COMMAND},
    operations::{
        Operation,
        record::{Ended, Ran, Record, RepositoryCheck},
    },
};

impl Operation for Check {
    fn name(&self) -> &'static str {
        CHECK
    }

    fn command(&self) -> &'static str {
        CHECK_COMMAND
    }

    fn about(&self) -> &'static str {
        "Open or create the tenant's repository and check it for damage"
    }

    /// Every end, also that of a check which did not run: a repository that was never checked says
    /// why it does not become Ready. Which ends change a repository is decided where the record is
    /// written.
    fn records(&self, ended: &Ended<'_>) -> Vec<Record> {
        let check = RepositoryCheck::of(ended).filter(|_| ended.ran != Ran::Another);
        check.into_iter().map(|check| Record::Checked(Box::new(check))).collect()
    }
}
