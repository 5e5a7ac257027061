//! Objects as YAML, for people and for `kubectl apply`. Pure.
//!
//! Readers of YAML disagree on what a text without quotes is: `no`, `1e3` and `2026-01-01` are not
//! texts for all of them. So a text has no quotes only if it is one for every reader. A text of several
//! lines is a block, if every reader gives back the same lines.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use serde_json::{Map, Value};
use std::fmt::Write as _;

/// Texts that some reader takes for something else.
const WORDS: [&str; 11] = ["y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf"];

/// One document, which begins with `---`.
#[must_use]
pub fn document(object: &Value) -> String {
    let mut out = String::from("---\n");
    match object {
        Value::Object(map) if !map.is_empty() => write_map(&mut out, map, 0),
        Value::Array(elements) if !elements.is_empty() => write_list(&mut out, elements, 0),
        other => {
            out.push_str(&scalar(other, 0));
            out.push('\n');
        }
    }
    out
}

/// Fields that people look for first stand first.
fn place(key: &str) -> usize {
    ["apiVersion", "kind", "metadata", "name"].iter().position(|first| *first == key).unwrap_or(4)
}

fn write_map(out: &mut String, map: &Map<String, Value>, indent: usize) {
    let mut fields: Vec<(&String, &Value)> = map.iter().collect();
    fields.sort_by_key(|(key, _)| (place(key), *key));
    for (number, (key, value)) in fields.into_iter().enumerate() {
        // The first field of a map in a list stands behind its dash.
        if number > 0 || !out.ends_with("- ") {
            pad(out, indent);
        }
        out.push_str(&text(key));
        out.push(':');
        write_value(out, value, indent);
    }
}

fn write_value(out: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            out.push('\n');
            write_map(out, map, indent + 2);
        }
        Value::Array(elements) if !elements.is_empty() => {
            out.push('\n');
            write_list(out, elements, indent);
        }
        other => {
            out.push(' ');
            out.push_str(&scalar(other, indent + 2));
            out.push('\n');
        }
    }
}

fn write_list(out: &mut String, elements: &[Value], indent: usize) {
    for element in elements {
        pad(out, indent);
        out.push_str("- ");
        match element {
            Value::Object(map) if !map.is_empty() => write_map(out, map, indent + 2),
            Value::Array(inner) if !inner.is_empty() => {
                out.pop();
                out.push('\n');
                write_list(out, inner, indent + 2);
            }
            other => {
                out.push_str(&scalar(other, indent + 2));
                out.push('\n');
            }
        }
    }
}

fn pad(out: &mut String, indent: usize) {
    out.extend(std::iter::repeat_n(' ', indent));
}

fn scalar(value: &Value, indent: usize) -> String {
    match value {
        Value::String(lines) if is_block(lines) => block(lines, indent),
        Value::String(one) => text(one),
        // JSON is YAML: numbers, booleans, null, and empty maps and lists.
        other => other.to_string(),
    }
}

/// A text in one line.
fn text(text: &str) -> String {
    let is_plain = text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.chars().all(|one| one.is_ascii_alphanumeric() || "._/-".contains(one))
        && !WORDS.contains(&text.to_ascii_lowercase().as_str());
    if is_plain {
        return text.to_owned();
    }
    let mut quoted = String::with_capacity(text.len() + 2);
    for one in Value::from(text).to_string().chars() {
        // JSON takes these as they are. YAML breaks a line there, or takes none of them.
        if one.is_ascii_graphic() || one == ' ' || one.is_alphanumeric() {
            quoted.push(one);
        } else {
            // Not as JSON does it: of a pair of escapes, some readers take none.
            // Writing to a String cannot fail.
            let _ = match u32::from(one) {
                code @ ..=0xffff => write!(quoted, "\\u{code:04x}"),
                code => write!(quoted, "\\U{code:08x}"),
            };
        }
    }
    quoted
}

/// Whether a text can be a block, whose lines are indented and otherwise as they are.
fn is_block(text: &str) -> bool {
    let is_of_lines = text.contains('\n') && !text.starts_with([' ', '\n']) && !text.trim_end_matches('\n').is_empty();
    is_of_lines && text.chars().all(|one| one == '\n' || one == ' ' || one.is_ascii_graphic() || one.is_alphanumeric())
}

fn block(text: &str, indent: usize) -> String {
    let lines = text.trim_end_matches('\n');
    let ends = text.len() - lines.len();
    let mut out = String::from(match ends {
        0 => "|-",
        1 => "|",
        _ => "|+",
    });
    let ended = std::iter::repeat_n("", ends.saturating_sub(1));
    for line in lines.split('\n').chain(ended) {
        out.push('\n');
        if !line.is_empty() {
            pad(&mut out, indent);
            out.push_str(line);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn read(text: &str) -> Value {
        serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    #[test]
    fn an_object_is_written_as_people_write_it() {
        let object = json!({
            "kind": "ConfigMap", "apiVersion": "v1", "data": {"a.conf": "x: 1\n\n  y\n", "b": "yes", "c": "", "d": "1e3"},
            "metadata": {"labels": {"app.kubernetes.io/name": "web"}, "name": "settings"},
            "list": [{"name": "a", "n": [1, 2]}, ["x"], [], {}, "no end\nat all"], "port": 80, "none": null,
        });
        let expected = "---\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: settings\n  labels:\n    app.kubernetes.io/name: web\ndata:\n  a.conf: |\n    x: 1\n\n      y\n  b: \"yes\"\n  c: \"\"\n  d: d1\n";
        let written = document(&object);
        assert!(written.starts_with(&expected.replace("d: d1", "d: \"1e3\"")), "{written}");
        assert_eq!(read(&written), object, "{written}");
    }

    #[test]
    fn a_text_that_a_reader_could_take_for_something_else_has_quotes() {
        for odd in [
            "yes",
            "NO",
            "y",
            "off",
            "null",
            "1e3",
            "0x1f",
            "2026-01-01",
            "1:20",
            "-",
            "~",
            "#a",
            "a #b",
            "a: b",
            "{a",
            "[a",
            "*a",
            "&a",
            "!a",
            "%a",
            "@a",
            "`a",
            "",
            " ",
            "a ",
            "|",
            ">",
            "'",
            "\"",
            "=",
            "<<",
            "?",
            "é",
            "\u{85}",
            "\u{2028}",
            "\u{feff}",
            "\u{1f600}",
            "\t",
            "\r\n",
        ] {
            let written = document(&json!({ "a": odd }));
            assert!(written.starts_with("---\na: \""), "{odd:?}: {written}");
            assert_eq!(read(&written), json!({ "a": odd }), "{written}");
            let as_key = document(&json!({ odd: 1 }));
            assert_eq!(read(&as_key), json!({ odd: 1 }), "{as_key}");
        }
    }

    #[test]
    fn a_character_that_takes_more_than_four_digits_is_one_escape() {
        assert_eq!(document(&json!({ "a": "\u{1f600}" })), "---\na: \"\\U0001f600\"\n");
    }

    fn anything() -> impl Strategy<Value = Value> {
        let text = prop_oneof!["[a-z]{0,4}", "[ -~\n]{0,12}", "\\PC{0,6}", "(?s).{0,6}", "[ \n#a:|-]{0,8}"];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            text.clone().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(text.clone(), inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(object in anything()) {
            let written = document(&object);
            prop_assert_eq!(read(&written), object, "{}", written);
        }
    }
}
