//! What a refused write means: how the item counts, what to do, and whether the refusal may pass by
//! itself.
//!
//! Derived from the HTTP status and the server's message, because nothing else is available: a
//! webhook that does not answer has no status of its own, only "failed calling webhook" in an
//! internal error. The phrases here are those of Kubernetes' own sources.

use crate::{
    api::item::{GroupKind, ItemId},
    api::reason::item as reason,
    plan::{Action, Remark},
    proposal::Write,
};
use std::{fmt, time::Duration};

/// How long a restore retries in total while something does not answer: as long as a restored Pod
/// takes to start.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// Something that the API server needs to accept a write and that does not answer yet. Later writes
/// of this restore, or a controller, may bring it up.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Awaited {
    /// An admission or conversion webhook.
    Webhook(Webhook),
    /// The ServiceAccount `default`, which a controller creates in each namespace.
    DefaultAccount,
    /// The first count of the resources that a quota limits.
    QuotaCount,
    /// The API server itself, or an API server behind it.
    Server,
}

/// A webhook, as an answer names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Webhook {
    /// Name of the webhook in its configuration; for a conversion webhook, what it converts.
    pub name: String,
    /// The Service of the webhook, if it has one: name and namespace.
    pub service: Option<(String, String)>,
}

impl Webhook {
    /// The Service of the webhook, if it is in this namespace.
    #[must_use]
    pub fn service_in(&self, namespace: &str) -> Option<ItemId> {
        let (name, _) = self.service.as_ref().filter(|(_, of)| of == namespace)?;
        Some(ItemId::new(GroupKind::new("", "Service"), name))
    }

    /// An error that names the webhook and nothing else, in a form that [`Webhook::read`] parses.
    #[must_use]
    pub fn as_error(&self) -> String {
        let Self { name, service } = self;
        let post = service.as_ref().map(|(name, of)| format!(": Post \"https://{name}.{of}.svc\""));
        let post = post.unwrap_or_default();
        match name.strip_prefix("for ") {
            Some(converted) => format!("conversion webhook for {converted} failed{post}"),
            None => format!("failed calling webhook \"{name}\"{post}"),
        }
    }

    /// The webhook that an internal error names.
    pub(crate) fn read(message: &str) -> Option<Self> {
        let between = |before: &str, after: &str| {
            let (_, rest) = message.split_once(before)?;
            rest.split_once(after).map(|(name, _)| name.to_owned())
        };
        let name = between("failed calling webhook \"", "\"")
            .or_else(|| Some(format!("for {}", between("conversion webhook for ", " failed")?)))?;
        let service = message.split_once("Post \"https://").and_then(|(_, url)| {
            let host = url.split([':', '/', '"']).next()?;
            let (name, namespace) = host.strip_suffix(".svc")?.split_once('.')?;
            Some((name.to_owned(), namespace.to_owned()))
        });
        Some(Self { name, service })
    }
}

impl fmt::Display for Webhook {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "the webhook {}", self.name)?;
        match &self.service {
            Some((name, namespace)) => write!(formatter, " (Service {name} in {namespace})"),
            None => Ok(()),
        }
    }
}

/// What does not answer yet, if that is why a write is refused; `None` if the same write would be
/// refused again.
#[must_use]
pub fn awaited(code: u16, message: &str) -> Option<Awaited> {
    match code {
        // A webhook that answers may refuse with any status.
        _ if message.contains("denied the request") => None,
        403 if message.contains("serviceaccount \"default\" not found") => Some(Awaited::DefaultAccount),
        403 if message.contains("status unknown for quota") => Some(Awaited::QuotaCount),
        500 => Webhook::read(message).map(Awaited::Webhook),
        503 => Some(Webhook::read(message).map_or(Awaited::Server, Awaited::Webhook)),
        _ => None,
    }
}

/// Phrases with which the API server says that a field is immutable.
pub const IMMUTABLE: [&str; 6] =
    ["immutable", "may not change", "cannot change", "may not be changed", "updates to ", "cannot be changed"];

/// What a refusal means for an item: the action and the reason.
#[must_use]
pub fn refusal(code: u16, message: &str, write: &Write) -> (Action, Remark) {
    let (action, reason_code, advice) = match awaited(code, message) {
        Some(Awaited::Webhook(webhook)) => (
            Action::Conflict,
            reason::WEBHOOK_UNAVAILABLE,
            format!(
                "{webhook} must be asked and does not answer: see that what serves it runs and is ready, then restore again; what failed alone with spec.rerunOf"
            ),
        ),
        Some(Awaited::DefaultAccount | Awaited::QuotaCount) => (
            Action::Conflict,
            reason::SERVER_FAILED,
            "the cluster's own controllers have not caught up with this namespace: see that kube-controller-manager runs, then restore again".to_owned(),
        ),
        Some(Awaited::Server) | None => {
            let (action, reason_code, advice) = judge(code, message, write);
            (action, reason_code, advice.to_owned())
        }
    };
    (action, Remark::new(reason_code, format!("{advice}: the API server answers {code} {message}")))
}

fn body_kind(write: &Write) -> Option<&str> {
    match write {
        Write::Create(body) | Write::Update(body) | Write::Recreate(_, body) => body["kind"].as_str(),
        Write::Delete(_) => None,
    }
}

fn judge(code: u16, message: &str, write: &Write) -> (Action, &'static str, &'static str) {
    let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
    match code {
        401 | 403 if says(&["exceeded quota"]) => {
            (Action::Conflict, reason::QUOTA_EXCEEDED, "raise the quota, or restore less")
        }
        403 if says(&["attempting to grant RBAC permissions"]) => (
            Action::Forbidden,
            reason::FORBIDDEN,
            "let the account that writes hold what it gives (a ClusterRole with the label tenantatlas.io/aggregate-to-restore), or exclude the item",
        ),
        404 if body_kind(write) == Some("RoleBinding") => (
            Action::Invalid,
            reason::INVALID,
            "make the role that it binds, or let the account that writes `bind` it, or exclude the item",
        ),
        403 if says(&["User \""]) => {
            (Action::Forbidden, reason::FORBIDDEN, "let the account that writes do it, or exclude the item")
        }
        409 => (Action::Conflict, reason::MOVED, "it is not as it was when it was looked at: restore again"),
        422 if matches!(write, Write::Update(_)) && says(&IMMUTABLE) => (
            Action::Conflict,
            reason::IMMUTABLE_FIELD,
            "to have it as it was it must be made anew: use `existingResourcePolicy: recreate` for this item, or set the field with a transform",
        ),
        400 | 403 | 422
            if says(&["admission webhook", "ValidatingAdmissionPolicy", "violates PodSecurity", "denied"]) =>
        {
            (
                Action::Invalid,
                reason::ADMISSION_REFUSED,
                "change the object with a transform so that the rule allows it, or change the rule",
            )
        }
        400 | 403 | 404 | 405 | 413 | 415 | 422 => {
            (Action::Invalid, reason::INVALID, "correct it with a transform, or exclude the item")
        }
        _ => (Action::Conflict, reason::SERVER_FAILED, "restore again when the server, or what it asks, is well"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proposal::Precondition;

    const REFUSED: &str = r#"Internal error occurred: failed calling webhook "guard.example.com": failed to call webhook: Post "https://guard.acme.svc:443/check?timeout=5s": dial tcp 10.96.0.7:443: connect: connection refused"#;

    fn webhook(name: &str, service: Option<(&str, &str)>) -> Awaited {
        let service = service.map(|(name, namespace)| (name.to_owned(), namespace.to_owned()));
        Awaited::Webhook(Webhook { name: name.to_owned(), service })
    }

    #[test]
    fn a_webhook_that_does_not_answer_is_known_with_the_service_behind_it() {
        let guard = webhook("guard.example.com", Some(("guard", "acme")));
        let of = |cause: &str| REFUSED.replace("dial tcp 10.96.0.7:443: connect: connection refused", cause);
        for cause in [
            "dial tcp 10.96.0.7:443: connect: connection refused",
            "no endpoints available for service \"guard\"",
            "service \"guard\" not found",
            "context deadline exceeded",
            "tls: failed to verify certificate: x509: certificate signed by unknown authority",
        ] {
            assert_eq!(awaited(500, &of(cause)), Some(guard.clone()), "{cause}");
        }
        let url = REFUSED.replace("guard.acme.svc:443", "guard.example.com");
        assert_eq!(awaited(500, &url), Some(webhook("guard.example.com", None)), "one outside of the cluster");
        let conversion = r#"conversion webhook for example.com/v1, Kind=Widget failed: Post "https://widgets.acme.svc:443/convert?timeout=30s": no endpoints available for service "widgets""#;
        assert_eq!(
            awaited(500, conversion),
            Some(webhook("for example.com/v1, Kind=Widget", Some(("widgets", "acme"))))
        );
    }

    #[test]
    fn what_controllers_are_about_to_do_is_waited_for_and_a_refusal_is_not() {
        for (code, message, expected) in [
            (
                403,
                r#"pods "a" is forbidden: error looking up service account acme/default: serviceaccount "default" not found"#,
                Some(Awaited::DefaultAccount),
            ),
            (
                403,
                r#"pods "a" is forbidden: error looking up service account acme/web: serviceaccount "web" not found"#,
                None,
            ),
            (
                403,
                r#"secrets "a" is forbidden: status unknown for quota: small, resources: count/secrets"#,
                Some(Awaited::QuotaCount),
            ),
            (403, r#"secrets "a" is forbidden: exceeded quota: small"#, None),
            (503, "the server is currently unable to handle the request", Some(Awaited::Server)),
            (503, r#"admission webhook "guard.example.com" denied the request: not today"#, None),
            (500, "Internal error occurred: etcdserver: request timed out", None),
            (422, r#"Invalid value: "failed calling webhook "x"": is what somebody called an object"#, None),
        ] {
            assert_eq!(awaited(code, message), expected, "{code} {message}");
        }
    }

    #[test]
    fn only_a_service_of_this_namespace_can_come_with_the_restore() {
        let Some(Awaited::Webhook(webhook)) = awaited(500, REFUSED) else { panic!("a webhook") };
        assert_eq!(webhook.service_in("acme").map(|item| item.to_string()), Some("core/Service/guard".to_owned()));
        assert_eq!(webhook.service_in("kube-system"), None);
    }

    #[test]
    fn the_words_name_the_webhook_and_what_to_do() {
        let (action, remark) = refusal(500, REFUSED, &Write::Delete(Precondition::default()));
        assert_eq!((action, remark.code.as_str()), (Action::Conflict, reason::WEBHOOK_UNAVAILABLE));
        for word in ["guard.example.com", "Service guard in acme", "connection refused", "spec.rerunOf"] {
            assert!(remark.message.contains(word), "{word} is not in: {}", remark.message);
        }
        let (action, remark) = refusal(403, "status unknown for quota: small", &Write::Delete(Precondition::default()));
        assert_eq!((action, remark.code.as_str()), (Action::Conflict, reason::SERVER_FAILED));
    }

    #[test]
    fn each_refusal_has_the_action_and_the_code_of_what_refused() {
        let (create, update) =
            (Write::Create(serde_json::json!({"kind": "Role"})), Write::Update(serde_json::json!({})));
        let binding = Write::Recreate(Precondition::default(), serde_json::json!({"kind": "RoleBinding"}));
        let delete = Write::Delete(Precondition::default());
        for (code, message, write, action, reason) in [
            (403, "exceeded quota: small", &create, Action::Conflict, reason::QUOTA_EXCEEDED),
            (401, "exceeded quota: small", &create, Action::Conflict, reason::QUOTA_EXCEEDED),
            (403, "attempting to grant RBAC permissions not held", &create, Action::Forbidden, reason::FORBIDDEN),
            (403, "User \"ada\" cannot create", &create, Action::Forbidden, reason::FORBIDDEN),
            (403, "of no known form", &create, Action::Invalid, reason::INVALID),
            (404, "roles not found", &binding, Action::Invalid, reason::INVALID),
            (404, "namespaces not found", &create, Action::Invalid, reason::INVALID),
            (409, "the object has been modified", &update, Action::Conflict, reason::MOVED),
            (422, "spec.selector: field is immutable", &update, Action::Conflict, reason::IMMUTABLE_FIELD),
            (422, "spec.selector: field is immutable", &create, Action::Invalid, reason::INVALID),
            (422, "spec.replicas: must be positive", &update, Action::Invalid, reason::INVALID),
            (400, "admission webhook \"w\" denied the request", &create, Action::Invalid, reason::ADMISSION_REFUSED),
            (403, "violates PodSecurity", &create, Action::Invalid, reason::ADMISSION_REFUSED),
            (422, "ValidatingAdmissionPolicy 'p'", &create, Action::Invalid, reason::ADMISSION_REFUSED),
            (413, "too large", &create, Action::Invalid, reason::INVALID),
            (401, "Unauthorized", &create, Action::Conflict, reason::SERVER_FAILED),
            (500, "etcdserver: request timed out", &delete, Action::Conflict, reason::SERVER_FAILED),
            (503, "the server is starting", &delete, Action::Conflict, reason::SERVER_FAILED),
        ] {
            let (got, remark) = refusal(code, message, write);
            assert_eq!((got, remark.code.as_str()), (action, reason), "{code} {message}");
            assert!(
                remark.message.ends_with(&format!("the API server answers {code} {message}")),
                "{}",
                remark.message
            );
        }
        let advice = |message, write| refusal(404, message, write).1.message;
        assert!(advice("x", &binding).starts_with("make the role that it binds"));
        assert!(advice("x", &create).starts_with("correct it"), "only a binding needs a role");
        let grants = refusal(403, "attempting to grant RBAC permissions: User \"ada\"", &create).1.message;
        assert!(grants.starts_with("let the account that writes hold what it gives"), "{grants}");
    }

    #[test]
    fn a_webhook_is_read_back_from_the_error_that_it_is_repeated_as() {
        let webhook = |name: &str, service: Option<(&str, &str)>| {
            let service = service.map(|(name, namespace)| (name.to_owned(), namespace.to_owned()));
            Webhook { name: name.to_owned(), service }
        };
        for (webhook, error, shown) in [
            (
                webhook("guard.example.com", Some(("guard", "acme"))),
                r#"failed calling webhook "guard.example.com": Post "https://guard.acme.svc""#,
                "the webhook guard.example.com (Service guard in acme)",
            ),
            (
                webhook("guard.example.com", None),
                r#"failed calling webhook "guard.example.com""#,
                "the webhook guard.example.com",
            ),
            (
                webhook("for example.com/v1, Kind=Widget", None),
                "conversion webhook for example.com/v1, Kind=Widget failed",
                "the webhook for example.com/v1, Kind=Widget",
            ),
        ] {
            assert_eq!((webhook.as_error().as_str(), webhook.to_string().as_str()), (error, shown));
            assert_eq!(Webhook::read(error), Some(webhook));
        }
        assert_eq!(awaited(503, REFUSED), Some(self::webhook("guard.example.com", Some(("guard", "acme")))));
    }
}
