//! The life of a finding: new, accepted, new again when it changes, resolved, back again, gone.
//!
//! Who may write what of one: `tenancy/findings.rs`.

use crate::support::{SOON, Tenant, wait_for};
use crate::tenancy::{assert_refused, call};
use jiff::{SignedDuration, Timestamp};
use kube::Client;
use kube::api::Api;
use serde_json::{Value, json};
use tenantatlas::api::execution::WORKER_ACCOUNT;
use tenantatlas::api::{BackupSet, Finding, finding::State};

pub(crate) const GROUP: &str = "tenantatlas.io/v1alpha1";

/// A finding about a ConfigMap, as a worker would make it.
pub(crate) fn finding(name: &str, baseline: &Value) -> Value {
    let run = json!({ "name": "drift", "uid": "u" });
    json!({ "apiVersion": GROUP, "kind": "Finding", "metadata": { "name": name }, "spec": {
        "scopeKey": "a".repeat(64), "baseline": { "backupSet": baseline, "snapshot": "b".repeat(64) },
        "current": { "run": run }, "subject": { "kind": "ConfigMap", "name": "web" }, "change": "modified",
        "severity": "high", "digest": digest(1), "evidence": [{ "path": "data.mode", "before": "\"a\"", "after": "\"b\"" }] } })
}

/// The digest of a finding in one of its forms.
pub(crate) fn digest(form: u8) -> String {
    format!("{form:064x}")
}

/// What a run saw of a finding.
fn seen(last_seen: Timestamp, resolved_at: Option<Timestamp>) -> Value {
    json!({ "status": { "observed": { "firstSeen": "2026-01-01T00:00:00Z", "lastSeen": last_seen, "resolvedAt": resolved_at,
        "run": { "name": "drift", "uid": "u" } } } })
}

impl Tenant {
    /// Who writes findings: the account of workers in the pod of an operation.
    pub(crate) fn finder(&self) -> Client {
        let account = format!("system:serviceaccount:{}:{WORKER_ACCOUNT}", self.name);
        self.cluster.as_user_in_pod(&account, "op-0123456789abcdef0123-x7k2p")
    }

    /// A backup set of which nothing is read, as a baseline.
    pub(crate) async fn baseline(&self, name: &str) -> Value {
        let set = json!({ "metadata": { "name": name }, "spec": { "repository": { "name": "main" }, "snapshot": "a".repeat(64),
            "run": { "name": name, "uid": name }, "namespaceUid": self.uid } });
        let made = self.create_as::<BackupSet>(self.cluster.as_operator(), set).await.expect("a set");
        json!({ "name": name, "uid": made.metadata.uid })
    }

    /// A finding once the operator has judged it so.
    async fn judged(&self, name: &str, words: &str, so: impl Fn(&Finding) -> bool) -> Finding {
        let findings: Api<Finding> = self.api();
        wait_for(&format!("finding {name} {words}"), SOON, async || {
            let finding = findings.get(name).await.map_err(|error| error.to_string())?;
            let status = finding.status.clone().unwrap_or_default();
            let is_current = status.observed_generation == finding.metadata.generation;
            if is_current && so(&finding) { Ok(finding) } else { Err(format!("{status:?}")) }
        })
        .await
    }

    async fn in_state(&self, name: &str, state: State) -> Finding {
        let is = |finding: &Finding| finding.status.as_ref().and_then(|status| status.state) == Some(state);
        self.judged(name, &format!("is {state:?}"), is).await
    }

    async fn told(&self, name: &str, words: &str) {
        wait_for(&format!("an event {words:?}"), SOON, async || {
            let events = self.events_about(name).await;
            if events.iter().any(|event| event.contains(words)) { Ok(()) } else { Err(format!("{events:?}")) }
        })
        .await;
    }
}

fn ready(finding: &Finding) -> (String, String) {
    let conditions = finding.status.iter().flat_map(|status| &status.conditions);
    let ready = conditions.into_iter().find(|condition| condition.type_ == "Ready").expect("Ready");
    (ready.status.clone(), ready.reason.clone())
}

fn acknowledged(digest: &str) -> Value {
    json!({ "spec": { "acknowledged": { "note": "planned, see CHG-7", "digest": digest, "by": { "username": "ada" } } } })
}

#[tokio::test]
async fn a_finding_is_new_until_somebody_accepts_it_and_new_again_when_it_changes() {
    let tenant = Tenant::new("findings").await;
    let ada = tenant.person("ada", &["tenantatlas-tenant-operator"]).await;
    let worker = tenant.finder();
    let one = finding("drift-1", &tenant.baseline("nightly").await);
    tenant.create_as::<Finding>(worker.clone(), one).await.expect("a worker finds");
    let path = tenant.path(GROUP, "findings/drift-1");
    let status = format!("{path}/status");
    let now = Timestamp::now();
    call(&worker, "PATCH", &status, &seen(now, None)).await.expect("a worker says what it saw");
    let new = tenant.in_state("drift-1", State::New).await;
    assert_eq!(ready(&new), ("False".into(), "Drifted".into()));
    tenant.told("drift-1", "Drifted: ConfigMap web was modified at data.mode (severity high)").await;

    // What somebody else accepts meanwhile is not what is there.
    let answer = call(&ada, "PATCH", &path, &acknowledged(&digest(2))).await;
    assert_refused(answer, 422, &["tenantatlas-findings", "changed meanwhile"]);
    call(&ada, "PATCH", &path, &acknowledged(&digest(1))).await.expect("an operator of the tenant accepts");
    let accepted = tenant.in_state("drift-1", State::Acknowledged).await;
    assert_eq!(ready(&accepted), ("True".into(), "Acknowledged".into()));
    assert!(accepted.status.as_ref().is_some_and(|status| status.acknowledged_at.is_some()));
    let by = accepted.spec.acknowledged.expect("an acknowledgement");
    assert_eq!((by.note.as_str(), by.by.expect("by whom").username.as_str()), ("planned, see CHG-7", "ada"));
    tenant.told("drift-1", "Acknowledged: ").await;

    // The worker finds another difference: what was accepted stays, and does not count.
    call(&worker, "PATCH", &path, &json!({ "spec": { "digest": digest(2) } })).await.expect("a worker finds");
    let changed = tenant.in_state("drift-1", State::New).await;
    assert_eq!(changed.spec.acknowledged.map(|acknowledged| acknowledged.digest), Some(digest(1)));
    assert_eq!(changed.status.and_then(|status| status.acknowledged_at), None);
    assert_refused(
        call(&ada, "PATCH", &path, &json!({ "spec": { "acknowledged": { "note": "still" } } })).await,
        422,
        &["changed meanwhile"],
    );

    call(&worker, "PATCH", &status, &seen(now, Some(now))).await.expect("a run finds that it is gone");
    assert_eq!(ready(&tenant.in_state("drift-1", State::Resolved).await), ("True".into(), "Resolved".into()));
    tenant.told("drift-1", "Resolved: ConfigMap web is as in its baseline").await;
    call(&worker, "PATCH", &status, &seen(now, None)).await.expect("and another one that it is back");
    tenant.in_state("drift-1", State::New).await;
    tenant.told("drift-1", "Reopened: ConfigMap web was modified again").await;
}

#[tokio::test]
async fn a_finding_that_nothing_confirms_is_stale_and_one_that_was_resolved_long_ago_goes() {
    let tenant = Tenant::new("stale-findings").await;
    let worker = tenant.finder();
    let baseline = tenant.baseline("nightly").await;
    let gone = json!({ "name": "nightly", "uid": "another" });
    for (name, baseline) in [
        ("fresh", &baseline),
        ("unconfirmed", &baseline),
        ("baseless", &gone),
        ("resolved", &baseline),
        ("old", &baseline),
    ] {
        tenant.create_as::<Finding>(worker.clone(), finding(name, baseline)).await.expect("a worker finds");
    }
    let now = Timestamp::now();
    let long_ago = now - SignedDuration::from_hours(8 * 24);
    for (name, observed) in [
        ("fresh", seen(now, None)),
        ("unconfirmed", seen(long_ago, None)),
        ("baseless", seen(now, None)),
        ("resolved", seen(long_ago, Some(now))),
        ("old", seen(long_ago, Some(long_ago))),
    ] {
        let path = tenant.path(GROUP, &format!("findings/{name}/status"));
        call(&worker, "PATCH", &path, &observed).await.expect("a worker says what it saw");
    }
    for (name, stale) in [("fresh", false), ("unconfirmed", true), ("baseless", true), ("resolved", false)] {
        let is = |finding: &Finding| {
            let status = finding.status.as_ref();
            status.is_some_and(|status| status.observed.is_some() && status.state.is_some() && status.stale == stale)
        };
        tenant.judged(name, &format!("has stale {stale}"), is).await;
    }
    wait_for("the old one is deleted", SOON, async || {
        let old = tenant.api::<Finding>().get_opt("old").await.expect("a read");
        old.map_or(Ok(()), |old| Err(format!("{:?}", old.status)))
    })
    .await;
    let left = tenant.api::<Finding>().list(&kube::api::ListParams::default()).await.expect("a list").items.len();
    assert_eq!(left, 4, "the others stay");
}
