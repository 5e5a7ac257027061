//! Reads a tenant's objects and sends them to a capture one by one, counting each.
//!
//! An object or kind that cannot be read is a failed item, and the rest continues as long as the
//! API server itself responds. Memory use stays flat: one page of a list, the current object, and
//! notes about failures.

use crate::{
    api::reason::item as item_reason,
    api::reason::worker as reason,
    api::{
        inventory::Completeness,
        item::{GroupKind, ItemId},
        outcome::{FailureType, ItemFailure, SummaryCounts},
    },
    items::{
        mark::Known,
        served::ServedKind,
        skip::{ItemRules, SkipReason},
        words::is_secret,
    },
    operations::capture::{
        form::Form,
        known::{Files, Held, Marks, Recorded, directory},
        omission::{Note, completeness},
        scope::{Scope, Step, Work, failed, kind_left_out},
    },
    providers::{
        Marked, Provider,
        call::{BrokenItem, Object},
        fault::Fault,
    },
    repository::{self, CaptureEnded, Entry, EntrySender, ItemPath, Kept},
    worker::{
        environment::RunIdentity,
        failure::{Failure, call_failure},
        fence,
        progress::Progress,
    },
};
use jiff::Timestamp;
use kube::Client;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// What was collected and what was left out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Collected {
    /// Item counts, which add up.
    pub counts: SummaryCounts,
    /// Captured items by kind.
    pub items_by_kind: BTreeMap<String, i64>,
    /// Size of what is stored of the captured items, in bytes.
    pub bytes: i64,
    /// Skipped items by reason and kind.
    pub skipped: BTreeMap<SkipReason, BTreeMap<String, i64>>,
    /// Failed items, and skipped items that are worth reporting.
    pub note: Note,
    /// Number of notes captured in addition to the items.
    pub notes: i64,
    /// Number of captured items that were not read.
    pub kept: i64,
    /// Marks of the captured items.
    pub marks: Recorded,
}

/// Why collecting stopped.
#[derive(Clone, Debug, PartialEq)]
pub enum Stopped {
    /// The capture accepts no more entries. Its own result has the reason.
    CaptureEnded,
    /// An earlier snapshot does not have an item that is known by its mark.
    NotKept,
    /// The work cannot continue.
    Failed(Failure),
}

impl From<CaptureEnded> for Stopped {
    fn from(_: CaptureEnded) -> Self {
        Self::CaptureEnded
    }
}

impl From<Failure> for Stopped {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// Collects the objects in scope and sends them to a capture.
pub struct Collector<'a> {
    provider: &'a dyn Provider,
    client: &'a Client,
    run: &'a RunIdentity,
    scope: &'a Scope,
    form: &'a mut dyn Form,
    rules: ItemRules,
    /// How items that did not change are recognized, if the form keeps them.
    marks: Option<&'a Marks>,
    /// The snapshot that has what is known by its mark.
    held: Option<&'a Held>,
    /// Secrets that open the repository, each with the data keys used for that.
    keys: &'a BTreeMap<String, BTreeSet<String>>,
    progress: Progress,
    sender: EntrySender,
    collected: Collected,
    /// Requested names that have not been found yet.
    missing: BTreeSet<&'a str>,
    /// Notes that sort after kinds still to be listed: `Kind-a` sorts between `Kind` and its note.
    notes: BTreeMap<ItemPath, Entry>,
    /// Groups whose server has failed. Each further kind of these groups is listed without retries.
    troubled: BTreeSet<String>,
}

impl<'a> Collector<'a> {
    /// Creates a collector that sends entries to `sender`. The client reaches the run.
    #[must_use]
    pub fn new(
        provider: &'a dyn Provider,
        (client, run): (&'a Client, &'a RunIdentity),
        (scope, form): (&'a Scope, &'a mut dyn Form),
        (marks, held): (Option<&'a Marks>, Option<&'a Held>),
        keys: &'a BTreeMap<String, BTreeSet<String>>,
        progress: Progress,
        sender: EntrySender,
    ) -> Self {
        let rules = ItemRules { repository_secrets: keys.keys().cloned().collect() };
        let asked_for = scope.names.include_names.iter().filter(|name| scope.names.takes_name(name));
        let missing = asked_for.filter(|_| scope.target.is_none()).map(String::as_str).collect();
        let (collected, notes, troubled) = (Collected::default(), BTreeMap::new(), BTreeSet::new());
        Self {
            provider,
            client,
            run,
            scope,
            form,
            rules,
            marks,
            held,
            keys,
            progress,
            sender,
            collected,
            missing,
            notes,
            troubled,
        }
    }

    /// Runs all steps and finishes the capture. If it returns an error or never returns, nothing is
    /// captured.
    pub async fn collect(mut self, mut steps: Vec<Step>) -> Result<Collected, Stopped> {
        let suffix = self.form.suffix();
        steps.sort_by_cached_key(|step| step.place.directory(suffix));
        let last = steps.len().saturating_sub(1);
        for (number, step) in steps.into_iter().enumerate() {
            let mut note = Note::default();
            let is_listed = step.work == Work::List;
            match step.work {
                Work::List => {
                    self.offer_notes(Some(&step.place)).await?;
                    self.list(&step.place, &mut note).await?;
                }
                Work::Note(item) => self.leave(&mut note, item),
            }
            if number == last {
                self.leave_missing(&mut note);
            }
            if is_listed || completeness(&note).0 != Completeness::Complete {
                self.end(&step.place, &note).await?;
            }
            if !note.is_empty() {
                let entry = note
                    .to_entry(&step.place.group, &step.place.version, &step.place.kind)
                    .map_err(|error| Failure::permanent(reason::INTERNAL, error.to_string()))?;
                self.notes.insert(entry.path.clone(), entry);
                self.collected.notes += 1;
                self.collected.note.absorb(note);
            }
        }
        self.offer_notes(None).await?;
        self.expect_something()?;
        // Written before the snapshot: an attempt that finds the snapshot of a crashed attempt
        // reads the number of skipped items from the run's status.
        self.progress.finish(self.collected.counts).await;
        self.sender.finish().await?;
        Ok(self.collected)
    }

    /// Sends what the form has left to store of a kind.
    async fn end(&mut self, kind: &ServedKind, note: &Note) -> Result<(), Stopped> {
        let ended = self.form.end(kind, note);
        for entry in ended.map_err(|error| Failure::permanent(reason::INTERNAL, error.to_string()))? {
            self.offer_notes(Some(kind)).await?;
            self.offer(entry).await?;
        }
        Ok(())
    }

    async fn offer(&mut self, entry: Entry) -> Result<(), Stopped> {
        self.count_bytes(entry.content.len() as u64);
        Ok(self.sender.offer(entry).await?)
    }

    /// Sends the notes that sort before a kind, or all notes.
    async fn offer_notes(&mut self, before: Option<&ServedKind>) -> Result<(), Stopped> {
        let suffix = self.form.suffix();
        while let Some(first) = self.notes.first_entry() {
            if before.is_some_and(|kind| !lies_before(first.key(), kind, suffix)) {
                break;
            }
            let entry = first.remove();
            self.sender.offer(entry).await?;
        }
        Ok(())
    }

    /// Records the requested names that no listed kind had.
    fn leave_missing(&mut self, note: &mut Note) {
        for name in std::mem::take(&mut self.missing) {
            let with_labels = if self.scope.list.label_selector.is_some() { " with these labels" } else { "" };
            let message = format!(
                "correct {}: no object of the kinds asked for has this name{with_labels}",
                self.scope.asked.names
            );
            self.leave(note, failed(&self.scope.item_of(name), item_reason::NOT_FOUND, &message).1);
        }
    }

    /// Fails if nothing was captured although items failed or objects were expected. No snapshot is
    /// better than an empty one.
    fn expect_something(&self) -> Result<(), Failure> {
        let counts = &self.collected.counts;
        if let Some(target) = self.scope.target.as_ref().filter(|_| counts.succeeded == 0) {
            return Err(match self.collected.note.items.first() {
                None => Failure::permanent(
                    reason::TARGET_NOT_FOUND,
                    format!(
                        "the target {target} does not exist in {}, or is of what is never captured",
                        self.run.namespace
                    ),
                ),
                Some(item) => Failure::permanent(
                    reason::TARGET_NOT_CAPTURED,
                    format!("the target {target} was not captured: {}: {}", item.reason_code, item.message),
                ),
            });
        }
        if counts.succeeded == 0 && counts.failed == 0 && self.scope.expects_objects() {
            let left_out = match counts.skipped {
                0 => String::new(),
                skipped => format!(" ({skipped} objects that match are left out)"),
            };
            return Err(Failure::permanent(
                reason::NOTHING_SELECTED,
                format!(
                    "correct {}: nothing in {} that would be captured matches it{left_out}, and an empty backup set would pass for a backup",
                    self.scope.asked.selection, self.run.namespace
                ),
            ));
        }
        if counts.succeeded > 0 || counts.failed == 0 {
            return Ok(());
        }
        let items = &self.collected.note.items;
        let first = items.first().map_or(String::new(), |item| format!("; first {}: {}", item.item_id, item.message));
        let message = format!("none of {} items could be captured{first}", counts.failed);
        Err(if items.iter().any(|item| item.reason_code == item_reason::UNLISTABLE) {
            Failure::transient(reason::NOTHING_CAPTURED, message)
        } else {
            Failure::permanent(reason::NOTHING_CAPTURED, message)
        })
    }

    async fn list(&mut self, kind: &ServedKind, note: &mut Note) -> Result<(), Stopped> {
        let (provider, scope) = (self.provider, self.scope);
        let known = self.known(kind);
        let files = match self.held {
            Some(held) if !known.is_empty() => held.files(kind).await.map_err(|error| not_kept(kind, &error))?,
            _ => Files::default(),
        };
        let mut listing = provider.list_marked(kind, &scope.list, self.marks.map(|marks| (&marks.key, &known)));
        if self.troubled.contains(&kind.group) {
            listing.fail_at_once();
        }
        let group_kind = kind.group_kind();
        let mut marks = Vec::new();
        loop {
            match listing.next().await {
                Ok(None) => break,
                Ok(Some(Marked::Known { name, mark, created })) => {
                    if scope.names.takes_name(&name) {
                        self.missing.remove(name.as_str());
                        self.keep((kind, &group_kind), &files, &name, created).await?;
                        marks.push(mark);
                    }
                }
                Ok(Some(Marked::Read(Ok(object), mark))) => {
                    if scope.names.takes_name(&object.name) {
                        self.missing.remove(object.name.as_str());
                        if self.take(kind, &group_kind, object, note).await? {
                            marks.extend(mark);
                        }
                    }
                }
                Ok(Some(Marked::Read(Err(BrokenItem { name, problem }), _))) => {
                    self.missing.remove(name.as_str());
                    let message = format!("{problem}: look at it with `kubectl get {} -o yaml`", kind.plural);
                    let id = ItemId::new(group_kind.clone(), name);
                    self.leave(note, failed(&id, item_reason::UNREADABLE, &message).1);
                }
                Err(fault) => {
                    self.unlistable(kind, &fault, note).await?;
                    break;
                }
            }
            let remaining = if scope.takes_all_names() { listing.remaining() } else { 0 };
            self.show(i64::try_from(remaining).unwrap_or(0));
        }
        if !marks.is_empty() {
            self.collected.marks.insert(directory(kind), marks);
        }
        Ok(())
    }

    /// The objects of a kind that need not be read.
    fn known(&self, kind: &ServedKind) -> Known {
        // Whether these are captured depends on what they hold.
        let keys = if is_secret(&ItemId::new(kind.group_kind(), "")) { Some(self.keys) } else { None };
        let except = keys.into_iter().flatten().map(|(name, _)| name.clone()).collect();
        self.marks.map(|marks| marks.known(kind, except)).unwrap_or_default()
    }

    /// Captures an object as an earlier snapshot has it.
    async fn keep(
        &mut self,
        (kind, group_kind): (&ServedKind, &GroupKind),
        files: &Files,
        name: &str,
        created: Timestamp,
    ) -> Result<(), Stopped> {
        let path = ItemPath::new(&kind.group, &kind.version, &kind.kind, name).map_err(|_| Stopped::NotKept)?;
        let file = files.find(&path).ok_or(Stopped::NotKept)?.clone();
        self.count_bytes(file.size);
        self.collected.kept += 1;
        self.sender.keep(Kept { file, mtime: created }).await?;
        self.captured(group_kind);
        Ok(())
    }

    /// Counts what is stored of an item. Sizes in a repository are untrusted.
    fn count_bytes(&mut self, size: u64) {
        let size = i64::try_from(size).unwrap_or(i64::MAX);
        self.collected.bytes = self.collected.bytes.saturating_add(size);
    }

    /// Counts a captured item.
    fn captured(&mut self, group_kind: &GroupKind) {
        self.collected.counts.succeeded += 1;
        *self.collected.items_by_kind.entry(group_kind.to_string()).or_default() += 1;
        self.sum();
    }

    /// Captures or skips one object. Returns whether it was captured.
    async fn take(
        &mut self,
        kind: &ServedKind,
        group_kind: &GroupKind,
        object: Object,
        note: &mut Note,
    ) -> Result<bool, Stopped> {
        let Object { name, json } = object;
        if let Some(why) = self.rules.skips(group_kind, &name, &json) {
            if why == SkipReason::RepositorySecret && holds_more(self.keys.get(&name), &json) {
                let message = "move what is not the repository's key into a Secret of its own: a key is not kept in what it opens, so that nothing of this Secret is captured";
                let id = ItemId::new(group_kind.clone(), name);
                self.leave(note, failed(&id, item_reason::NOT_ONLY_A_KEY, message).1);
                return Ok(false);
            }
            *self.collected.skipped.entry(why).or_default().entry(group_kind.to_string()).or_default() += 1;
            // An object that is requested by name is always reported when it is skipped, whatever
            // the reason.
            let is_named = self.scope.target.is_some() || self.scope.names_objects();
            let told = why.told().or(is_named.then_some("objects like it are left out by default"));
            if let Some(message) = told {
                let item = ItemFailure {
                    item_id: ItemId::new(group_kind.clone(), name).to_string(),
                    reason_code: why.code().to_owned(),
                    message: message.to_owned(),
                    failure_type: FailureType::Skipped,
                };
                self.leave(note, item);
            } else {
                self.collected.counts.skipped += 1;
                self.sum();
            }
            return Ok(false);
        }
        match self.form.take(kind, &name, json) {
            Ok(None) => {}
            Ok(Some(entry)) => self.offer(entry).await?,
            Err(error) => {
                let id = ItemId::new(group_kind.clone(), name);
                self.leave(note, failed(&id, item_reason::UNSAFE_NAME, &error.to_string()).1);
                return Ok(false);
            }
        }
        self.captured(group_kind);
        Ok(true)
    }

    /// Records that an item was not captured.
    fn leave(&mut self, note: &mut Note, item: ItemFailure) {
        match item.failure_type {
            FailureType::Failure => self.collected.counts.failed += 1,
            FailureType::Skipped => self.collected.counts.skipped += 1,
        }
        tracing::info!(item = item.item_id, reason = item.reason_code, message = item.message, "not captured");
        note.add(item);
        self.sum();
    }

    /// Records a kind that could not be listed completely as one failed item, if the API server
    /// itself is healthy.
    async fn unlistable(&mut self, kind: &ServedKind, fault: &Fault, note: &mut Note) -> Result<(), Stopped> {
        let kind_name = kind.group_kind();
        let id = ItemId::new(kind_name.clone(), "");
        let (code, message) = match fault {
            // The CRD was deleted since discovery, and the objects with it.
            Fault::Refused { code: 404, .. } => {
                tracing::info!(kind = %kind_name, "no longer served");
                return Ok(());
            }
            // Only the API server knows the syntax of selectors. A selector that fails the first
            // list fails all of them.
            Fault::Refused { code: 400, message, .. }
                if self.scope.list.label_selector.is_some() && self.collected.counts.processed == 0 =>
            {
                let message = format!(
                    "inputs.selection.labelSelector: {message}: write it as for `kubectl get -l`, in a new run"
                );
                return Err(Failure::permanent(reason::INVALID_INPUTS, message).into());
            }
            Fault::Refused { code: 401, .. } => {
                return Err(call_failure(&format!("list {kind_name}"), fault).into());
            }
            Fault::Refused { code: 403, .. } => {
                let message = format!(
                    "let a ClusterRole with the label tenantatlas.io/aggregate-to-worker allow `list` on {}, or leave the kind out with excludeKinds: the worker's account may not list {kind_name}",
                    kind.plural
                );
                if self.scope.can_do_without(&kind_name) {
                    self.leave(note, kind_left_out(&kind_name, item_reason::KIND_NOT_READABLE, &message).1);
                    return Ok(());
                }
                (item_reason::FORBIDDEN, message)
            }
            Fault::Garbled => (
                item_reason::UNREADABLE,
                format!(
                    "the list of {kind_name} is not JSON as it should be: look at the server of {}",
                    kind.api_version()
                ),
            ),
            fault => {
                if fault.may_pass() {
                    self.troubled.insert(kind.group.clone());
                    // Reading our own run shows whether only this kind's server fails or the whole
                    // API, and whether this Job is still to execute the run.
                    fence::pass(self.client, self.run).await?;
                }
                (
                    item_reason::UNLISTABLE,
                    format!(
                        "{kind_name} could not be listed to the end: {fault}: look at the server of {}, or leave the kind out with excludeKinds",
                        kind.api_version()
                    ),
                )
            }
        };
        self.leave(note, failed(&id, code, &message).1);
        Ok(())
    }

    /// Updates the totals.
    fn sum(&mut self) {
        let counts = &mut self.collected.counts;
        counts.processed = counts.succeeded + counts.failed + counts.skipped;
        counts.total = counts.processed;
    }

    fn show(&self, remaining: i64) {
        let counts = self.collected.counts;
        self.progress.update(SummaryCounts { total: counts.processed + remaining, ..counts });
    }
}

/// What an earlier snapshot has of a kind cannot be read.
fn not_kept(kind: &ServedKind, error: &repository::Error) -> Stopped {
    tracing::info!(%error, kind = %kind.group_kind(), "what the last capture has of a kind cannot be read");
    Stopped::NotKept
}

/// Whether a note sorts before all entries of a kind, which are in a directory of its name and this
/// suffix.
fn lies_before(note: &ItemPath, kind: &ServedKind, suffix: &str) -> bool {
    // A kind that cannot be part of a path has no items.
    ItemPath::new(&kind.group, &kind.version, &format!("{}{suffix}", kind.kind), "-").map_or(true, |item| *note < item)
}

/// Whether a Secret has data under other keys than these.
fn holds_more(keys: Option<&BTreeSet<String>>, secret: &Map<String, Value>) -> bool {
    let data = secret.get("data").and_then(Value::as_object);
    data.is_some_and(|data| data.keys().any(|key| keys.is_none_or(|keys| !keys.contains(key))))
}

/// Creation time of an object. It is part of the snapshot's tree, so it must be the same in every
/// capture.
#[must_use]
pub fn created_at(object: &Map<String, Value>) -> Timestamp {
    object
        .get("metadata")
        .and_then(|metadata| metadata.get("creationTimestamp")?.as_str()?.parse().ok())
        .unwrap_or(Timestamp::UNIX_EPOCH)
}
