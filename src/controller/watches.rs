//! The leading part of the process: kinds are wired to their caches, queues and reconcilers here. Which
//! objects a change wakes is in [`super::wakes`].

use super::{
    imports,
    wakes::{self, Feeds, JOB_NAME, Queues},
};
use crate::{
    api::{OperationRun, backup_schedule::origin, labels},
    clock::SharedClock,
    kernel::{
        Error,
        cache::Cache,
        events::Events,
        lease::Term,
        name::Name,
        queue::{self, Backlog, Others, Precedence, Requeue},
        slim::Slim,
    },
    kinds::{
        backup_repository, backup_schedule, bulk_operation_run, finding, imported_run, operation_type, restore_run,
        tenant, workspace, workspace_run,
    },
    runs::{
        self,
        children::Children,
        context::{Context, Settings, Taken},
        registry::Registry,
    },
    telemetry::metrics::Metrics,
};
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::{Client, ResourceExt};
use std::{future::Future, sync::Arc, time::Duration};
use tokio::sync::{mpsc, watch};
use tracing::Instrument;

/// Reconciles at once of each kind but runs and schedules.
const FEW: u16 = 4;

/// What the process hands over to its leading part.
pub(super) struct Setup {
    /// The one way to the API server.
    pub(super) client: Client,
    /// The one clock.
    pub(super) clock: SharedClock,
    /// What does not change while the process runs.
    pub(super) settings: Settings,
    /// Which records of other systems are listed.
    pub(super) imports: imports::Imports,
    /// Where events are published.
    pub(super) events: Events,
    /// Counters.
    pub(super) metrics: Metrics,
    /// The most reconciles of runs at once.
    pub(super) concurrency: u16,
    /// While it is current, reconciles may start.
    pub(super) term: Term,
}

/// Watches and reconciles until told to end; then waits for what is in flight.
pub(super) async fn run(setup: Setup, ended: watch::Receiver<bool>) {
    let (concurrency, term) = (setup.concurrency, setup.term.clone());
    let (runs, added_runs) = mpsc::unbounded_channel();
    let (types, added_types) = mpsc::unbounded_channel();
    let (workspaces, added_workspaces) = mpsc::unbounded_channel();
    let (workspace_runs, added_workspace_runs) = mpsc::unbounded_channel();
    let (tenants, added_tenants) = mpsc::unbounded_channel();
    let (repositories, added_repositories) = mpsc::unbounded_channel();
    let (restores, added_restores) = mpsc::unbounded_channel();
    let (bulks, added_bulks) = mpsc::unbounded_channel();
    let (schedules, added_schedules) = mpsc::unbounded_channel();
    let (findings, added_findings) = mpsc::unbounded_channel();
    let (imported, added_imported) = mpsc::unbounded_channel();
    let queues = Queues {
        runs,
        types,
        workspaces,
        workspace_runs,
        tenants,
        repositories,
        restores,
        bulks,
        schedules,
        findings,
        imported,
    };
    let records = Arc::new(setup.imports.records());
    let (context, feeds) = caches(setup, &queues);
    wakes::watch(&context, feeds, &queues, &records);
    imports::watch(&context.client, &records, &queues.imported);
    drop(queues);
    // A decision on half a view could be a wrong one: all caches are filled first.
    tokio::join!(
        context.runs.ready(),
        context.jobs.ready(),
        context.pods.ready(),
        context.types.ready(),
        context.workspaces.ready(),
        context.workspace_runs.ready(),
        context.repositories.ready(),
        context.restores.ready(),
        context.bulks.ready(),
        context.schedules.ready(),
        context.findings.ready(),
        context.approvals.ready(),
        context.imported.ready(),
        context.namespaces.ready(),
        context.accounts.ready(),
        context.bindings.ready()
    );
    tracing::info!(runs = context.runs.len(), tenants = context.namespaces.len(), "caches filled");
    // Schedules go first: their runs are on record before any run is reconciled.
    let due = Backlog::default();
    let controller =
        |concurrency, precedence| Controller { context: &context, concurrency, precedence, ended: &ended, term: &term };
    let few = || controller(FEW, Precedence::None);
    let baselines = Arc::new(finding::Baselines::default());
    let passes = Arc::new(workspace_run::Passes::default());
    let fan_out = move |run, context| workspace_run::reconcile(run, context, passes.clone());
    let judge = move |found, context| finding::reconcile(found, context, baselines.clone());
    let list_record = |name, context| imported_run::reconcile(name, context, records.clone());
    tokio::join!(
        controller(concurrency, Precedence::Second(&due)).run(alone(runs::reconcile), &context.runs, added_runs),
        few().run(alone(operation_type::reconcile), &context.types, added_types),
        few().run(alone(workspace::reconcile), &context.workspaces, added_workspaces),
        few().run(alone(fan_out), &context.workspace_runs, added_workspace_runs),
        few().run(alone(tenant::reconcile), &context.namespaces, added_tenants),
        few().run(alone(backup_repository::reconcile), &context.repositories, added_repositories),
        few().run(alone(restore_run::reconcile), &context.restores, added_restores),
        few().run(alone(bulk_operation_run::reconcile), &context.bulks, added_bulks),
        few().run(alone(judge), &context.findings, added_findings),
        few().run_names(list_record, added_imported),
        controller(concurrency, Precedence::First(&due)).run(
            backup_schedule::reconcile,
            &context.schedules,
            added_schedules
        ),
    );
}

fn caches(setup: Setup, queues: &Queues) -> (Arc<Context>, Feeds) {
    let Setup { client, clock, settings, imports: _, events, metrics, concurrency: _, term: _ } = setup;
    let (runs, run_feed) = Cache::new(|run: &OperationRun| origin(run).map(|origin| origin.schedule));
    let (jobs, job_feed) = Cache::new(|_| None);
    let (pods, pod_feed) = Cache::new(|pod: &Pod| pod.labels().get(JOB_NAME).cloned());
    let (types, type_feed) = Cache::new(|_| None);
    let (workspaces, workspace_feed) = Cache::new(|_| None);
    let (workspace_runs, workspace_run_feed) = Cache::new(|_| None);
    let (repositories, repository_feed) = Cache::new(|_| None);
    let (restores, restore_feed) = Cache::new(|_| None);
    let (bulks, bulk_feed) = Cache::new(|_| None);
    let (schedules, schedule_feed) = Cache::new(|_| None);
    let (findings, finding_feed) = Cache::new(|_| None);
    let (approvals, approval_feed) = Cache::new(|_| None);
    let (imported, imported_feed) = Cache::new(|_| None);
    let (namespaces, namespace_feed) =
        Cache::new(|namespace: &Namespace| namespace.labels().get(labels::WORKSPACE).cloned());
    let (accounts, account_feed) = Cache::new(|_| None);
    let (bindings, binding_feed) = Cache::new(|_| None);
    let context = Context {
        client,
        clock,
        settings,
        runs,
        jobs,
        pods,
        types,
        workspaces,
        workspace_runs,
        repositories,
        restores,
        bulks,
        schedules,
        findings,
        approvals,
        imported,
        namespaces,
        accounts,
        bindings,
        registry: Registry::default(),
        children: Children::default(),
        taken: Taken::default(),
        events,
        metrics,
        queue: queues.runs.clone(),
    };
    let feeds = Feeds {
        runs: run_feed,
        jobs: job_feed,
        pods: pod_feed,
        types: type_feed,
        workspaces: workspace_feed,
        workspace_runs: workspace_run_feed,
        repositories: repository_feed,
        restores: restore_feed,
        bulks: bulk_feed,
        schedules: schedule_feed,
        findings: finding_feed,
        approvals: approval_feed,
        imported: imported_feed,
        namespaces: namespace_feed,
        accounts: account_feed,
        bindings: binding_feed,
    };
    (Arc::new(context), feeds)
}

/// Reconciles the objects of one kind.
struct Controller<'a> {
    context: &'a Arc<Context>,
    concurrency: u16,
    precedence: Precedence<'a>,
    ended: &'a watch::Receiver<bool>,
    term: &'a Term,
}

impl Controller<'_> {
    /// Reconciles what is added until told to end.
    async fn run<K, R>(
        self,
        mut reconcile: impl FnMut(Arc<K>, Arc<Context>, Others) -> R,
        cache: &Cache<K>,
        added: mpsc::UnboundedReceiver<Name<K>>,
    ) where
        K: Slim,
        R: Future<Output = Result<Requeue, Error>>,
    {
        let start = |reference: Name<K>, others: Others| {
            // The process is about to end, and the next leader reconciles everything.
            if !self.term.is_current() {
                tracing::warn!(object = %reference, "not reconciled: the Lease was not renewed in time");
                return None;
            }
            let object = cache.get(reference.namespace(), reference.name())?;
            let context = self.context.clone();
            // Each line that a reconcile logs says of which object.
            let namespace = object.namespace().unwrap_or_default();
            let span = tracing::info_span!(
                "reconcile",
                kind = %K::kind(&()),
                namespace,
                name = object.name_any(),
                uid = object.uid()
            );
            let pass = reconcile(object, context.clone(), others);
            Some(async move { ended(pass.await, &context) }.instrument(span))
        };
        let concurrency = usize::from(self.concurrency);
        queue::run(added, concurrency, self.precedence, self.ended.clone(), namespace_of, start).await;
    }
}

impl Controller<'_> {
    /// The same for names, whether or not there is an object of a name.
    async fn run_names<K, R>(
        self,
        mut reconcile: impl FnMut(Name<K>, Arc<Context>) -> R,
        added: mpsc::UnboundedReceiver<Name<K>>,
    ) where
        K: Slim,
        R: Future<Output = Result<Option<Duration>, Error>>,
    {
        let start = |name: Name<K>, _: Others| {
            if !self.term.is_current() {
                tracing::warn!(object = %name, "not reconciled: the Lease was not renewed in time");
                return None;
            }
            let span = tracing::info_span!(
                "reconcile",
                kind = %K::kind(&()),
                namespace = name.namespace(),
                name = name.name()
            );
            let context = self.context.clone();
            let pass = reconcile(name, context.clone());
            Some(async move { ended(pass.await.map(Requeue::from), &context) }.instrument(span))
        };
        let concurrency = usize::from(self.concurrency);
        queue::run(added, concurrency, self.precedence, self.ended.clone(), namespace_of, start).await;
    }
}

/// When an object is reconciled again, by how its pass ended.
fn ended(pass: Result<Requeue, Error>, context: &Context) -> Requeue {
    pass.unwrap_or_else(|error| {
        if !matches!(error, Error::Again(_)) {
            context.metrics.pass_failed();
            tracing::warn!(%error, "reconcile failed; it is retried");
        }
        Requeue::Retry(error.class(), error.retry_after().unwrap_or_default())
    })
}

/// The namespace whose turn an object takes. A namespace takes its own.
fn namespace_of<K>(reference: &Name<K>) -> String {
    Some(reference.namespace()).filter(|namespace| !namespace.is_empty()).unwrap_or_else(|| reference.name()).to_owned()
}

/// A reconciler that does the same whether others wait or not.
fn alone<K, R>(
    mut reconcile: impl FnMut(Arc<K>, Arc<Context>) -> R,
) -> impl FnMut(Arc<K>, Arc<Context>, Others) -> BoxFuture<'static, Result<Requeue, Error>>
where
    R: Future<Output = Result<Option<Duration>, Error>> + Send + 'static,
{
    move |object, context, _| {
        let pass = reconcile(object, context);
        Box::pin(async move { pass.await.map(Requeue::from) })
    }
}
