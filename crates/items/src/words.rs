//! What the API server says about an object, as far as every reader of a report may see it.
//!
//! The API server's message may quote the object: validation, policies and webhooks all do so. For
//! a Secret, and for any kind that not all readers of reports may read ([`Readers`]), only parts
//! that are known to hold no value are repeated.

use crate::{
    api::item::ItemId,
    readers::Readers,
    redact::redact,
    refusal::{IMMUTABLE, Webhook},
};

/// Maximum number of bytes repeated of the API server's message. The advice comes before the
/// message.
const MAX_WORDS: usize = 600;

/// Phrase in a refusal to grant rights that the account lacks. After it, the API server lists all
/// rights held and granted.
const ESCALATION: &str = "is attempting to grant RBAC permissions not currently held";

/// Whether the content of an item is secret by its kind.
#[must_use]
pub fn is_secret(item: &ItemId) -> bool {
    item.kind.group.is_empty() && item.kind.kind == "Secret"
}

/// A refusal by the API server.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// HTTP status.
    pub code: u16,
    /// The status's reason, such as `Invalid`.
    pub reason: &'a str,
    /// The status's message.
    pub message: &'a str,
    /// The fields that the status names as causes.
    pub fields: &'a [&'a str],
}

/// The part of the message to repeat.
#[must_use]
pub fn words(item: &ItemId, answer: &Answer<'_>, readers: &Readers) -> String {
    let withheld = is_secret(item) || !readers.may_read(&item.kind);
    let told = if withheld { without_content(item, answer) } else { answer.message.to_owned() };
    let told = match told.split_once(ESCALATION) {
        Some((before, _)) => format!("{before}{ESCALATION}"),
        None => told,
    };
    bounded(&redact(&counts(&told)))
}

/// Writes the counts of a quota without `=`: `count/secrets=5` would be taken for a secret.
fn counts(message: &str) -> String {
    match message.find("exceeded quota") {
        Some(place) => format!("{}{}", &message[..place], message[place..].replace('=', " ")),
        None => message.to_owned(),
    }
}

fn without_content(item: &ItemId, answer: &Answer<'_>) -> String {
    let Answer { code, reason, message, fields } = answer;
    let forbidden = behind_forbidden(&item.name, message);
    if forbidden.is_some_and(|rest| rest.starts_with("user \""))
        && let Some((before, _)) = message.split_once(ESCALATION)
    {
        return format!("{before}{ESCALATION}");
    }
    let own =
        ["User \"", "exceeded quota: ", "status unknown for quota: ", "unable to create new content in namespace "];
    if forbidden.is_some_and(|rest| own.iter().any(|own| rest.starts_with(own))) {
        return (*message).to_owned();
    }
    let by_policy = forbidden.is_some_and(|rest| rest.starts_with("ValidatingAdmissionPolicy "));
    let by_webhook = message.starts_with("admission webhook \"");
    let denied = if by_policy { "denied request" } else { "denied the request" };
    if (by_policy || by_webhook)
        && let Some((who, _)) = message.split_once(denied)
    {
        return format!("{who}{denied}, in words that may quote the {}", item.kind.kind);
    }
    if matches!(code, 500 | 503)
        && let Some(webhook) = Webhook::read(message)
    {
        return webhook.as_error();
    }
    let immutable = if IMMUTABLE.iter().any(|words| message.contains(words)) { ": field is immutable" } else { "" };
    if *code == 422 && !fields.is_empty() {
        return format!("{reason} ({}){immutable}", fields.join(", "));
    }
    format!("{reason}{immutable}")
}

/// The text after the API server's own prefix of a refusal, such as `secrets "a" is forbidden: `.
/// Only the API server can have written what precedes it.
fn behind_forbidden<'a>(name: &str, message: &'a str) -> Option<&'a str> {
    let (resource, rest) = message.split_once(' ')?;
    let is_resource = resource.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-'));
    rest.strip_prefix(&format!("{name:?} is forbidden: ")).filter(|_| is_resource)
}

fn bounded(text: &str) -> String {
    if text.len() <= MAX_WORDS {
        return text.to_owned();
    }
    let end = (0..=MAX_WORDS).rev().find(|place| text.is_char_boundary(*place)).unwrap_or(0);
    format!("{}…", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{api::item::GroupKind, refusal::awaited};
    use proptest::prelude::*;

    const VALUE: &str = "hunter2-and-more";

    fn said(kind: &str, code: u16, reason: &str, message: &str, fields: &[&str]) -> String {
        let readers = Readers::of([GroupKind::new("", "ConfigMap")]);
        words(&ItemId::new(GroupKind::new("", kind), "a"), &Answer { code, reason, message, fields }, &readers)
    }

    #[test]
    fn of_a_secret_only_what_quotes_no_value_is_repeated() {
        for (code, reason, message, fields, expected) in [
            (
                403,
                "Forbidden",
                r#"secrets "a" is forbidden: User "ada" cannot create resource "secrets" in API group "" in the namespace "acme""#,
                &[][..],
                r#"User "ada" cannot create resource "secrets""#,
            ),
            (
                403,
                "Forbidden",
                r#"secrets "a" is forbidden: exceeded quota: small, requested: count/secrets=1, used: count/secrets=5, limited: count/secrets=5"#,
                &[],
                "exceeded quota: small, requested: count/secrets 1, used: count/secrets 5, limited: count/secrets 5",
            ),
            (
                422,
                "Invalid",
                r#"secrets "a" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: hunter2-and-more is weak"#,
                &[],
                "ValidatingAdmissionPolicy 'p' with binding 'b' denied request, in words that may quote the Secret",
            ),
            (
                403,
                "Forbidden",
                r#"admission webhook "guard.example.com" denied the request: hunter2-and-more is weak"#,
                &[],
                r#"admission webhook "guard.example.com" denied the request, in words"#,
            ),
            (
                422,
                "Invalid",
                r#"Secret "a" is invalid: data[p]: Invalid value: "hunter2-and-more": must be a pair"#,
                &["data[p]"],
                "Invalid (data[p])",
            ),
            (
                422,
                "Invalid",
                r#"Secret "a" is invalid: data: Forbidden: field is immutable when `immutable` is set"#,
                &["data"],
                "Invalid (data): field is immutable",
            ),
            (400, "BadRequest", "illegal base64 data at input byte 4 of hunter2-and-more", &[], "BadRequest"),
            (500, "InternalError", "Internal error occurred: hunter2-and-more", &[], "InternalError"),
        ] {
            let said = said("Secret", code, reason, message, fields);
            assert!(said.contains(expected), "{said}");
            assert!(!said.contains(VALUE), "{said}");
        }
    }

    #[test]
    fn a_webhook_that_does_not_answer_is_known_from_what_is_repeated() {
        let message = r#"Internal error occurred: failed calling webhook "guard.example.com": failed to call webhook: Post "https://guard.acme.svc:443/x?timeout=10s": hunter2-and-more"#;
        let said = said("Secret", 500, "InternalError", message, &[]);
        assert_eq!(awaited(500, &said), awaited(500, message));
        assert!(!said.contains(VALUE), "{said}");
    }

    #[test]
    fn what_the_api_server_counts_up_is_cut_where_it_helps_nobody() {
        let list = "{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"get\"]}\n".repeat(100);
        let message = format!("roles \"a\" is forbidden: user \"x\" (groups=[\"y\"]) {ESCALATION}:\n{list}");
        let said_of_role = said("Role", 403, "Forbidden", &message, &[]);
        assert!(said_of_role.ends_with(ESCALATION), "{said_of_role}");
        let long = said("ConfigMap", 422, "Invalid", &"é".repeat(1000), &[]);
        assert!(long.len() <= MAX_WORDS + 4 && long.ends_with('…'), "{}", long.len());
    }

    proptest! {
        /// A value in a quoted message is not repeated, whatever surrounds it.
        #[test]
        fn no_value_that_is_quoted_about_a_secret_comes_through(
            code in prop::sample::select(vec![400_u16, 403, 404, 409, 413, 422, 500, 503]),
            before in prop::sample::select(vec![
                "", "admission webhook \"g\" denied the request: ", "secrets \"a\" is forbidden: ", "Secret \"a\" is invalid: data: ",
                "secrets \"a\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: ",
                "Internal error occurred: failed calling webhook \"g\": failed to call webhook: Post \"https://g.acme.svc:443/x\": ",
                "Internal error occurred: "]),
            after in prop::sample::select(vec![
                "", " denied request", " denied the request: x", " User \"x\" cannot", " exceeded quota: x=1", ": field is immutable"]),
            value in "[a-zA-Z0-9]{12,30}", fields in prop::collection::vec("[a-z.]{1,8}", 0..2)
        ) {
            let message = format!("{before}{value}{after}");
            let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
            let told = said("Secret", code, "Invalid", &message, &fields);
            prop_assert!(!told.contains(&value), "{} became {}", message, told);
        }
    }

    #[test]
    fn the_fields_of_a_secret_are_named_where_the_server_names_them() {
        assert_eq!(said("Secret", 422, "Invalid", "x", &["type"]), "Invalid (type)");
        assert_eq!(said("Secret", 422, "Invalid", "x", &[]), "Invalid");
        assert_eq!(said("Secret", 400, "BadRequest", "x", &["type"]), "BadRequest");
    }

    #[test]
    fn a_resource_has_small_letters_digits_dots_and_dashes() {
        let refusal = |resource: &str| format!("{resource} \"a\" is forbidden: User \"ada\" cannot update");
        for resource in ["secrets", "widgets.example.com", "widgets2.my-example.com"] {
            let message = refusal(resource);
            assert_eq!(said("Secret", 403, "Forbidden", &message, &[]), message);
        }
        assert_eq!(said("Secret", 403, "Forbidden", &refusal("Hunter2"), &[]), "Forbidden");
    }
}
