//! Who may read the metrics: a client with a bearer token that the API server knows, if the API
//! server lets it `get` the path `/metrics`.
//!
//! Answers are cached for a while, so a scrape costs nothing. Unknown tokens are reviewed one at a
//! time, so clients without the right cost the API server little, and the operator a bounded amount
//! of memory.

use axum::http::{HeaderMap, StatusCode, header};
use k8s_openapi::api::{
    authentication::v1::{TokenReview, TokenReviewSpec},
    authorization::v1::{NonResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use sha2::{Digest, Sha256};
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::{sync::Semaphore, time::Instant};

/// The path that is reviewed.
const PATH: &str = "/metrics";

/// Audience that a token may have besides the API server's own. Such a token is good for nothing
/// else.
const AUDIENCE: &str = "tenantatlas-metrics";

/// How long an answer is cached.
const HOLDS: Duration = Duration::from_mins(1);

/// Maximum number of cached answers.
const KEPT: usize = 100;

/// Longest token that is reviewed.
const LONGEST: usize = 16 * 1024;

/// Admits or refuses clients.
pub struct Gate {
    client: Client,
    answers: Mutex<HashMap<[u8; 32], (Instant, Answer)>>,
    asking: Semaphore,
}

/// The API server's answer about a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Allowed,
    Unknown,
    Forbidden,
}

/// Why a client is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Status code of the response.
    pub status: StatusCode,
    /// What to do about it.
    pub message: &'static str,
}

impl Gate {
    /// Creates a gate that asks this API server.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client, answers: Mutex::default(), asking: Semaphore::new(1) }
    }

    /// Whether the client that sends these headers may read the metrics.
    pub async fn admits(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let token = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        let Some(token) = token.map(str::trim).filter(|token| !token.is_empty() && token.len() <= LONGEST) else {
            return refuse(Answer::Unknown);
        };
        let key = Sha256::digest(token).into();
        if let Some(answer) = self.known(&key) {
            return refuse(answer);
        }
        let Ok(_turn) = self.asking.try_acquire() else {
            return Err(Refusal {
                status: StatusCode::TOO_MANY_REQUESTS,
                message: "try again: somebody else is being asked about",
            });
        };
        match self.ask(token).await {
            Ok(answer) => {
                self.keep(key, answer);
                refuse(answer)
            }
            Err(error) => {
                tracing::warn!(%error, "it cannot be asked who may read the metrics");
                Err(Refusal {
                    status: StatusCode::SERVICE_UNAVAILABLE,
                    message: "try again: the API server does not say who you are",
                })
            }
        }
    }

    fn known(&self, key: &[u8; 32]) -> Option<Answer> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.get(key).filter(|(since, _)| since.elapsed() < HOLDS).map(|(_, answer)| *answer)
    }

    /// Caches an answer. A refused client never displaces an allowed one.
    fn keep(&self, key: [u8; 32], answer: Answer) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.retain(|_, (since, _)| since.elapsed() < HOLDS);
        if answers.len() >= KEPT {
            answers.retain(|_, (_, answer)| *answer == Answer::Allowed);
        }
        if answers.len() < KEPT {
            answers.insert(key, (Instant::now(), answer));
        }
    }

    async fn ask(&self, token: &str) -> Result<Answer, kube::Error> {
        let parameters = PostParams::default();
        for audiences in [None, Some(vec![AUDIENCE.to_owned()])] {
            let review = TokenReview {
                metadata: ObjectMeta::default(),
                spec: TokenReviewSpec { audiences, token: Some(token.to_owned()) },
                status: None,
            };
            let reviews: Api<TokenReview> = Api::all(self.client.clone());
            let status = reviews.create(&parameters, &review).await?.status.unwrap_or_default();
            let Some(user) = status.user.filter(|_| status.authenticated == Some(true)) else { continue };
            let review = SubjectAccessReview {
                metadata: ObjectMeta::default(),
                spec: SubjectAccessReviewSpec {
                    extra: user.extra,
                    groups: user.groups,
                    uid: user.uid,
                    user: user.username,
                    non_resource_attributes: Some(NonResourceAttributes {
                        path: Some(PATH.to_owned()),
                        verb: Some("get".to_owned()),
                    }),
                    resource_attributes: None,
                },
                status: None,
            };
            let reviews: Api<SubjectAccessReview> = Api::all(self.client.clone());
            let allowed = reviews.create(&parameters, &review).await?.status.is_some_and(|status| status.allowed);
            return Ok(if allowed { Answer::Allowed } else { Answer::Forbidden });
        }
        Ok(Answer::Unknown)
    }
}

fn refuse(answer: Answer) -> Result<(), Refusal> {
    match answer {
        Answer::Allowed => Ok(()),
        Answer::Unknown => Err(Refusal {
            status: StatusCode::UNAUTHORIZED,
            message: "send the token of an account that may read metrics: Authorization: Bearer <token>",
        }),
        Answer::Forbidden => Err(Refusal {
            status: StatusCode::FORBIDDEN,
            message: "bind this account to the ClusterRole tenantatlas-metrics-reader: it may not get /metrics",
        }),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use http::{Request, Response};
    use kube::client::Body;
    use serde_json::{Value, json};
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };
    use tower::{BoxError, service_fn};

    /// An API server that counts its requests. It knows `prometheus`, who is allowed, `eve`, who is
    /// not, and `bound`, who has a token for metrics alone.
    pub fn api_server() -> (Client, Arc<AtomicUsize>) {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        let server = service_fn(move |request: Request<Body>| {
            let count = count.clone();
            async move {
                count.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
                let path = request.uri().path().to_owned();
                let mut review: Value = serde_json::from_slice(&request.into_body().collect_bytes().await?)?;
                let spec = &review["spec"];
                review["status"] = if path == "/apis/authentication.k8s.io/v1/tokenreviews" {
                    let token = spec["token"].as_str().unwrap_or_default();
                    let known = match spec["audiences"][0].as_str() {
                        None => ["prometheus", "eve"].contains(&token),
                        Some(audience) => audience == AUDIENCE && token == "bound",
                    };
                    json!({ "authenticated": known, "user": { "username": token, "groups": ["g"], "uid": "u" } })
                } else {
                    assert_eq!(path, "/apis/authorization.k8s.io/v1/subjectaccessreviews");
                    assert_eq!(spec["nonResourceAttributes"], json!({ "path": "/metrics", "verb": "get" }));
                    assert_eq!((&spec["groups"], &spec["uid"]), (&json!(["g"]), &json!("u")));
                    json!({ "allowed": spec["user"] != "eve" })
                };
                Ok::<_, BoxError>(Response::new(Body::from(serde_json::to_vec(&review)?)))
            }
        });
        (Client::new(server, "default"), asked)
    }

    async fn status(gate: &Gate, token: &str) -> u16 {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, format!("Bearer {token}").parse().expect("a header"));
        gate.admits(&headers).await.map_or_else(|refusal| refusal.status.as_u16(), |()| 200)
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_holds_for_a_minute_whatever_it_is() {
        let (client, asked) = api_server();
        let gate = Gate::new(client);
        for (token, code, calls) in [("prometheus", 200, 2), ("eve", 403, 2), ("nobody", 401, 2), ("bound", 200, 3)] {
            let before = asked.load(Ordering::Relaxed);
            for _ in 0..3 {
                assert_eq!(status(&gate, token).await, code, "{token}");
            }
            assert_eq!(asked.load(Ordering::Relaxed) - before, calls, "{token}");
        }
        tokio::time::advance(HOLDS).await;
        let before = asked.load(Ordering::Relaxed);
        assert_eq!(status(&gate, "prometheus").await, 200);
        assert_eq!(asked.load(Ordering::Relaxed) - before, 2, "asked anew");
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_knocks_with_many_tokens_is_asked_about_one_at_a_time_and_is_not_remembered_for_long() {
        let (client, asked) = api_server();
        let gate = Gate::new(client);
        assert_eq!(status(&gate, "prometheus").await, 200);
        let tokens: Vec<String> = (0..500).map(|number| format!("guess-{number}")).collect();
        let before = asked.load(Ordering::Relaxed);
        let together: Vec<u16> = futures::future::join_all(tokens.iter().map(|token| status(&gate, token))).await;
        assert!(together.contains(&429) && !together.contains(&200), "{together:?}");
        assert!(asked.load(Ordering::Relaxed) - before < 500);
        for token in &tokens {
            assert_eq!(status(&gate, token).await, 401);
        }
        assert!(gate.answers.lock().expect("no panic").len() <= KEPT);
        let before = asked.load(Ordering::Relaxed);
        assert_eq!(status(&gate, "prometheus").await, 200);
        assert_eq!(asked.load(Ordering::Relaxed), before, "who may is still known");
        assert_eq!(status(&gate, &"x".repeat(LONGEST + 1)).await, 401);
    }
}
