//! What can be known beforehand completes a run as blocked: a reason code, what is wrong, what to do, and no Job.

use crate::support::run::assert_ended;
use crate::support::types::{FOREVER, container};
use crate::support::{SOON, Tenant, wait_for};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Api, DeleteParams, EvictParams};
use serde_json::{Value, json};
use tenantatlas::api::{OperationRun, OperationType, Outcome, Phase, Reason};

#[tokio::test]
async fn an_unknown_type() {
    let tenant = Tenant::new("unknown").await;
    tenant.start("run", json!({ "type": "no.such.type" })).await;
    tenant.blocked("run", Reason::UnknownType, &["no.such.type", "kubectl get operationtypes"]).await;
}

#[tokio::test]
async fn a_run_made_before_its_type_is_blocked_and_a_new_one_afterwards_runs() {
    let tenant = Tenant::new("early").await;
    let operation = tenant.type_name("late");
    tenant.start("before", json!({ "type": operation })).await;
    tenant.blocked("before", Reason::UnknownType, &["create a new run"]).await;
    tenant.script_type("late", "true", |_| {}).await;
    tenant.start("after", json!({ "type": operation })).await;
    assert_ended(&tenant.completed("after", SOON).await, Outcome::Succeeded, Reason::Succeeded);
}

#[tokio::test]
async fn a_suspended_type_refuses_new_runs_and_active_ones_go_on() {
    let tenant = Tenant::new("suspended").await;
    let operation = tenant.script_type("slow", FOREVER, |_| {}).await;
    tenant.start("active", json!({ "type": operation, "inputs": { "n": 1 } })).await;
    let active = tenant.running("active", SOON).await;
    tenant.change_type(&operation, json!({ "suspend": true })).await;
    // Told apart from a race: a run is refused once the operator has seen the change.
    let refused = wait_for("new runs are refused", SOON, async || {
        let name = format!("new-{}", jiff::Timestamp::now().as_millisecond());
        tenant.start(&name, json!({ "type": operation, "inputs": { "n": name } })).await;
        let decided = |run: &OperationRun| run.status_or_default().phase != Phase::Queued;
        let status = tenant.run_when(&name, "decided", SOON, decided).await.status_or_default();
        if status.outcome == Outcome::Blocked { Ok(status) } else { Err("it was started") }
    })
    .await;
    assert_ended(&refused, Outcome::Blocked, Reason::TypeSuspended);
    assert!(refused.message.unwrap_or_default().contains("spec.suspend"));
    let status = tenant.status("active").await;
    assert_eq!((status.phase, status.job), (Phase::Running, active.job));
}

#[tokio::test]
async fn a_type_for_workspaces() {
    let tenant = Tenant::new("scope").await;
    let operation = tenant.script_type("wide", "true", |spec| spec["scope"] = json!("Workspace")).await;
    tenant.start("run", json!({ "type": operation })).await;
    tenant.blocked("run", Reason::WrongScope, &["Tenant"]).await;
}

#[tokio::test]
async fn inputs_that_do_not_fit_the_types_schema() {
    let tenant = Tenant::new("inputs").await;
    let schema = json!({ "type": "object", "additionalProperties": false, "required": ["table"],
        "properties": { "table": { "type": "string" }, "rows": { "type": "integer", "minimum": 1 } } });
    let operation = tenant.script_type("move", "true", |spec| spec["inputsSchema"] = schema).await;
    for (name, inputs, words) in [
        ("missing", json!({}), ["table", "required"]),
        ("wrong", json!({ "table": "t", "rows": 0 }), ["inputs/rows", "minimum"]),
        ("unknown", json!({ "table": "t", "tabel": "t" }), ["tabel", "operationtype"]),
    ] {
        tenant.start(name, json!({ "type": operation, "inputs": inputs })).await;
        tenant.blocked(name, Reason::InvalidInputs, &words).await;
    }
}

#[tokio::test]
async fn inputs_over_64_kib() {
    let tenant = Tenant::new("large").await;
    let operation = tenant.script_type("take", r#"[ "${#ATLAS_INPUTS}" -gt 65000 ] || exit 40"#, |_| {}).await;
    // As canonical JSON `{"text":"…"}`, eleven bytes more than the text.
    let inputs = |bytes: usize| json!({ "type": operation, "inputs": { "text": "x".repeat(bytes - 11) } });
    tenant.start("over", inputs(64 * 1024 + 1)).await;
    tenant.blocked("over", Reason::InputsTooLarge, &["65537", "65536", "ConfigMap"]).await;
    tenant.start("just", inputs(64 * 1024)).await;
    assert_ended(&tenant.completed("just", SOON).await, Outcome::Succeeded, Reason::Succeeded);
}

#[tokio::test]
async fn a_type_whose_schema_is_no_schema() {
    let tenant = Tenant::new("broken").await;
    let operation = tenant.script_type("broken", "true", |spec| spec["inputsSchema"] = json!({ "type": 7 })).await;
    tenant.start("run", json!({ "type": operation })).await;
    tenant.blocked("run", Reason::InvalidType, &["inputsSchema", "administrator"]).await;
}

#[tokio::test]
async fn a_type_says_whether_runs_of_it_can_be_started_before_anybody_starts_one() {
    let tenant = Tenant::new("ready").await;
    let operation = tenant.script_type("ready", "true", |spec| spec["inputsSchema"] = json!({ "type": 7 })).await;
    let types: Api<OperationType> = Api::all(tenant.cluster.client.clone());
    let ready = async |status: &str, reason: Reason| {
        wait_for(&format!("Ready={status}, {reason}"), SOON, async || {
            let found = types.get(&operation).await.expect("the type");
            let conditions = found.status.clone().unwrap_or_default().conditions;
            let is = |condition: &&Condition| condition.type_ == "Ready";
            let ready = conditions.iter().find(is).ok_or("there is no condition yet")?;
            let says = (ready.status.as_str(), ready.reason.as_str(), ready.observed_generation);
            if says == (status, reason.as_str(), found.metadata.generation) { Ok(found) } else { Err("not yet") }
        })
        .await
    };
    ready("False", Reason::InvalidType).await;
    tenant.change_type(&operation, json!({ "inputsSchema": { "type": "object" } })).await;
    let mended = ready("True", Reason::TypeReady).await;
    tenant.change_type(&operation, json!({ "suspend": true })).await;
    let suspended = ready("True", Reason::TypeSuspended).await;
    let since = |found: &OperationType| found.status.as_ref().and_then(|status| status.conditions.first().cloned());
    let since = [&mended, &suspended].map(|found| since(found).map(|condition| condition.last_transition_time));
    assert_eq!(since[0], since[1], "it was Ready all the time");
}

#[tokio::test]
async fn a_type_with_no_executor_or_two_is_refused_by_the_api_server_itself() {
    let tenant = Tenant::new("executor").await;
    let worker = json!({ "command": ["capture"] });
    let template = json!({ "spec": {} });
    for executor in [json!({}), json!({ "worker": worker, "jobTemplate": template })] {
        let refused = tenant.try_operation_type(&tenant.type_name("odd"), json!({ "executor": executor })).await;
        let refused = refused.expect_err("it must be refused").to_string();
        assert!(refused.contains("exactly one of worker and jobTemplate"), "{refused}");
    }
    let operation = tenant.operation_type("empty", json!({ "executor": { "jobTemplate": template } })).await;
    tenant.start("run", json!({ "type": operation })).await;
    tenant.blocked("run", Reason::InvalidType, &["containers"]).await;
}

#[tokio::test]
async fn a_repository_that_is_not_there() {
    let tenant = Tenant::new("no-repo").await;
    tenant.start("run", json!({ "type": "backup.capture", "inputs": { "repository": "nowhere" } })).await;
    let words = ["inputs.repository", "nowhere", "kubectl get backuprepositories"];
    tenant.blocked("run", Reason::RepositoryNotFound, &words).await;
}

#[tokio::test]
async fn a_missing_account() {
    let tenant = Tenant::new("account").await;
    let operation = tenant
        .script_type("special", "true", |spec| {
            spec["executor"]["jobTemplate"]["spec"]["template"]["spec"]["serviceAccountName"] = json!("migrator");
        })
        .await;
    tenant.start("run", json!({ "type": operation })).await;
    tenant.blocked("run", Reason::AccountNotFound, &["migrator", "create"]).await;
}

#[tokio::test]
async fn a_rerun_of_what_cannot_be_repeated() {
    let tenant = Tenant::new("rerun-bad").await;
    let slow = tenant.script_type("slow", FOREVER, |_| {}).await;
    let quick = tenant.script_type("quick", "true", |_| {}).await;
    tenant.start("going", json!({ "type": slow })).await;
    tenant.running("going", SOON).await;
    for (name, operation, earlier, words) in [
        ("of-none", &slow, "nothing", ["nothing", "no run"]),
        ("of-going", &slow, "going", ["going", "not completed"]),
        ("of-other", &quick, "going", ["going", "same type"]),
    ] {
        tenant.start(name, json!({ "type": operation, "rerunOf": { "name": earlier } })).await;
        tenant.blocked(name, Reason::RerunNotPossible, &words).await;
    }
}

#[tokio::test]
async fn a_quota_that_refuses_the_job() {
    let tenant = Tenant::new("quota").await;
    let quota = json!({ "apiVersion": "v1", "kind": "ResourceQuota", "metadata": { "name": "no-jobs" },
        "spec": { "hard": { "count/jobs.batch": "0" } } });
    tenant.apply(&quota.to_string());
    wait_for("the quota is in force", SOON, async || {
        let status =
            ["get", "resourcequota", "no-jobs", "--namespace", &tenant.name, "--output=jsonpath={.status.hard}"];
        if tenant.cluster.kubectl_prints(&status).is_empty() { Err("no status yet") } else { Ok(()) }
    })
    .await;
    let operation = tenant.script_type("greet", "true", |_| {}).await;
    tenant.start("run", json!({ "type": operation })).await;
    tenant.blocked("run", Reason::QuotaExceeded, &["no-jobs"]).await;
}

#[tokio::test]
async fn a_namespace_that_is_no_tenant_is_told_how_to_become_one() {
    let tenant = Tenant::new("was-tenant").await;
    let operation = tenant.script_type("greet", "true", |_| {}).await;
    let namespaces: Api<Namespace> = Api::all(tenant.cluster.client.clone());
    let patch = json!({ "metadata": { "labels": { (tenantatlas::api::labels::WORKSPACE): null } } });
    let patch = kube::api::Patch::Merge(&patch);
    namespaces.patch(&tenant.name, &kube::api::PatchParams::default(), &patch).await.expect("the label can be removed");
    let refused = wait_for("runs are refused", SOON, async || {
        let name = format!("run-{}", jiff::Timestamp::now().as_millisecond());
        tenant.start(&name, json!({ "type": operation, "inputs": { "n": name } })).await;
        let run = tenant.run_when(&name, "completed", SOON, OperationRun::is_completed).await;
        let status = run.status_or_default();
        if status.outcome == Outcome::Blocked { Ok(status) } else { Err("it was carried out") }
    })
    .await;
    assert_ended(&refused, Outcome::Blocked, Reason::NotATenant);
    assert!(refused.message.unwrap_or_default().contains("kubectl label namespace"));
}

#[tokio::test]
async fn names_up_to_200_characters_work_and_longer_ones_are_refused_at_once() {
    let tenant = Tenant::new("names").await;
    let operation = tenant.script_type("greet", "true", |_| {}).await;
    for length in [253, 201] {
        let name = "n".repeat(length);
        let refused: Result<OperationRun, _> =
            tenant.create(json!({ "metadata": { "name": name }, "spec": { "type": operation } })).await;
        let refused = refused.expect_err("too long").to_string();
        assert!(refused.contains("at most 200 characters"), "{refused}");
    }
    let name = "n".repeat(200);
    tenant.start(&name, json!({ "type": operation })).await;
    assert_ended(&tenant.completed(&name, SOON).await, Outcome::Succeeded, Reason::Succeeded);
}

#[tokio::test]
async fn a_type_deleted_under_its_run_does_not_stop_it_nor_lose_its_end() {
    let tenant = Tenant::new("orphan").await;
    let folder = tenant.volume("gate").await;
    let script = "until [ -e /gate/go ]; do sleep 0.2; done";
    let operation = tenant
        .script_type("gated", script, |spec| {
            container(spec)["volumeMounts"] = json!([{ "name": "gate", "mountPath": "/gate" }]);
            let pod = &mut spec["executor"]["jobTemplate"]["spec"]["template"]["spec"];
            pod["volumes"] = json!([{ "name": "gate", "persistentVolumeClaim": { "claimName": "gate" } }]);
        })
        .await;
    tenant.start("run", json!({ "type": operation })).await;
    tenant.running("run", SOON).await;
    let types: Api<OperationType> = Api::all(tenant.cluster.client.clone());
    types.delete(&operation, &DeleteParams::default()).await.expect("a type can be deleted");
    std::fs::write(folder.join("go"), "").expect("the gate opens");
    assert_ended(&tenant.completed("run", SOON).await, Outcome::Succeeded, Reason::Succeeded);
}

#[tokio::test]
async fn a_job_deleted_by_hand_fails_the_run_and_says_so() {
    let tenant = Tenant::new("deleted").await;
    let operation = tenant.script_type("slow", FOREVER, |_| {}).await;
    tenant.start("run", json!({ "type": operation })).await;
    let job = tenant.running("run", SOON).await.job.expect("a Job");
    tenant.api::<Job>().delete(&job.name, &DeleteParams::background()).await.expect("an administrator may");
    let status = tenant.completed("run", SOON).await;
    assert_ended(&status, Outcome::Failed, Reason::JobDeleted);
    assert!(status.message.unwrap_or_default().contains(&job.name));
}

#[tokio::test]
async fn an_evicted_pod_is_replaced_and_the_run_goes_on() {
    let tenant = Tenant::new("evicted").await;
    let operation = tenant.script_type("slow", FOREVER, |spec| spec["retries"] = json!(0)).await;
    tenant.start("run", json!({ "type": operation })).await;
    let running = async |not: Option<&str>| {
        wait_for("a pod runs", SOON, async || {
            let pods = tenant.operation_pods().await.into_iter().filter(|pod| {
                pod.metadata.deletion_timestamp.is_none()
                    && pod.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Running"))
            });
            let name = pods.filter_map(|pod| pod.metadata.name).find(|name| Some(name.as_str()) != not);
            name.ok_or_else(|| tenant.look())
        })
        .await
    };
    let first = running(None).await;
    tenant.api::<Pod>().evict(&first, &EvictParams::default()).await.expect("a pod can be evicted");
    running(Some(&first)).await;
    let status = tenant.status("run").await;
    assert_eq!((status.phase, status.outcome), (Phase::Running, Outcome::Pending), "not even a retry was spent");
}

#[tokio::test]
async fn a_namespace_deleted_under_a_run_goes_at_once() {
    let tenant = Tenant::new("doomed").await;
    let operation = tenant.script_type("slow", FOREVER, |_| {}).await;
    tenant.start("run", json!({ "type": operation })).await;
    tenant.start("queued", json!({ "type": "no.such.type" })).await;
    tenant.running("run", SOON).await;
    let namespaces: Api<Namespace> = Api::all(tenant.cluster.client.clone());
    namespaces.delete(&tenant.name, &DeleteParams::default()).await.expect("a namespace can be deleted");
    wait_for("the namespace is gone", SOON, async || {
        match namespaces.get_opt(&tenant.name).await.expect("namespaces can be read") {
            None => Ok(()),
            Some(namespace) => Err(format!("{:#?}", namespace.status.map(|status| status.conditions))),
        }
    })
    .await;
}

/// Fields no run may have from its author.
#[tokio::test]
async fn a_spec_out_of_bounds_is_refused_with_the_field_named() {
    let tenant = Tenant::new("bounds").await;
    let refuse = async |spec: Value, words: &str| {
        let refused: Result<OperationRun, _> =
            tenant.create(json!({ "metadata": { "name": "odd" }, "spec": spec })).await;
        let refused = refused.map(drop).expect_err("out of bounds").to_string();
        assert!(refused.contains(words), "{words} is not named: {refused}");
    };
    refuse(json!({}), "spec.type").await;
    refuse(json!({ "type": "Not A Type" }), "spec.type").await;
    refuse(json!({ "type": "a", "timeoutSeconds": 0 }), "spec.timeoutSeconds").await;
    refuse(json!({ "type": "a", "onDuplicate": "Merge" }), "spec.onDuplicate").await;
    refuse(json!({ "type": "a", "inputs": "text" }), "spec.inputs").await;
    refuse(
        json!({ "type": "a", "target": { "apiVersion": "v1", "kind": "ConfigMap", "name": "../x" } }),
        "spec.target.name",
    )
    .await;
}

/// No other story runs beside these.
mod alone {
    use super::*;

    #[tokio::test]
    async fn a_foreign_job_of_the_same_name_is_left_alone() {
        // Alone: the policy that reserves these names is off for a moment.
        let tenant = Tenant::alone("taken").await;
        let operation = tenant.script_type("greet", "true", |_| {}).await;
        tenant.start("first", json!({ "type": operation })).await;
        let name = tenant.completed("first", SOON).await.job.expect("a Job").name;
        let jobs: Api<Job> = tenant.api();
        jobs.delete(&name, &DeleteParams::foreground()).await.expect("the finished Job can be deleted");
        wait_for("it is gone", SOON, async || match jobs.get_opt(&name).await.expect("Jobs can be read") {
            None => Ok(()),
            Some(_) => Err("still there"),
        })
        .await;
        make_foreign_job(&tenant, &name).await;
        let uid = jobs.get(&name).await.expect("the foreign Job").metadata.uid;
        tenant.start("second", json!({ "type": operation })).await;
        tenant.blocked("second", Reason::JobNameTaken, &[&name]).await;
        assert_eq!(jobs.get(&name).await.expect("the foreign Job").metadata.uid, uid, "untouched");
    }

    /// A Job that is not the operator's under a name that is. Admission lets nobody make one, so the policy is unbound for as
    /// long as that takes: as on a cluster where it came later.
    async fn make_foreign_job(tenant: &Tenant, name: &str) {
        let job = json!({ "apiVersion": "batch/v1", "kind": "Job", "metadata": { "name": name },
            "spec": { "suspend": true, "template": { "spec": { "restartPolicy": "Never",
                "containers": [{ "name": "main", "image": "localhost/no-such-image:1" }] } } } });
        let create = async || {
            let arguments = ["create", "--namespace", &tenant.name, "--filename", "-"];
            let output = tenant.cluster.kubectl_with(&arguments, &job.to_string());
            if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
        };
        tenant.cluster.while_unbound("tenantatlas-jobs", create).await;
    }
}
