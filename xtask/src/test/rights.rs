//! Rights used = rights held: the roles of the operator, of workers and of restores against the API server's own record of the whole
//! test run. A rule that nothing used is too much; a refusal that nobody meant is a rule too few.

use super::bed::Bed;
use crate::cluster::Cluster;
use crate::operator;
use crate::shell::{self, say};
use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead as _, BufReader};

/// An account, by the end of its user name, and the chart's roles that give it its rights.
struct Account {
    name: &'static str,
    user: fn(&str) -> bool,
    roles: &'static [&'static str],
}

const ACCOUNTS: [Account; 3] = [
    Account {
        name: "the operator",
        user: |user| user == format!("system:serviceaccount:{}:tenantatlas-controller", operator::NAMESPACE),
        roles: &["clusterrole/tenantatlas-controller", "role/tenantatlas-controller", "clusterrole/tenantatlas-import"],
    },
    Account {
        name: "a worker",
        user: |user| user.starts_with("system:serviceaccount:") && user.ends_with(":tenantatlas-worker"),
        roles: &[
            "clusterrole/tenantatlas-account-run",
            "clusterrole/tenantatlas-account-audit-tip",
            "clusterrole/tenantatlas-worker-builtin",
            "clusterrole/tenantatlas-worker-findings",
            "clusterrole/tenantatlas-worker-records",
        ],
    },
    Account {
        name: "a preview or a restore",
        user: |user| {
            let ends = |account: &&str| user.ends_with(*account);
            user.starts_with("system:serviceaccount:")
                && [":tenantatlas-preview", ":tenantatlas-restore"].iter().any(ends)
        },
        // What they write is whatever stood in a backup set: no story has it all.
        roles: &["clusterrole/tenantatlas-restore-run", "clusterrole/tenantatlas-bound-roles-reader"],
    },
];

/// What the names of these accounts hold.
const NAMES: [&str; 4] = ["tenantatlas-controller", "tenantatlas-worker", "tenantatlas-preview", "tenantatlas-restore"];

/// Rights that no request shows, and why they are held all the same.
const NOT_IN_THE_RECORD: [(&str, &str); 1] =
    [("bind clusterroles.rbac.authorization.k8s.io", "asked for within the creation of a RoleBinding")];

/// What refusals that the stories make on purpose say.
const MEANT: [(&str, &str); 8] = [
    ("cannot get resource \"clusterroles\"", "a binding to a ClusterRole that the chart does not let restores read"),
    ("being terminated", "the tenant goes while something is written in it"),
    ("exceeded quota", "the story of a quota"),
    ("blockade", "a story that holds the operator at a write"),
    ("violates PodSecurity", "the story of Pod Security"),
    (".example.com\" in the namespace", "the story of a custom kind that a worker may not list"),
    ("attempting to grant RBAC permissions", "stories of Roles that give more than a restore has"),
    ("denied request", "stories about what a policy must deny"),
];

/// One right: `verb resource[.group][/subresource]`.
type Right = String;

/// What one account did.
#[derive(Default)]
struct Record {
    used: BTreeSet<Right>,
    refused: BTreeMap<Right, (usize, String)>,
}

/// Compares roles and record. To be run after the stories; alone it has nothing to say.
pub(super) fn check(bed: &Bed) -> Result<()> {
    let cluster = bed.running().context("no story ran on a cluster: run the steps e2e and rights together")?;
    let mut wrong = Vec::new();
    for account in &ACCOUNTS {
        let held = held(cluster, account)?;
        let record = record(cluster, account)?;
        let unused: Vec<&Right> = held
            .iter()
            .filter(|right| !record.used.contains(*right))
            .filter(|right| NOT_IN_THE_RECORD.iter().all(|(known, _)| right != known))
            .collect();
        let unmeant: Vec<_> =
            record.refused.iter().filter(|(_, (_, why))| MEANT.iter().all(|(words, _)| !why.contains(words))).collect();
        say(format!(
            "   {}: {} rights held, {} of them used; {} kinds of refusal, {} of them not meant",
            account.name,
            held.len(),
            held.len() - unused.len(),
            record.refused.len(),
            unmeant.len()
        ));
        wrong.extend(unused.iter().map(|right| format!("{} may {right}, and never did", account.name)));
        wrong.extend(
            unmeant
                .iter()
                .map(|(right, (count, why))| format!("{} was refused {right} {count} times: {why}", account.name)),
        );
    }
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n      "));
    }
    Ok(())
}

/// The rights of an account's roles, as they are on the cluster.
fn held(cluster: &Cluster, account: &Account) -> Result<BTreeSet<Right>> {
    let mut rights = BTreeSet::new();
    for role in account.roles {
        let read = ["get", role, "--namespace", operator::NAMESPACE, "--output", "json"];
        let role: Value = serde_json::from_str(&shell::output(cluster.kubectl()?.args(read))?)?;
        for rule in role["rules"].as_array().into_iter().flatten() {
            let words = |key: &str| rule[key].as_array().into_iter().flatten().filter_map(Value::as_str);
            for (group, resource) in
                words("apiGroups").flat_map(|group| words("resources").map(move |one| (group, one)))
            {
                rights.extend(words("verbs").map(|verb| right(verb, group, resource)));
            }
        }
    }
    Ok(rights)
}

fn right(verb: &str, group: &str, resource: &str) -> Right {
    let dot = if group.is_empty() { "" } else { "." };
    match resource.split_once('/') {
        Some((resource, subresource)) => format!("{verb} {resource}{dot}{group}/{subresource}"),
        None => format!("{verb} {resource}{dot}{group}"),
    }
}

/// What an account asked for, in its own name or in a test's that acts as it, and what its pods were refused.
fn record(cluster: &Cluster, account: &Account) -> Result<Record> {
    let mut record = Record::default();
    for file in cluster.audit_logs()? {
        let reader = BufReader::new(File::open(&file).with_context(|| format!("cannot read {}", file.display()))?);
        for line in reader.lines() {
            let line = line?;
            // Parsing is what takes long: most lines are others'.
            if NAMES.iter().all(|name| !line.contains(name)) {
                continue;
            }
            let Ok(event) = serde_json::from_str::<Value>(&line) else { continue };
            let acting = event["impersonatedUser"]["username"].as_str().or(event["user"]["username"].as_str());
            if acting.is_some_and(account.user) && event["stage"] == "ResponseComplete" {
                record.add(&event);
            }
        }
    }
    Ok(record)
}

impl Record {
    fn add(&mut self, event: &Value) {
        let object = &event["objectRef"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let Some(verb) = event["verb"].as_str().filter(|_| object["resource"].is_string()) else { return };
        let resource = match object["subresource"].as_str() {
            Some(subresource) => format!("{}/{subresource}", text(&object["resource"])),
            None => text(&object["resource"]),
        };
        let group = text(&object["apiGroup"]);
        let code = event["responseStatus"]["code"].as_i64().unwrap_or_default();
        if code == 201 && verb == "patch" {
            // An apply that makes an object needs both.
            self.used.insert(right("create", &group, &resource));
        }
        if code < 400 || code == 404 || code == 409 || code == 422 {
            self.used.insert(right(verb, &group, &resource));
        }
        let from_a_pod = event["sourceIPs"][0].as_str().is_some_and(crate::cluster::is_pod_address);
        if code == 403 && from_a_pod {
            let why = text(&event["responseStatus"]["message"]);
            self.refused.entry(right(verb, &group, &resource)).or_insert((0, why)).0 += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_right_reads_as_people_write_it() {
        assert_eq!(
            right("patch", "tenantatlas.io", "operationruns/status"),
            "patch operationruns.tenantatlas.io/status"
        );
        assert_eq!(right("get", "", "pods"), "get pods");
    }

    #[test]
    fn an_apply_that_makes_an_object_uses_both_rights_and_a_refusal_uses_none() {
        let mut record = Record::default();
        let event = |verb: &str, code: i64| {
            json!({ "verb": verb, "objectRef": { "resource": "pods" }, "sourceIPs": ["10.244.0.9"],
                "responseStatus": { "code": code, "message": "no" } })
        };
        record.add(&event("patch", 201));
        record.add(&event("delete", 403));
        assert_eq!(record.used, ["create pods".to_owned(), "patch pods".to_owned()].into());
        assert_eq!(record.refused["delete pods"], (1, "no".to_owned()));
    }
}
