//! What a write would change, for people: list elements by name instead of index, secrets as
//! digests, and limited in length.
//!
//! ```text
//! ~ spec.template.spec.containers[web].image: "web:1" -> "web:2"
//! + spec.ports[https]: {"port":443}
//! - metadata.labels.tier: "scratch"
//! ~ data.nginx.conf:
//!     line 12
//!     - listen 80;
//!     + listen 8080;
//! ```
//!
//! A Secret's value is shown as an HMAC under a key derived from the repository's key, and so is
//! any value that the redactor would hide. Equal values of one field have equal digests. Equal
//! values of two fields do not: otherwise a user who may write one field could guess what another
//! holds. For a kind that not all readers of reports may read, only the outermost fields are named
//! ([`withheld`]).

use crate::{
    api::canonical,
    redact::{REDACTED, redact},
    semantic::{DigestKey, Status, semantic},
};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// The fields that identify the elements of a list, by the list's field:
/// `x-kubernetes-list-map-keys` of the built-in kinds, or where those are less readable, what
/// people call the elements by. The first set of fields that all elements have, and that
/// distinguishes them, is used.
const LIST_KEYS: [(&str, &[&[&str]]); 23] = [
    ("containers", &[&["name"]]),
    ("initContainers", &[&["name"]]),
    ("ephemeralContainers", &[&["name"]]),
    ("env", &[&["name"]]),
    ("volumes", &[&["name"]]),
    ("volumeMounts", &[&["mountPath"]]),
    ("volumeDevices", &[&["devicePath"]]),
    ("ports", &[&["name"], &["containerPort", "protocol"], &["port", "protocol"], &["containerPort"], &["port"]]),
    ("imagePullSecrets", &[&["name"]]),
    ("secrets", &[&["name"]]),
    ("resourceClaims", &[&["name"]]),
    ("schedulingGates", &[&["name"]]),
    ("hostAliases", &[&["ip"]]),
    ("topologySpreadConstraints", &[&["topologyKey", "whenUnsatisfiable"]]),
    ("conditions", &[&["type"]]),
    ("readinessGates", &[&["conditionType"]]),
    ("ownerReferences", &[&["kind", "name"]]),
    ("volumeClaimTemplates", &[&["metadata.name"]]),
    ("subjects", &[&["kind", "namespace", "name"], &["kind", "name"]]),
    ("limits", &[&["type"]]),
    ("tolerations", &[&["key", "operator", "value", "effect"]]),
    ("tls", &[&["secretName"]]),
    ("rules", &[&["host"]]),
];

/// Fields that may identify the elements of any other list, such as a list in a custom resource.
const USUAL_KEYS: &[&[&str]] = &[&["name"], &["id"], &["key"]];

/// Maximum number of bytes shown of one value.
const MAX_VALUE: usize = 400;

/// Maximum number of lines shown of each side of a multi-line text.
const MAX_LINES: usize = 20;

/// The changes that a write would make.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diff {
    /// One entry per change; it has several lines if the value is a multi-line text.
    pub changes: Vec<String>,
    /// How many more changes did not fit.
    pub cut: usize,
}

impl Diff {
    /// Whether nothing would change.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.cut == 0
    }
}

impl std::fmt::Display for Diff {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for change in &self.changes {
            writeln!(formatter, "{change}")?;
        }
        if self.cut > 0 {
            writeln!(formatter, "… {} more changes, cut here", self.cut)?;
        }
        Ok(())
    }
}

/// Compares the live object with the wanted one, in at most about `limit` bytes.
///
/// Fields that do not count (see [`semantic`]) are not compared, nor are the uid and the creation
/// time.
#[must_use]
pub fn diff(live: &Value, wanted: &Value, status: Status, key: &DigestKey, limit: usize) -> Diff {
    let place = if is_secret(live, wanted) { Place::secret() } else { Place::default() };
    compare(&place, live, wanted, status, key, limit)
}

/// Same as [`diff`], for an object that not all readers of reports may read. For a Secret, the
/// result shows which of its values differ; for any other kind, which of its outermost fields
/// differ. All content is replaced by stand-ins.
#[must_use]
pub fn withheld(live: &Value, wanted: &Value, status: Status, key: &DigestKey, limit: usize) -> Diff {
    if is_secret(live, wanted) {
        compare(&Place { hidden: true, ..Place::secret() }, live, wanted, status, key, limit)
    } else {
        fields(live, wanted, status, key)
    }
}

fn is_secret(live: &Value, wanted: &Value) -> bool {
    live["kind"] == "Secret" || wanted["kind"] == "Secret"
}

fn compare(place: &Place, live: &Value, wanted: &Value, status: Status, key: &DigestKey, limit: usize) -> Diff {
    let object = json!([live["apiVersion"], live["kind"], live["metadata"]["name"]]);
    let mut comparison = Comparison { key, object, limit, bytes: 0, diff: Diff::default() };
    let (live, wanted) = (comparable(live, status), comparable(wanted, status));
    comparison.values(place, Some(&live), Some(&wanted));
    comparison.diff
}

fn fields(live: &Value, wanted: &Value, status: Status, key: &DigestKey) -> Diff {
    let object = json!([live["apiVersion"], live["kind"], live["metadata"]["name"]]);
    let (live, wanted) = (comparable(live, status), comparable(wanted, status));
    let mut changes = Vec::new();
    let nothing = json!({});
    for (path, live, wanted) in [
        ("", &live, &wanted),
        ("metadata.", live.get("metadata").unwrap_or(&nothing), wanted.get("metadata").unwrap_or(&nothing)),
    ] {
        let names = |object: &Value| object.as_object().into_iter().flat_map(Map::keys).cloned().collect::<Vec<_>>();
        let all: BTreeSet<String> = names(live).into_iter().chain(names(wanted)).collect();
        for name in all.into_iter().filter(|name| !path.is_empty() || name != "metadata") {
            let path = format!("{path}{name}");
            let show = |value: &Value| key.stand_in(&json!([object, path, value]));
            match (live.get(&name), wanted.get(&name)) {
                (Some(live), Some(wanted)) if live == wanted => {}
                (Some(live), Some(wanted)) => changes.push(format!("~ {path}: {} -> {}", show(live), show(wanted))),
                (Some(live), None) => changes.push(format!("- {path}: {}", show(live))),
                (None, Some(wanted)) => changes.push(format!("+ {path}: {}", show(wanted))),
                (None, None) => {}
            }
        }
    }
    Diff { changes, cut: 0 }
}

pub(crate) fn comparable(object: &Value, status: Status) -> Value {
    let mut object = semantic(object, status);
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        for field in ["uid", "creationTimestamp"] {
            metadata.remove(field);
        }
    }
    object
}

/// A position in the object, and whether its values may be shown.
#[derive(Clone, Debug, Default)]
pub(crate) struct Place {
    pub(crate) path: String,
    /// Name of the nearest field.
    pub(crate) field: String,
    /// Name of the nearest named element or field, such as an environment variable.
    label: String,
    depth: usize,
    /// Whether the object is a Secret, whose data and annotations are secret.
    in_secret: bool,
    pub(crate) hidden: bool,
}

impl Place {
    pub(crate) fn secret() -> Self {
        Self { in_secret: true, ..Self::default() }
    }

    pub(crate) fn field(&self, name: &str) -> Self {
        let path = if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) };
        let secret = self.in_secret && self.depth == 0 && matches!(name, "data" | "stringData");
        // Annotations may repeat the data: kubectl's does, and other tools have their own.
        let annotation = self.in_secret && self.path == "metadata" && name == "annotations";
        let hidden = self.hidden || secret || annotation;
        let generic = matches!(name, "value" | "image" | "name");
        let label = if generic && !self.label.is_empty() { self.label.clone() } else { name.to_owned() };
        Self { path, field: name.to_owned(), label, depth: self.depth + 1, hidden, ..self.clone() }
    }

    pub(crate) fn element(&self, name: &str) -> Self {
        Self { path: format!("{}[{name}]", self.path), label: name.to_owned(), depth: self.depth + 1, ..self.clone() }
    }
}

struct Comparison<'a> {
    key: &'a DigestKey,
    /// Identifies the object. A stand-in distinguishes two values of one field, and reveals nothing
    /// about any other field.
    object: Value,
    limit: usize,
    bytes: usize,
    diff: Diff,
}

impl Comparison<'_> {
    fn values(&mut self, place: &Place, live: Option<&Value>, wanted: Option<&Value>) {
        match (live, wanted) {
            (Some(live), Some(wanted)) if live == wanted => {}
            (Some(Value::Object(live)), Some(Value::Object(wanted))) => self.maps(place, live, wanted),
            (Some(Value::Array(live)), Some(Value::Array(wanted))) => self.lists(place, live, wanted),
            (Some(live), Some(wanted)) => self.change(place, live, wanted),
            // Inside a map that holds secrets, each value has its own digest.
            (None, Some(Value::Object(wanted))) if place.hidden && !wanted.is_empty() => {
                self.maps(place, &Map::new(), wanted);
            }
            (Some(Value::Object(live)), None) if place.hidden && !live.is_empty() => {
                self.maps(place, live, &Map::new());
            }
            (None, Some(wanted)) => self.put(format!("+ {}: {}", place.path, self.show(place, wanted))),
            (Some(live), None) => self.put(format!("- {}: {}", place.path, self.show(place, live))),
            (None, None) => {}
        }
    }

    fn maps(&mut self, place: &Place, live: &Map<String, Value>, wanted: &Map<String, Value>) {
        let keys: BTreeSet<&String> = live.keys().chain(wanted.keys()).collect();
        for key in keys {
            self.values(&place.field(key), live.get(key), wanted.get(key));
        }
    }

    fn lists(&mut self, place: &Place, live: &[Value], wanted: &[Value]) {
        if place.hidden {
            // The names of the elements are values, too.
            self.change(place, &Value::Array(live.to_vec()), &Value::Array(wanted.to_vec()));
        } else if let Some((live_names, wanted_names)) = names(&place.field, live, wanted) {
            for (name, element) in live_names.iter().zip(live) {
                let same = wanted_names.iter().position(|other| other == name);
                self.values(&place.element(name), Some(element), same.map(|place| &wanted[place]));
            }
            for (name, element) in wanted_names.iter().zip(wanted).filter(|(name, _)| !live_names.contains(name)) {
                self.values(&place.element(name), None, Some(element));
            }
            let common = |names: &[String], others: &[String]| -> Vec<String> {
                names.iter().filter(|name| others.contains(name)).cloned().collect()
            };
            let (was, becomes) = (common(&live_names, &wanted_names), common(&wanted_names, &live_names));
            if was != becomes {
                let line = format!("~ {}: order {} -> {}", place.path, was.join(", "), becomes.join(", "));
                self.put(bounded(&line, MAX_VALUE));
            }
        } else if live.iter().chain(wanted).all(|element| !element.is_object() && !element.is_array()) {
            self.change(place, &Value::Array(live.to_vec()), &Value::Array(wanted.to_vec()));
        } else {
            for number in 0..live.len().max(wanted.len()) {
                self.values(&place.element(&number.to_string()), live.get(number), wanted.get(number));
            }
        }
    }

    fn change(&mut self, place: &Place, live: &Value, wanted: &Value) {
        if let (Value::String(live), Value::String(wanted)) = (live, wanted)
            && (live.contains('\n') || wanted.contains('\n'))
            && !hides(place, live)
            && !hides(place, wanted)
        {
            let lines = lines(live, wanted);
            return self.put(format!("~ {}:\n{}", place.path, redact(&lines)));
        }
        self.put(format!("~ {}: {} -> {}", place.path, self.show(place, live), self.show(place, wanted)));
    }

    /// The value as text, or its stand-in.
    fn show(&self, place: &Place, value: &Value) -> String {
        let text = String::from_utf8_lossy(&canonical::to_vec(value)).into_owned();
        if hides(place, value.as_str().unwrap_or(&text)) {
            return self.key.stand_in(&json!([self.object, place.path, value]));
        }
        bounded(&redact(&text), MAX_VALUE)
    }

    fn put(&mut self, change: String) {
        // After the first cut, every later change is cut too: the result is a prefix, not a
        // selection.
        if self.diff.cut > 0 || self.bytes + change.len() + 1 > self.limit {
            self.diff.cut += 1;
        } else {
            self.bytes += change.len() + 1;
            self.diff.changes.push(change);
        }
    }
}

/// Whether a value must not be shown. Whatever the redactor hides in text must be hidden in fields
/// too, so the redactor gets the label and the first line of the value as text.
pub(crate) fn hides(place: &Place, value: &str) -> bool {
    let beginning = value.lines().next().unwrap_or_default();
    place.hidden || redact(&format!("{}={beginning}", place.label)).starts_with(&format!("{}={REDACTED}", place.label))
}

/// The names of all elements of both lists, if every element has a name and the names are distinct.
pub(crate) fn names(field: &str, live: &[Value], wanted: &[Value]) -> Option<(Vec<String>, Vec<String>)> {
    if live.is_empty() && wanted.is_empty() {
        return None;
    }
    let keys = LIST_KEYS.iter().find(|(name, _)| *name == field).map_or(USUAL_KEYS, |(_, keys)| *keys);
    keys.iter().find_map(|fields| {
        let named = |elements: &[Value]| {
            let names: Vec<String> = elements.iter().map(|element| name(element, fields)).collect::<Option<_>>()?;
            let distinct: BTreeSet<&String> = names.iter().collect();
            (distinct.len() == names.len()).then_some(names)
        };
        Some((named(live)?, named(wanted)?))
    })
}

fn name(element: &Value, fields: &[&str]) -> Option<String> {
    let part = |field: &&str| {
        let value = field.split('.').try_fold(element, |value, step| value.get(step))?;
        match value {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        }
    };
    // A name of one or two fields needs all of them; of three or more, some may be missing, as in
    // tolerations.
    let parts: Vec<Option<String>> = fields.iter().map(part).collect();
    let missing_allowed = fields.len() > 2;
    if parts.iter().all(Option::is_none) || (!missing_allowed && parts.iter().any(Option::is_none)) {
        return None;
    }
    Some(parts.into_iter().flatten().collect::<Vec<_>>().join("/"))
}

/// The lines in which two texts differ, without their common beginning and end.
fn lines(live: &str, wanted: &str) -> String {
    let (live, wanted): (Vec<&str>, Vec<&str>) = (live.split('\n').collect(), wanted.split('\n').collect());
    let start = live.iter().zip(&wanted).take_while(|(one, other)| one == other).count();
    let shared = live[start..].iter().rev().zip(wanted[start..].iter().rev()).take_while(|(one, other)| one == other);
    let end = shared.count();
    let mut shown = vec![format!("    line {}", start + 1)];
    for (sign, lines) in [('-', &live[start..live.len() - end]), ('+', &wanted[start..wanted.len() - end])] {
        shown.extend(lines.iter().take(MAX_LINES).map(|line| format!("    {sign} {}", bounded(line, MAX_VALUE))));
        if lines.len() > MAX_LINES {
            shown.push(format!("    {sign} … {} more lines, cut here", lines.len() - MAX_LINES));
        }
    }
    shown.join("\n")
}

fn bounded(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let end = (0..=limit).rev().find(|place| text.is_char_boundary(*place)).unwrap_or(0);
    format!("{}… (cut here, {} bytes in all)", &text[..end], text.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key() -> DigestKey {
        DigestKey::new(*b"0123456789abcdef")
    }

    fn changes(live: &Value, wanted: &Value) -> Vec<String> {
        let diff = diff(live, wanted, Status::Observed, &key(), 100_000);
        assert_eq!(diff.cut, 0);
        diff.changes
    }

    #[test]
    fn fields_are_added_removed_and_changed_by_their_path() {
        let live =
            json!({"kind": "X", "metadata": {"name": "a", "labels": {"tier": "x"}}, "spec": {"n": 1, "same": [1]}});
        let wanted =
            json!({"kind": "X", "metadata": {"name": "a"}, "spec": {"n": 2, "same": [1], "deep": {"er": true}}});
        assert_eq!(
            changes(&live, &wanted),
            [r#"- metadata.labels: {"tier":"x"}"#, r#"+ spec.deep: {"er":true}"#, "~ spec.n: 1 -> 2"]
        );
    }

    #[test]
    fn elements_go_by_name_wherever_they_stand() {
        let pod = |containers: Value| json!({"spec": {"containers": containers}});
        let live = pod(
            json!([{"name": "web", "image": "web:1", "env": [{"name": "A", "value": "1"}], "ports": [{"name": "http", "containerPort": 80}]}, {"name": "proxy"}]),
        );
        let wanted = pod(
            json!([{"name": "proxy"}, {"name": "web", "image": "web:2", "env": [{"name": "B", "value": "2"}, {"name": "A", "value": "1"}], "ports": [{"name": "http", "containerPort": 81}]}]),
        );
        assert_eq!(
            changes(&live, &wanted),
            [
                r#"+ spec.containers[web].env[B]: {"name":"B","value":"2"}"#,
                r#"~ spec.containers[web].image: "web:1" -> "web:2""#,
                "~ spec.containers[web].ports[http].containerPort: 80 -> 81",
                "~ spec.containers: order web, proxy -> proxy, web",
            ]
        );
    }

    #[test]
    fn ports_without_names_go_by_number_and_lists_without_names_by_place() {
        let ports = |port: Value| json!({"spec": {"ports": [{"port": 80, "protocol": "TCP"}, port]}});
        let (live, wanted) = (
            ports(json!({"port": 53, "protocol": "UDP", "targetPort": 1})),
            ports(json!({"port": 53, "protocol": "UDP", "targetPort": 2})),
        );
        assert_eq!(changes(&live, &wanted), ["~ spec.ports[53/UDP].targetPort: 1 -> 2"]);
        let list = |number: u8| json!({"spec": {"steps": [{"run": 1}, {"run": number}]}});
        assert_eq!(changes(&list(2), &list(3)), ["~ spec.steps[1].run: 2 -> 3"]);
        let named = |number: u8| json!({"spec": {"parts": [{"name": "a", "n": 1}, {"name": "b", "n": number}]}});
        assert_eq!(changes(&named(2), &named(3)), ["~ spec.parts[b].n: 2 -> 3"], "custom resources mostly use names");
        let twice = |number: u8| json!({"spec": {"parts": [{"name": "a"}, {"name": "a", "n": number}]}});
        assert_eq!(changes(&twice(2), &twice(3)), ["~ spec.parts[1].n: 2 -> 3"], "a name borne twice tells nothing");
    }

    #[test]
    fn a_text_of_several_lines_shows_the_lines_that_differ() {
        let map = |text: &str| json!({"kind": "ConfigMap", "data": {"nginx.conf": text}});
        assert_eq!(
            changes(&map("a\nlisten 80;\nz\n"), &map("a\nlisten 8080;\nb\nz\n")),
            ["~ data.nginx.conf:\n    line 2\n    - listen 80;\n    + listen 8080;\n    + b"]
        );
        let long = "x\n".repeat(100);
        assert!(changes(&map("a\nb"), &map(&long))[0].ends_with("+ … 81 more lines, cut here"));
    }

    #[test]
    fn values_of_a_secret_show_only_whether_they_are_equal() {
        let secret = |value: &str| {
            let applied = json!({"data": {"password": value}}).to_string();
            json!({"kind": "Secret", "type": "Opaque", "data": {"password": value, "user": "YWRh"},
                "metadata": {"name": "s", "annotations": {"kubectl.kubernetes.io/last-applied-configuration": applied}}})
        };
        let text = diff(&secret("aHVudGVyMg=="), &secret("c2VjcmV0"), Status::Observed, &key(), 10_000).to_string();
        assert!(text.contains("~ data.password: hmac:"), "{text}");
        assert!(text.contains("last-applied-configuration: hmac:"), "{text}");
        for hidden in ["aHVudGVyMg", "c2VjcmV0", "YWRh"] {
            assert!(!text.contains(hidden), "{hidden} in {text}");
        }
        // A Secret that is created or deleted as a whole.
        let bare = json!({"kind": "Secret", "metadata": {"name": "s"}});
        for text in [changes(&bare, &secret("c2VjcmV0")).join("\n"), changes(&secret("c2VjcmV0"), &bare).join("\n")] {
            assert!(
                text.contains("data.user: hmac:") && !text.contains("YWRh") && !text.contains("c2VjcmV0"),
                "{text}"
            );
        }
    }

    #[test]
    fn what_the_redactor_hides_in_words_is_hidden_in_fields() {
        let pod = |value: &str| json!({"spec": {"containers": [{"name": "c", "env": [{"name": "DB_PASSWORD", "value": value}]}]}});
        let text = changes(&pod("hunter2"), &pod("hunter3")).join("\n");
        assert!(
            text.starts_with("~ spec.containers[c].env[DB_PASSWORD].value: hmac:") && !text.contains("hunter"),
            "{text}"
        );
        let url = |user: &str| json!({"spec": {"url": format!("https://{user}@db.example.com/x")}});
        let text = changes(&url("ada:hunter2"), &url("ada:hunter3")).join("\n");
        assert!(!text.contains("hunter"), "{text}");
    }

    #[test]
    fn what_does_not_count_is_not_shown() {
        let live = json!({"kind": "X", "metadata": {"name": "a", "uid": "u", "resourceVersion": "3", "creationTimestamp": "t"}, "status": 1});
        let diff = diff(&live, &json!({"kind": "X", "metadata": {"name": "a"}}), Status::Observed, &key(), 1000);
        assert!(diff.is_empty(), "{diff}");
    }

    #[test]
    fn what_is_too_long_is_cut_and_says_so() {
        let map = |value: &str| json!({"data": (0..100).map(|number| (format!("k{number:02}"), json!(value))).collect::<Map<_, _>>()});
        let diff = diff(&map("a"), &map("b"), Status::Observed, &key(), 300);
        let text = diff.to_string();
        assert!(diff.changes.len() < 100 && diff.changes.len() + diff.cut == 100, "{text}");
        assert!(text.ends_with(&format!("… {} more changes, cut here\n", diff.cut)), "{text}");
        let long = changes(&json!({"a": "x"}), &json!({"a": "é".repeat(1000)}));
        assert!(long[0].len() < 500 && long[0].ends_with("… (cut here, 2002 bytes in all)"), "{long:?}");
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i8>().prop_map(Value::from),
            "[a-c\n]{0,3}".prop_map(Value::from)
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            let keys =
                prop::sample::select(vec!["name", "containers", "ports", "port", "data", "spec", "metadata", "x"]);
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(keys, inner, 0..4).prop_map(|map| map
                    .into_iter()
                    .map(|(key, value)| (key.to_owned(), value))
                    .collect::<Map<_, _>>()
                    .into()),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_diff_is_empty_exactly_when_nothing_that_counts_differs(live in any_json(), wanted in any_json(), limit in 0_usize..2000) {
            let whole = diff(&live, &wanted, Status::Observed, &key(), usize::MAX);
            prop_assert_eq!(whole.is_empty(), comparable(&live, Status::Observed) == comparable(&wanted, Status::Observed), "{}", whole);
            let short = diff(&live, &wanted, Status::Observed, &key(), limit);
            prop_assert_eq!(short.changes.len() + short.cut, whole.changes.len());
            prop_assert!(short.changes.iter().map(|change| change.len() + 1).sum::<usize>() <= limit);
        }
    }

    #[test]
    fn what_is_secret_in_a_secret_is_its_data_and_its_annotations_and_in_other_kinds_what_its_name_says() {
        let secret = |value: &str| json!({"kind": "Secret", "type": value, "metadata": {"labels": {"data": value}, "annotations": {"a": value}}});
        let all = changes(&secret("x"), &secret("y"));
        assert_eq!(
            (all[1].as_str(), all[2].as_str()),
            (r#"~ metadata.labels.data: "x" -> "y""#, r#"~ type: "x" -> "y""#)
        );
        assert!(all[0].starts_with("~ metadata.annotations.a: hmac:"), "{all:?}");
        let map = |value: &str| json!({"kind": "ConfigMap", "metadata": {"annotations": {"a": value}}});
        assert_eq!(changes(&map("x"), &map("y")), [r#"~ metadata.annotations.a: "x" -> "y""#]);
        let nested = |value: &str| json!({"spec": {"database": {"password": value}}});
        let hidden = changes(&nested("hunter2"), &nested("hunter3"));
        assert!(hidden[0].starts_with("~ spec.database.password: hmac:"), "{hidden:?}");
        let data = |kind: &str| json!({"kind": kind, "data": {"p": "x"}});
        for (live, wanted) in [(data("Secret"), data("")), (data(""), data("Secret"))] {
            let mut wanted = wanted;
            wanted["data"]["p"] = json!("y");
            assert!(changes(&live, &wanted)[0].starts_with("~ data.p: hmac:"), "one of them is a Secret");
        }
    }

    #[test]
    fn of_what_not_all_may_read_only_the_outermost_fields_that_differ_are_named() {
        let withheld = |live: &Value, wanted: &Value| {
            let diff = withheld(live, wanted, Status::Observed, &key(), 10_000);
            let names = diff.changes.iter().map(|change| change.split_once(": ").expect("a name").0.to_owned());
            (names.collect::<Vec<_>>(), diff.to_string())
        };
        let live = json!({"kind": "Role", "metadata": {"name": "a", "labels": {"l": "one"}}, "rules": ["two"], "left": "three"});
        let wanted = json!({"kind": "Role", "metadata": {"name": "a", "labels": {"l": "four"}}, "rules": ["five"], "added": "six"});
        let (names, text) = withheld(&live, &wanted);
        assert_eq!(names, ["+ added", "- left", "~ rules", "~ metadata.labels"]);
        assert_eq!(text.matches("hmac:").count(), 6);
        for value in ["one", "two", "three", "four", "five", "six"] {
            assert!(!text.contains(value), "{value} in {text}");
        }
        let secret =
            |value: &str| json!({"kind": "Secret", "metadata": {"labels": {"l": value}}, "data": {"p": "same"}});
        let (names, text) = withheld(&secret("one"), &secret("two"));
        assert_eq!(
            (names, text.contains("one") || text.contains("two")),
            (vec!["~ metadata.labels.l".to_owned()], false)
        );
    }

    #[test]
    fn lists_of_plain_values_change_as_a_whole_and_an_empty_one_gains_elements_by_name() {
        let of = |field: &str, list: Value| json!({"spec": {field: list}});
        assert_eq!(
            changes(&of("args", json!(["a"])), &of("args", json!(["a", "b"]))),
            [r#"~ spec.args: ["a"] -> ["a","b"]"#]
        );
        assert_eq!(
            changes(&of("containers", json!([])), &of("containers", json!([{"name": "web"}]))),
            [r#"+ spec.containers[web]: {"name":"web"}"#]
        );
        let toleration = |seconds: u8| json!([{"key": "a", "effect": "NoExecute", "tolerationSeconds": seconds}]);
        assert_eq!(
            changes(&of("tolerations", toleration(1)), &of("tolerations", toleration(2))),
            ["~ spec.tolerations[a/NoExecute].tolerationSeconds: 1 -> 2"],
            "a toleration need not have all four"
        );
    }

    #[test]
    fn a_text_of_one_line_that_gains_others_is_shown_by_lines_and_twenty_are_not_cut() {
        let map = |text: &str| json!({"data": {"x": text}});
        assert_eq!(changes(&map("a"), &map("a\nb")), ["~ data.x:\n    line 2\n    + b"]);
        assert_eq!(changes(&map("a\nb"), &map("a")), ["~ data.x:\n    line 2\n    - b"]);
        let twenty = format!("a{}", "\nx".repeat(20));
        assert!(!changes(&map("a"), &map(&twenty))[0].contains("cut"));
    }

    #[test]
    fn a_diff_has_the_bytes_that_it_may_have_and_nothing_after_its_first_cut() {
        let limited = |wanted: Value, limit: usize| {
            let diff = diff(&json!({"a": 1, "b": 1, "c": 1}), &wanted, Status::Observed, &key(), limit);
            (diff.changes.len(), diff.cut)
        };
        // Each change is `~ a: 1 -> 2` and the end of its line: twelve bytes.
        let both = json!({"a": 2, "b": 2, "c": 1});
        assert_eq!([24, 23, 12, 11].map(|limit| limited(both.clone(), limit)), [(2, 0), (1, 1), (1, 1), (0, 2)]);
        let long_first = json!({"a": 2, "b": "long".repeat(20), "c": 2});
        assert_eq!(limited(long_first, 30), (1, 2), "the third would fit, but a diff is a prefix");
        let whole = Diff { changes: vec!["~ a: 1 -> 2".to_owned()], cut: 0 };
        assert_eq!(whole.to_string(), "~ a: 1 -> 2\n");
    }
}
