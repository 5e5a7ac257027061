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
    /// Why objects of the kind may not be read.
    pub get: Option<String>,
    /// Why they may not be written.
    pub update: Option<String>,
}

impl Denied {
    /// Why nothing may be done, if so.
    #[must_use]
    pub fn any(&self) -> Option<&str> {
        self.get.as_deref().or(self.update.as_deref())
    }
}

/// Asks what is denied.
pub async fn denied(provider: &dyn Provider, requested_by: &Initiator, kind: &ServedKind) -> Result<Denied, Failure> {
    let account = provider.account(RESTORE_ACCOUNT);
    let mut denied = Denied::default();
    for (verb, why) in [(Verb::Get, &mut denied.get), (Verb::Update, &mut denied.update)] {
        for user in [requested_by, &account] {
            if why.is_none() && !provider.may(user, verb, kind).await? {
                *why = Some(format!(
                    "{REMEDY}: {} may not {} {} in {}",
                    user.username,
                    verb.as_str(),
                    kind.plural,
                    provider.place()
                ));
            }
        }
    }
    Ok(denied)
}
