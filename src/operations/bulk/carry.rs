//! Carries out a bulk operation, object by object: so many at once, each read, decided and written
//! with the uid and resourceVersion that it was decided for.
//!
//! An object that changes in between is read and decided again. What an earlier attempt has changed
//! is as wanted, and is left as it is.

#![deny(clippy::disallowed_types)]

use super::found::Found;
use crate::{
    api::item::ItemId,
    api::reason::{bulk as reason, item},
    items::{
        bulk::{Change, Left, Step, step},
        excluded::ExclusionRules,
        plan::Remark,
        refusal::refusal,
        served::ServedKind,
    },
    providers::{
        Guard, Session,
        call::{Performed, Target},
        fault::Fault,
    },
    worker::{
        failure::{Failure, call_failure},
        progress::Progress,
        stop::Stop,
    },
};
use futures::{StreamExt, TryStreamExt, stream};
use std::{cell::Cell, future::ready};

/// How often an object is read again that others changed in between.
const LOOKS: usize = 4;

/// What became of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was changed.
    Done,
    /// It was as wanted.
    Unchanged,
    /// It was left as it is.
    Left(Left),
}

/// How objects are worked on.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// So many at once.
    pub parallelism: usize,
    /// Nothing more is begun once so many have failed.
    pub stop_after: Option<usize>,
}

/// Carries an action out.
pub struct Carrier<'a> {
    /// Reads and writes.
    pub session: Box<dyn Session + 'a>,
    /// Checks writes of objects that give rights.
    pub guard: Box<dyn Guard + 'a>,
    /// What is never changed.
    pub rules: ExclusionRules,
    /// What is done.
    pub change: &'a Change,
    /// The kind, in the version that is read and written.
    pub kind: &'a ServedKind,
    /// Whether every reader of reports may read objects of the kind.
    pub shown: bool,
    /// Whether the author named the objects: then one that does not exist has failed.
    pub named: bool,
}

impl Carrier<'_> {
    /// Works on the objects, and records in `found` what became of them. Once `stop` is set, nothing
    /// more is begun.
    pub async fn carry(
        &self,
        found: &mut Found<'_>,
        pace: Pace,
        progress: &Progress,
        stop: &Stop,
    ) -> Result<(), Failure> {
        let names = found.names();
        let failed = Cell::new(0_usize);
        let may_begin = || !stop.is_set() && pace.stop_after.is_none_or(|most| failed.get() < most);
        let carried = stream::iter(names.iter().enumerate())
            .take_while(|_| ready(may_begin()))
            .map(|(place, name)| async move { Ok::<_, Failure>((place, self.carry_one(name).await?)) })
            .buffer_unordered(pace.parallelism);
        let mut carried = std::pin::pin!(carried);
        while let Some((place, fate)) = carried.try_next().await? {
            found.record(place, fate);
            failed.set(found.failed());
            progress.update(found.counts());
        }
        Ok(())
    }

    async fn carry_one(&self, name: &str) -> Result<Fate, Failure> {
        let item = ItemId::new(self.kind.group_kind(), name);
        let target = Target { kind: self.kind, name };
        for _ in 0..LOOKS {
            let live = match self.session.get(target).await {
                Ok(Some(live)) => live,
                Ok(None) => return Ok(Fate::Left(self.not_there())),
                Err(Fault::Refused { code, message, .. }) => {
                    let code_of = if code == 403 { item::FORBIDDEN } else { item::SERVER_FAILED };
                    return Ok(failed(code_of, format!("it cannot be read: the API server answers {code} {message}")));
                }
                Err(fault) => return Err(call_failure(&format!("read {} {name}", self.kind.kind), &fault)),
            };
            let proposal = match step(self.change, &self.rules, &item, live, self.shown) {
                Step::Unchanged => return Ok(Fate::Unchanged),
                Step::Left(left) => return Ok(Fate::Left(left)),
                Step::Write(proposal) => proposal,
            };
            if let Some((_, remark)) = self.guard.refuses(&proposal, None).await? {
                return Ok(Fate::Left(Left { skipped: false, remark }));
            }
            match self.session.apply(target, &proposal).await? {
                Performed::Done { .. } => return Ok(Fate::Done),
                Performed::Refused { code, message } => {
                    let (_, remark) = refusal(code, &message, proposal.write());
                    return Ok(failed(&remark.code, format!("the API server answers {code} {message}")));
                }
                // The object has changed. The others are not answers to an update.
                Performed::Moved
                | Performed::Retaken
                | Performed::Lingers
                | Performed::Final { .. }
                | Performed::Deleted { .. } => {}
            }
        }
        let message = "others changed it each time that it was to be written: create a new bulk operation for it";
        Ok(failed(reason::MOVED, message))
    }

    fn not_there(&self) -> Left {
        let remark = if self.named {
            Remark::new(reason::NOT_FOUND, "no object of this name exists: correct spec.items in a new bulk operation")
        } else {
            Remark::new(reason::VANISHED, "it was selected, and is gone")
        };
        Left { skipped: !self.named, remark }
    }
}

fn failed(code: &str, message: impl Into<String>) -> Fate {
    Fate::Left(Left { skipped: false, remark: Remark::new(code, message) })
}
