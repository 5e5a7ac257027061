//! What the controller knows and records of maintenance. Pure.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use super::Maintain;
use crate::{
    api::{
        Inputs, Outcome,
        execution::GRACE_HOURS,
        operations::{MAINTAIN, MAINTAIN_COMMAND},
    },
    operations::{
        Operation,
        record::{Ended, Ran, Record, RepositoryCheck},
    },
    repository::CODES_OF_THE_CONTENT,
};

impl Operation for Maintain {
    fn name(&self) -> &'static str {
        MAINTAIN
    }

    fn command(&self) -> &'static str {
        MAINTAIN_COMMAND
    }

    fn about(&self) -> &'static str {
        "Remove data that no backup set needs from the tenant's repository, and check it for damage"
    }

    /// A grace period shorter than usual must be written out in the run itself, because admission
    /// checks the rights of its author.
    fn may_inherit(&self, inputs: &Inputs) -> Result<(), &'static str> {
        if inputs.get("graceHours").is_some_and(|hours| hours.as_u64() < Some(GRACE_HOURS.into())) {
            return Err("write the inputs out: a graceHours of less than a day is not taken from the run in rerunOf");
        }
        Ok(())
    }

    /// Maintenance that could not run says nothing about the repository, unless damage is what ended
    /// it.
    fn records(&self, ended: &Ended<'_>) -> Vec<Record> {
        let told = ended.outcome == Outcome::Succeeded || CODES_OF_THE_CONTENT.contains(&ended.reason);
        let check = RepositoryCheck::of(ended).filter(|_| told && matches!(ended.ran, Ran::Worker { .. }));
        check.into_iter().map(|check| Record::Checked(Box::new(check))).collect()
    }
}
