//! The capture worker as a process that dies at its calls to the API server, or to its store ([`crate::stand_in`]). It is tried
//! once with a fault and once without; the run ends by the result that one of them reports.
//!
//! Calls to the API server: on the repository's own files. In the end the node takes the pods, which find their runs
//! completed. Calls to the store: on a copy of the files for each trial, for
//! their number grows with what is stored; then our own check reads all of it.

use crate::capture::Captures;
use crate::scenario::{IN_TIME, Scenario};
use crate::stand_in::{StandIn, hold_pods, let_pods_start, open};
use crate::support::run::assert_ended;
use crate::support::wait_for;
use crate::trial::{Bench, Key};
use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, ListParams};
use object_store::local::LocalFileSystem;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tenantatlas::api::{OperationRun, OperationType, Outcome, Reason, execution};
use tenantatlas::repository::{ReadData, Repository as _};
use tenantatlas::runs::finish::job_end;
use tenantatlas::worker::environment::Environment;

/// How long the pods of all runs of a series may take together.
const ALL_PODS: Duration = Duration::from_mins(5);

/// One snapshot of this run and the one from before, and all of it can be read.
async fn check(job: &Job, folder: &Path) {
    let mut variables = crate::witness::variables(job);
    variables.insert(execution::JOB_UID.to_owned(), job.uid().expect("a uid"));
    variables.insert(execution::POD_NAME.to_owned(), "op-of-the-proof".to_owned());
    let environment = Environment::read(&|name| variables.get(name).cloned()).expect("the Job's variables");
    let files = LocalFileSystem::new_with_prefix(folder).expect("a folder");
    let repository = open(Arc::new(files), &environment).await.expect("the repository opens");
    let snapshots = repository.snapshots().await.expect("snapshots can be listed");
    let run = &environment.identity.run_uid;
    let of_run = snapshots.iter().filter(|snapshot| snapshot.run_uid.as_ref() == Some(run)).count();
    assert_eq!((of_run, snapshots.len()), (1, 2), "one snapshot of the run, and the one before: {snapshots:#?}");
    let report = repository.check(ReadData::All).await.expect("the repository can be checked");
    assert!(report.is_ok(), "{report:#?}");
}

/// The runs of one series.
pub(crate) struct Workers {
    captures: Captures,
    /// `backup.capture` without its limit: all pods of a series wait at once.
    operation: String,
    folder: PathBuf,
    stand_in: StandIn,
    /// Whether each trial has a copy of the files.
    copies: bool,
}

impl Workers {
    /// A tenant with a repository; from now on no pod starts.
    pub(crate) async fn prepare(scenario: Scenario) -> Self {
        let captures = Captures::prepare(scenario).await;
        let copies = scenario == Scenario::WorkerStore;
        let folder = captures.restic().folder();
        let types: Api<OperationType> = Api::all(captures.tenant.cluster.client.clone());
        let built_in = types.get("backup.capture").await.expect("the built-in type");
        let mut spec = serde_json::to_value(built_in.spec).expect("JSON");
        spec.as_object_mut().expect("fields").remove("concurrency");
        let operation = captures.tenant.operation_type("capture", spec).await;
        if copies {
            // Something to lose.
            captures.tenant.start("base", json!({ "type": operation, "inputs": { "repository": "main" } })).await;
            let ended = captures.tenant.completed("base", IN_TIME).await;
            assert_ended(&ended, Outcome::Succeeded, Reason::Succeeded);
        }
        hold_pods(&captures.tenant);
        Self { captures, operation, folder, stand_in: StandIn::new(), copies }
    }

    /// Two attempts at one run, of which the first has the fault. Returns the call that was made to fail.
    pub(crate) async fn play(&self, key: Key) -> Option<String> {
        let tenant = &self.captures.tenant;
        let name = format!("n{}", key.index);
        let map = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "settings" }, "data": { "a": name } });
        tenant.apply(&map.to_string());
        // Each run is another work than the others, and takes the same.
        let selection = json!({ "labelSelector": format!("proof!={name}") });
        let inputs = json!({ "repository": "main", "selection": selection });
        tenant.start(&name, json!({ "type": self.operation, "inputs": inputs })).await;
        let waiting = self.stand_in.take(tenant, &name).await;
        let folder = if self.copies { self.copy() } else { self.folder.clone() };
        let (fired, ended) = self.stand_in.twice(tenant, key, &name, &waiting, &folder).await;
        assert_ended(&ended, Outcome::Succeeded, Reason::Succeeded);
        if self.copies {
            check(&waiting.job, &folder).await;
            let deleted = tenant.api::<OperationRun>().delete(&name, &DeleteParams::default()).await;
            deleted.expect("the run can be deleted");
        } else {
            self.captures.expect(&name, &tenant.run(&name).await);
        }
        fired
    }

    /// The repository as it was before the series.
    fn copy(&self) -> PathBuf {
        let copy = self.stand_in.home().join("copy");
        // There is none before the first trial.
        let _ = std::fs::remove_dir_all(&copy);
        let copied = std::process::Command::new("cp").arg("--recursive").arg(&self.folder).arg(&copy).status();
        assert!(copied.expect("cp can be started").success(), "the repository cannot be copied");
        copy
    }

    /// The pods start; each run has come to its end, and has what its captures stored.
    pub(crate) async fn settle(&self, bench: &Bench) -> Result<(), String> {
        let_pods_start(&self.captures.tenant);
        if self.copies {
            return Ok(());
        }
        // Each finds its run completed, and does nothing.
        let jobs: Api<Job> = self.captures.tenant.api();
        wait_for("all Jobs are finished", ALL_PODS, async || {
            let listed = jobs.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
            let open = listed.items.iter().filter(|job| job_end(job).is_none()).count();
            if open == 0 { Ok(()) } else { Err(format!("{open} Jobs are not")) }
        })
        .await;
        self.captures.mark(bench);
        self.captures.settle(bench).await
    }
}
