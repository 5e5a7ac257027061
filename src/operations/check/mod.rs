//! `tenantatlas worker check`: opens or creates a tenant's repository and checks it for damage.

pub mod adopt;
mod records;

use crate::{
    api::reason::worker as reason,
    api::{
        BackupSet, Outcome, Reason,
        operations::CheckInputs,
        result::{CheckedRepository, ResultContext, TerminationResult},
    },
    clock::Clock,
    repository::{CheckReport, ReadData, Recipients, Repository, Snapshot},
    worker::{
        environment::Environment,
        failure::Failure,
        sets,
        work::{Begun, LeaseNeed, Needs, RepositoryNeed, Site, Work, begun},
    },
};
use kube::ResourceExt;

/// Checks a repository.
pub struct Check;

impl Work for Check {
    fn needs(&self) -> Needs {
        Needs { repository: RepositoryNeed::Any, lease: LeaseNeed::Reads, last_words: false }
    }

    fn begin(&self, environment: &Environment) -> Result<Begun, Failure> {
        let inputs = read_inputs(environment)?;
        Ok(begun(|site: Site<'_>| {
            Box::pin(async move {
                let repository = site.repository()?;
                let Site { client, environment, clock, .. } = site;
                let sets = sets::list(client, environment).await?;
                // First: a damaged repository has to be opened, too.
                let no_copy = keep_recovery(repository, environment).await.err();
                let mut result = check(repository, environment, &inputs, &sets, clock).await?;
                if let Some(figures) = &mut result.context.repository {
                    figures.adopted = adopt::record_sets(client, environment, repository).await?;
                }
                if let (Some(message), Some(no_copy)) = (&mut result.message, no_copy) {
                    *message = format!("{message}; {no_copy}");
                }
                Ok(result)
            })
        }))
    }
}

/// Stores the copy of the key for those who can recover the repository. Without it the repository can
/// be used all the same, so the error is words for the message of the check.
pub async fn keep_recovery(repository: &impl Repository, environment: &Environment) -> Result<(), String> {
    let Some(recovery) = &environment.repository_spec.recovery else { return Ok(()) };
    let kept = match Recipients::parse(&recovery.recipients) {
        Ok(recipients) => repository.keep_recovery(recipients).await.map_err(|error| error.to_string()),
        // The schema checks the form of a key, and not its checksum.
        Err(number) => Err(format!(
            "spec.recovery.recipients[{number}] of BackupRepository {} is not a public key of age: copy it again, whole, from the output of age-keygen",
            environment.repository
        )),
    };
    kept.map_err(|why| format!("NO COPY of the password was stored for recovery: {why}"))
}

/// A day in seconds. Checks on different days read different parts of the data.
const DAY: i64 = 86_400;

/// How many findings a message names.
const NAMED_FINDINGS: usize = 3;

/// How many affected backup sets a message names.
const NAMED_SETS: usize = 5;

/// Reads the inputs. Call this before anything is opened, so that bad inputs fail fast.
pub fn read_inputs(environment: &Environment) -> Result<CheckInputs, Failure> {
    let inputs: CheckInputs = environment.inputs()?;
    environment.expect_repository(&inputs.repository)?;
    expect_percentage(inputs.read_data_percent)?;
    Ok(inputs)
}

/// Refuses what is no percentage. A type of an administrator's own may have another schema.
pub(super) fn expect_percentage(percent: Option<u8>) -> Result<(), Failure> {
    if percent.is_some_and(|percent| percent > 100) {
        return Err(Failure::permanent(
            reason::INVALID_INPUTS,
            "inputs.readDataPercent is a percentage, from 0 to 100",
        ));
    }
    Ok(())
}

/// Checks an opened repository. `sets` are the backup sets of its namespace, listed before the
/// call.
pub async fn check(
    repository: &impl Repository,
    environment: &Environment,
    inputs: &CheckInputs,
    sets: &[BackupSet],
    clock: &dyn Clock,
) -> Result<TerminationResult, Failure> {
    let of_spec =
        environment.repository_spec.maintenance.as_ref().and_then(|maintenance| maintenance.read_data_percent);
    let asked =
        inputs.read_data_percent.or_else(|| of_spec.and_then(|percent| u8::try_from(percent).ok())).unwrap_or(0);
    let percent = if sets::any_damaged(sets, &environment.repository) { 100 } else { asked };
    let day = u32::try_from(clock.now().as_second() / DAY).unwrap_or(0);
    let mut report = repository.check(ReadData::percent(percent, day)).await?;
    add_lost_snapshots(&mut report, environment, sets, &repository.snapshots().await?);
    if !report.is_ok() {
        return Err(damaged(&report, environment, sets));
    }
    let stats = repository.stats().await?;
    let mut message = match percent {
        0 => "the repository's structure is whole".to_owned(),
        percent => format!("the repository's structure and {percent} % of its data are whole"),
    };
    if report.warnings > 0 {
        message = format!("{message}; {} findings cost space only ({})", report.warnings, named(&report));
    }
    Ok(TerminationResult {
        outcome: Some(Outcome::Succeeded),
        reason: Some(Reason::CheckPassed.to_string()),
        message: Some(message),
        context: ResultContext {
            repository: Some(CheckedRepository {
                snapshots: i64::try_from(stats.snapshots).unwrap_or(i64::MAX),
                bytes: i64::try_from(stats.stored_bytes).unwrap_or(i64::MAX),
                adopted: 0,
                dedup_ratio: stats.dedup_ratio().map(|ratio| format!("{ratio:.1}")),
                read_all: percent >= 100,
            }),
            ..ResultContext::default()
        },
        ..TerminationResult::default()
    })
}

/// Fails if the snapshot of a backup set is missing. To the engine, the content of a missing
/// snapshot is merely unused.
pub(super) fn expect_snapshots(
    environment: &Environment,
    sets: &[BackupSet],
    snapshots: &[Snapshot],
) -> Result<(), Failure> {
    let mut report = CheckReport::default();
    add_lost_snapshots(&mut report, environment, sets, snapshots);
    if report.is_ok() { Ok(()) } else { Err(damaged(&report, environment, sets)) }
}

/// A repository is intact without any of its snapshots. Only the backup sets reveal that one is
/// missing.
fn add_lost_snapshots(report: &mut CheckReport, environment: &Environment, sets: &[BackupSet], snapshots: &[Snapshot]) {
    let lost = sets::without_snapshot(sets, &environment.repository, snapshots);
    report.errors += lost.len();
    let findings = lost.iter().take(NAMED_FINDINGS);
    let findings =
        findings.map(|set| format!("the snapshot of {} is gone: `snapshots/{}`", set.name_any(), set.spec.snapshot));
    report.findings.splice(0..0, findings);
    report.damaged.extend(lost.iter().map(|set| set.spec.snapshot.clone()));
}

/// The first findings, joined for a message.
fn named(report: &CheckReport) -> String {
    report.findings.iter().take(NAMED_FINDINGS).map(String::as_str).collect::<Vec<_>>().join("; ")
}

/// Failure that reports damage and the affected backup sets.
fn damaged(report: &CheckReport, environment: &Environment, sets: &[BackupSet]) -> Failure {
    let damage = sets::of_damaged(sets, &environment.repository, &report.damaged);
    let of_sets = match damage.sets.as_slice() {
        [] => "no backup set is affected".to_owned(),
        some => {
            let more = some.len().saturating_sub(NAMED_SETS);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let names: Vec<_> = some.iter().take(NAMED_SETS).map(String::as_str).collect();
            format!("affected backup sets: {}{more}", names.join(", "))
        }
    };
    let message = format!(
        "{} findings mean that something cannot be restored; {of_sets} ({}): restore the store's lost objects, or start a new repository and keep this one for what is whole",
        report.errors,
        named(report)
    );
    let made = ResultContext {
        damaged_snapshots: damage.snapshots,
        damaged_truncated: damage.truncated,
        ..ResultContext::default()
    };
    Failure { made: Box::new(made), ..Failure::permanent("Damaged", message) }
}
