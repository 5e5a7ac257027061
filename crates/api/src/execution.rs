//! The execution contract: what the containers of a Job are given. The controller writes it; the
//! built-in worker and any other image read it.

/// Environment: name of the run.
pub const RUN: &str = "ATLAS_RUN";
/// Environment: uid of the run.
pub const RUN_UID: &str = "ATLAS_RUN_UID";
/// Environment: namespace of the tenant.
pub const NAMESPACE: &str = "ATLAS_NAMESPACE";
/// Environment: uid of the tenant's namespace.
pub const NAMESPACE_UID: &str = "ATLAS_NAMESPACE_UID";
/// Environment: operation type.
pub const TYPE: &str = "ATLAS_TYPE";
/// Environment: inputs as JSON, at most 64 KiB.
pub const INPUTS: &str = "ATLAS_INPUTS";
/// Environment: target as JSON; empty if the run has none.
pub const TARGET: &str = "ATLAS_TARGET";
/// Environment (built-in worker and fence): name of the pod, from the downward API.
pub const POD_NAME: &str = "ATLAS_POD_NAME";
/// Environment (built-in worker and fence): uid of the Job, from the downward API.
pub const JOB_UID: &str = "ATLAS_JOB_UID";
/// Environment (built-in worker): name of the `BackupRepository`.
pub const REPOSITORY: &str = "ATLAS_REPOSITORY";
/// Environment (built-in worker): spec of the `BackupRepository` as JSON. It holds no secret.
pub const REPOSITORY_SPEC: &str = "ATLAS_REPOSITORY_SPEC";
/// Environment (built-in worker): id of this cluster, the uid of `kube-system`.
pub const CLUSTER_UID: &str = "ATLAS_CLUSTER_UID";

/// Environment (built-in worker): settings of glibc's heap, and their value. Buffers of several MiB
/// (packs of a repository, pages of a list) are returned to the kernel once they are freed. By
/// default, glibc keeps as much as the largest buffer that it has ever seen freed, once a thread.
pub const HEAP: (&str, &str) = ("GLIBC_TUNABLES", "glibc.malloc.arena_max=2:glibc.malloc.mmap_threshold=1048576");

/// Mount path of the password Secret. The file has the name of the key.
pub const PASSWORD_DIRECTORY: &str = "/etc/tenantatlas/password";
/// Mount path of the credentials Secret, with one file per key.
pub const CREDENTIALS_DIRECTORY: &str = "/etc/tenantatlas/credentials";
/// Mount path of a repository on a volume.
pub const VOLUME_DIRECTORY: &str = "/var/lib/tenantatlas/repository";
/// Mount path of the web identity token for the cloud.
pub const IDENTITY_TOKEN_DIRECTORY: &str = "/var/run/secrets/tenantatlas/identity";
/// Path of the termination message.
pub const TERMINATION_MESSAGE_PATH: &str = "/dev/termination-log";

/// Name of the worker's container. In pods of any other image, the result is read from the
/// container of this name, if there is one.
pub const WORKER_CONTAINER: &str = "worker";
/// Name of the init container that fences other images.
pub const FENCE_CONTAINER: &str = "atlas-fence";
/// Name of the volume with the fence's token.
pub const FENCE_TOKEN_VOLUME: &str = "atlas-fence-token";

/// ServiceAccount of workers that read a tenant.
pub const WORKER_ACCOUNT: &str = "tenantatlas-worker";
/// ServiceAccount of previews. Every write it makes to objects of the tenant must be a dry run.
pub const PREVIEW_ACCOUNT: &str = "tenantatlas-preview";
/// ServiceAccount of restores.
pub const RESTORE_ACCOUNT: &str = "tenantatlas-restore";
/// All ServiceAccounts created in a tenant. Each is bound to the `ClusterRole` of the same name.
pub const ACCOUNTS: [&str; 3] = [WORKER_ACCOUNT, PREVIEW_ACCOUNT, RESTORE_ACCOUNT];

/// Hours before maintenance forgets a snapshot that no backup set names, if the inputs do not set
/// them. A smaller value requires the verb `delete` on `backupsets`
/// (charts/tenantatlas/templates/admission/destruction.yaml).
pub const GRACE_HOURS: u16 = 24;
