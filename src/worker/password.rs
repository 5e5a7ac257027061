//! The Secret with the password of a new repository, for a `BackupRepository` with
//! `passwordSecret.generate`.
//!
//! Must not: read a Secret, replace one, or delete one.

use crate::{
    api::{backup_repository::PasswordSecret, labels},
    cluster::retry::retry,
    worker::{
        environment::Environment,
        failure::{Failure, api_failure},
    },
};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use std::collections::BTreeMap;

/// Creates the Secret. It has no owner: whoever deletes the `BackupRepository` keeps the store, and
/// so the password must stay. It is not immutable: a kubelet would give pods its earlier content
/// after it was replaced, for as long as a finished pod of an operation is kept.
pub async fn create_secret(client: &Client, environment: &Environment, password: &str) -> Result<(), Failure> {
    let PasswordSecret { name, key, .. } = &environment.repository_spec.password_secret;
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            labels: Some(BTreeMap::from([(labels::MANAGED_BY.to_owned(), labels::MANAGER.to_owned())])),
            ..ObjectMeta::default()
        },
        string_data: Some(BTreeMap::from([(key.clone(), password.to_owned())])),
        ..Secret::default()
    };
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &environment.identity.namespace);
    let parameters = PostParams::default();
    match retry(|| secrets.create(&parameters, &secret)).await {
        Ok(_) => {
            tracing::info!(secret = %name, "created the Secret with a new password");
            Ok(())
        }
        // Created meanwhile, perhaps by an attempt of ours whose answer was lost: the next pod has
        // it mounted.
        Err(kube::Error::Api(status)) if status.is_already_exists() => Err(Failure::transient(
            "InvalidKey",
            format!(
                "the Secret {name} exists and had no key {key} when this pod started: it is tried again; if the key is still missing then, add it, or name another Secret in spec.passwordSecret of the BackupRepository"
            ),
        )),
        Err(error) => Err(api_failure(&format!("create the Secret {name} with a new password"), &error)),
    }
}

/// The store holds a repository, and the Secret with its password is gone.
#[must_use]
pub fn lost(PasswordSecret { name, key, .. }: &PasswordSecret, location: &str) -> Failure {
    Failure::permanent(
        "WrongPassword",
        format!(
            "there is a repository at {location}, so that no new password is generated, and the Secret {name} has no key {key}: create the Secret with the password of that repository (a recovery key opens the copy below tenantatlas/recovery/ in the store, if there is one), or name an empty location; if another namespace made the repository, it takes spec.adopt, too"
        ),
    )
}
