//! What differs from a backup, found by a run that a tenant starts itself.

use crate::support::{SOON, Tenant, wait_for};
use crate::tenancy::assert_refused;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tenantatlas::api::finding::{Change, Severity, State};
use tenantatlas::api::{Finding, OperationRun, OperationRunStatus, Outcome, RestoreRun, RestoreRunStatus};

/// Values of Secrets before and after, as they were written and as the API server stores them.
const SECRETS: [&str; 4] =
    ["s3cr3t-t0ken-of-the-shop", "czNjcjN0LXQwa2VuLW9mLXRoZS1zaG9w", "another-t0ken", "YW5vdGhlci10MGtlbg"];

fn drift(name: &str, inputs: Value) -> Value {
    let mut inputs = inputs;
    inputs["repository"] = json!("main");
    // Stated for clusters that do not fill it in.
    json!({ "metadata": { "name": name }, "spec": { "type": "drift.generate", "inputs": inputs, "initiator": { "username": "ada" } } })
}

impl Tenant {
    /// Looks for drift as a person, and waits for the end.
    pub(crate) async fn drifted(&self, client: &Client, name: &str, inputs: Value) -> OperationRunStatus {
        let created = self.create_as::<OperationRun>(client.clone(), drift(name, inputs)).await;
        created.unwrap_or_else(|error| panic!("run {name} is refused: {error}"));
        self.completed(name, SOON).await
    }

    /// Asks for a restore, and waits for its end.
    async fn ask_back(&self, name: &str, spec: Value) -> RestoreRunStatus {
        let made: Result<RestoreRun, _> = self.create(json!({ "metadata": { "name": name }, "spec": spec })).await;
        made.unwrap_or_else(|error| panic!("restore {name} is refused: {error}"));
        self.restored(name).await
    }

    /// The same of one that succeeds.
    async fn put_back(&self, name: &str, spec: Value) {
        let status = self.ask_back(name, spec).await;
        assert_eq!(status.outcome, Outcome::Succeeded, "{status:#?}");
        assert_eq!(status.backup_set.map(|set| set.name).as_deref(), Some("today"), "the baseline");
    }

    /// What a restore puts back is resolved by its end, without a run that looks again.
    async fn puts_findings_back(&self, ada: &Client, findings: &BTreeMap<String, Finding>) {
        let namespace = ["--namespace", &self.name];
        let kubectl = |arguments: &[&str]| self.cluster.kubectl_prints(&[arguments, &namespace].concat());
        let settings = &findings["core/ConfigMap/shop-settings"];
        self.put_back("settings", json!({ "finding": { "name": settings.name_any(), "path": "data.currency" } })).await;
        assert_eq!(kubectl(&["get", "configmap", "shop-settings", "--output=jsonpath={.data.currency}"]), "EUR");
        let added = findings["core/ConfigMap/shop-banner"].name_any();
        let refused = self.ask_back("banner", json!({ "finding": { "name": added } })).await;
        assert_eq!(
            (refused.outcome, refused.failure_reason.as_deref()),
            (Outcome::Blocked, Some("FindingNotRestorable"))
        );
        self.put_back("look", json!({ "finding": { "name": added }, "dryRun": true, "prune": true })).await;
        self.put_back("no-banner", json!({ "finding": { "name": added }, "preview": { "name": "look" } })).await;
        let gone = kubectl(&["get", "configmap", "shop-banner", "--ignore-not-found", "--output=name"]);
        assert_eq!(gone, "", "an item that was added is put back by deleting it");
        wait_for("the operator has judged what was put back", SOON, async || {
            let findings = self.judged_findings(ada).await;
            let is_resolved = |item: &str| {
                let status = findings[item].status.as_ref();
                status.is_some_and(|status| status.state == Some(State::Resolved) && status.restored.is_some())
            };
            let all = is_resolved("core/ConfigMap/shop-settings") && is_resolved("core/ConfigMap/shop-banner");
            if all { Ok(()) } else { Err(format!("{findings:#?}")) }
        })
        .await;
    }
}

/// What each finding says: change, severity, and the paths.
fn told(findings: &BTreeMap<String, Finding>) -> BTreeMap<&str, (Change, Severity, Vec<&str>)> {
    let told = findings.iter().map(|(item, finding)| {
        let paths = finding.spec.evidence.iter().map(|one| one.path.as_str()).collect();
        (item.as_str(), (finding.spec.change, finding.spec.severity, paths))
    });
    told.collect()
}

/// The resourceVersion of each finding, in the order of the items. A write to a finding changes it.
pub(crate) fn versions(findings: &BTreeMap<String, Finding>) -> Vec<Option<String>> {
    findings.values().map(|finding| finding.metadata.resource_version.clone()).collect()
}

#[tokio::test]
async fn a_tenant_finds_each_change_since_a_backup_with_its_author_and_no_secret() {
    let tenant = Tenant::with_a_captured_shop("drift").await;
    let other = tenant.beside("drift").await;
    let eve = other.person("eve", &["tenantatlas-tenant-admin"]).await;
    // What makes her an operator is an object of the tenant, too.
    let ada = tenant.person("ada", &["tenantatlas-tenant-operator"]).await;
    let namespace = ["--namespace", &tenant.name];
    let kubectl = |arguments: &[&str]| tenant.cluster.kubectl_prints(&[arguments, &namespace].concat());
    kubectl(&["autoscale", "deployment", "shop", "--min=1", "--max=3", "--cpu=80%"]);
    tenant.captured_whole("today").await;

    // Nothing has changed: the newest set that holds the whole tenant is the baseline.
    let status = tenant.drifted(&ada, "quiet", json!({})).await;
    assert_eq!(status.outcome, Outcome::Succeeded, "{status:#?}");
    let found = status.context.drift.expect("status.context.drift");
    assert_eq!((found.baseline.as_deref(), found.drifted()), (Some("today"), 0), "{found:#?}");
    // Kinds of other stories, which the worker may not list, are not compared.
    assert!(found.same > 10 && found.unreadable == 0, "{found:#?}");
    assert!(tenant.findings(&ada).await.is_empty());

    let currency = |value: &str| {
        let patch = json!({ "data": { "currency": value } }).to_string();
        kubectl(&["patch", "configmap", "shop-settings", "--type=merge", "--field-manager=mallory", "--patch", &patch])
    };
    currency("CHF");
    let token = r#"{"stringData":{"token":"another-t0ken"}}"#;
    kubectl(&["patch", "secret", "shop-payment", "--type=merge", "--patch", token]);
    kubectl(&["label", "serviceaccount", "shop", "team=blue"]);
    kubectl(&["annotate", "role", "shop:reader", "note=for-auditors-alone"]);
    kubectl(&["label", "cronjob", "shop-report", "team=blue"]);
    kubectl(&["scale", "deployment", "shop", "--replicas=2"]);
    kubectl(&["delete", "service", "shop"]);
    kubectl(&["create", "configmap", "shop-banner", "--from-literal=text=sale"]);
    let scratch = r#"{"metadata":{"name":"scratch","labels":{"tier":"scratch"}},"apiVersion":"v1","kind":"ConfigMap","data":{"temporary":"true"}}"#;
    kubectl(&["delete", "configmap", "scratch"]);
    tenant.apply(scratch);

    let status = tenant.drifted(&ada, "changes", json!({})).await;
    assert_eq!(status.outcome, Outcome::Succeeded, "{status:#?}");
    let found = status.context.drift.clone().expect("status.context.drift");
    let findings = tenant.judged_findings(&ada).await;
    let told = told(&findings);
    let paths = |item: &str| told[item].2.clone();
    assert_eq!(
        told.iter().map(|(item, (change, severity, _))| (*item, *change, *severity)).collect::<Vec<_>>(),
        [
            ("batch/CronJob/shop-report", Change::Modified, Severity::Low),
            ("core/ConfigMap/scratch", Change::Replaced, Severity::Medium),
            ("core/ConfigMap/shop-banner", Change::Added, Severity::Medium),
            ("core/ConfigMap/shop-settings", Change::Modified, Severity::Medium),
            ("core/Secret/shop-payment", Change::Modified, Severity::High),
            ("core/Service/shop", Change::Removed, Severity::Medium),
            ("core/ServiceAccount/shop", Change::Modified, Severity::High),
            ("rbac.authorization.k8s.io/Role/shop:reader", Change::Modified, Severity::High),
        ],
        "{findings:#?}"
    );
    assert_eq!((found.added, found.removed, found.modified, found.replaced, found.new), (1, 1, 5, 1, 8), "{found:#?}");
    assert_eq!((found.ignored, found.not_shown), (1, 0), "replicas under an autoscaler: {found:#?}");
    assert_eq!(paths("core/ConfigMap/shop-settings"), ["data.currency"]);
    let changed = &findings["core/ConfigMap/shop-settings"].spec.evidence[0];
    assert_eq!((changed.before.as_deref(), changed.after.as_deref()), (Some("\"EUR\""), Some("\"CHF\"")));
    assert_eq!((changed.manager.as_deref(), changed.operation.as_deref()), (Some("mallory"), Some("Update")));
    assert!(changed.at.is_some(), "{changed:#?}");
    let secret = &findings["core/Secret/shop-payment"].spec.evidence[0];
    assert!(secret.before.as_ref().is_none_or(|value| value.contains("hmac:")), "{secret:#?}");
    let role = &findings["rbac.authorization.k8s.io/Role/shop:reader"].spec.evidence;
    assert!(role.iter().all(|one| one.before.is_none() && one.after.is_none()), "stock view reads no Roles: {role:#?}");

    // Nowhere is a value of the Secret.
    let job = status.job.expect("status.job").name;
    let log = kubectl(&["logs", &format!("job/{job}"), "--all-containers"]);
    let events = kubectl(&["get", "events", "--output", "yaml"]);
    let run = kubectl(&["get", "operationrun", "changes", "--output", "yaml"]);
    let reports = kubectl(&["get", "operationreports", "--output", "yaml"]);
    let all = kubectl(&["get", "findings", "--output", "yaml"]);
    assert!(all.contains("shop-payment"), "{all}");
    for (place, text) in [("log", log), ("events", events), ("run", run), ("reports", reports), ("findings", all)] {
        for value in SECRETS.iter().chain(&["for-auditors-alone"]) {
            assert!(!text.contains(value), "{value} is in the {place}");
        }
    }

    // Found again, nothing is written.
    let again = tenant.drifted(&ada, "again", json!({})).await.context.drift.expect("status.context.drift");
    assert_eq!((again.drifted(), again.new, again.reopened, again.resolved), (8, 0, 0, 0));
    assert_eq!(versions(&tenant.findings(&ada).await), versions(&findings));

    tenant.puts_findings_back(&ada, &findings).await;

    // What is as before is resolved, and is open again when it comes back.
    kubectl(&["label", "cronjob", "shop-report", "team-"]);
    let resolved = tenant.drifted(&ada, "resolved", json!({})).await.context.drift.expect("status.context.drift");
    assert_eq!((resolved.drifted(), resolved.new, resolved.reopened, resolved.resolved), (5, 0, 0, 1));
    let findings = tenant.judged_findings(&ada).await;
    let state = |item: &str| findings[item].status.as_ref().and_then(|status| status.state);
    assert_eq!(state("batch/CronJob/shop-report"), Some(State::Resolved));
    assert_eq!(state("core/ConfigMap/shop-settings"), Some(State::Resolved));
    assert_eq!(state("core/ConfigMap/shop-banner"), Some(State::Resolved));
    assert_eq!(state("core/Service/shop"), Some(State::New));
    currency("GBP");
    let back = tenant.drifted(&ada, "back", json!({})).await.context.drift.expect("status.context.drift");
    assert_eq!((back.drifted(), back.new, back.reopened, back.resolved), (6, 0, 1, 0));

    // What is ignored is counted; what was asked for badly says where.
    let rule = json!([{ "kinds": ["ConfigMap"], "paths": ["/data/*"] }]);
    let ignored = tenant.drifted(&ada, "ignored", json!({ "ignore": rule })).await.context.drift.expect("drift");
    assert_eq!((ignored.modified, ignored.ignored), (back.modified - 1, back.ignored + 1));
    for (name, inputs, outcome, reason, words) in [
        (
            "unknown",
            json!({ "baseline": { "backupSet": "no-such-set" } }),
            Outcome::Blocked,
            "BackupSetNotFound",
            "no-such-set",
        ),
        (
            "never",
            json!({ "baseline": { "schedule": "no-such-schedule" } }),
            Outcome::Blocked,
            "NoBaseline",
            "no-such-schedule",
        ),
        ("pointer", json!({ "ignore": [{ "paths": ["data/x"] }] }), Outcome::Failed, "InvalidInputs", "data/x"),
    ] {
        let status = tenant.drifted(&ada, name, inputs).await;
        assert_eq!((status.outcome, status.reason.as_deref()), (outcome, Some(reason)), "{status:#?}");
        assert!(status.message.as_ref().is_some_and(|message| message.contains(words)), "{status:#?}");
    }

    // Another tenant neither looks here nor reads what was found.
    let started = tenant.create_as::<OperationRun>(eve.clone(), drift("hers", json!({}))).await;
    assert_refused(started, 403, &["cannot create resource"]);
    assert!(tenant.api::<OperationRun>().get_opt("hers").await.expect("a read").is_none());
    let findings: Api<Finding> = Api::namespaced(eve, &tenant.name);
    assert_refused(findings.list(&ListParams::default()).await, 403, &["cannot list resource"]);
}

#[tokio::test]
async fn what_the_workspace_of_a_tenant_ignores_is_no_drift_and_its_rules_change_without_a_restart() {
    let tenant = Tenant::with_a_captured_shop("drift-rules").await;
    let ada = tenant.person("ada", &["tenantatlas-tenant-operator"]).await;
    let rules = json!({ "ignore": [{ "kinds": ["ConfigMap"], "paths": ["/data/currency"] }],
        "severities": [{ "severity": "high", "kinds": ["ConfigMap"] }] });
    tenant.join_workspace(json!({ "drift": rules })).await;
    tenant.captured_whole("today").await;
    let settings = json!({ "data": { "currency": "CHF" } });
    tenant.merge::<k8s_openapi::api::core::v1::ConfigMap>("shop-settings", settings).await;
    let found = tenant.drifted(&ada, "ignored", json!({})).await.context.drift.expect("status.context.drift");
    assert_eq!((found.drifted(), found.ignored), (0, 1), "{found:#?}");
    let change = async |drift: Value, generation: i64| {
        tenant.change_workspace(json!({ "drift": drift })).await;
        tenant.workspace_when("has been seen", |status| status.observed_generation == generation).await;
    };
    change(json!({ "ignore": null }), 2).await;
    let found = tenant.drifted(&ada, "counted", json!({})).await.context.drift.expect("status.context.drift");
    assert_eq!((found.drifted(), found.ignored), (1, 0), "{found:#?}");
    let findings = tenant.findings(&ada).await;
    assert_eq!(findings["core/ConfigMap/shop-settings"].spec.severity, Severity::High);
    // The rules of a run come before.
    let own = json!({ "severities": [{ "severity": "low", "kinds": ["ConfigMap"] }] });
    tenant.drifted(&ada, "own", own).await;
    assert_eq!(tenant.findings(&ada).await["core/ConfigMap/shop-settings"].spec.severity, Severity::Low);
    change(json!({ "ignore": [{ "paths": ["data"] }] }), 3).await;
    let refused = tenant.drifted(&ada, "unreadable", json!({})).await;
    assert_eq!((refused.outcome, refused.reason.as_deref()), (Outcome::Blocked, Some("InvalidInputs")), "{refused:#?}");
    let message = refused.message.unwrap_or_default();
    let place = format!("workspace {}: drift.ignore[0].paths[0]", tenant.name);
    assert!(message.contains(&place), "{message}");
}
