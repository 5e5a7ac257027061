//! What the API server says was asked of it: the only counter of requests that is nobody's own claim.

use crate::Result;
use jiff::Timestamp;
use serde::Deserialize;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};

/// One answered request.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    stage: String,
    pub verb: String,
    user: User,
    #[serde(default)]
    pub object_ref: ObjectReference,
    #[serde(default)]
    pub response_status: Status,
    /// When it came.
    #[serde(rename = "requestReceivedTimestamp")]
    pub arrived: Timestamp,
    /// When its answer was complete.
    #[serde(rename = "stageTimestamp")]
    pub answered: Timestamp,
}

#[derive(Debug, Deserialize)]
struct User {
    username: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct ObjectReference {
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Status {
    pub code: u16,
}

impl Request {
    /// Whether it could change something and was let through.
    pub fn wrote(&self) -> bool {
        matches!(self.verb.as_str(), "create" | "update" | "patch" | "delete" | "deletecollection")
            && self.response_status.code < 300
    }

    /// Whether it only read, a watch excepted.
    pub fn read(&self) -> bool {
        matches!(self.verb.as_str(), "get" | "list")
    }

    /// Resource and subresource, as RBAC writes them.
    pub fn what(&self) -> String {
        let ObjectReference { resource, subresource, .. } = &self.object_ref;
        if subresource.is_empty() { resource.clone() } else { format!("{resource}/{subresource}") }
    }

    /// Milliseconds from its arrival to its answer.
    pub fn took(&self) -> f64 {
        (self.answered - self.arrived).total(jiff::Unit::Millisecond).unwrap_or_default()
    }
}

/// Answered requests of a user, about a namespace if one is given; oldest first.
pub fn requests_of(user: &str, log: &Path, namespace: Option<&str>) -> Result<Vec<Request>> {
    let mut requests = requests(log, &[user, namespace.unwrap_or_default()])?;
    requests.retain(|request| request.user.username == user);
    Ok(requests)
}

/// Answered requests in whose line all of these words stand, oldest first.
pub fn requests(log: &Path, words: &[&str]) -> Result<Vec<Request>> {
    let mut requests = Vec::new();
    for file in files(log)? {
        let mut lines = BufReader::new(File::open(&file)?);
        let mut line = String::new();
        // A last line without its end is still being written.
        while lines.read_line(&mut line)? > 0 && line.ends_with('\n') {
            // Parsing is what takes long: most lines are others'.
            if words.iter().all(|word| line.contains(word)) {
                let request: Request = serde_json::from_str(&line)?;
                if request.stage == "ResponseComplete" {
                    requests.push(request);
                }
            }
            line.clear();
        }
    }
    requests.sort_by_key(|request| request.answered);
    Ok(requests)
}

/// The log and what was rotated away from it.
fn files(log: &Path) -> Result<Vec<PathBuf>> {
    let stem = log.file_stem().and_then(|stem| stem.to_str()).ok_or("the audit log's path has no file name")?;
    let folder = log.parent().ok_or("the audit log lies in no folder")?;
    let entries = std::fs::read_dir(folder)
        .map_err(|error| format!("the audit log {} cannot be read: {error}", folder.display()))?;
    let all = entries.flatten().map(|entry| entry.path());
    Ok(all.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(stem))).collect())
}
