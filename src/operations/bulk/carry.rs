//! Carries out a bulk operation, object by object: so many at once, each read, decided and written
//! with the uid and resourceVersion that it was decided for.
//!
//! An object that changes in between is read and decided again. What an earlier attempt has changed
//! is as wanted, and is left as it is. What applies a preview writes only what the preview would, and
//! only while an object is as the preview found it.

#![deny(clippy::disallowed_types)]

use super::{
    found::Found,
    survey::{Looked, Reach},
};
use crate::{
    api::reason::bulk as reason,
    items::{
        bulk::{Left, State, Step},
        refusal::refusal,
    },
    providers::call::{Performed, Target},
    worker::{failure::Failure, progress::Progress, stop::Stop},
};
use futures::{StreamExt, TryStreamExt, stream};
use std::{cell::Cell, future::ready};

/// How often an object is read again that others changed in between.
pub const LOOKS: usize = 4;

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

/// Works on the objects, and records in `found` what became of them. `expected` is what a preview
/// found of each. Once `stop` is set, nothing more is begun.
pub async fn carry(
    reach: &Reach<'_>,
    found: &mut Found<'_>,
    expected: Option<&[State]>,
    pace: Pace,
    progress: &Progress,
    stop: &Stop,
) -> Result<(), Failure> {
    let names = found.names();
    let failed = Cell::new(0_usize);
    let may_begin = || !stop.is_set() && pace.stop_after.is_none_or(|most| failed.get() < most);
    let expected = |place: usize| expected.and_then(|expected| expected.get(place)).copied();
    let carried = stream::iter(names.iter().enumerate())
        .take_while(|_| ready(may_begin()))
        .map(|(place, name)| {
            let expected = expected(place);
            async move { Ok::<_, Failure>((place, carry_one(reach, name, expected).await?)) }
        })
        .buffer_unordered(pace.parallelism);
    let mut carried = std::pin::pin!(carried);
    while let Some((place, fate)) = carried.try_next().await? {
        found.record(place, fate);
        failed.set(found.failed());
        progress.update(found.counts());
    }
    Ok(())
}

async fn carry_one(reach: &Reach<'_>, name: &str, expected: Option<State>) -> Result<Fate, Failure> {
    for _ in 0..LOOKS {
        let Looked { seen, step } = reach.look(name).await?;
        let proposal = match step {
            Step::Unchanged => return Ok(Fate::Unchanged),
            Step::Left(left) => return Ok(Fate::Left(left)),
            Step::Write(proposal) => proposal,
        };
        if let Some(State { seen: before, writes }) = expected {
            if !writes {
                let message = "the preview showed that it would be left as it is, and now it could be changed: make another preview";
                return Ok(failed(reason::NOT_PLANNED, message));
            }
            if seen != Some(before) {
                return Ok(failed(reason::MOVED, "others changed it since the preview: make another preview"));
            }
        }
        if let Some((_, remark)) = reach.guard.refuses(&proposal, None).await? {
            return Ok(Fate::Left(Left { skipped: false, remark }));
        }
        match reach.session.apply(Target { kind: reach.kind, name }, &proposal).await? {
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

fn failed(code: &str, message: impl Into<String>) -> Fate {
    Fate::Left(Left::failed(code, message))
}
