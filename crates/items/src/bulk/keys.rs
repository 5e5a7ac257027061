//! Keys and values of labels and annotations, and the keys that a bulk operation must not set.

use crate::api::{GROUP, labels::MANAGED_BY};

/// Domains whose keys are those of Kubernetes' own components.
const SYSTEM: [&str; 2] = ["kubernetes.io", "k8s.io"];

/// The part of a system domain that is for users.
const RECOMMENDED: &str = "app.kubernetes.io";

/// Longest name of a key, and longest value of a label.
const MAX: usize = 63;

/// Checks a key. The error says what is wrong with it.
pub(super) fn key(key: &str) -> Result<(), String> {
    let (domain, name) = match key.split_once('/') {
        Some((domain, name)) => (Some(domain), name),
        None => (None, key),
    };
    if !is_word(name) || domain.is_some_and(|domain| !is_domain(domain)) {
        return Err(format!(
            "a key has a name of at most {MAX} letters, digits, `-`, `_` and `.`, after a domain and a `/` if it has one"
        ));
    }
    let is_of = |of: &str| {
        domain.is_some_and(|domain| domain == of || domain.strip_suffix(of).is_some_and(|rest| rest.ends_with('.')))
    };
    if is_of(GROUP) {
        return Err(format!("keys of {GROUP} are the operator's: leave it out"));
    }
    if key == MANAGED_BY || (domain != Some(RECOMMENDED) && SYSTEM.into_iter().any(is_of)) {
        return Err(format!(
            "keys of kubernetes.io and k8s.io are those of the cluster, but for {RECOMMENDED} without {MANAGED_BY}: leave it out"
        ));
    }
    Ok(())
}

/// Checks the value of a label.
pub(super) fn label_value(value: &str) -> Result<(), String> {
    if value.is_empty() || is_word(value) {
        return Ok(());
    }
    Err(format!(
        "the value of a label has at most {MAX} letters, digits, `-`, `_` and `.`, and starts and ends with a letter or a digit"
    ))
}

fn is_word(text: &str) -> bool {
    let at_ends = |character: char| character.is_ascii_alphanumeric();
    text.len() <= MAX
        && text.starts_with(at_ends)
        && text.ends_with(at_ends)
        && text.chars().all(|character| character.is_ascii_alphanumeric() || "-_.".contains(character))
}

fn is_domain(text: &str) -> bool {
    let at_ends = |character: char| character.is_ascii_lowercase() || character.is_ascii_digit();
    let is_label = |label: &str| {
        label.starts_with(at_ends)
            && label.ends_with(at_ends)
            && label.chars().all(|character| at_ends(character) || character == '-')
    };
    text.len() <= 253 && text.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_users_are_taken_and_those_of_the_cluster_and_the_operator_are_not() {
        for taken in [
            "team",
            "a.b_c-D9",
            "example.com/team",
            "app.kubernetes.io/name",
            "nottenantatlas.io/a",
            "mykubernetes.io/a",
        ] {
            assert_eq!(key(taken), Ok(()), "{taken}");
        }
        for refused in [
            "tenantatlas.io/exclude-from-backup",
            "x.tenantatlas.io/a",
            "kubernetes.io/metadata.name",
            "kubectl.kubernetes.io/restartedAt",
            "pod-security.kubernetes.io/enforce",
            "node.k8s.io/a",
            "k8s.io/a",
            "x.app.kubernetes.io/a",
            "app.kubernetes.io/managed-by",
        ] {
            let problem = key(refused).expect_err(refused);
            assert!(problem.contains("leave it out"), "{refused}: {problem}");
        }
    }

    #[test]
    fn a_key_and_a_value_of_a_label_have_the_form_that_the_api_server_takes() {
        let long = "x".repeat(63);
        for taken in [long.as_str(), "a", "A.b"] {
            assert!(key(taken).is_ok() && label_value(taken).is_ok(), "{taken}");
        }
        assert_eq!(label_value(""), Ok(()));
        for refused in ["x".repeat(64).as_str(), "-a", "a-", "a b", "é", "a\n"] {
            assert!(key(refused).is_err() && label_value(refused).is_err(), "{refused}");
        }
        for refused in ["", "/a", "a/", "a/b/c", "Example.com/a", "a..b/c", "-a.b/c", "a_b/c", "../a"] {
            assert!(key(refused).is_err(), "{refused}");
        }
    }
}
