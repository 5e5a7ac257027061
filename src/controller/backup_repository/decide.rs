//! The decision about a repository. Pure.

use crate::api::{
    BackupRepository, BackupRepositoryStatus, OperationRun, OperationRunSpec, Reason,
    conditions::{self, Wanted},
};
use jiff::Timestamp;
use kube::{Resource, ResourceExt};
use serde_json::{Map, Value, json};

/// The type of the run that checks a repository.
pub const CHECK_TYPE: &str = "repository.check";

/// The name of the run that checks this generation of this very repository.
#[must_use]
pub fn check_name(repository: &BackupRepository) -> String {
    let uid = repository.uid().unwrap_or_default();
    let generation = repository.metadata.generation.unwrap_or(1);
    format!("{}-check-{}-{generation}", repository.name_any(), uid.get(..5).unwrap_or_default())
}

/// The check to start, where this generation has not been checked and none is under way.
#[must_use]
pub fn decide(repository: &BackupRepository, in_tenant: bool, check: Option<&OperationRun>) -> Option<OperationRun> {
    let checked = repository.status.as_ref().and_then(|status| status.observed_generation);
    let leaving = repository.metadata.deletion_timestamp.is_some();
    if checked == repository.metadata.generation || leaving || !in_tenant || check.is_some() {
        return None;
    }
    let mut run = OperationRun::new(
        &check_name(repository),
        OperationRunSpec {
            operation_type: CHECK_TYPE.to_owned(),
            inputs: inputs(repository),
            ..OperationRunSpec::default()
        },
    );
    run.metadata.namespace = repository.namespace();
    run.metadata.owner_references = repository.owner_ref(&()).map(|owner| vec![owner]);
    Some(run)
}

fn inputs(repository: &BackupRepository) -> Map<String, Value> {
    let percent = repository.spec.maintenance.as_ref().and_then(|maintenance| maintenance.read_data_percent);
    let mut inputs = Map::from_iter([("repository".to_owned(), json!(repository.name_any()))]);
    inputs.extend(percent.map(|percent| ("readDataPercent".to_owned(), json!(percent))));
    inputs
}

/// The status of a repository whose first check is on its way; without it kstatus would call it current.
#[must_use]
pub fn checking(repository: &BackupRepository, now: Timestamp) -> Option<BackupRepositoryStatus> {
    let before = repository.status.clone().unwrap_or_default();
    if !before.conditions.is_empty() {
        return None;
    }
    let wanted = [
        Wanted { type_: conditions::READY, status: "Unknown" },
        Wanted { type_: conditions::RECONCILING, status: "True" },
    ];
    let generation = repository.metadata.generation;
    let conditions =
        conditions::merge(&[], &wanted, Reason::Checking.as_str(), "its first check runs", generation, now);
    Some(BackupRepositoryStatus { conditions, ..before })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository(generation: i64, checked: Option<i64>) -> BackupRepository {
        serde_json::from_value(json!({
            "apiVersion": "tenantatlas.io/v1alpha1", "kind": "BackupRepository",
            "metadata": {"name": "main", "namespace": "acme", "uid": "01234567-89ab", "generation": generation},
            "spec": {"storage": {"persistentVolumeClaim": {"claimName": "backups"}}, "passwordSecret": {"name": "p", "key": "password"}},
            "status": {"observedGeneration": checked}
        }))
        .expect("a repository")
    }

    #[test]
    fn each_generation_is_checked_once() {
        let run = decide(&repository(1, None), true, None).expect("a check");
        assert_eq!(run.name_any(), "main-check-01234-1");
        assert_eq!(decide(&repository(1, None), true, Some(&run)), None);
        assert_eq!(decide(&repository(1, Some(1)), true, None), None);
        assert_eq!(
            decide(&repository(2, Some(1)), true, None).map(|run| run.name_any()).as_deref(),
            Some("main-check-01234-2")
        );
    }

    #[test]
    fn a_repository_outside_a_tenant_waits() {
        assert_eq!(decide(&repository(1, None), false, None), None);
    }

    #[test]
    fn the_check_reads_back_as_much_as_maintenance_says() {
        let mut repository = repository(1, None);
        repository.spec.maintenance =
            Some(crate::api::backup_repository::Maintenance { read_data_percent: Some(7), ..Default::default() });
        let run = decide(&repository, true, None).expect("a check");
        assert_eq!(run.spec.inputs.get("readDataPercent"), Some(&json!(7)));
    }

    #[test]
    fn a_repository_says_that_it_is_being_checked_until_it_has_been() {
        let now = Timestamp::UNIX_EPOCH;
        let mut new = repository(1, None);
        let status = checking(&new, now).expect("a status");
        assert!(
            status.conditions.iter().any(|condition| condition.type_ == "Reconciling" && condition.status == "True")
        );
        new.status = Some(status);
        assert_eq!(checking(&new, now), None);
    }
}
