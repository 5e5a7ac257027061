//! Objects by chance are captured, damaged by chance, restored, and the restore is undone: what the plan names has
//! happened, nothing else has, and nothing is gone without a word.
//!
//! On the real API server, in the name of the real accounts, in this process (`records.rs`): a round takes about two
//! seconds. `ATLAS_ROUNDS` says how many (20), `ATLAS_ROUNDS_FROM` with which seed they begin (1).

mod objects;
mod records;

use crate::support::cluster::number;
use crate::support::{SOON, Tenant, wait_for};
use objects::{CLUSTER_WIDE, Chance, GROUP, KINDS, LABEL, World, item_prefix, object, seen};
use records::Records;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use tempfile::TempDir;
use tenantatlas::api::operation_report::{Action, ItemOutcome, ItemResult, PlannedObject};
use tenantatlas::api::outcome::FailureType;
use tenantatlas::api::result::TerminationResult;
use tenantatlas::api::{OperationRun, Outcome, execution};
use tenantatlas::clock::SystemClock;
use tenantatlas::operations::{preview, restore::apply};
use tenantatlas::repository::{RepositoryKey, WriterPermit};
use tenantatlas::worker::environment::{Environment, Mounts};
use tenantatlas::worker::failure::Failure;
use tenantatlas::worker::stop::Stop;
use tenantatlas::{operations::capture, worker::open};

/// The pod that accounts claim to be in.
const POD: &str = "op-0123456789abcdef0123-x7k2p";

/// The same of the account of restores, whose Jobs say so in their names.
const RESTORE_POD: &str = "op-0123456789abcdef0123-restore-x7k2p";

/// What the rounds share.
struct Rounds {
    tenant: Tenant,
    world: World,
    records: Records,
    mounts: Mounts,
    _files: TempDir,
    runs: std::sync::atomic::AtomicUsize,
}

#[tokio::test]
async fn what_is_restored_by_chance_is_as_the_plan_says_and_undone_it_is_as_it_was() {
    let (from, rounds) = (number("ATLAS_ROUNDS_FROM", 1), number("ATLAS_ROUNDS", 20));
    let all = Rounds::prepare().await;
    for seed in from..from + rounds {
        // The seed that repeats it stands in the output of a test that fails.
        println!("round {seed}: repeat it with ATLAS_ROUNDS_FROM={seed} ATLAS_ROUNDS=1");
        Box::pin(all.play(&mut Chance::new(seed))).await;
    }
}

impl Rounds {
    async fn prepare() -> Self {
        let tenant = Tenant::new("round-trip").await;
        tenant.cluster.kubectl_reads(&["apply", "--filename", "-"], &cluster_wide(&tenant.name).to_string());
        for crd in ["widgets", "gadgets"] {
            let crd = format!("crd/{crd}.{GROUP}");
            tenant.cluster.kubectl_prints(&["wait", "--for=condition=Established", &crd, "--timeout=60s"]);
        }
        let restore = format!("system:serviceaccount:{}:{}", tenant.name, execution::RESTORE_ACCOUNT);
        wait_for("the account of restores may write Gadgets", SOON, async || {
            let resource = format!("gadgets.{GROUP}");
            let asked = ["auth", "can-i", "delete", &resource, "--as", &restore, "--namespace", &tenant.name];
            let said = tenant.cluster.kubectl(&asked);
            if said.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&said.stdout).into_owned()) }
        })
        .await;
        let world = World { client: tenant.cluster.client.clone(), namespace: tenant.name.clone() };
        let refused =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "tried"}, "data": {"refused": "yes"}});
        let account = tenant.cluster.as_user_in_pod(&restore, RESTORE_POD);
        let as_account = World { client: account, namespace: tenant.name.clone() };
        wait_for("the policy refuses what it is to refuse", SOON, async || match as_account.create(&refused).await {
            Err(error) if error.contains("not by an account") => Ok(()),
            other => {
                world.delete(&refused).await;
                Err(format!("{other:?}"))
            }
        })
        .await;
        let files = TempDir::new().expect("a folder");
        let mounts = Mounts::below(files.path());
        for directory in [&mounts.password, &mounts.volume, &files.path().join("dev")] {
            std::fs::create_dir_all(directory).expect("a folder");
        }
        // One that opens in a millisecond.
        let key = RepositoryKey::generate_master_key().expect("a key");
        std::fs::write(mounts.password.join("master-key"), key).expect("a file");
        let records = Records::default();
        let runs = std::sync::atomic::AtomicUsize::new(0);
        let all = Self { tenant, world, records, mounts, _files: files, runs };
        let (environment, _) = all.run("repository.check", json!({"repository": "main"}));
        let client = all.records.client(all.tenant.cluster.client.clone(), &all.tenant.name);
        open::open_or_create(&client, &environment, &all.mounts).await.expect("a repository");
        all
    }

    /// Another run: what its pod is given.
    #[allow(clippy::needless_pass_by_value, reason = "called with literals")]
    fn run(&self, operation: &str, inputs: Value) -> (Environment, OperationRun) {
        let number = self.runs.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let (name, uid) = (format!("run-{number}"), format!("{number:08}-of-a-run"));
        let run = json!({"apiVersion": "tenantatlas.io/v1alpha1", "kind": "OperationRun",
            "metadata": {"name": name, "namespace": self.tenant.name, "uid": uid}, "spec": {"type": operation},
            "status": {"phase": "queued", "outcome": "pending", "observedGeneration": -1}});
        self.records.put(&self.tenant.name, "operationruns", run.clone());
        let repository = json!({"storage": {"persistentVolumeClaim": {"claimName": "backups"}}, "passwordSecret": {"name": "backup-password"}});
        let variables = BTreeMap::from([
            (execution::RUN, name),
            (execution::RUN_UID, uid),
            (execution::NAMESPACE, self.tenant.name.clone()),
            (execution::NAMESPACE_UID, self.tenant.uid.clone()),
            (execution::CLUSTER_UID, "cluster-uid".to_owned()),
            (execution::JOB_UID, "job-uid".to_owned()),
            (execution::POD_NAME, POD.to_owned()),
            (execution::INPUTS, inputs.to_string()),
            (execution::TARGET, String::new()),
            (execution::REPOSITORY, "main".to_owned()),
            (execution::REPOSITORY_SPEC, repository.to_string()),
        ]);
        let environment = Environment::read(&|name| variables.get(name).cloned()).expect("an environment");
        (environment, serde_json::from_value(run).expect("a run"))
    }

    fn client(&self, account: &str) -> kube::Client {
        let user = format!("system:serviceaccount:{}:{account}", self.tenant.name);
        let pod = if account == execution::RESTORE_ACCOUNT { RESTORE_POD } else { POD };
        self.records.client(self.tenant.cluster.as_user_in_pod(&user, pod), &self.tenant.name)
    }

    /// Captures everything; the set's name.
    async fn capture(&self) -> String {
        let (environment, run) = self.run("backup.capture", json!({"repository": "main"}));
        let repository = open::open(&environment, &self.mounts).await.expect("the repository opens");
        let client = self.client(execution::WORKER_ACCOUNT);
        let permit = WriterPermit::without_maintenance();
        let ended = capture::capture(&client, &environment, &repository, &run, &SystemClock, permit).await;
        let ended = ended.expect("a capture");
        // Kinds of other stories, which workers may not list, are skipped by name.
        let ours =
            |id: &str| KINDS.iter().any(|(api_version, kind, _)| id.starts_with(&item_prefix(api_version, kind)));
        let failed: Vec<_> = ended
            .failures
            .iter()
            .filter(|failure| failure.failure_type == FailureType::Failure && ours(&failure.item_id))
            .collect();
        assert!(failed.is_empty(), "{failed:?}");
        let name = "taken".to_owned();
        let spec = json!({"repository": {"name": "main"}, "snapshot": ended.context.snapshot.expect("a snapshot").id,
            "run": {"name": "r", "uid": "u"}, "namespaceUid": self.tenant.uid, "coverage": "full"});
        let set = json!({"apiVersion": "tenantatlas.io/v1alpha1", "kind": "BackupSet",
            "metadata": {"name": name, "namespace": self.tenant.name}, "spec": spec});
        self.records.put(&self.tenant.name, "backupsets", set);
        name
    }

    /// Restores a set, after a preview if `looks`.
    async fn restore(&self, set: &str, terms: &Value, looks: bool) -> Told {
        if !looks {
            return self.apply(set, terms).await;
        }
        let mut spec = terms.clone();
        spec["dryRun"] = json!(true);
        let (environment, _) = self.order("restore.preview", set, &spec);
        let repository = open::open(&environment, &self.mounts).await.expect("the repository opens");
        let client = self.client(execution::PREVIEW_ACCOUNT);
        let before = self.world.all().await;
        let looked = preview::preview(&client, &environment, &repository).await.expect("a preview");
        assert_eq!(versions(&self.world.all().await), versions(&before), "a preview writes nothing");
        let run = json!({"name": environment.identity.run, "uid": environment.identity.run_uid});
        let mut look = self.records.get(&self.tenant.name, "restoreruns", &environment.identity.run);
        look["status"] = json!({"phase": "completed", "outcome": "succeeded", "operationRun": run,
            "planDigest": looked.context.plan.expect("a plan").digest});
        self.records.put(&self.tenant.name, "restoreruns", look);
        self.apply(set, &json!({"preview": {"name": environment.identity.run}})).await
    }

    /// A RestoreRun, named as its run.
    fn order(&self, operation: &str, set: &str, terms: &Value) -> (Environment, OperationRun) {
        let (environment, run) = self.run(operation, json!({"repository": "main"}));
        let name = environment.identity.run.clone();
        let uid = format!("uid-of-{name}");
        let requester = json!({"username": "ada", "groups": ["system:masters", "system:authenticated"]});
        let mut spec = json!({"backupSet": {"name": set}, "requestedBy": requester});
        for (field, value) in terms.as_object().cloned().unwrap_or_default() {
            spec[field] = value;
        }
        let run_reference = json!({"name": name, "uid": environment.identity.run_uid});
        let restore = json!({"apiVersion": "tenantatlas.io/v1alpha1", "kind": "RestoreRun", "spec": spec,
            "metadata": {"name": name, "namespace": self.tenant.name, "uid": uid}, "status": {"operationRun": run_reference}});
        self.records.put(&self.tenant.name, "restoreruns", restore);
        let inputs = json!({"repository": "main", "restoreRun": {"name": name, "uid": uid}});
        (Environment { inputs: inputs.to_string(), ..environment }, run)
    }

    async fn apply(&self, set: &str, terms: &Value) -> Told {
        let (environment, _) = self.order("restore.apply", set, terms);
        let repository = open::open(&environment, &self.mounts).await.expect("the repository opens");
        let client = self.client(execution::RESTORE_ACCOUNT);
        let permit = WriterPermit::without_maintenance();
        let ended = apply::apply(&client, &environment, &repository, &SystemClock, &Stop::default(), permit).await;
        let run = &environment.identity.run_uid;
        let results: BTreeMap<String, ItemResult> =
            self.records.results(run).into_iter().map(|result| (result.item_id.clone(), result)).collect();
        let mut plan = self.records.plan(run);
        if let Some(preview) = terms["preview"]["name"].as_str() {
            let look = self.records.get(&self.tenant.name, "restoreruns", preview);
            plan = self.records.plan(look["status"]["operationRun"]["uid"].as_str().expect("a uid"));
        }
        Told { ended, plan: plan.into_iter().map(|planned| (planned.item_id.clone(), planned)).collect(), results }
    }

    async fn play(&self, chance: &mut Chance) {
        self.world.clear().await;
        self.records.clear();
        let count = 8 + chance.below(14);
        self.populate(chance, "", count).await;
        let whole = self.world.settled().await;
        let set = self.capture().await;
        self.damage(chance, &whole).await;
        let damaged = self.world.settled().await;

        let policy = *chance.of(&["none", "update", "update", "recreate", "recreate"]);
        let looks = chance.one_in(2);
        // One with finalizers would never go: that it is not even begun with is seen where no data may be lost.
        let held = whole
            .values()
            .chain(damaged.values())
            .any(|object| object["metadata"]["finalizers"].to_string().contains("round-trip"));
        let may_lose = chance.one_in(3) && !held;
        let terms =
            json!({"existingResourcePolicy": policy, "prune": looks && chance.one_in(2), "allowDataLoss": may_lose});
        println!("  {terms}, previewed: {looks}; {} objects, {} after the damage", whole.len(), damaged.len());
        let told = self.restore(&set, &terms, looks).await;
        let restored = self.world.settled().await;
        told.explains(&whole, &damaged, &restored, "restore");

        let Some(undo) = told.undo_set() else {
            assert_eq!(versions(&restored).len(), versions(&damaged).len());
            return;
        };
        let policy = if policy == "recreate" { "recreate" } else { "update" };
        let terms = json!({"existingResourcePolicy": policy, "prune": true, "allowDataLoss": terms["allowDataLoss"]});
        let undone = self.restore(&undo, &terms, true).await;
        let last = self.world.settled().await;
        undone.explains(&damaged, &restored, &last, "undo");
        let items: BTreeSet<&String> = damaged.keys().chain(last.keys()).collect();
        for item in items {
            let (was, is) = (damaged.get(item), last.get(item));
            let went = is.is_none() && was.is_some_and(|was| went_with_controller(was, &last));
            let (was, is) = (was.map(seen), is.map(seen));
            assert!(
                was == is || undone.names(item) || went,
                "{item} is not as it was before the restore, and nothing says so\nwas {was:#?}\nis {is:#?}\n{:#?}\n{:#?}\n{:#?}",
                told.plan.get(item),
                undone.plan.get(item),
                undone.results.get(item)
            );
        }
    }

    /// Makes so many objects, some of which own others.
    async fn populate(&self, chance: &mut Chance, prefix: &str, count: usize) {
        let cluster_wide = self.tenant.cluster.kubectl_prints(&[
            "get",
            "clusterrole",
            CLUSTER_WIDE,
            "--output=jsonpath={.metadata.uid}",
        ]);
        let mut made: Vec<Value> = Vec::new();
        for number in 0..count {
            // Owners first, a quota last.
            let kind = match number {
                0 => *chance.of(&[5, 10, 11]),
                _ if number + 1 == count && chance.one_in(3) => 12,
                _ => *chance.of(&[0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 11]),
            };
            let mut one = object(kind, &format!("{prefix}o{number}"), chance);
            let held = !one["metadata"]["finalizers"].is_null();
            if chance.one_in(3) && !held && !made.is_empty() && KINDS[kind].1 != "ResourceQuota" {
                let owner = chance.of(&made);
                one["metadata"]["ownerReferences"] = json!([{"apiVersion": owner["apiVersion"], "kind": owner["kind"],
                    "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"], "controller": chance.one_in(2)}]);
            } else if chance.one_in(12) && !held {
                one["metadata"]["ownerReferences"] = json!([{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
                    "name": CLUSTER_WIDE, "uid": cluster_wide}]);
            }
            match self.world.create(&one).await {
                Ok(object) => made.push(object),
                // A quota of an earlier part.
                Err(error) if error.contains("quota") => {}
                Err(error) => panic!("{one:#} is refused: {error}"),
            }
        }
    }

    /// Deletes, changes, replaces and adds.
    async fn damage(&self, chance: &mut Chance, whole: &BTreeMap<String, Value>) {
        for old in whole.values() {
            let kind = KINDS.iter().position(|(_, kind, _)| old["kind"] == *kind).expect("a kind");
            let name = old["metadata"]["name"].as_str().expect("a name");
            match chance.below(6) {
                0 => self.world.delete(old).await,
                1 | 2 => {
                    let mut change = object(kind, name, chance);
                    change["metadata"].as_object_mut().expect("metadata").remove("finalizers");
                    // What cannot be changed is replaced.
                    if self.world.patch(old, &change).await.is_err() {
                        self.world.delete(old).await;
                        let _ = self.world.create(&change).await;
                    }
                }
                3 if chance.one_in(3) => {
                    let none = json!({"metadata": {"ownerReferences": null}});
                    let _ = self.world.patch(old, &none).await;
                }
                _ => {}
            }
        }
        let count = chance.below(5);
        self.populate(chance, "new-", count).await;
    }
}

/// What a restore said.
struct Told {
    ended: Result<TerminationResult, Failure>,
    plan: BTreeMap<String, PlannedObject>,
    results: BTreeMap<String, ItemResult>,
}

impl Told {
    fn undo_set(&self) -> Option<String> {
        self.ended.as_ref().ok().and_then(|ended| ended.context.undo_set.clone())
    }

    /// Whether it says of an item that it is not as it was asked for.
    fn names(&self, item: &str) -> bool {
        let planned = self.plan.get(item);
        planned.is_some_and(|planned| {
            planned.action.fails() || planned.action == Action::Skip || !planned.warnings.is_empty()
        }) || self.results.get(item).is_some_and(|result| result.outcome == ItemOutcome::Failed)
    }

    /// Each object is as what was said of it lets one expect.
    fn explains(
        &self,
        wanted: &BTreeMap<String, Value>,
        before: &BTreeMap<String, Value>,
        after: &BTreeMap<String, Value>,
        step: &str,
    ) {
        let ended = self.ended.as_ref().unwrap_or_else(|failure| panic!("{step}: {failure:?}"));
        assert_ne!(ended.outcome, Some(Outcome::Blocked), "{step}: {ended:#?}");
        let items: BTreeSet<&String> = wanted.keys().chain(before.keys()).chain(after.keys()).collect();
        for item in items {
            let (planned, result) = (self.plan.get(item), self.results.get(item));
            let (was, is) = (before.get(item), after.get(item));
            let said = || {
                format!(
                    "{step} of {item}\nplanned {planned:#?}\nresult {result:#?}\nwanted {:#?}\nwas {was:#?}\nis {is:#?}",
                    wanted.get(item)
                )
            };
            let (Some(planned), Some(result)) = (planned, result) else {
                let went = is.is_none() && was.is_some_and(|was| went_with_controller(was, after));
                assert!(went || was.map(identity) == is.map(identity), "it is in no plan: {}", said());
                continue;
            };
            let code = result.reason.as_ref().map_or("", |reason| reason.code.as_str());
            match (planned.action, result.outcome) {
                (Action::Delete, ItemOutcome::Done) => assert!(is.is_none(), "it is there: {}", said()),
                (_, ItemOutcome::Done) => {
                    let (expected, found) = compared(planned, wanted.get(item), is);
                    assert_eq!(found, expected, "{}", said());
                }
                (_, ItemOutcome::Unchanged) => {
                    assert_eq!(was.map(identity), is.map(identity), "{}", said());
                    let (expected, found) = compared(planned, wanted.get(item), is);
                    assert!(is.is_none() || found == expected, "it differs: {}", said());
                }
                (_, ItemOutcome::Failed) if code == "Deleted" => assert!(is.is_none(), "{}", said()),
                (_, ItemOutcome::Failed) if code == "OwnerMissing" => {}
                (_, ItemOutcome::Failed | ItemOutcome::Skipped) => {
                    assert_eq!(was.map(seen), is.map(seen), "it was to be left alone: {}", said());
                }
            }
        }
    }
}

/// What is wanted of an object and what there is of it: without the owners, where the plan says that one of them is left out.
fn compared(planned: &PlannedObject, wanted: Option<&Value>, is: Option<&Value>) -> (Option<Value>, Option<Value>) {
    let owners_missing = planned.warnings.iter().any(|warning| warning.code == "OwnerMissing");
    let view = |object: &Value| {
        let mut object = seen(object);
        if owners_missing {
            object["metadata"].as_object_mut().expect("metadata").remove("ownerReferences");
        }
        object
    };
    (wanted.map(view), is.map(view))
}

/// Whether an object is one that its controller makes again, as plans take for granted, and none of its owners is there.
fn went_with_controller(object: &Value, after: &BTreeMap<String, Value>) -> bool {
    let owners = object["metadata"]["ownerReferences"].as_array().map_or(&[][..], Vec::as_slice);
    let is_there = |owner: &Value| {
        owner["name"] == CLUSTER_WIDE || after.values().any(|object| object["metadata"]["uid"] == owner["uid"])
    };
    object["kind"] == "Job" && owners.iter().any(|owner| owner["controller"] == true) && !owners.iter().any(is_there)
}

/// What tells whether an object was written: not of a kind whose status the cluster counts.
fn identity(object: &Value) -> Value {
    let version = if object["kind"] == "ResourceQuota" { &Value::Null } else { &object["spec"] };
    json!([object["metadata"]["uid"], version, seen(object)])
}

fn versions(all: &BTreeMap<String, Value>) -> BTreeMap<String, Value> {
    all.iter().map(|(item, object)| (item.clone(), identity(object))).collect()
}

/// Kinds, roles, an owner and a policy.
fn cluster_wide(namespace: &str) -> Value {
    let kind = |kind: &str, plural: &str, subresources: Value| {
        let any = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
        let schema = json!({"type": "object", "properties": {"spec": any, "status": any}});
        let version = json!({"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}, "subresources": subresources});
        json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("{plural}.{GROUP}")},
            "spec": {"group": GROUP, "scope": "Namespaced", "versions": [version],
                "names": {"kind": kind, "plural": plural, "singular": kind.to_lowercase(), "listKind": format!("{kind}List")}}})
    };
    let role = |name: &str, label: &str, verbs: Value| {
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": name, "labels": {label: "true"}},
            "rules": [{"apiGroups": [GROUP], "resources": ["widgets", "gadgets"], "verbs": verbs}]})
    };
    let policy = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": "round-trip"},
        "spec": {"failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["configmaps"]}]},
            "matchConditions": [{"name": "accounts", "expression": "request.userInfo.username.startsWith('system:serviceaccount:') && !request.userInfo.username.startsWith('system:serviceaccount:kube-system:')"}],
            "validations": [{"expression": "!has(object.data) || !('refused' in object.data)", "message": "not by an account"}]}});
    let binding = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": "round-trip"},
        "spec": {"policyName": "round-trip", "validationActions": ["Deny"],
            "matchResources": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}}});
    let owner = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": CLUSTER_WIDE, "labels": {LABEL: "yes"}}, "rules": []});
    let every = json!(["get", "list", "watch", "create", "update", "patch", "delete"]);
    json!({"apiVersion": "v1", "kind": "List", "items": [
        kind("Widget", "widgets", json!({"status": {}})),
        kind("Gadget", "gadgets", json!({})),
        role("round-trip-worker", "tenantatlas.io/aggregate-to-worker", json!(["list"])),
        role("round-trip-restore", "tenantatlas.io/aggregate-to-restore", every),
        owner, policy, binding,
    ]})
}
