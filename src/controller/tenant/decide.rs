//! The decision about a tenant's accounts. Pure.

use crate::api::{execution::ACCOUNTS, labels};
use k8s_openapi::api::{
    core::v1::ServiceAccount,
    rbac::v1::{RoleBinding, RoleRef, Subject},
};
use kube::{ResourceExt, api::ObjectMeta};
use std::{collections::BTreeMap, sync::Arc};

/// What there is.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// Name of the namespace.
    pub namespace: String,
    /// Whether it has the workspace label.
    pub is_tenant: bool,
    /// Whether it is being deleted.
    pub terminating: bool,
    /// Accounts of ours in it.
    pub accounts: Vec<Arc<ServiceAccount>>,
    /// Bindings of ours in it.
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

/// What is missing or altered. A binding comes after its account.
#[must_use]
pub fn decide(observed: &Observed) -> Vec<Write> {
    if !observed.is_tenant || observed.terminating {
        return Vec::new();
    }
    let mut writes = Vec::new();
    for name in ACCOUNTS {
        if !observed.accounts.iter().any(|account| account.name_any() == name) {
            writes.push(Write::Account(Box::new(account(&observed.namespace, name))));
        }
        let wanted = binding(&observed.namespace, name);
        let stands = observed.bindings.iter().any(|present| {
            present.name_any() == name && present.role_ref == wanted.role_ref && present.subjects == wanted.subjects
        });
        if !stands {
            writes.push(Write::Binding(Box::new(wanted)));
        }
    }
    writes
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
    // Pods get their tokens projected by the kubelet; nothing else mounts this account's.
    ServiceAccount {
        metadata: metadata(namespace, name),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
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
    fn a_namespace_that_is_no_tenant_or_is_going_gets_nothing() {
        assert_eq!(decide(&Observed { is_tenant: false, ..tenant() }), []);
        assert_eq!(decide(&Observed { terminating: true, ..tenant() }), []);
    }
}
