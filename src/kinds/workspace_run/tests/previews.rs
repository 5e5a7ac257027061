//! Bulk operations and restores in all tenants: previewed under one digest, applied as previewed, and undone.

use super::*;
use crate::api::{BulkOperationRun, LocalReference, PreviewReference, RestoreRun, restore_run::ExistingResourcePolicy};
use crate::runs::children::Detail;

fn bulk(order: &Order) -> &BulkOperationRun {
    match order {
        Order::Bulk(bulk) => bulk,
        other => panic!("{other:?}"),
    }
}

fn restore(order: &Order) -> &RestoreRun {
    match order {
        Order::Restore(restore) => restore,
        other => panic!("{other:?}"),
    }
}

pub(super) fn deletion() -> Value {
    json!({"resource": {"group": "apps", "kind": "Deployment"}, "action": "delete", "labelSelector": "app=old"})
}

/// A preview in two tenants that is completed, and what it created there.
fn previewed(spec: Value) -> Observed {
    let mut preview = observed(spec, tenants(2));
    pass(&mut preview, now());
    for (namespace, deletes) in [("t-00000", 2), ("t-00001", 3)] {
        end(&mut preview, namespace, Outcome::Succeeded);
        let detail = Detail {
            plan_digest: Some(format!("digest of {namespace}")),
            preview: Some(read(json!({"delete": deletes}))),
            backup_set: Some(format!("set-{namespace}")),
            undo: None,
        };
        preview.children.get_mut(namespace).expect("a child").detail = Some(Box::new(detail));
    }
    pass(&mut preview, later(60));
    assert_eq!(status(&preview).phase, Phase::Completed);
    preview
}

/// What names another one as preview or as what it undoes.
pub(super) fn after(spec: Value, earlier: &Observed) -> Observed {
    let mut next = observed(spec, earlier.tenants.clone());
    let mut run = (*next.run).clone();
    (run.metadata.uid, run.metadata.name) = (Some("abcdefghijk".to_owned()), Some("then".to_owned()));
    next.run = Arc::new(run);
    next.source = Source::Found {
        named: Some(earlier.run.clone()),
        reference: ObjectReference::of(&*earlier.run),
        children: earlier.children.clone(),
    };
    next
}

pub(super) fn preview_of_deletion() -> Observed {
    previewed(json!({"bulk": deletion(), "dryRun": true, "queueTimeoutSeconds": 30}))
}

#[allow(clippy::needless_pass_by_value, reason = "called with literals")]
pub(super) fn apply(also: Value) -> Value {
    let mut spec = json!({"bulk": {"resource": {"group": "apps", "kind": "Deployment"}, "action": "delete"},
        "preview": {"name": "all"}});
    spec.as_object_mut().expect("an object").extend(also.as_object().expect("an object").clone());
    spec
}

#[track_caller]
fn blocked(mut observed: Observed, reason: &str, words: &str) {
    let decision = pass(&mut observed, now());
    let said = status(&observed);
    assert_eq!((decision.start.len(), said.outcome, said.reason.as_deref()), (0, Outcome::Blocked, Some(reason)));
    assert!(said.message.as_deref().unwrap_or_default().contains(words), "{:?}", said.message);
}

#[test]
fn a_preview_is_a_dry_run_in_each_tenant_for_the_requester_and_its_digest_is_over_all_of_their_plans() {
    let mut all = observed(json!({"bulk": deletion(), "dryRun": true, "queueTimeoutSeconds": 30}), tenants(2));
    let first = pass(&mut all, now());
    let spec = serde_json::to_value(&bulk(&first.start[0]).spec).expect("JSON");
    assert_eq!(
        spec,
        json!({"resource": {"group": "apps", "kind": "Deployment"}, "action": "delete", "labelSelector": "app=old",
            "dryRun": true, "options": {"repository": "main"}, "parallelism": 8, "queueTimeoutSeconds": 30,
            "scheduledBy": {"kind": "WorkspaceRun", "name": "all", "uid": "0123456789"},
            "requestedBy": {"username": "ada", "groups": ["platform"]}, "cancel": false}),
        "the repository is that of the workspace's template"
    );
    assert_eq!(status(&all).operation_type.as_deref(), Some("bulk.delete.preview"));
    let preview = preview_of_deletion();
    let said = status(&preview);
    assert_eq!(said.preview.map(|preview| preview.delete), Some(5), "the sum of both");
    let digest = said.plan_digest.expect("a digest");
    assert!(said.message.unwrap_or_default().contains(&digest), "the message says what to name");
    let mut other = preview.children.clone();
    for (change, what) in [
        (Detail { plan_digest: Some("another".to_owned()), ..detail(&preview, "t-00001") }, "another plan"),
        (Detail { preview: None, ..detail(&preview, "t-00001") }, "no plan"),
    ] {
        other.get_mut("t-00001").expect("a child").detail = Some(Box::new(change));
        assert_ne!(digest_of(&other).as_ref(), Some(&digest), "{what}");
    }
    other.clone_from(&preview.children);
    other.get_mut("t-00001").expect("a child").run.uid = "another".to_owned();
    assert_ne!(digest_of(&other), Some(digest), "another preview of the same name");
    other.clear();
    assert_eq!(digest_of(&other), None);
}

fn detail(observed: &Observed, namespace: &str) -> Detail {
    observed.children[namespace].detail.as_deref().cloned().expect("details")
}

#[test]
fn what_applies_a_preview_names_that_of_each_tenant_and_takes_no_other_tenants() {
    let mut preview = preview_of_deletion();
    let digest = status(&preview).plan_digest.expect("a digest");
    preview.tenants.push(tenant("zone", &[]));
    let mut applied =
        after(apply(json!({"preview": {"name": "all", "planDigest": digest}, "parallelism": 1})), &preview);
    let first = pass(&mut applied, now());
    assert_eq!(started(&first), ["t-00000"]);
    let spec = &bulk(&first.start[0]).spec;
    let shown = PreviewReference { name: "all-01234567".to_owned(), plan_digest: Some("digest of t-00000".to_owned()) };
    assert_eq!(spec.preview, Some(shown), "a later preview of that name has another digest");
    assert_eq!((spec.dry_run, &spec.options, &spec.label_selector), (false, &None, &None));
    let said = status(&applied);
    assert_eq!((said.plan_digest.as_deref(), said.counts.total), (Some(digest.as_str()), 2));
    assert_eq!(said.source.map(|source| source.uid).as_deref(), Some("0123456789"));
    // What the preview created counts, also when the workspace run itself is gone.
    if let Source::Found { named, .. } = &mut applied.source {
        *named = None;
    }
    end(&mut applied, "t-00000", Outcome::Succeeded);
    let undo = Detail { undo: Some("undo-0".to_owned()), ..Detail::default() };
    applied.children.get_mut("t-00000").expect("a child").detail = Some(Box::new(undo));
    assert_eq!(started(&pass(&mut applied, later(60))), ["t-00001"]);
    end(&mut applied, "t-00001", Outcome::Succeeded);
    pass(&mut applied, later(120));
    let said = status(&applied);
    assert_eq!((said.outcome, said.undo_tenants), (Outcome::Succeeded, 1));
    assert!(said.message.unwrap_or_default().contains("spec.undoOf.name then and dryRun: true"));
}

#[test]
fn a_preview_that_is_not_as_it_was_or_not_the_one_that_was_looked_at_is_applied_nowhere() {
    let preview = preview_of_deletion();
    let changed = |change: &dyn Fn(&mut Observed)| {
        let mut preview = preview.clone();
        change(&mut preview);
        after(apply(json!({})), &preview)
    };
    blocked(changed(&|preview| drop(preview.children.remove("t-00001"))), "PreviewStale", "is deleted");
    blocked(changed(&|preview| drop(preview.tenants.pop())), "PreviewStale", "t-00001 is no tenant");
    let of = |change: fn(&mut WorkspaceRun)| {
        changed(&move |preview| {
            let mut run = (*preview.run).clone();
            change(&mut run);
            preview.run = Arc::new(run);
        })
    };
    let unusable = "PreviewNotUsable";
    blocked(of(|run| run.spec.dry_run = false), unusable, "is not a preview");
    blocked(of(|run| run.spec.workspace.name = "other".to_owned()), unusable, "of another workspace");
    blocked(of(|run| run.status.as_mut().expect("a status").phase = Phase::Running), unusable, "not completed");
    blocked(of(|run| run.status.as_mut().expect("a status").plan_digest = None), unusable, "made no plan");
    blocked(of(|run| run.status.as_mut().expect("a status").outcome = Outcome::Failed), unusable, "made no plan");
    blocked(
        of(|run| run.spec.bulk.as_mut().expect("a bulk operation").resource.kind = "DaemonSet".to_owned()),
        unusable,
        "does something else",
    );
    let missing = Observed { source: Source::Missing, ..after(apply(json!({})), &preview) };
    blocked(missing, unusable, "does not exist");
    let expects = json!({"preview": {"name": "all", "planDigest": "0".repeat(64)}});
    blocked(after(apply(expects), &preview), unusable, "spec.preview.planDigest");
}

#[test]
fn a_tenant_whose_preview_failed_is_not_touched() {
    let mut preview = observed(json!({"bulk": deletion(), "dryRun": true}), tenants(2));
    pass(&mut preview, now());
    let shown = preview_of_deletion();
    preview.children.insert("t-00000".to_owned(), shown.children["t-00000"].clone());
    end(&mut preview, "t-00001", Outcome::Failed);
    pass(&mut preview, later(60));
    assert_eq!(status(&preview).outcome, Outcome::PartiallySucceeded);
    let mut applied = after(apply(json!({})), &preview);
    assert_eq!(started(&pass(&mut applied, now())), ["t-00000"]);
    end(&mut applied, "t-00000", Outcome::Succeeded);
    pass(&mut applied, later(60));
    assert_eq!((status(&applied).outcome, status(&applied).counts.total), (Outcome::Succeeded, 1));
}

#[test]
fn an_undo_restores_in_each_tenant_what_was_changed_there_first_as_a_preview() {
    let mut applied = preview_of_deletion();
    let mut run = (*applied.run).clone();
    run.spec.dry_run = false;
    applied.run = Arc::new(run);
    for (namespace, undo) in [("t-00000", Some("undo-0")), ("t-00001", None)] {
        let detail = Detail { undo: undo.map(str::to_owned), ..Detail::default() };
        applied.children.get_mut(namespace).expect("a child").detail = Some(Box::new(detail));
    }
    let undo = json!({"undoOf": {"name": "all"}, "dryRun": true});
    let mut look = after(undo.clone(), &applied);
    let first = pass(&mut look, now());
    assert_eq!(started(&first), ["t-00000"], "nothing is to be undone in the other");
    let spec = &restore(&first.start[0]).spec;
    assert_eq!(spec.backup_set, Some(LocalReference::new("undo-0")));
    assert_eq!((spec.prune, spec.dry_run), (true, true));
    assert_eq!(spec.existing_resource_policy, ExistingResourcePolicy::Update);
    assert_eq!(status(&look).operation_type.as_deref(), Some("restore.preview"));

    let mut preview = preview_of_deletion();
    let mut run = (*preview.run).clone();
    (run.spec.bulk, run.spec.undo_of) = (None, Some(LocalReference::new("all")));
    preview.run = Arc::new(run);
    let mut undone = after(json!({"undoOf": {"name": "all"}, "preview": {"name": "look"}}), &preview);
    let first = pass(&mut undone, now());
    let spec = &restore(&first.start[1]).spec;
    assert_eq!(spec.backup_set, Some(LocalReference::new("set-t-00001")), "that of the preview");
    let shown = spec.preview.as_ref().and_then(|preview| preview.plan_digest.as_deref());
    assert_eq!(shown, Some("digest of t-00001"));
    assert_eq!((spec.prune, spec.existing_resource_policy), (false, ExistingResourcePolicy::None));

    let impossible = "UndoNotPossible";
    let mut nothing = applied.clone();
    nothing.children.remove("t-00000");
    blocked(after(undo.clone(), &nothing), impossible, "left no backup set");
    blocked(after(undo.clone(), &preview_of_deletion()), impossible, "is a preview");
    let mut going = applied.clone();
    let mut run = (*going.run).clone();
    run.status.as_mut().expect("a status").phase = Phase::Running;
    going.run = Arc::new(run);
    blocked(after(undo.clone(), &going), impossible, "is not completed");
    blocked(Observed { source: Source::Missing, ..after(undo, &applied) }, impossible, "does not exist");
}

#[test]
fn an_undo_says_how_many_of_the_tenants_are_gone() {
    let mut applied = preview_of_deletion();
    let mut run = (*applied.run).clone();
    run.spec.dry_run = false;
    applied.run = Arc::new(run);
    for child in applied.children.values_mut() {
        child.detail = Some(Box::new(Detail { undo: Some("undo".to_owned()), ..Detail::default() }));
    }
    applied.tenants.pop();
    let mut look = after(json!({"undoOf": {"name": "all"}, "dryRun": true}), &applied);
    assert_eq!(started(&pass(&mut look, now())), ["t-00000"]);
    end(&mut look, "t-00000", Outcome::Succeeded);
    pass(&mut look, later(60));
    let said = status(&look);
    assert_eq!(said.outcome, Outcome::PartiallySucceeded);
    assert!(said.message.unwrap_or_default().contains("1 are left out: they are no tenants any more"));
}

/// A deletion in two tenants that can be undone in both.
fn deleted() -> Observed {
    let mut applied = preview_of_deletion();
    let mut run = (*applied.run).clone();
    run.spec.dry_run = false;
    run.status.as_mut().expect("a status").undo_tenants = 2;
    applied.run = Arc::new(run);
    for child in applied.children.values_mut() {
        child.detail = Some(Box::new(Detail { undo: Some("undo".to_owned()), ..Detail::default() }));
    }
    applied
}

#[test]
fn an_undo_says_so_if_the_record_of_a_tenant_is_deleted_and_a_selector_leaves_out_nobody_silently() {
    let look = |selector: Option<&str>, applied: &Observed| {
        let mut spec = json!({"undoOf": {"name": "all"}, "dryRun": true});
        if let Some(selector) = selector {
            spec["tenantSelector"] = json!(selector);
        }
        after(spec, applied)
    };
    let mut applied = deleted();
    applied.children.remove("t-00001");
    let mut partly = look(None, &applied);
    assert_eq!(started(&pass(&mut partly, now())), ["t-00000"]);
    end(&mut partly, "t-00000", Outcome::Succeeded);
    pass(&mut partly, later(60));
    assert_eq!(status(&partly).outcome, Outcome::PartiallySucceeded);
    assert!(status(&partly).message.unwrap_or_default().contains("or their records are deleted"));

    let mut applied = deleted();
    applied.tenants[1].labels.insert("stage".to_owned(), "canary".to_owned());
    let mut canary = look(Some("stage=canary"), &applied);
    assert_eq!(started(&pass(&mut canary, now())), ["t-00001"]);
    end(&mut canary, "t-00001", Outcome::Succeeded);
    pass(&mut canary, later(60));
    assert_eq!((status(&canary).outcome, status(&canary).counts.total), (Outcome::Succeeded, 1));
    blocked(look(Some("stage=none"), &applied), "NoTenants", "in which all changed something");
    applied.tenants.clear();
    blocked(look(None, &applied), "NoTenants", "are no tenants of workspace shop any more");
}

#[test]
fn a_start_that_was_not_recorded_has_created_nothing() {
    let preview = preview_of_deletion();
    let mut applied = after(apply(json!({})), &preview);
    let first = decide(&applied, now());
    assert_eq!(first.start, [], "if this status is lost, all is checked again");
    let recorded = first.status.expect("a status");
    assert!(recorded.source.is_some() && recorded.plan_digest.is_some() && recorded.started_at.is_some());
    // Once it is recorded, what the preview was like later changes nothing.
    let mut run = (*applied.run).clone();
    run.status = Some(*recorded);
    applied.run = Arc::new(run);
    if let Source::Found { named, .. } = &mut applied.source {
        *named = None;
    }
    assert_eq!(started(&decide(&applied, now())), ["t-00000", "t-00001"]);
    let mut run = (*applied.run).clone();
    run.spec.cancel = true;
    applied.run = Arc::new(run);
    let cancelled = decide(&applied, now());
    assert_eq!(cancelled.start, []);
}

#[test]
fn only_what_did_the_same_is_repeated_also_as_a_preview() {
    let rerun = |spec: Value, earlier: &Observed| {
        let named = Some(earlier.run.clone());
        let succeeded = BTreeSet::from(["t-00000".to_owned()]);
        let mut next = observed(spec, tenants(2));
        next.earlier = Earlier::Found { named, repeats: vec!["0123456789".to_owned()], succeeded };
        next
    };
    let applied = deleted();
    let mut other = deletion();
    other["resource"]["kind"] = json!("DaemonSet");
    let of = |bulk: Value| json!({"bulk": bulk, "dryRun": true, "rerunOf": {"name": "all"}});
    blocked(rerun(of(other), &applied), "RerunNotPossible", "did something else");
    let restore = json!({"restore": {"backupSet": {"name": "a"}}, "rerunOf": {"name": "all"}});
    blocked(rerun(restore, &applied), "RerunNotPossible", "did something else");
    let mut again = rerun(of(deletion()), &applied);
    assert_eq!(started(&pass(&mut again, now())), ["t-00001"], "a preview of those that did not succeed");
}

#[test]
fn tenants_that_wait_for_an_approval_are_counted_in_the_message() {
    let mut applied = after(apply(json!({})), &preview_of_deletion());
    pass(&mut applied, now());
    applied.children.get_mut("t-00001").expect("a child").reason = Some("AwaitingApproval".to_owned());
    pass(&mut applied, later(60));
    let message = status(&applied).message.unwrap_or_default();
    assert!(
        message.contains("1 or more wait for an approval") && message.contains("get bulkoperationruns"),
        "{message}"
    );
}

#[test]
fn a_restore_in_each_tenant_is_of_the_set_of_one_name_with_all_terms_of_the_template() {
    let template = json!({"backupSet": {"name": "before"}, "items": [{"kind": "ConfigMap"}],
        "excludeItems": [{"name": "x"}], "only": "missing", "existingResourcePolicy": "update", "prune": true,
        "allowDataLoss": true, "transforms": [{"select": {}, "patch": [{"op": "remove", "path": "/a"}]}]});
    let mut all = observed(json!({"restore": template, "dryRun": true, "queueTimeoutSeconds": 30}), tenants(1));
    let first = pass(&mut all, now());
    let mut expected = template;
    expected.as_object_mut().expect("an object").extend(
        json!({"dryRun": true, "safetyCapture": true, "cancel": false, "queueTimeoutSeconds": 30,
            "scheduledBy": {"kind": "WorkspaceRun", "name": "all", "uid": "0123456789"},
            "requestedBy": {"username": "ada", "groups": ["platform"]}})
        .as_object()
        .expect("an object")
        .clone(),
    );
    assert_eq!(serde_json::to_value(&restore(&first.start[0]).spec).expect("JSON"), expected);
}

#[test]
fn what_would_be_refused_in_each_tenant_blocks_the_workspace_run() {
    let bad = |spec: Value, reason: &str, words: &str| blocked(observed(spec, tenants(1)), reason, words);
    let with = |field: &str, value: Value| {
        let mut bulk = deletion();
        bulk[field] = value;
        json!({"bulk": bulk, "dryRun": true})
    };
    bad(with("labelSelector", json!("a in (")), "InvalidBulkOperation", "spec.labelSelector");
    bad(with("resource", json!({"group": "tenantatlas.io", "kind": "BackupSet"})), "InvalidBulkOperation", "BackupSet");
    let selector = json!({"backupSet": {"name": "a"}, "items": [{"labelSelector": "a in ("}]});
    bad(json!({"restore": selector}), "InvalidRestore", "items[0]");
    let mut no_repository = observed(with("action", json!("delete")), tenants(1));
    no_repository.workspace = None;
    blocked(no_repository, "InvalidBulkOperation", "repository");
    let mut not_allowed = observed(json!({"bulk": deletion(), "dryRun": true}), tenants(1));
    let mut workspace = workspace();
    workspace.spec.allowed_types = Some(vec!["backup.*".to_owned()]);
    not_allowed.workspace = Some(Arc::new(workspace));
    blocked(not_allowed, "NotAllowedByWorkspace", "bulk.delete.preview");
}
