//! One call to the API server, as RBAC would name it, and how it ended. Pure.

use http::{Method, Uri};
use std::fmt;

/// One call, as RBAC would name it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Call {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`, or the
    /// lower-case HTTP method if the path names no resource.
    pub verb: &'static str,
    /// `resource[.group][/subresource]`, such as `jobs.batch` or
    /// `operationruns.tenantatlas.io/status`, or the first segment of a path that names no resource
    /// (`apis`, `version`).
    pub resource: String,
    /// Namespace, if there is one.
    pub namespace: Option<String>,
    /// Name, if the call is about one object.
    pub name: Option<String>,
    /// Whether the call is a dry run.
    pub dry_run: bool,
}

impl Call {
    /// Derives a call from its method and URL.
    #[must_use]
    pub fn from_request(method: &Method, uri: &Uri) -> Self {
        let segments: Vec<&str> = uri.path().split('/').filter(|segment| !segment.is_empty()).collect();
        let query = uri.query().unwrap_or_default();
        let parameter = |key: &str| query.split('&').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
        let dry_run = parameter("dryRun").is_some_and(|value| !value.is_empty());
        let (group, rest) = match segments.as_slice() {
            ["api", _version, rest @ ..] if !rest.is_empty() => ("", rest),
            ["apis", group, _version, rest @ ..] if !rest.is_empty() => (*group, rest),
            other => {
                let resource = other.first().copied().unwrap_or("/").to_owned();
                return Self { verb: plain_verb(method), resource, namespace: None, name: None, dry_run };
            }
        };
        let (namespace, rest) = match rest {
            // `namespaces/<name>` and its subresources are about the namespace itself.
            ["namespaces", _] | ["namespaces", _, "status" | "finalize"] => (None, rest),
            ["namespaces", namespace, rest @ ..] => (Some((*namespace).to_owned()), rest),
            _ => (None, rest),
        };
        let mut resource = rest.first().copied().unwrap_or_default().to_owned();
        if !group.is_empty() {
            resource.push('.');
            resource.push_str(group);
        }
        if let Some(subresource) = rest.get(2) {
            resource.push('/');
            resource.push_str(subresource);
        }
        let name = rest.get(1).map(|name| (*name).to_owned());
        let watches = matches!(parameter("watch"), Some("true" | "1"));
        let verb = match (method.as_str(), &name) {
            ("GET", _) if watches => "watch",
            ("GET", None) => "list",
            ("POST", _) => "create",
            ("PUT", _) => "update",
            ("DELETE", None) => "deletecollection",
            _ => plain_verb(method),
        };
        Self { verb, resource, namespace, name, dry_run }
    }

    /// Whether the response is a stream that lasts as long as the client reads it.
    #[must_use]
    pub fn is_endless(&self, uri: &Uri) -> bool {
        self.verb == "watch" || uri.query().is_some_and(|query| query.split('&').any(|pair| pair == "follow=true"))
    }
}

impl fmt::Display for Call {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.verb, self.resource)?;
        match (&self.namespace, &self.name) {
            (Some(namespace), Some(name)) => write!(formatter, " {namespace}/{name}"),
            (Some(namespace), None) => write!(formatter, " in {namespace}"),
            (None, Some(name)) => write!(formatter, " {name}"),
            (None, None) => Ok(()),
        }
    }
}

fn plain_verb(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "get",
        "POST" => "post",
        "PUT" => "put",
        "PATCH" => "patch",
        "DELETE" => "delete",
        "HEAD" => "head",
        _ => "other",
    }
}

/// How a call ended, as far as the response headers show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Answer {
    /// With this status code.
    Status(u16),
    /// The call timed out.
    TimedOut,
    /// There was no response.
    Failed,
}

impl fmt::Display for Answer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(code) => write!(formatter, "{code}"),
            Self::TimedOut => formatter.write_str("timeout"),
            Self::Failed => formatter.write_str("error"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(method: &Method, uri: &str) -> Call {
        Call::from_request(method, &uri.parse().expect("a URI"))
    }

    #[test]
    fn a_call_is_read_as_rbac_names_it() {
        for (method, uri, expected) in [
            (Method::GET, "/api/v1/namespaces/a/configmaps?limit=500", "list configmaps in a"),
            (Method::GET, "/api/v1/namespaces/a/configmaps/b", "get configmaps a/b"),
            (Method::GET, "/api/v1/namespaces/a", "get namespaces a"),
            (Method::GET, "/api/v1/pods?watch=true&labelSelector=x", "watch pods"),
            (Method::POST, "/apis/batch/v1/namespaces/a/jobs", "create jobs.batch in a"),
            (Method::DELETE, "/apis/batch/v1/namespaces/a/jobs/b", "delete jobs.batch a/b"),
            (Method::DELETE, "/apis/batch/v1/namespaces/a/jobs", "deletecollection jobs.batch in a"),
            (
                Method::PATCH,
                "/apis/tenantatlas.io/v1alpha1/namespaces/a/operationruns/b/status?fieldManager=x",
                "patch operationruns.tenantatlas.io/status a/b",
            ),
            (Method::GET, "/apis", "get apis"),
            (Method::GET, "/apis/apps/v1", "get apis"),
            (Method::GET, "/", "get /"),
        ] {
            assert_eq!(call(&method, uri).to_string(), expected, "{method} {uri}");
        }
        assert!(call(&Method::PATCH, "/api/v1/namespaces/a/secrets/b?dryRun=All").dry_run);
        assert!(!call(&Method::PATCH, "/api/v1/namespaces/a/secrets/b").dry_run);
    }
}
