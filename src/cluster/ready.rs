//! Whether a refusal counts.
//!
//! An API server that has just started refuses everything with 403 until it knows its roles, and
//! nothing in the response shows it. Taken at its word, every worker that starts meanwhile would
//! fail for good, and a capture would leave out kinds. Its `/readyz` passes only once it knows its
//! roles. So after a 403 the API server is asked whether it is ready.
//!
//! Between the refusal and the question it may become ready. Then the refusal counts although it
//! should not. That takes a moment, of the seconds that a start takes.

use http::{Request, StatusCode};
use kube::{Client, client::Body};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::time::Instant;

/// How long an API server may refuse to say whether it is ready before that is taken for its
/// policy, and not for its start.
const STARTS: Duration = Duration::from_secs(15);

/// Time between two questions.
const LOOKS: Duration = Duration::from_millis(500);

/// Timeout of one question.
const ANSWERS: Duration = Duration::from_secs(5);

/// Asks an API server whether it is ready.
#[derive(Clone)]
pub struct Readiness {
    client: Client,
    /// Whether this API server never tells this account: its administrator took the right away.
    is_withheld: Arc<AtomicBool>,
}

impl Readiness {
    /// The client sends the question and nothing else.
    #[must_use]
    pub fn of(client: Client) -> Self {
        Self { client, is_withheld: Arc::default() }
    }

    /// Whether a 403 that was received just now counts. `false`: repeat the call.
    pub(super) async fn vouches(&self) -> bool {
        if self.is_withheld.load(Ordering::Relaxed) {
            return true;
        }
        let until = Instant::now() + STARTS;
        let mut is_first = true;
        loop {
            match self.ask().await {
                // After a refusal to tell, it has become ready: the 403 was from before.
                Some(StatusCode::OK) => return is_first,
                Some(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                    if Instant::now() >= until {
                        self.is_withheld.store(true, Ordering::Relaxed);
                        return true;
                    }
                }
                // Something in between that knows no such path.
                Some(status) if status.is_client_error() => return true,
                Some(_) | None => return false,
            }
            is_first = false;
            tokio::time::sleep(LOOKS).await;
        }
    }

    async fn ask(&self) -> Option<StatusCode> {
        let question = Request::get("/readyz").body(Body::empty()).ok()?;
        let answer = tokio::time::timeout(ANSWERS, self.client.send(question)).await;
        Some(answer.ok()?.ok()?.status())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Response;
    use std::sync::atomic::AtomicUsize;
    use tower::{BoxError, service_fn};

    /// An API server that answers with these, and then always with the last.
    fn answering(statuses: &'static [u16]) -> (Readiness, Arc<AtomicUsize>) {
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        let server = service_fn(move |request: Request<Body>| {
            assert_eq!(request.uri().path(), "/readyz");
            let place = counted.fetch_add(1, Ordering::SeqCst);
            let status = statuses.get(place).or(statuses.last()).copied().unwrap_or(500);
            async move { Ok::<_, BoxError>(Response::builder().status(status).body(Body::empty()).expect("a response")) }
        });
        (Readiness::of(Client::new(server, "a")), asked)
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_by_an_api_server_that_starts_does_not_count_and_by_one_that_is_ready_does() {
        for (statuses, counts) in [
            (&[200][..], true),
            (&[500], false),
            (&[403, 403, 200], false),
            (&[403, 403, 500], false),
            (&[401, 200], false),
            (&[404], true),
        ] {
            assert_eq!(answering(statuses).0.vouches().await, counts, "{statuses:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_api_server_that_never_tells_is_asked_for_a_while_and_then_never_again() {
        let (readiness, asked) = answering(&[403]);
        let begun = Instant::now();
        assert!(readiness.vouches().await);
        assert!(begun.elapsed() >= STARTS);
        let before = asked.load(Ordering::SeqCst);
        assert!(readiness.clone().vouches().await);
        assert_eq!(asked.load(Ordering::SeqCst), before);
    }
}
