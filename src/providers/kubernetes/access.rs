//! What a user may do in a namespace, according to the API server's authorizers.
//!
//! Reviews are namespaced: a RoleBinding grants the right to create them in one namespace, and in
//! no other.

use crate::{
    api::subject::Initiator,
    cluster::retry::retry,
    items::{decide::Verb, readers, served::ServedKind},
    providers::{catalog::Catalog, fault::CallFailed},
};
use k8s_openapi::api::{
    authorization::v1::{LocalSubjectAccessReview, ResourceAttributes, SubjectAccessReviewSpec},
    rbac::v1::ClusterRole,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use serde_json::json;

/// A ServiceAccount as the API server identifies it in a request.
#[must_use]
pub fn service_account(namespace: &str, name: &str) -> Initiator {
    Initiator {
        username: format!("system:serviceaccount:{namespace}:{name}"),
        uid: None,
        groups: vec![
            "system:serviceaccounts".to_owned(),
            format!("system:serviceaccounts:{namespace}"),
            "system:authenticated".to_owned(),
        ],
    }
}

/// Whether a user may do something in a namespace. The namespace of the attributes is filled in.
pub async fn may(
    client: &Client,
    namespace: &str,
    user: &Initiator,
    attributes: ResourceAttributes,
) -> Result<bool, kube::Error> {
    let review = LocalSubjectAccessReview {
        metadata: ObjectMeta { namespace: Some(namespace.to_owned()), ..ObjectMeta::default() },
        spec: SubjectAccessReviewSpec {
            user: Some(user.username.clone()),
            uid: user.uid.clone(),
            groups: Some(user.groups.clone()),
            resource_attributes: Some(ResourceAttributes { namespace: Some(namespace.to_owned()), ..attributes }),
            ..SubjectAccessReviewSpec::default()
        },
        ..LocalSubjectAccessReview::default()
    };
    let reviews: Api<LocalSubjectAccessReview> = Api::namespaced(client.clone(), namespace);
    let answer = reviews.create(&PostParams::default(), &review).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

/// A verb on all objects of a kind, as a review asks for it.
pub(super) fn attributes(verb: Verb, kind: &ServedKind) -> ResourceAttributes {
    ResourceAttributes {
        group: Some(kind.group.clone()),
        version: Some(kind.version.clone()),
        resource: Some(kind.plural.clone()),
        verb: Some(verb.as_str().to_owned()),
        ..ResourceAttributes::default()
    }
}

/// Kinds whose values may be shown in reports. None if the role cannot be read.
pub(super) async fn readers(client: &Client, catalog: &Catalog) -> Result<readers::Readers, CallFailed> {
    let roles: Api<ClusterRole> = Api::all(client.clone());
    match retry(|| roles.get_opt(readers::ROLE)).await {
        Ok(role) => {
            let rules = json!(role.and_then(|role| role.rules));
            Ok(readers::Readers::with_rules(&rules, catalog.kinds.iter().chain(&catalog.others)))
        }
        Err(kube::Error::Api(status)) if status.code == 403 => Ok(readers::Readers::default()),
        Err(error) => Err(CallFailed::new("read what the ClusterRole view holds", error)),
    }
}
