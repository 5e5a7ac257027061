//! Inputs of a worker: the variables and mounted directories of the execution contract, read and
//! validated once.

use crate::{
    api::reason::worker as reason,
    api::{
        BackupRepositorySpec,
        execution::{self, CREDENTIALS_DIRECTORY, PASSWORD_DIRECTORY, TERMINATION_MESSAGE_PATH, VOLUME_DIRECTORY},
        operation_run::Target,
    },
    worker::{failure::Failure, work::RepositoryNeed},
};
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};

/// Prefix of the snapshot tag with the uid of its namespace.
pub const NAMESPACE_TAG: &str = "namespace=";

/// Tag of a snapshot of what a restore is about to change.
pub const UNDO_TAG: &str = "undo";

/// Looks up a variable, in the process's environment or a test's.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The run and Job that a pod belongs to. The fence reads only this, in pods of any image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunIdentity {
    /// Name of the run.
    pub run: String,
    /// Uid of the run.
    pub run_uid: String,
    /// Namespace of the tenant.
    pub namespace: String,
    /// Uid of the Job this pod belongs to.
    pub job_uid: String,
    /// Name of the pod.
    pub pod: String,
}

impl RunIdentity {
    /// Reads the identity, or fails with the name of the missing variable.
    pub fn read(lookup: Lookup<'_>) -> Result<Self, Failure> {
        Ok(Self {
            run: required(lookup, execution::RUN)?,
            run_uid: required(lookup, execution::RUN_UID)?,
            namespace: required(lookup, execution::NAMESPACE)?,
            job_uid: required(lookup, execution::JOB_UID)?,
            pod: required(lookup, execution::POD_NAME)?,
        })
    }
}

/// The operation's run, inputs, target and repository.
#[derive(Clone, Debug, PartialEq)]
pub struct Environment {
    /// The run and Job that this pod belongs to.
    pub identity: RunIdentity,
    /// Uid of the tenant's namespace.
    pub namespace_uid: String,
    /// Uid of the cluster.
    pub cluster_uid: String,
    /// Inputs as JSON text. Each operation parses its own.
    pub inputs: String,
    /// The single object that the operation targets, if any.
    pub target: Option<Target>,
    /// Name of the `BackupRepository`. Empty if the operation needs none.
    pub repository: String,
    /// Spec of the `BackupRepository`. The default if the operation needs none.
    pub repository_spec: BackupRepositorySpec,
}

impl Environment {
    /// Reads the environment, or fails with the name of the missing variable.
    pub fn read(lookup: Lookup<'_>) -> Result<Self, Failure> {
        Self::read_for(RepositoryNeed::Ready, lookup)
    }

    /// The same for an operation that may need no repository: its pod is given none.
    pub fn read_for(needed: RepositoryNeed, lookup: Lookup<'_>) -> Result<Self, Failure> {
        let target = lookup(execution::TARGET).filter(|text| !text.is_empty());
        let (repository, repository_spec) = match needed {
            RepositoryNeed::None => (String::new(), BackupRepositorySpec::default()),
            RepositoryNeed::Ready | RepositoryNeed::Any => (
                required(lookup, execution::REPOSITORY)?,
                parse(execution::REPOSITORY_SPEC, &required(lookup, execution::REPOSITORY_SPEC)?)?,
            ),
        };
        Ok(Self {
            identity: RunIdentity::read(lookup)?,
            namespace_uid: required(lookup, execution::NAMESPACE_UID)?,
            cluster_uid: required(lookup, execution::CLUSTER_UID)?,
            inputs: required(lookup, execution::INPUTS)?,
            target: target.map(|text| parse(execution::TARGET, &text)).transpose()?,
            repository,
            repository_spec,
        })
    }

    /// Parses the inputs of an operation. Types of inputs deny unknown fields, so that a misspelled
    /// field is not silently ignored.
    pub fn inputs<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        serde_json::from_str(&self.inputs).map_err(|error| {
            Failure::permanent(
                reason::INVALID_INPUTS,
                format!("the inputs do not fit the operation: {error}: correct spec.inputs in a new run"),
            )
        })
    }

    /// Tags that record the cluster and namespace of a snapshot.
    #[must_use]
    pub fn snapshot_tags(&self) -> Vec<String> {
        vec![format!("cluster={}", self.cluster_uid), format!("{NAMESPACE_TAG}{}", self.namespace_uid)]
    }

    /// Fails unless the inputs name the repository that this pod was given.
    pub fn expect_repository(&self, of_inputs: &str) -> Result<(), Failure> {
        if of_inputs == self.repository {
            return Ok(());
        }
        Err(Failure::permanent(
            reason::INVALID_ENVIRONMENT,
            format!("the inputs name the repository {of_inputs:?}, but the pod was given {:?}", self.repository),
        ))
    }
}

/// Paths of the pod's mounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mounts {
    /// Directory of the password Secret.
    pub password: PathBuf,
    /// Directory of the credentials Secret.
    pub credentials: PathBuf,
    /// Directory of the volume, for a repository on a volume.
    pub volume: PathBuf,
    /// File for the termination message.
    pub termination_message: PathBuf,
}

impl Mounts {
    /// The contract's paths below `root` (`/` in a pod).
    #[must_use]
    pub fn below(root: &Path) -> Self {
        let place = |path: &str| root.join(path.trim_start_matches('/'));
        Self {
            password: place(PASSWORD_DIRECTORY),
            credentials: place(CREDENTIALS_DIRECTORY),
            volume: place(VOLUME_DIRECTORY),
            termination_message: place(TERMINATION_MESSAGE_PATH),
        }
    }
}

fn required(lookup: Lookup<'_>, name: &str) -> Result<String, Failure> {
    lookup(name).filter(|value| !value.is_empty()).ok_or_else(|| {
        Failure::permanent(
            reason::INVALID_ENVIRONMENT,
            format!("the environment variable {name} is missing: a worker runs in a Job that the operator makes"),
        )
    })
}

fn parse<T: DeserializeOwned>(name: &str, text: &str) -> Result<T, Failure> {
    serde_json::from_str(text).map_err(|error| {
        Failure::permanent(
            reason::INVALID_ENVIRONMENT,
            format!("the environment variable {name} cannot be read: {error}: are the operator and its workers of one version?"),
        )
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::collections::BTreeMap;

    pub fn variables() -> BTreeMap<&'static str, String> {
        BTreeMap::from([
            (execution::RUN, "nightly-1".to_owned()),
            (execution::RUN_UID, "run-uid".to_owned()),
            (execution::NAMESPACE, "acme".to_owned()),
            (execution::NAMESPACE_UID, "namespace-uid".to_owned()),
            (execution::CLUSTER_UID, "cluster-uid".to_owned()),
            (execution::JOB_UID, "job-uid".to_owned()),
            (execution::POD_NAME, "op-1-x".to_owned()),
            (execution::INPUTS, r#"{"repository":"main"}"#.to_owned()),
            (execution::TARGET, String::new()),
            (execution::REPOSITORY, "main".to_owned()),
            (
                execution::REPOSITORY_SPEC,
                r#"{"storage":{"persistentVolumeClaim":{"claimName":"backups"}},"passwordSecret":{"name":"p"}}"#
                    .to_owned(),
            ),
        ])
    }

    fn read(variables: &BTreeMap<&'static str, String>) -> Result<Environment, Failure> {
        Environment::read(&|name| variables.get(name).cloned())
    }

    #[test]
    fn a_whole_environment_reads() {
        let environment = read(&variables()).expect("whole");
        assert_eq!(environment.identity.run, "nightly-1");
        assert_eq!(environment.target, None);
        assert_eq!(environment.repository_spec.password_secret.key, "password");
    }

    #[test]
    fn each_missing_variable_is_named_and_never_tried_again() {
        for name in variables().into_keys().filter(|name| *name != execution::TARGET) {
            for without in [None, Some(String::new())] {
                let mut variables = variables();
                match without {
                    None => variables.remove(name),
                    Some(empty) => variables.insert(name, empty),
                };
                let failure = read(&variables).expect_err("incomplete");
                assert_eq!(failure.exit_code(), 40);
                assert!(failure.message.contains(name), "{}", failure.message);
            }
        }
    }

    #[test]
    fn an_operation_without_a_repository_is_given_none() {
        let mut variables = variables();
        variables.retain(|name, _| ![execution::REPOSITORY, execution::REPOSITORY_SPEC].contains(name));
        assert!(read(&variables).is_err());
        let without = Environment::read_for(RepositoryNeed::None, &|name| variables.get(name).cloned());
        assert_eq!(without.map(|environment| environment.repository), Ok(String::new()));
    }

    #[test]
    fn a_misspelt_input_is_refused() {
        #[derive(Debug, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Inputs {
            #[serde(rename = "repository")]
            _repository: String,
        }
        let mut variables = variables();
        variables.insert(execution::INPUTS, r#"{"repository":"main","selectoin":{}}"#.to_owned());
        let failure = read(&variables).and_then(|environment| environment.inputs::<Inputs>()).expect_err("misspelt");
        assert_eq!((failure.reason.as_str(), failure.exit_code()), (reason::INVALID_INPUTS, 40));
        assert!(failure.message.contains("selectoin"), "{}", failure.message);
    }
}
