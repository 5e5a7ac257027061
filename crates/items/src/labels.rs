//! Label selectors in the syntax of `kubectl -l`, evaluated locally: a backup set has no API server
//! to do so.

use serde_json::Value;
use std::str::FromStr;

/// A label selector; every requirement must match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector(Vec<Requirement>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    key: String,
    condition: Condition,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Condition {
    Exists,
    Absent,
    In(Vec<String>),
    NotIn(Vec<String>),
}

/// Why a selector could not be parsed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} in a label selector: {problem}")]
pub struct InvalidSelector {
    text: String,
    problem: &'static str,
}

impl LabelSelector {
    /// Whether an object's labels match.
    #[must_use]
    pub fn matches(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        self.0.iter().all(|Requirement { key, condition }| {
            let value = labels.get(key).and_then(Value::as_str);
            let among = |values: &[String]| value.is_some_and(|value| values.iter().any(|other| other == value));
            match condition {
                Condition::Exists => value.is_some(),
                Condition::Absent => value.is_none(),
                Condition::In(values) => among(values),
                Condition::NotIn(values) => !among(values),
            }
        })
    }
}

impl FromStr for LabelSelector {
    type Err = InvalidSelector;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        split(text).into_iter().map(requirement).collect::<Result<_, _>>().map(Self)
    }
}

/// Splits at commas outside parentheses.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0_usize, 0);
    for (place, character) in text.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(&text[start..place]);
                start = place + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn requirement(text: &str) -> Result<Requirement, InvalidSelector> {
    let text = text.trim();
    let invalid = |problem| InvalidSelector { text: text.chars().take(100).collect(), problem };
    let (key, condition) = if let Some((key, value)) = text.split_once("!=") {
        (key, Condition::NotIn(vec![value.trim().to_owned()]))
    } else if let Some((key, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        (key, Condition::In(vec![value.trim().to_owned()]))
    } else if let Some((start, list)) = text.split_once('(') {
        let list = list.strip_suffix(')').ok_or_else(|| invalid("a list ends with `)`"))?;
        let values = list.split(',').map(|value| value.trim().to_owned()).collect();
        match start.trim().rsplit_once(char::is_whitespace) {
            Some((key, "in")) => (key, Condition::In(values)),
            Some((key, "notin")) => (key, Condition::NotIn(values)),
            _ => return Err(invalid("a list is written `key in (a,b)` or `key notin (a,b)`")),
        }
    } else if let Some(key) = text.strip_prefix('!') {
        (key, Condition::Absent)
    } else {
        (text, Condition::Exists)
    };
    let key = key.trim();
    if !is_key(key) {
        return Err(invalid("a key has letters, digits, `-`, `_`, `.`, and at most one prefix before a `/`"));
    }
    let values = match &condition {
        Condition::In(values) | Condition::NotIn(values) => values.as_slice(),
        Condition::Exists | Condition::Absent => &[],
    };
    if values.iter().any(|value| value.len() > 63 || !value.chars().all(is_label_character)) {
        return Err(invalid("a value has at most 63 letters, digits, `-`, `_` and `.`"));
    }
    Ok(Requirement { key: key.to_owned(), condition })
}

fn is_key(key: &str) -> bool {
    let name = key.split_once('/').map_or(key, |(_, name)| name);
    let prefix = key.strip_suffix(name).unwrap_or_default();
    let prefix_reads =
        prefix.is_empty() || (prefix.len() > 1 && prefix.trim_end_matches('/').chars().all(is_label_character));
    !name.is_empty() && name.len() <= 63 && name.chars().all(is_label_character) && prefix_reads
}

fn is_label_character(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '-' | '_' | '.')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn a_selector_matches_as_kubectl_would() {
        let web = json!({"metadata": {"labels": {"app": "web", "tier": "", "example.com/team": "a"}}});
        let bare = json!({"metadata": {}});
        for (selector, matches_web, matches_bare) in [
            ("", true, true),
            ("app=web", true, false),
            ("app == web", true, false),
            ("app!=web", false, true),
            ("app", true, false),
            ("!app", false, true),
            ("! app", false, true),
            ("tier=", true, false),
            ("app in (api, web)", true, false),
            ("app notin (api,web)", false, true),
            ("app in (api),tier", false, false),
            ("example.com/team=a,app=web", true, false),
        ] {
            let parsed: LabelSelector = selector.parse().expect(selector);
            assert_eq!(parsed.matches(&web), matches_web, "{selector:?} and web");
            assert_eq!(parsed.matches(&bare), matches_bare, "{selector:?} and bare");
        }
    }

    #[test]
    fn what_is_no_selector_is_refused_with_what_is_wrong() {
        for text in
            ["=a", "a=b=c", "app in web", "app in (web", "a>1", "a,,b", "a b", "a/b/c", "/a", "app is (web)", "a=b c"]
        {
            let error = text.parse::<LabelSelector>().expect_err(text);
            assert!(error.to_string().contains("label selector"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_without_a_panic(text in "[a-z=!(), /é]{0,30}") {
            let _ = text.parse::<LabelSelector>();
        }
    }

    #[test]
    fn a_key_and_a_value_have_at_most_63_characters_and_a_prefix_is_one_too() {
        let (fits, too_long) = ("x".repeat(63), "x".repeat(64));
        for text in [format!("{fits}={fits}"), format!("a.b-c_d/{fits}"), format!("a in ({fits})")] {
            assert!(text.parse::<LabelSelector>().is_ok(), "{text}");
        }
        for text in [format!("{too_long}=a"), format!("a={too_long}"), format!("a notin (b,{too_long})")] {
            assert!(text.parse::<LabelSelector>().is_err(), "{text}");
        }
        for text in ["a/", "é/x", "a:b/c", "é", "!é", "a=é"] {
            assert!(text.parse::<LabelSelector>().is_err(), "{text}");
        }
    }
}
