//! What the requester, and the account that writes, may do with the kind: one access review for each
//! of them and each verb, before anything is read. A bulk operation never exceeds either.

#![deny(clippy::disallowed_types)]

use crate::{
    api::{execution::RESTORE_ACCOUNT, subject::Initiator},
    items::{decide::Verb, served::ServedKind},
    providers::Provider,
    worker::failure::Failure,
};

/// What to do if a right is missing.
pub const REMEDY: &str = "have a role given that allows it";

/// What is denied, each with a message that names the denied user. The requester comes first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Denied {
    /// Why objects of the kind may not be read, or not be found.
    pub read: Option<String>,
    /// Why they may not be written.
    pub update: Option<String>,
}

impl Denied {
    /// Why nothing may be done, if so.
    #[must_use]
    pub fn any(&self) -> Option<&str> {
        self.read.as_deref().or(self.update.as_deref())
    }
}

/// Asks what is denied. `finds` is whether the objects are found by their labels.
pub async fn denied(
    provider: &dyn Provider,
    requested_by: &Initiator,
    kind: &ServedKind,
    finds: bool,
) -> Result<Denied, Failure> {
    let users = [requested_by, &provider.account(RESTORE_ACCOUNT)];
    let read = hidden(provider, users, kind, finds).await?;
    Ok(Denied { read, update: may_not(provider, users, Verb::Update, kind).await? })
}

/// Why one of these users may not read the objects of a kind, if so. Who has their names needs `get`.
/// Who finds them by their labels needs `list`, too: names, and which labels they have, are told to
/// nobody else.
pub async fn hidden(
    provider: &dyn Provider,
    users: [&Initiator; 2],
    kind: &ServedKind,
    finds: bool,
) -> Result<Option<String>, Failure> {
    match may_not(provider, users, Verb::Get, kind).await? {
        None if finds => may_not(provider, users, Verb::List, kind).await,
        why => Ok(why),
    }
}

/// Why one of these users may not do something with the objects of a kind, if so.
pub async fn may_not(
    provider: &dyn Provider,
    users: [&Initiator; 2],
    verb: Verb,
    kind: &ServedKind,
) -> Result<Option<String>, Failure> {
    for user in users {
        if !provider.may(user, verb, kind).await? {
            let (verb, place) = (verb.as_str(), provider.place());
            return Ok(Some(format!("{REMEDY}: {} may not {verb} {} in {place}", user.username, kind.plural)));
        }
    }
    Ok(None)
}
