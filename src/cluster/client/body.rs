//! The body of a response: it must arrive in time, and it may be trimmed while it arrives.

use super::Call;
use crate::cluster::trim::Trim;
use bytes::Bytes;
use http::{Response, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use std::{
    pin::Pin,
    task::{Context, Poll},
};
use tokio::time::{Instant, Sleep};
use tower::BoxError;

/// The response that an API server would send with this status.
pub(super) fn made_up<B>(call: &Call, status: StatusCode, why: &str) -> Response<CallBody<B>> {
    let reason = match status.as_u16() {
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        409 if call.verb == "create" => "AlreadyExists",
        409 => "Conflict",
        410 => "Expired",
        422 => "Invalid",
        429 => "TooManyRequests",
        503 => "ServiceUnavailable",
        504 => "Timeout",
        _ => "InternalError",
    };
    let body = serde_json::json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": status.as_u16(),
        "message": format!("{call} {why}"),
    });
    let mut response = Response::new(CallBody::Whole(Some(Bytes::from(body.to_string()))));
    *response.status_mut() = status;
    response
}

/// Bytes of a response that are trimmed before other tasks have their turn: some milliseconds.
const TURN: usize = 128 * 1024;

/// Body of a response. It must arrive in time, too.
pub enum CallBody<B> {
    /// From the API server, with the deadline for reading it.
    Received {
        /// The body as it arrives.
        body: B,
        /// Wakes the reader at the deadline.
        deadline: Option<Pin<Box<Sleep>>>,
        /// Trims the body, until the body has ended.
        trim: Option<Box<Trim>>,
        /// Whether the body is trimmed.
        trims: bool,
        /// Bytes that were trimmed since other tasks had their turn.
        trimmed: usize,
    },
    /// Already read in full, or made up by an observer.
    Whole(Option<Bytes>),
}

impl<B> CallBody<B> {
    pub(super) fn received(body: B, deadline: Option<Instant>, trim: Option<Box<Trim>>) -> Self {
        let deadline = deadline.map(|deadline| Box::pin(tokio::time::sleep_until(deadline)));
        Self::Received { body, deadline, trims: trim.is_some(), trim, trimmed: 0 }
    }
}

/// The rest of a response did not arrive in time.
#[derive(Debug, thiserror::Error)]
#[error("the answer was not complete in time")]
pub(super) struct BodyTimedOut;

impl<B> HttpBody for CallBody<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Received { body, deadline, trim, trimmed, .. } => {
                loop {
                    // A page of large objects takes seconds to trim, and the Lease is renewed on the same
                    // threads.
                    if *trimmed >= TURN {
                        *trimmed = 0;
                        context.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(context) else { break };
                    let Some(trimming) = trim else { return Poll::Ready(frame.map(|frame| frame.map_err(Into::into))) };
                    let kept = match frame {
                        Some(Ok(frame)) => match frame.into_data() {
                            Ok(data) => {
                                *trimmed += data.len();
                                trimming.take(&data)
                            }
                            // Trailers have no meaning here.
                            Err(_) => continue,
                        },
                        Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                        None => {
                            let rest = trimming.end();
                            *trim = None;
                            if rest.is_empty() {
                                return Poll::Ready(None);
                            }
                            rest
                        }
                    };
                    if !kept.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(Bytes::from(kept)))));
                    }
                }
                match deadline {
                    Some(deadline) => deadline.as_mut().poll(context).map(|()| Some(Err(BodyTimedOut.into()))),
                    None => Poll::Pending,
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Received { body, trim, .. } => trim.is_none() && body.is_end_stream(),
            Self::Whole(bytes) => bytes.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Received { trims: true, .. } => SizeHint::default(),
            Self::Received { body, .. } => body.size_hint(),
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{BodyExt, Full, StreamBody};
    use std::{
        convert::Infallible,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
    };

    #[tokio::test(flavor = "current_thread")]
    async fn other_tasks_have_their_turn_while_a_large_response_is_trimmed() {
        const FRAMES: usize = 64;
        let turns = Arc::new(AtomicUsize::new(0));
        let counted = turns.clone();
        let other = tokio::spawn(async move {
            loop {
                counted.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        });
        // The whole response is there at once, and nothing of it is kept.
        let item = format!(r#"{{"metadata":{{"name":"a"}},"spec":{{"inputs":"{}"}}}}"#, "x".repeat(FRAMES * TURN));
        let text = Bytes::from(format!(r#"{{"kind":"OperationRunList","items":[{item}]}}"#));
        let pieces: Vec<Bytes> =
            (0..text.len()).step_by(TURN).map(|at| text.slice(at..text.len().min(at + TURN))).collect();
        let frames = pieces.into_iter().map(|piece| Ok::<_, Infallible>(Frame::data(piece)));
        let body = StreamBody::new(futures::stream::iter(frames));
        let trim = Box::new(Trim::of("list", "operationruns.tenantatlas.io"));
        let kept = CallBody::received(body, None, Some(trim)).collect().await.expect("a body").to_bytes();
        assert!(kept.len() < text.len() / 2, "{} bytes are kept", kept.len());
        let had = turns.load(Ordering::Relaxed);
        assert!(had >= FRAMES / 2, "the other task had {had} turns");
        // What is not trimmed is handed over as it is.
        let whole = CallBody::received(Full::new(text.clone()), None, None).collect().await.expect("a body");
        assert_eq!(whole.to_bytes(), text);
        other.abort();
    }
}
