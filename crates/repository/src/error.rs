//! Faults of a repository, in classes that a user can act on.
//!
//! Messages name the place, what was found there and what to do. They are built from classified
//! parts only (a status code, a store's error code, an operating system error kind, the first line
//! of an engine error without its cause). The text of a store's answer is never quoted: it may
//! contain URLs with signatures, key names or whole responses.

use std::error::Error as StdError;

use object_store::client::{HttpError, HttpErrorKind};

use super::http::TooMuch;

/// The result of an operation on a repository.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Whether a retry without any change may help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RetryClass {
    /// A retry fails again until something changes.
    Permanent,
    /// The fault may pass by itself.
    Transient,
}

/// Codes of faults in the stored content. All other codes concern the access to it, or the request.
pub const CODES_OF_THE_CONTENT: [&str; 5] =
    ["Damaged", "TooLarge", "RepositoryVanished", "SnapshotNotFound", "ItemNotFound"];

/// Codes of faults of the store: of its content, or of the access to it. All other codes concern a
/// single attempt.
pub const CODES_OF_THE_STORE: [&str; 18] = [
    "WrongPassword",
    "InvalidKey",
    "StoreUnreachable",
    "UntrustedCertificate",
    "AccessDenied",
    "CredentialsMissing",
    "BucketNotFound",
    "LocationNotFound",
    "InvalidLocation",
    "NotARepository",
    "RepositoryVanished",
    "OwnedByAnother",
    "Damaged",
    "TooLarge",
    "StoreFull",
    "StoreFailed",
    "SnapshotNotFound",
    "ItemNotFound",
];

/// Why an operation on a repository failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No key file in the repository opens with the given password, or the given master key belongs
    /// to another repository.
    #[error(
        "the {credential} does not open the repository at {location}: put the {credential} it was created with into \
         the Secret, or name an empty location"
    )]
    WrongPassword {
        /// Location of the repository, without secrets.
        location: String,
        /// `password` or `master key`.
        credential: &'static str,
    },
    /// The key itself is malformed: an empty password, or a master key that is not restic's JSON.
    #[error("the repository's key is unusable: {problem}")]
    InvalidKey {
        /// What is wrong with the key.
        problem: String,
    },
    /// The store did not answer in time, refused the connection or answered with a server error.
    #[error(
        "the store at {location} cannot be reached: {cause}: check the endpoint, the network policy and the store's health"
    )]
    StoreUnreachable {
        /// Location of the repository, without secrets.
        location: String,
        /// What was observed last.
        cause: String,
    },
    /// The store's certificate is signed by an authority that is not trusted here.
    #[error("the certificate of {location} is not trusted: {cause}: add its authority to the repository's CA bundle")]
    UntrustedCertificate {
        /// Location of the repository, without secrets.
        location: String,
        /// What was observed.
        cause: String,
    },
    /// The store does not know the credentials, or they allow too little.
    #[error(
        "access to {location} was denied: {cause}: check the credentials and that they may list, read, write and delete there"
    )]
    AccessDenied {
        /// Location of the repository, without secrets.
        location: String,
        /// What was observed.
        cause: String,
    },
    /// There are no credentials to try.
    #[error("no credentials for {location}: {problem}")]
    CredentialsMissing {
        /// Location of the repository, without secrets.
        location: String,
        /// What was looked for, and where.
        problem: String,
    },
    /// The bucket or container does not exist.
    #[error("{location} does not exist: create the bucket first, or correct its name, region or endpoint")]
    BucketNotFound {
        /// Location of the repository, without secrets.
        location: String,
    },
    /// The directory does not exist.
    #[error("{location} does not exist or is not a directory: check that the volume is mounted there")]
    LocationNotFound {
        /// Location of the repository, without secrets.
        location: String,
    },
    /// The description of the location is invalid.
    #[error("the location {location} is not valid: {problem}")]
    InvalidLocation {
        /// Location of the repository, without secrets.
        location: String,
        /// What is wrong, and what would be valid.
        problem: String,
    },
    /// The location holds something other than a repository.
    #[error("{location} holds something that is not a repository ({found}): name an empty location or another prefix")]
    NotARepository {
        /// Location of the repository, without secrets.
        location: String,
        /// What was found there.
        found: String,
    },
    /// The location is empty, and the caller may not create a repository: the store was emptied, or
    /// it is another store than before.
    #[error(
        "{location} is empty, and it is not made anew, for that would look as if all were well: bring back what was there, or correct the \
         location; to begin anew, delete the backup sets that name it, then run repository.check, which creates it"
    )]
    RepositoryVanished {
        /// Location of the repository, without secrets.
        location: String,
    },
    /// The owner marker names another tenant or another cluster.
    #[error(
        "the repository at {location} belongs to namespace uid {namespace_uid} of cluster uid {cluster_uid}: use a prefix \
         of its own for each tenant, or adopt it by listing that namespace uid"
    )]
    OwnedByAnother {
        /// Location of the repository, without secrets.
        location: String,
        /// The cluster that the marker names.
        cluster_uid: String,
        /// The namespace that the marker names.
        namespace_uid: String,
    },
    /// Content is missing, or is not what was written.
    #[error(
        "the repository at {location} is damaged: {what}: run a check with all data, and restore the store's objects"
    )]
    Damaged {
        /// Location of the repository, without secrets.
        location: String,
        /// What is missing or wrong.
        what: String,
    },
    /// The repository holds more than any capture writes, and more than a worker reads.
    #[error(
        "remove what no capture wrote, or name another location: in the repository at {location} {what}, which is more than is read"
    )]
    TooLarge {
        /// Location of the repository, without secrets.
        location: String,
        /// What is too large, and the limit.
        what: String,
    },
    /// The store has no space or no quota left.
    #[error("the store at {location} is full: {cause}: enlarge it, raise its quota or lower the retention")]
    StoreFull {
        /// Location of the repository, without secrets.
        location: String,
        /// What was observed.
        cause: String,
    },
    /// Any other fault of the store.
    #[error("the store at {location} failed: {cause}")]
    StoreFailed {
        /// Location of the repository, without secrets.
        location: String,
        /// What was observed.
        cause: String,
    },
    /// Entries were offered out of the tree's order, or one path was offered twice.
    #[error(
        "`{later}` was offered after `{earlier}`, which is out of order: kinds must come sorted by path, each once"
    )]
    OutOfOrder {
        /// The path that was offered first.
        earlier: String,
        /// The path that was offered later, out of order.
        later: String,
    },
    /// A path segment cannot be stored.
    #[error("`{segment}` cannot be part of a path in a repository: {problem}")]
    UnsafePath {
        /// The segment, escaped for display.
        segment: String,
        /// What is wrong with the segment.
        problem: &'static str,
    },
    /// The offering side was dropped before it signalled that everything was offered.
    #[error("the capture was interrupted after {offered} items: no snapshot was recorded")]
    Interrupted {
        /// How many items had been offered.
        offered: u64,
    },
    /// The write permit was lost, so maintenance may be running; or the maintenance permit was
    /// lost, so a writer may be running.
    #[error(
        "the permit to write to {location} was lost, and nothing was written from then on: the next attempt goes on"
    )]
    PermitLost {
        /// Location of the repository, without secrets.
        location: String,
    },
    /// The snapshot does not exist.
    #[error("there is no snapshot {snapshot} in {location}: it may have expired")]
    SnapshotNotFound {
        /// Location of the repository, without secrets.
        location: String,
        /// The requested id.
        snapshot: String,
    },
    /// The snapshot does not contain the item.
    #[error("snapshot {snapshot} holds no `{path}`")]
    ItemNotFound {
        /// The snapshot's id.
        snapshot: String,
        /// The requested path.
        path: String,
    },
    /// A fault of this program or of the engine.
    #[error("internal fault while {doing}: {cause}")]
    Internal {
        /// What was being done.
        doing: &'static str,
        /// What was observed.
        cause: String,
    },
}

impl Error {
    /// The stable `CamelCase` code for conditions, events and counters.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::WrongPassword { .. } => "WrongPassword",
            Self::InvalidKey { .. } => "InvalidKey",
            Self::StoreUnreachable { .. } => "StoreUnreachable",
            Self::UntrustedCertificate { .. } => "UntrustedCertificate",
            Self::AccessDenied { .. } => "AccessDenied",
            Self::CredentialsMissing { .. } => "CredentialsMissing",
            Self::BucketNotFound { .. } => "BucketNotFound",
            Self::LocationNotFound { .. } => "LocationNotFound",
            Self::InvalidLocation { .. } => "InvalidLocation",
            Self::NotARepository { .. } => "NotARepository",
            Self::RepositoryVanished { .. } => "RepositoryVanished",
            Self::OwnedByAnother { .. } => "OwnedByAnother",
            Self::Damaged { .. } => "Damaged",
            Self::TooLarge { .. } => "TooLarge",
            Self::StoreFull { .. } => "StoreFull",
            Self::StoreFailed { .. } => "StoreFailed",
            Self::OutOfOrder { .. } => "OutOfOrder",
            Self::UnsafePath { .. } => "UnsafePath",
            Self::Interrupted { .. } => "Interrupted",
            Self::PermitLost { .. } => "PermitLost",
            Self::SnapshotNotFound { .. } => "SnapshotNotFound",
            Self::ItemNotFound { .. } => "ItemNotFound",
            Self::Internal { .. } => "Internal",
        }
    }

    /// Whether the fault is in the stored content: another attempt finds the same until the store
    /// changes.
    #[must_use]
    pub fn is_of_the_content(&self) -> bool {
        CODES_OF_THE_CONTENT.contains(&self.reason())
    }

    /// Whether the same attempt may succeed later without any change.
    #[must_use]
    pub fn retry_class(&self) -> RetryClass {
        match self {
            Self::StoreUnreachable { .. }
            | Self::StoreFailed { .. }
            | Self::Interrupted { .. }
            | Self::PermitLost { .. }
            | Self::Internal { .. } => RetryClass::Transient,
            Self::WrongPassword { .. }
            | Self::InvalidKey { .. }
            | Self::UntrustedCertificate { .. }
            | Self::AccessDenied { .. }
            | Self::CredentialsMissing { .. }
            | Self::BucketNotFound { .. }
            | Self::LocationNotFound { .. }
            | Self::InvalidLocation { .. }
            | Self::NotARepository { .. }
            | Self::RepositoryVanished { .. }
            | Self::OwnedByAnother { .. }
            | Self::Damaged { .. }
            | Self::TooLarge { .. }
            | Self::StoreFull { .. }
            | Self::OutOfOrder { .. }
            | Self::UnsafePath { .. }
            | Self::SnapshotNotFound { .. }
            | Self::ItemNotFound { .. } => RetryClass::Permanent,
        }
    }

    /// Classifies a failed request to a store. `doing` names the request (`list`, `read config` …).
    pub(super) fn from_store(location: &str, doing: &str, error: &object_store::Error) -> Self {
        let location = location.to_owned();
        if let Some(fault) = io_fault(error) {
            return match fault {
                std::io::ErrorKind::StorageFull
                | std::io::ErrorKind::QuotaExceeded
                | std::io::ErrorKind::FileTooLarge => Self::StoreFull { location, cause: format!("{doing}: {fault}") },
                std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
                    Self::AccessDenied { location, cause: format!("{doing}: {fault}") }
                }
                std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => Self::LocationNotFound { location },
                _ => Self::StoreFailed { location, cause: format!("{doing}: {fault}") },
            };
        }
        if let Some(too_much) = sources(error).find_map(|source| source.downcast_ref::<TooMuch>()) {
            return Self::TooLarge { location, what: too_much.to_string() };
        }
        let text = error.to_string();
        let answer = Answer::from_text(&text);
        let cause = answer.describe(doing);
        if matches!(answer.code.as_deref(), Some("NoSuchBucket" | "ContainerNotFound")) {
            return Self::BucketNotFound { location };
        }
        if answer.status == Some(507)
            || answer.code.as_deref().is_some_and(|code| {
                code.contains("StorageFull") || code.contains("QuotaExceeded") || code.contains("InsufficientStorage")
            })
        {
            return Self::StoreFull { location, cause };
        }
        // The cloud's metadata service is asked for credentials only if nothing else is configured.
        if text.contains("169.254.169.254") || text.contains("metadata.google.internal") {
            return Self::CredentialsMissing {
                location,
                problem: "name a Secret with credentials, or give the worker's ServiceAccount a workload identity"
                    .to_owned(),
            };
        }
        if let Some(kind) = http_fault(error) {
            if sources(error).any(|source| source.to_string().contains("certificate")) {
                return Self::UntrustedCertificate { location, cause: "the TLS handshake failed".to_owned() };
            }
            return Self::StoreUnreachable { location, cause: format!("{doing}: {}", describe_http(kind)) };
        }
        match answer.status {
            Some(401 | 403) => Self::AccessDenied { location, cause },
            Some(404) => Self::BucketNotFound { location },
            Some(429 | 500..=599) => Self::StoreUnreachable { location, cause },
            Some(400) => Self::InvalidLocation {
                location,
                problem: format!("{cause}: check the region, the endpoint and the path style"),
            },
            Some(300..=399) => Self::redirected(location, &cause),
            _ if text.contains("LOCATION") => Self::redirected(location, &cause),
            _ => Self::StoreFailed { location, cause },
        }
    }
}

impl Error {
    /// Error that only a fault of this program explains.
    pub(crate) fn internal(doing: &'static str, cause: String) -> Self {
        Self::Internal { doing, cause }
    }

    fn redirected(location: String, cause: &str) -> Self {
        let problem = format!(
            "{cause}: the store redirects elsewhere, which is not followed: correct the endpoint and the region"
        );
        Self::InvalidLocation { location, problem }
    }
}

/// The parts of a store's answer that may be shown.
struct Answer {
    status: Option<u16>,
    code: Option<String>,
}

impl Answer {
    /// Parses status and code from the text of a client error, because the client's error types are
    /// private.
    fn from_text(text: &str) -> Self {
        let status =
            text.split_once("status code: ").and_then(|(_, rest)| rest.get(..3)).and_then(|digits| digits.parse().ok());
        let code = text
            .split_once("<Code>")
            .and_then(|(_, rest)| rest.split_once("</Code>"))
            .map(|(code, _)| code)
            .filter(|code| code.len() <= 64 && code.chars().all(|c| c.is_ascii_alphanumeric()))
            .map(str::to_owned);
        Self { status, code }
    }

    fn describe(&self, doing: &str) -> String {
        match (self.status, &self.code) {
            (Some(status), Some(code)) => format!("{doing}: HTTP {status} {code}"),
            (Some(status), None) => format!("{doing}: HTTP {status}"),
            (None, Some(code)) => format!("{doing}: {code}"),
            (None, None) => doing.to_owned(),
        }
    }
}

fn sources<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn StdError + 'static)| (*error).source())
}

/// The operating system error below a file system's error. Network stores have such errors too (a
/// refused connection), but always below an HTTP error.
fn io_fault(error: &object_store::Error) -> Option<std::io::ErrorKind> {
    if http_fault(error).is_some() {
        return None;
    }
    let local = matches!(error, object_store::Error::Generic { store: "LocalFileSystem", .. });
    sources(error)
        .filter_map(|source| source.downcast_ref::<std::io::Error>())
        .map(std::io::Error::kind)
        .find(|kind| local || *kind != std::io::ErrorKind::NotFound)
}

fn http_fault(error: &object_store::Error) -> Option<HttpErrorKind> {
    sources(error).filter_map(|source| source.downcast_ref::<HttpError>()).map(HttpError::kind).next()
}

fn describe_http(kind: HttpErrorKind) -> &'static str {
    match kind {
        HttpErrorKind::Connect => "no connection",
        HttpErrorKind::Timeout => "no answer in time",
        HttpErrorKind::Interrupted | HttpErrorKind::Request => "the connection broke",
        HttpErrorKind::Decode => "an answer that cannot be read",
        _ => "the request failed",
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_guide_says_of_every_code_what_to_do() {
        let (source, guide) = (include_str!("error.rs"), include_str!("../../../docs/guides/operations.md"));
        let codes = source
            .lines()
            .filter_map(|line| line.trim().strip_prefix("Self::")?.split_once("{ .. } => \"")?.1.strip_suffix("\","));
        let codes: Vec<_> = codes.collect();
        for code in &codes {
            assert!(guide.contains(&format!("`{code}`")), "the guide does not say what to do about {code}");
        }
        assert!(codes.len() > 20, "only {codes:?} were found");
        assert!(super::CODES_OF_THE_STORE.iter().all(|code| codes.contains(code)), "not a code of this file");
        assert!(super::CODES_OF_THE_CONTENT.iter().all(|code| super::CODES_OF_THE_STORE.contains(code)));
    }
}
