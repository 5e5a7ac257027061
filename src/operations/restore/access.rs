//! Permissions of the requester and of the account that writes. A restore never exceeds either.
//!
//! One access review is sent per kind and verb that the terms of a restore can lead to. Whether the
//! requester may read a kind is reviewed first, before any of its objects is read.

#![deny(clippy::disallowed_types)]

use crate::{
    api::{item::GroupKind, restore_run::ExistingResourcePolicy, subject::Initiator},
    items::{decide::Verb, plan::Terms, served::ServedKind},
    providers::Provider,
    worker::failure::Failure,
};
use futures::{StreamExt, TryStreamExt, stream};
use std::collections::BTreeMap;

/// Reviews sent concurrently.
const AT_ONCE: usize = 8;

/// Verbs that a restore may need.
#[must_use]
pub fn verbs(terms: &Terms) -> Vec<Verb> {
    let mut verbs = vec![Verb::Create];
    match terms.existing_resource_policy {
        ExistingResourcePolicy::None => {}
        ExistingResourcePolicy::Update => verbs.push(Verb::Update),
        ExistingResourcePolicy::Recreate => verbs.push(Verb::Delete),
    }
    if terms.prune && !verbs.contains(&Verb::Delete) {
        verbs.push(Verb::Delete);
    }
    verbs
}

/// The kinds that the requester may not read, each with a message that begins with the remedy. Reviewed before any of their
/// objects is read.
pub async fn hidden(
    provider: &dyn Provider,
    remedy: &str,
    requested_by: &Initiator,
    kinds: &[ServedKind],
) -> Result<BTreeMap<GroupKind, String>, Failure> {
    let answers = stream::iter(kinds).map(|kind| async move {
        let allowed = provider.may(requested_by, Verb::Get, kind).await?;
        Ok::<_, Failure>(
            (!allowed).then(|| (kind.group_kind(), why_not(remedy, requested_by, Verb::Get, kind, provider.place()))),
        )
    });
    let answers: Vec<_> = answers.buffered(AT_ONCE).try_collect().await?;
    Ok(answers.into_iter().flatten().collect())
}

fn why_not(remedy: &str, user: &Initiator, verb: Verb, kind: &ServedKind, namespace: &str) -> String {
    format!("{remedy}: {} may not {} {} in {namespace}", user.username, verb.as_str(), kind.plural)
}

/// The kinds and verbs that are denied, each with a message that begins with the remedy and names the
/// denied user.
pub async fn refused(
    provider: &dyn Provider,
    remedy: &str,
    requested_by: &Initiator,
    account: &str,
    kinds: &[ServedKind],
    verbs: &[Verb],
) -> Result<BTreeMap<(GroupKind, Verb), String>, Failure> {
    let account_user = provider.account(account);
    let questions = kinds.iter().flat_map(|kind| verbs.iter().map(move |verb| (kind, *verb)));
    let asked = questions.flat_map(|(kind, verb)| [(kind, verb, requested_by), (kind, verb, &account_user)]);
    let answers = stream::iter(asked).map(|(kind, verb, user)| async move {
        let allowed = provider.may(user, verb, kind).await?;
        Ok::<_, Failure>(
            (!allowed).then(|| ((kind.group_kind(), verb), why_not(remedy, user, verb, kind, provider.place()))),
        )
    });
    let answers: Vec<_> = answers.buffered(AT_ONCE).try_collect().await?;
    let mut refused = BTreeMap::new();
    for (question, why) in answers.into_iter().flatten() {
        // The requester comes first. Reporting the same for the account adds nothing.
        refused.entry(question).or_insert(why);
    }
    Ok(refused)
}
