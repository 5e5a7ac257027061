//! Where a repository is stored, and how to reach it: from a description to an object store.
//!
//! Credentials come from a directory of files (a mounted Secret), or else from the workload
//! identity that the cluster's webhooks put into the environment. Apart from that and `AWS_REGION`,
//! nothing is read from the environment, so a stray variable cannot redirect a tenant's data.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, S3ConditionalPut};
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::local::LocalFileSystem;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};

use super::error::{Error, Result};
use super::http::Connector;
use super::store::Store;

/// Where a repository is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A directory of a mounted volume.
    FileSystem {
        /// An existing directory.
        path: PathBuf,
    },
    /// Amazon S3 or a compatible store; it must support conditional writes (`If-None-Match: *`).
    S3 {
        /// The bucket, which must exist.
        bucket: String,
        /// The repository's directory in the bucket; may be empty.
        prefix: String,
        /// `https://host[:port]`, or `http://` if the store does not use TLS; `None` for Amazon's
        /// own endpoint.
        endpoint: Option<String>,
        /// The region; `None` for `AWS_REGION`, or `us-east-1` if that is not set.
        region: Option<String>,
        /// Whether to use `https://host/bucket` instead of `https://bucket.host`.
        path_style: bool,
        /// PEM certificates to trust in addition to the system's.
        ca_bundle_pem: Option<String>,
        /// The role to assume with the worker's token, instead of `AWS_ROLE_ARN`.
        role_arn: Option<String>,
        /// Where the credentials come from.
        credentials: Credentials,
    },
    /// Google Cloud Storage.
    Gcs {
        /// The bucket, which must exist.
        bucket: String,
        /// The repository's directory in the bucket; may be empty.
        prefix: String,
        /// An endpoint other than Google's.
        endpoint: Option<String>,
        /// PEM certificates to trust in addition to the system's.
        ca_bundle_pem: Option<String>,
        /// Where the credentials come from.
        credentials: Credentials,
    },
    /// Azure Blob Storage.
    Azure {
        /// The storage account.
        account: String,
        /// The container, which must exist.
        container: String,
        /// The repository's directory in the container; may be empty.
        prefix: String,
        /// An endpoint other than that of Azure's public cloud.
        endpoint: Option<String>,
        /// PEM certificates to trust in addition to the system's.
        ca_bundle_pem: Option<String>,
        /// The client id of the workload identity, instead of `AZURE_CLIENT_ID`.
        client_id: Option<String>,
        /// The directory (tenant) id of the workload identity, instead of `AZURE_TENANT_ID`.
        directory_id: Option<String>,
        /// Where the credentials come from.
        credentials: Credentials,
    },
}

/// Where a store's credentials come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credentials {
    /// A mounted Secret. S3: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and, for temporary
    /// credentials, `AWS_SESSION_TOKEN`. GCS: `service-account.json`. Azure:
    /// `AZURE_STORAGE_ACCOUNT_KEY` or `AZURE_STORAGE_SAS_TOKEN`.
    Directory(PathBuf),
    /// The worker's workload identity: IRSA or EKS Pod Identity, GKE Workload Identity, Entra
    /// Workload ID.
    Ambient,
}

/// Time limits for a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeouts {
    /// Limit for establishing a connection.
    pub connect: Duration,
    /// Limit for one attempt of one request, including its body.
    pub request: Duration,
    /// Number of retries of a failed attempt.
    pub retries: usize,
    /// Limit for one request with all its attempts. After that, the store counts as unreachable.
    pub total: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            request: Duration::from_mins(1),
            retries: 5,
            total: Duration::from_secs(150),
        }
    }
}

/// Looks up an environment variable by its name.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

const AWS_IDENTITY: [&str; 7] = [
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_ENDPOINT_URL_STS",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
];
const AZURE_IDENTITY: [&str; 4] =
    ["AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_FEDERATED_TOKEN_FILE", "AZURE_AUTHORITY_HOST"];

impl Location {
    /// Builds a client for the store. Makes no request; reads the credentials and the CA bundle.
    pub fn connect(&self, timeouts: &Timeouts) -> Result<Store> {
        self.connect_in(timeouts, &|name| std::env::var(name).ok())
    }

    /// Same as [`Self::connect`], with another environment than that of the process.
    pub fn connect_in(&self, timeouts: &Timeouts, environment: Environment<'_>) -> Result<Store> {
        let (inner, prefix): (Arc<dyn ObjectStore>, &str) = match self {
            Self::FileSystem { path } => (Arc::new(self.file_system(path)?), ""),
            Self::S3 { prefix, .. } => (Arc::new(self.s3(timeouts, environment)?), prefix),
            Self::Gcs { prefix, .. } => (Arc::new(self.gcs(timeouts)?), prefix),
            Self::Azure { prefix, .. } => (Arc::new(self.azure(timeouts, environment)?), prefix),
        };
        Ok(Store::new(inner, prefix, &self.to_string(), timeouts.total))
    }

    fn file_system(&self, path: &Path) -> Result<LocalFileSystem> {
        if !path.is_dir() {
            return Err(Error::LocationNotFound { location: self.to_string() });
        }
        // A snapshot is reported only once it is on disk.
        LocalFileSystem::new_with_prefix(path)
            .map(|store| store.with_fsync(true))
            .map_err(|error| Error::from_store(&self.to_string(), "open", &error))
    }

    fn s3(&self, timeouts: &Timeouts, environment: Environment<'_>) -> Result<object_store::aws::AmazonS3> {
        let Self::S3 { bucket, endpoint, region, path_style, ca_bundle_pem, role_arn, credentials, .. } = self else {
            return Err(self.invalid("not S3"));
        };
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(bucket)
            .with_virtual_hosted_style_request(!path_style)
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            .with_client_options(ClientOptions::new().with_allow_http(is_plain(endpoint.as_deref())))
            .with_http_connector(self.connector(timeouts, ca_bundle_pem.as_deref())?)
            .with_retry(retry(timeouts));
        if let Some(region) = region.clone().or_else(|| environment("AWS_REGION")) {
            builder = builder.with_region(region);
        }
        if let Some(endpoint) = endpoint {
            builder = builder.with_endpoint(self.s3_endpoint(endpoint, bucket, *path_style)?);
        }
        match credentials {
            Credentials::Directory(directory) => {
                builder = builder
                    .with_access_key_id(self.required(directory, "AWS_ACCESS_KEY_ID")?)
                    .with_secret_access_key(self.required(directory, "AWS_SECRET_ACCESS_KEY")?);
                if let Some(token) = self.optional(directory, "AWS_SESSION_TOKEN")? {
                    builder = builder.with_token(token);
                }
            }
            Credentials::Ambient => {
                if role_arn.is_some() && environment("AWS_WEB_IDENTITY_TOKEN_FILE").is_none() {
                    return Err(self.no_identity("AWS_WEB_IDENTITY_TOKEN_FILE"));
                }
                for name in AWS_IDENTITY {
                    let given = role_arn.clone().filter(|_| name == "AWS_ROLE_ARN");
                    if let Some(value) = given.or_else(|| environment(name)) {
                        builder = builder.with_config(self.option(name)?, value);
                    }
                }
            }
        }
        builder.build().map_err(|error| self.unusable(&error))
    }

    /// In virtual-hosted style, the client expects the bucket as part of the endpoint's host.
    fn s3_endpoint(&self, endpoint: &str, bucket: &str, path_style: bool) -> Result<String> {
        let (scheme, host) = endpoint
            .split_once("://")
            .filter(|(scheme, host)| matches!(*scheme, "https" | "http") && !host.is_empty() && !host.contains('@'))
            .ok_or_else(|| self.invalid("an endpoint is https://host[:port], or http:// without TLS"))?;
        let host = host.trim_end_matches('/');
        Ok(if path_style { format!("{scheme}://{host}") } else { format!("{scheme}://{bucket}.{host}") })
    }

    fn gcs(&self, timeouts: &Timeouts) -> Result<object_store::gcp::GoogleCloudStorage> {
        let Self::Gcs { bucket, endpoint, ca_bundle_pem, credentials, .. } = self else {
            return Err(self.invalid("not GCS"));
        };
        let mut builder = GoogleCloudStorageBuilder::new()
            .with_bucket_name(bucket)
            .with_client_options(ClientOptions::new().with_allow_http(is_plain(endpoint.as_deref())))
            .with_http_connector(self.connector(timeouts, ca_bundle_pem.as_deref())?)
            .with_retry(retry(timeouts));
        if let Some(endpoint) = endpoint {
            builder = builder.with_base_url(endpoint);
        }
        if let Credentials::Directory(directory) = credentials {
            builder = builder.with_service_account_key(self.required(directory, "service-account.json")?);
        }
        builder.build().map_err(|error| self.unusable(&error))
    }

    fn azure(&self, timeouts: &Timeouts, environment: Environment<'_>) -> Result<object_store::azure::MicrosoftAzure> {
        let Self::Azure { account, container, endpoint, ca_bundle_pem, client_id, directory_id, credentials, .. } =
            self
        else {
            return Err(self.invalid("not Azure"));
        };
        let mut builder = MicrosoftAzureBuilder::new()
            .with_account(account)
            .with_container_name(container)
            .with_client_options(ClientOptions::new().with_allow_http(is_plain(endpoint.as_deref())))
            .with_http_connector(self.connector(timeouts, ca_bundle_pem.as_deref())?)
            .with_retry(retry(timeouts));
        if let Some(endpoint) = endpoint {
            builder = builder.with_endpoint(endpoint.clone());
        }
        match credentials {
            Credentials::Directory(directory) => {
                let key = self.optional(directory, "AZURE_STORAGE_ACCOUNT_KEY")?;
                let token = self.optional(directory, "AZURE_STORAGE_SAS_TOKEN")?;
                builder = match (key, token) {
                    (Some(key), _) => builder.with_access_key(key),
                    (None, Some(token)) => {
                        builder.with_config(object_store::azure::AzureConfigKey::SasKey, token.trim_start_matches('?'))
                    }
                    (None, None) => {
                        return Err(self.no_credentials("AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN"));
                    }
                };
            }
            Credentials::Ambient => {
                if client_id.is_some() && environment("AZURE_FEDERATED_TOKEN_FILE").is_none() {
                    return Err(self.no_identity("AZURE_FEDERATED_TOKEN_FILE"));
                }
                for name in AZURE_IDENTITY {
                    let given = match name {
                        "AZURE_CLIENT_ID" => client_id.clone(),
                        "AZURE_TENANT_ID" => directory_id.clone(),
                        _ => None,
                    };
                    if let Some(value) = given.or_else(|| environment(name)) {
                        builder = builder.with_config(self.option(name)?, value);
                    }
                }
            }
        }
        builder.build().map_err(|error| self.unusable(&error))
    }

    fn connector(&self, timeouts: &Timeouts, ca_bundle: Option<&str>) -> Result<Connector> {
        let mut certificates = Vec::new();
        if let Some(pem) = ca_bundle {
            certificates = reqwest::Certificate::from_pem_bundle(pem.as_bytes()).unwrap_or_default();
            if certificates.is_empty() {
                return Err(self.invalid("the CA bundle holds no PEM certificate"));
            }
        }
        Ok(Connector::new(timeouts, certificates))
    }

    fn required(&self, directory: &Path, key: &str) -> Result<String> {
        self.optional(directory, key)?.ok_or_else(|| self.no_credentials(key))
    }

    /// Reads a key of the mounted Secret, without the line end that editors and `echo` add and
    /// other surrounding white space.
    fn optional(&self, directory: &Path, key: &str) -> Result<Option<String>> {
        match std::fs::read_to_string(directory.join(key)) {
            Ok(value) => Ok(Some(value.trim().to_owned()).filter(|value| !value.is_empty())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::CredentialsMissing {
                location: self.to_string(),
                problem: format!("the Secret's key {key} cannot be read: {}", error.kind()),
            }),
        }
    }

    fn no_credentials(&self, key: &str) -> Error {
        Error::CredentialsMissing {
            location: self.to_string(),
            problem: format!("the credentials Secret has no key {key}, or it is empty"),
        }
    }

    fn no_identity(&self, variable: &str) -> Error {
        Error::CredentialsMissing {
            location: self.to_string(),
            problem: format!("a workload identity is named, but the worker has none: {variable} is not set"),
        }
    }

    /// Parses a client option from the name of its environment variable.
    fn option<K: FromStr<Err = object_store::Error>>(&self, variable: &str) -> Result<K> {
        variable.to_ascii_lowercase().parse().map_err(|error| self.unusable(&error))
    }

    fn invalid(&self, problem: &str) -> Error {
        Error::InvalidLocation { location: self.to_string(), problem: problem.to_owned() }
    }

    /// Error for what a client's builder rejects: malformed credentials or a malformed description.
    /// The builder's text is dropped, because it may quote them.
    fn unusable(&self, _: &object_store::Error) -> Error {
        self.invalid("the endpoint, the bucket's name or the form of the credentials is wrong")
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, place, prefix, endpoint) = match self {
            Self::FileSystem { path } => return write!(f, "{}", path.display()),
            Self::S3 { bucket, prefix, endpoint, .. } => ("s3", bucket.clone(), prefix, endpoint),
            Self::Gcs { bucket, prefix, endpoint, .. } => ("gs", bucket.clone(), prefix, endpoint),
            Self::Azure { account, container, prefix, endpoint, .. } => {
                ("azure", format!("{account}/{container}"), prefix, endpoint)
            }
        };
        write!(f, "{scheme}://{place}")?;
        if !prefix.is_empty() {
            write!(f, "/{prefix}")?;
        }
        if let Some(endpoint) = endpoint {
            // Anything that a user typed before an `@` or after a `?` may be a secret.
            let host = endpoint.rsplit_once('@').map_or(endpoint.as_str(), |(_, host)| host);
            write!(f, " at {}", host.split('?').next().unwrap_or_default())?;
        }
        Ok(())
    }
}

/// Whether an endpoint does not use TLS.
fn is_plain(endpoint: Option<&str>) -> bool {
    endpoint.is_some_and(|endpoint| endpoint.starts_with("http://"))
}

fn retry(timeouts: &Timeouts) -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(10),
            base: 2.,
        },
        max_retries: timeouts.retries,
        retry_timeout: timeouts.total,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bucket_goes_into_the_path_or_into_the_host() {
        let location = Location::FileSystem { path: PathBuf::new() };
        let endpoint = |endpoint: &str, path_style| location.s3_endpoint(endpoint, "backups", path_style).unwrap();
        assert_eq!(endpoint("https://s3.example.com:9000/", true), "https://s3.example.com:9000");
        assert_eq!(endpoint("https://s3.example.com:9000/", false), "https://backups.s3.example.com:9000");
        assert_eq!(endpoint("http://10.0.0.1", true), "http://10.0.0.1");
    }
}
