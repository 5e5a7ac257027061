//! Requests for single objects: at a pace that the API server can sustain, repeated as long as that
//! may help, with messages that may be shown.

use crate::{
    api::item::ItemId,
    cluster::pace::Pace,
    items::{
        readers::Readers,
        refusal::{Awaited, awaited},
        served::ServedKind,
        words::{Answer, words},
    },
    providers::{AT_ONCE, call::Target},
};
use http::{Method, Request};
use kube::{Client, Error, core::Status};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

/// Field manager of a restore's fields.
pub const FIELD_MANAGER: &str = "tenantatlas-restore";

/// How the API server reports fields that it does not know.
const STRICTLY: &str = "strict decoding error";

/// How to write: a client, and a pace that the API server can sustain.
pub struct Calls {
    client: Client,
    namespace: String,
    pace: Pace,
    /// Kinds for which the API server's messages may be repeated unchanged.
    readers: Readers,
    /// Components that did not respond to a dry run after all its retries. Further dry runs are not
    /// retried for them.
    unanswered: Mutex<BTreeSet<Awaited>>,
}

impl Calls {
    /// Creates calls for the objects of a namespace, for reports with these readers.
    #[must_use]
    pub fn new(client: &Client, namespace: &str, readers: Readers) -> Self {
        Self {
            client: client.clone(),
            namespace: namespace.to_owned(),
            pace: Pace::new(AT_ONCE),
            readers,
            unanswered: Mutex::default(),
        }
    }

    /// The API server's message about an object, as far as it may be shown.
    pub(super) fn told(&self, target: Target<'_>, status: &Status) -> String {
        let causes = status.details.iter().flat_map(|details| &details.causes);
        let fields: Vec<&str> = causes.map(|cause| cause.field.as_str()).collect();
        let item = ItemId::new(target.kind.group_kind(), target.name);
        let Status { code, reason, message, .. } = status;
        words(&item, &Answer { code: *code, reason, message, fields: &fields }, &self.readers)
    }

    fn gave_up(&self, awaited: &Awaited) -> bool {
        self.unanswered.lock().unwrap_or_else(PoisonError::into_inner).contains(awaited)
    }

    fn give_up(&self, awaited: Awaited) {
        self.unanswered.lock().unwrap_or_else(PoisonError::into_inner).insert(awaited);
    }
}

/// The live object, if it exists.
pub(super) async fn get(calls: &Calls, target: Target<'_>) -> Result<Option<Value>, Error> {
    found(call(calls, target, Method::GET, None, "").await)
}

/// A cluster-scoped object, if it exists.
pub(super) async fn get_cluster_wide(calls: &Calls, kind: &ServedKind, name: &str) -> Result<Option<Value>, Error> {
    found(request(calls, Method::GET, None, &format!("{}/{}", kind.cluster_path(), encode(name)), false).await)
}

fn found(answer: Result<Value, Error>) -> Result<Option<Value>, Error> {
    match answer {
        Err(Error::Api(status)) if status.code == 404 => Ok(None),
        answer => answer.map(Some),
    }
}

/// Writes with strict field validation. If the API server does not know some fields, writes without
/// them and returns which they are.
pub(super) async fn lenient<T: DeserializeOwned>(
    calls: &Calls,
    target: Target<'_>,
    method: Method,
    body: &Value,
    dry_run: bool,
) -> Result<(T, Option<String>), Error> {
    let query = |validation: &str| {
        let dry_run = if dry_run { "&dryRun=All" } else { "" };
        format!("?fieldManager={FIELD_MANAGER}&fieldValidation={validation}{dry_run}")
    };
    match call(calls, target, method.clone(), Some(body), &query("Strict")).await {
        Err(Error::Api(status)) if status.code == 400 && status.message.contains(STRICTLY) => {
            let (_, fields) = status.message.split_once(STRICTLY).unwrap_or_default();
            let dropped = fields.trim_start_matches(':').trim().to_owned();
            call(calls, target, method, Some(body), &query("Ignore")).await.map(|answer| (answer, Some(dropped)))
        }
        answer => answer.map(|answer| (answer, None)),
    }
}

pub(super) async fn call<T: DeserializeOwned>(
    calls: &Calls,
    target: Target<'_>,
    method: Method,
    body: Option<&Value>,
    query: &str,
) -> Result<T, Error> {
    let dry_run = query.contains("dryRun=");
    let mut uri = target.kind.list_path(&calls.namespace);
    if method != Method::POST {
        uri.push('/');
        uri.extend(encode(target.name));
    }
    uri.push_str(query);
    request(calls, method, body, &uri, dry_run).await
}

async fn request<T: DeserializeOwned>(
    calls: &Calls,
    method: Method,
    body: Option<&Value>,
    uri: &str,
    dry_run: bool,
) -> Result<T, Error> {
    let content_type = if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
    let bytes = body.map(serde_json::to_vec).transpose().map_err(Error::SerdeError)?.unwrap_or_default();
    let answer = calls
        .pace
        .call(|| async {
            let request = Request::builder()
                .method(method.clone())
                .uri(uri)
                .header(http::header::CONTENT_TYPE, content_type)
                .body(bytes.clone())
                .map_err(Error::HttpError)?;
            match calls.client.request::<T>(request).await {
                // A real write is postponed by its caller, which has other work to do.
                Err(Error::Api(status)) if webhook(&status).is_some_and(|of| !dry_run || calls.gave_up(&of)) => {
                    Ok(Err(Error::Api(status)))
                }
                answer => answer.map(Ok),
            }
        })
        .await;
    if let Err(Error::Api(status)) = &answer
        && let Some(webhook) = webhook(status)
    {
        calls.give_up(webhook);
    }
    answer?
}

/// The webhook that does not respond, if the status is about one.
fn webhook(status: &Status) -> Option<Awaited> {
    awaited(status.code, &status.message).filter(|awaited| matches!(awaited, Awaited::Webhook(_)))
}

/// All but the characters that RFC 3986 leaves alone.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A name as a segment of a path. `kube::core::Request` puts names into its paths as they are, and
/// a Role may be named `a?b`: the request would be about `a`.
pub(super) fn encode(name: &str) -> PercentEncode<'_> {
    utf8_percent_encode(name, RESERVED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_encoded_name_holds_nothing_that_ends_a_segment(name in ".{0,60}") {
            let encoded = encode(&name).to_string();
            prop_assert!(encoded.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~%".contains(&b)));
        }
    }
}
