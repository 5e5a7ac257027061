//! Permissions of the requester and of the account that writes. A restore never exceeds either.
//!
//! One access review is sent per kind and verb that the terms of a restore can lead to. Whether the
//! requester may read a kind is reviewed first, before any of its objects is read. This module also
//! determines what every reader of the reports may read.

use crate::{
    api::{item::GroupKind, restore_run::ExistingResourcePolicy, subject::Initiator},
    cluster::{access, discovery::Discovered, retry::retry},
    items::{decide::Verb, plan::Terms, readers, served::ServedKind},
    worker::failure::{Failure, api_failure},
};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::{authorization::v1::ResourceAttributes, rbac::v1::ClusterRole};
use kube::{Api, Client};
use serde_json::json;
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

/// The kinds that the requester may not read, each with a message. Reviewed before any of their
/// objects is read.
pub async fn hidden(
    client: &Client,
    namespace: &str,
    requested_by: &Initiator,
    kinds: &[ServedKind],
) -> Result<BTreeMap<GroupKind, String>, Failure> {
    let answers = stream::iter(kinds).map(|kind| async move {
        let allowed = allowed(client, namespace, requested_by, kind, Verb::Get).await?;
        Ok::<_, Failure>((!allowed).then(|| (kind.group_kind(), why_not(requested_by, Verb::Get, kind, namespace))))
    });
    let answers: Vec<_> = answers.buffered(AT_ONCE).try_collect().await?;
    Ok(answers.into_iter().flatten().collect())
}

fn why_not(user: &Initiator, verb: Verb, kind: &ServedKind, namespace: &str) -> String {
    format!(
        "have a role given that allows it, or exclude the kind with excludeItems: {} may not {} {} in {namespace}",
        user.username,
        verb.as_str(),
        kind.plural
    )
}

/// The kinds and verbs that are denied, each with a message that names the denied user.
pub async fn refused(
    client: &Client,
    namespace: &str,
    requested_by: &Initiator,
    account: &str,
    kinds: &[ServedKind],
    verbs: &[Verb],
) -> Result<BTreeMap<(GroupKind, Verb), String>, Failure> {
    let account_user = access::service_account(namespace, account);
    let questions = kinds.iter().flat_map(|kind| verbs.iter().map(move |verb| (kind, *verb)));
    let asked = questions.flat_map(|(kind, verb)| [(kind, verb, requested_by), (kind, verb, &account_user)]);
    let answers = stream::iter(asked).map(|(kind, verb, user)| async move {
        let allowed = allowed(client, namespace, user, kind, verb).await?;
        Ok::<_, Failure>((!allowed).then(|| ((kind.group_kind(), verb), why_not(user, verb, kind, namespace))))
    });
    let answers: Vec<_> = answers.buffered(AT_ONCE).try_collect().await?;
    let mut refused = BTreeMap::new();
    for (question, why) in answers.into_iter().flatten() {
        // The requester comes first. Reporting the same for the account adds nothing.
        refused.entry(question).or_insert(why);
    }
    Ok(refused)
}

/// Kinds whose values may be shown in reports. None if the role cannot be read.
pub async fn readers(client: &Client, discovered: &Discovered) -> Result<readers::Readers, Failure> {
    let roles: Api<ClusterRole> = Api::all(client.clone());
    match retry(|| roles.get_opt(readers::ROLE)).await {
        Ok(role) => {
            let rules = json!(role.and_then(|role| role.rules));
            Ok(readers::Readers::with_rules(&rules, discovered.kinds.iter().chain(&discovered.others)))
        }
        Err(kube::Error::Api(status)) if status.code == 403 => Ok(readers::Readers::default()),
        Err(error) => Err(api_failure("read what the ClusterRole view holds", &error)),
    }
}

async fn allowed(
    client: &Client,
    namespace: &str,
    user: &Initiator,
    kind: &ServedKind,
    verb: Verb,
) -> Result<bool, Failure> {
    let attributes = ResourceAttributes {
        group: Some(kind.group.clone()),
        version: Some(kind.version.clone()),
        resource: Some(kind.plural.clone()),
        verb: Some(verb.as_str().to_owned()),
        ..ResourceAttributes::default()
    };
    retry(|| access::may(client, namespace, user, attributes.clone()))
        .await
        .map_err(|error| api_failure("ask what this restore may do", &error))
}
