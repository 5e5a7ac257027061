//! What the API server would do with a write: dry runs.

use crate::{
    items::{
        holdings::{beside, fits_in_place},
        proposal::{Proposal, Verdict, Write},
        refusal::awaited,
    },
    providers::{
        call::{Target, Tried},
        fault::CallFailed,
        kubernetes::{
            calls::{Calls, call, lenient},
            write::delete_options,
        },
    },
};
use http::Method;
use serde::de::IgnoredAny;
use serde_json::Value;

/// Asks the API server what a write would do. Fails only if the API server does not respond.
pub(super) async fn attempt(calls: &Calls, target: Target<'_>, proposal: &Proposal) -> Result<Tried, CallFailed> {
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
pub(super) async fn try_recreation(
    calls: &Calls,
    target: Target<'_>,
    proposal: &Proposal,
    body: &Value,
) -> Result<Tried, CallFailed> {
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
) -> Result<Tried, CallFailed> {
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
pub(super) async fn try_creation(
    calls: &Calls,
    target: Target<'_>,
    proposal: &Proposal,
    body: &Value,
) -> Result<Tried, CallFailed> {
    let nothing = Value::Null;
    let live = proposal.live().unwrap_or(&nothing);
    let answer = lenient::<IgnoredAny>(calls, target, Method::POST, &beside(body, live), true).await;
    match answer {
        // The API server reports this last, after all other checks.
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(Tried::plain(Verdict::Accepted(None))),
        Err(kube::Error::Api(status)) if status.code == 403 && fits_in_place(&status.message, live) => {
            Ok(Tried::plain(Verdict::Accepted(None)))
        }
        answer => tried(calls, target, answer, |_| Verdict::Accepted(None)),
    }
}

fn tried<T>(
    calls: &Calls,
    target: Target<'_>,
    answer: Result<(T, Option<String>), kube::Error>,
    accepted: impl FnOnce(T) -> Verdict,
) -> Result<Tried, CallFailed> {
    match answer {
        Ok((would_be, dropped)) => Ok(Tried { verdict: accepted(would_be), dropped }),
        Err(kube::Error::Api(status)) => Ok(Tried::plain(Verdict::Refused {
            code: status.code,
            reason: status.reason.clone(),
            message: calls.told(target, &status),
        })),
        Err(error) => Err(CallFailed::new(format!("try to write {} {}", target.kind.kind, target.name), error)),
    }
}
