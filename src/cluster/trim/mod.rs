//! Trims responses of the API server while they are read: what no code reads is dropped, and what
//! is too large is not parsed.
//!
//! A tenant decides how large its objects are, up to what the API server stores, and in which
//! shape. Parsed, the worst JSON takes a hundred times as much memory as its text. So the limit
//! applies to the text, before it is parsed, for every kind. A value that is too large is left out,
//! and an annotation that no user can set ([`LEFT_OUT`]) names it. Code that needs the value reads
//! that one object, with larger limits. An object with a value that is left out even then is
//! refused.
//!
//! Of metadata, only what is listed here is kept. A label or an annotation that is missing here
//! reads as empty.

mod limits;

pub use limits::{HELD, LEFT_OUT, Limits, OF_TYPES, READ, left_out};

use limits::{ANNOTATIONS, AROUND, LABELS, METADATA, OF_ORDERS, OF_RECORDS, OF_WORK, UNREAD};

/// Shape of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One object.
    Object,
    /// A list of objects.
    List,
    /// One line per event, with an object in each.
    Events,
}

impl Shape {
    /// Number of containers around an object.
    fn around(self) -> usize {
        match self {
            Self::Object => 0,
            Self::Events => 1,
            Self::List => 2,
        }
    }
}

/// Trims a response piece by piece.
pub struct Trim {
    shape: Shape,
    limits: Limits,
    unread: &'static [&'static [&'static str]],
    /// Whether labels are kept that no code names: users select tenants by them.
    all_labels: bool,
    /// What is kept of the object being read, and of earlier ones until it is handed over.
    kept: Vec<u8>,
    open: Vec<Container>,
    /// Whether a string is being read, and whether it is a key.
    string: Option<Text>,
    /// Whether the last byte was a backslash.
    escaped: bool,
    /// Where in `kept` a character begins that is written as a number.
    unicode: Option<usize>,
    /// What is being left out.
    skip: Option<Skip>,
    /// Where the metadata and the annotations of this object begin, after their brackets.
    metadata: Option<usize>,
    annotations: Option<usize>,
    left_out: Vec<String>,
    /// Whether the list member being read is its items. Not derived from the key, which may have
    /// been handed over by now.
    in_items: bool,
    /// End of what may be handed over of `kept`.
    ready: usize,
}

struct Container {
    is_object: bool,
    /// Whether a member of it was kept.
    has_members: bool,
    /// Whether a member is being read.
    in_member: bool,
    /// Where in `kept` the member begins, including its comma.
    begin: usize,
    /// Where in `kept` its key is.
    key: (usize, usize),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Text {
    Key,
    Value,
}

/// The rest of a member, up to the comma or bracket that ends it.
struct Skip {
    depth: usize,
    in_string: bool,
}

/// How many paths are named.
const NAMED: usize = 4;

impl Trim {
    /// Creates a trim for the response to a call, as [`Call`](super::client::Call) names it.
    #[must_use]
    pub fn of(verb: &str, resource: &str) -> Self {
        let shape = match verb {
            "list" => Shape::List,
            "watch" => Shape::Events,
            _ => Shape::Object,
        };
        let resource = resource.split('/').next().unwrap_or_default();
        let limits = match resource {
            "pods" | "jobs.batch" => OF_WORK,
            // They contain templates, schemas and lists, and are written by cluster administrators.
            "operationtypes.tenantatlas.io" | "workspaces.tenantatlas.io" | "workspaceruns.tenantatlas.io" => OF_TYPES,
            // Read by a caller that waits for them, and not cached.
            "auditentries.tenantatlas.io"
            | "tokenreviews.authentication.k8s.io"
            | "subjectaccessreviews.authorization.k8s.io"
            | "localsubjectaccessreviews.authorization.k8s.io" => READ,
            _ if verb == "get" => READ,
            "restoreruns.tenantatlas.io" | "bulkoperationruns.tenantatlas.io" | "backupschedules.tenantatlas.io" => {
                OF_ORDERS
            }
            _ if resource.ends_with(".velero.io") || resource.ends_with(".k8up.io") => OF_RECORDS,
            _ => HELD,
        };
        let unread = UNREAD.iter().find(|(of, _)| *of == resource).map_or(&[][..], |(_, paths)| *paths);
        Self { all_labels: resource == "namespaces", ..Self::new(shape, limits, unread) }
    }

    fn new(shape: Shape, limits: Limits, unread: &'static [&'static [&'static str]]) -> Self {
        Self {
            shape,
            limits,
            unread,
            all_labels: false,
            kept: Vec::new(),
            open: Vec::new(),
            string: None,
            escaped: false,
            unicode: None,
            skip: None,
            metadata: None,
            annotations: None,
            left_out: Vec::new(),
            in_items: false,
            ready: 0,
        }
    }

    /// Takes a piece. Returns what can be handed over of it and of earlier pieces.
    pub fn take(&mut self, piece: &[u8]) -> Vec<u8> {
        let mut rest = piece;
        while !rest.is_empty() {
            rest = if self.skip.is_some() {
                self.skip(rest)
            } else if self.string.is_some() {
                self.text(rest)
            } else {
                self.byte(rest[0]);
                &rest[1..]
            };
        }
        if self.ready == 0 {
            return Vec::new();
        }
        let rest = self.kept.split_off(self.ready);
        for container in &mut self.open {
            container.begin = container.begin.saturating_sub(self.ready);
            container.key = (container.key.0.saturating_sub(self.ready), container.key.1.saturating_sub(self.ready));
        }
        self.metadata = self.metadata.map(|at| at.saturating_sub(self.ready));
        self.annotations = self.annotations.map(|at| at.saturating_sub(self.ready));
        self.ready = 0;
        std::mem::replace(&mut self.kept, rest)
    }

    /// Ends the response. Returns what exists of an incomplete object.
    pub fn end(&mut self) -> Vec<u8> {
        self.ready = 0;
        std::mem::take(&mut self.kept)
    }

    /// Processes one byte outside of strings.
    fn byte(&mut self, byte: u8) {
        match byte {
            b' ' | b'\t' | b'\r' => return,
            b'\n' => {
                if self.open.is_empty() && !self.kept.is_empty() {
                    self.kept.push(byte);
                    self.ready = self.kept.len();
                }
                return;
            }
            b',' => {
                self.member_ends();
                return;
            }
            b'}' | b']' => {
                self.member_ends();
                self.close(byte);
                return;
            }
            b':' => {
                self.kept.push(byte);
                self.key_is_known();
                return;
            }
            _ => {}
        }
        let begins = self.member_begins();
        self.kept.push(byte);
        match byte {
            b'{' | b'[' => self.opens(byte == b'{'),
            b'"' => {
                let of_object = self.open.last().is_some_and(|container| container.is_object);
                let is_key = begins && of_object;
                if is_key && let Some(container) = self.open.last_mut() {
                    container.key = (self.kept.len(), self.kept.len());
                }
                self.string = Some(if is_key { Text::Key } else { Text::Value });
            }
            _ => self.hold_limits(),
        }
    }

    fn opens(&mut self, is_object: bool) {
        let begin = self.kept.len();
        if is_object {
            if self.is_at(&["metadata"]) {
                self.metadata = Some(begin);
            } else if self.is_at(&["metadata", "annotations"]) {
                self.annotations = Some(begin);
            }
        }
        self.open.push(Container { is_object, has_members: false, in_member: false, begin, key: (begin, begin) });
        if self.open.len() == self.shape.around() + 1 {
            (self.metadata, self.annotations) = (None, None);
            self.left_out.clear();
        }
        self.hold_limits();
    }

    fn close(&mut self, byte: u8) {
        let is_object = self.open.len() == self.shape.around() + 1 && self.is_in_place();
        if is_object {
            self.tell_what_was_left_out();
        }
        self.open.pop();
        self.kept.push(byte);
        if is_object {
            self.ready = self.kept.len();
        }
        self.hold_limits();
    }

    /// Whether the innermost containers around an object are the expected ones: an error in place
    /// of a list is not an object of it.
    fn is_in_place(&self) -> bool {
        match self.shape {
            Shape::Object => true,
            Shape::Events => self.open.first().is_some_and(|event| self.key(event) == b"object"),
            Shape::List => self.in_items,
        }
    }

    fn member_begins(&mut self) -> bool {
        let at = self.kept.len();
        let Some(container) = self.open.last_mut() else { return false };
        if container.in_member {
            return false;
        }
        container.in_member = true;
        container.begin = at;
        if container.has_members {
            self.kept.push(b',');
        }
        true
    }

    fn member_ends(&mut self) {
        if let Some(container) = self.open.last_mut()
            && container.in_member
        {
            container.in_member = false;
            container.has_members = true;
        }
    }

    fn key<'a>(&'a self, container: &Container) -> &'a [u8] {
        self.kept.get(container.key.0..container.key.1).unwrap_or_default()
    }

    /// The containers of the object being read, outermost first.
    fn of_object(&self) -> &[Container] {
        self.open.get(self.shape.around()..).filter(|_| self.is_in_place()).unwrap_or_default()
    }

    /// Whether the member being read has this path within its object.
    fn is_at(&self, path: &[&str]) -> bool {
        let open = self.of_object();
        open.len() == path.len()
            && open.iter().zip(path).all(|(container, step)| {
                if container.is_object { self.key(container) == step.as_bytes() } else { *step == "[]" }
            })
    }

    /// Called when a key has been read. Leaves out the value if no code reads it.
    fn key_is_known(&mut self) {
        if let [list] = self.open.as_slice() {
            self.in_items = self.key(list) == b"items";
        }
        let open = self.of_object();
        let keys = || open.iter().map(|container| self.key(container));
        let is_in = |list: &[&str], key: &[u8]| list.iter().any(|one| one.as_bytes() == key);
        let path: Vec<&[u8]> = keys().take(4).collect();
        let is_listed = match path.as_slice() {
            [b"metadata", key] => is_in(&METADATA, key),
            [b"metadata", b"labels", key] => is_in(&LABELS, key) || self.takes_label(),
            [b"metadata", b"annotations", key] => is_in(&ANNOTATIONS, key),
            _ => true,
        };
        if !is_listed || self.unread.iter().any(|path| self.is_at(path)) {
            self.leave(self.open.len() - 1);
        }
    }

    /// Whether a label is kept that no code names. There is room for so many of them that they never
    /// push out those that are named.
    fn takes_label(&mut self) -> bool {
        // `labels` is the current member of `metadata`.
        let size = self.of_object().get(1).map_or(0, |metadata| self.kept.len() - metadata.begin);
        let has_room = self.all_labels && size < self.limits.field / 2;
        if self.all_labels && !has_room && !self.left_out.iter().any(|path| path == "metadata.labels") {
            self.left_out.push("metadata.labels".to_owned());
        }
        has_room
    }

    /// Leaves out the current member of a container, from its beginning to its end.
    fn leave(&mut self, of: usize) {
        let Some(container) = self.open.get_mut(of) else { return };
        container.in_member = false;
        self.kept.truncate(container.begin);
        self.unicode = None;
        self.skip = Some(Skip { depth: self.open.len() - 1 - of, in_string: self.string.take().is_some() });
        self.open.truncate(of + 1);
        let length = self.kept.len();
        self.metadata = self.metadata.filter(|at| *at <= length);
        self.annotations = self.annotations.filter(|at| *at <= length);
    }

    /// Leaves out what has become too large.
    fn hold_limits(&mut self) {
        let around = self.shape.around();
        let Limits { object, section, field, value } = self.limits;
        let length = self.kept.len();
        let size = |of: usize| self.open.get(of).filter(|one| one.in_member).map_or(0, |one| length - one.begin);
        if !self.is_in_place() {
            if !self.open.is_empty() && size(0) > AROUND {
                self.leave(0);
            }
            return;
        }
        if self.open.len() <= around {
            return;
        }
        let deepest = self.open.len() - 1;
        let too_large = if size(around + 2) > value {
            Some(around + 2)
        } else if size(around + 1) > field {
            Some(around + 1)
        } else if size(around) > section {
            // This is one of many members. What was read before it is kept.
            Some(deepest.min(around + 1))
        } else if length - self.open.get(around).map_or(0, |_| self.begin_of_object()) > object {
            Some(deepest.min(around + 1))
        } else {
            None
        };
        if let Some(of) = too_large {
            if self.left_out.len() < NAMED {
                let path = self.path(of);
                self.left_out.push(path);
            }
            self.leave(of);
        }
    }

    fn begin_of_object(&self) -> usize {
        match self.shape.around().checked_sub(1).and_then(|parent| self.open.get(parent)) {
            Some(parent) => parent.begin,
            None => 0,
        }
    }

    /// The path of a member, without characters that none of our paths contains.
    fn path(&self, of: usize) -> String {
        let steps = self.open.iter().take(of + 1).skip(self.shape.around());
        let steps = steps.map(|container| {
            if !container.is_object {
                return "[]".to_owned();
            }
            // The key itself may be what is too large, and still be incomplete.
            let unfinished = self.string == Some(Text::Key) && container.key.0 == container.key.1;
            let end = if unfinished { self.kept.len() } else { container.key.1 };
            let key = String::from_utf8_lossy(self.kept.get(container.key.0..end).unwrap_or_default());
            key.chars().filter(|one| one.is_ascii_alphanumeric() || "-_.".contains(*one)).take(40).collect()
        });
        steps.collect::<Vec<String>>().join(".")
    }

    fn tell_what_was_left_out(&mut self) {
        if self.left_out.is_empty() {
            return;
        }
        let told = format!("\"{LEFT_OUT}\":\"{}\"", self.left_out.join(","));
        let (at, text) = match (self.annotations, self.metadata) {
            (Some(at), _) => (at, told),
            (None, Some(at)) => (at, format!("\"annotations\":{{{told}}}")),
            (None, None) => return,
        };
        let comma = if self.kept.get(at) == Some(&b'}') { "" } else { "," };
        self.kept.splice(at..at, format!("{text}{comma}").into_bytes());
    }

    /// Processes bytes of a string, up to its end or the end of the piece.
    fn text<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        if self.escaped {
            self.escaped = false;
            self.unicode = (bytes[0] == b'u').then_some(self.kept.len() - 1);
            self.kept.push(bytes[0]);
            return &bytes[1..];
        }
        let end = bytes.iter().position(|byte| matches!(byte, b'"' | b'\\')).unwrap_or(bytes.len());
        self.kept.extend_from_slice(&bytes[..end]);
        self.unescape();
        match bytes.get(end) {
            Some(b'"') => {
                if self.string.take() == Some(Text::Key) {
                    let length = self.kept.len();
                    if let Some(container) = self.open.last_mut() {
                        container.key.1 = length;
                    }
                }
                self.kept.push(b'"');
            }
            Some(_) => {
                self.escaped = true;
                self.kept.push(b'\\');
            }
            None => {}
        }
        self.hold_limits();
        bytes.get(end + 1..).unwrap_or_default()
    }

    /// The API server writes `<`, `>` and `&` with six bytes. They count as they were sent.
    fn unescape(&mut self) {
        let Some(at) = self.unicode else { return };
        let Some(digits) = self.kept.get(at + 2..at + 6) else { return };
        let meant = match digits {
            b"003c" => Some(b'<'),
            b"003e" => Some(b'>'),
            b"0026" => Some(b'&'),
            _ => None,
        };
        if let Some(byte) = meant {
            self.kept.splice(at..at + 6, [byte]);
        }
        self.unicode = None;
    }

    /// Skips bytes of what is left out, up to its end or the end of the piece.
    fn skip<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let Some(skip) = &mut self.skip else { return bytes };
        for (at, byte) in bytes.iter().enumerate() {
            if self.escaped {
                self.escaped = false;
            } else if skip.in_string {
                match byte {
                    b'"' => skip.in_string = false,
                    b'\\' => self.escaped = true,
                    _ => {}
                }
            } else {
                match byte {
                    b'"' => skip.in_string = true,
                    b'{' | b'[' => skip.depth += 1,
                    b',' | b'}' | b']' if skip.depth == 0 => {
                        self.skip = None;
                        return &bytes[at..];
                    }
                    b'}' | b']' => skip.depth -= 1,
                    _ => {}
                }
            }
        }
        &[]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::labels;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    const SMALL: Limits = Limits { object: 400, section: 200, field: 100, value: 50 };

    /// What is kept of a response that arrives in pieces of this size.
    fn kept_in(shape: Shape, limits: Limits, text: &str, piece: usize) -> String {
        let mut trim = Trim::new(shape, limits, UNREAD[0].1);
        let mut kept: Vec<u8> = text.as_bytes().chunks(piece.max(1)).flat_map(|piece| trim.take(piece)).collect();
        kept.extend(trim.end());
        String::from_utf8(kept).expect("text")
    }

    fn kept(object: &Value) -> Value {
        let text = object.to_string();
        let whole = kept_in(Shape::Object, SMALL, &text, text.len());
        for piece in [1, 3, 7] {
            assert_eq!(kept_in(Shape::Object, SMALL, &text, piece), whole);
        }
        serde_json::from_str(&whole).expect("JSON")
    }

    #[test]
    fn what_is_small_stays_as_it_is() {
        let run = json!({"apiVersion": "a", "kind": "K", "metadata": {"name": "a", "uid": "u", "labels": {}},
            "spec": {"type": "t\"\\", "inputs": {"n": [1, -2.5e3, null, true, {}, []], "e": ""}}, "status": {"phase": "queued"}});
        assert_eq!(kept(&run), run);
    }

    #[test]
    fn of_metadata_only_what_is_read_stays() {
        let object = json!({"metadata": {"annotations": {"big": "x".repeat(5000), labels::RUN_NOW: "1", LEFT_OUT: "forged"},
            "labels": {"foreign": "x", labels::WORKSPACE: "w"}, "managedFields": [{"a": "x".repeat(5000)}], "name": "n",
            "generateName": "g", "finalizers": ["f"]}, "spec": {}});
        let expected = json!({"metadata": {"annotations": {labels::RUN_NOW: "1"}, "labels": {labels::WORKSPACE: "w"}, "name": "n"}, "spec": {}});
        assert_eq!(kept(&object), expected);
    }

    #[test]
    fn what_is_too_large_is_left_out_and_said_so() {
        let many = vec![json!({"": 0}); 100];
        let object = json!({"metadata": {"name": "n"}, "spec": {"a": 1, "inputs": {"x": many}, "z": 2}});
        assert_eq!(
            kept(&object),
            json!({"metadata": {"annotations": {LEFT_OUT: "spec.inputs.x"}, "name": "n"}, "spec": {"a": 1, "inputs": {}, "z": 2}})
        );
        let key = json!({"metadata": {"name": "n", "annotations": {labels::RUN_NOW: "1"}}, "spec": {"inputs": {"k".repeat(999): 1}}});
        let kept_of_key = kept(&key);
        assert_eq!(kept_of_key["spec"], json!({"inputs": {}}));
        assert!(kept_of_key["metadata"]["annotations"][LEFT_OUT].as_str().expect("told").starts_with("spec.inputs.k"));
        assert_eq!(kept_of_key["metadata"]["annotations"][labels::RUN_NOW], "1");
        let wide: Value = (0..99).map(|number| (format!("field{number}"), json!("0123456789"))).collect();
        assert!(kept(&json!({"metadata": {"name": "n"}, "spec": wide})).to_string().len() < 2 * SMALL.section);
    }

    #[test]
    fn what_nobody_reads_of_a_kind_is_dropped_without_a_word() {
        let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"env": [{"name": "A", "value": "x".repeat(999)}]}], "affinity": {"a": 1}}});
        assert_eq!(kept(&pod), json!({"metadata": {"name": "p"}, "spec": {"containers": [{"env": [{"name": "A"}]}]}}));
    }

    #[test]
    fn of_a_namespace_labels_are_held_and_none_of_them_pushes_out_one_that_a_pass_reads() {
        let held = |labels: &Value| {
            let namespace = json!({"metadata": {"labels": labels, "name": "a"}});
            let mut trim = Trim::of("watch", "namespaces");
            let line = trim.take(format!("{}\n", json!({"type": "ADDED", "object": namespace})).as_bytes());
            serde_json::from_slice::<Value>(&line).expect("JSON")["object"]["metadata"].clone()
        };
        let few = json!({"stage": "canary", labels::WORKSPACE: "shop"});
        assert_eq!(held(&few), json!({"labels": few, "name": "a"}));
        let mut many: serde_json::Map<String, Value> =
            (0..500).map(|number| (format!("a-{number:03}"), json!("x".repeat(60)))).collect();
        many.insert(labels::WORKSPACE.to_owned(), json!("shop"));
        let held = held(&many.into());
        let count = held["labels"].as_object().map_or(0, serde_json::Map::len);
        assert!((10..40).contains(&count), "{count}");
        assert_eq!((&held["labels"][labels::WORKSPACE], &held["name"]), (&json!("shop"), &json!("a")));
        assert_eq!(held["annotations"][LEFT_OUT], "metadata.labels", "so that who needs the rest reads it");
    }

    #[test]
    fn of_a_run_who_asked_is_held_and_not_in_which_groups_they_are() {
        let groups: Vec<_> = (0..400).map(|number| format!("group-{number}")).collect();
        let run = json!({"metadata": {"name": "a", "annotations": {labels::RUN_NOW: "x"}},
            "spec": {"initiator": {"groups": groups, "username": "ada"}, "type": "work"}});
        let mut trim = Trim::of("watch", "operationruns.tenantatlas.io");
        let line = trim.take(format!("{}\n", json!({"type": "ADDED", "object": run})).as_bytes());
        let event: Value = serde_json::from_slice(&line).expect("JSON");
        let held = json!({"metadata": {"name": "a"}, "spec": {"initiator": {"username": "ada"}, "type": "work"}});
        assert_eq!(event["object"], held, "and nothing is missing that a pass would ask for");
    }

    #[test]
    fn lists_and_events_hold_objects_and_each_is_as_large_as_may_be() {
        let big = json!({"metadata": {"name": "big"}, "spec": {"x": "y".repeat(9999)}});
        let small = json!({"metadata": {"name": "small"}});
        let cut = json!({"metadata": {"annotations": {LEFT_OUT: "spec.x"}, "name": "big"}, "spec": {}});
        let list =
            |one: &Value| json!({"kind": "L", "metadata": {"continue": "c"}, "items": [one, small, one]}).to_string();
        for piece in [1, 50, 100_000] {
            let read = kept_in(Shape::List, SMALL, &list(&big), piece);
            assert_eq!(
                serde_json::from_str::<Value>(&read).expect("JSON"),
                serde_json::from_str::<Value>(&list(&cut)).expect("JSON")
            );
            let line = |one: &Value| format!("{{\"type\":\"ADDED\",\"object\":{one}}}\n");
            let lines = kept_in(Shape::Events, SMALL, &format!("{}{}", line(&big), line(&small)), piece);
            assert_eq!(lines, format!("{}{}", line(&cut), line(&small)));
        }
    }

    #[test]
    fn a_line_is_handed_over_as_soon_as_it_is_there() {
        let mut trim = Trim::new(Shape::Events, SMALL, &[]);
        let line = "{\"type\":\"BOOKMARK\",\"object\":{\"metadata\":{\"resourceVersion\":\"7\"}}}\n";
        assert_eq!(trim.take(line.as_bytes()), line.as_bytes());
    }

    #[test]
    fn what_the_api_server_writes_with_six_bytes_counts_as_one() {
        let text = r#"{"spec":{"a":"\u003cb\u003e\u0026\u0041\n"}}"#;
        for piece in 1..text.len() {
            assert_eq!(kept_in(Shape::Object, SMALL, text, piece), r#"{"spec":{"a":"<b>&\u0041\n"}}"#);
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            ".{0,30}".prop_map(Value::from)
        ];
        leaf.prop_recursive(5, 200, 12, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..12).prop_map(Value::from),
                proptest::collection::btree_map(".{0,12}", inner, 0..12).prop_map(|map| map.into_iter().collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn whatever_comes_json_is_left_and_no_more_of_it_than_may_be(spec in any_json(), status in any_json(), piece in 1_usize..64) {
            let object = json!({"metadata": {"name": "n"}, "spec": spec, "status": status});
            let kept = kept_in(Shape::Object, SMALL, &object.to_string(), piece);
            prop_assert!(kept.len() <= SMALL.object + 300, "{}", kept.len());
            let read: Value = serde_json::from_str(&kept).expect("JSON");
            prop_assert_eq!(&read["metadata"]["name"], "n");
            if read["metadata"].get("annotations").is_none() {
                prop_assert_eq!(read, object);
            }
        }
    }
}
