//! What the accounts of operations hold and a role for people lacks, each with what stops a person from using it: the table of
//! docs/guides/tenancy.md against the roles of the cluster.

use crate::support::Tenant;
use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicy;
use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::api::{Api, ListParams};
use std::collections::{BTreeMap, BTreeSet};

const GUIDE: &str = include_str!("../../../docs/guides/tenancy.md");
const HEADING: &str = "## What the accounts of operations may do and people may not";
const ACCOUNTS: [&str; 3] = ["tenantatlas-worker", "tenantatlas-preview", "tenantatlas-restore"];
const ROLES: [&str; 6] =
    ["tenantatlas-tenant-viewer", "tenantatlas-tenant-operator", "tenantatlas-tenant-admin", "view", "edit", "admin"];

/// A verb, and what it is about: `resource[.group][/subresource]`, with a name behind it where the right is to one object.
type Right = (String, String);

fn rights(role: &ClusterRole) -> BTreeSet<Right> {
    let mut rights = BTreeSet::new();
    for rule in role.rules.iter().flatten() {
        let names = rule.resource_names.clone().unwrap_or_default();
        for group in rule.api_groups.iter().flatten().filter(|group| is_shipped(group)) {
            for resource in rule.resources.iter().flatten() {
                let (base, below) = resource.split_once('/').map_or((resource.as_str(), None), |(a, b)| (a, Some(b)));
                let dot = if group.is_empty() { "" } else { "." };
                let below = below.map(|below| format!("/{below}")).unwrap_or_default();
                let whole = format!("{base}{dot}{group}{below}");
                let about: Vec<String> = match names.as_slice() {
                    [] => vec![whole],
                    names => names.iter().map(|name| format!("{whole} {name}")).collect(),
                };
                rights
                    .extend(about.iter().flat_map(|about| rule.verbs.iter().map(|verb| (verb.clone(), about.clone()))));
            }
        }
    }
    rights
}

/// Whether a group is Kubernetes' own or ours. Other stories add rights to groups of custom resources while this one runs.
fn is_shipped(group: &str) -> bool {
    !group.contains('.') || group.ends_with(".k8s.io") || group == "tenantatlas.io"
}

fn short(name: &str) -> &str {
    name.trim_start_matches("tenantatlas-")
}

/// Verbs, resources, who holds them and who lacks them, as the guide writes a row.
type Row = [String; 4];

/// The rows that the roles of the cluster make: rights of the same verbs, holders and roles without them together.
fn rows(roles: &BTreeMap<String, BTreeSet<Right>>) -> BTreeSet<Row> {
    let mut verbs: BTreeMap<(String, String, String), BTreeSet<String>> = BTreeMap::new();
    let held: BTreeSet<&Right> = ACCOUNTS.iter().flat_map(|account| &roles[*account]).collect();
    for right in held {
        let about_all = (right.0.clone(), right.1.split(' ').next().unwrap_or_default().to_owned());
        let names = |of: &[&str], wanted: bool| -> String {
            let has = |name: &&&str| roles[**name].contains(right) || roles[**name].contains(&about_all);
            of.iter().filter(|name| has(name) == wanted).map(|name| short(name)).collect::<Vec<_>>().join(", ")
        };
        let (holders, lack) = (names(&ACCOUNTS, true), names(&ROLES, false));
        if !lack.is_empty() {
            verbs.entry((holders, lack, right.1.clone())).or_default().insert(right.0.clone());
        }
    }
    let mut about: BTreeMap<(String, String, String), BTreeSet<String>> = BTreeMap::new();
    for ((holders, lack, what), verbs) in verbs {
        let verbs = verbs.into_iter().collect::<Vec<_>>().join(", ");
        about.entry((verbs, holders, lack)).or_default().insert(what);
    }
    let row = |((verbs, holders, lack), about): ((String, String, String), BTreeSet<String>)| {
        let about: Vec<String> = about.iter().map(|one| format!("`{one}`")).collect();
        [verbs, about.join(", "), holders, lack]
    };
    about.into_iter().map(row).collect()
}

/// The rows of the guide, each with what stops people.
fn written() -> BTreeMap<Row, String> {
    let section = GUIDE.split_once(HEADING).unwrap_or_else(|| panic!("no section {HEADING}")).1;
    let section = section.split("\n## ").next().expect("a section");
    let lines = section.lines().filter(|line| line.starts_with('|')).skip(2);
    let rows = lines.map(|line| {
        let cells: Vec<String> = line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
        let [verbs, about, holders, lack, stops] = &cells[..] else { panic!("five cells: {line}") };
        ([verbs.clone(), about.clone(), holders.clone(), lack.clone()], stops.clone())
    });
    rows.collect()
}

#[tokio::test]
async fn every_right_that_an_account_has_and_a_role_lacks_stands_in_the_guide_with_what_stops_people() {
    let tenant = Tenant::new("account-rights").await;
    let roles = Api::<ClusterRole>::all(tenant.cluster.client.clone());
    let mut held = BTreeMap::new();
    for name in ACCOUNTS.iter().chain(&ROLES) {
        held.insert((*name).to_owned(), rights(&roles.get(name).await.expect("the role is there")));
    }
    let (found, written) = (rows(&held), written());
    let said: BTreeSet<Row> = written.keys().cloned().collect();
    let lines =
        |rows: Vec<&Row>| rows.iter().map(|row| format!("| {} | |", row.join(" | "))).collect::<Vec<_>>().join("\n");
    let missing = lines(found.difference(&said).collect());
    let stale = lines(said.difference(&found).collect());
    assert!(missing.is_empty() && stale.is_empty(), "the guide lacks:\n{missing}\nand says what is not so:\n{stale}");
    let policies = Api::<ValidatingAdmissionPolicy>::all(tenant.cluster.client.clone());
    let policies = policies.list(&ListParams::default()).await.expect("policies").items;
    let policies: BTreeSet<String> = policies.into_iter().filter_map(|policy| policy.metadata.name).collect();
    for (row, stops) in written {
        assert!(stops.len() > 10, "what stops people from {row:?}?");
        let named = stops.split('`').skip(1).step_by(2).filter(|word| word.starts_with("tenantatlas-"));
        for policy in named {
            assert!(policies.contains(policy), "{policy} is no policy: {row:?}");
        }
    }
}
