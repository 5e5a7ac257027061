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
    },
    /// Already read in full, or made up by an observer.
    Whole(Option<Bytes>),
}

impl<B> CallBody<B> {
    pub(super) fn received(body: B, deadline: Option<Instant>, trim: Option<Box<Trim>>) -> Self {
        let deadline = deadline.map(|deadline| Box::pin(tokio::time::sleep_until(deadline)));
        Self::Received { body, deadline, trims: trim.is_some(), trim }
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
            Self::Received { body, deadline, trim, .. } => {
                while let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(context) {
                    let Some(trimming) = trim else { return Poll::Ready(frame.map(|frame| frame.map_err(Into::into))) };
                    let kept = match frame {
                        Some(Ok(frame)) => match frame.into_data() {
                            Ok(data) => trimming.take(&data),
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
