//! One write of one item, as a dry run or for real.

use crate::{
    api::item::ItemId,
    cluster::{list::encode, pace::Pace},
    items::{
        holdings::{beside, fits_in_place},
        plan::{Remark, reason},
        proposal::{Precondition, Proposal, Verdict, Write},
        readers::Readers,
        refusal::{Awaited, awaited},
        served::ServedKind,
        words::{Answer, words},
    },
    worker::failure::{Failure, api_failure, describe},
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

/// Field manager of a restore's fields.
pub const FIELD_MANAGER: &str = "tenantatlas-restore";

/// How long a deleted object may take to disappear before it is recreated: longer than the default
/// grace period of a Pod.
const LINGERS: Duration = Duration::from_secs(90);

/// How long a quota may take to count a deletion.
const COUNTED: Duration = Duration::from_secs(20);

/// Poll interval while waiting for a deletion.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// How often restoring field managers is retried if the object changes meanwhile.
const LOOKS: usize = 4;

/// How the API server reports fields that it does not know.
const STRICTLY: &str = "strict decoding error";

/// Maximum number of concurrent writes.
pub const AT_ONCE: usize = 16;

/// How to write: a client, and a pace that the API server can sustain.
pub struct Calls {
    client: Client,
    pace: Pace,
    /// Kinds for which the API server's messages may be repeated unchanged.
    readers: Readers,
    /// Components that did not respond to a dry run after all its retries. Further dry runs are not
    /// retried for them.
    unanswered: Mutex<BTreeSet<Awaited>>,
}

impl Calls {
    /// Creates calls with this client, for reports with these readers.
    #[must_use]
    pub fn new(client: &Client, readers: Readers) -> Self {
        Self { client: client.clone(), pace: Pace::new(AT_ONCE), readers, unanswered: Mutex::default() }
    }

    /// The API server's message about an object, as far as it may be shown.
    fn told(&self, target: Target<'_>, status: &Status) -> String {
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

/// Where to write.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The kind, in the version that is written.
    pub kind: &'a ServedKind,
    /// Namespace of the tenant.
    pub namespace: &'a str,
    /// Name of the object.
    pub name: &'a str,
}

/// Result of a dry run.
#[derive(Clone, Debug, PartialEq)]
pub struct Tried {
    /// The API server's verdict.
    pub verdict: Verdict,
    /// Fields that it would drop because the schema of the kind does not know them, in its own
    /// words.
    pub dropped: Option<String>,
}

impl Tried {
    fn plain(verdict: Verdict) -> Self {
        Self { verdict, dropped: None }
    }
}

/// Asks the API server what a write would do. Fails only if the API server does not respond.
pub async fn attempt(calls: &Calls, target: Target<'_>, proposal: &Proposal) -> Result<Tried, Failure> {
    match proposal.write() {
        Write::Create(body) => {
            let answer = lenient::<IgnoredAny>(calls, target, Method::POST, body, true).await;
            tried(calls, target, answer, |_| Verdict::Accepted(None))
        }
        Write::Update(body) => {
            let answer = lenient(calls, target, Method::PUT, body, true).await;
            tried(calls, target, answer, |would_be| Verdict::Accepted(Some(would_be)))
        }
        Write::Recreate(_, body) => try_recreation(calls, target, proposal, body).await,
        Write::Delete(precondition) => {
            let options = delete_options(precondition, true);
            let answer = call::<IgnoredAny>(calls, target, Method::DELETE, Some(&options), "?dryRun=All").await;
            let deleted = tried(calls, target, answer.map(|answer| (answer, None)), |_| Verdict::Accepted(None))?;
            match (deleted.verdict, proposal.again()) {
                (Verdict::Accepted(_), Some(again)) => try_to_make_again(calls, target, proposal, again).await,
                (verdict, _) => Ok(Tried::plain(verdict)),
            }
        }
    }
}

/// Tests whether a recreation makes any difference, and whether the API server accepts the new
/// object.
async fn try_recreation(
    calls: &Calls,
    target: Target<'_>,
    proposal: &Proposal,
    body: &Value,
) -> Result<Tried, Failure> {
    if let Some(in_place) = proposal.in_place()
        && let Ok((would_be, _)) = lenient::<Value>(calls, target, Method::PUT, in_place, true).await
        && proposal.stays(&would_be)
    {
        return Ok(Tried::plain(Verdict::AsItIs));
    }
    try_creation(calls, target, proposal, body).await
}

/// Tests whether a deleted object could be recreated. If it could not, no restore can undo the
/// deletion.
async fn try_to_make_again(
    calls: &Calls,
    target: Target<'_>,
    proposal: &Proposal,
    again: &Value,
) -> Result<Tried, Failure> {
    let verdict = match try_creation(calls, target, proposal, again).await?.verdict {
        Verdict::Refused { code, message, .. } => match awaited(code, &message) {
            Some(_) => Verdict::NotAsked(format!(
                "it is not known whether it could be made again: the API server answers {code} {message}"
            )),
            None => Verdict::Final { code, message },
        },
        verdict => verdict,
    };
    Ok(Tried::plain(verdict))
}

/// Tests whether an object could be created in place of the live one, which still exists and holds
/// its ports, address and quota.
async fn try_creation(calls: &Calls, target: Target<'_>, proposal: &Proposal, body: &Value) -> Result<Tried, Failure> {
    let nothing = Value::Null;
    let live = proposal.live().unwrap_or(&nothing);
    let answer = lenient::<IgnoredAny>(calls, target, Method::POST, &beside(body, live), true).await;
    match answer {
        // The API server reports this last, after all other checks.
        Err(Error::Api(status)) if status.is_already_exists() => Ok(Tried::plain(Verdict::Accepted(None))),
        Err(Error::Api(status)) if status.code == 403 && fits_in_place(&status.message, live) => {
            Ok(Tried::plain(Verdict::Accepted(None)))
        }
        answer => tried(calls, target, answer, |_| Verdict::Accepted(None)),
    }
}

fn tried<T>(
    calls: &Calls,
    target: Target<'_>,
    answer: Result<(T, Option<String>), Error>,
    accepted: impl FnOnce(T) -> Verdict,
) -> Result<Tried, Failure> {
    match answer {
        Ok((would_be, dropped)) => Ok(Tried { verdict: accepted(would_be), dropped }),
        Err(Error::Api(status)) => Ok(Tried::plain(Verdict::Refused {
            code: status.code,
            reason: status.reason.clone(),
            message: calls.told(target, &status),
        })),
        Err(error) => Err(api_failure(&format!("try to write {} {}", target.kind.kind, target.name), &error)),
    }
}

/// Result of a real write.
#[derive(Clone, Debug, PartialEq)]
pub enum Performed {
    /// The write was done.
    Done {
        /// Uid of the object now. `None` for a deletion.
        uid: Option<String>,
        /// A remark about the successful write.
        remark: Option<Remark>,
    },
    /// The object has changed. Nothing was done.
    Moved,
    /// The object was deleted, and another client created one of the same name.
    Retaken,
    /// The object is being deleted and does not disappear. Nothing was created.
    Lingers,
    /// The API server refuses the write. Nothing was done.
    Refused {
        /// HTTP status.
        code: u16,
        /// The server's message, without secrets.
        message: String,
    },
    /// The API server would not accept the deleted object again. Nothing was done.
    Final {
        /// HTTP status.
        code: u16,
        /// The server's message, without secrets.
        message: String,
    },
    /// The object was deleted, and the API server refuses its replacement.
    Deleted {
        /// HTTP status.
        code: u16,
        /// The server's message, without secrets.
        message: String,
        /// Uid of the previous object, if it was recreated. `None` if it is gone.
        put_back: Option<String>,
    },
}

/// Writes. Fails only if the API server does not respond.
pub async fn perform(calls: &Calls, target: Target<'_>, proposal: &Proposal) -> Result<Performed, Failure> {
    let write = proposal.write();
    let done = match write {
        Write::Create(body) => lenient(calls, target, Method::POST, body, false).await,
        Write::Update(body) => lenient(calls, target, Method::PUT, body, false).await,
        Write::Recreate(precondition, body) => return recreate(calls, target, proposal, precondition, body).await,
        Write::Delete(precondition) => {
            if let Some(again) = proposal.again().filter(|_| !proposal.may_lose()) {
                match try_creation(calls, target, proposal, again).await?.verdict {
                    Verdict::Refused { code, message, .. } if awaited(code, &message).is_some() => {
                        return Ok(Performed::Refused { code, message });
                    }
                    Verdict::Refused { code, message, .. } => return Ok(Performed::Final { code, message }),
                    _ => {}
                }
            }
            match delete(calls, target, precondition).await {
                Ok(()) => return Ok(Performed::Done { uid: None, remark: None }),
                Err(error) => Err(error),
            }
        }
    };
    match done {
        Ok((written, dropped)) => Ok(finish(calls, target, proposal, written, dropped).await),
        Err(error) => not_done(calls, target, write, error),
    }
}

fn not_done(calls: &Calls, target: Target<'_>, write: &Write, error: Error) -> Result<Performed, Failure> {
    match error {
        // Also returned when a retry repeats a write that was already done. The next read shows
        // that it was.
        Error::Api(status) if status.code == 409 => Ok(Performed::Moved),
        Error::Api(status) if status.code == 404 && !matches!(write, Write::Create(_)) => Ok(Performed::Moved),
        Error::Api(status) => Ok(Performed::Refused { code: status.code, message: calls.told(target, &status) }),
        error => Err(api_failure(&format!("write {} {}", target.kind.kind, target.name), &error)),
    }
}

/// Completes a write: restores the field managers.
async fn finish(
    calls: &Calls,
    target: Target<'_>,
    proposal: &Proposal,
    written: Written,
    dropped: Option<String>,
) -> Performed {
    let uid = written.metadata.uid.clone();
    let mut remark = dropped.map(|dropped| without_fields(&dropped));
    if let Err(error) = give_back(calls, target, written, proposal.managers()).await {
        let message = format!(
            "apply it with `--force-conflicts` the next time: it is restored, but its fields belong to {FIELD_MANAGER} now: {}",
            describe(&error)
        );
        remark.get_or_insert_with(|| Remark::new(reason::FIELD_MANAGERS_LOST, message));
    }
    Performed::Done { uid, remark }
}

/// Restores the field managers that used server-side apply. Other managers that exist by now are
/// kept, except this restore's own.
async fn give_back(calls: &Calls, target: Target<'_>, written: Written, managers: &[Value]) -> Result<(), Error> {
    if managers.is_empty() {
        return Ok(());
    }
    let mut written = written;
    let mut looks = 0;
    loop {
        let is = |one: &Value, other: &Value, field: &str| one[field] == other[field];
        let same = |one: &Value, other: &Value| {
            ["manager", "operation", "apiVersion", "subresource"].iter().all(|field| is(one, other, field))
        };
        let ours = |entry: &Value| {
            entry["manager"] == FIELD_MANAGER && entry["operation"] == "Update" && entry["subresource"].is_null()
        };
        let metadata = &written.metadata;
        let others = metadata.managed_fields.iter();
        let others = others.filter(|entry| !ours(entry) && !managers.iter().any(|back| same(back, entry)));
        let all: Vec<&Value> = others.chain(managers).collect();
        let patch = json!({"metadata": {"uid": metadata.uid, "resourceVersion": metadata.resource_version, "managedFields": all}});
        let query = format!("?fieldManager={FIELD_MANAGER}");
        match call::<IgnoredAny>(calls, target, Method::PATCH, Some(&patch), &query).await {
            Ok(_) => return Ok(()),
            // A controller has written its status meanwhile.
            Err(Error::Api(status)) if status.code == 409 && looks < LOOKS => looks += 1,
            Err(error) => return Err(error),
        }
        written = call(calls, target, Method::GET, None, "").await?;
    }
}

/// Remark about fields that the API server drops.
#[must_use]
pub fn without_fields(dropped: &str) -> Remark {
    let message = format!(
        "install the definition that knows all of its fields, then restore it again: it is written without some of them: {dropped}"
    );
    Remark::new(reason::FIELDS_DROPPED, message)
}

/// Deletes and recreates an object. Nothing is deleted before the API server has accepted the
/// replacement in a dry run. If it refuses the replacement after the deletion, the previous object
/// is recreated if possible.
async fn recreate(
    calls: &Calls,
    target: Target<'_>,
    proposal: &Proposal,
    precondition: &Precondition,
    body: &Value,
) -> Result<Performed, Failure> {
    match try_recreation(calls, target, proposal, body).await?.verdict {
        Verdict::AsItIs => return Ok(Performed::Done { uid: Some(precondition.uid.clone()), remark: None }),
        Verdict::Refused { code, message, .. } => return Ok(Performed::Refused { code, message }),
        _ => {}
    }
    if let Err(error) = delete(calls, target, precondition).await {
        return not_done(calls, target, proposal.write(), error);
    }
    if !gone(calls, target, &precondition.uid).await? {
        return Ok(Performed::Lingers);
    }
    let refused = match make_when_counted(calls, target, body).await {
        Ok((written, dropped)) => return Ok(finish(calls, target, proposal, written, dropped).await),
        Err(Error::Api(status)) if status.is_already_exists() => return Ok(Performed::Retaken),
        Err(Error::Api(status)) => status,
        Err(error) => return not_done(calls, target, proposal.write(), error),
    };
    let (code, message) = (refused.code, calls.told(target, &refused));
    let put_back = match proposal.again() {
        Some(again) => make_when_counted(calls, target, again).await.ok().and_then(|(written, _)| uid_of(written)),
        None => None,
    };
    Ok(Performed::Deleted { code, message, put_back })
}

/// Creates the replacement of a deleted object. A refusal by a quota is retried, because a
/// controller needs a moment to count the deletion.
async fn make_when_counted(
    calls: &Calls,
    target: Target<'_>,
    body: &Value,
) -> Result<(Written, Option<String>), Error> {
    let deadline = Instant::now() + COUNTED;
    loop {
        match lenient(calls, target, Method::POST, body, false).await {
            Err(Error::Api(status)) if status.code == 403 && status.message.contains("quota") => {
                if Instant::now() >= deadline {
                    return Err(Error::Api(status));
                }
            }
            answer => return answer,
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// The parts of a response that are used. The rest is not kept.
#[derive(Deserialize)]
struct Written {
    metadata: WrittenMetadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenMetadata {
    uid: Option<String>,
    resource_version: Option<String>,
    #[serde(default)]
    managed_fields: Vec<Value>,
}

fn uid_of(written: Written) -> Option<String> {
    written.metadata.uid
}

/// The live object, if it exists, or the API server's refusal. Fails only if the API server does
/// not respond.
pub async fn get(calls: &Calls, target: Target<'_>) -> Result<Result<Option<Value>, Box<Status>>, Failure> {
    match call(calls, target, Method::GET, None, "").await {
        Ok(object) => Ok(Ok(Some(object))),
        Err(Error::Api(status)) if status.code == 404 => Ok(Ok(None)),
        Err(Error::Api(status)) => Ok(Err(status)),
        Err(error) => Err(api_failure(&format!("read {} {}", target.kind.kind, target.name), &error)),
    }
}

/// Result of reading an object.
pub enum Seen {
    /// The object exists.
    Object(Value),
    /// The object does not exist.
    Nothing,
    /// The object may not be read.
    Hidden,
}

/// Reads a cluster-scoped object.
pub async fn get_cluster_wide(calls: &Calls, kind: &ServedKind, name: &str) -> Result<Seen, Failure> {
    match request(calls, Method::GET, None, &format!("{}/{}", kind.cluster_path(), encode(name)), false).await {
        Ok(object) => Ok(Seen::Object(object)),
        Err(Error::Api(status)) if status.code == 404 => Ok(Seen::Nothing),
        Err(Error::Api(_)) => Ok(Seen::Hidden),
        Err(error) => Err(api_failure(&format!("read {} {name}", kind.kind), &error)),
    }
}

async fn delete(calls: &Calls, target: Target<'_>, precondition: &Precondition) -> Result<(), Error> {
    match call::<Value>(calls, target, Method::DELETE, Some(&delete_options(precondition, false)), "").await {
        Ok(_) => Ok(()),
        Err(Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(error),
    }
}

/// Waits until a deleted object is gone. The wait is bounded, because finalizers may wait for a
/// controller that does not exist.
async fn gone(calls: &Calls, target: Target<'_>, uid: &str) -> Result<bool, Failure> {
    let deadline = Instant::now() + LINGERS;
    loop {
        match get(calls, target).await? {
            Ok(Some(object)) if object["metadata"]["uid"] == uid => {}
            Ok(_) => return Ok(true),
            // A refused read is retried.
            Err(_) => {}
        }
        if Instant::now() >= deadline {
            return Ok(false);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Options of a deletion.
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

/// Writes with strict field validation. If the API server does not know some fields, writes without
/// them and returns which they are.
async fn lenient<T: DeserializeOwned>(
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

async fn call<T: DeserializeOwned>(
    calls: &Calls,
    target: Target<'_>,
    method: Method,
    body: Option<&Value>,
    query: &str,
) -> Result<T, Error> {
    let dry_run = query.contains("dryRun=");
    let mut uri = target.kind.list_path(target.namespace);
    if method != Method::POST {
        uri.push('/');
        uri.push_str(&encode(target.name));
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
fn webhook(status: &kube::core::Status) -> Option<Awaited> {
    awaited(status.code, &status.message).filter(|awaited| matches!(awaited, Awaited::Webhook(_)))
}
