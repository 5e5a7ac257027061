//! Records of other systems, listed beside ours: from the day on which their kinds are installed until they are gone.
//! It runs alone because it gives the cluster kinds that other stories do not expect.

use crate::support::cluster::environment;
use crate::support::types::FOREVER;
use crate::support::{SOON, Tenant, wait_for};
use crate::tenancy::{assert_refused, call};
use kube::ResourceExt as _;
use kube::api::{Api, ListParams};
use serde_json::{Value, json};
use std::time::Duration;
use tenantatlas::api::{ImportedRun, ImportedRunStatus, Outcome, Phase};

const GROUP: &str = "tenantatlas.io/v1alpha1";

/// A kind that is missing is looked for every minute.
const FOUND: Duration = Duration::from_mins(5);

/// The kinds of Velero and K8up, as far as a record of theirs needs them.
const KINDS: &str = include_str!("../data/other-systems.yaml");
const DEFINITIONS: [&str; 5] =
    ["backups.velero.io", "restores.velero.io", "schedules.velero.io", "backups.k8up.io", "schedules.k8up.io"];

impl Tenant {
    /// Creates a record of another system and gives it a status, as that system would. Returns it as it is then.
    async fn record(&self, path: &str, object: &Value, status: &Value) -> Value {
        let root = &self.cluster.client;
        call(root, "POST", path, object).await.unwrap_or_else(|error| panic!("{path}: {error}"));
        let path = format!("{path}/{}", object["metadata"]["name"].as_str().expect("a name"));
        if !status.is_null() {
            call(root, "PATCH", &format!("{path}/status"), &json!({ "status": status })).await.expect("a status");
        }
        call(root, "GET", &path, &Value::Null).await.expect("it is there")
    }

    /// The status of the imported run of a record, once it is so.
    async fn imported(&self, source: &str, is: impl Fn(&ImportedRunStatus) -> bool) -> ImportedRun {
        wait_for(&format!("{source} is listed in {}", self.name), FOUND, async || {
            let listed = self.api::<ImportedRun>().list(&ListParams::default()).await.expect("a list").items;
            let found = listed.iter().find(|one| one.spec.source.name == source);
            let found = found.filter(|one| one.status.as_ref().is_some_and(&is));
            found.cloned().ok_or_else(|| {
                let all: Vec<_> = listed.iter().map(|one| (&one.spec.source.name, &one.status)).collect();
                format!("{all:?}")
            })
        })
        .await
    }

    async fn not_imported(&self, source: &str) {
        wait_for(&format!("{source} is not listed in {}", self.name), FOUND, async || {
            let listed = self.api::<ImportedRun>().list(&ListParams::default()).await.expect("a list").items;
            if listed.iter().any(|one| one.spec.source.name == source) { Err("it is") } else { Ok(()) }
        })
        .await;
    }
}

fn ended(phase: &str, outcome: &str) -> impl Fn(&ImportedRunStatus) -> bool {
    move |status| status.phase.map(Phase::as_str) == Some(phase) && status.outcome.map(Outcome::as_str) == Some(outcome)
}

#[tokio::test]
async fn imported_records_of_other_systems_are_listed_and_never_written() {
    let tenant = Tenant::alone("imported").await;
    let other = tenant.beside("imported-other").await;
    let (root, velero) = (&tenant.cluster.client, environment("ATLAS_VELERO_NAMESPACE"));
    tenant.cluster.kubectl_reads(&["apply", "--server-side", "--filename", "-"], KINDS);
    for definition in DEFINITIONS {
        tenant.cluster.kubectl_prints(&["wait", "--for=condition=Established", &format!("crd/{definition}")]);
    }
    let of_velero = |plural: &str| format!("/apis/velero.io/v1/namespaces/{velero}/{plural}");
    let named = |what: &str| format!("{what}-{}", tenant.name);
    let velero_record = |kind: &str, name: &str, spec: Value| {
        json!({ "apiVersion": "velero.io/v1", "kind": kind, "metadata": { "name": named(name),
            "annotations": { "tenantatlas.io/operation-run": "nightly" } }, "spec": spec })
    };
    let about =
        |tenants: &[&Tenant]| json!({ "includedNamespaces": tenants.iter().map(|one| &one.name).collect::<Vec<_>>() });

    // A run of ours that is under way, and that the Backup names.
    let operation = tenant.script_type("long", FOREVER, |_| {}).await;
    tenant.start("nightly", json!({ "type": operation })).await;
    tenant.running("nightly", SOON).await;
    let run = tenant.run("nightly").await;

    let partly = json!({ "phase": "PartiallyFailed", "errors": 2, "startTimestamp": "2026-01-01T02:00:00Z" });
    let backup = velero_record("Backup", "backup", about(&[&tenant]));
    let before = tenant.record(&of_velero("backups"), &backup, &partly).await;
    let both = velero_record("Restore", "restore", about(&[&tenant, &other]));
    tenant.record(&of_velero("restores"), &both, &json!({ "phase": "Failed", "failureReason": "of all" })).await;
    let all = velero_record("Backup", "all", json!({ "includedNamespaces": ["*"] }));
    tenant.record(&of_velero("backups"), &all, &json!({ "phase": "Completed" })).await;
    let schedule =
        velero_record("Schedule", "schedule", json!({ "schedule": "@daily", "template": about(&[&tenant]) }));
    tenant.record(&of_velero("schedules"), &schedule, &json!({ "phase": "Enabled" })).await;
    let odd = velero_record("Backup", "odd", about(&[&tenant]));
    tenant.record(&of_velero("backups"), &odd, &json!({ "phase": format!("Odd\u{1b}{}", "x".repeat(900)) })).await;
    let huge = velero_record("Backup", "huge", about(&[&tenant]));
    tenant.record(&of_velero("backups"), &huge, &json!({ "phase": "x".repeat(900_000) })).await;
    let k8up = json!({ "apiVersion": "k8up.io/v1", "kind": "Backup", "metadata": { "name": "k8up" }, "spec": {} });
    let done = json!({ "conditions": [{ "type": "Completed", "status": "True", "reason": "Succeeded", "message": "done",
        "lastTransitionTime": "2026-01-01T03:00:00Z" }] });
    let k8up_before = tenant.record(&tenant.path("k8up.io/v1", "backups"), &k8up, &done).await;

    let imported = tenant.imported(&named("backup"), ended("completed", "partially_succeeded")).await;
    let status = imported.status.clone().expect("a status");
    assert_eq!(status.source_phase.as_deref(), Some("PartiallyFailed"));
    assert_eq!(status.message.as_deref(), Some("2 errors, 0 warnings"));
    let link = status.run.expect("a link to our run");
    assert_eq!((Some(link.name.as_str()), Some(&link.uid)), (Some("nightly"), run.metadata.uid.as_ref()));
    for listed in [&tenant, &other] {
        let restore = listed.imported(&named("restore"), ended("completed", "failed")).await;
        let status = restore.status.expect("a status");
        assert!(status.message.as_ref().is_some_and(|said| said.contains("other namespaces")), "{status:?}");
        assert_eq!(status.run.is_some(), listed.name == tenant.name, "the run is of one of them");
    }
    let schedule = tenant.imported(&named("schedule"), |status| status.phase.is_none()).await;
    assert_eq!(schedule.status.and_then(|status| status.source_phase).as_deref(), Some("Enabled"));
    let odd = tenant.imported(&named("odd"), |status| status.phase.is_none()).await.status.expect("a status");
    assert!(odd.message.is_some_and(|message| message.contains("knows no state")), "it is not guessed");
    assert!(odd.source_phase.is_some_and(|word| word.len() <= 100 && !word.contains('\u{1b}')));
    let huge = tenant.imported(&named("huge"), |status| status.phase.is_none()).await.status.expect("a status");
    assert!(huge.message.is_some_and(|message| message.contains("too large")));
    tenant.imported("k8up", ended("completed", "succeeded")).await;

    // Jobs of a CronJob.
    let container = json!({ "name": "a", "image": environment("ATLAS_SHELL_IMAGE"), "command": ["/bin/true"] });
    let cron_job = json!({ "apiVersion": "batch/v1", "kind": "CronJob", "metadata": { "name": "hourly" },
        "spec": { "schedule": "0 0 1 1 *", "suspend": true, "jobTemplate": { "spec": { "suspend": true, "template": {
            "spec": { "restartPolicy": "Never", "containers": [container] } } } } } });
    tenant.apply(&cron_job.to_string());
    let made = call(root, "GET", &tenant.path("batch/v1", "cronjobs/hourly"), &Value::Null).await.expect("it is there");
    let owner = json!({ "apiVersion": "batch/v1", "kind": "CronJob", "name": "hourly", "uid": made["metadata"]["uid"], "controller": true });
    let once = json!({ "apiVersion": "batch/v1", "kind": "Job", "metadata": { "name": "once", "ownerReferences": [owner] },
        "spec": made["spec"]["jobTemplate"]["spec"] });
    call(root, "POST", &tenant.path("batch/v1", "jobs"), &once).await.expect("a Job as a CronJob makes it");
    tenant.imported("once", ended("queued", "pending")).await;

    // What kubectl shows, and what it does not.
    let shown = tenant.cluster.kubectl_prints(&["get", "irun", "--namespace", &tenant.name]);
    let header: Vec<&str> = shown.lines().next().expect("a header").split_whitespace().collect();
    assert_eq!(header, ["NAME", "SYSTEM", "KIND", "STATUS", "OUTCOME", "SOURCE", "AGE"]);
    assert_eq!(shown.lines().count(), 1 + 7, "{shown}");
    assert!(!shown.contains(&named("all")), "what names no tenant is listed in none:\n{shown}");
    println!("{shown}");

    // Theirs is as it was.
    let path = format!("{}/{}", of_velero("backups"), named("backup"));
    assert_eq!(call(root, "GET", &path, &Value::Null).await.expect("it is there"), before);
    let k8up_path = tenant.path("k8up.io/v1", "backups/k8up");
    assert_eq!(call(root, "GET", &k8up_path, &Value::Null).await.expect("it is there"), k8up_before);
    the_operator_has_no_right_to_write(&tenant, [&path, &k8up_path]).await;
    forged_by_nobody(&tenant, &imported).await;

    // They go with their records, and with their kinds.
    call(root, "DELETE", &path, &Value::Null).await.expect("deleted");
    tenant.not_imported(&named("backup")).await;
    call(root, "DELETE", &k8up_path, &Value::Null).await.expect("deleted");
    the_newest_are_listed_when_the_reserve_is_used_up(&tenant).await;
    // A namespace that is no tenant has none, and the next one of its name has nothing of the one before.
    tenant.imported(&named("schedule"), |_| true).await;
    tenant.cluster.kubectl_prints(&["label", "namespace", &other.name, "tenantatlas.io/workspace-"]);
    other.not_imported(&named("restore")).await;
    let new = velero_record("Backup", "new", about(&[&other]));
    the_next_owner_sees_nothing_of_the_one_before(&other, &of_velero("backups"), &new).await;
    for definition in DEFINITIONS {
        tenant.cluster.kubectl_prints(&["delete", "crd", definition]);
    }
    tenant.not_imported("many-049").await;
    tenant.not_imported(&named("restore")).await;
    tenant.imported("once", ended("queued", "pending")).await;
}

/// More Backups of K8up than are held: when so many of the newest are deleted that there are not enough left, the others
/// are listed.
async fn the_newest_are_listed_when_the_reserve_is_used_up(tenant: &Tenant) {
    let (root, all) = (&tenant.cluster.client, tenant.path("k8up.io/v1", "backups"));
    let name = |number: usize| format!("many-{number:03}");
    let listed = async |numbers: std::ops::Range<usize>| {
        let expected: Vec<String> = numbers.map(name).collect();
        wait_for(&format!("{} to {:?} are listed", expected[0], expected.last()), FOUND, async || {
            let listed = tenant.api::<ImportedRun>().list(&ListParams::default()).await.expect("a list").items;
            let mut listed: Vec<_> = listed.into_iter().map(|one| one.spec.source.name).collect();
            listed.retain(|source| source.starts_with("many-"));
            listed.sort();
            if listed == expected { Ok(()) } else { Err(format!("{listed:?}")) }
        })
        .await;
    };
    for number in 0..130 {
        let object = json!({ "apiVersion": "k8up.io/v1", "kind": "Backup", "metadata": { "name": name(number) } });
        let made = call(root, "POST", &all, &object).await.expect("created");
        // Records of one second are in no order that is known here.
        if number == 79 {
            next_second(tenant, &all, &made).await;
        }
    }
    listed(80..130).await;
    // One goes while no operator lives. The next one fills its caches before it has read the last page of these.
    tenant.cluster.kill_leader().await;
    call(root, "DELETE", &format!("{all}/{}", name(129)), &Value::Null).await.expect("deleted");
    tenant.not_imported(&name(129)).await;
    for number in (50..129).rev() {
        call(root, "DELETE", &format!("{all}/{}", name(number)), &Value::Null).await.expect("deleted");
    }
    listed(0..50).await;
}

/// The namespace is deleted and created again, and then a record is made that is about it.
async fn the_next_owner_sees_nothing_of_the_one_before(other: &Tenant, path: &str, new: &Value) {
    other.cluster.kubectl_prints(&["delete", "namespace", &other.name]);
    let next = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": other.name,
        "labels": { "tenantatlas.io/workspace": other.workspace } } });
    call(&other.cluster.client, "POST", "/api/v1/namespaces", &next).await.expect("a namespace");
    other.record(path, new, &json!({ "phase": "Completed" })).await;
    let name = new["metadata"]["name"].as_str().expect("a name");
    other.imported(name, ended("completed", "succeeded")).await;
    let listed = other.api::<ImportedRun>().list(&ListParams::default()).await.expect("a list").items;
    let sources: Vec<_> = listed.into_iter().map(|one| one.spec.source.name).collect();
    assert_eq!(sources, [name], "the Restore is older than the namespace");
}

/// Waits until what is created has another time than this object.
async fn next_second(tenant: &Tenant, all: &str, object: &Value) {
    let root = &tenant.cluster.client;
    wait_for("another second", SOON, async || {
        let probe = json!({ "apiVersion": "k8up.io/v1", "kind": "Backup", "metadata": { "name": "probe" } });
        let made = call(root, "POST", &format!("{all}?dryRun=All"), &probe).await.expect("an answer");
        let time = |object: &Value| object["metadata"]["creationTimestamp"].clone();
        if time(&made) == time(object) { Err("not yet") } else { Ok(()) }
    })
    .await;
}

/// Records of theirs, and Jobs of CronJobs, with their status.
async fn the_operator_has_no_right_to_write(tenant: &Tenant, theirs: [&String; 2]) {
    let operator = tenant.cluster.as_operator();
    for path in theirs {
        for (method, path) in [("PATCH", path.clone()), ("PATCH", format!("{path}/status")), ("DELETE", path.clone())] {
            let answer = call(&operator, method, &path, &json!({ "status": { "phase": "Completed" } })).await;
            assert_refused(answer, 403, &["cannot"]);
        }
    }
    let job = tenant.path("batch/v1", "jobs/once");
    for path in [job.clone(), format!("{job}/status")] {
        let answer = call(&operator, "PATCH", &path, &json!({ "metadata": { "labels": { "a": "b" } } })).await;
        assert_refused(answer, 403, &["cannot patch"]);
    }
}

/// Whoever tries to create, change or delete an imported run, and in which way.
async fn forged_by_nobody(tenant: &Tenant, imported: &ImportedRun) {
    let all = tenant.path(GROUP, "importedruns");
    let path = format!("{all}/{}", imported.name_any());
    let source =
        json!({ "apiVersion": "velero.io/v1", "kind": "Backup", "namespace": "velero", "name": "a", "uid": "a" });
    let forged = json!({ "apiVersion": GROUP, "kind": "ImportedRun", "metadata": { "name": "forged" },
        "spec": { "system": "velero", "source": source } });
    let said = json!({ "status": { "outcome": "succeeded" } });
    let label = json!({ "metadata": { "labels": { "a": "b" } } });
    let ada = tenant.person("ada", &["tenantatlas-tenant-admin"]).await;
    call(&ada, "GET", &path, &Value::Null).await.expect("who views a tenant reads its imported runs");
    for (client, words) in [(&ada, "cannot"), (&tenant.cluster.client, "tenantatlas-imported-runs")] {
        assert_refused(call(client, "POST", &all, &forged).await, 403, &[words]);
        assert_refused(call(client, "PATCH", &path, &label).await, 403, &[words]);
        assert_refused(call(client, "DELETE", &path, &Value::Null).await, 403, &[words]);
        let of_status = if words == "cannot" { words } else { "tenantatlas-status" };
        assert_refused(call(client, "PATCH", &format!("{path}/status"), &said).await, 403, &[of_status]);
    }
    // Not even the operator has it be about another record.
    let api: Api<ImportedRun> = Api::namespaced(tenant.cluster.as_operator(), &tenant.name);
    let other = json!({ "spec": { "system": "k8up" } });
    let status = format!("{path}/status?dryRun=All");
    let kept = call(&tenant.cluster.as_operator(), "PATCH", &status, &other).await.expect("a status");
    assert_eq!(kept["spec"]["system"], "velero");
    assert!(api.list(&ListParams::default()).await.is_ok());
}
