//! What the API server itself says was asked of it, and carried out: every write, with the bodies that its audit policy
//! records.

use crate::Result;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};

/// One write that was carried out.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    stage: String,
    #[serde(rename = "requestURI")]
    uri: String,
    pub verb: String,
    pub user: User,
    #[serde(default)]
    pub object_ref: Reference,
    #[serde(default)]
    response_status: Status,
    #[serde(default, rename = "requestObject")]
    pub body: Value,
    #[serde(default, rename = "responseObject")]
    pub answer: Value,
    /// When its answer was complete.
    #[serde(rename = "stageTimestamp")]
    pub at: Timestamp,
}

#[derive(Clone, Debug, Deserialize)]
pub struct User {
    pub username: String,
    #[serde(default)]
    pub extra: Value,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Reference {
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
    pub api_group: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Status {
    code: u16,
}

impl Request {
    /// Whether it is of this kind: verb, resource and subresource.
    pub fn is(&self, verb: &str, resource: &str, subresource: &str) -> bool {
        (self.verb.as_str(), self.object_ref.resource.as_str(), self.object_ref.subresource.as_str())
            == (verb, resource, subresource)
    }

    /// Namespace and name of its object.
    pub fn object(&self) -> (String, String) {
        (self.object_ref.namespace.clone(), self.object_ref.name.clone())
    }

    /// The pod whose token it came with.
    pub fn pod(&self) -> Option<&str> {
        self.user.extra["authentication.kubernetes.io/pod-name"][0].as_str()
    }

    fn is_dry_run(&self) -> bool {
        self.uri.contains("dryRun=") || !self.body["dryRun"].is_null()
    }

    fn was_carried_out(&self) -> bool {
        self.stage == "ResponseComplete" && (200..300).contains(&self.response_status.code) && !self.is_dry_run()
    }
}

/// What the log tells.
pub struct Told {
    /// Oldest first.
    pub writes: Vec<Request>,
    /// The time of the oldest line.
    pub since: Option<Timestamp>,
}

/// All writes that were carried out, of the log and what was rotated away from it.
pub fn read(log: &Path) -> Result<Told> {
    let mut told = Told { writes: Vec::new(), since: None };
    for file in files(log)? {
        let mut lines = BufReader::new(File::open(&file)?);
        let mut line = String::new();
        // A last line without its end is still being written.
        while lines.read_line(&mut line)? > 0 && line.ends_with('\n') {
            if told.since.is_none() {
                told.since =
                    serde_json::from_str::<Value>(&line)?["stageTimestamp"].as_str().and_then(|at| at.parse().ok());
            }
            // Parsing is what takes long: most lines are of reads.
            let writes = ["create", "update", "patch", "delete"];
            if writes.iter().any(|verb| line.contains(&format!("\"verb\":\"{verb}\""))) {
                // A line that the API server was killed in is none.
                if let Some(request) = serde_json::from_str::<Request>(&line).ok().filter(Request::was_carried_out) {
                    told.writes.push(request);
                }
            }
            line.clear();
        }
    }
    told.writes.sort_by_key(|request| request.at);
    Ok(told)
}

/// The log and what was rotated away from it, the oldest first: rotated files carry the time in their names.
pub fn files(log: &Path) -> Result<Vec<PathBuf>> {
    let stem = log.file_stem().and_then(|stem| stem.to_str()).ok_or("the audit log's path has no file name")?;
    let folder = log.parent().ok_or("the audit log lies in no folder")?;
    let all = std::fs::read_dir(folder)?.flatten().map(|entry| entry.path());
    let of_log = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(stem));
    let mut files: Vec<PathBuf> = all.filter(of_log).collect();
    files.sort();
    Ok(files)
}
