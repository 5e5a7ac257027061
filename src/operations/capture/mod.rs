//! `tenantatlas worker capture`: captures a tenant's objects into its repository, as one snapshot
//! per run.
//!
//! Steps, and what a crash in each of them leaves behind:
//! 1. Open the repository: nothing.
//! 2. Look for the run's snapshot. If an earlier attempt recorded it, only its result is reported
//!    again.
//! 3. Stream the objects: packs without a snapshot, which the next capture reuses and maintenance
//!    removes.
//! 4. Record the snapshot and read it back: the snapshot, which step 2 of the next attempt finds.
//! 5. Write the reports and report the result: reports, which the next attempt finds and takes
//!    over.

pub mod collect;
pub mod form;
pub mod known;
pub mod omission;
mod records;
pub mod scope;

use crate::{
    api::reason::item as item_reason,
    api::reason::worker as reason,
    api::{
        OperationRun, Outcome, Reason,
        backup_set::Content,
        operations::CaptureInputs,
        outcome::{FailureType, ItemFailure, MAX_FAILURES, SummaryCounts},
        result::{CapturedSnapshot, ResultContext, TerminationResult},
    },
    clock::Clock,
    items::skip::SkipReason,
    operations::capture::{
        collect::{Collected, Collector, Stopped},
        form::{Form, Objects},
        known::{Held, Marks},
        omission::{Note, incomplete, is_note},
        scope::Scope,
    },
    providers::{Provider, bounded::Bounded, catalog::Catalog, kubernetes::Kubernetes},
    repository::{CaptureOptions, CaptureSummary, Error, Item, ItemPath, Repository, Snapshot, WriterPermit, entries},
    worker::{
        audit,
        environment::{Environment, RunIdentity},
        failure::{Failure, Retry, call_failure},
        open::key_secrets,
        progress::Progress,
        report,
        work::{Begun, LeaseNeed, Needs, RepositoryNeed, Site, Work, begun},
    },
};
use kube::Client;
use std::{collections::BTreeMap, fmt::Write as _};

/// Captures the tenant's objects.
pub struct Capture;

impl Work for Capture {
    fn needs(&self) -> Needs {
        Needs { repository: RepositoryNeed::Ready, lease: LeaseNeed::Writes, last_words: false }
    }

    fn begin(&self, environment: &Environment) -> Result<Begun, Failure> {
        Asked::read(environment)?;
        Ok(begun(|site: Site<'_>| {
            Box::pin(async move {
                let permit = site.permit()?;
                capture(site.client, site.environment, site.repository()?, site.run, site.clock, permit).await
            })
        }))
    }
}

/// How many kinds a message names per reason.
const MAX_SKIPPED_KINDS: usize = 8;

/// Captures the scope given by the environment into a repository. `run` is the run as read by the
/// fence.
pub async fn capture(
    client: &Client,
    environment: &Environment,
    repository: &impl Repository,
    run: &OperationRun,
    clock: &dyn Clock,
    permit: WriterPermit,
) -> Result<TerminationResult, Failure> {
    let provider = Kubernetes::new(client, environment.identity.namespace.clone());
    capture_from(&provider, client, environment, repository, run, clock, permit).await
}

/// The same from any provider. `client` reaches the run and its records.
pub async fn capture_from(
    provider: &dyn Provider,
    client: &Client,
    environment: &Environment,
    repository: &impl Repository,
    run: &OperationRun,
    clock: &dyn Clock,
    permit: WriterPermit,
) -> Result<TerminationResult, Failure> {
    let Asked { scope, read_all } = Asked::read(environment)?;
    // A scope of one object has no key of its own, and nothing to gain.
    let marks = if scope.target.is_none() {
        Some(Marks::find(repository, &scope.names.scope_key(), read_all).await)
    } else {
        None
    };
    capture_marked(provider, client, (environment, &scope, marks.as_ref()), repository, run, clock, permit).await
}

/// The same of any scope. Everything is read.
pub async fn capture_scope(
    provider: &dyn Provider,
    client: &Client,
    (environment, scope): (&Environment, &Scope),
    repository: &impl Repository,
    run: &OperationRun,
    clock: &dyn Clock,
    permit: WriterPermit,
) -> Result<TerminationResult, Failure> {
    capture_marked(provider, client, (environment, scope, None), repository, run, clock, permit).await
}

async fn capture_marked(
    provider: &dyn Provider,
    client: &Client,
    (environment, scope, marks): (&Environment, &Scope, Option<&Marks>),
    repository: &impl Repository,
    run: &OperationRun,
    clock: &dyn Clock,
    permit: WriterPermit,
) -> Result<TerminationResult, Failure> {
    let provider = Bounded::new(provider);
    let options = options(client, environment, Vec::new(), clock, permit).await?;
    let captured = if let Some(snapshot) = find_earlier(repository, &options).await? {
        let items = repository.list(&snapshot.id).await?;
        let earlier = of_an_earlier_attempt(repository, snapshot, &items, counted(&items), run).await?;
        Progress::of(client.clone(), &environment.identity).finish(earlier.counts).await;
        earlier
    } else {
        let catalog = catalog(&provider, scope).await?;
        take(&provider, client, environment, (scope, &mut Objects, marks), &catalog, repository, &options).await?
    };
    let result = captured.to_result(Content::Objects);
    captured.write_reports(client, &environment.identity, &result).await?;
    Ok(result)
}

/// How to record the snapshot of a run.
pub async fn options(
    client: &Client,
    environment: &Environment,
    tags: Vec<String>,
    clock: &dyn Clock,
    permit: WriterPermit,
) -> Result<CaptureOptions, Failure> {
    let identity = &environment.identity;
    Ok(CaptureOptions {
        run_uid: identity.run_uid.clone(),
        host: identity.namespace.clone(),
        tags: environment.snapshot_tags().into_iter().chain(tags).collect(),
        audit: audit::tip(client, &identity.namespace).await?.as_ref().map(ToString::to_string),
        time: clock.now(),
        permit,
    })
}

/// What the provider holds, if the scope fits it.
pub async fn catalog(provider: &dyn Provider, scope: &Scope) -> Result<Catalog, Failure> {
    let catalog = provider.catalog().await;
    let catalog = catalog.map_err(|fault| call_failure("discover what the cluster serves", &fault))?;
    scope.check(&catalog)?;
    Ok(catalog)
}

/// What is asked for.
pub struct Asked {
    /// What to capture.
    pub scope: Scope,
    /// Whether to read objects whose metadata did not change.
    pub read_all: bool,
}

impl Asked {
    /// Reads the inputs. Call this before anything is opened, so that bad inputs fail fast.
    pub fn read(environment: &Environment) -> Result<Self, Failure> {
        let CaptureInputs { repository, selection, read_all } = environment.inputs()?;
        environment.expect_repository(&repository)?;
        Ok(Self { scope: Scope::new(selection, environment.target.as_ref())?, read_all })
    }
}

/// How many of the kinds that workers may not read are named in a run's message.
const NAMED_KINDS: usize = 3;

/// Result of a capture, by this attempt or an earlier one.
#[derive(Clone, Debug, PartialEq)]
pub struct Captured {
    /// Id of the snapshot.
    pub snapshot: String,
    /// Item counts, which add up.
    pub counts: SummaryCounts,
    /// Captured items by kind.
    pub items_by_kind: BTreeMap<String, i64>,
    /// Size of what is stored of them, in bytes.
    pub bytes: i64,
    /// Number of bytes added to the store.
    pub added_bytes: i64,
    /// What was left out.
    pub note: Note,
    /// Additional remarks for the message.
    pub remarks: Vec<String>,
}

/// Captures what is in scope, in a form.
pub async fn take(
    provider: &dyn Provider,
    client: &Client,
    environment: &Environment,
    (scope, form, marks): (&Scope, &mut dyn Form, Option<&Marks>),
    catalog: &Catalog,
    repository: &impl Repository,
    options: &CaptureOptions,
) -> Result<Captured, Failure> {
    let identity = &environment.identity;
    // Only the Secrets of this repository are skipped. Otherwise a user who may name a Secret in a
    // BackupRepository could keep it out of every backup.
    let keys = key_secrets(&environment.repository_spec);
    let steps = scope.plan(catalog);
    tracing::info!(kinds = steps.len(), "capturing");
    let without = marks.map(Marks::without_earlier);
    let (marks, held) = match marks.map(|marks| (marks, marks.snapshot())) {
        None => (None, None),
        Some((marks, None)) => (Some(marks), None),
        Some((marks, Some(snapshot))) => match Held::open(repository, snapshot).await {
            Ok(held) => (Some(marks), Some(held)),
            Err(error) => {
                tracing::info!(%error, "the last snapshot cannot be read: everything is read");
                (without.as_ref(), None)
            }
        },
    };
    let mut attempt = async |marks, held| {
        let progress = Progress::of(client.clone(), identity);
        let (sender, receiver) = entries();
        let collector =
            Collector::new(provider, (client, identity), (scope, &mut *form), (marks, held), &keys, progress, sender);
        tokio::join!(collector.collect(steps.clone()), repository.capture(receiver, options.clone()))
    };
    let (mut collected, mut summary) = attempt(marks, held.as_ref()).await;
    let not_kept = matches!(collected, Err(Stopped::NotKept)) || matches!(summary, Err(Error::Damaged { .. }));
    let marks = if held.is_some() && not_kept {
        tracing::info!("the last capture does not have what it recorded: everything is read");
        (collected, summary) = attempt(without.as_ref(), None).await;
        without.as_ref()
    } else {
        marks
    };
    if let (Some(marks), Ok(collected), Ok(summary)) = (marks, &collected, &summary) {
        let scope_key = scope.names.scope_key();
        let place = (scope_key.as_str(), summary.snapshot.id.as_str());
        marks.record(repository, place, &collected.marks, collected.kept).await;
    }
    match (collected, summary) {
        // Report why the capture was aborted, not that it was.
        (Err(Stopped::Failed(failure)), _) => Err(failure),
        (_, Err(error)) => Err(error.into()),
        (Err(Stopped::NotKept), Ok(_)) => {
            let message = "an object that is to be as in an earlier snapshot is not in it, although everything is read";
            Err(Failure::permanent(reason::INTERNAL, message))
        }
        (Ok(collected), Ok(summary)) => Ok(of_this_attempt(collected, summary)),
        (Err(Stopped::CaptureEnded), Ok(_)) => Err(Failure::transient(
            reason::INTERRUPTED,
            "another pod of this run captured at the same time: its snapshot is found when this is tried again",
        )),
    }
}

fn of_this_attempt(collected: Collected, summary: CaptureSummary) -> Captured {
    let mut remarks = Vec::new();
    if !collected.skipped.is_empty() {
        let reasons: Vec<_> = collected.skipped.iter().map(|(why, kinds)| skipped(*why, kinds)).collect();
        remarks.push(format!("skipped: {}", reasons.join(", ")));
    }
    if collected.kept > 0 {
        remarks.push(format!("{} were not read, because their metadata has not changed", collected.kept));
    }
    if summary.unchanged {
        remarks.push("nothing changed since the snapshot before".to_owned());
    }
    if summary.lost_packs > 0 {
        remarks.push(format!(
            "the store lost {} packs: older backup sets may be damaged, run repository.check",
            summary.lost_packs
        ));
    }
    Captured {
        snapshot: summary.snapshot.id,
        counts: collected.counts,
        items_by_kind: collected.items_by_kind,
        bytes: collected.bytes,
        added_bytes: signed(summary.snapshot.added_bytes),
        note: collected.note,
        remarks,
    }
}

/// Counts per kind of items skipped for one reason, such as
/// `3 ControllerOwned (2 Pod, 1 ReplicaSet.apps)`.
fn skipped(why: SkipReason, kinds: &BTreeMap<String, i64>) -> String {
    let total: i64 = kinds.values().sum();
    let mut named: Vec<_> =
        kinds.iter().take(MAX_SKIPPED_KINDS).map(|(kind, count)| format!("{count} {kind}")).collect();
    if kinds.len() > MAX_SKIPPED_KINDS {
        named.push("…".to_owned());
    }
    format!("{total} {} ({})", why.code(), named.join(", "))
}

/// The snapshot that an earlier attempt of the run recorded.
pub async fn find_earlier(repository: &impl Repository, options: &CaptureOptions) -> Result<Option<Snapshot>, Failure> {
    if repository.find_snapshot(&options.run_uid).await?.is_none() {
        return Ok(None);
    }
    // That attempt may have crashed before it read the snapshot back. An empty capture reads it
    // back, and removes a damaged snapshot.
    let (sender, receiver) = entries();
    drop(sender);
    let snapshot = match repository.capture(receiver, options.clone()).await {
        Ok(summary) => summary.snapshot,
        Err(error) if error.reason() == reason::INTERRUPTED => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    tracing::info!(snapshot = snapshot.id, "an earlier attempt recorded the snapshot of this run");
    Ok(Some(snapshot))
}

/// Items of a snapshot by kind, and the size of what is stored of them.
pub type Counted = (BTreeMap<String, i64>, i64);

fn counted(items: &[Item]) -> Counted {
    let mut items_by_kind = BTreeMap::new();
    let mut bytes = 0;
    for item in items.iter().filter(|item| !is_note(&item.path)) {
        *items_by_kind.entry(kind_of(&item.path)).or_default() += 1;
        bytes += signed(item.size);
    }
    (items_by_kind, bytes)
}

/// Restores the result from the snapshot, which records its items and failures. Items skipped
/// without a note are counted only in the run's status, which is used if it agrees with the
/// snapshot.
pub async fn of_an_earlier_attempt(
    repository: &impl Repository,
    snapshot: Snapshot,
    items: &[Item],
    (items_by_kind, bytes): Counted,
    run: &OperationRun,
) -> Result<Captured, Failure> {
    let notes = items.iter().map(|item| &item.path).filter(|path| is_note(path)).cloned().collect();
    let mut note = Note::default();
    for content in repository.read(&snapshot.id, notes).await? {
        note.absorb(Note::from_content(&content));
    }
    let shown = run.status.as_ref().and_then(|status| status.summary_counts);
    let succeeded = items_by_kind.values().sum();
    let skipped = shown
        .filter(|shown| shown.add_up() && (shown.succeeded, shown.failed) == (succeeded, note.failed))
        .map_or(note.skipped, |shown| shown.skipped.max(note.skipped));
    let processed = succeeded + note.failed + skipped;
    Ok(Captured {
        counts: SummaryCounts { total: processed, processed, succeeded, failed: note.failed, skipped },
        items_by_kind,
        bytes,
        added_bytes: signed(snapshot.added_bytes),
        snapshot: snapshot.id,
        note,
        remarks: vec!["recorded by an earlier attempt of this run".to_owned()],
    })
}

/// `Kind.group` of a path `group/version/Kind/name.json`.
#[must_use]
pub fn kind_of(path: &ItemPath) -> String {
    let mut segments = path.as_str().split('/');
    let group = segments.next().filter(|group| *group != "core").unwrap_or_default();
    let kind = segments.nth(1).unwrap_or_default();
    crate::api::item::GroupKind::new(group, kind).to_string()
}

impl Captured {
    /// The result of the run.
    #[must_use]
    pub fn to_result(&self, content: Content) -> TerminationResult {
        let counts = self.counts;
        let (outcome, reason) = if counts.failed == 0 {
            (Outcome::Succeeded, Reason::Succeeded)
        } else {
            (Outcome::PartiallySucceeded, Reason::PartiallySucceeded)
        };
        let mut failures: Vec<ItemFailure> = self.note.items.clone();
        failures.sort_by_key(|item| item.failure_type != FailureType::Failure);
        let failures_truncated = failures.len() > MAX_FAILURES || self.note.unnamed() > 0;
        failures.truncate(MAX_FAILURES);
        TerminationResult {
            outcome: Some(outcome),
            reason: Some(reason.to_string()),
            message: Some(self.message(content)),
            summary_counts: Some(counts),
            failures,
            failures_truncated,
            context: ResultContext {
                snapshot: Some(CapturedSnapshot {
                    id: self.snapshot.clone(),
                    content,
                    items: counts.succeeded,
                    bytes: self.bytes,
                    added_bytes: self.added_bytes,
                    items_by_kind: self.items_by_kind.clone(),
                    incomplete: incomplete(&self.note),
                    incomplete_truncated: self.note.unnamed() > 0,
                }),
                ..ResultContext::default()
            },
        }
    }

    fn message(&self, content: Content) -> String {
        let done = match content {
            Content::Objects => "captured",
            Content::Inventory => "recorded",
        };
        let mut message = format!(
            "{done} {} items of {} kinds, {} ({} new)",
            self.counts.succeeded,
            self.items_by_kind.len(),
            human_bytes(self.bytes),
            human_bytes(self.added_bytes)
        );
        if self.counts.failed > 0 {
            // Writing to a String cannot fail.
            let _ = write!(message, "; {} failed: see failures", self.counts.failed);
        }
        for remark in &self.remarks {
            let _ = write!(message, "; {remark}");
        }
        let unread = self.note.items.iter().filter(|item| item.reason_code == item_reason::KIND_NOT_READABLE);
        let unread: Vec<&str> = unread.map(|item| item.item_id.trim_end_matches('/')).collect();
        if !unread.is_empty() {
            let named = unread.iter().take(NAMED_KINDS).copied().collect::<Vec<_>>().join(", ");
            let _ = write!(
                message,
                "; left out {} kinds that the platform has not let workers read, such as {named}: see failures",
                unread.len()
            );
        }
        message
    }

    /// Writes the reports of what was left out, if the result does not name all of it.
    pub async fn write_reports(
        &self,
        client: &Client,
        identity: &RunIdentity,
        result: &TerminationResult,
    ) -> Result<(), Failure> {
        if !result.failures_truncated {
            return Ok(());
        }
        tell(client, identity, report::Contents::Failures(&self.note.items)).await
    }
}

/// Writes reports of a snapshot that is recorded. It is not lost by that: a refusal is logged, a
/// transient failure is returned and retried.
pub async fn tell(client: &Client, identity: &RunIdentity, contents: report::Contents<'_>) -> Result<(), Failure> {
    match report::write(client, identity, contents).await {
        Err(failure) if failure.retry == Retry::Permanent => {
            tracing::warn!(%failure, "the reports were refused");
            Ok(())
        }
        written => written,
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[allow(clippy::cast_precision_loss, reason = "for people")]
fn human_bytes(bytes: i64) -> String {
    match bytes {
        ..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}
