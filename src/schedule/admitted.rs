//! Tests the schemas' rules against the parser of expressions: the API server refuses nothing that
//! would run.

use super::Expression;
use crate::api::schema::custom_resource_definitions;
use proptest::prelude::*;
use regex::Regex;
use serde_json::Value;
use std::sync::LazyLock;

/// Every field that takes an expression: kind, path in the schema, field.
const FIELDS: [(&str, &str, &str); 3] = [
    ("BackupSchedule", "/properties/spec", "schedule"),
    ("BackupRepository", "/properties/spec/properties/maintenance", "schedule"),
    ("BackupRepository", "/properties/spec/properties/maintenance", "check"),
];

/// Regular expressions of one field: one that it must match, and one that it must not match.
struct Patterns {
    form: Regex,
    impossible_day: Regex,
}

static PATTERNS: LazyLock<Vec<Patterns>> =
    LazyLock::new(|| FIELDS.iter().map(|(kind, path, field)| patterns(kind, path, field)).collect());

fn patterns(kind: &str, path: &str, field: &str) -> Patterns {
    let definitions = custom_resource_definitions();
    let definition = definitions.iter().find(|definition| definition.spec.names.kind == kind).expect("a definition");
    let schema = serde_json::to_value(&definition.spec.versions[0].schema).expect("JSON");
    let rules = schema["openAPIV3Schema"].pointer(path).and_then(|place| place["x-kubernetes-validations"].as_array());
    let rules: Vec<&str> = rules.expect("rules").iter().filter_map(|rule: &Value| rule["rule"].as_str()).collect();
    let pattern = |negated: &str| {
        let start = format!("{negated}self.{field}.matches('");
        let pattern = rules.iter().find_map(|rule| {
            let rule = rule.strip_prefix(&format!("!has(self.{field}) || ")).unwrap_or(rule);
            rule.strip_prefix(&start)?.strip_suffix("')")
        });
        Regex::new(pattern.unwrap_or_else(|| panic!("{kind} has no rule {start}")))
            .expect("RE2 and this crate read it alike")
    };
    Patterns { form: pattern(""), impossible_day: pattern("!") }
}

/// Whether the API server admits an expression, which must be the same for each field.
fn is_admitted(expression: &str) -> bool {
    let of = |patterns: &Patterns| patterns.form.is_match(expression) && !patterns.impossible_day.is_match(expression);
    let admitted: Vec<bool> = PATTERNS.iter().map(of).collect();
    assert!(admitted.iter().all(|one| *one == admitted[0]), "{expression}: {admitted:?}");
    admitted[0]
}

#[test]
fn the_api_server_takes_what_can_be_read_and_refuses_what_is_out_of_range() {
    // A YAML block ends with a newline, and CronJobs accept tabs.
    for good in [
        "* * * * *",
        "*\t*\t* * *",
        "15 2 * * *\n",
        "\t@daily\n",
        "@midnight",
        "@annually",
        " 5/15 0-6,22 ? JAN-MAR mon ",
        " */10 1-5 1,15 JAN-MAR mon ",
        "0 0 29 2 *",
        "00 07 * * 7",
        "0 0 30 2,3 *",
        "@daily",
    ] {
        assert!(is_admitted(good) && Expression::parse(good).is_ok(), "{good}");
    }
    for bad in [
        "",
        "daily",
        "@reboot",
        "@every 5m",
        "0 3 * *",
        "0 3 * * * *",
        "TZ=UTC 0 3 * * *",
        "0 3 * * L",
        "0 25 * * *",
        "60 * * * *",
        "0 24 * * *",
        "0 0 0 * *",
        "0 0 * 13 *",
        "0 0 * * 8",
        "*/0 * * * *",
        "0 0 30 2 *",
        "0\t0\t30\t2\t*\n",
        "0 0 31 apr ?",
        "0 0 * XXX *",
        "0 0 *",
    ] {
        assert!(!is_admitted(bad) && Expression::parse(bad).is_err(), "{bad}");
    }
}

proptest! {
    /// No expression that would run is refused. An expression that is admitted but cannot be parsed
    /// has a range that runs backwards, or a day that none of several months has.
    #[test]
    fn what_reads_is_admitted(fields in proptest::collection::vec("([*?]|[0-9]{1,2}(-[0-9]{1,2})?)(/[0-9]{1,2})?(,[0-9]{1,2})?", 5)) {
        let expression = fields.join(" ");
        match Expression::parse(&expression) {
            Ok(_) => prop_assert!(is_admitted(&expression), "{}", expression),
            Err(mistake) => {
                let seen_later = ["backwards", "never comes"].iter().any(|words| mistake.message.contains(words));
                prop_assert!(seen_later || !is_admitted(&expression), "{}: {}", expression, mistake);
            }
        }
    }
}
