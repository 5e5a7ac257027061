//! What the controller knows and records of a rehearsal. Pure.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use super::Rehearse;
use crate::{
    api::{
        Inputs, Outcome,
        execution::PREVIEW_ACCOUNT,
        operations::{REHEARSE, REHEARSE_COMMAND},
        reference::is_object_name,
    },
    operations::{
        Operation,
        record::{Ended, Ran, Record},
    },
    repository::CODES_OF_THE_CONTENT,
};

impl Operation for Rehearse {
    fn name(&self) -> &'static str {
        REHEARSE
    }

    fn command(&self) -> &'static str {
        REHEARSE_COMMAND
    }

    fn about(&self) -> &'static str {
        "Test whether a whole backup set could be restored, and change nothing"
    }

    fn account(&self) -> &'static str {
        PREVIEW_ACCOUNT
    }

    /// A rehearsal that did not finish says nothing about the set, unless damage is what ended it.
    /// The same holds for a rehearsal that was forbidden something: missing rights of the requester
    /// are not the set's fault.
    fn records(&self, ended: &Ended<'_>) -> Vec<Record> {
        let is_damage = |code: &str| CODES_OF_THE_CONTENT.contains(&code);
        let is_tried = ended.made.plan.as_ref().is_some_and(|plan| plan.summary.forbidden == 0);
        let is_damaged =
            is_damage(ended.reason) || ended.failures.iter().any(|failure| is_damage(&failure.reason_code));
        let set = self.about_set(ended).filter(|_| is_tried || is_damaged);
        set.into_iter().map(|set| Record::Verified { set, outcome: ended.outcome }).collect()
    }

    fn restores(&self, inputs: &Inputs) -> Option<String> {
        inputs.text_of("backupSet")
    }

    /// The set that the inputs name, or else the newest one, as found by the worker.
    fn about_set(&self, ended: &Ended<'_>) -> Option<String> {
        if ended.ran == Ran::Nothing || ended.outcome == Outcome::Blocked {
            return None;
        }
        let named = match ended.inputs.get("backupSet") {
            None => ended.made.backup_set.clone(),
            Some(named) => named.as_str().map(str::to_owned),
        };
        named.filter(|name| is_object_name(name))
    }
}
