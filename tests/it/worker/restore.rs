use super::{
    api::{Api, NAMESPACE, RUN, object, objects, refusal, refusal_with},
    support::{Pod, environment},
};
use crate::repository::support::faults::{Fault, Request};
use http::Method;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    io::ErrorKind,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};
use tenantatlas::{
    api::{Outcome, outcome::SummaryCounts, result::TerminationResult},
    clock::SystemClock,
    operations::{preview, rehearse, restore::apply},
    repository::{CaptureOptions, Entry, ItemPath, Repository as _, WriterPermit, entries},
    worker::{environment::Environment, failure::Failure, stop::Stop},
};

const RESTORE: &str = "put-back";
const RESTORE_UID: &str = "restore-uid";
pub const SET: &str = "nightly";

/// A tenant whose objects were captured, and the backup set of it.
pub struct Tenant {
    pub api: Api,
    pub pod: Pod,
    snapshot: String,
    /// Counts runs: each has a uid of its own.
    run: usize,
    /// The item that the operator found in the finding that restores name.
    item: Option<String>,
    /// The approval that the run names.
    approval: Option<Value>,
    /// The plan that the run names.
    plan_digest: Option<Value>,
    pub stop: Stop,
}

impl Tenant {
    pub async fn captured(api: Api) -> Self {
        let pod = Pod::new();
        let snapshot = pod.capture_all(&api).await.unwrap().context.snapshot.unwrap().id;
        Self::with_set(api, pod, &snapshot)
    }

    /// A tenant with the backup set of a snapshot.
    pub fn with_set(api: Api, pod: Pod, snapshot: &str) -> Self {
        let mut tenant = Self {
            api,
            pod,
            snapshot: snapshot.to_owned(),
            run: 0,
            item: None,
            approval: None,
            plan_digest: None,
            stop: Stop::default(),
        };
        tenant.next_run();
        tenant.set(|_| {});
        tenant
    }

    /// Three ConfigMaps, two Secrets and a Deployment.
    pub async fn usual() -> Self {
        let api = Api::new();
        api.serve_config_maps(objects(3));
        let secret = |name: &str| json!({"metadata": object(name)["metadata"], "type": "Opaque", "data": {"password": "aHVudGVyMg=="}});
        api.serve("", "v1", "Secret", "secrets", vec![secret("a"), secret("b")]);
        api.serve("apps", "v1", "Deployment", "deployments", vec![deployment("web", "web:1")]);
        Self::captured(api).await
    }

    fn set(&self, change: impl FnOnce(&mut Value)) {
        let mut set = json!({"apiVersion": "tenantatlas.io/v1alpha1", "kind": "BackupSet", "metadata": {"name": SET, "namespace": NAMESPACE},
            "spec": {"repository": {"name": "main"}, "snapshot": self.snapshot, "run": {"name": "nightly", "uid": "u"},
                "namespaceUid": "namespace-uid", "coverage": "full"}});
        change(&mut set);
        self.api.record("backupsets", SET, set);
    }

    #[allow(clippy::needless_pass_by_value, reason = "called with literals")]
    pub fn order(&self, spec: Value) {
        let mut restore = json!({"apiVersion": "tenantatlas.io/v1alpha1", "kind": "RestoreRun",
            "metadata": {"name": RESTORE, "namespace": NAMESPACE, "uid": RESTORE_UID},
            "spec": {"backupSet": {"name": SET}, "dryRun": true, "existingResourcePolicy": "update", "requestedBy": {"username": "ada", "groups": ["devs"]}},
            "status": {"operationRun": {"name": RUN, "uid": self.run_uid()}}});
        for (field, value) in spec.as_object().cloned().unwrap_or_default() {
            restore["spec"][field] = value;
        }
        if self.item.is_some() {
            restore["spec"].as_object_mut().unwrap().remove("backupSet");
            restore["spec"].as_object_mut().unwrap().remove("existingResourcePolicy");
        }
        self.api.record("restoreruns", RESTORE, restore);
    }

    pub async fn preview(&self, spec: Value) -> Result<TerminationResult, Failure> {
        self.order(spec);
        let repository = self.pod.repository().await?;
        preview::preview(&self.api.client(), &self.environment(), &repository).await
    }

    pub async fn apply(&self, spec: Value) -> Result<TerminationResult, Failure> {
        self.order(spec);
        self.apply_again().await
    }

    /// Another attempt of the same run.
    pub async fn apply_again(&self) -> Result<TerminationResult, Failure> {
        let repository = self.pod.repository().await?;
        let permit = WriterPermit::without_maintenance();
        apply::apply(&self.api.client(), &self.environment(), &repository, &SystemClock, &self.stop, permit).await
    }

    /// From now on restores are of the finding about this item.
    pub fn of_finding(&mut self, item: &str) {
        self.item = Some(item.to_owned());
    }

    /// From now on everything is done by another run.
    pub fn next_run(&mut self) {
        self.run += 1;
        let uid = self.run_uid();
        self.api.change_run(|run| run["metadata"]["uid"] = json!(uid));
    }

    pub fn run_uid(&self) -> String {
        format!("{:08}-of-a-run", self.run)
    }

    /// What a pod of the run is given.
    pub fn environment(&self) -> Environment {
        let mut inputs = json!({"repository": "main", "restoreRun": {"name": RESTORE, "uid": RESTORE_UID}});
        if let Some(item) = &self.item {
            inputs["finding"] = json!({"backupSet": SET, "item": item});
        }
        if let Some(approval) = &self.approval {
            inputs["approval"] = approval.clone();
        }
        if let Some(digest) = &self.plan_digest {
            inputs["planDigest"] = digest.clone();
        }
        let mut environment = environment(inputs, None);
        environment.identity.run_uid = self.run_uid();
        environment
    }

    /// A preview, recorded as one that completed; the run that applies it is another.
    pub async fn previewed(&mut self, spec: Value) {
        let result = self.preview(spec).await.unwrap();
        self.record_preview(&result);
    }

    /// Records the preview that was ordered last as one that completed so; the run that applies it is another.
    pub fn record_preview(&mut self, result: &TerminationResult) {
        let mut look = self.api.record_of("restoreruns", RESTORE);
        look["metadata"] = json!({"name": "look", "namespace": NAMESPACE, "uid": "look-uid"});
        look["status"] = json!({"phase": "completed", "outcome": "succeeded", "planDigest": result.context.plan.as_ref().unwrap().digest,
            "operationRun": {"name": RUN, "uid": self.run_uid()}});
        self.api.record("restoreruns", "look", look);
        self.next_run();
    }

    /// `item: outcome reason` of each result.
    pub fn results(&self) -> Vec<String> {
        let reports = self.api.reports();
        let of_run = format!("-{:08}-results-", self.run);
        let of_results = reports.iter().filter(|(name, _)| name.contains(&of_run));
        let results =
            of_results.flat_map(|(_, report)| report["spec"]["results"].as_array().cloned().unwrap_or_default());
        let text = |result: Value| {
            let reason = result["reason"]["code"].as_str().map(|code| format!(" {code}")).unwrap_or_default();
            format!("{}: {}{reason}", result["itemId"].as_str().unwrap(), result["outcome"].as_str().unwrap())
        };
        results.map(text).collect()
    }

    /// The plan in the reports, in its order.
    pub fn planned(&self) -> Vec<Value> {
        let reports = self.api.reports();
        let of_run = format!("-{:08}-plan-", self.run);
        let of_plan = reports.iter().filter(|(name, _)| name.contains(&of_run));
        let mut of_plan: Vec<&Value> = of_plan.map(|(_, report)| report).collect();
        of_plan.sort_by_key(|report| report["spec"]["chunk"].as_i64());
        of_plan.iter().flat_map(|report| report["spec"]["plan"].as_array().cloned().unwrap_or_default()).collect()
    }

    /// `item: action reason` of each.
    pub fn actions(&self) -> Vec<String> {
        let text = |planned: &Value| {
            let reason = planned["reason"]["code"].as_str().map(|code| format!(" {code}")).unwrap_or_default();
            format!("{}: {}{reason}", planned["itemId"].as_str().unwrap(), planned["action"].as_str().unwrap())
        };
        self.planned().iter().map(text).collect()
    }
}

pub fn deployment(name: &str, image: &str) -> Value {
    let mut deployment = object(name);
    deployment["spec"] =
        json!({"replicas": 2, "template": {"spec": {"containers": [{"name": "web", "image": image}]}}});
    deployment
}

pub fn counts(result: &TerminationResult) -> SummaryCounts {
    let counts = result.summary_counts.unwrap();
    assert!(counts.add_up(), "{counts:?}");
    counts
}

#[tokio::test]
async fn a_preview_says_what_would_be_done_with_one_dry_run_for_each_write_and_none_for_what_is_unchanged() {
    let tenant = Tenant::usual().await;
    tenant.api.serve_config_maps(vec![object("item-00000"), object("item-00002"), object("new")]);
    tenant.api.change("ConfigMap", "item-00002", |object| object["status"] = json!({"seen": true}));
    tenant.api.change("Deployment", "web", |object| {
        object["spec"]["template"]["spec"]["containers"][0]["image"] = json!("web:2");
    });
    tenant.api.change("Secret", "a", |object| object["data"]["password"] = json!("c2VjcmV0"));
    let result = tenant.preview(json!({})).await.unwrap();
    assert_eq!(
        tenant.actions(),
        [
            "core/ConfigMap/item-00000: unchanged",
            "core/ConfigMap/item-00001: create",
            "core/ConfigMap/item-00002: unchanged",
            "core/Secret/a: update",
            "core/Secret/b: unchanged",
            "apps/Deployment/web: update",
        ]
    );
    assert_eq!(tenant.api.writes(), Vec::<String>::new());
    assert_eq!(
        tenant.api.dry_runs(),
        [
            "POST /api/v1/namespaces/acme/configmaps",
            "PUT /api/v1/namespaces/acme/secrets/a",
            "PUT /apis/apps/v1/namespaces/acme/deployments/web",
        ]
    );
    assert_eq!(result.outcome, Some(Outcome::Succeeded));
    assert_eq!(counts(&result), SummaryCounts { total: 6, processed: 6, succeeded: 6, failed: 0, skipped: 0 });
    let plan = result.context.plan.unwrap();
    assert_eq!((plan.digest.len(), plan.summary.update, plan.summary.create, plan.summary.unchanged), (64, 2, 1, 3));
    let diffs: Vec<_> =
        tenant.planned().iter().filter_map(|planned| planned["diff"].as_str().map(str::to_owned)).collect();
    assert_eq!(diffs[1], "~ spec.template.spec.containers[web].image: \"web:2\" -> \"web:1\"\n");
    assert!(diffs[0].starts_with("~ data.password: hmac:"), "{}", diffs[0]);
    let everything = serde_json::to_string(&tenant.api.reports()).unwrap();
    for secret in ["aHVudGVyMg", "c2VjcmV0"] {
        assert!(!everything.contains(secret), "{secret} in {everything}");
    }
}

#[tokio::test]
async fn a_preview_of_what_is_there_as_it_was_tries_no_write() {
    let tenant = Tenant::usual().await;
    let result = tenant.preview(json!({"existingResourcePolicy": "recreate", "prune": true})).await.unwrap();
    assert_eq!(result.context.plan.unwrap().summary.unchanged, 6);
    assert_eq!((tenant.api.writes(), tenant.api.dry_runs()), (Vec::new(), Vec::new()));
}

#[tokio::test]
async fn only_what_is_selected_is_planned_and_what_matches_nothing_is_a_failure() {
    let tenant = Tenant::usual().await;
    let items = json!([{"kind": "ConfigMap", "name": "item-*"}, {"kind": "StatefulSet"}, {"group": "apps"}]);
    let result = tenant.preview(json!({"items": items, "excludeItems": [{"name": "item-00001"}]})).await.unwrap();
    assert_eq!(
        tenant.actions(),
        [
            "core/ConfigMap/item-00000: unchanged",
            "core/ConfigMap/item-00002: unchanged",
            "apps/Deployment/web: unchanged"
        ]
    );
    assert_eq!(result.outcome, Some(Outcome::PartiallySucceeded));
    assert_eq!(result.failures.len(), 1);
    assert_eq!(
        (result.failures[0].item_id.as_str(), result.failures[0].reason_code.as_str()),
        ("items[1]", "MatchesNothing")
    );
    let failure = tenant.preview(json!({"items": [{"name": "nobody"}]})).await.unwrap_err();
    assert_eq!((failure.reason.as_str(), failure.exit_code()), ("NothingSelected", 40));
}

#[tokio::test]
async fn what_who_asked_or_the_account_may_not_do_is_forbidden_in_the_preview_already() {
    let tenant = Tenant::usual().await;
    tenant.api.serve_config_maps(vec![]);
    tenant.api.change("Secret", "a", |object| object["data"]["password"] = json!("c2VjcmV0"));
    tenant.api.change("Deployment", "web", |object| object["spec"]["replicas"] = json!(7));
    tenant.api.deny("ada", "create", "configmaps");
    tenant.api.deny("system:serviceaccount:acme:tenantatlas-restore", "update", "deployments");
    let result = tenant.preview(json!({})).await.unwrap();
    assert_eq!(
        tenant.actions(),
        [
            "core/ConfigMap/item-00000: forbidden Forbidden",
            "core/ConfigMap/item-00001: forbidden Forbidden",
            "core/ConfigMap/item-00002: forbidden Forbidden",
            "core/Secret/a: update",
            "core/Secret/b: unchanged",
            "apps/Deployment/web: forbidden Forbidden",
        ]
    );
    assert_eq!(counts(&result).failed, 4);
    assert!(result.failures[0].message.contains("ada may not create configmaps"), "{:?}", result.failures[0]);
    // With an account of its own the restore is held to that.
    tenant.api.deny("system:serviceaccount:acme:mine", "update", "secrets");
    let environment = json!({"serviceAccountName": "mine", "items": [{"kind": "Secret"}, {"kind": "Deployment"}]});
    let result = tenant.preview(environment).await.unwrap();
    assert_eq!(result.failures.iter().map(|failure| failure.item_id.as_str()).collect::<Vec<_>>(), ["core/Secret/a"]);
}

#[tokio::test]
async fn what_the_server_refuses_is_said_with_its_words() {
    let tenant = Tenant::usual().await;
    tenant.api.serve_config_maps(vec![]);
    tenant.api.fail(|uri, _| {
        let dry_run = uri.query().is_some_and(|query| query.contains("dryRun"));
        (dry_run && uri.path().ends_with("/configmaps")).then(|| refusal(422, "Invalid"))
    });
    let result = tenant.preview(json!({"items": [{"kind": "ConfigMap"}]})).await.unwrap();
    assert_eq!(result.failures[0].reason_code, "Invalid");
    assert!(result.failures[0].message.contains("422 made to fail with Invalid"), "{}", result.failures[0].message);
}

#[tokio::test]
async fn a_binding_to_a_role_that_the_restore_makes_first_is_not_called_invalid() {
    let api = Api::new();
    let rbac = "rbac.authorization.k8s.io";
    let binding = |name: &str, role: &str| {
        let mut binding = object(name);
        binding["roleRef"] = json!({"apiGroup": rbac, "kind": "Role", "name": role});
        binding
    };
    api.serve(rbac, "v1", "Role", "roles", vec![object("reader")]);
    api.serve(rbac, "v1", "RoleBinding", "rolebindings", vec![binding("ada", "reader"), binding("eve", "other")]);
    let tenant = Tenant::captured(api).await;
    tenant.api.serve(rbac, "v1", "Role", "roles", vec![]);
    tenant.api.serve(rbac, "v1", "RoleBinding", "rolebindings", vec![]);
    tenant.api.fail(|uri, _| {
        uri.path()
            .ends_with("/rolebindings")
            .then_some(uri.query())
            .flatten()
            .filter(|query| query.contains("dryRun"))
            .map(|_| refusal(404, "NotFound"))
    });
    tenant.preview(json!({})).await.unwrap();
    assert_eq!(
        tenant.actions(),
        [
            "rbac.authorization.k8s.io/Role/reader: create",
            "rbac.authorization.k8s.io/RoleBinding/ada: create",
            "rbac.authorization.k8s.io/RoleBinding/eve: invalid Invalid",
        ]
    );
    assert_eq!(tenant.planned()[1]["warnings"][0]["code"], "NotTried");
}

#[tokio::test]
async fn prune_shows_what_would_go_and_spares_what_no_backup_holds() {
    let tenant = Tenant::usual().await;
    let mut kept = object("kept");
    kept["metadata"]["labels"] = json!({"velero.io/exclude-from-backup": "true"});
    let mut secrets = tenant.api.objects_of("Secret");
    secrets.extend([object("extra"), kept]);
    tenant.api.serve("", "v1", "Secret", "secrets", secrets);
    tenant.api.serve("example.com", "v1", "Widget", "widgets", vec![object("since")]);
    tenant.preview(json!({"prune": true})).await.unwrap();
    let changes: Vec<_> = tenant.actions().into_iter().filter(|action| !action.ends_with("unchanged")).collect();
    assert_eq!(
        changes,
        // What the cluster makes by itself is worth no word.
        ["core/Secret/kept: skip ExcludedByLabel", "example.com/Widget/since: delete", "core/Secret/extra: delete"]
    );
    assert_eq!(tenant.api.writes(), Vec::<String>::new());
}

#[tokio::test]
async fn what_prune_deletes_is_asked_of_who_wants_it_gone_and_of_the_account() {
    let mut tenant = Tenant::usual().await;
    tenant.api.serve_config_maps(vec![object("item-00000"), object("new")]);
    let of_set = json!(["core/ConfigMap/new"]);
    for full in [true, false] {
        tenant.set(|set| {
            if !full {
                (set["spec"]["coverage"], set["spec"]["absent"]) = (json!("partial"), of_set.clone());
            }
        });
        for (user, planned) in [
            (None, "core/ConfigMap/new: delete"),
            (Some("ada"), "core/ConfigMap/new: forbidden Forbidden"),
            (Some("system:serviceaccount:acme:tenantatlas-restore"), "core/ConfigMap/new: forbidden Forbidden"),
        ] {
            tenant.api.allow_all();
            if let Some(user) = user {
                tenant.api.deny(user, "delete", "configmaps");
            }
            tenant.next_run();
            tenant.preview(json!({"prune": true})).await.unwrap();
            let actions = tenant.actions();
            assert!(actions.contains(&planned.to_owned()), "{full}, {user:?}: {actions:?}");
            // What is only made takes nothing of it.
            assert!(actions.contains(&"core/ConfigMap/item-00001: create".to_owned()), "{full}, {user:?}: {actions:?}");
        }
    }
}

#[tokio::test]
async fn a_partial_set_removes_what_it_names_as_absent_and_nothing_else() {
    let tenant = Tenant::usual().await;
    tenant.set(|set| {
        set["spec"]["coverage"] = json!("partial");
        set["spec"]["absent"] = json!(["core/ConfigMap/made", "core/ConfigMap/gone", "core/ConfigMap/item-00000"]);
    });
    let mut maps = objects(3);
    maps.extend([object("made"), object("other")]);
    tenant.api.serve_config_maps(maps);
    tenant.preview(json!({"prune": true, "items": [{"kind": "ConfigMap"}]})).await.unwrap();
    let changes: Vec<_> = tenant.actions().into_iter().filter(|action| !action.ends_with("unchanged")).collect();
    assert_eq!(changes, ["core/ConfigMap/gone: unchanged Absent", "core/ConfigMap/made: delete"]);
}

#[tokio::test]
async fn a_set_that_is_not_of_this_tenant_is_refused_unless_it_was_adopted() {
    let tenant = Tenant::usual().await;
    tenant.set(|set| set["spec"]["namespaceUid"] = json!("of-another"));
    assert_eq!(tenant.preview(json!({})).await.unwrap_err().reason, "ForeignBackupSet");
    tenant.set(|set| set["spec"]["repository"]["name"] = json!("other"));
    assert_eq!(tenant.preview(json!({})).await.unwrap_err().reason, "ForeignBackupSet");
    tenant.set(|_| {});
    for (spec, reason) in [
        (json!({"backupSet": {"name": "missing"}}), "BackupSetNotFound"),
        (json!({"items": [{"labelSelector": "a in b"}]}), "InvalidRestore"),
        (json!({"transforms": [{"select": {}, "patch": [{"op": "add", "path": "x", "value": 1}]}]}), "InvalidRestore"),
        (json!({"requestedBy": null}), "NoRequester"),
    ] {
        let failure = tenant.preview(spec).await.unwrap_err();
        assert_eq!((failure.reason.as_str(), failure.exit_code()), (reason, 40));
    }
}

#[tokio::test]
async fn transforms_are_in_the_plan() {
    let tenant = Tenant::usual().await;
    let transforms =
        json!([{"select": {"kind": "Deployment"}, "patch": [{"op": "replace", "path": "/spec/replicas", "value": 0}]}]);
    tenant.preview(json!({"transforms": transforms, "items": [{"kind": "Deployment"}]})).await.unwrap();
    assert_eq!(tenant.actions(), ["apps/Deployment/web: update"]);
    assert_eq!(tenant.planned()[0]["diff"], "~ spec.replicas: 2 -> 0\n");
}

#[tokio::test]
async fn a_kind_or_version_that_is_not_served_is_said() {
    let api = Api::new();
    api.serve("example.com", "v1", "Widget", "widgets", vec![object("a")]);
    api.serve("example.org", "v1", "Gadget", "gadgets", vec![object("b")]);
    let tenant = Tenant::captured(api).await;
    let other = Api::new();
    other.serve("example.org", "v2", "Gadget", "gadgets", vec![]);
    let tenant = Tenant { api: other, ..tenant };
    tenant.set(|_| {});
    tenant.preview(json!({})).await.unwrap();
    assert_eq!(
        tenant.actions(),
        ["example.com/Widget/a: invalid KindNotServed", "example.org/Gadget/b: invalid VersionNotServed"]
    );
    assert_eq!(tenant.api.dry_runs(), Vec::<String>::new());
}

/// What a namespace looks like to its users.
fn seen(api: &Api, kind: &str) -> Vec<Value> {
    let mut objects = api.objects_of(kind);
    for object in &mut objects {
        let name = object["metadata"]["name"].clone();
        let labels = object["metadata"]["labels"].clone();
        object["metadata"] = json!({"name": name, "labels": labels});
        for field in ["apiVersion", "kind", "status"] {
            object.as_object_mut().unwrap().remove(field);
        }
    }
    objects
}

#[tokio::test]
async fn a_restore_puts_back_what_is_missing_and_what_differs_and_a_second_one_writes_nothing() {
    let mut tenant = Tenant::usual().await;
    let kinds = ["ConfigMap", "Secret", "Deployment"];
    let before = kinds.map(|kind| seen(&tenant.api, kind));
    tenant.api.serve_config_maps(vec![object("item-00000"), object("mine")]);
    tenant.api.change("Secret", "a", |object| object["data"] = json!({"password": "b3RoZXI=", "more": "eA=="}));
    tenant.api.serve("apps", "v1", "Deployment", "deployments", vec![]);
    let result = tenant.apply(json!({"dryRun": false})).await.unwrap();
    assert_eq!(result.outcome, Some(Outcome::Succeeded));
    assert_eq!(counts(&result), SummaryCounts { total: 6, processed: 6, succeeded: 6, failed: 0, skipped: 0 });
    assert_eq!(
        tenant.results(),
        [
            "core/ConfigMap/item-00000: unchanged",
            "core/ConfigMap/item-00001: done",
            "core/ConfigMap/item-00002: done",
            "core/Secret/a: done",
            "core/Secret/b: unchanged",
            "apps/Deployment/web: done",
        ]
    );
    let after = kinds.map(|kind| seen(&tenant.api, kind));
    assert_eq!(
        after[0].iter().filter(|object| object["metadata"]["name"] != "mine").cloned().collect::<Vec<_>>(),
        before[0]
    );
    assert_eq!(after[0].len(), 4, "what the set does not hold stays");
    assert_eq!(after[1..], before[1..]);
    assert_eq!(tenant.api.dry_runs(), Vec::<String>::new(), "a restore tries nothing, it does it");
    let written = tenant.api.writes().len();
    assert_eq!(written, 4);
    tenant.next_run();
    let result = tenant.apply(json!({"dryRun": false})).await.unwrap();
    assert_eq!(counts(&result).succeeded, 6);
    assert_eq!(tenant.api.writes().len(), written, "everything was as it should be");
}

/// Two ConfigMaps are lost, one came, a Secret was changed; all of that was previewed.
async fn damaged_and_previewed() -> Tenant {
    let mut tenant = Tenant::usual().await;
    tenant.api.serve_config_maps(vec![object("item-00000"), object("extra")]);
    tenant.api.change("Secret", "a", |object| object["data"]["password"] = json!("b3RoZXI="));
    tenant.previewed(json!({"prune": true})).await;
    tenant
}

#[tokio::test]
async fn a_preview_is_applied_exactly_and_with_one_write_for_each_item_that_changes() {
    let tenant = damaged_and_previewed().await;
    // What controllers do meanwhile is no reason to refuse.
    tenant.api.change("Secret", "a", |object| object["status"] = json!({"seen": 1}));
    let result = tenant
        .apply(json!({"dryRun": false, "preview": {"name": "look"}, "existingResourcePolicy": "none"}))
        .await
        .unwrap();
    assert_eq!(result.outcome, Some(Outcome::Succeeded), "{result:?}");
    assert_eq!(
        tenant.api.writes(),
        [
            "POST /api/v1/namespaces/acme/configmaps",
            "POST /api/v1/namespaces/acme/configmaps",
            "PUT /api/v1/namespaces/acme/secrets/a",
            "DELETE /api/v1/namespaces/acme/configmaps/extra",
        ]
    );
    assert_eq!(tenant.api.objects_of("ConfigMap").len(), 3);
}

#[tokio::test]
async fn an_approved_plan_is_carried_out_and_its_approver_recorded_and_no_other_plan_of_that_name() {
    let mut tenant = damaged_and_previewed().await;
    let order = json!({"dryRun": false, "preview": {"name": "look"}});
    let digest = tenant.api.record_of("restoreruns", "look")["status"]["planDigest"].clone();
    let approval = |digest: Value| json!({"name": "restorerun-put-back", "uid": "a", "planDigest": digest, "approvedBy": {"username": "bob"}});
    tenant.approval = Some(approval(json!("0".repeat(64))));
    let failure = tenant.apply(order.clone()).await.unwrap_err();
    assert_eq!((failure.reason.as_str(), failure.exit_code()), ("PreviewStale", 40), "{failure}");
    assert!(tenant.api.writes().is_empty() && tenant.api.audit().is_empty());
    // The operator names the plan also where none had to be approved: a larger one must not take its place.
    (tenant.approval, tenant.plan_digest) = (None, Some(json!("0".repeat(64))));
    let failure = tenant.apply(order.clone()).await.unwrap_err();
    assert_eq!((failure.reason.as_str(), failure.exit_code()), ("PreviewStale", 40), "{failure}");
    assert!(tenant.api.writes().is_empty() && tenant.api.audit().is_empty());
    (tenant.approval, tenant.plan_digest) = (Some(approval(digest.clone())), Some(digest.clone()));
    tenant.apply(order.clone()).await.unwrap();
    let entries = tenant.api.audit();
    assert_eq!(entries.len(), 2);
    for entry in entries {
        let record: Value = serde_json::from_str(entry["spec"]["entry"].as_str().unwrap()).unwrap();
        assert_eq!((&record["who"]["username"], &record["approval"]), (&json!("ada"), &approval(digest.clone())));
    }
    // An attempt that has begun must not say that nothing was done.
    tenant.plan_digest = Some(json!("0".repeat(64)));
    let failure = tenant.apply(order).await.unwrap_err();
    assert_eq!(
        (failure.reason.as_str(), failure.to_result().outcome),
        ("PlanLost", Some(Outcome::Failed)),
        "{failure}"
    );
}

#[tokio::test]
async fn nothing_is_written_when_anything_has_moved_since_the_preview_and_what_moved_is_named() {
    for (kind, name, expected) in
        [("Secret", "b", "core/Secret/b has changed"), ("Deployment", "web", "apps/Deployment/web has changed")]
    {
        let mut tenant = Tenant::usual().await;
        tenant.api.serve_config_maps(vec![]);
        tenant.previewed(json!({})).await;
        tenant.api.change(kind, name, |object| object["metadata"]["labels"] = json!({"changed": "meanwhile"}));
        let failure = tenant.apply(json!({"dryRun": false, "preview": {"name": "look"}})).await.unwrap_err();
        assert_eq!((failure.reason.as_str(), failure.exit_code()), ("PreviewStale", 40));
        assert!(failure.message.contains(expected), "{}", failure.message);
        assert_eq!(tenant.api.writes(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_second_restore_of_a_preview_that_was_carried_out_is_stale_and_leaves_no_set_that_would_undo_the_first() {
    let mut tenant = damaged_and_previewed().await;
    let order = json!({"dryRun": false, "preview": {"name": "look"}});
    tenant.apply(order.clone()).await.unwrap();
    tenant.next_run();
    let sets = || {
        tenant
            .api
            .requests()
            .iter()
            .filter(|request| request.starts_with("POST ") && request.ends_with("/backupsets"))
            .count()
    };
    let (written, made) = (tenant.api.writes(), sets());
    assert!(made > 0, "the first restore makes a set");
    let failure = tenant.apply(order).await.unwrap_err();
    assert_eq!(failure.reason, "PreviewStale", "{failure:?}");
    let moved =
        ["core/ConfigMap/item-00001 has appeared", "core/Secret/a has changed", "core/ConfigMap/extra has vanished"];
    for moved in moved {
        assert!(failure.message.contains(moved), "{}", failure.message);
    }
    assert_eq!((tenant.api.writes(), sets()), (written, made));
}

#[tokio::test(start_paused = true)]
async fn what_moves_between_two_attempts_fails_alone_because_the_first_has_written() {
    let mut tenant = Tenant::usual().await;
    tenant.api.serve_config_maps(vec![]);
    tenant.api.change("Secret", "a", |object| object["data"] = json!({"password": "bm93"}));
    tenant.previewed(json!({})).await;
    tenant.api.break_after_writes(2);
    tenant.apply(json!({"dryRun": false, "preview": {"name": "look"}})).await.unwrap_err();
    tenant.api.heal();
    tenant.api.change("Secret", "a", |object| object["metadata"]["labels"] = json!({"changed": "meanwhile"}));
    let result = tenant.apply_again().await.unwrap();
    assert_eq!(result.outcome, Some(Outcome::PartiallySucceeded), "{result:?}");
    assert!(tenant.results().contains(&"core/Secret/a: failed Moved".to_owned()), "{:?}", tenant.results());
}

#[tokio::test]
async fn a_preview_that_is_none_or_whose_plan_was_changed_is_not_applied() {
    let mut tenant = Tenant::usual().await;
    tenant.api.serve_config_maps(vec![]);
    tenant.previewed(json!({})).await;
    let apply = json!({"dryRun": false, "preview": {"name": "look"}});
    let look = tenant.api.record_of("restoreruns", "look");
    for (change, reason) in [
        ((|look: &mut Value| look["spec"]["dryRun"] = json!(false)) as fn(&mut Value), "PreviewNotUsable"),
        (|look| look["status"]["phase"] = json!("running"), "PreviewNotUsable"),
        (|look| look["status"]["outcome"] = json!("failed"), "PreviewNotUsable"),
        (|look| look["spec"]["backupSet"]["name"] = json!("other"), "PreviewNotUsable"),
        (|look| look["spec"]["existingResourcePolicy"] = json!("recreate"), "PlanLost"),
        (|look| look["status"]["planDigest"] = json!("0".repeat(64)), "PlanLost"),
    ] {
        let mut changed = look.clone();
        change(&mut changed);
        tenant.api.record("restoreruns", "look", changed);
        assert_eq!(tenant.apply(apply.clone()).await.unwrap_err().reason, reason);
    }
    assert_eq!(tenant.api.writes(), Vec::<String>::new());
}

#[tokio::test]
async fn what_was_there_is_captured_before_the_first_write_and_gives_it_back() {
    let mut tenant = Tenant::usual().await;
    tenant.api.serve_config_maps(vec![object("item-00000")]);
    tenant.api.change("Secret", "a", |object| object["data"] = json!({"password": "bm93"}));
    let kinds = ["ConfigMap", "Secret", "Deployment"];
    let before = kinds.map(|kind| seen(&tenant.api, kind));
    let made = tenant.apply(json!({"dryRun": false})).await.unwrap().context;
    let name = made.undo_set.unwrap();
    assert_eq!(name, "nightly-00000001", "the set restored from has the run's own name");
    let undo = made.snapshot.unwrap();
    assert_eq!((undo.items, undo.items_by_kind.into_iter().collect::<Vec<_>>()), (1, vec![("Secret".to_owned(), 1)]));
    assert_ne!(kinds.map(|kind| seen(&tenant.api, kind)), before);
    let requests = tenant.api.requests();
    let place = |request: &str| requests.iter().position(|made| made == request).unwrap();
    let recorded = place("POST /apis/tenantatlas.io/v1alpha1/namespaces/acme/backupsets");
    assert!(recorded < place("POST /api/v1/namespaces/acme/configmaps"), "recorded before the first write");
    let set = tenant.api.record_of("backupsets", &name);
    assert_eq!(set["spec"]["snapshot"], undo.id);
    assert_eq!(set["spec"]["absent"], json!(["core/ConfigMap/item-00001", "core/ConfigMap/item-00002"]));
    tenant.api.record("backupsets", SET, set);
    tenant.next_run();
    tenant.previewed(json!({"prune": true})).await;
    let result =
        tenant.apply(json!({"dryRun": false, "preview": {"name": "look"}, "safetyCapture": false})).await.unwrap();
    assert_eq!(result.outcome, Some(Outcome::Succeeded));
    assert_eq!(result.context.snapshot, None, "no safety capture was asked for");
    assert_eq!(kinds.map(|kind| seen(&tenant.api, kind)), before);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_after_one_that_died_does_the_rest_and_reports_everything() {
    for writes_before in 0..4 {
        let tenant = Tenant::usual().await;
        tenant.api.serve_config_maps(vec![]);
        tenant.api.change("Secret", "a", |object| object["data"] = json!({"password": "bm93"}));
        // The API server is gone after so many writes.
        tenant.api.break_after_writes(writes_before);
        let failure = tenant.apply(json!({"dryRun": false})).await.unwrap_err();
        assert_eq!(failure.exit_code(), 1, "{failure}");
        tenant.api.heal();
        let result = tenant.apply_again().await.unwrap();
        assert_eq!(result.outcome, Some(Outcome::Succeeded));
        let done = tenant.results().iter().filter(|result| result.ends_with(": done")).count();
        assert_eq!((done, tenant.results().len()), (4, 6), "after {writes_before} writes: {:?}", tenant.results());
        assert_eq!(tenant.api.writes().len(), 4, "nothing is written twice");
        let undo = result.context.snapshot.unwrap();
        assert_eq!(undo.items, 1, "what undoes the restore is of before its first attempt");
        let repository = tenant.pod.repository().await.unwrap();
        let items = repository.list(&undo.id).await.unwrap();
        let content = repository.read(&undo.id, vec![items[0].path.clone()]).await.unwrap().remove(0);
        assert!(String::from_utf8(content).unwrap().contains("bm93"));
    }
}

#[tokio::test]
async fn what_moves_while_it_is_restored_fails_as_moved_and_the_rest_goes_on() {
    let tenant = Tenant::usual().await;
    for name in ["a", "b"] {
        tenant.api.change("Secret", name, |object| object["data"]["password"] = json!("bm93"));
    }
    // At the first write somebody changes the Secret b, and a controller the status of a.
    tenant.api.meanwhile(
        "/secrets/a",
        vec![
            ("Secret", "a", |object| object["status"] = json!({"seen": 1})),
            ("Secret", "b", |object| object["data"]["password"] = json!("c29tZWJvZHk=")),
        ],
    );
    let result = tenant.apply(json!({"dryRun": false, "items": [{"kind": "Secret"}]})).await.unwrap();
    assert_eq!(tenant.results(), ["core/Secret/a: done", "core/Secret/b: failed Moved"]);
    assert_eq!(result.outcome, Some(Outcome::PartiallySucceeded));
    assert_eq!(tenant.api.objects_of("Secret")[1]["data"]["password"], "c29tZWJvZHk=");
}

/// A tenant, captured, with a Widget that owns a ConfigMap.
async fn family() -> Tenant {
    let api = Api::new();
    let mut child = object("child");
    child["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "example.com/v1", "kind": "Widget", "name": "w", "uid": "uid-of-w"}]);
    api.serve_config_maps(vec![child]);
    api.serve("example.com", "v1", "Widget", "widgets", vec![object("w")]);
    Tenant::captured(api).await
}

/// The same, where both are lost since.
pub async fn lost_family() -> Tenant {
    let tenant = family().await;
    tenant.api.serve_config_maps(vec![]);
    tenant.api.serve("example.com", "v1", "Widget", "widgets", vec![]);
    tenant
}

#[tokio::test]
async fn children_are_written_behind_their_owners_with_the_uids_these_have_now() {
    let tenant = lost_family().await;
    let result = tenant.apply(json!({"dryRun": false})).await.unwrap();
    assert_eq!(result.outcome, Some(Outcome::Succeeded));
    let owner = tenant.api.objects_of("Widget")[0]["metadata"]["uid"].clone();
    assert_ne!(owner, "uid-of-w");
    assert_eq!(tenant.api.objects_of("ConfigMap")[0]["metadata"]["ownerReferences"][0]["uid"], owner);
}

#[tokio::test]
async fn a_recreation_deletes_what_is_there_and_makes_it_anew_and_its_children_before_it() {
    let tenant = family().await;
    tenant.api.change("Widget", "w", |object| object["data"] = json!({"of": "another"}));
    tenant.apply(json!({"dryRun": false, "existingResourcePolicy": "recreate"})).await.unwrap();
    assert_eq!(tenant.results(), ["example.com/Widget/w: done", "core/ConfigMap/child: done"]);
    let widget = tenant.api.objects_of("Widget").remove(0);
    assert_eq!(widget["data"], json!({"of": "w"}));
    assert_ne!(widget["metadata"]["uid"], "uid-of-w");
    let child = tenant.api.objects_of("ConfigMap").remove(0);
    assert_eq!(child["metadata"]["ownerReferences"][0]["uid"], widget["metadata"]["uid"]);
    assert_eq!(
        tenant.api.writes(),
        [
            "DELETE /api/v1/namespaces/acme/configmaps/child",
            "POST /api/v1/namespaces/acme/configmaps",
            "DELETE /apis/example.com/v1/namespaces/acme/widgets/w",
            "POST /apis/example.com/v1/namespaces/acme/widgets",
            "PUT /api/v1/namespaces/acme/configmaps/child",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn what_the_garbage_collector_would_take_is_a_conflict_or_is_named_and_kept() {
    let mut tenant = family().await;
    tenant.api.change("Widget", "w", |object| object["data"] = json!({"of": "another"}));
    let spec = |allowed: bool| json!({"dryRun": false, "existingResourcePolicy": "recreate", "items": [{"kind": "Widget"}], "allowDataLoss": allowed});
    tenant.apply(spec(false)).await.unwrap();
    assert_eq!(tenant.results(), ["example.com/Widget/w: failed DataLossNotAllowed"]);
    assert_eq!(tenant.api.writes(), Vec::<String>::new());
    tenant.next_run();
    let result = tenant.apply(spec(true)).await.unwrap();
    // Here nobody collects.
    assert_eq!(tenant.results(), ["example.com/Widget/w: done", "core/ConfigMap/child: failed GarbageCollected"]);
    assert_eq!(result.context.snapshot.unwrap().items, 2, "the set that undoes it has both");
}

/// An object with an owner of `example.com`.
fn owned(name: &str, kind: &str, owner: &str) -> Value {
    let mut object = object(name);
    object["metadata"]["ownerReferences"] = json!([{"apiVersion": "example.com/v1", "kind": kind, "name": owner,
        "uid": format!("uid-of-{owner}"), "controller": true}]);
    object
}

/// A Widget that is to be recreated, a Job that it controls, and a ConfigMap that the Job owns.
async fn three_generations() -> Tenant {
    let api = Api::new();
    api.serve("example.com", "v1", "Widget", "widgets", vec![object("w")]);
    // Its controller makes it again, with another uid.
    api.serve("batch", "v1", "Job", "jobs", vec![owned("of-widget", "Widget", "w")]);
    let mut child = object("child");
    child["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "batch/v1", "kind": "Job", "name": "of-widget", "uid": "uid-of-of-widget"}]);
    api.serve_config_maps(vec![child]);
    let tenant = Tenant::captured(api).await;
    for (kind, name) in [("Widget", "w"), ("ConfigMap", "child")] {
        tenant.api.change(kind, name, |object| object["data"] = json!({"of": "another"}));
    }
    tenant
}

#[tokio::test]
async fn an_owner_that_goes_with_what_is_recreated_owns_nothing_of_what_is_written() {
    let tenant = three_generations().await;
    tenant.preview(json!({"existingResourcePolicy": "recreate"})).await.unwrap();
    let planned = tenant.planned();
    let child = planned.iter().find(|planned| planned["itemId"] == "core/ConfigMap/child").unwrap();
    assert_eq!(
        (&child["action"], &child["warnings"][0]["code"]),
        (&json!("recreate"), &json!("OwnerMissing")),
        "{child}"
    );
}

#[tokio::test(start_paused = true)]
async fn what_goes_with_an_owner_that_stays_after_all_owns_what_is_written() {
    let tenant = three_generations().await;
    // The plan is made; then what undoes it cannot be captured.
    refuse_lists(&tenant, "/widgets", 2);
    let made = tenant.apply(json!({"dryRun": false, "existingResourcePolicy": "recreate"})).await.unwrap();
    assert!(made.failures[0].message.contains("no backup set would have it as it was"), "{:?}", made.failures);
    let results = tenant.results();
    assert!(results.contains(&"example.com/Widget/w: failed Forbidden".to_owned()), "{results:?}");
    assert!(results.contains(&"core/ConfigMap/child: done".to_owned()), "{results:?}");
    let child = tenant.api.objects_of("ConfigMap").remove(0);
    assert_eq!(child["metadata"]["ownerReferences"][0]["uid"], "uid-of-of-widget", "{child}");
}

#[tokio::test]
async fn an_item_that_is_decided_about_before_its_owner_is_decided_about_again_when_the_owner_is_not_restored() {
    let api = Api::new();
    // The kinds own each other, and one Widget another.
    let widgets = vec![object("w"), owned("of-gadget", "Gadget", "g"), owned("of-its-kind", "Widget", "w")];
    api.serve("example.com", "v1", "Widget", "widgets", widgets);
    api.serve("example.com", "v1", "Gadget", "gadgets", vec![object("g"), owned("of-widget", "Widget", "w")]);
    let tenant = Tenant::captured(api).await;
    tenant.api.serve("example.com", "v1", "Widget", "widgets", vec![object("of-gadget"), object("of-its-kind")]);
    tenant.api.serve("example.com", "v1", "Gadget", "gadgets", vec![object("of-widget")]);
    tenant.api.refuse_writes(|method, _| (*method == Method::POST).then(|| refusal(403, "Forbidden")));
    tenant.preview(json!({})).await.unwrap();
    for planned in tenant.planned() {
        let id = planned["itemId"].as_str().unwrap_or_default();
        let (action, code) = (&planned["action"], &planned["warnings"][0]["code"]);
        match id.rsplit('/').next() {
            Some("w" | "g") => assert_eq!(action, "invalid", "{planned}"),
            _ => assert_eq!((action, code), (&json!("unchanged"), &json!("OwnerMissing")), "{planned}"),
        }
    }
}

/// A Widget and the ConfigMap that it owns, both changed; nobody may make the ConfigMap again.
async fn changed_family() -> (Tenant, Value) {
    let tenant = family().await;
    tenant.api.change("Widget", "w", |object| object["data"] = json!({"of": "another"}));
    tenant.api.change("ConfigMap", "child", |object| object["data"] = json!({"of": "another"}));
    tenant.api.refuse_writes(|method, uri| {
        let made = *method == Method::POST && uri.path().ends_with("/configmaps");
        made.then(|| refusal_with(403, "Forbidden", "denied by the test"))
    });
    (tenant, json!({"existingResourcePolicy": "recreate", "allowDataLoss": true}))
}

#[tokio::test]
async fn a_plan_says_of_what_goes_with_its_owner_why_it_is_not_made_again() {
    let (tenant, spec) = changed_family().await;
    tenant.preview(spec).await.unwrap();
    assert_eq!(tenant.actions(), ["example.com/Widget/w: recreate", "core/ConfigMap/child: delete GarbageCollected"]);
    let warnings = tenant.planned()[1]["warnings"].clone();
    assert!(warnings[0]["message"].as_str().unwrap_or_default().contains("denied by the test"), "{warnings}");
}

#[tokio::test(start_paused = true)]
async fn a_preview_in_which_an_object_goes_with_its_owner_is_carried_out() {
    let (mut tenant, mut spec) = changed_family().await;
    tenant.previewed(spec.clone()).await;
    spec["dryRun"] = json!(false);
    spec["preview"] = json!({"name": "look"});
    tenant.apply(spec).await.unwrap();
    // Here nobody collects.
    assert_eq!(tenant.results(), ["example.com/Widget/w: done", "core/ConfigMap/child: failed GarbageCollected"]);
}

/// One that differs, to be made anew.
async fn to_recreate() -> Tenant {
    let tenant = Tenant::usual().await;
    tenant.api.change("Secret", "a", |object| object["data"]["password"] = json!("c2VjcmV0"));
    tenant
}

fn recreation() -> Value {
    json!({"dryRun": false, "existingResourcePolicy": "recreate", "items": [{"kind": "Secret"}]})
}

#[tokio::test]
async fn nothing_is_deleted_of_which_a_dry_run_says_that_it_cannot_be_made_anew() {
    let tenant = to_recreate().await;
    tenant.api.refuse_writes(|method, _| (method == Method::POST).then(|| refusal(403, "Forbidden")));
    tenant.apply(recreation()).await.unwrap();
    assert_eq!(tenant.results(), ["core/Secret/a: failed Invalid", "core/Secret/b: unchanged"]);
    assert_eq!(tenant.api.writes(), Vec::<String>::new());
}

#[tokio::test]
async fn what_is_refused_once_the_old_object_is_gone_is_followed_by_the_old_one() {
    let tenant = to_recreate().await;
    let refused = AtomicBool::new(false);
    tenant.api.refuse_writes(move |method, uri| {
        let meant = *method == Method::POST && !uri.query().unwrap_or_default().contains("dryRun");
        (meant && !refused.swap(true, Ordering::Relaxed)).then(|| refusal(422, "Invalid"))
    });
    let result = tenant.apply(recreation()).await.unwrap();
    assert_eq!(tenant.results(), ["core/Secret/a: failed Invalid", "core/Secret/b: unchanged"]);
    assert!(result.failures[0].message.contains("put back as it was"), "{:?}", result.failures);
    assert_eq!(tenant.api.objects_of("Secret")[0]["data"]["password"], "c2VjcmV0");
}

#[tokio::test]
async fn what_can_be_neither_made_nor_put_back_is_said_to_be_deleted_and_which_set_has_it() {
    let tenant = to_recreate().await;
    tenant.api.refuse_writes(|method, uri| {
        let meant = *method == Method::POST && !uri.query().unwrap_or_default().contains("dryRun");
        meant.then(|| refusal(422, "Invalid"))
    });
    let result = tenant.apply(recreation()).await.unwrap();
    assert_eq!(tenant.results(), ["core/Secret/a: failed Deleted", "core/Secret/b: unchanged"]);
    let set = result.context.undo_set.unwrap();
    assert!(result.failures[0].message.contains(&format!("the backup set {set} has it")), "{:?}", result.failures);
    assert_eq!(tenant.api.objects_of("Secret").len(), 1);
}

#[tokio::test]
async fn fields_that_the_schema_does_not_know_are_named_and_the_rest_is_written() {
    let tenant = Tenant::usual().await;
    tenant.api.serve_config_maps(vec![]);
    tenant.api.refuse_writes(|_, uri| {
        let strict = uri.query().unwrap_or_default().contains("fieldValidation=Strict");
        let words = "cannot be handled as a ConfigMap: strict decoding error: unknown field \"spec.old\"";
        strict.then(|| refusal_with(400, "BadRequest", words))
    });
    tenant.preview(json!({"items": [{"name": "item-00000"}]})).await.unwrap();
    let warning = tenant.planned()[0]["warnings"][0].clone();
    assert_eq!(warning["code"], "FieldsDropped");
    assert!(warning["message"].as_str().unwrap().contains("unknown field \"spec.old\""), "{warning}");
    let mut tenant = tenant;
    tenant.next_run();
    tenant.apply(json!({"dryRun": false, "items": [{"name": "item-00000"}]})).await.unwrap();
    assert_eq!(tenant.results(), ["core/ConfigMap/item-00000: done FieldsDropped"]);
}

#[tokio::test]
async fn a_child_of_the_same_kind_is_planned_with_the_uid_that_its_recreated_owner_will_have() {
    let api = Api::new();
    // By name the child comes first, when nothing is known of its owner yet.
    let mut child = object("a-child");
    child["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "b-owner", "uid": "uid-of-b-owner"}]);
    api.serve_config_maps(vec![child, object("b-owner"), object("c-other")]);
    let mut tenant = Tenant::captured(api).await;
    tenant.api.change("ConfigMap", "b-owner", |object| object["data"] = json!({"of": "another"}));
    tenant.previewed(json!({"existingResourcePolicy": "recreate"})).await;
    tenant.apply(json!({"dryRun": false, "preview": {"name": "look"}})).await.unwrap();
    assert_eq!(
        tenant.results(),
        ["core/ConfigMap/b-owner: done", "core/ConfigMap/a-child: done", "core/ConfigMap/c-other: unchanged"]
    );
    let objects = tenant.api.objects_of("ConfigMap");
    let find = |name: &str| objects.iter().find(|object| object["metadata"]["name"] == name).unwrap();
    assert_ne!(find("b-owner")["metadata"]["uid"], "uid-of-b-owner");
    assert_eq!(find("a-child")["metadata"]["ownerReferences"][0]["uid"], find("b-owner")["metadata"]["uid"]);
}

#[tokio::test]
async fn an_item_that_is_refused_fails_with_the_server_s_words_and_the_rest_goes_on() {
    let tenant = Tenant::usual().await;
    tenant.api.serve_config_maps(vec![]);
    tenant.api.change("Deployment", "web", |object| object["spec"]["replicas"] = json!(9));
    tenant.api.fail(|uri, _| uri.path().ends_with("/deployments/web").then(|| refusal(403, "Forbidden")));
    let result = tenant.apply(json!({"dryRun": false})).await.unwrap();
    assert_eq!(result.outcome, Some(Outcome::PartiallySucceeded));
    assert_eq!(counts(&result), SummaryCounts { total: 6, processed: 6, succeeded: 5, failed: 1, skipped: 0 });
    assert_eq!(result.failures[0].item_id, "apps/Deployment/web");
    assert!(result.failures[0].message.contains("made to fail with Forbidden"), "{}", result.failures[0].message);
}

#[tokio::test]
async fn a_restore_that_only_makes_what_is_missing_can_be_undone_too() {
    let tenant = Tenant::usual().await;
    tenant.api.serve_config_maps(vec![]);
    let made = tenant.apply(json!({"dryRun": false})).await.unwrap().context;
    let set = tenant.api.record_of("backupsets", &made.undo_set.unwrap());
    assert_eq!(set["spec"]["absent"].as_array().map(Vec::len), Some(3));
    assert_eq!((&set["spec"]["coverage"], &set["spec"]["run"]["name"]), (&json!("partial"), &json!(RUN)));
}

#[tokio::test(start_paused = true)]
async fn a_restore_of_more_objects_than_a_set_names_can_be_undone_also_after_an_attempt_that_died() {
    const MANY: usize = 1200;
    let api = Api::new();
    api.serve_config_maps(objects(MANY));
    api.serve("", "v1", "Secret", "secrets", vec![object("a")]);
    let mut tenant = Tenant::captured(api).await;
    tenant.api.serve_config_maps(vec![object("other")]);
    tenant.api.change("Secret", "a", |object| object["data"] = json!({"of": "now"}));
    let before = ["ConfigMap", "Secret"].map(|kind| seen(&tenant.api, kind));
    tenant.api.break_after_writes(7);
    assert_eq!(tenant.apply(json!({"dryRun": false})).await.unwrap_err().exit_code(), 1);
    tenant.api.heal();
    let made = tenant.apply_again().await.unwrap().context;
    let undo = made.snapshot.unwrap();
    assert_eq!((undo.items, undo.items_by_kind.into_iter().collect::<Vec<_>>()), (1, vec![("Secret".to_owned(), 1)]));
    let set = tenant.api.record_of("backupsets", &made.undo_set.unwrap());
    assert_eq!((&set["spec"]["absent"], &set["spec"]["absentInSnapshot"]), (&Value::Null, &json!(MANY)));
    assert_eq!(tenant.api.objects_of("ConfigMap").len(), MANY + 1);

    // A list that lost names, or gained some, is not the one that the restore recorded.
    for told in [MANY - 1, MANY + 1] {
        let mut other = set.clone();
        other["spec"]["absentInSnapshot"] = json!(told);
        tenant.api.record("backupsets", SET, other);
        assert_eq!(tenant.preview(json!({"prune": true})).await.unwrap_err().reason, "UndoIncomplete");
    }
    tenant.api.record("backupsets", SET, set);
    tenant.next_run();
    tenant.previewed(json!({"prune": true})).await;
    let undone =
        tenant.apply(json!({"dryRun": false, "preview": {"name": "look"}, "safetyCapture": false})).await.unwrap();
    assert_eq!(undone.outcome, Some(Outcome::Succeeded), "{undone:#?}");
    assert_eq!(["ConfigMap", "Secret"].map(|kind| seen(&tenant.api, kind)), before);
}

#[tokio::test]
async fn a_restore_that_is_told_to_stop_begins_nothing_more_and_reports_only_if_it_is_cancelled() {
    let tenant = Tenant::usual().await;
    tenant.api.serve_config_maps(vec![]);
    tenant.stop.set();
    let failure = tenant.apply(json!({"dryRun": false})).await.unwrap_err();
    assert_eq!((failure.reason.as_str(), failure.exit_code()), ("Interrupted", 1), "it is tried again");
    assert_eq!((tenant.api.writes(), tenant.results()), (Vec::new(), Vec::new()));
    // Cancelled in the middle: the fence before the first write has let it pass.
    tenant.api.cancel_after_reads_of_the_run(1);
    let result = tenant.apply_again().await.unwrap();
    assert_eq!(result.outcome, Some(Outcome::PartiallySucceeded));
    assert!(
        tenant.results().contains(&"core/ConfigMap/item-00000: failed Stopped".to_owned()),
        "{:?}",
        tenant.results()
    );
    assert_eq!(tenant.api.writes(), Vec::<String>::new());
}

#[tokio::test]
async fn a_preview_is_never_carried_out_and_a_restore_never_only_looked_at() {
    let tenant = Tenant::usual().await;
    tenant.api.serve_config_maps(vec![]);
    for failure in [
        tenant.apply(json!({"dryRun": true})).await.unwrap_err(),
        tenant.preview(json!({"dryRun": false})).await.unwrap_err(),
    ] {
        assert_eq!((failure.reason.as_str(), failure.to_result().outcome), ("InvalidRestore", Some(Outcome::Blocked)));
    }
    assert_eq!(tenant.api.writes(), Vec::<String>::new());
}

#[tokio::test]
async fn a_rehearsal_reads_everything_back_tries_every_write_and_names_what_could_not_be_had() {
    let tenant = Tenant::usual().await;
    tenant.api.serve_config_maps(vec![]);
    tenant.api.deny("ada", "update", "deployments");
    tenant.api.change("Deployment", "web", |object| object["spec"]["replicas"] = json!(9));
    let mut environment = tenant.environment();
    environment.inputs = json!({"repository": "main", "backupSet": SET}).to_string();
    tenant.api.change_run(|run| run["spec"]["initiator"] = json!({"username": "ada"}));
    let run = serde_json::from_value(tenant.api.run()).unwrap();
    let repository = tenant.pod.repository().await.unwrap();
    let result = rehearse::rehearse(&tenant.api.client(), &environment, &repository, &run).await.unwrap();
    assert_eq!((tenant.api.writes(), tenant.api.dry_runs().len()), (Vec::new(), 3));
    assert_eq!(result.outcome, Some(Outcome::PartiallySucceeded));
    assert_eq!(result.failures.iter().map(|item| item.item_id.as_str()).collect::<Vec<_>>(), ["apps/Deployment/web"]);
    assert_eq!(result.context.backup_set.as_deref(), Some(SET));
    environment.inputs = json!({"repository": "main", "backupSet": "missing"}).to_string();
    let failure = rehearse::rehearse(&tenant.api.client(), &environment, &repository, &run).await.unwrap_err();
    assert_eq!(failure.reason, "BackupSetNotFound");
}

#[tokio::test]
async fn a_rehearsal_whose_store_goes_away_in_the_middle_says_nothing_of_the_set() {
    let tenant = Tenant::usual().await;
    let mut environment = tenant.environment();
    environment.inputs = json!({"repository": "main", "backupSet": SET}).to_string();
    tenant.api.change_run(|run| run["spec"]["initiator"] = json!({"username": "ada"}));
    let run = serde_json::from_value(tenant.api.run()).unwrap();
    // The pack that is read first holds the trees; what the others hold, the items, is not had any more.
    let first = Mutex::new(None);
    let goes_away = move |request, path: &str| {
        let is_pack = request == Request::Get && path.starts_with("data/");
        let lost = is_pack && *first.lock().unwrap().get_or_insert(path.to_owned()) != path;
        lost.then_some(Fault::Io(ErrorKind::ConnectionReset))
    };
    let repository = tenant.pod.repository_behind(goes_away).await;
    let failure = rehearse::rehearse(&tenant.api.client(), &environment, &repository, &run).await.unwrap_err();
    assert_eq!((failure.reason.as_str(), failure.exit_code()), ("StoreFailed", 1), "{failure}");
}

#[tokio::test]
async fn a_rerun_does_what_failed_and_nothing_else() {
    let mut tenant = Tenant::usual().await;
    tenant.api.serve_config_maps(vec![]);
    tenant.api.change("Secret", "a", |object| object["data"] = json!({"password": "bm93"}));
    tenant.api.fail(|uri, _| uri.path().ends_with("/secrets/a").then(|| refusal(403, "Forbidden")));
    tenant.apply(json!({"dryRun": false})).await.unwrap();
    tenant.api.heal();
    let mut first = tenant.api.record_of("restoreruns", RESTORE);
    first["status"] = json!({"phase": "completed", "outcome": "partially_succeeded", "operationRun": {"name": RUN, "uid": tenant.run_uid()}});
    tenant.api.record("restoreruns", "first", first.clone());
    tenant.next_run();
    tenant.api.serve_config_maps(vec![]);
    tenant.apply(json!({"dryRun": false, "rerunOf": {"name": "first"}, "safetyCapture": false})).await.unwrap();
    assert_eq!(tenant.results(), ["core/Secret/a: done"]);
    first["status"]["operationRun"] = json!({"name": RUN, "uid": tenant.run_uid()});
    tenant.api.record("restoreruns", "second", first);
    tenant.next_run();
    let failure = tenant.apply(json!({"dryRun": false, "rerunOf": {"name": "second"}})).await.unwrap_err();
    assert_eq!(failure.reason, "NothingSelected");
}

#[tokio::test]
async fn a_run_that_is_cancelled_before_the_first_write_writes_nothing() {
    let tenant = Tenant::usual().await;
    tenant.api.serve_config_maps(vec![]);
    tenant.api.change_run(|run| run["spec"]["cancel"] = json!(true));
    let failure = tenant.apply(json!({"dryRun": false})).await.unwrap_err();
    assert_eq!((failure.reason.as_str(), failure.exit_code()), ("Cancelled", 49));
    assert_eq!(tenant.api.writes(), Vec::<String>::new());
}

#[tokio::test]
async fn what_is_not_the_object_its_path_says_fails_alone() {
    let mut tenant = Tenant::usual().await;
    tenant.api.serve_config_maps(vec![]);
    let stored = |kind: &str, name: &str, content: Value| Entry {
        path: ItemPath::new("", "v1", kind, name).unwrap(),
        content: content.to_string().into_bytes().into(),
        mtime: "2026-01-01T00:00:00Z".parse().unwrap(),
    };
    let map = |name: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "kube-system"}, "data": {}});
    let mut entries_of_a_stranger = vec![
        stored("ConfigMap", "bad", json!("{")),
        stored(
            "ConfigMap",
            "disguised",
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "disguised"}}),
        ),
        stored("ConfigMap", "good", map("good")),
        stored("ConfigMap", "other", map("mine")),
    ];
    entries_of_a_stranger.sort_by(|one, other| one.path.cmp(&other.path));
    let repository = tenant.pod.repository().await.unwrap();
    let (mut sender, receiver) = entries();
    let offering = async move {
        for entry in entries_of_a_stranger {
            sender.offer(entry).await.unwrap();
        }
        sender.finish().await.unwrap();
    };
    let options = CaptureOptions {
        run_uid: "of-a-stranger".to_owned(),
        host: NAMESPACE.to_owned(),
        tags: Vec::new(),
        audit: None,
        time: "2026-01-01T00:00:00Z".parse().unwrap(),
        permit: WriterPermit::without_maintenance(),
    };
    let ((), captured) = tokio::join!(offering, repository.capture(receiver, options));
    tenant.snapshot = captured.unwrap().snapshot.id;
    tenant.set(|_| {});
    let result = tenant.apply(json!({"dryRun": false})).await.unwrap();
    assert_eq!(result.outcome, Some(Outcome::PartiallySucceeded));
    assert_eq!(
        tenant.results(),
        [
            "core/ConfigMap/bad: failed Unreadable",
            "core/ConfigMap/disguised: failed Unreadable",
            "core/ConfigMap/good: done",
            "core/ConfigMap/other: failed Unreadable",
        ]
    );
    assert_eq!(
        tenant.api.objects_of("ConfigMap")[0]["metadata"]["namespace"],
        NAMESPACE,
        "and never into another namespace"
    );
}

#[tokio::test]
async fn a_run_that_the_operator_never_recorded_waits_a_minute_and_is_tried_again() {
    let tenant = Tenant::usual().await;
    let (name, status) = ("restoreruns", json!({}));
    tenant.order(json!({}));
    let mut restore = tenant.api.record_of(name, RESTORE);
    restore["status"] = status;
    tenant.api.record(name, RESTORE, restore.clone());
    let repository = tenant.pod.repository().await.unwrap();
    let look = async || preview::preview(&tenant.api.client(), &tenant.environment(), &repository).await;
    tokio::time::pause();
    let failure = look().await.unwrap_err();
    tokio::time::resume();
    assert_eq!((failure.reason.as_str(), failure.exit_code()), ("NotItsRestore", 1), "{failure}");
    // Another's is never its own, whatever the inputs say.
    restore["status"] = json!({"phase": "running", "operationRun": {"name": "other", "uid": "other-uid"}});
    tenant.api.record(name, RESTORE, restore);
    let failure = look().await.unwrap_err();
    let ended = (failure.reason.as_str(), failure.to_result().outcome);
    assert_eq!(ended, ("NotItsRestore", Some(Outcome::Blocked)), "{failure}");
    assert_eq!(tenant.api.reports(), BTreeMap::new());
}

/// Group and resource of what the chart's role for restores writes, and the verbs it holds.
fn held_by_restores() -> Vec<(String, String, Vec<String>)> {
    let chart = include_str!("../../../charts/tenantatlas/templates/rbac/accounts.yaml");
    let (_, role) = chart.split_once("name: tenantatlas-restore-builtin").unwrap();
    let (_, verbs) = role.split_once("$verbs := \"").unwrap();
    let verbs = verbs.split_once('"').unwrap().0.to_owned();
    let (_, rules) = role.split_once("rules:\n").unwrap();
    let rules = rules.split_once("\n---").map_or(rules, |(rules, _)| rules).replace("{{ $verbs }}", &verbs);
    let rules: Vec<Value> = serde_saphyr::from_str(&rules).unwrap();
    let words = |rule: &Value, field: &str| -> Vec<String> { serde_json::from_value(rule[field].clone()).unwrap() };
    let mut held = Vec::new();
    for rule in &rules {
        for group in words(rule, "apiGroups") {
            for resource in words(rule, "resources") {
                held.push((group.clone(), resource, words(rule, "verbs")));
            }
        }
    }
    held
}

#[tokio::test]
async fn every_kind_and_verb_that_restores_hold_is_asked_of_who_wants_one() {
    let held = held_by_restores();
    let kinds: Vec<_> = held.iter().filter(|(_, resource, _)| !resource.contains('/')).collect();
    assert!(kinds.len() > 20, "{kinds:?}");
    let used = ["get", "create", "update", "delete"];
    // Held to list, and so that Roles which give them can be restored.
    let others = ["list", "watch", "patch", "deletecollection"];
    for (_, resource, verbs) in &held {
        for verb in verbs {
            assert!(
                used.contains(&verb.as_str()) || others.contains(&verb.as_str()),
                "{verb} {resource}: who asks for it?"
            );
        }
    }
    let api = Api::new();
    // A name of no kind that is treated as something special.
    let kind = |resource: &str| format!("Any{resource}");
    let one = |plural: &str, change: bool| {
        let mut one = object(plural);
        one["changed"] = json!(change);
        one
    };
    for (group, plural, _) in &kinds {
        api.serve(group, "v1", &kind(plural), plural, vec![one(plural, false)]);
    }
    let mut tenant = Tenant::captured(api).await;
    for verb in used {
        // Nobody else is denied anything.
        for (group, plural, _) in &kinds {
            let live = if verb == "create" { Vec::new() } else { vec![one(plural, true)] };
            tenant.api.serve(group, "v1", &kind(plural), plural, live);
        }
        tenant.api.allow_all();
        let policy = if verb == "delete" { "recreate" } else { "update" };
        let spec = json!({"existingResourcePolicy": policy});
        tenant.next_run();
        let result = tenant.preview(spec.clone()).await.unwrap();
        assert_eq!(counts(&result).failed, 0, "{verb}: {:?}", tenant.actions());
        for (_, plural, _) in &kinds {
            tenant.api.deny("ada", verb, plural);
        }
        tenant.next_run();
        let result = tenant.preview(spec).await.unwrap();
        assert_eq!(usize::try_from(counts(&result).failed), Ok(kinds.len()), "{verb}: {:?}", tenant.actions());
        assert!(result.failures.iter().all(|failure| failure.reason_code == "Forbidden"), "{:?}", result.failures);
    }
}

#[tokio::test]
async fn of_a_kind_that_who_asked_may_not_get_nothing_shows_but_names() {
    let mut tenant = Tenant::usual().await;
    tenant.api.change("Secret", "a", |object| object["data"]["password"] = json!("c2VjcmV0"));
    tenant.api.deny("ada", "get", "secrets");
    let secrets = |more: Value| {
        let mut item = json!({"kind": "Secret"});
        for (field, value) in more.as_object().unwrap() {
            item[field] = value.clone();
        }
        json!([item, {"kind": "Deployment"}])
    };
    let forbidden = ["core/Secret/a: forbidden Forbidden", "core/Secret/b: forbidden Forbidden"];
    let right = json!([{"op": "test", "path": "/data/password", "value": "aHVudGVyMg=="}]);
    for (items, transforms) in [
        (secrets(json!({})), json!([])),
        // Neither labels nor transforms tell one content from another.
        (secrets(json!({"labelSelector": "app=web"})), json!([])),
        (secrets(json!({"labelSelector": "!app"})), json!([])),
        (secrets(json!({})), json!([{"select": {}, "patch": right}])),
        (secrets(json!({})), json!([{"select": {"labelSelector": "!app"}, "patch": [{"op": "remove", "path": "/x"}]}])),
    ] {
        let selective = transforms.as_array().is_some_and(Vec::is_empty);
        tenant.next_run();
        tenant.preview(json!({"items": items, "transforms": transforms})).await.unwrap();
        let planned = tenant.planned();
        let of_secrets: Vec<_> = tenant.actions().into_iter().filter(|action| action.contains("/Secret/")).collect();
        assert_eq!(of_secrets, forbidden);
        assert!(
            planned
                .iter()
                .filter(|item| item["itemId"].as_str().unwrap().contains("Secret"))
                .all(|item| { item["live"].is_null() && item["wanted"].is_null() && item["diff"].is_null() }),
            "{planned:#?}"
        );
        assert!(!selective || tenant.actions().contains(&"apps/Deployment/web: unchanged".to_owned()));
    }
    // Nor is what is excluded by labels known to be.
    let exclude = json!([{"labelSelector": "!app"}]);
    tenant.next_run();
    tenant.preview(json!({"items": [{"kind": "Secret"}], "excludeItems": exclude})).await.unwrap();
    assert_eq!(tenant.actions(), forbidden);
    assert!(tenant.api.dry_runs().is_empty(), "{:?}", tenant.api.dry_runs());
    // To prune is to look as well.
    tenant.api.serve("", "v1", "Secret", "secrets", vec![object("extra")]);
    tenant.next_run();
    tenant.preview(json!({"items": [{"kind": "Secret"}], "prune": true})).await.unwrap();
    assert!(tenant.actions().contains(&"core/Secret/extra: forbidden Forbidden".to_owned()), "{:?}", tenant.actions());
}

/// From now on lists of a kind are refused; the first `answered` of them are not.
fn refuse_lists(tenant: &Tenant, plural: &'static str, answered: usize) {
    let lists = AtomicUsize::new(0);
    tenant.api.fail(move |uri, _| {
        let is_list = uri.path().ends_with(plural);
        (is_list && lists.fetch_add(1, Ordering::Relaxed) >= answered)
            .then(|| refusal_with(403, "Forbidden", "the account may not list"))
    });
}

/// All is missing, or differs.
async fn all_to_do() -> Tenant {
    let tenant = Tenant::usual().await;
    tenant.api.serve_config_maps(vec![]);
    tenant.api.change("Secret", "a", |object| object["data"] = json!({"password": "bm93"}));
    tenant.api.change("Deployment", "web", |object| object["spec"]["replicas"] = json!(9));
    tenant
}

#[tokio::test(start_paused = true)]
async fn what_can_no_longer_be_captured_first_stays_as_it_is_and_the_rest_is_restored() {
    let tenant = all_to_do().await;
    refuse_lists(&tenant, "/deployments", 1);
    let expected = [
        "core/ConfigMap/item-00000: done",
        "core/ConfigMap/item-00001: done",
        "core/ConfigMap/item-00002: done",
        "core/Secret/a: done",
        "core/Secret/b: unchanged",
        "apps/Deployment/web: failed Forbidden",
    ];
    let made = tenant.apply(json!({"dryRun": false})).await.unwrap();
    assert_eq!(tenant.results(), expected);
    let why = &made.failures[0].message;
    assert!(why.starts_with("let a ClusterRole") && why.contains("no backup set would have it as it was"), "{why}");
    let undo = made.context.snapshot.unwrap();
    assert_eq!(undo.items_by_kind.into_iter().collect::<Vec<_>>(), [("Secret".to_owned(), 1)]);
    assert_eq!(tenant.api.objects_of("Deployment")[0]["spec"]["replicas"], 9);

    // The next attempt has the snapshot of the first one, which does not hold it either.
    let tenant = all_to_do().await;
    refuse_lists(&tenant, "/deployments", 1);
    tenant.api.break_after_writes(2);
    assert_eq!(tenant.apply(json!({"dryRun": false})).await.unwrap_err().exit_code(), 1);
    tenant.api.heal();
    let made = tenant.apply_again().await.unwrap();
    assert_eq!(tenant.results(), expected);
    let undo = made.context.snapshot.unwrap();
    assert_eq!(undo.items_by_kind.into_iter().collect::<Vec<_>>(), [("Secret".to_owned(), 1)]);
    assert_eq!(tenant.api.objects_of("Deployment")[0]["spec"]["replicas"], 9);
}

#[tokio::test(start_paused = true)]
async fn what_can_no_longer_be_listed_after_a_preview_fails_alone() {
    let mut tenant = all_to_do().await;
    tenant.previewed(json!({})).await;
    refuse_lists(&tenant, "/deployments", 0);
    tenant.apply(json!({"dryRun": false, "preview": {"name": "look"}})).await.unwrap();
    assert_eq!(tenant.results().last().unwrap(), "apps/Deployment/web: failed Forbidden");
    assert_eq!(tenant.results().iter().filter(|result| result.ends_with(": done")).count(), 4);
}

#[tokio::test]
async fn a_kind_of_what_was_absent_that_may_not_be_listed_costs_its_own_items() {
    let mut tenant = Tenant::usual().await;
    for many in [false, true] {
        let mut absent: Vec<String> = vec!["core/ConfigMap/item-00000".into(), "apps/Deployment/new".into()];
        absent.extend((0..40).filter(|_| many).map(|number| format!("apps/Deployment/new-{number:02}")));
        tenant.set(|set| (set["spec"]["coverage"], set["spec"]["absent"]) = (json!("partial"), json!(absent)));
        refuse_lists(&tenant, "/deployments", 0);
        tenant.next_run();
        let spec = json!({"prune": true, "excludeItems": [{"kind": "ConfigMap", "name": "item-0000[12]"}]});
        tenant.preview(spec).await.unwrap();
        let actions = tenant.actions();
        assert!(actions.contains(&"apps/Deployment/new: forbidden Forbidden".to_owned()), "{actions:?}");
        let forbidden =
            actions.iter().filter(|action| action.starts_with("apps/Deployment/new") && action.ends_with("Forbidden"));
        assert_eq!(forbidden.count(), absent.len() - 1);
    }
}

#[tokio::test]
async fn an_owner_stays_whose_dependent_may_not_be_looked_at_any_more() {
    let tenant = family().await;
    tenant.api.change("Widget", "w", |object| object["data"] = json!({"of": "another"}));
    // The first list shows who owns it.
    refuse_lists(&tenant, "/configmaps", 1);
    let spec = json!({"existingResourcePolicy": "recreate", "items": [{"kind": "Widget"}], "allowDataLoss": true});
    tenant.preview(spec).await.unwrap();
    assert_eq!(tenant.actions(), ["example.com/Widget/w: forbidden Forbidden"]);
    let message = tenant.planned()[0]["reason"]["message"].clone();
    assert!(message.as_str().unwrap().contains("core/ConfigMap/child"), "{message}");
}

/// A kind that restores write, with an object that differs: what it holds reads nowhere else.
fn secretive(plural: &str, marker: &str) -> Value {
    let mut one = object("one");
    one["metadata"]["labels"] = json!({"label": format!("{marker}-label")});
    one["metadata"]["annotations"] = json!({"note": format!("{marker}-note")});
    one["rules"] = json!([{"verbs": [format!("{marker}-verb")], "resources": [plural]}]);
    one["roleRef"] = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "a-role"});
    one["subjects"] = json!([{"kind": "User", "name": format!("{marker}-subject")}]);
    one["spec"] = json!({"text": format!("{marker}-first\n{marker}-second"), "deep": {"list": [{"name": format!("{marker}-element")}]}});
    one
}

/// Everything that a run leaves where whoever reads records finds it.
fn left_behind(tenant: &Tenant, result: &TerminationResult) -> String {
    format!("{:?} {} {:?}", tenant.api.reports(), serde_json::to_string(result).unwrap(), tenant.api.patches())
}

#[tokio::test(start_paused = true)]
async fn of_a_kind_that_not_all_readers_of_reports_may_read_no_value_is_left_behind() {
    for (group, plural, _) in held_by_restores().iter().filter(|(_, resource, _)| !resource.contains('/')) {
        let kind = match plural.as_str() {
            "roles" => "Role",
            "rolebindings" => "RoleBinding",
            "secrets" => "Secret",
            _ => "Thing",
        };
        let api = Api::new();
        api.serve(group, "v1", kind, plural, vec![secretive(plural, "stored")]);
        let mut tenant = Tenant::captured(api).await;
        tenant.api.serve(group, "v1", kind, plural, vec![secretive(plural, "live")]);
        let all_but = json!([{"apiGroups": ["*"], "resources": ["others", format!("{plural}/status")], "verbs": ["get"]},
            {"apiGroups": [group], "resources": [plural], "verbs": ["list"]}]);
        for (rules, shown) in [
            (json!([{"apiGroups": [group], "resources": [plural], "verbs": ["get"]}]), true),
            (all_but.clone(), false),
            (Value::Null, false),
        ] {
            tenant.api.let_readers_read(&rules);
            for policy in ["update", "recreate"] {
                tenant.api.heal();
                tenant.next_run();
                let spec = json!({"existingResourcePolicy": policy});
                let result = tenant.preview(spec.clone()).await.unwrap();
                let left = left_behind(&tenant, &result);
                let is_shown = ["stored-", "live-"].map(|marker| left.contains(marker));
                assert_eq!(is_shown, [shown; 2], "{plural}, {policy}: {left}");
                assert!(left.contains("~ spec") && left.contains("~ metadata.labels"), "what differs is said: {left}");
                // Nor do words of others, before the write and after.
                for (code, words) in [
                    (422, "Thing \"one\" is invalid: spec.text: Invalid value: \"stored-first\": too long"),
                    (403, "admission webhook \"guard\" denied the request: stored-first is weak"),
                    (500, "stored-first"),
                ] {
                    tenant.api.refuse_writes(move |_, _| Some(refusal_with(code, "Invalid", words)));
                    tenant.next_run();
                    let previewed = tenant.preview(spec.clone()).await.unwrap();
                    let left = left_behind(&tenant, &previewed);
                    assert!(shown || !left.contains("stored-"), "{plural}, {policy}, {code}: {left}");
                    assert_eq!(counts(&previewed).failed, 1);
                    tenant.next_run();
                    let mut restore = spec.clone();
                    (restore["dryRun"], restore["safetyCapture"]) = (json!(false), json!(false));
                    let restored = tenant.apply(restore).await.unwrap();
                    let left = left_behind(&tenant, &restored);
                    assert!(shown || !left.contains("stored-"), "{plural}, {policy}, {code}: {left}");
                }
                if shown {
                    // What showed in this run's reports is not to be found in the next one's.
                    tenant.api.forget_reports();
                }
            }
        }
    }
}

#[tokio::test]
async fn rights_that_who_asked_lacks_are_named_only_to_who_may_read_roles() {
    let rules = json!([{"apiGroups": ["secret.example.com"], "resources": ["vaults"], "verbs": ["get"]}]);
    let role = json!({"metadata": object("r")["metadata"], "rules": rules});
    let binding = json!({"metadata": object("b")["metadata"], "subjects": [],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "hidden-role"}});
    let api = Api::new();
    api.serve("rbac.authorization.k8s.io", "v1", "Role", "roles", vec![role]);
    api.serve("rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings", vec![binding]);
    let mut tenant = Tenant::captured(api).await;
    tenant.api.serve("rbac.authorization.k8s.io", "v1", "Role", "roles", vec![]);
    tenant.api.serve("rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings", vec![]);
    for (verb, resource) in [("get", "vaults"), ("escalate", "roles"), ("bind", "roles")] {
        tenant.api.deny("ada", verb, resource);
    }
    for (rules, shown) in [
        (json!([]), false),
        (json!([{"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["*"], "verbs": ["get"]}]), true),
    ] {
        tenant.api.let_readers_read(&rules);
        tenant.next_run();
        let result = tenant.preview(json!({})).await.unwrap();
        assert_eq!(counts(&result).failed, 2, "{:?}", tenant.actions());
        let left = left_behind(&tenant, &result);
        assert_eq!(["vaults", "hidden-role"].map(|content| left.contains(content)), [shown; 2], "{left}");
    }
}

#[tokio::test]
async fn a_kind_that_may_not_be_listed_costs_its_own_items_and_those_it_owns_and_no_others() {
    let api = Api::new();
    let mut child = object("child");
    child["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "example.com/v1", "kind": "Widget", "name": "w", "uid": "uid-w"}]);
    api.serve_config_maps(vec![child, object("free")]);
    api.serve("example.com", "v1", "Widget", "widgets", vec![object("w")]);
    api.serve("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims", vec![]);
    let mut tenant = Tenant::captured(api).await;
    tenant.api.serve_config_maps(vec![]);
    let refused = |path: &'static str| {
        tenant.api.fail(move |uri, _| {
            let listed = uri.path().ends_with(path);
            listed.then(|| refusal_with(403, "Forbidden", "the account may not list"))
        });
    };
    refused("/widgets");
    tenant.preview(json!({})).await.unwrap();
    assert_eq!(
        tenant.actions(),
        [
            "core/ConfigMap/free: create",
            "example.com/Widget/w: forbidden Forbidden",
            "core/ConfigMap/child: forbidden Forbidden",
        ]
    );
    for planned in &tenant.planned()[1..] {
        let message = planned["reason"]["message"].as_str().unwrap();
        assert!(
            message.starts_with("let a ClusterRole with the label tenantatlas.io/aggregate-to-restore"),
            "{message}"
        );
    }
    tenant.next_run();
    tenant.preview(json!({"prune": true})).await.unwrap();
    assert!(
        tenant.actions().contains(&"example.com/Widget/: forbidden Forbidden".to_owned()),
        "{:?}",
        tenant.actions()
    );
    // Which claims go with what is deleted is not known: so that nothing is, unless data may be lost.
    tenant.api.heal();
    let refused = |uri: &http::Uri, _| {
        uri.path()
            .ends_with("/persistentvolumeclaims")
            .then(|| refusal_with(403, "Forbidden", "the account may not list"))
    };
    tenant.api.fail(refused);
    tenant.api.serve("example.com", "v1", "Widget", "widgets", vec![object("w")]);
    tenant.api.change("Widget", "w", |object| object["spec"] = json!({"changed": true}));
    for (allow, expected) in [(false, "conflict DataLossNotAllowed"), (true, "recreate")] {
        tenant.next_run();
        let spec = json!({"existingResourcePolicy": "recreate", "allowDataLoss": allow, "items": [{"kind": "Widget"}]});
        tenant.preview(spec).await.unwrap();
        assert_eq!(tenant.actions(), [format!("example.com/Widget/w: {expected}")]);
    }
}
