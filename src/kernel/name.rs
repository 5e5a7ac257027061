//! The name of an object of one kind, as queues and indexes hold it. Pure.
//!
//! A queue holds a name for every object when the process starts, so a name is one short allocation
//! that its copies share.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use kube::{Resource, ResourceExt};
use std::{fmt, hash, marker::PhantomData, sync::Arc};

/// Namespace and name of an object of a kind. It need not exist.
pub struct Name<K> {
    /// The two, separated by `/`, which neither can contain. The namespace of a cluster-scoped
    /// object is empty.
    text: Arc<str>,
    kind: PhantomData<fn() -> K>,
}

impl<K> Name<K> {
    /// Names an object; an empty namespace is that of a cluster-scoped kind.
    #[must_use]
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { text: format!("{namespace}/{name}").into(), kind: PhantomData }
    }

    /// The namespace; empty for a cluster-scoped kind.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.parts().0
    }

    /// The name within the namespace.
    #[must_use]
    pub fn name(&self) -> &str {
        self.parts().1
    }

    /// An owner reference in an object may name anything, so the first separator counts.
    fn parts(&self) -> (&str, &str) {
        self.text.split_once('/').unwrap_or(("", &self.text))
    }
}

impl<K: Resource> Name<K> {
    /// Names this object.
    #[must_use]
    pub fn of(object: &K) -> Self {
        Self::new(object.namespace().as_deref().unwrap_or_default(), &object.name_any())
    }
}

impl<K> Clone for Name<K> {
    fn clone(&self) -> Self {
        Self { text: Arc::clone(&self.text), kind: PhantomData }
    }
}

impl<K> PartialEq for Name<K> {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl<K> Eq for Name<K> {}

impl<K> hash::Hash for Name<K> {
    fn hash<H: hash::Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl<K> fmt::Debug for Name<K> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl<K> fmt::Display for Name<K> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.text.trim_start_matches('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{ConfigMap, Namespace};

    #[test]
    fn a_name_has_the_namespace_that_it_was_made_with_or_none() {
        let named: Name<ConfigMap> = Name::new("acme", "settings");
        assert_eq!(
            (named.namespace(), named.name(), named.to_string().as_str()),
            ("acme", "settings", "acme/settings")
        );
        let namespace: Name<Namespace> = Name::new("", "acme");
        assert_eq!((namespace.namespace(), namespace.name(), namespace.to_string().as_str()), ("", "acme", "acme"));
        // As in an owner reference that a user wrote.
        let odd: Name<ConfigMap> = Name::new("acme", "a/b");
        assert_eq!((odd.namespace(), odd.name()), ("acme", "a/b"));
    }
}
