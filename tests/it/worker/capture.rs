use super::{
    api::{Answer, Api, RUN_UID, expired, object, objects, parameter, refusal},
    support::Pod,
};
use serde_json::{Value, json};
use tenantatlas::api::{
    Outcome,
    outcome::{FailureType, SummaryCounts},
    result::TerminationResult,
};

fn counts(result: &TerminationResult) -> SummaryCounts {
    let counts = result.summary_counts.unwrap();
    assert!(counts.add_up(), "{counts:?}");
    counts
}

/// `itemId: reasonCode` of each failure.
fn failures(result: &TerminationResult) -> Vec<String> {
    result.failures.iter().map(|failure| format!("{}: {}", failure.item_id, failure.reason_code)).collect()
}

#[tokio::test]
async fn every_object_is_stored_in_its_canonical_form_and_the_counts_add_up() {
    let (api, pod) = (Api::new(), Pod::new());
    api.serve_config_maps(vec![object("a"), object("a-b"), object("a.b")]);
    api.serve("apps", "v1", "Deployment", "deployments", vec![object("web")]);
    let result = pod.capture_all(&api).await.unwrap();
    assert_eq!(result.outcome, Some(Outcome::Succeeded));
    let expected = SummaryCounts { total: 4, processed: 4, succeeded: 4, failed: 0, skipped: 0 };
    assert_eq!(counts(&result), expected);
    assert_eq!(
        pod.paths().await,
        [
            "apps/v1/Deployment/web.json",
            "core/v1/ConfigMap/a-b.json",
            "core/v1/ConfigMap/a.b.json",
            "core/v1/ConfigMap/a.json"
        ]
    );
    let stored = pod.content("core/v1/ConfigMap/a.json").await;
    assert_eq!(
        stored,
        r#"{"apiVersion":"v1","data":{"of":"a"},"kind":"ConfigMap","metadata":{"creationTimestamp":"2026-01-02T03:04:05Z","name":"a","namespace":"acme","uid":"uid-of-a"}}"#
    );
    let snapshot = result.context.snapshot.unwrap();
    assert_eq!((snapshot.items, snapshot.id.len()), (4, 64));
    assert_eq!(
        snapshot.items_by_kind.into_iter().collect::<Vec<_>>(),
        [("ConfigMap".into(), 3), ("Deployment.apps".into(), 1)]
    );
    let last = api.patches().pop().unwrap();
    assert_eq!(last["metadata"], json!({ "uid": RUN_UID }));
    assert_eq!(last["status"], json!({"progress": "4/4", "summaryCounts": expected}));
}

#[tokio::test]
async fn a_second_attempt_reports_the_same_and_records_no_second_snapshot() {
    let (api, pod) = (Api::new(), Pod::new());
    let mut pod_of_a_set = object("web-x");
    pod_of_a_set["metadata"]["ownerReferences"] = json!([{"kind": "ReplicaSet", "controller": true}]);
    api.serve("", "v1", "Pod", "pods", vec![pod_of_a_set, object("single")]);
    api.serve_config_maps(vec![object("a"), json!({"metadata": {}}), object("b")]);
    let first = pod.capture_all(&api).await.unwrap();
    assert_eq!(counts(&first), SummaryCounts { total: 5, processed: 5, succeeded: 3, failed: 1, skipped: 1 });
    // Meanwhile the namespace moved on: what an attempt reports is what its snapshot holds.
    api.serve_config_maps(objects(50));
    let second = pod.capture_all(&api).await.unwrap();
    let unworded = |result: &TerminationResult| TerminationResult { message: None, ..result.clone() };
    assert_eq!(unworded(&second), unworded(&first));
    assert_eq!(second.outcome, Some(Outcome::PartiallySucceeded), "a failure is not forgotten by a retry");
    assert_eq!(pod.snapshots().await, 1);
}

#[tokio::test]
async fn a_kind_that_may_not_be_listed_is_a_failed_item_and_the_rest_is_captured() {
    let (api, pod) = (Api::new(), Pod::new());
    api.serve_config_maps(objects(3));
    api.serve("", "v1", "Secret", "secrets", objects(3));
    api.undiscovered("dead.example.com", "v1");
    api.undiscovered("metrics.k8s.io", "v1beta1");
    api.fail(|uri, _| uri.path().ends_with("/secrets").then(|| refusal(403, "Forbidden")));
    let result = pod.capture_all(&api).await.unwrap();
    assert_eq!(result.outcome, Some(Outcome::PartiallySucceeded));
    assert_eq!(counts(&result), SummaryCounts { total: 5, processed: 5, succeeded: 3, failed: 2, skipped: 0 });
    assert_eq!(failures(&result), ["core/Secret/: Forbidden", "dead.example.com/-/: Undiscovered"]);
    assert!(
        result.failures[0].message.contains("tenantatlas.io/aggregate-to-worker"),
        "{}",
        result.failures[0].message
    );
    // The snapshot itself says what it does not hold.
    let paths = pod.paths().await;
    assert!(paths.contains(&"core/v1/Secret.not-captured/items.json".to_owned()), "{paths:?}");
    assert!(paths.contains(&"dead.example.com/v1/-.not-captured/items.json".to_owned()), "{paths:?}");
    let note: Value = serde_json::from_str(&pod.content("core/v1/Secret.not-captured/items.json").await).unwrap();
    assert_eq!(note["items"][0]["reasonCode"], "Forbidden");
}

#[tokio::test]
async fn a_kind_of_somebody_else_s_that_workers_may_not_list_is_left_out_and_the_capture_is_whole() {
    let (api, pod) = (Api::new(), Pod::new());
    api.serve_config_maps(objects(3));
    api.serve("velero.io", "v1", "Backup", "backups", objects(3));
    api.fail(|uri, _| uri.path().ends_with("/backups").then(|| refusal(403, "Forbidden")));
    let result = pod.capture_all(&api).await.unwrap();
    assert_eq!(result.outcome, Some(Outcome::Succeeded));
    assert_eq!(counts(&result), SummaryCounts { total: 4, processed: 4, succeeded: 3, failed: 0, skipped: 1 });
    assert_eq!(failures(&result), ["velero.io/Backup/: KindNotReadable"]);
    let said = result.message.unwrap();
    assert!(said.contains("1 kinds that the platform has not let workers read, such as velero.io/Backup"), "{said}");
    // Nothing of it is pruned later: the snapshot says that it was not read.
    assert!(pod.paths().await.contains(&"velero.io/v1/Backup.not-captured/items.json".to_owned()));
    let asked = json!({"repository": "main", "selection": {"includeKinds": ["ConfigMap", "Backup.velero.io"]}});
    let result = Pod::new().capture(&api, asked, None).await.unwrap();
    assert_eq!(failures(&result), ["velero.io/Backup/: Forbidden"]);
}

#[tokio::test]
async fn a_list_that_expires_half_way_goes_on_without_losing_or_doubling() {
    for token in [Some("10"), None] {
        let (api, pod) = (Api::new(), Pod::new());
        api.serve_config_maps(objects(35));
        api.pages_of(10);
        api.fail(move |uri, asked| (uri.path().ends_with("/configmaps") && asked == 1).then(|| expired(token)));
        let result = pod.capture_all(&api).await.unwrap();
        assert_eq!(counts(&result), SummaryCounts { total: 35, processed: 35, succeeded: 35, failed: 0, skipped: 0 });
        assert_eq!(pod.paths().await.len(), 35, "with the token {token:?}");
    }
}

#[tokio::test]
async fn a_list_that_always_expires_is_a_failed_item() {
    let (api, pod) = (Api::new(), Pod::new());
    api.serve_config_maps(objects(35));
    api.serve("", "v1", "Secret", "secrets", objects(1));
    api.pages_of(10);
    api.fail(|uri, _| parameter(uri, "continue").map(|_| expired(None)));
    let result = pod.capture_all(&api).await.unwrap();
    assert_eq!(counts(&result), SummaryCounts { total: 12, processed: 12, succeeded: 11, failed: 1, skipped: 0 });
    assert_eq!(failures(&result), ["core/ConfigMap/: Unlistable"]);
}

#[tokio::test]
async fn a_fault_that_passes_is_outlasted_and_one_that_stays_is_a_failed_item() {
    let (api, pod) = (Api::new(), Pod::new());
    api.serve_config_maps(objects(3));
    api.serve("example.com", "v1", "Gadget", "gadgets", objects(3));
    api.serve("example.com", "v1", "Widget", "widgets", objects(3));
    api.fail(|uri, asked| match uri.path() {
        path if path.ends_with("/configmaps") && asked < 2 => Some(refusal(500, "InternalError")),
        path if path.contains("example.com") => Some(refusal(503, "ServiceUnavailable")),
        _ => None,
    });
    let result = pod.capture_all(&api).await.unwrap();
    assert_eq!(failures(&result), ["example.com/Gadget/: Unlistable", "example.com/Widget/: Unlistable"]);
    assert_eq!(counts(&result).succeeded, 3);
    // The second kind of a server in trouble gets one chance, not six.
    let asked = |plural: &str| api.requests().iter().filter(|request| request.ends_with(plural)).count();
    assert_eq!((asked("/gadgets"), asked("/widgets")), (6, 1));
}

#[tokio::test]
async fn what_is_not_an_object_is_a_failed_item() {
    let (api, pod) = (Api::new(), Pod::new());
    api.serve_config_maps(vec![json!(7), json!({"metadata": {"name": ""}}), object("good"), object("sl/ash")]);
    api.serve("", "v1", "Secret", "secrets", objects(1));
    api.fail(|uri, _| uri.path().ends_with("/secrets").then(|| Answer::Text(200, "<html>a proxy</html>".into())));
    let result = pod.capture_all(&api).await.unwrap();
    assert_eq!(counts(&result), SummaryCounts { total: 5, processed: 5, succeeded: 1, failed: 4, skipped: 0 });
    assert_eq!(
        failures(&result),
        [
            "core/ConfigMap/: Unreadable",
            "core/ConfigMap/: Unreadable",
            "core/ConfigMap/sl/ash: UnsafeName",
            "core/Secret/: Unreadable"
        ]
    );
}

#[tokio::test]
async fn a_list_out_of_order_is_put_in_order() {
    let (api, pod) = (Api::new(), Pod::new());
    api.serve_config_maps(vec![object("c"), object("a"), object("b")]);
    let result = pod.capture_all(&api).await.unwrap();
    assert_eq!(counts(&result).succeeded, 3);
    assert_eq!(pod.paths().await.len(), 3);
}

#[tokio::test]
async fn when_the_api_server_goes_away_nothing_is_recorded_and_it_is_tried_again() {
    let (api, pod) = (Api::new(), Pod::new());
    api.serve_config_maps(objects(30));
    api.pages_of(10);
    api.fail(|uri, asked| (uri.path().ends_with("/configmaps") && asked == 2).then(|| refusal(401, "Unauthorized")));
    let failure = pod.capture_all(&api).await.unwrap_err();
    assert_eq!((failure.reason.as_str(), failure.exit_code()), ("ApiUnreachable", 1));
    assert_eq!(pod.snapshots().await, 0);
    api.heal();
    assert_eq!(counts(&pod.capture_all(&api).await.unwrap()).succeeded, 30);
    assert_eq!(pod.snapshots().await, 1);
}

#[tokio::test]
async fn when_every_connection_breaks_nothing_is_recorded_and_it_is_tried_again() {
    let (api, pod) = (Api::new(), Pod::new());
    api.serve_config_maps(objects(30));
    api.pages_of(10);
    api.fail(|uri, asked| {
        let listing = uri.path().ends_with("/configmaps") && asked >= 1;
        (listing || uri.path().ends_with("/operationruns/nightly")).then_some(Answer::Broken)
    });
    let failure = pod.capture_all(&api).await.unwrap_err();
    assert_eq!((failure.reason.as_str(), failure.exit_code()), ("ApiUnreachable", 1));
    assert_eq!(pod.snapshots().await, 0);
}

#[tokio::test]
async fn a_capture_of_nothing_but_failures_is_a_failure() {
    let (api, pod) = (Api::new(), Pod::new());
    api.serve_config_maps(objects(3));
    api.fail(|uri, _| uri.path().ends_with("/configmaps").then(|| refusal(403, "Forbidden")));
    let failure = pod.capture_all(&api).await.unwrap_err();
    assert_eq!((failure.reason.as_str(), failure.exit_code()), ("NothingCaptured", 40));
    assert_eq!(pod.snapshots().await, 0);
}

/// A Secret with these keys.
fn secret(name: &str, keys: &[&str]) -> Value {
    let mut secret = object(name);
    secret["data"] = keys.iter().map(|key| ((*key).to_owned(), json!("eA=="))).collect();
    secret
}

#[tokio::test]
async fn the_key_of_the_repository_and_the_operator_s_records_are_never_captured() {
    let (api, pod) = (Api::new(), Pod::new());
    api.serve("tenantatlas.io", "v1alpha1", "BackupRepository", "backuprepositories", vec![object("main")]);
    let secrets = vec![secret("backup-password", &["master-key", "password"]), object("mine")];
    api.serve("", "v1", "Secret", "secrets", secrets);
    let result = pod.capture_all(&api).await.unwrap();
    assert_eq!(result.outcome, Some(Outcome::Succeeded));
    assert_eq!(counts(&result), SummaryCounts { total: 2, processed: 2, succeeded: 1, failed: 0, skipped: 1 });
    assert_eq!(failures(&result), ["core/Secret/backup-password: RepositorySecret"]);
    assert!(result.failures.iter().all(|failure| failure.failure_type == FailureType::Skipped));
    assert!(!pod.paths().await.iter().any(|path| path.contains("tenantatlas.io")));
    assert!(!api.requests().iter().any(|request| request.ends_with("/operationruns")), "not even listed");
}

#[tokio::test]
async fn nobody_keeps_a_secret_out_of_captures_by_naming_it_in_another_repository() {
    let (api, pod) = (Api::new(), Pod::new());
    let mut other = object("other");
    other["spec"] = json!({"passwordSecret": {"name": "database"}, "credentialsSecret": {"name": "tls"}});
    api.serve("tenantatlas.io", "v1alpha1", "BackupRepository", "backuprepositories", vec![other]);
    api.serve("", "v1", "Secret", "secrets", vec![object("database"), object("tls")]);
    let result = pod.capture_all(&api).await.unwrap();
    assert_eq!(counts(&result), SummaryCounts { total: 2, processed: 2, succeeded: 2, failed: 0, skipped: 0 });
}

#[tokio::test]
async fn what_is_lost_beside_the_repository_s_own_key_is_not_hidden_behind_success() {
    let (api, pod) = (Api::new(), Pod::new());
    let secrets = vec![secret("backup-password", &["database-url", "password"]), object("mine")];
    api.serve("", "v1", "Secret", "secrets", secrets);
    let result = pod.capture_all(&api).await.unwrap();
    assert_eq!(result.outcome, Some(Outcome::PartiallySucceeded));
    assert_eq!(failures(&result), ["core/Secret/backup-password: NotOnlyAKey"]);
    assert!(result.failures[0].message.starts_with("move what is not"), "{}", result.failures[0].message);
    assert_eq!(pod.paths().await.len(), 2, "the other Secret, and a note");
}

#[tokio::test]
async fn what_was_asked_for_and_is_not_there_never_passes_for_a_backup() {
    let captured = async |selection: Value| {
        let (api, pod) = (Api::new(), Pod::new());
        let mut labelled = object("labelled");
        labelled["metadata"]["labels"] = json!({"tier": "gold"});
        let mut excluded = object("left-out");
        excluded["metadata"]["labels"] = json!({"tier": "scratch", "velero.io/exclude-from-backup": "true"});
        api.serve_config_maps(vec![object("a"), labelled, excluded]);
        api.serve("apps", "v1", "Deployment", "deployments", vec![]);
        let result = pod.capture(&api, json!({"repository": "main", "selection": selection}), None).await;
        let snapshots = pod.snapshots().await;
        match result {
            Ok(result) => (result.outcome.unwrap().as_str().to_owned(), failures(&result), snapshots),
            Err(failure) => {
                assert_eq!(failure.exit_code(), 40);
                (failure.reason.clone(), vec![failure.message], snapshots)
            }
        }
    };
    let (outcome, failed, snapshots) = captured(json!({"includeNames": ["a", "gone"]})).await;
    assert_eq!(
        (outcome.as_str(), failed, snapshots),
        ("partially_succeeded", vec!["-/-/gone: NotFound".to_owned()], 1)
    );
    let (outcome, failed, _) = captured(json!({"includeKinds": ["ConfigMap"], "includeNames": ["a", "gone"]})).await;
    assert_eq!((outcome.as_str(), failed), ("partially_succeeded", vec!["core/ConfigMap/gone: NotFound".to_owned()]));
    let (outcome, message, snapshots) = captured(json!({"includeNames": ["gone"]})).await;
    assert_eq!((outcome.as_str(), snapshots), ("NothingCaptured", 0), "{message:?}");
    // A name that is left out all the same was not asked for.
    let (outcome, failed, _) = captured(json!({"includeNames": ["a", "gone"], "excludeNames": ["gone"]})).await;
    assert_eq!((outcome.as_str(), failed), ("succeeded", vec![]));
    let (outcome, _, snapshots) = captured(json!({"labelSelector": "tier=gold"})).await;
    assert_eq!((outcome.as_str(), snapshots), ("succeeded", 1));
    for nothing in [
        json!({"labelSelector": "tier=silver"}),
        json!({"labelSelector": "tier=scratch"}),
        json!({"includeNames": ["left-out"]}),
        json!({"labelSelector": "tier=scratch", "includeNames": ["left-out"]}),
    ] {
        let (outcome, message, snapshots) = captured(nothing.clone()).await;
        assert_eq!((outcome.as_str(), snapshots), ("NothingSelected", 0), "{nothing}");
        assert!(message[0].starts_with("correct inputs.selection"), "{message:?}");
    }
    // There is nothing misspelt, and nothing there.
    let (outcome, failed, snapshots) = captured(json!({"includeKinds": ["Deployment.apps"]})).await;
    assert_eq!((outcome.as_str(), failed, snapshots), ("succeeded", vec![], 1));
}

#[tokio::test]
async fn any_name_that_the_api_server_allows_can_be_asked_for() {
    let names = ["CN=readers,OU=shop", r"dom\user", "system:a,b==c", "a b", "ümläut", r"\\", "=", ",", "x!=y"];
    for name in names {
        let (api, pod) = (Api::new(), Pod::new());
        let roles = names.iter().map(|name| object(name)).collect();
        api.serve("rbac.authorization.k8s.io", "v1", "Role", "roles", roles);

        let inputs = json!({"repository": "main", "selection": {"includeNames": [name]}});
        let result = pod.capture(&api, inputs, None).await.unwrap();
        assert_eq!(counts(&result).succeeded, 1, "{name}");
        let target = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "name": name});
        let (api_of_target, pod) = (api, Pod::new());
        let result = pod.capture(&api_of_target, json!({"repository": "main"}), Some(target)).await.unwrap();
        assert_eq!(counts(&result).succeeded, 1, "{name}");
    }
}

#[tokio::test]
async fn a_kind_whose_name_goes_on_with_a_dash_comes_before_the_note_of_the_shorter_one() {
    let (api, pod) = (Api::new(), Pod::new());
    for kind in ["postgresql", "postgresql-backup", "postgresqlx"] {
        api.serve("acid.zalan.do", "v1", kind, &format!("{kind}s"), vec![object("main"), json!({"metadata": {}})]);
    }
    let result = pod.capture_all(&api).await.unwrap();
    assert_eq!((counts(&result).succeeded, counts(&result).failed), (3, 3));
    assert_eq!(
        pod.paths().await,
        [
            "acid.zalan.do/v1/postgresql/main.json",
            "acid.zalan.do/v1/postgresql-backup/main.json",
            "acid.zalan.do/v1/postgresql-backup.not-captured/items.json",
            "acid.zalan.do/v1/postgresql.not-captured/items.json",
            "acid.zalan.do/v1/postgresqlx/main.json",
            "acid.zalan.do/v1/postgresqlx.not-captured/items.json",
        ]
    );
}

#[tokio::test]
async fn what_is_left_out_is_counted_by_reason_and_kind_in_the_message() {
    let (api, pod) = (Api::new(), Pod::new());
    let owned = |name: &str| {
        let mut object = object(name);
        object["metadata"]["ownerReferences"] = json!([{"kind": "X", "controller": true}]);
        object
    };
    api.serve("", "v1", "Pod", "pods", vec![owned("a"), owned("b")]);
    api.serve("apps", "v1", "ReplicaSet", "replicasets", vec![owned("a")]);
    api.serve("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices", vec![owned("a"), object("by-hand")]);
    let result = pod.capture_all(&api).await.unwrap();
    let message = result.message.unwrap();
    assert!(message.contains("skipped: 3 ControllerOwned (2 Pod, 1 ReplicaSet.apps), 1 ManagedEndpoints (1 EndpointSlice.discovery.k8s.io)"), "{message}");
    assert_eq!(pod.paths().await, ["discovery.k8s.io/v1/EndpointSlice/by-hand.json"]);
}

#[tokio::test]
async fn failures_beyond_what_a_status_holds_are_in_reports_written_once() {
    let (api, pod) = (Api::new(), Pod::new());
    let unsafe_names = (0..1200).map(|number| object(&format!("sl/ash-{number:04}")));
    api.serve_config_maps(unsafe_names.chain([object("z")]).collect());
    let first = pod.capture_all(&api).await.unwrap();
    assert_eq!((first.failures.len(), first.failures_truncated), (20, true));
    assert_eq!(counts(&first).failed, 1200);
    assert!(first.to_message().len() <= 4096);
    let reports = api.reports();
    assert_eq!(reports.keys().collect::<Vec<_>>(), ["nightly-11111111-0", "nightly-11111111-1", "nightly-11111111-2"]);
    let reported: usize = reports.values().map(|report| report["spec"]["items"].as_array().unwrap().len()).sum();
    assert_eq!(reported, 1200);
    let owner = &reports["nightly-11111111-0"]["metadata"]["ownerReferences"][0];
    assert_eq!((owner["kind"].as_str(), owner["uid"].as_str()), (Some("OperationRun"), Some(RUN_UID)));
    // Another attempt finds the reports, or writes those that are missing.
    assert!(pod.capture_all(&api).await.unwrap().failures_truncated);
    assert_eq!(api.reports(), reports);
}

#[tokio::test]
async fn every_field_of_a_selection_counts() {
    let captured = async |selection: Value| {
        let (api, pod) = (Api::new(), Pod::new());
        api.serve_config_maps(vec![object("a"), object("b"), object("c")]);
        api.serve("apps", "v1", "Deployment", "deployments", vec![object("a")]);
        let result = pod.capture(&api, json!({"repository": "main", "selection": selection}), None).await.unwrap();
        assert_eq!(
            counts(&result).total,
            i64::try_from(pod.paths().await.len()).unwrap(),
            "what is not selected is not counted"
        );
        pod.paths().await
    };
    assert_eq!(captured(json!({"includeKinds": ["Deployment.apps"]})).await, ["apps/v1/Deployment/a.json"]);
    assert_eq!(captured(json!({"excludeKinds": ["ConfigMap"]})).await, ["apps/v1/Deployment/a.json"]);
    assert_eq!(captured(json!({"includeNames": ["b"]})).await, ["core/v1/ConfigMap/b.json"]);
    assert_eq!(
        captured(json!({"includeNames": ["b", "c"]})).await,
        ["core/v1/ConfigMap/b.json", "core/v1/ConfigMap/c.json"]
    );
    assert_eq!(captured(json!({"excludeNames": ["a", "b"]})).await, ["core/v1/ConfigMap/c.json"]);
}

#[tokio::test]
async fn a_label_selector_is_evaluated_by_the_api_server() {
    let (api, pod) = (Api::new(), Pod::new());
    api.serve_config_maps(objects(3));
    api.fail(|uri, _| {
        let asked_for = parameter(uri, "labelSelector");
        (uri.path().ends_with("/configmaps") && asked_for.as_deref() != Some("tier!=scratch"))
            .then(|| refusal(400, "BadRequest"))
    });
    let inputs = json!({"repository": "main", "selection": {"labelSelector": "tier!=scratch"}});
    assert_eq!(counts(&pod.capture(&api, inputs, None).await.unwrap()).succeeded, 3);
}

#[tokio::test]
async fn a_label_selector_that_the_api_server_does_not_understand_is_an_invalid_input() {
    let (api, pod) = (Api::new(), Pod::new());
    api.serve_config_maps(objects(3));
    api.fail(|uri, _| parameter(uri, "labelSelector").map(|_| refusal(400, "BadRequest")));
    let inputs = json!({"repository": "main", "selection": {"labelSelector": "a in in"}});
    let failure = pod.capture(&api, inputs, None).await.unwrap_err();
    assert_eq!((failure.reason.as_str(), failure.exit_code()), ("InvalidInputs", 40));
    assert!(failure.message.contains("labelSelector"), "{}", failure.message);
}

#[tokio::test]
async fn a_target_is_captured_alone_and_one_that_is_not_there_fails_the_run() {
    let target = |name: &str| Some(json!({"apiVersion": "v1", "kind": "ConfigMap", "name": name}));
    let (api, pod) = (Api::new(), Pod::new());
    let mut excluded = object("excluded");
    excluded["metadata"]["labels"] = json!({"velero.io/exclude-from-backup": "true"});
    api.serve_config_maps(vec![object("a"), object("b"), excluded]);
    for (name, reason) in [("gone", "TargetNotFound"), ("excluded", "TargetNotCaptured")] {
        let failure = pod.capture(&api, json!({"repository": "main"}), target(name)).await.unwrap_err();
        assert_eq!((failure.reason.as_str(), failure.exit_code()), (reason, 40));
        assert_eq!(pod.snapshots().await, 0);
    }
    let result = pod.capture(&api, json!({"repository": "main"}), target("b")).await.unwrap();
    assert_eq!(counts(&result).total, 1);
    assert_eq!(pod.paths().await, ["core/v1/ConfigMap/b.json"]);
}

#[tokio::test]
async fn inputs_that_are_not_understood_are_refused_for_good() {
    let (api, pod) = (Api::new(), Pod::new());
    for inputs in [
        json!({}),
        json!({"repository": "main", "selectoin": {}}),
        json!({"repository": "main", "selection": {"includeKind": []}}),
        json!({"repository": "main", "selection": {"includeKinds": ["apps/v1"]}}),
    ] {
        let failure = pod.capture(&api, inputs.clone(), None).await.unwrap_err();
        assert_eq!((failure.reason.as_str(), failure.exit_code()), ("InvalidInputs", 40), "{inputs}");
    }
    let failure = pod.capture(&api, json!({"repository": "other"}), None).await.unwrap_err();
    assert_eq!(failure.exit_code(), 40);
    assert_eq!(api.requests(), Vec::<String>::new());
}
