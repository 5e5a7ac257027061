//! What a finding shows of the changes: paths, values, and who wrote them.
//!
//! A value that must not be shown is a keyed hash, wherever in a larger value it is. Of a kind that
//! not all readers of findings may read, the outermost fields are named and no values are shown.
//! What is too long is cut, and ends with `…(cut)`.

use super::changes::{Change, Step};
use crate::{
    api::{
        canonical,
        finding::{Evidence, MAX_EVIDENCE, MAX_VALUE},
    },
    diff::{Place, hides, names},
    redact::redact,
    semantic::DigestKey,
};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Maximum size of a path in bytes.
const MAX_PATH: usize = 1024;

/// Maximum size of the name of a field manager in bytes.
const MAX_MANAGER: usize = 128;

/// Maximum size of all values of a finding together, in bytes: a tenant has many findings.
const MAX_VALUES: usize = 16 * 1024;

/// How something that was cut ends.
const CUT: &str = "…(cut)";

/// What the evidence may show.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// Whether every reader of findings may read objects of the kind.
    pub shown: bool,
    /// Whether the object is a Secret, whose values have stand-ins.
    pub secret: bool,
    /// Key of the stand-ins.
    pub key: &'a DigestKey,
}

/// The evidence for changes, worst first, and how many changes it leaves out. `current` is the
/// object in the form in which it was compared, `live` as it was read.
#[must_use]
pub fn evidence(changes: &[Change<'_>], current: &Value, live: &Value, terms: Terms<'_>) -> (Vec<Evidence>, usize) {
    let identity = json!([current["apiVersion"], current["kind"], current["metadata"]["name"]]);
    let mut sorted: Vec<&Change<'_>> = changes.iter().collect();
    // Labels and annotations come last.
    sorted.sort_by_key(|change| is_label(change));
    let mut evidence: Vec<Evidence> = Vec::new();
    let (mut bytes, mut left_out) = (0, 0);
    let mut named = BTreeSet::new();
    for change in sorted {
        let steps = if terms.shown || terms.secret { change.steps.as_slice() } else { outermost(&change.steps) };
        let path = if steps.len() == change.steps.len() { change.place.path.clone() } else { text(steps) };
        let path = cut(if path.is_empty() { ".".to_owned() } else { path }, MAX_PATH);
        if !named.insert(path.clone()) {
            continue;
        }
        let show = |value: &Option<_>| value.as_deref().map(|value| show(&change.place, value, &identity, terms.key));
        let (before, after) =
            if terms.shown || terms.secret { (show(&change.before), show(&change.after)) } else { (None, None) };
        bytes += path.len() + [&before, &after].into_iter().flatten().map(String::len).sum::<usize>();
        if evidence.len() == MAX_EVIDENCE || bytes > MAX_VALUES {
            left_out += 1;
            continue;
        }
        let writer = writer(live, current, steps);
        evidence.push(Evidence { path, before, after, ..writer });
    }
    (evidence, left_out)
}

/// Whether a change is of a label or an annotation of the object.
pub(super) fn is_label(change: &Change<'_>) -> bool {
    let mut names = change.steps.iter().map(Step::name);
    names.next() == Some("metadata") && names.next().is_some_and(|name| matches!(name, "labels" | "annotations"))
}

pub(super) fn outermost(steps: &[Step]) -> &[Step] {
    let depth = if steps.first().is_some_and(|step| step.name() == "metadata") { 2 } else { 1 };
    steps.get(..depth).unwrap_or(steps)
}

pub(super) fn text(steps: &[Step]) -> String {
    steps.iter().map(Step::name).collect::<Vec<_>>().join(".")
}

fn show(place: &Place, value: &Value, identity: &Value, key: &DigestKey) -> String {
    if place.hidden {
        return key.stand_in(&json!([identity, place.path, value]));
    }
    let shown = concealed(place, value, identity, key);
    cut(String::from_utf8_lossy(&canonical::to_vec(&shown)).into_owned(), MAX_VALUE)
}

/// A value with stand-ins for whatever in it must not be shown.
fn concealed(place: &Place, value: &Value, identity: &Value, key: &DigestKey) -> Value {
    let stand_in = || Value::from(key.stand_in(&json!([identity, place.path, value])));
    match value {
        Value::Object(map) => {
            let conceal =
                |(name, value): (&String, &Value)| (name.clone(), concealed(&place.field(name), value, identity, key));
            Value::Object(map.iter().map(conceal).collect())
        }
        Value::Array(list) => {
            let names = names(&place.field, list, list).map(|(names, _)| names);
            let name =
                |at: usize| names.as_ref().and_then(|names| names.get(at).cloned()).unwrap_or_else(|| at.to_string());
            let conceal = |(at, value)| concealed(&place.element(&name(at)), value, identity, key);
            Value::Array(list.iter().enumerate().map(conceal).collect())
        }
        _ if place.hidden => stand_in(),
        Value::String(text) if hides(place, text) => stand_in(),
        Value::String(text) => Value::from(redact(text).into_owned()),
        Value::Number(number) if hides(place, &number.to_string()) => stand_in(),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

fn cut(mut text: String, limit: usize) -> String {
    if text.len() > limit {
        let end = (0..=limit.saturating_sub(CUT.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push_str(CUT);
    }
    text
}

/// Who wrote a place last, as the object says. Of several managers, the last one that wrote.
fn writer(live: &Value, current: &Value, steps: &[Step]) -> Evidence {
    let entries = live["metadata"]["managedFields"].as_array().map(Vec::as_slice).unwrap_or_default();
    let owners = entries.iter().filter(|entry| owns(&entry["fieldsV1"], current, steps));
    // The API server writes all times in one form, so that their order is that of their texts.
    let Some(last) = owners.max_by_key(|entry| entry["time"].as_str()) else { return Evidence::default() };
    let text = |field: &str| last[field].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    Evidence {
        manager: text("manager").map(|manager| cut(manager, MAX_MANAGER)),
        operation: text("operation").filter(|operation| operation.len() <= 16),
        at: text("time").and_then(|time| time.parse().ok()),
        ..Evidence::default()
    }
}

/// Whether a set of fields contains a place: `f:` a field, `k:` the element with these fields, `v:`
/// the element that is this value. A field without fields of its own is owned as a whole.
fn owns(fields: &Value, current: &Value, steps: &[Step]) -> bool {
    let mut node = match fields.as_object() {
        Some(fields) if !fields.is_empty() => fields,
        _ => return false,
    };
    let mut value = current;
    for step in steps {
        let found = match step {
            Step::Field(name) => {
                value = &value[name.as_str()];
                node.get(&format!("f:{name}"))
            }
            Step::Element { at, .. } => {
                value = &value[*at];
                node.iter().find(|(key, _)| is_element(key, value)).map(|(_, fields)| fields)
            }
        };
        let Some(inner) = found.and_then(Value::as_object) else { return false };
        if inner.is_empty() {
            return true;
        }
        node = inner;
    }
    true
}

fn is_element(key: &str, element: &Value) -> bool {
    let parse = |text: &str| serde_json::from_str::<Value>(text).ok();
    if let Some(fields) = key.strip_prefix("k:").and_then(parse) {
        let mut fields = fields.as_object().into_iter().flatten().peekable();
        return fields.peek().is_some() && fields.all(|(field, value)| element[field.as_str()] == *value);
    }
    key.strip_prefix("v:").and_then(parse).is_some_and(|value| value == *element)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_is_too_long_is_cut_between_characters_and_says_so() {
        assert_eq!(cut("short".into(), 10), "short");
        for limit in 9..20 {
            let text = cut("é".repeat(40), limit);
            assert!(text.len() <= limit && text.ends_with(CUT), "{text}");
        }
    }

    #[test]
    fn a_field_is_owned_by_name_an_element_by_its_keys_and_a_whole_field_with_all_in_it() {
        let current = json!({"spec": {"ports": [{"port": 80, "protocol": "TCP", "name": "web"}], "list": ["a"], "atomic": {"x": 1}}});
        let fields = json!({"f:spec": {"f:ports": {r#"k:{"port":80,"protocol":"TCP"}"#: {".": {}, "f:name": {}}}, "f:list": {r#"v:"a""#: {}}, "f:atomic": {}}});
        let field = |name: &str| Step::Field(name.to_owned());
        let element = || Step::Element { name: "web".into(), at: 0 };
        let owns = |steps: &[Step]| owns(&fields, &current, steps);
        assert!(owns(&[field("spec"), field("ports"), element(), field("name")]));
        assert!(!owns(&[field("spec"), field("ports"), element(), field("targetPort")]));
        assert!(owns(&[field("spec"), field("ports"), element()]) && owns(&[field("spec"), field("list"), element()]));
        assert!(owns(&[field("spec"), field("atomic"), field("x")]));
        assert!(!owns(&[field("status")]));
        assert!(!super::owns(&json!({}), &current, &[field("spec")]) && !super::owns(&json!(7), &current, &[]));
    }
}
