//! What runs inside a Job around an operation: one task, one result, one exit code.
//!
//! Every task passes the fence ([`fence`]). For an operation ([`work`]), the worker then reads its
//! inputs, opens the repository ([`open`]) and takes a Lease on it ([`lease`]) if the operation needs
//! one, runs the operation, and leaves a result ([`crate::api::result`]): on the pod's termination message, and, if no retry can
//! change it, on the run ([`tell`]).
//!
//! Exit codes: 0 success, 1 a retry may succeed, 40 a retry cannot succeed, 49 the run is not this
//! Job's to execute.
//!
//! Must not: decide the outcome of a run (the controller does), name an operation, or write anything
//! to a tenant but Leases, the Secret of a new repository ([`password`]), and the progress, result
//! and reports of its run. Whatever else an operation writes is in its folder of `src/operations`.
//! Those folders use this module.

pub mod audit;
pub mod environment;
pub mod failure;
pub mod fence;
pub mod lease;
pub mod open;
pub mod pages;
mod password;
pub mod progress;
pub mod report;
pub mod results;
mod scheduling;
pub mod sets;
pub mod stop;
pub mod tell;
pub mod work;

use crate::{
    api::reason::worker as reason,
    api::{
        execution::{NAMESPACE, RUN, RUN_UID},
        result::{EXIT_PERMANENT, TerminationResult},
    },
    clock::SystemClock,
    cluster::client::{ClientOptions, connect},
    items::redact::redact,
    worker::{
        environment::{Environment, Mounts, RunIdentity},
        failure::Failure,
        lease::{Held, Leases, Use},
        stop::Stop,
        work::{Ending, LeaseNeed, RepositoryNeed, Site, Work},
    },
};
use kube::Client;
use std::{
    path::Path,
    process::ExitCode,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::signal::unix::{SignalKind, signal};

/// Timeout of an API call. It is longer than the API server's own timeout for an aggregated API (60
/// s), so that a kind whose server hangs is reported as such.
const CALL_TIMEOUT: Duration = Duration::from_secs(75);

/// How long an operation with [last words](work::Needs::last_words) may take to finish its current
/// work after a stop signal: less than a pod's default grace period of 30 s.
const LAST_WORDS: Duration = Duration::from_secs(20);

/// How long releasing a Lease may take after a stop signal.
const GIVING_BACK: Duration = Duration::from_secs(5);

/// What a worker is started for.
#[derive(Clone, Copy)]
pub enum Task {
    /// Only the fence, for pods of another image: exit 0 if this Job is still to execute the run, 49
    /// if not.
    Fence,
    /// An operation.
    Work(&'static dyn Work),
}

impl Task {
    fn has_last_words(self) -> bool {
        matches!(self, Self::Work(work) if work.needs().last_words)
    }
}

/// Does a task and returns the exit code of the process. `root` is the directory that contains the
/// mounted paths.
#[must_use]
pub fn run(task: Task, root: &Path) -> ExitCode {
    crate::telemetry::init_logs();
    // Every log line of this thread names the run.
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let span =
        tracing::info_span!("operation", namespace = variable(NAMESPACE), run = variable(RUN), uid = variable(RUN_UID));
    let _entered = span.enter();
    scheduling::be_a_batch_job();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "no runtime");
            return ExitCode::FAILURE;
        }
    };
    let mounts = Mounts::below(root);
    let own = match runtime.block_on(Own::find()) {
        Ok(own) => own,
        Err(failure) => return exit(&conclude(Err(failure), &mounts)),
    };
    let (stop, holding) = (Stop::default(), Holding::default());
    let ended = runtime.block_on(async {
        let mut work = Box::pin(execute(task, &own, &mounts, &stop, &holding));
        let stopped = tokio::select! {
            ended = &mut work => return ended,
            stopped = told_to_stop() => stopped,
        };
        stop.set();
        if task.has_last_words()
            && let Ok(ended) = tokio::time::timeout(LAST_WORDS, &mut work).await
        {
            return ended;
        }
        drop(work);
        // Otherwise maintenance would wait until the Lease expires, as it does if the release
        // fails.
        let _ = tokio::time::timeout(GIVING_BACK, holding.release()).await;
        Err(stopped)
    });
    let ended = conclude(ended, &mounts);
    // A pod that was told to stop is about to be replaced, or its Job is gone: how such a run ends
    // is read from these.
    if let Some(message) = ended.last_word()
        && !stop.is_set()
        && matches!(task, Task::Work(_))
    {
        runtime.block_on(tell::tell(&own.client, &own.identity, ended.code, message));
    }
    // Engine threads are not awaited: what they have not recorded does not exist.
    runtime.shutdown_background();
    exit(&ended)
}

/// Which run and pod a worker belongs to, and its way to the API server.
struct Own {
    identity: RunIdentity,
    client: Client,
}

impl Own {
    async fn find() -> Result<Self, Failure> {
        let identity = RunIdentity::read(&|name| std::env::var(name).ok())?;
        let options = ClientOptions { timeout: CALL_TIMEOUT, ..ClientOptions::default() };
        let client = connect(options)
            .await
            .map_err(|error| Failure::permanent(reason::INVALID_ENVIRONMENT, error.to_string()))?;
        Ok(Self { identity, client })
    }
}

/// Does a task and returns its result. Only the fence has no result.
async fn execute(
    task: Task,
    Own { identity, client }: &Own,
    mounts: &Mounts,
    stop: &Stop,
    holding: &Holding,
) -> Result<Option<TerminationResult>, Failure> {
    let run = fence::pass(client, identity).await?;
    let Task::Work(work) = task else { return Ok(None) };
    let needs = work.needs();
    let environment = Environment::read_for(needs.repository, &|name| std::env::var(name).ok())?;
    let begun = work.begin(&environment)?;
    let site = Site {
        client,
        environment: &environment,
        repository: None,
        run: &run,
        clock: &SystemClock,
        stop,
        permit: None,
    };
    let repository = match needs.repository {
        RepositoryNeed::None => return begun(site).await.map(Some),
        RepositoryNeed::Ready => open::open(&environment, mounts).await?,
        RepositoryNeed::Any => open::open_or_create(client, &environment, mounts).await?,
    };
    // Benchmarks take their time from this line: what follows is the operation's own.
    tracing::info!("opened the repository");
    let leases = Leases::of(client, &environment, &repository);
    let held = match needs.lease {
        LeaseNeed::None | LeaseNeed::Reads => leases.share(Use::Reads).await?,
        LeaseNeed::Writes => leases.share(Use::Writes).await?,
        LeaseNeed::Excludes => leases.exclude().await?,
    };
    let writes = matches!(needs.lease, LeaseNeed::Writes | LeaseNeed::Excludes);
    let site = Site { repository: Some(&repository), permit: writes.then(|| held.permit()), ..site };
    holding.during(held, begun(site)).await.map(Some)
}

/// The held Lease, shared by the two sides that can end the work: its completion and a stop signal.
#[derive(Default)]
struct Holding(Mutex<Option<Held>>);

impl Holding {
    /// Runs an operation while a Lease is held, then releases the Lease.
    async fn during(&self, held: Held, work: Ending<'_>) -> Result<TerminationResult, Failure> {
        *self.held() = Some(held);
        let ended = work.await;
        let is_held = self.held().as_ref().is_some_and(Held::is_held);
        self.release().await;
        ended.map_err(|failure| if is_held { failure } else { failure.seen_without_lease() })
    }

    fn held(&self) -> MutexGuard<'_, Option<Held>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Releases the Lease. After that nothing is written to the store, whatever engine threads
    /// still attempt.
    async fn release(&self) {
        let held = self.held().take();
        if let Some(held) = held {
            held.release().await;
        }
    }
}

/// Resolves when the kubelet (or a person) signals the process to end.
async fn told_to_stop() -> Failure {
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        // Without handlers the signals end the process by themselves.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Failure::transient(
        reason::INTERRUPTED,
        "the pod was told to stop before the work was done; an unfinished snapshot is not recorded",
    )
}

/// How a worker ends: the exit code for Kubernetes, and the result for the controller.
struct End {
    code: i32,
    /// None: the fence let pass.
    message: Option<String>,
}

impl End {
    /// The result, if no retry can change it and the run is this worker's own.
    fn last_word(&self) -> Option<&str> {
        self.message.as_deref().filter(|_| [0, EXIT_PERMANENT].contains(&self.code))
    }
}

fn exit(end: &End) -> ExitCode {
    u8::try_from(end.code).map_or(ExitCode::FAILURE, ExitCode::from)
}

/// Writes the result to the termination message.
fn conclude(ended: Result<Option<TerminationResult>, Failure>, mounts: &Mounts) -> End {
    let (result, code) = match ended {
        Ok(None) => return End { code: 0, message: None },
        Ok(Some(result)) => (result, 0),
        Err(failure) => (failure.to_result(), failure.exit_code()),
    };
    let result = redacted(result);
    let message = result.message.as_deref().unwrap_or_default();
    let reason = result.reason.as_deref().unwrap_or_default();
    if code == 0 {
        tracing::info!(reason, message, "done");
    } else {
        tracing::error!(reason, message, code, "not done");
    }
    let message = result.to_message();
    if let Err(error) = std::fs::write(&mounts.termination_message, &message) {
        tracing::warn!(%error, "the termination message could not be written");
    }
    End { code, message: Some(message) }
}

fn redacted(mut result: TerminationResult) -> TerminationResult {
    result.message = result.message.map(|message| redact(&message).into_owned());
    for failure in &mut result.failures {
        failure.message = redact(&failure.message).into_owned();
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::failure::Retry;

    #[test]
    fn a_failure_leaves_a_redacted_message_and_its_exit_code() {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(directory.path().join("dev")).expect("created");
        let mounts = Mounts::below(directory.path());
        let failure = Failure::permanent("AccessDenied", "https://ada:hunter2@store.example.com said no");
        let end = conclude(Err(failure), &mounts);
        assert_eq!(exit(&end), ExitCode::from(40));
        let message = std::fs::read_to_string(&mounts.termination_message).expect("a message");
        assert!(message.contains("AccessDenied") && message.contains("store.example.com"), "{message}");
        assert!(!message.contains("hunter2"), "{message}");
        assert_eq!(end.last_word(), Some(message.as_str()), "what is told is what is left");
    }

    #[test]
    fn what_a_retry_may_change_is_not_told() {
        let directory = tempfile::tempdir().expect("a directory");
        let mounts = Mounts::below(directory.path());
        let told = |ended| conclude(ended, &mounts).last_word().is_some();
        assert!(told(Ok(Some(TerminationResult::default()))));
        assert!(told(Err(Failure::permanent("A", "a"))) && told(Err(Failure::blocked("A", "a"))));
        assert!(!told(Err(Failure::transient("A", "a"))) && !told(Err(Failure::new("A", "a", Retry::Fenced))));
        assert!(!told(Ok(None)), "the fence has no result");
    }

    #[test]
    fn the_fence_leaves_no_message_when_it_lets_pass() {
        let directory = tempfile::tempdir().expect("a directory");
        let mounts = Mounts::below(directory.path());
        assert_eq!(exit(&conclude(Ok(None), &mounts)), ExitCode::SUCCESS);
        assert!(!mounts.termination_message.exists());
    }
}
