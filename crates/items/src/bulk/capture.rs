//! The repository of a capture of many objects, and the selection that means them. What is left out of
//! it is decided as in any capture ([`crate::skip`]).

use super::{expect_objects, invalid};
use crate::{
    api::{BulkOperationRunSpec, bulk_operation_run::BulkAction, selection::Selection},
    eligible::Ineligible,
};

/// Most that a selection takes as JSON, in bytes: less than the inputs of a run take.
const MAX_SELECTION: usize = 60 * 1024;

/// A capture that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captures<'a> {
    /// Name of the repository that stores the objects.
    pub repository: &'a str,
    /// The objects.
    pub selection: Selection,
}

/// Reads what is to be captured.
pub fn captures(spec: &BulkOperationRunSpec) -> Result<Captures<'_>, Ineligible> {
    if spec.action != BulkAction::Capture {
        return Err(invalid(format!("spec.action: {} captures nothing", spec.action.as_str())));
    }
    expect_objects(spec)?;
    let repository = spec.options.as_ref().and_then(|options| options.repository.as_deref());
    let none = || invalid("spec.options.repository: name the BackupRepository that stores the objects");
    let repository = repository.ok_or_else(none)?;
    if spec.items.is_empty() && spec.label_selector.is_none() {
        // A selection without either would take every object of the kind.
        return Err(invalid("spec.items: say which objects, here or by spec.labelSelector"));
    }
    let selection = Selection {
        provider: spec.resource.provider.clone(),
        include_kinds: vec![spec.resource.group_kind().to_string()],
        label_selector: spec.label_selector.clone(),
        include_names: spec.items.clone(),
        ..Selection::default()
    };
    if serde_json::to_string(&selection).map_or(usize::MAX, |text| text.len()) > MAX_SELECTION {
        return Err(invalid(format!(
            "spec.items: these are more than {MAX_SELECTION} bytes of names, name fewer objects, or select them by spec.labelSelector"
        )));
    }
    Ok(Captures { repository, selection })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Reason, item::GroupKind};
    use serde_json::{Value, json};

    #[allow(clippy::needless_pass_by_value, reason = "called with literals")]
    fn spec(fields: Value) -> BulkOperationRunSpec {
        let mut spec = json!({"resource": {"group": "apps", "kind": "Deployment"}, "action": "capture",
            "items": ["web", "api"], "options": {"repository": "main"}});
        spec.as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
        serde_json::from_value(spec).expect("a spec")
    }

    #[test]
    fn a_capture_takes_the_objects_of_the_kind_that_are_named_or_have_the_labels() {
        let named = spec(json!({}));
        let Captures { repository, selection } = captures(&named).expect("a capture");
        assert_eq!(repository, "main");
        assert_eq!(selection.parse().expect("kinds").included(), [GroupKind::new("apps", "Deployment")]);
        assert!(selection.takes_name("web") && selection.takes_name("api") && !selection.takes_name("other"));
        let labelled = spec(json!({"items": [], "labelSelector": "app=shop"}));
        let selection = captures(&labelled).expect("a capture").selection;
        assert_eq!((selection.label_selector.as_deref(), selection.include_names.len()), (Some("app=shop"), 0));
    }

    #[test]
    fn a_capture_that_cannot_be_done_is_refused_with_what_is_wrong() {
        let names: Vec<String> = (0..500).map(|number| format!("{number:0>200}")).collect();
        for (fields, words) in [
            (json!({"options": {}}), "spec.options.repository"),
            (json!({"items": []}), "say which objects"),
            (json!({"items": names}), "name fewer objects"),
            (json!({"labelSelector": "a=b=c", "items": []}), "spec.labelSelector"),
            (json!({"resource": {"group": "tenantatlas.io", "kind": "BackupSet"}}), "spec.resource"),
            (json!({"resource": {"kind": "Event"}}), "spec.resource"),
            (json!({"action": "delete"}), "captures nothing"),
        ] {
            let refused = captures(&spec(fields.clone())).expect_err("refused");
            assert_eq!(refused.reason, Reason::InvalidBulkOperation);
            assert!(refused.message.contains(words), "{fields}: {}", refused.message);
        }
    }
}
