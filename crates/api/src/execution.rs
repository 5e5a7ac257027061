//! The execution contract: what a Job's containers are given. The controller writes it, the worker and any
//! other image read it.

/// Environment: the run's name.
pub const RUN: &str = "ATLAS_RUN";
/// Environment: the run's uid.
pub const RUN_UID: &str = "ATLAS_RUN_UID";
/// Environment: the tenant's namespace.
pub const NAMESPACE: &str = "ATLAS_NAMESPACE";
/// Environment: the tenant's namespace uid.
pub const NAMESPACE_UID: &str = "ATLAS_NAMESPACE_UID";
/// Environment: the operation type.
pub const TYPE: &str = "ATLAS_TYPE";
/// Environment: the inputs as JSON, at most 64 KiB.
pub const INPUTS: &str = "ATLAS_INPUTS";
/// Environment: the target as JSON; empty where the run has none.
pub const TARGET: &str = "ATLAS_TARGET";
/// Environment (our worker and the fence): the pod's name, by the downward API.
pub const POD_NAME: &str = "ATLAS_POD_NAME";
/// Environment (our worker and the fence): the Job's uid, by the downward API.
pub const JOB_UID: &str = "ATLAS_JOB_UID";
/// Environment (our worker): the `BackupRepository`'s name.
pub const REPOSITORY: &str = "ATLAS_REPOSITORY";
/// Environment (our worker): the `BackupRepository`'s spec as JSON. It holds no secret.
pub const REPOSITORY_SPEC: &str = "ATLAS_REPOSITORY_SPEC";
/// Environment (our worker): an id of this cluster, the uid of `kube-system`.
pub const CLUSTER_UID: &str = "ATLAS_CLUSTER_UID";

/// Where the password Secret is mounted; the file bears the name of the key.
pub const PASSWORD_DIRECTORY: &str = "/etc/tenantatlas/password";
/// Where the credentials Secret is mounted, a file a key.
pub const CREDENTIALS_DIRECTORY: &str = "/etc/tenantatlas/credentials";
/// Where a volume repository is mounted.
pub const VOLUME_DIRECTORY: &str = "/var/lib/tenantatlas/repository";
/// Where the web identity token for the cloud is mounted.
pub const IDENTITY_TOKEN_DIRECTORY: &str = "/var/run/secrets/tenantatlas/identity";
/// Where the termination message goes.
pub const TERMINATION_MESSAGE_PATH: &str = "/dev/termination-log";

/// Name of the worker's container, and of the container that a result is read from in any image's pod, if it is there.
pub const WORKER_CONTAINER: &str = "worker";
/// Name of the init container that fences other images.
pub const FENCE_CONTAINER: &str = "atlas-fence";
/// Name of the volume with its token.
pub const FENCE_TOKEN_VOLUME: &str = "atlas-fence-token";

/// The account of workers that read a tenant.
pub const WORKER_ACCOUNT: &str = "tenantatlas-worker";
/// The account of previews: whatever it writes must be a dry run.
pub const PREVIEW_ACCOUNT: &str = "tenantatlas-preview";
/// The account of restores.
pub const RESTORE_ACCOUNT: &str = "tenantatlas-restore";
/// All accounts made in a tenant, with the `ClusterRole` of the same name each is bound to.
pub const ACCOUNTS: [&str; 3] = [WORKER_ACCOUNT, PREVIEW_ACCOUNT, RESTORE_ACCOUNT];

/// Hours before maintenance forgets a snapshot that no backup set names, where the inputs do not say. To ask for less takes the right to
/// delete backup sets (charts/tenantatlas/templates/admission/destruction.yaml).
pub const GRACE_HOURS: u16 = 24;
