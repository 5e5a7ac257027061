//! The repository and the terms of a deletion of many objects. Which objects may be deleted, and what
//! the garbage collector takes with them, is decided as in a restore ([`crate::policy`]): its plan
//! deletes and does nothing else.

use super::{expect_objects, invalid};
use crate::{
    api::{BulkOperationRunSpec, bulk_operation_run::BulkAction},
    eligible::Ineligible,
    plan::Terms,
};

/// A deletion that is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Deletion<'a> {
    /// Name of the repository that keeps what is deleted.
    pub repository: &'a str,
    /// The terms of its plan.
    pub terms: Terms,
}

/// Reads what is to be deleted. `spec` is that of the preview, if one is applied.
pub fn deletion(spec: &BulkOperationRunSpec) -> Result<Deletion<'_>, Ineligible> {
    if spec.action != BulkAction::Delete {
        return Err(invalid(format!("spec.action: {} deletes nothing", spec.action.as_str())));
    }
    expect_objects(spec)?;
    let options = spec.options.as_ref();
    let repository = options.and_then(|options| options.repository.as_deref());
    let none = || invalid("spec.options.repository: name the BackupRepository that keeps what is deleted");
    let allow_data_loss = options.and_then(|options| options.allow_data_loss).unwrap_or(false);
    Ok(Deletion { repository: repository.ok_or_else(none)?, terms: Terms::of_deletion(allow_data_loss) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Reason;
    use serde_json::{Value, json};

    #[allow(clippy::needless_pass_by_value, reason = "called with literals")]
    fn spec(kind: &str, options: Value) -> BulkOperationRunSpec {
        let spec = json!({"resource": {"kind": kind}, "action": "delete", "labelSelector": "a=b", "dryRun": true,
            "options": options});
        serde_json::from_value(spec).expect("a spec")
    }

    #[test]
    fn a_deletion_names_the_repository_that_keeps_what_is_deleted() {
        let asked = spec("ConfigMap", json!({"repository": "main", "allowDataLoss": true}));
        let read = deletion(&asked).expect("a deletion");
        assert_eq!((read.repository, read.terms.allow_data_loss), ("main", true));
        assert!(read.terms.is_deletion() && read.terms.prune);
        let refused = |spec: &BulkOperationRunSpec| deletion(spec).expect_err("refused");
        let without = refused(&spec("ConfigMap", json!({})));
        assert_eq!(without.reason, Reason::InvalidBulkOperation);
        assert!(without.message.contains("spec.options.repository"), "{}", without.message);
        let event = refused(&spec("Event", json!({"repository": "main"})));
        assert!(event.message.contains("no bulk operation works on"), "{}", event.message);
        let mut broken = asked.clone();
        broken.label_selector = Some("a=b=c".to_owned());
        assert!(refused(&broken).message.contains("spec.labelSelector"));
        let mut other = asked;
        other.action = BulkAction::Label;
        assert!(refused(&other).message.contains("deletes nothing"));
    }
}
