//! Health and metrics over HTTP: `/healthz` (the process), `/readyz` (ready for traffic; so is a
//! replica that waits for the Lease), `/metrics`. Health is public. Metrics name all tenants, and
//! are for clients that the API server allows to read them ([`super::gate`]).

use crate::{controller::gate::Gate, telemetry::metrics::Metrics};
use axum::{
    Router,
    http::{HeaderMap, StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// Whether the process has reached the API server.
#[derive(Clone, Default)]
pub struct Readiness(Arc<AtomicBool>);

impl Readiness {
    /// Marks the process as ready.
    pub fn ready(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_ready(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Serves until the process ends.
pub async fn serve(address: SocketAddr, metrics: Metrics, gate: Gate, readiness: Readiness) -> std::io::Result<()> {
    axum::serve(tokio::net::TcpListener::bind(address).await?, router(metrics, gate, readiness)).await
}

fn router(metrics: Metrics, gate: Gate, readiness: Readiness) -> Router {
    let ready = move || {
        let ready = readiness.is_ready();
        async move {
            if ready {
                (StatusCode::OK, "ok")
            } else {
                (StatusCode::SERVICE_UNAVAILABLE, "the API server has not been reached")
            }
        }
    };
    let gate = Arc::new(gate);
    let text = move |headers: HeaderMap| {
        let (gate, metrics) = (gate.clone(), metrics.clone());
        async move {
            match gate.admits(&headers).await {
                Ok(()) => {
                    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
                    ([(header::CONTENT_TYPE, kind)], metrics.text()).into_response()
                }
                Err(refusal) => (refusal.status, refusal.message).into_response(),
            }
        }
    };
    Router::new().route("/healthz", get(|| async { "ok" })).route("/readyz", get(ready)).route("/metrics", get(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cluster::client::CallCounts, controller::gate::tests::api_server};
    use axum::body::Body;
    use tower::ServiceExt;

    async fn get_as(path: &str, token: Option<&str>) -> (u16, String) {
        let (client, _) = api_server();
        let router = router(Metrics::new(CallCounts::default()), Gate::new(client), Readiness::default());
        let mut request = http::Request::get(path);
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let answer = router.oneshot(request.body(Body::empty()).expect("a request")).await.expect("an answer");
        let code = answer.status().as_u16();
        let body = axum::body::to_bytes(answer.into_body(), 1 << 20).await.expect("a body");
        (code, String::from_utf8(body.to_vec()).expect("UTF-8"))
    }

    #[tokio::test]
    async fn metrics_are_for_whom_the_api_server_lets_read_them_and_health_is_for_everybody() {
        for (token, expected) in [(None, 401), (Some("nobody"), 401), (Some("eve"), 403), (Some("prometheus"), 200)] {
            let (code, text) = get_as("/metrics", token).await;
            assert_eq!(code, expected, "{token:?}: {text}");
            assert_eq!(text.contains("tenantatlas_"), expected == 200, "{token:?}: {text}");
            assert_eq!(get_as("/healthz", token).await.0, 200);
            assert_eq!(get_as("/readyz", token).await.0, 503, "it has not reached the API server");
        }
    }
}
