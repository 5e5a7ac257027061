//! The worker as a process: exit codes, termination messages, signals.

use super::{
    api::{Answer, Api, object, objects},
    support::{Pod, variables},
};
use axum::{Router, body::to_bytes, extract::Request, response::Response};
use serde_json::{Value, json};
use std::{
    process::Stdio,
    time::{Duration, Instant},
};
use tokio::process::{Child, Command};

/// Serves an API on a port of its own; ends with the test's runtime.
pub async fn serve(api: &Api) -> String {
    let api = api.clone();
    let router = Router::new().fallback(move |request: Request| {
        let api = api.clone();
        async move {
            let (parts, body) = request.into_parts();
            let body = to_bytes(body, usize::MAX).await.unwrap();
            let (status, text) = match api.answer(&parts.method, &parts.uri, &body) {
                Answer::Json(status, value) => (status, value.to_string()),
                Answer::Text(status, text) => (status, text),
                Answer::Broken => panic!("the connection breaks"),
                Answer::Hangs => std::future::pending().await,
            };
            Response::builder().status(status).body(axum::body::Body::from(text)).unwrap()
        }
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

/// A worker's process in a pod, before it is started.
pub fn worker(pod: &Pod, url: &str, command: &str) -> Command {
    let kubeconfig = pod.root().join("kubeconfig");
    let config = json!({"apiVersion": "v1", "kind": "Config", "current-context": "test",
        "clusters": [{"name": "test", "cluster": {"server": url}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test", "namespace": "acme"}}],
        "users": [{"name": "test", "user": {}}]});
    std::fs::write(&kubeconfig, config.to_string()).unwrap();
    let mut worker = Command::new(env!("CARGO_BIN_EXE_tenantatlas"));
    worker.args(["worker", command, "--root"]).arg(pod.root()).env("KUBECONFIG", kubeconfig);
    worker.envs(variables(&json!({"repository": "main"}), None)).kill_on_drop(true).stderr(Stdio::null());
    worker
}

pub fn message(pod: &Pod) -> Value {
    serde_json::from_slice(&std::fs::read(pod.mounts().termination_message).unwrap()).unwrap()
}

pub async fn code(worker: &mut Command) -> i32 {
    worker.status().await.unwrap().code().expect("it was not killed")
}

/// Polls until something is so, for at most 20 s.
async fn until(what: &str, so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !so() {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn terminate(child: &Child) {
    let status = std::process::Command::new("kill").arg("-TERM").arg(child.id().unwrap().to_string()).status().unwrap();
    assert!(status.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_capture_ends_with_its_result_as_the_termination_message() {
    let (api, pod) = (Api::new(), Pod::with_password());
    api.serve_config_maps(objects(3));
    let url = serve(&api).await;
    assert_eq!(code(&mut worker(&pod, &url, "check")).await, 0, "it creates the repository");
    assert_eq!(code(&mut worker(&pod, &url, "capture")).await, 0);
    let message = message(&pod);
    assert_eq!((&message["outcome"], &message["summaryCounts"]["succeeded"]), (&json!("succeeded"), &json!(3)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fenced_worker_says_so_and_has_no_effect() {
    let (api, pod) = (Api::new(), Pod::new());
    api.serve_config_maps(objects(3));
    api.change_run(|run| run["spec"]["cancel"] = json!(true));
    let url = serve(&api).await;
    for command in ["fence", "capture", "check"] {
        assert_eq!(code(&mut worker(&pod, &url, command)).await, 49, "{command}");
        assert_eq!(message(&pod)["reason"], "Cancelled");
    }
    assert_eq!(std::fs::read_dir(pod.mounts().volume).unwrap().count(), 0, "no repository was made");
    assert!(
        api.requests().iter().all(|request| request.starts_with("GET") && request.ends_with("/operationruns/nightly"))
    );
    api.change_run(|run| run["spec"]["cancel"] = json!(false));
    assert_eq!(code(&mut worker(&pod, &url, "fence")).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_variable_is_named_in_the_termination_message() {
    let (api, pod) = (Api::new(), Pod::new());
    let url = serve(&api).await;
    assert_eq!(code(worker(&pod, &url, "capture").env_remove("ATLAS_REPOSITORY_SPEC")).await, 40);
    let message = message(&pod);
    assert!(message["message"].as_str().unwrap().contains("ATLAS_REPOSITORY_SPEC"), "{message}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn told_to_stop_it_stops_at_once_and_leaves_no_snapshot() {
    let (api, pod) = (Api::new(), Pod::new());
    api.serve_config_maps(objects(50));
    api.serve("zzz.example.com", "v1", "Last", "lasts", vec![object("z")]);
    api.fail(|uri, _| uri.path().ends_with("/lasts").then_some(Answer::Hangs));
    let url = serve(&api).await;
    pod.checked().await;
    let mut child = worker(&pod, &url, "capture").spawn().unwrap();
    until("the capture is under way", || api.requests().iter().any(|request| request.ends_with("/lasts"))).await;
    let told = Instant::now();
    terminate(&child);
    let status = child.wait().await.unwrap();
    assert_eq!(status.code(), Some(1));
    assert!(told.elapsed() < Duration::from_secs(2), "it took {:?}", told.elapsed());
    assert_eq!(message(&pod)["reason"], "Interrupted");
    assert_eq!(pod.snapshots().await, 0);
    // The next attempt does all of it.
    api.heal();
    assert_eq!(code(&mut worker(&pod, &url, "capture")).await, 0);
    assert_eq!((message(&pod)["summaryCounts"]["succeeded"].as_i64(), pod.snapshots().await), (Some(51), 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_in_the_middle_it_leaves_nothing_that_the_next_attempt_does_not_make_whole() {
    let (api, pod) = (Api::new(), Pod::new());
    api.serve_config_maps(objects(50));
    api.serve("zzz.example.com", "v1", "Last", "lasts", vec![object("z")]);
    api.fail(|uri, asked| (uri.path().ends_with("/lasts") && asked == 0).then_some(Answer::Hangs));
    let url = serve(&api).await;
    pod.checked().await;
    let mut child = worker(&pod, &url, "capture").spawn().unwrap();
    until("the capture is under way", || api.requests().iter().any(|request| request.ends_with("/lasts"))).await;
    child.kill().await.unwrap();
    assert_eq!(pod.snapshots().await, 0);
    for _ in 0..2 {
        assert_eq!(code(&mut worker(&pod, &url, "capture")).await, 0);
        assert_eq!((message(&pod)["summaryCounts"]["succeeded"].as_i64(), pod.snapshots().await), (Some(51), 1));
    }
}
