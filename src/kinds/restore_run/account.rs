//! The rights that an account named by a restore needs for the restore's own run, whatever is
//! restored. Pure.
//!
//! Without these rights, the worker could not even start, or could not report how it ended. The
//! rights that the items require are a separate matter: an item that the account may not write is
//! `forbidden` in the plan.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use crate::{api::Reason, kernel::refusal::Refusal};
use k8s_openapi::api::authorization::v1::ResourceAttributes;

/// A right, and the ClusterRole of the chart that grants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Right {
    /// The ClusterRole.
    pub role: &'static str,
    verb: &'static str,
    group: &'static str,
    resource: &'static str,
}

const OURS: &str = "tenantatlas.io";
const LEASES: &str = "coordination.k8s.io";
const RUN: &str = "tenantatlas-account-run";
const RESTORE: &str = "tenantatlas-restore-run";
const AUDIT: &str = "tenantatlas-account-audit";

const fn right(role: &'static str, verb: &'static str, group: &'static str, resource: &'static str) -> Right {
    Right { role, verb, group, resource }
}

/// The right to create the backup set that undoes a restore.
const UNDO: Right = right(RUN, "create", OURS, "backupsets");

const NEEDED: [Right; 15] = [
    right(RUN, "get", OURS, "operationruns"),
    right(RUN, "patch", OURS, "operationruns/status"),
    right(RUN, "create", OURS, "operationreports"),
    UNDO,
    right(RUN, "get", LEASES, "leases"),
    right(RUN, "create", LEASES, "leases"),
    right(RUN, "patch", LEASES, "leases"),
    right(RUN, "delete", LEASES, "leases"),
    right(RESTORE, "list", OURS, "backuprepositories"),
    right(RESTORE, "get", OURS, "restoreruns"),
    right(RESTORE, "get", OURS, "backupsets"),
    right(RESTORE, "list", OURS, "operationreports"),
    right(RESTORE, "create", "authorization.k8s.io", "localsubjectaccessreviews"),
    right(AUDIT, "list", OURS, "auditentries"),
    right(AUDIT, "create", OURS, "auditentries"),
];

/// The rights that every restore requires.
pub fn needed(safety_capture: bool) -> impl Iterator<Item = Right> {
    NEEDED.into_iter().filter(move |right| safety_capture || *right != UNDO)
}

impl Right {
    /// The right as attributes of an access review.
    #[must_use]
    pub fn attributes(&self) -> ResourceAttributes {
        let (resource, subresource) = match self.resource.split_once('/') {
            Some((resource, subresource)) => (resource, Some(subresource.to_owned())),
            None => (self.resource, None),
        };
        ResourceAttributes {
            verb: Some(self.verb.to_owned()),
            group: Some(self.group.to_owned()),
            resource: Some(resource.to_owned()),
            subresource,
            ..ResourceAttributes::default()
        }
    }
}

/// What is known about the account that a restore names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AccountView {
    /// The restore names no account, or one of ours; it is a preview; or it is not to be started.
    #[default]
    NotAsked,
    /// The account does not exist.
    Missing,
    /// The account exists.
    Found {
        /// The rights that the account needs and lacks.
        lacks: Vec<Right>,
    },
}

/// Refuses an account that cannot carry out any restore.
pub fn expect_usable(account: &AccountView, name: &str, namespace: &str) -> Result<(), Refusal> {
    match account {
        AccountView::NotAsked => Ok(()),
        AccountView::Missing => Err(Refusal::new(
            Reason::AccountNotFound,
            format!(
                "spec.serviceAccountName: ServiceAccount {name} does not exist in namespace {namespace}: create it, or leave the field out, then create a new restore"
            ),
        )),
        AccountView::Found { lacks } if lacks.is_empty() => Ok(()),
        AccountView::Found { lacks: rights } => {
            let lacks: Vec<_> =
                rights.iter().map(|right| format!("{} {}.{}", right.verb, right.resource, right.group)).collect();
            let mut roles: Vec<_> = rights.iter().map(|right| right.role).collect();
            roles.dedup();
            let bind: Vec<_> = roles
                .iter()
                .map(|role| {
                    format!(
                        "`kubectl create rolebinding {name}-{role} -n {namespace} --clusterrole={role} --serviceaccount={namespace}:{name}`"
                    )
                })
                .collect();
            Err(Refusal::new(
                Reason::AccountLacksRights,
                format!(
                    "spec.serviceAccountName: ServiceAccount {name} may not {}, which every restore needs for its own records: {}, then create a new restore",
                    lacks.join(", "),
                    bind.join(" and ")
                ),
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a ClusterRole in these files of the chart grants a right.
    fn gives(chart: &str, right: &Right) -> bool {
        let of_role = chart.split("\n---").find(|document| document.contains(&format!("\n  name: {}\n", right.role)));
        let holds = |rule: &str, key: &str, word: &str| {
            let line = rule.lines().find_map(|line| line.trim().strip_prefix(key)).unwrap_or_default();
            line.trim().trim_matches(['[', ']']).split(", ").any(|present| present == word)
        };
        of_role.is_some_and(|document| {
            document.split("  - ").any(|rule| {
                holds(rule, "apiGroups:", right.group)
                    && holds(rule, "resources:", right.resource)
                    && holds(rule, "verbs:", right.verb)
            })
        })
    }

    #[test]
    fn the_chart_gives_each_right_by_the_role_that_is_named() {
        let chart = [
            include_str!("../../../charts/tenantatlas/templates/rbac/accounts.yaml"),
            include_str!("../../../charts/tenantatlas/templates/rbac/audit.yaml"),
        ]
        .join("\n---\n");
        for right in NEEDED {
            assert!(gives(&chart, &right), "{right:?}");
        }
        assert!(!gives(&chart, &super::right(RUN, "delete", OURS, "operationruns")));
    }

    #[test]
    fn an_account_without_the_rights_is_refused_with_the_bindings_to_make() {
        let refused = |account: AccountView| expect_usable(&account, "deployer", "acme");
        assert_eq!(refused(AccountView::NotAsked), Ok(()));
        assert_eq!(refused(AccountView::Found { lacks: Vec::new() }), Ok(()));
        assert_eq!(refused(AccountView::Missing).map_err(|refusal| refusal.reason), Err(Reason::AccountNotFound));
        let some = needed(true).filter(|right| right.resource.starts_with("operationr")).collect();
        let Err(Refusal { reason, message }) = refused(AccountView::Found { lacks: some }) else {
            panic!("it is usable")
        };
        assert_eq!(reason, Reason::AccountLacksRights);
        for words in [
            "patch operationruns/status.tenantatlas.io",
            "`kubectl create rolebinding deployer-tenantatlas-account-run -n acme --clusterrole=tenantatlas-account-run --serviceaccount=acme:deployer`",
            "--clusterrole=tenantatlas-restore-run",
        ] {
            assert!(message.contains(words), "{message}");
        }
        assert_eq!(message.matches("kubectl").count(), 2, "{message}");
        let Err(all) = refused(AccountView::Found { lacks: needed(true).collect() }) else { panic!("it is usable") };
        assert!(all.message.len() < 1500, "fits into a status: {}", all.message.len());
    }

    #[test]
    fn a_restore_that_captures_nothing_first_needs_no_place_for_it() {
        assert!(needed(true).any(|right| right == UNDO) && needed(false).all(|right| right != UNDO));
    }
}
