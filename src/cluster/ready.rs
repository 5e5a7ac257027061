//! Whether a refusal counts.
//!
//! An API server that has just started refuses everything with 403 until it knows its roles, and
//! nothing in the response shows it. Taken at its word, every worker that starts meanwhile would
//! fail for good, and a capture would leave out kinds. Its `/readyz` passes only once it knows its
//! roles. So after a 403 the API server is asked whether it is ready.
//!
//! Refusals that were received before a question was sent share its answer: a preview of thousands
//! of forbidden items asks a few times, not thousands.
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
use tokio::{sync::Mutex, time::Instant};

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
    /// When the newest question was sent, and whether it showed an API server that is ready. Held
    /// while a question is in flight: there is one at a time.
    newest: Arc<Mutex<Option<(Instant, bool)>>>,
}

impl Readiness {
    /// The client sends the question and nothing else.
    #[must_use]
    pub fn of(client: Client) -> Self {
        Self { client, is_withheld: Arc::default(), newest: Arc::default() }
    }

    /// Whether a 403 that was received just now counts. `false`: repeat the call.
    pub(super) async fn vouches(&self) -> bool {
        if self.is_withheld.load(Ordering::Relaxed) {
            return true;
        }
        let refused = Instant::now();
        let mut newest = self.newest.lock().await;
        match *newest {
            _ if self.is_withheld.load(Ordering::Relaxed) => return true,
            Some((asked, is_ready)) if asked > refused => return is_ready,
            _ => {}
        }
        let until = Instant::now() + STARTS;
        let mut is_first = true;
        loop {
            let asked = Instant::now();
            let answer = self.ask().await;
            match answer {
                // After a refusal to tell, it has become ready: the 403 was from before.
                Some(StatusCode::OK) if !is_first => return false,
                // Something in between may know no such path.
                Some(status) if status == StatusCode::OK || is_unknown(status) => {
                    *newest = Some((asked, true));
                    return true;
                }
                _ => *newest = Some((asked, false)),
            }
            if !answer.is_some_and(|status| status.is_client_error()) {
                return false;
            }
            if Instant::now() >= until {
                self.is_withheld.store(true, Ordering::Relaxed);
                return true;
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

/// Whether this status is of something that does not have the path, and not a refusal to tell.
fn is_unknown(status: StatusCode) -> bool {
    status.is_client_error() && ![StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(&status)
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

    #[tokio::test(start_paused = true)]
    async fn refusals_that_wait_for_a_question_share_the_answer_of_the_next() {
        for (statuses, counts) in [(&[200][..], true), (&[403, 403, 200, 200], false)] {
            let asked = Arc::new(AtomicUsize::new(0));
            let counted = Arc::clone(&asked);
            let server = service_fn(move |_: Request<Body>| {
                let place = counted.fetch_add(1, Ordering::SeqCst);
                let status = statuses.get(place).or(statuses.last()).copied().unwrap_or(500);
                async move {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    Ok::<_, BoxError>(Response::builder().status(status).body(Body::empty()).expect("a response"))
                }
            });
            let readiness = Readiness::of(Client::new(server, "a"));
            let refused = (0..50_u64).map(|number| {
                let readiness = readiness.clone();
                async move {
                    tokio::time::sleep(Duration::from_micros(number * 100)).await;
                    readiness.vouches().await
                }
            });
            let answers = futures::future::join_all(refused).await;
            assert!(answers.iter().all(|answer| *answer == counts), "{answers:?}");
            assert!(asked.load(Ordering::SeqCst) <= 3, "{asked:?}");
        }
    }
}
