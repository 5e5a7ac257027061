//! What the API server itself says was asked of it: the only counter of requests that is nobody's own claim.

use super::cluster::environment;
use super::tenant::Tenant;
use serde_json::Value;
use std::path::PathBuf;

/// One answered request.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) user: String,
    pub(crate) verb: String,
    pub(crate) resource: String,
    pub(crate) subresource: String,
    pub(crate) name: String,
    pub(crate) code: i64,
}

impl Request {
    /// Whether it could change something and was let through.
    pub(crate) fn wrote(&self) -> bool {
        matches!(self.verb.as_str(), "create" | "update" | "patch" | "delete" | "deletecollection") && self.code < 300
    }

    /// Whether the operator's own account asked.
    pub(crate) fn by_operator(&self) -> bool {
        self.user.starts_with(&format!("system:serviceaccount:{}:", environment("ATLAS_OPERATOR_NAMESPACE")))
    }
}

impl Tenant {
    /// Requests about objects in the tenant, oldest first. The log is written as each answer is sent.
    pub(crate) fn audit(&self) -> Vec<Request> {
        events_with(&self.name).iter().filter_map(|event| request(event, &self.name)).collect()
    }

    /// Requests by the accounts of the tenant's own pods: the namespace they were about, where there is one, and the URL.
    pub(crate) fn audit_of_accounts(&self) -> Vec<(Option<String>, String)> {
        let account = format!("system:serviceaccount:{}:", self.name);
        let mine = |event: &Value| event["user"]["username"].as_str().is_some_and(|user| user.starts_with(&account));
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let asked =
            |event: &Value| (text(&event["objectRef"]["namespace"]), text(&event["requestURI"]).unwrap_or_default());
        events_with(&account).iter().filter(|event| mine(event)).map(asked).collect()
    }
}

/// Events of the audit log whose lines hold a text, oldest first.
fn events_with(text: &str) -> Vec<Value> {
    let log = PathBuf::from(environment("ATLAS_AUDIT_LOG"));
    let stem = log.file_stem().and_then(|stem| stem.to_str()).expect("a file name").to_owned();
    let folder = log.parent().expect("a folder");
    // Rotated files carry the time in their names, so that they sort before the one that is written.
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("ATLAS_AUDIT_LOG: {} cannot be read: {error}", folder.display()))
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&stem)))
        .collect();
    files.sort();
    let mut events = Vec::new();
    for file in files {
        let lines = std::fs::read(&file).unwrap_or_default();
        // Parsing is what takes long: most lines are others'.
        let lines = String::from_utf8_lossy(&lines);
        events.extend(
            lines.lines().filter(|line| line.contains(text)).filter_map(|line| serde_json::from_str(line).ok()),
        );
    }
    events
}

fn request(event: &Value, namespace: &str) -> Option<Request> {
    let object = &event["objectRef"];
    if event["stage"] != "ResponseComplete" || object["namespace"] != namespace {
        return None;
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Some(Request {
        user: text(&event["user"]["username"]),
        verb: text(&event["verb"]),
        resource: text(&object["resource"]),
        subresource: text(&object["subresource"]),
        name: text(&object["name"]),
        code: event["responseStatus"]["code"].as_i64().unwrap_or_default(),
    })
}
