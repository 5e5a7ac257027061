//! What a user may do in a namespace, according to the API server's authorizers.
//!
//! Reviews are namespaced: a RoleBinding grants the right to create them in one namespace, and in
//! no other.

use crate::api::subject::Initiator;
use k8s_openapi::api::authorization::v1::{LocalSubjectAccessReview, ResourceAttributes, SubjectAccessReviewSpec};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};

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
