//! One write of one object, with the precondition that it was decided for.

use crate::{
    api::reason::item as reason,
    items::{
        plan::Remark,
        proposal::{Precondition, Proposal, Verdict, Write},
        refusal::awaited,
    },
    providers::{
        call::{Performed, Target, without_fields},
        fault::{CallFailed, Fault},
        kubernetes::{
            calls::{Calls, FIELD_MANAGER, call, get, lenient},
            dry_run::{try_creation, try_recreation},
        },
    },
};
use http::Method;
use kube::Error;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;

/// How long a deleted object may take to disappear before it is recreated: longer than the default
/// grace period of a Pod.
const LINGERS: Duration = Duration::from_secs(90);

/// How long a quota may take to count a deletion.
const COUNTED: Duration = Duration::from_secs(20);

/// Poll interval while waiting for a deletion.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// How often restoring field managers is retried if the object changes meanwhile.
const LOOKS: usize = 4;

/// Writes. Fails only if the API server does not respond.
pub(super) async fn perform(calls: &Calls, target: Target<'_>, proposal: &Proposal) -> Result<Performed, CallFailed> {
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

fn not_done(calls: &Calls, target: Target<'_>, write: &Write, error: Error) -> Result<Performed, CallFailed> {
    match error {
        // Also returned when a retry repeats a write that was already done. The next read shows
        // that it was.
        Error::Api(status) if status.code == 409 => Ok(Performed::Moved),
        Error::Api(status) if status.code == 404 && !matches!(write, Write::Create(_)) => Ok(Performed::Moved),
        Error::Api(status) => Ok(Performed::Refused { code: status.code, message: calls.told(target, &status) }),
        error => Err(CallFailed::new(format!("write {} {}", target.kind.kind, target.name), error)),
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
            Fault::from(error)
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

/// Deletes and recreates an object. Nothing is deleted before the API server has accepted the
/// replacement in a dry run. If it refuses the replacement after the deletion, the previous object
/// is recreated if possible.
async fn recreate(
    calls: &Calls,
    target: Target<'_>,
    proposal: &Proposal,
    precondition: &Precondition,
    body: &Value,
) -> Result<Performed, CallFailed> {
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

async fn delete(calls: &Calls, target: Target<'_>, precondition: &Precondition) -> Result<(), Error> {
    match call::<Value>(calls, target, Method::DELETE, Some(&delete_options(precondition, false)), "").await {
        Ok(_) => Ok(()),
        Err(Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(error),
    }
}

/// Waits until a deleted object is gone. The wait is bounded, because finalizers may wait for a
/// controller that does not exist.
async fn gone(calls: &Calls, target: Target<'_>, uid: &str) -> Result<bool, CallFailed> {
    let deadline = Instant::now() + LINGERS;
    loop {
        match get(calls, target).await {
            Ok(Some(object)) if object["metadata"]["uid"] == uid => {}
            Ok(_) => return Ok(true),
            // A refused read is retried.
            Err(Error::Api(_)) => {}
            Err(error) => {
                return Err(CallFailed::new(format!("read {} {}", target.kind.kind, target.name), error));
            }
        }
        if Instant::now() >= deadline {
            return Ok(false);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Options of a deletion.
pub(super) fn delete_options(precondition: &Precondition, dry_run: bool) -> Value {
    let mut options = json!({
        "apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background",
        "preconditions": {"uid": precondition.uid, "resourceVersion": precondition.resource_version},
    });
    if dry_run {
        options["dryRun"] = json!(["All"]);
    }
    options
}
