//! `tenantatlas worker history`: reports the versions of one item over the backup sets of its
//! tenant, or of one field of it.
//!
//! ```text
//! trace     looks the item up in the sets
//! timeline  what the sets show, one after the other: rows and counts
//! pointer   an object reduced to one field
//! ```
//!
//! Who asks must be allowed to get objects of the item's kind now; otherwise nothing is read. What
//! is shown is that of a comparison: in reports alone, values of a Secret as keyed hashes, and only
//! of kinds that every reader of reports may read. Nothing in the tenant is read or written but the
//! run, its reports, the runs of the sets, and the sets.

pub mod pointer;
mod records;
pub mod timeline;
pub mod trace;

use crate::{
    api::{
        OperationRun, Outcome, Reason,
        history::{ItemChange, Sighting},
        item::{GroupKind, ItemId},
        operations::HistoryInputs,
        outcome::SummaryCounts,
        reason::{compare as reason, worker},
        result::{ResultContext, TerminationResult},
        subject::Initiator,
    },
    items::{decide::Verb, eligible::holds_objects, semantic::Status, served::ServedKind, words::is_secret},
    operations::{
        compare::{self, walk::Terms},
        history::{
            pointer::Pointer,
            timeline::{Focus, Found, Timeline},
            trace::Held,
        },
        item,
        restore::order::expect_own,
    },
    providers::{Provider, bounded::Bounded, catalog::Catalog, kubernetes::Kubernetes},
    repository::{Repository, Series},
    worker::{
        environment::Environment,
        failure::{Failure, call_failure},
        progress::Progress,
        report::{self, Contents},
        sets,
        work::{Begun, LeaseNeed, Needs, RepositoryNeed, Site, Work, begun},
    },
};
use jiff::Timestamp;
use kube::{Client, ResourceExt};
use std::{collections::BTreeSet, fmt::Write as _};

/// Reports the history of an item.
pub struct History;

impl Work for History {
    fn needs(&self) -> Needs {
        Needs { repository: RepositoryNeed::Ready, lease: LeaseNeed::Reads, last_words: false }
    }

    fn begin(&self, environment: &Environment) -> Result<Begun, Failure> {
        Asked::read(environment)?;
        Ok(begun(|site: Site<'_>| {
            Box::pin(async move { history(site.client, site.environment, site.repository()?, site.run).await })
        }))
    }
}

/// What is asked for.
#[derive(Clone, Debug)]
struct Asked {
    item: ItemId,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
    path: Option<Pointer>,
}

impl Asked {
    /// Reads the inputs. Call this before anything is opened.
    fn read(environment: &Environment) -> Result<Self, Failure> {
        let inputs: HistoryInputs = environment.inputs()?;
        environment.expect_repository(&inputs.repository)?;
        let invalid = |message: String| Failure::permanent(worker::INVALID_INPUTS, message);
        let item = item::read(&inputs.item)?;
        let time = |name: &str, text: Option<&String>| {
            let time = text.map(|text| text.parse::<Timestamp>()).transpose();
            time.map_err(|error| invalid(format!("inputs.{name}: write a time as 2026-11-27T18:30:00Z: {error}")))
        };
        let (from, to) = (time("from", inputs.from.as_ref())?, time("to", inputs.to.as_ref())?);
        if from.zip(to).is_some_and(|(from, to)| from > to) {
            return Err(invalid("inputs.from is later than inputs.to: no set is between them".to_owned()));
        }
        let path = inputs.path.map(|text| {
            Pointer::parse(&text).ok_or_else(|| {
                invalid(format!("inputs.path: {text:?} is no JSON pointer: write it as /spec/replicas, with ~1 for / and ~0 for ~ in a name"))
            })
        });
        Ok(Self { item, from, to, path: path.transpose()? })
    }

    fn takes(&self, time: Timestamp) -> bool {
        self.from.is_none_or(|from| from <= time) && self.to.is_none_or(|to| time <= to)
    }
}

/// Reports the history of an item. `run` names the requester.
pub async fn history(
    client: &Client,
    environment: &Environment,
    repository: &impl Repository,
    run: &OperationRun,
) -> Result<TerminationResult, Failure> {
    let provider = Kubernetes::new(client, environment.identity.namespace.clone());
    history_with(&provider, client, environment, repository, run).await
}

/// The same with any provider. `client` reaches the run and its records.
pub async fn history_with(
    provider: &dyn Provider,
    client: &Client,
    environment: &Environment,
    repository: &impl Repository,
    run: &OperationRun,
) -> Result<TerminationResult, Failure> {
    let provider = Bounded::new(provider);
    let asked = Asked::read(environment)?;
    let requester = run.spec.initiator.as_ref().ok_or_else(|| {
        let message = "spec.initiator is empty, so that it is not known who may be shown this item: admission sets it; where that is off, state it in a new run";
        Failure::blocked(reason::NO_REQUESTER, message)
    })?;
    let catalog = provider.catalog().await;
    let catalog = catalog.map_err(|fault| call_failure("discover what the cluster serves", &fault))?;
    expect_may_read(&provider, requester, served(&catalog, &asked.item.kind)?).await?;
    let terms = compare::terms(&provider, catalog, repository).await?;
    let (series, held) = open(client, environment, repository, &asked).await?;
    let mut timeline = Timeline::new(asked.item.to_string(), focus(&asked, terms));
    trace::follow(&series, &held, &asked.item, &mut timeline).await?;
    let found = timeline.finish();
    let result = to_result(&found);
    tracing::info!(rows = found.rows.len(), sets = held.len(), "followed");
    report::write(client, &environment.identity, Contents::Versions(&found.rows)).await?;
    Progress::of(client.clone(), &environment.identity).finish(result.summary_counts.unwrap_or_default()).await;
    Ok(result)
}

/// The kind in a version that the cluster serves, preferably the one that it prefers.
fn served<'a>(catalog: &'a Catalog, kind: &GroupKind) -> Result<&'a ServedKind, Failure> {
    let is = |served: &&ServedKind| served.group_kind() == *kind;
    catalog.kinds.iter().chain(&catalog.others).find(is).ok_or_else(|| {
        let message = format!(
            "the cluster serves no {kind} in namespaces, so that it cannot be asked who may read it: correct inputs.item, or install the kind's definition again"
        );
        Failure::blocked(reason::KIND_NOT_SERVED, message)
    })
}

/// Fails unless the requester may read the objects of a kind now.
async fn expect_may_read(provider: &dyn Provider, requester: &Initiator, kind: &ServedKind) -> Result<(), Failure> {
    if provider.may(requester, Verb::Get, kind).await? {
        return Ok(());
    }
    let message = format!(
        "{} may not get {} in {}: have a role given that allows it, then create a new run",
        requester.username,
        kind.plural,
        provider.place()
    );
    Err(Failure::blocked(reason::REQUESTER_FORBIDDEN, message))
}

fn focus(asked: &Asked, terms: Terms) -> Focus {
    let kind = &asked.item.kind;
    let shown = terms.readers.may_read(kind);
    // Diffs name each value of a Secret, whoever may read it.
    let is_named = shown || is_secret(&asked.item);
    let path = asked.path.clone().map(|path| if is_named { path } else { path.outermost() });
    let status = if terms.status_is_data.contains(kind) { Status::Data } else { Status::Observed };
    Focus { path, status, shown, key: terms.key }
}

/// Opens the sets of the tenant that hold objects, in the order in which they were taken.
async fn open(
    client: &Client,
    environment: &Environment,
    repository: &impl Repository,
    asked: &Asked,
) -> Result<(Series, Vec<Held>), Failure> {
    let is_asked_for = |text: &str| ItemId::of_object(text).is_ok_and(|item| item == asked.item);
    let sets = sets::list_with_absent(client, environment, is_asked_for).await?;
    let own = sets.into_iter().filter(|set| {
        let is_there = set.metadata.deletion_timestamp.is_none();
        is_there && expect_own(environment, set).is_ok() && holds_objects(set).is_ok()
    });
    let own: Vec<_> = own.collect();
    let series = repository.series(own.iter().map(|set| set.spec.snapshot.clone()).collect()).await?;
    let mut held: Vec<Held> = Vec::with_capacity(own.len());
    for (place, (set, snapshot)) in own.into_iter().zip(series.snapshots()).enumerate() {
        let recorded = set.metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
        let time = snapshot.map_or(recorded, |snapshot| snapshot.time);
        if asked.takes(time) {
            let seen = Sighting { set: set.name_any(), time, run: set.spec.run.name.clone(), initiator: None };
            held.push(Held { place, set, seen });
        }
    }
    held.sort_by(|one, other| (one.seen.time, &one.seen.set).cmp(&(other.seen.time, &other.seen.set)));
    let runs: BTreeSet<&str> = held.iter().map(|held| held.set.spec.run.uid.as_str()).collect();
    let initiators = sets::initiators(client, environment, &runs).await?;
    for held in &mut held {
        held.seen.initiator = initiators.get(&held.set.spec.run.uid).cloned();
    }
    Ok((series, held))
}

/// The result of the run.
fn to_result(found: &Found) -> TerminationResult {
    let history = &found.history;
    TerminationResult {
        outcome: Some(Outcome::Succeeded),
        reason: Some(Reason::Succeeded.to_string()),
        message: Some(message(found)),
        summary_counts: Some(SummaryCounts {
            total: history.sets,
            processed: history.sets,
            succeeded: history.sets - history.unknown,
            failed: 0,
            skipped: history.unknown,
        }),
        context: ResultContext { history: Some(Box::new(history.clone())), ..ResultContext::default() },
        ..TerminationResult::default()
    }
}

fn message(found: &Found) -> String {
    let history = &found.history;
    let what = history.path.as_ref().map_or_else(|| history.item.clone(), |path| format!("{path} of {}", history.item));
    let counted = |count: i64, one: &str, more: &str| format!("{count} {}", if count == 1 { one } else { more });
    let sets = counted(history.sets, "backup set", "backup sets");
    let mut message = if history.versions == 0 {
        format!("no backup set of {sets} is known to hold {what}: is its name right?")
    } else {
        let versions = counted(history.versions, "version", "versions");
        format!("{what}: {versions} and {} in {sets}", counted(history.deletions, "deletion", "deletions"))
    };
    // Writing to a String cannot fail.
    if history.versions > 0 && !found.has_field {
        message.push_str("; no version has the field, or only the cluster writes it");
    }
    match (&history.since, found.rows.iter().find(|row| row.change == ItemChange::Deleted)) {
        (Some(since), _) => {
            let _ = write!(message, "; as it is since {} ({})", since.set, since.time);
            if let Some(initiator) = &since.initiator {
                let _ = write!(message, ", a backup that {initiator} asked for");
            }
        }
        (None, Some(deleted)) if !found.is_there => {
            let _ = write!(message, "; gone since {} ({})", deleted.seen.set, deleted.seen.time);
        }
        _ => {}
    }
    if history.unknown > 0 {
        let _ = write!(message, "; {} could not tell: the reports say why", counted(history.unknown, "set", "sets"));
    }
    message
}
