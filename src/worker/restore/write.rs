//! One write of one item, tried (a dry run) or meant.

use crate::{
    api::item::ItemId,
    cluster::{discovery::ServedKind, list::encode, pace::Pace},
    restore::{
        decide::{Precondition, Verdict, Write},
        refusal::{Awaited, awaited},
        words::{Answer, words},
    },
    worker::failure::{Failure, api_failure},
};
use http::{Method, Request};
use kube::{Client, Error, core::Status};
use serde::{
    Deserialize,
    de::{DeserializeOwned, IgnoredAny},
};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// The name under which a restore's fields are managed.
pub const FIELD_MANAGER: &str = "tenantatlas-restore";

/// How long a deleted object may take to go before it is made anew: longer than the usual grace of a Pod.
const LINGERS: Duration = Duration::from_secs(90);

/// How often one looks whether it has gone.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// The most writes at once.
pub const AT_ONCE: usize = 16;

/// The way to write: a client, and a pace that the API server can bear.
pub struct Calls {
    client: Client,
    pace: Pace,
    /// Who did not answer however often a dry run was repeated: for them no other one is.
    unanswered: Mutex<BTreeSet<Awaited>>,
}

impl Calls {
    /// By this client.
    #[must_use]
    pub fn new(client: &Client) -> Self {
        Self { client: client.clone(), pace: Pace::new(AT_ONCE), unanswered: Mutex::default() }
    }

    fn gave_up(&self, awaited: &Awaited) -> bool {
        self.unanswered.lock().unwrap_or_else(PoisonError::into_inner).contains(awaited)
    }

    fn give_up(&self, awaited: Awaited) {
        self.unanswered.lock().unwrap_or_else(PoisonError::into_inner).insert(awaited);
    }
}

/// Where to write.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The kind, in the version of what is written.
    pub kind: &'a ServedKind,
    /// The tenant.
    pub namespace: &'a str,
    /// The object's name.
    pub name: &'a str,
}

/// Asks the API server what it would do. Fails only if it does not answer.
pub async fn attempt(calls: &Calls, target: Target<'_>, write: &Write) -> Result<Verdict, Failure> {
    let answer = match write {
        // An object that is there answers the creation with AlreadyExists, after everything else was looked at.
        Write::Create(body) | Write::Recreate(_, body) => taken(calls, target, Method::POST, body).await,
        Write::Update(body) => call(calls, target, Method::PUT, Some(body), true).await.map(Some),
        Write::Delete(precondition) => taken(calls, target, Method::DELETE, &delete_options(precondition, true)).await,
    };
    match answer {
        Ok(would_be) => Ok(Verdict::Accepted(would_be)),
        Err(Error::Api(status)) => {
            Ok(Verdict::Refused { code: status.code, reason: status.reason.clone(), message: told(target, &status) })
        }
        Err(error) => Err(api_failure(&format!("try to write {} {}", target.kind.kind, target.name), &error)),
    }
}

/// A dry run of which only counts that it was taken.
async fn taken(calls: &Calls, target: Target<'_>, method: Method, body: &Value) -> Result<Option<Value>, Error> {
    call::<IgnoredAny>(calls, target, method, Some(body), true).await.map(|_| None)
}

/// What became of a write that was meant.
#[derive(Clone, Debug, PartialEq)]
pub enum Performed {
    /// Done; with the uid that the object has now, but for a deletion.
    Done(Option<String>),
    /// The object is not as it was: nothing was done.
    Moved,
    /// The object is being deleted, and does not go: nothing was made.
    Lingers,
    /// The API server refuses.
    Refused {
        /// HTTP status.
        code: u16,
        /// The server's words, without secrets.
        message: String,
    },
}

/// Writes. Fails only if the API server does not answer.
pub async fn perform(calls: &Calls, target: Target<'_>, write: &Write) -> Result<Performed, Failure> {
    let done = match write {
        Write::Create(body) => call(calls, target, Method::POST, Some(body), false).await.map(uid_of),
        Write::Update(body) => call(calls, target, Method::PUT, Some(body), false).await.map(uid_of),
        Write::Delete(precondition) => delete(calls, target, precondition).await.map(|()| None),
        Write::Recreate(precondition, body) => match delete(calls, target, precondition).await {
            Ok(()) if !gone(calls, target, &precondition.uid).await? => return Ok(Performed::Lingers),
            Ok(()) => call(calls, target, Method::POST, Some(body), false).await.map(uid_of),
            Err(error) => Err(error),
        },
    };
    match done {
        Ok(uid) => Ok(Performed::Done(uid)),
        // Also after a repetition of what had been done before: whoever looks again sees that it is so.
        Err(Error::Api(status)) if status.code == 409 => Ok(Performed::Moved),
        Err(Error::Api(status)) if status.code == 404 && !matches!(write, Write::Create(_)) => Ok(Performed::Moved),
        Err(Error::Api(status)) => Ok(Performed::Refused { code: status.code, message: told(target, &status) }),
        Err(error) => Err(api_failure(&format!("write {} {}", target.kind.kind, target.name), &error)),
    }
}

/// What of an answer counts; the rest of it is not kept.
#[derive(Deserialize)]
struct Written {
    metadata: WrittenMetadata,
}

#[derive(Deserialize)]
struct WrittenMetadata {
    uid: Option<String>,
}

fn uid_of(written: Written) -> Option<String> {
    written.metadata.uid
}

/// The live object, if it is there.
pub async fn get(calls: &Calls, target: Target<'_>) -> Result<Option<Value>, Failure> {
    match call(calls, target, Method::GET, None, false).await {
        Ok(object) => Ok(Some(object)),
        Err(Error::Api(status)) if status.code == 404 => Ok(None),
        Err(error) => Err(api_failure(&format!("read {} {}", target.kind.kind, target.name), &error)),
    }
}

async fn delete(calls: &Calls, target: Target<'_>, precondition: &Precondition) -> Result<(), Error> {
    match call::<Value>(calls, target, Method::DELETE, Some(&delete_options(precondition, false)), false).await {
        Ok(_) => Ok(()),
        Err(Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(error),
    }
}

/// Waits until what was deleted is gone; not for ever, because finalizers may wait for somebody who is not there.
async fn gone(calls: &Calls, target: Target<'_>, uid: &str) -> Result<bool, Failure> {
    let deadline = Instant::now() + LINGERS;
    loop {
        match get(calls, target).await? {
            Some(object) if object["metadata"]["uid"] == uid => {}
            _ => return Ok(true),
        }
        if Instant::now() >= deadline {
            return Ok(false);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// The API server's words about an object, as far as they may be shown.
fn told(target: Target<'_>, status: &Status) -> String {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    let fields: Vec<&str> = causes.map(|cause| cause.field.as_str()).collect();
    let item = ItemId::new(target.kind.group_kind(), target.name);
    let Status { code, reason, message, .. } = status;
    words(&item, &Answer { code: *code, reason, message, fields: &fields })
}

/// What a deletion asks for.
fn delete_options(precondition: &Precondition, dry_run: bool) -> Value {
    let mut options = json!({
        "apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background",
        "preconditions": {"uid": precondition.uid, "resourceVersion": precondition.resource_version},
    });
    if dry_run {
        options["dryRun"] = json!(["All"]);
    }
    options
}

async fn call<T: DeserializeOwned>(
    calls: &Calls,
    target: Target<'_>,
    method: Method,
    body: Option<&Value>,
    dry_run: bool,
) -> Result<T, Error> {
    let mut uri = target.kind.list_path(target.namespace);
    if method != Method::POST {
        uri.push('/');
        uri.push_str(&encode(target.name));
    }
    if method == Method::POST || method == Method::PUT {
        uri.push_str("?fieldManager=");
        uri.push_str(FIELD_MANAGER);
        if dry_run {
            uri.push_str("&dryRun=All");
        }
    } else if dry_run {
        uri.push_str("?dryRun=All");
    }
    let bytes = body.map(serde_json::to_vec).transpose().map_err(Error::SerdeError)?.unwrap_or_default();
    let answer = calls
        .pace
        .call(|| async {
            let request = Request::builder()
                .method(method.clone())
                .uri(&uri)
                .header(http::header::CONTENT_TYPE, "application/json")
                .body(bytes.clone())
                .map_err(Error::HttpError)?;
            match calls.client.request::<T>(request).await {
                // Who meant the write puts it back, and has other things to do.
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

/// The webhook that does not answer, if that is what an answer is about.
fn webhook(status: &kube::core::Status) -> Option<Awaited> {
    awaited(status.code, &status.message).filter(|awaited| matches!(awaited, Awaited::Webhook(_)))
}
