//! Objects as YAML, for people and for `kubectl apply`. Pure.
//!
//! Readers of YAML disagree on what a text without quotes is: `no`, `1e3` and `2026-01-01` are not
//! texts for all of them. So a text has no quotes only if it is one for every reader. A text of several
//! lines is a block, if every reader gives back the same lines.
//!
//! An object is indented, so that its document can be many times as long as its JSON. The writer stops
//! once a document is longer than it may be, and not after it was made.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use serde_json::{Map, Value};
use std::fmt::Write as _;

/// Texts that some reader takes for something else.
const WORDS: [&str; 11] = ["y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf"];

/// Longest key that stands in one line with its value, in bytes. YAML allows 1024 characters.
const MAX_KEY: usize = 1000;

/// A document would be longer than it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

/// One document, which begins with `---`. Fails if it would have more bytes than this.
pub fn document(object: &Value, most: usize) -> Result<String, TooLong> {
    let mut writer = Writer { out: String::from("---\n"), most };
    writer.object(object)?;
    Ok(writer.out)
}

/// Fields that people look for first stand first.
fn place(key: &str) -> usize {
    ["apiVersion", "kind", "metadata", "name"].iter().position(|first| *first == key).unwrap_or(4)
}

/// A document that is being written.
struct Writer {
    out: String,
    most: usize,
}

impl Writer {
    fn object(&mut self, object: &Value) -> Result<(), TooLong> {
        match object {
            Value::Object(map) if !map.is_empty() => self.map(map, 0),
            Value::Array(elements) if !elements.is_empty() => self.list(elements, 0),
            other => self.scalar(other, 0),
        }
    }

    /// Fails if it is too long already. Called for each line.
    fn expect_short(&self) -> Result<(), TooLong> {
        if self.out.len() <= self.most { Ok(()) } else { Err(TooLong) }
    }

    fn map(&mut self, map: &Map<String, Value>, indent: usize) -> Result<(), TooLong> {
        let mut fields: Vec<(&String, &Value)> = map.iter().collect();
        fields.sort_by_key(|(key, _)| (place(key), *key));
        for (number, (key, value)) in fields.into_iter().enumerate() {
            // The first field of a map in a list stands behind its dash.
            if number > 0 || !self.out.ends_with("- ") {
                self.pad(indent);
            }
            self.key(key, indent);
            self.value(value, indent)?;
        }
        Ok(())
    }

    fn key(&mut self, key: &str, indent: usize) {
        let key = text(key);
        if key.len() > MAX_KEY {
            self.out.push_str("? ");
            self.out.push_str(&key);
            self.out.push('\n');
            self.pad(indent);
        } else {
            self.out.push_str(&key);
        }
        self.out.push(':');
    }

    fn value(&mut self, value: &Value, indent: usize) -> Result<(), TooLong> {
        match value {
            Value::Object(map) if !map.is_empty() => {
                self.out.push('\n');
                self.map(map, indent + 2)
            }
            Value::Array(elements) if !elements.is_empty() => {
                self.out.push('\n');
                self.list(elements, indent)
            }
            other => {
                self.out.push(' ');
                self.scalar(other, indent + 2)
            }
        }
    }

    fn list(&mut self, elements: &[Value], indent: usize) -> Result<(), TooLong> {
        for element in elements {
            self.pad(indent);
            self.out.push_str("- ");
            match element {
                Value::Object(map) if !map.is_empty() => self.map(map, indent + 2)?,
                Value::Array(inner) if !inner.is_empty() => {
                    self.out.pop();
                    self.out.push('\n');
                    self.list(inner, indent + 2)?;
                }
                other => self.scalar(other, indent + 2)?,
            }
        }
        Ok(())
    }

    fn pad(&mut self, indent: usize) {
        self.out.extend(std::iter::repeat_n(' ', indent));
    }

    /// Writes a scalar to the end of its line.
    fn scalar(&mut self, value: &Value, indent: usize) -> Result<(), TooLong> {
        match value {
            Value::String(lines) if is_block(lines) => self.block(lines, indent)?,
            Value::String(one) => self.out.push_str(&text(one)),
            // JSON is YAML: numbers, booleans, null, and empty maps and lists.
            other => self.out.push_str(&other.to_string()),
        }
        self.out.push('\n');
        self.expect_short()
    }

    fn block(&mut self, text: &str, indent: usize) -> Result<(), TooLong> {
        let lines = text.trim_end_matches('\n');
        let ends = text.len() - lines.len();
        self.out.push_str(match ends {
            0 => "|-",
            1 => "|",
            _ => "|+",
        });
        let ended = std::iter::repeat_n("", ends.saturating_sub(1));
        for line in lines.split('\n').chain(ended) {
            self.out.push('\n');
            if !line.is_empty() {
                self.pad(indent);
                self.out.push_str(line);
            }
            self.expect_short()?;
        }
        Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn read(text: &str) -> Value {
        serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    fn document(object: &Value) -> String {
        super::document(object, usize::MAX).expect("there is no limit")
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

    #[test]
    fn a_key_that_is_too_long_for_one_line_with_its_value_stands_in_a_line_of_its_own() {
        let keys = |count: usize| [1, count / 2].map(|each| "\u{1}".repeat(each) + &"k".repeat(count - each));
        for key in [1000, 1001, 1023, 1024, 1025, 5000].into_iter().flat_map(keys) {
            for value in [json!(1), json!([1, {"a": "b\nc"}]), json!({"a": {"b": [1]}}), json!({}), json!("b\nc\n")] {
                let object = json!({ "a": [{ &key: value, "z": { &key: 1 } }, 2], &key: value });
                let written = document(&object);
                assert_eq!(read(&written), object, "{written}");
                let short = |line: &str| line.starts_with(['?', '|']) || line.find(": ").is_none_or(|at| at <= 1024);
                assert!(written.lines().all(|line| short(line.trim_start_matches(['-', ' ']))), "{written}");
            }
        }
        let long = "k".repeat(1001);
        assert_eq!(document(&json!({ &long: [1], "z": 2 })), format!("---\n? {long}\n:\n- 1\nz: 2\n"));
    }

    #[test]
    fn a_document_that_gets_too_long_is_given_up_while_it_is_written() {
        let nested = |inner: Value| (0..100).fold(inner, |inner, _| json!({ "a": inner }));
        let lines = format!("a{}", "\na".repeat(100_000));
        for wide in [json!(vec![1; 100_000]), json!(vec![json!({ "b": 1 }); 100_000]), json!(lines)] {
            let object = nested(wide);
            let mut writer = Writer { out: String::new(), most: 100_000 };
            assert_eq!(writer.object(&object), Err(TooLong));
            assert!(writer.out.len() < 101_000, "{} bytes were written", writer.out.len());
        }
        let object = nested(json!([1]));
        let written = document(&object);
        assert_eq!(super::document(&object, written.len()), Ok(written.clone()));
        assert_eq!(super::document(&object, written.len() - 1), Err(TooLong));
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
