//! One proposed write of one item: what it is decided from, the API server's verdict on its dry
//! run, and what the verdict means for the item.
//!
//! Must not decide whether a write is proposed; that is [`super::decide`].

use crate::{
    api::item::ItemId,
    api::reason::item as reason,
    compare::{Difference, Side, compare},
    diff::{self, Diff},
    owners::{owners, pending, remove_pending},
    plan::{Action, PlannedItem, Remark},
    refusal::refusal,
    sanitize::sanitized,
    semantic::{DigestKey, Status, semantic},
};
use serde_json::Value;

/// A write that is to be tried.
#[derive(Clone, Debug, PartialEq)]
pub struct Proposal {
    pub(super) planned: PlannedItem,
    pub(super) write: Write,
    pub(super) live: Option<Value>,
    /// For a recreation: the update in its place, which shows whether anything differs.
    pub(super) in_place: Option<Value>,
    /// For an object that is deleted: the object as a later restore would create it.
    pub(super) again: Option<Value>,
    pub(super) status: Status,
    pub(super) may_lose: bool,
    /// Whether every reader of reports may read the object.
    pub(super) shown: bool,
    /// Field managers that used server-side apply.
    pub(super) managers: Vec<Value>,
}

/// A write of one item.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// Create this object.
    Create(Value),
    /// Replace the live object by this one, which carries the live uid and resourceVersion.
    Update(Value),
    /// Delete the object with this uid and resourceVersion, then create this one.
    Recreate(Precondition, Value),
    /// Delete the object with this uid and resourceVersion.
    Delete(Precondition),
}

/// Precondition of a deletion: the object must still have these values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Precondition {
    /// The object's uid.
    pub uid: String,
    /// The object's resourceVersion.
    pub resource_version: String,
}

impl Precondition {
    pub(super) fn of(live: &Value) -> Self {
        let field = |name: &str| live["metadata"][name].as_str().unwrap_or_default().to_owned();
        Self { uid: field("uid"), resource_version: field("resourceVersion") }
    }
}

/// The API server's answer to a dry run.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// The write would succeed. For an update, with the object as it would then be.
    Accepted(Option<Value>),
    /// The write would be refused.
    Refused {
        /// HTTP status.
        code: u16,
        /// The status's reason, such as `Invalid`.
        reason: String,
        /// The server's message, without secrets.
        message: String,
    },
    /// No dry run was made, and why.
    NotAsked(String),
    /// A recreation would change nothing.
    AsItIs,
    /// A deletion would succeed, but the API server would not accept the object again.
    Final {
        /// HTTP status.
        code: u16,
        /// The server's message, without secrets.
        message: String,
    },
}

impl Proposal {
    /// An update that was decided from the live object alone. `body` carries the live uid and
    /// resourceVersion.
    pub(super) fn update(item: ItemId, api_version: String, live: Value, body: Value, shown: bool) -> Self {
        Self {
            planned: PlannedItem::new(item, api_version, Action::Update),
            write: Write::Update(body),
            live: Some(live),
            in_place: None,
            again: None,
            status: Status::Observed,
            may_lose: false,
            shown,
            managers: Vec::new(),
        }
    }

    /// The item.
    #[must_use]
    pub fn item(&self) -> &ItemId {
        &self.planned.item
    }

    /// The item's entry in the plan, if the API server accepts the write.
    #[must_use]
    pub fn planned(&self) -> &PlannedItem {
        &self.planned
    }

    /// The write to try.
    #[must_use]
    pub fn write(&self) -> &Write {
        &self.write
    }

    /// The item's entry in the plan, if the write is not to be made.
    #[must_use]
    pub fn refused(self, action: Action, reason: Remark) -> PlannedItem {
        PlannedItem { action, reason: Some(reason), ..self.planned }
    }

    /// The live object.
    #[must_use]
    pub fn live(&self) -> Option<&Value> {
        self.live.as_ref()
    }

    /// For a recreation: the update in its place, which shows whether anything differs.
    #[must_use]
    pub fn in_place(&self) -> Option<&Value> {
        self.in_place.as_ref()
    }

    /// For an object that is deleted: the object as a later restore would create it.
    #[must_use]
    pub fn again(&self) -> Option<&Value> {
        self.again.as_ref()
    }

    /// The entries of `managedFields` to write back.
    #[must_use]
    pub fn managers(&self) -> &[Value] {
        &self.managers
    }

    /// Whether an object that cannot be recreated may be deleted.
    #[must_use]
    pub fn may_lose(&self) -> bool {
        self.may_lose
    }

    /// Whether every reader of reports may read the object. If not, messages contain nothing of the
    /// object but names.
    #[must_use]
    pub fn is_shown(&self) -> bool {
        self.shown
    }

    /// Whether an update with this result leaves the live object unchanged.
    #[must_use]
    pub fn stays(&self, would_be: &Value) -> bool {
        let form = |object: &Value| semantic(object, self.status);
        let difference = compare::<Value, _, _>(self.live.as_ref().map(form).into(), Side::Object(form(would_be)));
        difference == Difference::Same
    }

    /// Whether the write needs an owner whose uid is not known yet.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        match &self.write {
            Write::Create(body) | Write::Update(body) | Write::Recreate(_, body) => !pending(body).is_empty(),
            Write::Delete(_) => false,
        }
    }

    /// The same write without owners that do not exist yet. The object then exists before its
    /// owners, so their controllers find it and create no other.
    #[must_use]
    pub fn before_owners(mut self) -> Self {
        match &mut self.write {
            Write::Create(body) | Write::Update(body) | Write::Recreate(_, body) => remove_pending(body),
            Write::Delete(_) => {}
        }
        self.in_place = None;
        self
    }

    /// The owners of the object, which must be written before it.
    #[must_use]
    pub fn owners(&self) -> Vec<ItemId> {
        match &self.write {
            Write::Create(body) | Write::Update(body) | Write::Recreate(_, body) => owners(body),
            Write::Delete(_) => self.live.as_ref().map(owners).unwrap_or_default(),
        }
    }

    /// What the write would change, in at most about `limit` bytes. A creation or a deletion has
    /// nothing to compare.
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
                // The fields that the server owns would stay as they are.
                compare(&sanitized(live, self.status), &sanitized(wanted, self.status))
            }
            _ => Diff::default(),
        }
    }

    /// The item's entry in the plan, given the API server's verdict.
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
            // The object is left as it is, whatever the verdict.
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
