//! What somebody may do in a namespace, asked of the API server's authorizers.
//!
//! Reviews are the namespaced kind: a RoleBinding gives the right to ask about one namespace, and about no other.

use crate::api::subject::Initiator;
use k8s_openapi::api::authorization::v1::{LocalSubjectAccessReview, ResourceAttributes, SubjectAccessReviewSpec};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};

/// A ServiceAccount as the API server knows it when it asks for something.
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

/// Whether a user may do something in a namespace; that of the attributes is filled in.
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
