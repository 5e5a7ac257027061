//! Opens a repository, from the spec of a `BackupRepository` and the mounted Secrets.

use crate::{
    api::reason::worker as reason,
    api::{
        backup_repository::{BackupRepositorySpec, Storage},
        result::ResultContext,
    },
    repository::{Credentials, Error, Location, OwnerMarker, Ownership, RepositoryKey, RusticRepository, Timeouts},
    worker::{
        environment::{Environment, Mounts},
        failure::Failure,
        password, sets,
    },
};
use kube::{Client, ResourceExt};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

/// File with a master key, next to the password. It is used if a tenant's Secret contains one.
const MASTER_KEY: &str = "master-key";

/// Data keys of a Secret that are credentials, for each kind of store.
const S3_KEYS: &[&str] = &["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];
const GCS_KEYS: &[&str] = &["service-account.json"];
const AZURE_KEYS: &[&str] = &["AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_SAS_TOKEN"];

/// How many backup sets a message names.
const NAMED_SETS: usize = 3;

/// Opens the repository. An empty store fails and is never initialized: a store that was emptied,
/// or a volume that was replaced, would pass for a new repository, and its backup sets for intact.
pub async fn open(environment: &Environment, mounts: &Mounts) -> Result<RusticRepository, Failure> {
    let place = Place::of(environment, mounts)?;
    Ok(place.open().await?)
}

/// Opens the repository for a check, which creates it if the store is empty and no backup set
/// refers to it.
///
/// The sets are listed after the store was seen empty. Every operation that creates a set opens the
/// repository first, and fails if there is none.
///
/// The password Secret is created before the repository. If a worker dies in between, the next one
/// finds the Secret. In the other order, nobody could open the repository.
pub async fn open_or_create(
    client: &Client,
    environment: &Environment,
    mounts: &Mounts,
) -> Result<RusticRepository, Failure> {
    let secret = &environment.repository_spec.password_secret;
    let generated = (secret.generate && !has_key(&mounts.password, &secret.key)).then(RepositoryKey::generate_password);
    let place = match &generated {
        Some(password) => Place::with(environment, mounts, RepositoryKey::Password(password.clone()))?,
        None => Place::of(environment, mounts)?,
    };
    let vanished = match place.open().await {
        Err(error @ Error::RepositoryVanished { .. }) => error,
        Err(Error::WrongPassword { location, .. }) if generated.is_some() => {
            return Err(password::lost(secret, &location));
        }
        opened => return Ok(opened?),
    };
    let sets = sets::list(client, environment).await?;
    let names: Vec<_> = sets::of_repository(&sets, &environment.repository).map(ResourceExt::name_any).collect();
    if names.is_empty() {
        if let Some(password) = &generated {
            password::create_secret(client, environment, password).await?;
        }
        tracing::info!(location = %place.location, "creating the repository");
        return Ok(place.open_or_init().await?);
    }
    let named = names.iter().take(NAMED_SETS).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = if names.len() > NAMED_SETS { ", …" } else { "" };
    let failure = Failure::from(vanished);
    let message = format!("{} backup sets name this repository ({named}{more}), and {}", names.len(), failure.message);
    // None of the sets can be restored.
    let made = ResultContext { damaged_truncated: true, ..ResultContext::default() };
    Err(Failure { message, made: Box::new(made), ..failure })
}

/// Secrets that open a repository, each with the data keys used for that.
#[must_use]
pub fn key_secrets(spec: &BackupRepositorySpec) -> BTreeMap<String, BTreeSet<String>> {
    let mut secrets: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let password = &spec.password_secret;
    secrets.entry(password.name.clone()).or_default().extend([password.key.clone(), MASTER_KEY.to_owned()]);
    let credentials = match &spec.storage {
        Storage { s3: Some(_), .. } => S3_KEYS,
        Storage { gcs: Some(_), .. } => GCS_KEYS,
        Storage { azure: Some(_), .. } => AZURE_KEYS,
        Storage { .. } => &[],
    };
    if let Some(secret) = spec.credentials_secret.as_ref().filter(|_| !credentials.is_empty()) {
        secrets.entry(secret.name.clone()).or_default().extend(credentials.iter().map(|key| (*key).to_owned()));
    }
    secrets
}

/// Location, key and owner of a repository.
struct Place {
    location: Location,
    key: RepositoryKey,
    ownership: Ownership,
}

impl Place {
    fn of(environment: &Environment, mounts: &Mounts) -> Result<Self, Failure> {
        let secret = &environment.repository_spec.password_secret;
        Self::with(environment, mounts, key(&mounts.password, &secret.key, &secret.name)?)
    }

    fn with(environment: &Environment, mounts: &Mounts, key: RepositoryKey) -> Result<Self, Failure> {
        let spec = &environment.repository_spec;
        let location = location(spec, mounts)?;
        let ownership = Ownership {
            owner: OwnerMarker {
                cluster_uid: environment.cluster_uid.clone(),
                namespace_uid: environment.namespace_uid.clone(),
                created_by: concat!("tenantatlas ", env!("CARGO_PKG_VERSION")).to_owned(),
            },
            adopt: spec.adopt.as_ref().map(|adopt| adopt.namespace_uids.clone()).unwrap_or_default(),
        };
        Ok(Self { location, key, ownership })
    }

    async fn open(&self) -> Result<RusticRepository, Error> {
        tracing::info!(location = %self.location, "opening the repository");
        RusticRepository::open(&self.location, &Timeouts::default(), &self.key, &self.ownership).await
    }

    async fn open_or_init(&self) -> Result<RusticRepository, Error> {
        RusticRepository::open_or_init(&self.location, &Timeouts::default(), &self.key, &self.ownership).await
    }
}

fn location(spec: &BackupRepositorySpec, mounts: &Mounts) -> Result<Location, Failure> {
    let credentials = || match spec.credentials_secret {
        Some(_) => Credentials::Directory(mounts.credentials.clone()),
        None => Credentials::Ambient,
    };
    match &spec.storage {
        Storage { s3: Some(s3), gcs: None, azure: None, persistent_volume_claim: None } => Ok(Location::S3 {
            bucket: s3.bucket.clone(),
            prefix: s3.prefix.clone(),
            endpoint: s3.endpoint.clone(),
            region: Some(s3.region.clone()),
            path_style: s3.path_style.unwrap_or(s3.endpoint.is_some()),
            ca_bundle_pem: s3.ca_bundle.clone(),
            role_arn: s3.role_arn.clone(),
            credentials: credentials(),
        }),
        Storage { s3: None, gcs: Some(gcs), azure: None, persistent_volume_claim: None } => Ok(Location::Gcs {
            bucket: gcs.bucket.clone(),
            prefix: gcs.prefix.clone(),
            endpoint: None,
            ca_bundle_pem: None,
            credentials: credentials(),
        }),
        Storage { s3: None, gcs: None, azure: Some(azure), persistent_volume_claim: None } => Ok(Location::Azure {
            account: azure.account.clone(),
            container: azure.container.clone(),
            prefix: azure.prefix.clone(),
            endpoint: None,
            ca_bundle_pem: None,
            client_id: azure.client_id.clone(),
            directory_id: azure.directory_id.clone(),
            credentials: credentials(),
        }),
        Storage { s3: None, gcs: None, azure: None, persistent_volume_claim: Some(_) } => {
            Ok(Location::FileSystem { path: mounts.volume.clone() })
        }
        _ => Err(Failure::permanent(
            reason::INVALID_ENVIRONMENT,
            "the repository's storage must be exactly one of s3, gcs, azure and persistentVolumeClaim",
        )),
    }
}

/// Whether the mounted Secret has a master key or a password.
fn has_key(directory: &Path, key: &str) -> bool {
    directory.join(MASTER_KEY).exists() || directory.join(key).exists()
}

/// The master key if there is one, or else the password.
fn key(directory: &Path, key: &str, secret: &str) -> Result<RepositoryKey, Failure> {
    let master_key = directory.join(MASTER_KEY);
    let file = if master_key.exists() { master_key } else { directory.join(key) };
    let value = std::fs::read(&file).map_err(|error| {
        Failure::permanent(
            "InvalidKey",
            format!("the Secret {secret} has no key {key} that can be read ({}): correct spec.passwordSecret of the BackupRepository", error.kind()),
        )
    })?;
    Ok(RepositoryKey::from_secret(&value)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn located(storage: &Value, credentials: bool) -> Result<Location, Failure> {
        let mut spec = json!({"storage": storage, "passwordSecret": {"name": "p"}});
        if credentials {
            spec["credentialsSecret"] = json!({"name": "c"});
        }
        location(&serde_json::from_value(spec).expect("a spec"), &Mounts::below(Path::new("/")))
    }

    #[test]
    fn every_field_of_an_s3_storage_counts() {
        let storage = json!({"s3": {"bucket": "b-1", "prefix": "p", "endpoint": "https://h", "region": "r", "pathStyle": false, "caBundle": "pem", "roleArn": "arn"}});
        assert_eq!(
            located(&storage, true).expect("a location"),
            Location::S3 {
                bucket: "b-1".into(),
                prefix: "p".into(),
                endpoint: Some("https://h".into()),
                region: Some("r".into()),
                path_style: false,
                ca_bundle_pem: Some("pem".into()),
                role_arn: Some("arn".into()),
                credentials: Credentials::Directory("/etc/tenantatlas/credentials".into()),
            }
        );
    }

    #[test]
    fn a_compatible_store_is_addressed_by_path_unless_told_otherwise_and_amazon_s_is_not() {
        let path_style = |storage| match located(&storage, false) {
            Ok(Location::S3 { path_style, credentials: Credentials::Ambient, .. }) => path_style,
            other => panic!("{other:?}"),
        };
        assert!(path_style(json!({"s3": {"bucket": "b-1", "endpoint": "https://h"}})));
        assert!(!path_style(json!({"s3": {"bucket": "b-1"}})));
    }

    #[test]
    fn the_other_storages_are_found_where_they_say() {
        assert_eq!(
            located(&json!({"persistentVolumeClaim": {"claimName": "x"}}), false).expect("a location"),
            Location::FileSystem { path: "/var/lib/tenantatlas/repository".into() }
        );
        let gcs = located(&json!({"gcs": {"bucket": "b-1", "prefix": "p"}}), true).expect("a location");
        assert!(
            matches!(gcs, Location::Gcs { bucket, prefix, credentials: Credentials::Directory(_), .. } if bucket == "b-1" && prefix == "p")
        );
        let azure = located(&json!({"azure": {"account": "a1", "container": "c-1", "prefix": "p", "clientId": "1", "directoryId": "2"}}), false).expect("a location");
        assert!(
            matches!(azure, Location::Azure { account, container, prefix, client_id: Some(client), directory_id: Some(directory), credentials: Credentials::Ambient, .. } if [account.as_str(), &container, &prefix, &client, &directory] == ["a1", "c-1", "p", "1", "2"])
        );
        assert!(located(&json!({}), false).is_err());
    }

    #[test]
    fn only_secrets_that_open_the_repository_are_its_keys() {
        let of = |spec: Value| key_secrets(&serde_json::from_value(spec).expect("a spec"));
        let volume = json!({"persistentVolumeClaim": {"claimName": "x"}});
        let password = json!({"name": "p", "key": "word"});
        let secrets = of(json!({"storage": volume, "passwordSecret": password, "credentialsSecret": {"name": "app"}}));
        assert_eq!(secrets.keys().collect::<Vec<_>>(), ["p"], "a volume takes no credentials");
        assert_eq!(secrets["p"].iter().collect::<Vec<_>>(), ["master-key", "word"]);
        for (storage, key) in [
            (json!({"s3": {"bucket": "b-1"}}), "AWS_SECRET_ACCESS_KEY"),
            (json!({"gcs": {"bucket": "b-1"}}), "service-account.json"),
            (json!({"azure": {"account": "a1", "container": "c-1"}}), "AZURE_STORAGE_SAS_TOKEN"),
        ] {
            let both = json!({"storage": storage, "passwordSecret": password, "credentialsSecret": {"name": "p"}});
            let keys = &of(both)["p"];
            assert!(keys.contains(key) && keys.contains("word"), "{keys:?}");
        }
    }

    #[test]
    fn a_master_key_is_preferred_and_a_missing_key_is_named() {
        let directory = tempfile::tempdir().expect("a directory");
        let missing = key(directory.path(), "password", "backup-password").expect_err("nothing there");
        assert_eq!(missing.exit_code(), 40);
        assert!(missing.message.contains("backup-password has no key password"), "{}", missing.message);
        std::fs::write(directory.path().join("password"), "a password\n").expect("written");
        assert!(
            matches!(key(directory.path(), "password", "s"), Ok(RepositoryKey::Password(password)) if password == "a password")
        );
        let master_key = RepositoryKey::generate_master_key().expect("a key");
        std::fs::write(directory.path().join(MASTER_KEY), master_key).expect("written");
        assert!(matches!(key(directory.path(), "password", "s"), Ok(RepositoryKey::MasterKey(_))));
    }
}
