//! Who may say what the tenants of a workspace get, and who may mark an object as made for one.

use super::{assert_refused, call, right};
use crate::support::Tenant;
use kube::Client;
use serde_json::{Value, json};
use tenantatlas::api::{BackupRepository, BackupSchedule};

const GROUP: &str = "tenantatlas.io/v1alpha1";

/// A person who may write Workspaces in the cluster, and these rules.
async fn platform(tenant: &Tenant, user: &str, more: Value) -> Client {
    let user = format!("{user}.{}", tenant.name);
    let mut rules = vec![
        json!({ "apiGroups": ["tenantatlas.io"], "resources": ["workspaces"], "verbs": ["get", "create", "patch"] }),
    ];
    rules.extend(more.as_array().expect("rules").iter().cloned());
    let metadata = json!({ "name": user, "labels": crate::support::tenant::of_story(tenant) });
    let role = json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": metadata,
        "rules": rules });
    let binding = json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": metadata,
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": user },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user }] });
    tenant.apply(&role.to_string());
    tenant.apply(&binding.to_string());
    let client = tenant.cluster.as_user(&user, &[]);
    tenant.until_allowed(&client, right("patch tenantatlas.io/workspaces")).await;
    client
}

fn run(types: &[&str]) -> Value {
    json!({ "apiGroups": ["tenantatlas.io"], "resources": ["operationtypes"], "resourceNames": types, "verbs": ["run"] })
}

#[tokio::test]
async fn who_gives_tenants_something_needs_in_the_cluster_what_it_takes_in_a_tenant() {
    let tenant = Tenant::new("ws-author").await;
    let secrets = json!({ "apiGroups": [""], "resources": ["secrets"], "verbs": ["create"] });
    let sets = json!({ "apiGroups": ["tenantatlas.io"], "resources": ["backupsets"], "verbs": ["delete"] });
    let none = platform(&tenant, "nora", json!([])).await;
    let check = platform(&tenant, "chuck", json!([run(&["repository.check"])])).await;
    let capture = platform(&tenant, "carl", json!([run(&["backup.capture"])])).await;
    let objects = json!({ "apiGroups": ["tenantatlas.io"], "resources": ["backuprepositories", "backupschedules"],
        "verbs": ["create"] });
    let repositories =
        json!({ "apiGroups": ["tenantatlas.io"], "resources": ["backuprepositories"], "verbs": ["create"] });
    let all = json!([run(&["repository.check", "backup.capture", "repository.maintain"]), secrets, objects]);
    let made = platform(&tenant, "mabel", json!([run(&["repository.check"]), repositories])).await;
    let most = platform(&tenant, "mona", all.clone()).await;
    let mut rules = all;
    rules.as_array_mut().expect("rules").push(sets);
    let every = platform(&tenant, "eva", rules).await;
    let path = format!("/apis/{GROUP}/workspaces");
    let object = |spec: &Value| {
        json!({ "apiVersion": GROUP, "kind": "Workspace", "spec": spec,
            "metadata": { "name": tenant.name, "labels": crate::support::tenant::of_story(&tenant) } })
    };
    let storage = json!({ "persistentVolumeClaim": { "claimName": "none" } });
    let repository = json!({ "repository": { "storage": storage } });
    let maintained = json!({ "repository": { "storage": storage, "maintenance": { "schedule": "@weekly" } } });
    let schedules = json!({ "schedules": [{ "name": "a", "schedule": "@daily" }] });
    let dumps = json!({ "schedules": [{ "name": "a", "schedule": "@daily", "operation": { "type": "team.dump" } }] });
    let expire = json!({ "schedules": [{ "name": "a", "schedule": "@daily", "retention": { "keepLast": 1 } }] });
    let hasty = json!({ "schedules": [{ "name": "a", "schedule": "@daily",
        "operation": { "type": "repository.maintain", "inputs": { "graceHours": 1 } } }] });
    let mut ten: Vec<Value> =
        (0..10).map(|number| json!({ "name": format!("s{number}"), "schedule": "@daily" })).collect();
    ten[9]["operation"] = json!({ "type": "team.dump" });
    let ten = json!({ "schedules": ten });
    let recovery = json!({ "repository": { "storage": storage,
        "recovery": { "recipients": [age::x25519::Identity::generate().to_public().to_string()] } } });
    let cases: [(&Client, &Value, &str); 12] = [
        (&every, &ten, "spec.schedules[9] has team.dump"),
        (&every, &recovery, "verb get on secrets"),
        (&none, &repository, "repository.check"),
        (&check, &repository, "create on backuprepositories"),
        (&capture, &schedules, "create on backupschedules"),
        (&made, &repository, "create on secrets"),
        (&check, &maintained, "repository.maintain"),
        (&check, &schedules, "backup.capture"),
        (&every, &dumps, "team.dump"),
        (&most, &expire, "verb delete on backupsets"),
        (&most, &hasty, "verb delete on backupsets"),
        (&none, &dumps, "team.dump"),
    ];
    let there = call(&none, "POST", &path, &object(&json!({ "quotas": { "openRuns": 9 } }))).await;
    there.expect("limits start nothing");
    let own = format!("{path}/{}", tenant.name);
    for (client, spec, words) in cases {
        let mut new = object(spec);
        new["metadata"]["name"] = json!(format!("{}-new", tenant.name));
        for (method, path, body) in [("POST", &path, &new), ("PATCH", &own, &json!({ "spec": spec }))] {
            let answer = call(client, method, path, body).await;
            assert_refused(answer, 403, &["tenantatlas-workspace", words, "in the whole cluster"]);
        }
    }
    for (client, spec) in [(&most, &maintained), (&most, &schedules), (&every, &expire), (&every, &hasty)] {
        call(client, "PATCH", &own, &json!({ "spec": spec })).await.expect("it may");
    }
    // An update that leaves the templates as they are takes no further right.
    call(&none, "PATCH", &own, &json!({ "spec": { "quotas": { "openRuns": 8 } } })).await.expect("another field");
    // To give less takes the verbs of what is left.
    call(&none, "PATCH", &own, &json!({ "spec": { "schedules": null, "repository": null } })).await.expect("nothing");
    let path = format!("{path}/{}", tenant.name);
    call(&tenant.cluster.client, "DELETE", &path, &Value::Null).await.expect("cleared up");
}

#[tokio::test]
async fn who_runs_something_in_all_tenants_needs_run_on_the_workspace_and_on_the_type_in_the_cluster() {
    let tenant = Tenant::new("wrun-author").await;
    let name = tenant.name.as_str();
    let creates =
        json!({ "apiGroups": ["tenantatlas.io"], "resources": ["workspaceruns"], "verbs": ["get", "create", "patch"] });
    let runs_in = json!({ "apiGroups": ["tenantatlas.io"], "resources": ["workspaces"], "resourceNames": [name], "verbs": ["run"] });
    let maintains = run(&["repository.maintain"]);
    let none = platform(&tenant, "nora", json!([creates])).await;
    let typed = platform(&tenant, "theo", json!([creates, run(&["backup.capture"])])).await;
    let placed = platform(&tenant, "paul", json!([creates, runs_in])).await;
    let both = platform(&tenant, "bea", json!([creates, runs_in, run(&["backup.capture"]), maintains])).await;
    // All that a tenant's admin has is in its namespace.
    let admin = tenant.person("ada", &["tenantatlas-tenant-admin"]).await;
    let path = format!("/apis/{GROUP}/workspaceruns");
    let object = |spec: &Value| {
        json!({ "apiVersion": GROUP, "kind": "WorkspaceRun", "spec": spec,
            "metadata": { "name": name, "labels": crate::support::tenant::of_story(&tenant) } })
    };
    // No tenant has this label, so that nothing is started.
    let capture =
        json!({ "workspace": { "name": name }, "operation": { "type": "backup.capture" }, "tenantSelector": "none" });
    let mut hasty = capture.clone();
    hasty["operation"] = json!({ "type": "repository.maintain", "inputs": { "graceHours": 1 } });
    let mut other = capture.clone();
    other["workspace"]["name"] = json!("e2e");
    let mut forged = capture.clone();
    forged["requestedBy"] = json!({ "username": "system:admin", "groups": ["system:masters"] });
    for (client, spec, words) in [
        (&none, &capture, "verb run on workspaces"),
        (&typed, &capture, "verb run on workspaces"),
        (&placed, &capture, "verb run on operationtypes"),
        (&both, &other, "verb run on workspaces"),
        (&both, &hasty, "verb delete on backupsets"),
        (&admin, &capture, "cannot create resource"),
    ] {
        assert_refused(call(client, "POST", &path, &object(spec)).await, 403, &[words]);
    }
    let gone = call(&tenant.cluster.client, "GET", &format!("{path}/{name}"), &Value::Null).await;
    assert_refused(gone, 404, &[]);
    let made = call(&both, "POST", &path, &object(&forged)).await;
    let who = format!("bea.{name}");
    // Where admission cannot mutate, another user's name is refused.
    match made {
        Ok(made) => assert_eq!(made["spec"]["requestedBy"]["username"], json!(who)),
        refused => {
            assert_refused(refused, 403, &["spec.requestedBy"]);
            let mut honest = capture.clone();
            honest["requestedBy"] = json!({ "username": who });
            call(&both, "POST", &path, &object(&honest)).await.expect("it may");
        }
    }
    // What never changes, and what the operator alone writes.
    let own = format!("{path}/{name}");
    let change = json!({ "spec": { "operation": { "type": "repository.maintain" } } });
    assert_refused(call(&both, "PATCH", &own, &change).await, 422, &["immutable"]);
    let status = json!({ "status": { "message": "all went well" } });
    assert_refused(
        call(&tenant.cluster.client, "PATCH", &format!("{own}/status"), &status).await,
        403,
        &["the operator alone"],
    );
    for (spec, words) in [
        (json!({ "operation": { "type": "restore.apply" } }), "restores in restore"),
        (json!({ "operation": { "type": "bulk.apply" } }), "bulk operations in bulk"),
        (json!({ "restore": { "backupSet": { "name": "a" } } }), "exactly one of operation, bulk, restore and undoOf"),
        (json!({ "dryRun": true }), "only bulk operations and restores are previewed"),
        (json!({ "preview": { "name": "a" } }), "only bulk operations and restores are previewed"),
        (json!({ "waves": [{}] }), "exactly one of tenants, percent and tenantSelector"),
        (json!({ "waves": [{ "tenants": 1, "percent": 5 }] }), "exactly one of tenants, percent and tenantSelector"),
        (json!({ "parallelism": 0 }), "parallelism"),
    ] {
        let mut whole = capture.clone();
        whole.as_object_mut().expect("fields").extend(spec.as_object().expect("fields").clone());
        let mut bad = object(&whole);
        bad["metadata"]["name"] = json!(format!("{name}-bad"));
        assert_refused(call(&tenant.cluster.client, "POST", &path, &bad).await, 422, &[words]);
    }
    call(&tenant.cluster.client, "DELETE", &own, &Value::Null).await.expect("cleared up");
}

#[tokio::test]
async fn bad_templates_are_refused_with_the_field_and_what_to_do() {
    let tenant = Tenant::new("ws-bad").await;
    let path = format!("/apis/{GROUP}/workspaces");
    let of = |spec: &Value| {
        json!({ "apiVersion": GROUP, "kind": "Workspace", "spec": spec,
            "metadata": { "name": tenant.name, "labels": crate::support::tenant::of_story(&tenant) } })
    };
    let storage = json!({ "s3": { "bucket": "backups" } });
    let scheduled = |of: Value| {
        let mut schedule = json!({ "name": "a", "schedule": "@daily" });
        schedule.as_object_mut().expect("an object").extend(of.as_object().expect("fields").clone());
        json!({ "schedules": [schedule] })
    };
    for (spec, words) in [
        (json!({ "repository": { "storage": {} } }), "exactly one of"),
        (json!({ "repository": { "storage": storage, "name": "A" } }), "repository.name"),
        (json!({ "repository": { "storage": storage, "recovery": { "recipients": ["age1x"] } } }), "recipients"),
        (json!({ "repository": { "storage": storage, "recovery": { "recipients": [] } } }), "recipients"),
        (json!({ "repository": { "storage": { "s3": { "bucket": "backups", "prefix": "a".repeat(449) } } } }), "448"),
        (scheduled(json!({ "schedule": "99 * * * *" })), "five fields"),
        (scheduled(json!({ "schedule": "0 0 31 2 *" })), "never has"),
        (scheduled(json!({ "timeZone": "Mars/Base" })), "IANA"),
        (scheduled(json!({ "operation": { "type": "restore.apply" } })), "a template has none"),
        (scheduled(json!({ "operation": { "type": "restore.rehearse" } })), "create a BackupSchedule in the tenant"),
        (scheduled(json!({ "retention": {} })), "keeps nothing"),
        (scheduled(json!({ "name": "a".repeat(53) })), "name"),
        (
            json!({ "schedules": [{ "name": "a", "schedule": "@daily" }, { "name": "a", "schedule": "@hourly" }] }),
            "Duplicate",
        ),
    ] {
        assert_refused(call(&tenant.cluster.client, "POST", &path, &of(&spec)).await, 422, &[words]);
    }
    let spec = json!({ "repository": { "storage": storage } });
    call(&tenant.cluster.client, "POST", &path, &of(&spec)).await.expect("it is sound");
    let own = format!("{path}/{}", tenant.name);
    let moved = json!({ "spec": { "repository": { "storage": { "s3": { "bucket": "another" } } } } });
    assert_refused(call(&tenant.cluster.client, "PATCH", &own, &moved).await, 422, &["backups are not moved"]);
    let second =
        json!({ "spec": { "repository": { "name": "second", "storage": { "s3": { "bucket": "another" } } } } });
    call(&tenant.cluster.client, "PATCH", &own, &second).await.expect("a second repository");
    call(&tenant.cluster.client, "DELETE", &own, &Value::Null).await.expect("cleared up");
}

#[tokio::test]
async fn nobody_but_the_operator_marks_an_object_as_made_for_a_workspace() {
    let tenant = Tenant::new("ws-mark").await;
    let ada = tenant.person("ada", &["tenantatlas-tenant-admin"]).await;
    let label = |value: Value| json!({ "metadata": { "labels": { "tenantatlas.io/template": value } } });
    let repository = json!({ "storage": { "persistentVolumeClaim": { "claimName": "none" } },
        "passwordSecret": { "name": "none" } });
    let object = |kind: &str, name: &str, spec: &Value, labels: Value| json!({ "apiVersion": GROUP, "kind": kind, "spec": spec, "metadata": { "name": name, "labels": labels } });
    let schedule = json!({ "schedule": "@yearly" });
    for (kind, plural, spec) in
        [("BackupRepository", "backuprepositories", &repository), ("BackupSchedule", "backupschedules", &schedule)]
    {
        let all = tenant.path(GROUP, plural);
        let marked = json!({ "tenantatlas.io/template": tenant.name });
        let words = ["tenantatlas-templates", "the operator sets it"];
        for client in [&ada, &tenant.cluster.client] {
            let forged = object(kind, "forged", spec, marked.clone());
            assert_refused(call(client, "POST", &all, &forged).await, 403, &words);
        }
        call(&ada, "POST", &all, &object(kind, "own", spec, json!({}))).await.expect("without the label");
        let made = object(kind, "made", spec, marked);
        call(&tenant.cluster.as_operator(), "POST", &all, &made).await.expect("the operator may");
        for client in [&ada, &tenant.cluster.client] {
            for (name, change) in
                [("own", label(json!("shop"))), ("made", label(json!("another"))), ("made", label(Value::Null))]
            {
                let answer = call(client, "PATCH", &format!("{all}/{name}"), &change).await;
                assert_refused(answer, 403, &words);
            }
        }
        call(&ada, "PATCH", &format!("{all}/made"), &json!({ "metadata": { "labels": { "team": "blue" } } }))
            .await
            .expect("another label");
    }
    assert!(tenant.api::<BackupRepository>().get_opt("forged").await.expect("a read").is_none());
    assert!(tenant.api::<BackupSchedule>().get_opt("forged").await.expect("a read").is_none());
}

/// A workspace run of a workspace without tenants, so that nothing is started.
fn of_none(tenant: &Tenant, name: &str, what: &Value) -> Value {
    let mut spec = json!({ "workspace": { "name": tenant.name } });
    if what.get("preview").is_none() {
        spec["tenantSelector"] = json!("none");
    }
    spec.as_object_mut().expect("fields").extend(what.as_object().expect("fields").clone());
    json!({ "apiVersion": GROUP, "kind": "WorkspaceRun", "spec": spec,
        "metadata": { "name": name, "labels": crate::support::tenant::of_story(tenant) } })
}

#[tokio::test]
async fn who_changes_or_restores_something_in_all_tenants_needs_the_verb_of_what_does_it_in_the_cluster() {
    let tenant = Tenant::new("wrun-orders").await;
    let name = tenant.name.as_str();
    let creates = json!({ "apiGroups": ["tenantatlas.io"], "resources": ["workspaceruns"], "verbs": ["create"] });
    let runs_in = json!({ "apiGroups": ["tenantatlas.io"], "resources": ["workspaces"], "resourceNames": [name], "verbs": ["run"] });
    let path = format!("/apis/{GROUP}/workspaceruns");
    let (pods, preview) = (json!({ "kind": "Pod" }), json!({ "name": "look" }));
    let set = json!({ "name": "before" });
    let mut others =
        vec!["bulk.apply", "bulk.preview", "bulk.delete.preview", "bulk.delete", "restore.preview", "restore.apply"];
    for (number, (what, wanted)) in [
        (
            json!({ "bulk": { "resource": pods, "action": "annotate", "items": ["a"], "options": { "set": { "a": "b" } } } }),
            "bulk.apply",
        ),
        (
            json!({ "bulk": { "resource": pods, "action": "annotate", "items": ["a"], "options": { "set": { "a": "b" } } },
                "dryRun": true }),
            "bulk.preview",
        ),
        (
            json!({ "bulk": { "resource": pods, "action": "delete", "items": ["a"] }, "dryRun": true }),
            "bulk.delete.preview",
        ),
        (json!({ "bulk": { "resource": pods, "action": "delete" }, "preview": preview }), "bulk.delete"),
        (json!({ "restore": { "backupSet": set }, "dryRun": true }), "restore.preview"),
        (json!({ "restore": { "backupSet": set } }), "restore.apply"),
        (json!({ "undoOf": { "name": "earlier" }, "dryRun": true }), "restore.preview"),
        (json!({ "undoOf": { "name": "earlier" }, "preview": preview }), "restore.apply"),
    ]
    .into_iter()
    .enumerate()
    {
        let object = of_none(&tenant, &format!("{name}-{number}"), &what);
        others.retain(|other| *other != wanted);
        let without = platform(&tenant, &format!("without-{number}"), json!([creates, runs_in, run(&others)])).await;
        others.push(wanted);
        let words = format!("verb run on operationtypes.tenantatlas.io/{wanted} in the whole cluster");
        assert_refused(call(&without, "POST", &path, &object).await, 403, &[&words]);
        assert_refused(call(&without, "GET", &format!("{path}/{name}-{number}"), &Value::Null).await, 403, &[]);
        let with = platform(&tenant, &format!("with-{number}"), json!([creates, runs_in, run(&[wanted])])).await;
        let mut object = object;
        object["spec"]["requestedBy"] = json!({ "username": format!("with-{number}.{name}") });
        call(&with, "POST", &path, &object).await.expect("that is enough");
        call(&tenant.cluster.client, "DELETE", &format!("{path}/{name}-{number}"), &Value::Null).await.expect("cleared up");
    }
}

#[tokio::test]
async fn what_is_not_one_order_for_all_tenants_is_refused_with_what_to_do() {
    let tenant = Tenant::new("wrun-bad").await;
    let path = format!("/apis/{GROUP}/workspaceruns");
    let name = format!("{}-bad", tenant.name);
    let (pods, preview) = (json!({ "kind": "Pod" }), json!({ "name": "look" }));
    let set = json!({ "name": "before" });
    let bulk = |fields: Value| {
        let mut bulk =
            json!({ "resource": pods, "action": "label", "items": ["a"], "options": { "set": { "a": "b" } } });
        bulk.as_object_mut().expect("fields").extend(fields.as_object().expect("fields").clone());
        bulk.as_object_mut().expect("fields").retain(|_, value| !value.is_null());
        bulk
    };
    for (what, words) in [
        (json!({ "undoOf": { "name": "a" } }), "an undo is looked at first"),
        (json!({ "restore": { "backupSet": set, "prune": true } }), "prune deletes"),
        (json!({ "restore": { "backupSet": set, "only": "missing" }, "preview": preview }), "leave out all of restore"),
        (json!({ "restore": { "backupSet": set }, "dryRun": true, "preview": preview }), "applied for good"),
        (json!({ "restore": { "backupSet": set }, "timeoutSeconds": 9 }), "timeoutSeconds is for operation"),
        (json!({ "restore": { "backupSet": set }, "preview": { "name": "a", "planDigest": "b" } }), "planDigest"),
        (json!({ "bulk": bulk(json!({ "labelSelector": "a" })) }), "say which objects"),
        (json!({ "bulk": bulk(json!({ "items": null })), "preview": preview }), "leave out bulk.options"),
        (json!({ "bulk": bulk(json!({ "action": "delete", "options": null })) }), "make one with dryRun"),
        (json!({ "bulk": bulk(json!({ "action": "capture" })) }), "captures with operation"),
        (json!({ "bulk": bulk(json!({ "action": "export", "options": null })) }), "captures with operation"),
        (
            json!({ "bulk": bulk(json!({ "action": "delete" })), "dryRun": true }),
            "delete takes bulk.options.repository",
        ),
        (
            json!({ "bulk": bulk(json!({ "action": "delete", "options": null, "stopAfterFailures": 1, "items": null })),
                "preview": preview }),
            "delete takes no bulk.stopAfterFailures",
        ),
        (json!({ "bulk": bulk(json!({ "options": null })) }), "label and annotate take"),
        (
            json!({ "bulk": bulk(json!({ "options": { "set": { "a": "b" }, "replicas": 1 } })) }),
            "label and annotate take",
        ),
        (json!({ "bulk": bulk(json!({ "action": "scale" })) }), "scale takes"),
        (json!({ "bulk": bulk(json!({ "action": "restart" })) }), "restart, suspend and resume"),
        (json!({ "bulk": bulk(json!({ "stopAfterFailures": 1 })), "dryRun": true }), "a dry run looks at all objects"),
    ] {
        let bad = of_none(&tenant, &name, &what);
        assert_refused(call(&tenant.cluster.client, "POST", &path, &bad).await, 422, &[words]);
    }
    let mut selects = of_none(&tenant, &name, &json!({ "preview": preview, "restore": { "backupSet": set } }));
    selects["spec"]["tenantSelector"] = json!("a=b");
    assert_refused(
        call(&tenant.cluster.client, "POST", &path, &selects).await,
        422,
        &["a preview is applied in all tenants that it showed"],
    );
    selects = of_none(&tenant, &"x".repeat(131), &json!({ "restore": { "backupSet": set } }));
    assert_refused(call(&tenant.cluster.client, "POST", &path, &selects).await, 422, &["at most 130 characters"]);
}
