//! The decision about a tenant's accounts. Pure.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use crate::api::{
    execution::ACCOUNTS,
    labels::{self, MOUNTABLE_SECRETS},
};
use k8s_openapi::api::{
    core::v1::ServiceAccount,
    rbac::v1::{RoleBinding, RoleRef, Subject},
};
use kube::{ResourceExt, api::ObjectMeta};
use std::{collections::BTreeMap, sync::Arc};

/// What was observed.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// Name of the namespace.
    pub namespace: String,
    /// Whether it has the workspace label.
    pub is_tenant: bool,
    /// Whether it is being deleted.
    pub terminating: bool,
    /// Our accounts in the namespace.
    pub accounts: Vec<Arc<ServiceAccount>>,
    /// Our bindings in the namespace.
    pub bindings: Vec<Arc<RoleBinding>>,
}

/// One write.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// Apply an account.
    Account(Box<ServiceAccount>),
    /// Apply the binding of an account to the ClusterRole of its name.
    Binding(Box<RoleBinding>),
}

/// The writes for what is missing or altered. A binding comes after its account.
#[must_use]
pub fn decide(observed: &Observed) -> Vec<Write> {
    if !observed.is_tenant || observed.terminating {
        return Vec::new();
    }
    let mut writes = Vec::new();
    for name in ACCOUNTS {
        let wanted = account(&observed.namespace, name);
        if !observed.accounts.iter().any(|present| present.name_any() == name && is_as_made(present, &wanted)) {
            writes.push(Write::Account(Box::new(wanted)));
        }
        let wanted = binding(&observed.namespace, name);
        let stands = observed.bindings.iter().any(|present| {
            present.name_any() == name
                && bears_ours(&present.metadata)
                && present.role_ref == wanted.role_ref
                && present.subjects == wanted.subjects
        });
        if !stands {
            writes.push(Write::Binding(Box::new(wanted)));
        }
    }
    writes
}

/// Whether an account is as the operator created it, as far as the operator can correct it.
/// Additions of others, such as a cloud identity, are kept. Admission
/// (`tenantatlas-account-objects`) keeps users of the tenant from adding any.
fn is_as_made(present: &ServiceAccount, wanted: &ServiceAccount) -> bool {
    // An account created before this annotation was set is equally good.
    let enforces = present.annotations().get(MOUNTABLE_SECRETS).is_some_and(|value| value != "false");
    bears_ours(&present.metadata)
        && !enforces
        && present.automount_service_account_token == wanted.automount_service_account_token
}

fn bears_ours(metadata: &ObjectMeta) -> bool {
    let manager = metadata.labels.as_ref().and_then(|labels| labels.get(labels::MANAGED_BY));
    manager.is_some_and(|manager| manager == labels::MANAGER)
}

fn metadata(namespace: &str, name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(namespace.to_owned()),
        labels: Some(BTreeMap::from([(labels::MANAGED_BY.to_owned(), labels::MANAGER.to_owned())])),
        ..ObjectMeta::default()
    }
}

fn account(namespace: &str, name: &str) -> ServiceAccount {
    let mut metadata = metadata(namespace, name);
    // If the annotation is true, a pod may mount only the Secrets that the account lists, and those
    // of repositories are not listed.
    metadata.annotations = Some(BTreeMap::from([(MOUNTABLE_SECRETS.to_owned(), "false".to_owned())]));
    // The kubelet projects tokens into pods; nothing else mounts the token of this account.
    ServiceAccount { metadata, automount_service_account_token: Some(false), ..ServiceAccount::default() }
}

fn binding(namespace: &str, name: &str) -> RoleBinding {
    RoleBinding {
        metadata: metadata(namespace, name),
        role_ref: RoleRef {
            api_group: "rbac.authorization.k8s.io".to_owned(),
            kind: "ClusterRole".to_owned(),
            name: name.to_owned(),
        },
        subjects: Some(vec![Subject {
            kind: "ServiceAccount".to_owned(),
            name: name.to_owned(),
            namespace: Some(namespace.to_owned()),
            api_group: None,
        }]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant() -> Observed {
        Observed { namespace: "acme".into(), is_tenant: true, ..Observed::default() }
    }

    #[test]
    fn a_new_tenant_gets_every_account_before_its_binding_and_the_next_pass_writes_nothing() {
        let mut observed = tenant();
        let writes = decide(&observed);
        assert_eq!(writes.len(), 2 * ACCOUNTS.len());
        for write in writes {
            match write {
                Write::Account(account) => observed.accounts.push(Arc::new(*account)),
                Write::Binding(binding) => {
                    assert!(observed.accounts.iter().any(|account| account.name_any() == binding.name_any()));
                    observed.bindings.push(Arc::new(*binding));
                }
            }
        }
        assert_eq!(decide(&observed), []);
    }

    #[test]
    fn a_binding_that_somebody_altered_is_put_right() {
        let mut observed = tenant();
        observed.accounts = ACCOUNTS.iter().map(|name| Arc::new(account("acme", name))).collect();
        observed.bindings = ACCOUNTS.iter().map(|name| Arc::new(binding("acme", name))).collect();
        let mut altered = binding("acme", ACCOUNTS[0]);
        altered.subjects = Some(vec![Subject { kind: "User".into(), name: "mallory".into(), ..Subject::default() }]);
        observed.bindings[0] = Arc::new(altered);
        assert_eq!(decide(&observed), [Write::Binding(Box::new(binding("acme", ACCOUNTS[0])))]);
    }

    #[test]
    fn an_account_that_somebody_altered_is_put_right_and_what_the_operator_did_not_say_stays() {
        let mut observed = tenant();
        observed.bindings = ACCOUNTS.iter().map(|name| Arc::new(binding("acme", name))).collect();
        let accounts = |alter: &dyn Fn(&mut ServiceAccount)| {
            let mut accounts: Vec<_> = ACCOUNTS.iter().map(|name| account("acme", name)).collect();
            alter(&mut accounts[0]);
            accounts.into_iter().map(Arc::new).collect::<Vec<_>>()
        };
        let annotate = |key: &'static str, value: &'static str| {
            move |account: &mut ServiceAccount| {
                _ = account.metadata.annotations.get_or_insert_default().insert(key.into(), value.into());
            }
        };
        let harmful: [&dyn Fn(&mut ServiceAccount); 5] = [
            &annotate(MOUNTABLE_SECRETS, "true"),
            &annotate(MOUNTABLE_SECRETS, "1"),
            &|account| account.automount_service_account_token = Some(true),
            &|account| account.automount_service_account_token = None,
            &|account| account.metadata.labels = None,
        ];
        for (case, alter) in harmful.into_iter().enumerate() {
            observed.accounts = accounts(alter);
            let wanted = account("acme", ACCOUNTS[0]);
            assert_eq!(decide(&observed), [Write::Account(Box::new(wanted))], "{case}");
        }
        let harmless: [&dyn Fn(&mut ServiceAccount); 4] = [
            &|_| {},
            &annotate("iam.gke.io/gcp-service-account", "backups@project"),
            &|account| account.metadata.annotations = None,
            &|account| account.image_pull_secrets = Some(Vec::new()),
        ];
        for (case, alter) in harmless.into_iter().enumerate() {
            observed.accounts = accounts(alter);
            assert_eq!(decide(&observed), [], "{case}");
        }
        observed.accounts = accounts(&|_| {});
        let mut unlabelled = binding("acme", ACCOUNTS[1]);
        unlabelled.metadata.labels = None;
        observed.bindings[1] = Arc::new(unlabelled);
        assert_eq!(decide(&observed), [Write::Binding(Box::new(binding("acme", ACCOUNTS[1])))]);
    }

    #[test]
    fn a_namespace_that_is_no_tenant_or_is_going_gets_nothing() {
        assert_eq!(decide(&Observed { is_tenant: false, ..tenant() }), []);
        assert_eq!(decide(&Observed { terminating: true, ..tenant() }), []);
    }
}
