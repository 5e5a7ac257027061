//! Restores into a cluster where somebody does not answer yet whom the API server must ask.

use super::{
    api::{Answer, Api, object, objects, refusal_with},
    restore::{Tenant, counts, lost_family},
};
use http::{Method, Uri};
use serde_json::{Value, json};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};
use tenantatlas::api::{Outcome, outcome::SummaryCounts};
use tokio::{sync::Notify, time::Instant};

/// What the API server says while a webhook that a Service of the tenant serves does not answer.
fn unanswered() -> Answer {
    let message = "Internal error occurred: failed calling webhook \"guard.example.com\": failed to call webhook: \
                   Post \"https://guard.acme.svc:443/check?timeout=5s\": dial tcp 10.96.0.7:443: connect: connection refused";
    refusal_with(500, "InternalError", message)
}

fn is_of(kind: &str, method: &Method, uri: &Uri) -> bool {
    method == Method::POST && uri.path().ends_with(kind)
}

/// Refuses so many creations of a kind, or all, each with an answer about the object of that name.
/// Returns how many there were. Time stands still from the first on, so that waiting takes none.
fn hold_up(api: &Api, kind: &'static str, times: usize, answer: fn(&str) -> Answer) -> Arc<AtomicUsize> {
    let tried = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&tried);
    api.refuse_writes_by_name(move |method, uri, name| {
        if !is_of(kind, method, uri) {
            return None;
        }
        let before = counted.fetch_add(1, SeqCst);
        if before == 0 {
            tokio::time::pause();
        }
        (before < times).then(|| answer(name))
    });
    tried
}

/// A tenant of which all is lost.
async fn lost() -> Tenant {
    let tenant = Tenant::usual().await;
    tenant.api.serve_config_maps(vec![]);
    tenant.api.serve("", "v1", "Secret", "secrets", vec![]);
    tenant.api.serve("apps", "v1", "Deployment", "deployments", vec![]);
    tenant
}

const ALL_DONE: [&str; 6] = [
    "core/ConfigMap/item-00000: done",
    "core/ConfigMap/item-00001: done",
    "core/ConfigMap/item-00002: done",
    "core/Secret/a: done",
    "core/Secret/b: done",
    "apps/Deployment/web: done",
];

fn restore() -> Value {
    json!({"dryRun": false, "safetyCapture": false})
}

#[tokio::test]
async fn what_a_webhook_holds_up_is_written_after_the_rest_once_it_answers() {
    let tenant = lost().await;
    let tried = hold_up(&tenant.api, "/configmaps", 5, |_| unanswered());
    let result = tenant.apply(restore()).await.unwrap();
    assert_eq!(result.outcome, Some(Outcome::Succeeded), "{result:?}");
    assert_eq!(tenant.results(), ALL_DONE, "in the order of the plan");
    let writes = tenant.api.writes();
    let place = |end: &str| writes.iter().position(|write| write.ends_with(end)).unwrap();
    assert!(place("/deployments") < place("/configmaps"), "{writes:?}");
    assert_eq!(tried.load(SeqCst), 3 + 2 + 3, "each once, then one for all until it comes through, then the others");
}

#[tokio::test]
async fn what_a_webhook_holds_up_for_good_fails_after_a_minute_with_words_that_name_it() {
    let tenant = lost().await;
    hold_up(&tenant.api, "/configmaps", usize::MAX, |_| unanswered());
    let begun = Instant::now();
    let result = tenant.apply(restore()).await.unwrap();
    let took = begun.elapsed();
    assert!((Duration::from_mins(1)..Duration::from_secs(90)).contains(&took), "{took:?}");
    assert_eq!(result.outcome, Some(Outcome::PartiallySucceeded));
    assert_eq!(counts(&result), SummaryCounts { total: 6, processed: 6, succeeded: 3, failed: 3, skipped: 0 });
    for failure in &result.failures {
        assert_eq!(failure.reason_code, "WebhookUnavailable");
        for word in ["guard.example.com", "Service guard in acme", "connection refused", "60 s", "spec.rerunOf"] {
            assert!(failure.message.contains(word), "{word} is not in: {}", failure.message);
        }
    }
    assert_eq!(tenant.results()[3..], ALL_DONE[3..]);
}

#[tokio::test]
async fn what_waits_is_left_at_once_when_the_restore_is_cancelled() {
    let tenant = lost().await;
    let stop = tenant.stop.clone();
    let tried = AtomicUsize::new(0);
    tenant.api.refuse_writes(move |method, uri| {
        if is_of("/configmaps", method, uri) && tried.fetch_add(1, SeqCst) == 4 {
            stop.set();
        }
        is_of("/configmaps", method, uri).then(unanswered)
    });
    // The fence before the first write lets it pass.
    tenant.api.cancel_after_reads_of_the_run(1);
    let begun = Instant::now();
    let result = tenant.apply(restore()).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert_eq!(counts(&result), SummaryCounts { total: 6, processed: 6, succeeded: 3, failed: 3, skipped: 0 });
    assert_eq!(tenant.results()[0], "core/ConfigMap/item-00000: failed WebhookUnavailable");
    assert!(!result.failures[0].message.contains("60 s"), "{}", result.failures[0].message);
}

#[tokio::test]
async fn an_attempt_that_died_while_it_waited_is_followed_by_one_that_does_what_is_left() {
    let tenant = lost().await;
    let waits = Arc::new(Notify::new());
    let (tried, seen) = (AtomicUsize::new(0), Arc::clone(&waits));
    tenant.api.refuse_writes(move |method, uri| {
        if !is_of("/configmaps", method, uri) {
            return None;
        }
        if tried.fetch_add(1, SeqCst) < 4 {
            return Some(unanswered());
        }
        seen.notify_one();
        Some(Answer::Hangs)
    });
    tokio::select! {
        ended = tenant.apply(restore()) => panic!("it does not wait: {ended:?}"),
        () = waits.notified() => {}
    }
    let written = tenant.api.writes();
    assert_eq!(written.len(), 3, "the rest is written: {written:?}");
    tenant.api.heal();
    let result = tenant.apply_again().await.unwrap();
    assert_eq!(result.outcome, Some(Outcome::Succeeded));
    assert_eq!(tenant.results(), ALL_DONE);
    assert_eq!(tenant.api.writes().len(), 6, "nothing twice");
}

#[tokio::test]
async fn children_wait_with_their_owner() {
    let tenant = lost_family().await;
    hold_up(&tenant.api, "/widgets", 3, |_| unanswered());
    tenant.apply(restore()).await.unwrap();
    assert_eq!(tenant.results(), ["example.com/Widget/w: done", "core/ConfigMap/child: done"]);
    let owner = tenant.api.objects_of("Widget")[0]["metadata"]["uid"].clone();
    assert_eq!(tenant.api.objects_of("ConfigMap")[0]["metadata"]["ownerReferences"][0]["uid"], owner);
}

#[tokio::test]
async fn children_fail_with_an_owner_that_waited_in_vain() {
    let tenant = lost_family().await;
    hold_up(&tenant.api, "/widgets", usize::MAX, |_| unanswered());
    tenant.apply(restore()).await.unwrap();
    assert_eq!(
        tenant.results(),
        ["example.com/Widget/w: failed WebhookUnavailable", "core/ConfigMap/child: failed OwnerMissing"]
    );
}

#[tokio::test]
async fn a_deletion_that_a_webhook_holds_up_is_tried_again_too() {
    let tenant = Tenant::usual().await;
    let mut maps = tenant.api.objects_of("ConfigMap");
    maps.push(object("left-over"));
    tenant.api.serve_config_maps(maps);
    let tried = AtomicUsize::new(0);
    tenant
        .api
        .refuse_writes(move |method, _| (method == Method::DELETE && tried.fetch_add(1, SeqCst) < 2).then(unanswered));
    let result = tenant.apply(json!({"dryRun": false, "prune": true, "safetyCapture": false})).await.unwrap();
    assert_eq!(result.outcome, Some(Outcome::Succeeded), "{result:?}");
    assert!(tenant.results().contains(&"core/ConfigMap/left-over: done".to_owned()));
    assert_eq!(tenant.api.objects_of("ConfigMap").len(), 3);
}

/// Restores though Secrets are refused so many times.
async fn restored_after(times: usize, answer: fn(&str) -> Answer) {
    let tenant = lost().await;
    hold_up(&tenant.api, "/secrets", times, answer);
    let result = tenant.apply(restore()).await.unwrap();
    assert_eq!(result.outcome, Some(Outcome::Succeeded), "{result:?}");
    assert_eq!(tenant.results(), ALL_DONE);
}

#[tokio::test]
async fn a_quota_that_is_not_counted_yet_is_waited_for() {
    restored_after(4, |name| {
        let message = format!("secrets \"{name}\" is forbidden: status unknown for quota: small");
        refusal_with(403, "Forbidden", &message)
    })
    .await;
}

#[tokio::test]
async fn a_server_behind_the_api_server_that_is_not_there_yet_is_waited_for() {
    restored_after(20, |_| {
        refusal_with(503, "ServiceUnavailable", "the server is currently unable to handle the request")
    })
    .await;
}

#[tokio::test]
async fn a_preview_repeats_what_a_webhook_does_not_answer_for_the_first_items_and_not_for_all() {
    let api = Api::new();
    api.serve_config_maps(objects(200));
    let tenant = Tenant::captured(api).await;
    tenant.api.serve_config_maps(vec![]);
    let tried = hold_up(&tenant.api, "/configmaps", usize::MAX, |_| unanswered());
    let result = tenant.preview(json!({})).await.unwrap();
    assert_eq!(counts(&result).failed, 200);
    // Sixteen at once, each six times.
    assert!(tried.load(SeqCst) <= 200 + 16 * 5, "{tried:?}");
}

#[tokio::test]
async fn a_preview_does_not_wait_and_says_whether_the_restore_may_bring_the_webhook_back() {
    let api = Api::new();
    api.serve_config_maps(vec![object("a")]);
    api.serve("", "v1", "Service", "services", vec![object("guard")]);
    let tenant = Tenant::captured(api).await;
    tenant.api.serve_config_maps(vec![]);
    tenant.api.serve("", "v1", "Service", "services", vec![]);
    hold_up(&tenant.api, "/configmaps", usize::MAX, |_| unanswered());
    let begun = Instant::now();
    tenant.preview(json!({})).await.unwrap();
    assert_eq!(tenant.actions(), ["core/ConfigMap/a: create", "core/Service/guard: create"]);
    let warning = &tenant.planned()[0]["warnings"][0];
    assert_eq!(warning["code"], "NotTried");
    for word in ["guard.example.com", "core/Service/guard is in this restore", "60 s"] {
        assert!(warning["message"].as_str().unwrap().contains(word), "{warning}");
    }

    let mut tenant = tenant;
    tenant.next_run();
    let result = tenant.preview(json!({"items": [{"kind": "ConfigMap"}]})).await.unwrap();
    assert_eq!(tenant.actions(), ["core/ConfigMap/a: conflict WebhookUnavailable"]);
    assert!(result.failures[0].message.contains("guard.example.com"), "{:?}", result.failures);
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
}
