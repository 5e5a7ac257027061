//! One write of one item, proposed: what it is decided from, what the API server says to a dry run of it, and what that makes of
//! the item.
//!
//! Must not: decide whether a write is proposed; that is [`super::decide`].

use crate::{
    api::item::ItemId,
    diff::{self, Diff},
    owners::{owners, pending, remove_pending},
    plan::{Action, PlannedItem, Remark, reason},
    refusal::refusal,
    sanitize::sanitized,
    semantic::{DigestKey, Status, semantic},
};
use serde_json::Value;

/// A write, to be tried.
#[derive(Clone, Debug, PartialEq)]
pub struct Proposal {
    pub(super) planned: PlannedItem,
    pub(super) write: Write,
    pub(super) live: Option<Value>,
    /// Of a recreation: the update in its place, which shows whether there is any difference.
    pub(super) in_place: Option<Value>,
    /// Of what is deleted: what a restore would make again of it.
    pub(super) again: Option<Value>,
    pub(super) status: Status,
    pub(super) may_lose: bool,
    /// Whether all who read reports may read the object.
    pub(super) shown: bool,
    /// Who managed fields by server-side apply.
    pub(super) managers: Vec<Value>,
}

/// A write of one item.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// Make this.
    Create(Value),
    /// Put this in its place; it carries uid and resourceVersion.
    Update(Value),
    /// Delete what has this uid and resourceVersion, then make this.
    Recreate(Precondition, Value),
    /// Delete what has this uid and resourceVersion.
    Delete(Precondition),
}

/// What an object must still be to be deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Precondition {
    /// Its uid.
    pub uid: String,
    /// Its resourceVersion.
    pub resource_version: String,
}

impl Precondition {
    pub(super) fn of(live: &Value) -> Self {
        let field = |name: &str| live["metadata"][name].as_str().unwrap_or_default().to_owned();
        Self { uid: field("uid"), resource_version: field("resourceVersion") }
    }
}

/// What the API server said to a dry run.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It would be done; with the object as it would then be, of an update.
    Accepted(Option<Value>),
    /// It would not.
    Refused {
        /// HTTP status.
        code: u16,
        /// The status's reason, such as `Invalid`.
        reason: String,
        /// The server's words, without secrets.
        message: String,
    },
    /// It was not asked, and why.
    NotAsked(String),
    /// A recreation would make no difference.
    AsItIs,
    /// A deletion would be done, but the API server would not take the object again.
    Final {
        /// HTTP status.
        code: u16,
        /// The server's words, without secrets.
        message: String,
    },
}

impl Proposal {
    /// The item.
    #[must_use]
    pub fn item(&self) -> &ItemId {
        &self.planned.item
    }

    /// The item's plan, if the API server agrees.
    #[must_use]
    pub fn planned(&self) -> &PlannedItem {
        &self.planned
    }

    /// What to try.
    #[must_use]
    pub fn write(&self) -> &Write {
        &self.write
    }

    /// The item's plan, now that this is not to be done.
    #[must_use]
    pub fn refused(self, action: Action, reason: Remark) -> PlannedItem {
        PlannedItem { action, reason: Some(reason), ..self.planned }
    }

    /// The object that is there.
    #[must_use]
    pub fn live(&self) -> Option<&Value> {
        self.live.as_ref()
    }

    /// Of a recreation: the update in its place, which shows whether there is any difference.
    #[must_use]
    pub fn in_place(&self) -> Option<&Value> {
        self.in_place.as_ref()
    }

    /// Of what is deleted: what a restore would make again of it.
    #[must_use]
    pub fn again(&self) -> Option<&Value> {
        self.again.as_ref()
    }

    /// The entries of `managedFields` to put back.
    #[must_use]
    pub fn managers(&self) -> &[Value] {
        &self.managers
    }

    /// Whether what cannot be made again may be deleted.
    #[must_use]
    pub fn may_lose(&self) -> bool {
        self.may_lose
    }

    /// Whether all who read reports may read the object. If not, no message holds anything of it but names.
    #[must_use]
    pub fn is_shown(&self) -> bool {
        self.shown
    }

    /// Whether the live object would stay as it is, if an update leaves it like this.
    #[must_use]
    pub fn stays(&self, would_be: &Value) -> bool {
        self.live.as_ref().is_some_and(|live| semantic(live, self.status) == semantic(would_be, self.status))
    }

    /// Whether it needs an owner whose uid is not known yet.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        match &self.write {
            Write::Create(body) | Write::Update(body) | Write::Recreate(_, body) => !pending(body).is_empty(),
            Write::Delete(_) => false,
        }
    }

    /// The same before its owners are there, so that their controllers find it and make no other.
    #[must_use]
    pub fn before_owners(mut self) -> Self {
        match &mut self.write {
            Write::Create(body) | Write::Update(body) | Write::Recreate(_, body) => remove_pending(body),
            Write::Delete(_) => {}
        }
        self.in_place = None;
        self
    }

    /// The owners of what is to be written, which must be written before.
    #[must_use]
    pub fn owners(&self) -> Vec<ItemId> {
        match &self.write {
            Write::Create(body) | Write::Update(body) | Write::Recreate(_, body) => owners(body),
            Write::Delete(_) => self.live.as_ref().map(owners).unwrap_or_default(),
        }
    }

    /// What the write would change, in at most about `limit` bytes. Of what is made or deleted there is nothing to compare.
    #[must_use]
    pub fn diff(&self, verdict: &Verdict, key: &DigestKey, limit: usize) -> Diff {
        let Some(live) = &self.live else { return Diff::default() };
        let compare = |live: &Value, wanted: &Value| {
            let compare = if self.shown { diff::diff } else { diff::withheld };
            compare(live, wanted, self.status, key, limit)
        };
        match (&self.write, verdict) {
            _ if self.planned.action == Action::Skip => Diff::default(),
            (Write::Update(_), Verdict::Accepted(Some(would_be))) => compare(live, would_be),
            (Write::Update(wanted) | Write::Recreate(_, wanted), _) => {
                // What the server owns would be as it is.
                compare(&sanitized(live, self.status), &sanitized(wanted, self.status))
            }
            _ => Diff::default(),
        }
    }

    /// The item's plan, now that the API server was asked.
    #[must_use]
    pub fn settle(self, verdict: &Verdict) -> PlannedItem {
        let stays = matches!(verdict, Verdict::Accepted(Some(would_be)) if self.stays(would_be));
        let Self { mut planned, write, may_lose, .. } = self;
        let with = |mut planned: PlannedItem, action, code: &str, message: String| {
            planned.action = action;
            planned.reason = Some(Remark::new(code, message));
            planned
        };
        match verdict {
            Verdict::Accepted(Some(_)) if stays && matches!(write, Write::Update(_)) => {
                (planned.action, planned.reason) = (Action::Unchanged, None);
                planned
            }
            // It is left as it is whatever is said.
            _ if planned.action == Action::Skip => planned,
            Verdict::AsItIs => {
                planned.action = Action::Unchanged;
                planned
            }
            Verdict::Accepted(_) => planned,
            Verdict::Final { code, message } => {
                let lost = format!("the API server would not take it again: it answers {code} {message}");
                if may_lose {
                    planned.warnings.push(Remark::new(reason::DATA_LOST, lost));
                    planned
                } else {
                    let advice = "set allowDataLoss to delete it all the same, or exclude the item";
                    with(planned, Action::Conflict, reason::DATA_LOSS, format!("{advice}: {lost}"))
                }
            }
            Verdict::NotAsked(why) => {
                planned.warnings.push(Remark::new(reason::NOT_TRIED, why.clone()));
                planned
            }
            Verdict::Refused { code: 409, reason, .. }
                if reason == "AlreadyExists" && matches!(write, Write::Recreate(..)) =>
            {
                planned
            }
            Verdict::Refused { code: 404, .. } if matches!(write, Write::Delete(_)) => {
                with(planned, Action::Unchanged, reason::ABSENT, "it is gone already".to_owned())
            }
            Verdict::Refused { code, message, .. } => {
                let (action, remark) = refusal(*code, message, &write);
                planned.action = action;
                planned.reason = Some(remark);
                planned
            }
        }
    }
}
