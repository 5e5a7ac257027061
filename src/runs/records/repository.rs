//! What the end of a check, and the coverage that an inventory found, say about a repository. Pure.
//!
//! Every capture waits for its repository to be Ready. A check that was refused, interrupted or
//! lost therefore does not change Ready: only what the store did, or what is in it, does.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use crate::{
    api::{
        BackupRepository, BackupRepositoryStatus, ObjectReference, Reason,
        conditions::{self, Wanted},
        coverage::RepositoryCoverage,
        result::truncate,
    },
    operations::record::RepositoryCheck,
    repository::CODES_OF_THE_STORE,
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

/// The status of a repository after a check; `None` if the check says nothing about it.
#[must_use]
pub fn after(
    check: &RepositoryCheck,
    repository: &BackupRepository,
    run: ObjectReference,
    now: Timestamp,
) -> Option<BackupRepositoryStatus> {
    let before = repository.status.clone().unwrap_or_default();
    let hash = repository.spec.checked_hash();
    // Without a Job, the check counts for the current spec. A check of an earlier spec counts as
    // well if the checked part is the same.
    let generation = match (check.generation, &check.spec) {
        (Some(of_check), spec) if spec.as_ref() != Some(&hash) => Some(of_check),
        _ => repository.metadata.generation,
    };
    if !says_something(check, repository, &before, generation) {
        return None;
    }
    let wanted: &[Wanted] = if check.passed {
        &[Wanted { type_: conditions::READY, status: "True" }]
    } else {
        &[Wanted { type_: conditions::READY, status: "False" }, Wanted { type_: conditions::STALLED, status: "True" }]
    };
    let reason = if check.passed { Reason::CheckPassed.as_str() } else { &check.reason };
    let mut status = before.clone();
    status.conditions =
        conditions::merge(&before.conditions, wanted, reason, &truncate(&check.message, 1000), generation, now);
    status.observed_generation = generation;
    status.checked_spec = check.spec.clone().or(Some(hash).filter(|_| generation == repository.metadata.generation));
    // A second reconcile of the same run writes the same.
    if before.last_check_run.as_ref() != Some(&run) {
        status.last_check = Some(now);
        status.last_prune = Some(now).filter(|_| check.maintained.is_some()).or(status.last_prune);
    }
    status.last_check_run = Some(run);
    if let Some(figures) = &check.figures {
        status.snapshots = Some(figures.snapshots);
        status.bytes = Some(figures.bytes);
        status.dedup_ratio.clone_from(&figures.dedup_ratio);
    }
    Some(status)
}

/// The status of a repository after an inventory looked what its backup sets hold; `None` if a newer
/// inventory has. Runs may end in another order than they began.
#[must_use]
pub fn after_coverage(before: &BackupRepositoryStatus, coverage: RepositoryCoverage) -> Option<BackupRepositoryStatus> {
    let is_older = |known: &RepositoryCoverage| coverage.found.taken_at < known.found.taken_at;
    if before.coverage.as_deref().is_some_and(is_older) {
        return None;
    }
    Some(BackupRepositoryStatus { coverage: Some(Box::new(coverage)), ..before.clone() })
}

/// Whether a check of this generation says anything about a repository.
///
/// If the current spec has not been checked yet, every end is reported; otherwise the status would
/// not say why the repository does not become Ready. If it has been checked, only what the store
/// answered, or what is in it, is reported.
fn says_something(
    check: &RepositoryCheck,
    repository: &BackupRepository,
    before: &BackupRepositoryStatus,
    generation: Option<i64>,
) -> bool {
    let is_now = generation == repository.metadata.generation;
    // The check began before the spec changed, and ended after a check of the newer spec: it says
    // nothing about that.
    if !is_now && (repository.is_checked() || generation < before.observed_generation) {
        return false;
    }
    let is_known = if is_now { repository.is_checked() } else { generation == before.observed_generation };
    let told = check.generation.is_some() && CODES_OF_THE_STORE.contains(&check.reason.as_str());
    check.passed || told || !is_known
}

/// Whether a check is the first to report, for this reason, that a repository cannot be used. This
/// is worth an event.
#[must_use]
pub fn is_news(check: &RepositoryCheck, before: &[Condition]) -> bool {
    let said = |condition: &Condition| {
        condition.type_ == conditions::READY && condition.status == "False" && condition.reason == check.reason
    };
    !check.passed && !before.iter().any(said)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::coverage::BackupCoverage;
    use serde_json::json;

    fn check(generation: Option<i64>, reason: &str) -> RepositoryCheck {
        RepositoryCheck {
            repository: "main".to_owned(),
            generation,
            spec: generation.map(|generation| {
                let claim = if generation == 1 { "before" } else { "backups" };
                repository(claim, BackupRepositoryStatus::default()).spec.checked_hash()
            }),
            passed: reason == "CheckPassed",
            reason: reason.to_owned(),
            message: "m".to_owned(),
            figures: None,
            maintained: None,
            damaged: Vec::new(),
            damaged_truncated: false,
        }
    }

    /// A repository of generation 2.
    fn repository(claim: &str, status: BackupRepositoryStatus) -> BackupRepository {
        let spec = json!({"storage": {"persistentVolumeClaim": {"claimName": claim}}, "passwordSecret": {"name": "p"}});
        let mut repository: BackupRepository = serde_json::from_value(json!({
            "apiVersion": "tenantatlas.io/v1alpha1", "kind": "BackupRepository", "metadata": {"name": "main", "generation": 2}, "spec": spec
        }))
        .expect("a repository");
        repository.status = Some(status);
        repository
    }

    fn ready_at(generation: i64) -> BackupRepositoryStatus {
        serde_json::from_value(json!({"observedGeneration": generation, "lastCheck": "2026-01-01T00:00:00Z",
            "conditions": [{"type": "Ready", "status": "True", "reason": "CheckPassed", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}))
        .expect("a status")
    }

    /// Status and reason of Ready after a check of a repository of generation 2.
    fn ready_after(check: &RepositoryCheck, before: &BackupRepositoryStatus) -> Option<(String, String)> {
        let run = ObjectReference { name: "check".to_owned(), uid: "u".to_owned() };
        let status = after(check, &repository("backups", before.clone()), run, Timestamp::UNIX_EPOCH)?;
        let ready = status.conditions.into_iter().find(|condition| condition.type_ == "Ready")?;
        Some((ready.status, ready.reason))
    }

    const NOT_RUN: [&str; 5] = ["InvalidInputs", "DuplicateRun", "TypeSuspended", "QuotaExceeded", "JobDeleted"];

    #[test]
    fn a_check_that_never_ran_says_nothing_of_a_repository_that_was_checked_as_it_is_now() {
        for reason in NOT_RUN {
            assert_eq!(ready_after(&check(None, reason), &ready_at(2)), None, "{reason}");
        }
        // A worker also reports this code, for what it read. Without a Job, nothing was read.
        assert_eq!(ready_after(&check(None, "AccessDenied"), &ready_at(2)), None);
    }

    #[test]
    fn of_a_repository_that_was_not_checked_yet_as_it_is_now_it_is_told_why() {
        for before in [BackupRepositoryStatus::default(), ready_at(1)] {
            for reason in NOT_RUN.into_iter().chain(["TimedOut", "Cancelled", "ApiUnreachable"]) {
                let told = ready_after(&check(None, reason), &before);
                assert_eq!(told, Some(("False".to_owned(), reason.to_owned())));
            }
        }
    }

    #[test]
    fn a_check_that_ran_and_did_not_come_to_its_end_leaves_a_checked_repository_as_it_was() {
        for reason in [
            "ApiUnreachable",
            "ApiRefused",
            "TimedOut",
            "Interrupted",
            "RepositoryBusy",
            "ResultLost",
            "PermitLost",
            "Cancelled",
            "JobFailed",
            "Fenced",
            "Internal",
        ] {
            assert_eq!(ready_after(&check(Some(2), reason), &ready_at(2)), None, "{reason}");
        }
    }

    #[test]
    fn what_the_store_did_and_what_is_in_it_counts() {
        for reason in ["StoreUnreachable", "WrongPassword", "BucketNotFound", "Damaged", "StoreFull", "OwnedByAnother"]
        {
            let told = ready_after(&check(Some(2), reason), &ready_at(2));
            assert_eq!(told, Some(("False".to_owned(), reason.to_owned())));
        }
        let mut unready = ready_at(2);
        unready.conditions[0].status = "False".to_owned();
        let told = ready_after(&check(Some(2), "CheckPassed"), &unready);
        assert_eq!(told, Some(("True".to_owned(), "CheckPassed".to_owned())));
    }

    #[test]
    fn a_check_of_what_the_spec_was_says_nothing_of_what_it_is() {
        for reason in ["CheckPassed", "Damaged"] {
            assert_eq!(ready_after(&check(Some(1), reason), &ready_at(2)), None, "{reason}");
        }
    }

    #[test]
    fn a_check_that_began_before_an_edit_of_maintenance_counts_as_one_of_the_spec_as_it_is() {
        let run = || ObjectReference { name: "check".to_owned(), uid: "u".to_owned() };
        let mut of_before = check(Some(2), "Damaged");
        of_before.generation = Some(1);
        let status = after(&of_before, &repository("backups", ready_at(2)), run(), Timestamp::UNIX_EPOCH);
        assert_eq!(status.expect("it counts").observed_generation, Some(2));
        // The controller has not followed the edit yet, and the check did not finish.
        of_before.reason = "Interrupted".to_owned();
        let mut before = repository("backups", ready_at(1));
        before.status.as_mut().expect("a status").checked_spec = of_before.spec.clone();
        assert!(before.is_ready());
        assert_eq!(after(&of_before, &before, run(), Timestamp::UNIX_EPOCH), None);
    }

    #[test]
    fn what_was_checked_stands_in_the_status() {
        let run = || ObjectReference { name: "check".to_owned(), uid: "u".to_owned() };
        let repository = repository("backups", BackupRepositoryStatus::default());
        let mut passed = check(Some(2), "CheckPassed");
        let checked = |check: &RepositoryCheck| after(check, &repository, run(), Timestamp::UNIX_EPOCH)?.checked_spec;
        assert_eq!(checked(&passed), Some(repository.spec.checked_hash()));
        passed.spec = None;
        assert_eq!(
            checked(&passed),
            Some(repository.spec.checked_hash()),
            "its Job was made by an operator before this one"
        );
        assert_eq!(checked(&check(Some(1), "CheckPassed")), check(Some(1), "").spec);
        passed.generation = Some(1);
        assert_eq!(checked(&passed), None, "it is not known what was checked");
    }

    #[test]
    fn a_second_pass_of_the_same_run_changes_nothing() {
        let run = || ObjectReference { name: "check".to_owned(), uid: "u".to_owned() };
        let before = repository("backups", ready_at(2));
        let first = after(&check(Some(2), "Damaged"), &before, run(), Timestamp::UNIX_EPOCH);
        let first = first.expect("a status");
        let later = "2026-02-01T00:00:00Z".parse().expect("a time");
        let second = after(&check(Some(2), "Damaged"), &repository("backups", first.clone()), run(), later);
        assert_eq!(second, Some(first));
    }

    #[test]
    fn an_event_is_worth_what_was_not_said_before() {
        let damaged = check(Some(2), "Damaged");
        let run = ObjectReference { name: "check".to_owned(), uid: "u".to_owned() };
        assert!(is_news(&damaged, &ready_at(2).conditions));
        let before = repository("backups", ready_at(2));
        let said = after(&damaged, &before, run, Timestamp::UNIX_EPOCH).expect("a status");
        assert!(!is_news(&damaged, &said.conditions));
        assert!(is_news(&check(Some(2), "WrongPassword"), &said.conditions));
    }

    #[test]
    fn a_check_of_an_earlier_spec_counts_until_a_later_one_has_been_checked() {
        let failed = |generation| check(Some(generation), "Cancelled");
        let nothing = BackupRepositoryStatus::default();
        let told = Some(("False".to_owned(), "Cancelled".to_owned()));
        assert_eq!(ready_after(&failed(1), &nothing), told, "nobody has looked before");
        let mut edited = repository("others", ready_at(2));
        edited.metadata.generation = Some(3);
        let run = ObjectReference { name: "check".to_owned(), uid: "u".to_owned() };
        assert_eq!(after(&failed(1), &edited, run, Timestamp::UNIX_EPOCH), None, "a later one was checked since");
        assert_eq!(ready_after(&failed(1), &ready_at(1)), None, "that one was checked, and this check says nothing");
        assert_eq!(ready_after(&failed(1), &ready_at(0)), told);
        assert_eq!(ready_after(&failed(1), &ready_at(2)), None, "it is checked as it is now");
    }

    #[test]
    fn the_newest_inventory_tells_the_coverage_in_whatever_order_runs_end() {
        let coverage = |run: &str, at: &str| {
            let found = BackupCoverage { taken_at: at.parse().expect("a time"), ..BackupCoverage::default() };
            RepositoryCoverage { run: ObjectReference { name: run.into(), uid: run.into() }, found }
        };
        let (one, two) = (coverage("one", "2026-01-01T00:00:00Z"), coverage("two", "2026-01-01T01:00:00Z"));
        let before = ready_at(2);
        let after_one = after_coverage(&before, one.clone()).expect("the first is told");
        assert_eq!(after_one, BackupRepositoryStatus { coverage: Some(Box::new(one.clone())), ..before });
        assert_eq!(after_coverage(&after_one, one.clone()).as_ref(), Some(&after_one), "the same again");
        let after_two = after_coverage(&after_one, two.clone()).expect("a newer one is told");
        assert_eq!(after_two.coverage.as_deref(), Some(&two));
        assert_eq!(after_coverage(&after_two, one), None);
    }
}
