//! Identity: what makes two runs the same work.
//!
//! SHA-256 over canonical JSON of the tenant's uid, the type, the target, the executing account and
//! the inputs that count. The trigger, the initiator and the name do not count: a nightly and a
//! manual capture are the same work. The exception are operations that show what their initiator
//! may read: two users never share a run of them.

use crate::{canonical, operation_run::Target, operation_type::IdentityInputs, operations, subject::Initiator};
use serde_json::{Map, Value, json};

/// Number of hex digits of the identity in the name of the Job.
pub const JOB_NAME_DIGITS: usize = 20;

/// Suffixes, by operation type, of the names of Jobs that change a tenant's objects and record it
/// in the audit chain, and of those that write an export.
///
/// The only thing an admission policy knows about a request from a pod is the pod's name. The Job
/// controller derives that name from the Job's name, and only the operator may create Jobs with
/// such names. The name therefore identifies the work of the pod.
const SUFFIXES: [(&str, &str); 4] = [
    (operations::APPLY, "-restore"),
    (operations::BULK, "-bulk"),
    (operations::BULK_DELETE, "-delete"),
    (operations::BULK_EXPORT, "-export"),
];

/// Identity of a run: 64 hex digits, and the suffix of its Job's name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    hash: String,
    suffix: &'static str,
}

impl Identity {
    /// Computes an identity.
    #[must_use]
    pub fn new(
        tenant_uid: &str,
        operation_type: &str,
        target: Option<&Target>,
        account: &str,
        inputs: &Map<String, Value>,
        counted: Option<&IdentityInputs>,
    ) -> Self {
        let inputs = match counted {
            None => Value::Object(inputs.clone()),
            Some(counted) => {
                let whole = Value::Object(inputs.clone());
                let picked = counted
                    .inputs
                    .iter()
                    .filter_map(|pointer| Some((pointer.clone(), whole.pointer(pointer)?.clone())));
                Value::Object(picked.collect())
            }
        };
        let hash = canonical::digest(&json!({
            "tenantUid": tenant_uid,
            "type": operation_type,
            "target": target,
            "account": account,
            "inputs": inputs,
        }));
        let suffix = SUFFIXES.iter().find(|(of, _)| *of == operation_type).map_or("", |(_, suffix)| suffix);
        Self { hash, suffix }
    }

    /// The identity of the same work if it depends on who asks for it.
    #[must_use]
    pub fn asked_by(self, initiator: Option<&Initiator>) -> Self {
        let mut initiator = initiator.cloned();
        if let Some(initiator) = &mut initiator {
            initiator.groups.sort();
        }
        let hash = canonical::digest(&json!({ "work": self.hash, "initiator": initiator }));
        Self { hash, ..self }
    }

    /// Returns all 64 hex digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.hash
    }

    /// Name of the only Job that may do this work. The API server rejects a second Job of the same
    /// name.
    #[must_use]
    pub fn job_name(&self) -> String {
        format!("op-{}{}", &self.hash[..JOB_NAME_DIGITS], self.suffix)
    }

    /// Value of the identity label: 40 hex digits.
    #[must_use]
    pub fn label_value(&self) -> &str {
        &self.hash[..40]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inputs(value: &Value) -> Map<String, Value> {
        value.as_object().cloned().expect("an object")
    }

    fn identity(value: &Value, counted: Option<&IdentityInputs>) -> Identity {
        Identity::new("uid", "backup.capture", None, "tenantatlas-worker", &inputs(value), counted)
    }

    #[test]
    fn the_order_of_inputs_does_not_matter_and_their_values_do() {
        let one = identity(&json!({"repository": "main", "selection": {"a": 1, "b": 2}}), None);
        assert_eq!(one, identity(&json!({"selection": {"b": 2, "a": 1}, "repository": "main"}), None));
        assert_ne!(one, identity(&json!({"repository": "other", "selection": {"a": 1, "b": 2}}), None));
    }

    #[test]
    fn only_counted_inputs_matter() {
        let counted = IdentityInputs { inputs: vec!["/repository".into()] };
        assert_eq!(
            identity(&json!({"repository": "main", "note": "a"}), Some(&counted)),
            identity(&json!({"repository": "main", "note": "b"}), Some(&counted))
        );
        assert_ne!(
            identity(&json!({"repository": "main"}), Some(&counted)),
            identity(&json!({"repository": "x"}), Some(&counted))
        );
    }

    #[test]
    fn tenant_type_target_and_account_matter() {
        let base = Identity::new("uid", "t", None, "a", &Map::new(), None);
        let target = Target { api_version: "v1".into(), kind: "ConfigMap".into(), name: "x".into() };
        for other in [
            Identity::new("other", "t", None, "a", &Map::new(), None),
            Identity::new("uid", "other", None, "a", &Map::new(), None),
            Identity::new("uid", "t", Some(&target), "a", &Map::new(), None),
            Identity::new("uid", "t", None, "other", &Map::new(), None),
        ] {
            assert_ne!(base, other);
        }
        assert_eq!(base.job_name().len(), 23);
        assert!(base.as_str().starts_with(&base.job_name()[3..]));
    }

    #[test]
    fn work_that_depends_on_who_asks_is_not_the_same_for_two_users_or_with_other_groups() {
        let user = |name: &str, groups: &[&str]| Initiator {
            username: name.to_owned(),
            uid: None,
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        };
        let asked = |initiator: Option<&Initiator>| identity(&json!({}), None).asked_by(initiator);
        let ada = asked(Some(&user("ada", &["a", "b"])));
        assert_eq!(ada, asked(Some(&user("ada", &["b", "a"]))));
        for other in [None, Some(user("eve", &["a", "b"])), Some(user("ada", &["a"]))] {
            assert_ne!(ada, asked(other.as_ref()), "{other:?}");
        }
        assert_ne!(asked(None), identity(&json!({}), None));
        assert_eq!(ada.job_name().len(), 23);
    }

    #[test]
    fn the_job_of_a_restore_or_a_bulk_operation_says_so_in_its_name_and_no_other_does() {
        let name = |operation_type: &str| Identity::new("uid", operation_type, None, "a", &Map::new(), None).job_name();
        let restores = name("restore.apply");
        assert_eq!((restores.len(), &restores[23..]), (31, "-restore"));
        assert_eq!((&name("bulk.apply")[23..], &name("bulk.delete")[23..]), ("-bulk", "-delete"));
        assert_eq!(&name("bulk.export")[23..], "-export");
        for other in [
            "restore.preview",
            "bulk.capture",
            "bulk.delete.preview",
            "restore.apply.mine",
            "backup.capture",
            "restore",
        ] {
            assert_eq!(name(other).len(), 23, "{other}");
        }
    }

    #[test]
    fn the_label_of_an_identity_is_its_first_forty_digits() {
        let identity = Identity::new("uid", "t", None, "a", &Map::new(), None);
        assert_eq!((identity.as_str().len(), identity.label_value()), (64, &identity.as_str()[..40]));
    }
}
