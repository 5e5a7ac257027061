//! `BackupRepository`: where a tenant's backups are stored, and which Secrets open the store.

use crate::{
    LocalReference, canonical,
    cron_rules::{cron_rule, day_rule},
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// A tenant's encrypted, deduplicated store.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "tenantatlas.io",
    version = "v1alpha1",
    kind = "BackupRepository",
    plural = "backuprepositories",
    shortname = "brepo",
    category = "atlas",
    namespaced,
    status = "BackupRepositoryStatus",
    derive = "PartialEq",
    doc = "A tenant's encrypted, deduplicated store of backups, in restic's repository format. Stock tools can read it, given the location and the password.",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Snapshots", type_ = "integer", json_path = ".status.snapshots"),
    printcolumn(name = "Bytes", type_ = "integer", json_path = ".status.bytes"),
    printcolumn(name = "Last-Check", type_ = "date", json_path = ".status.lastCheck"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Dedup", type_ = "string", json_path = ".status.dedupRatio", priority = "1"),
    printcolumn(name = "Last-Prune", type_ = "date", json_path = ".status.lastPrune", priority = "1"),
    validation = Rule::new("self.metadata.name.size() <= 180").message("the name of a repository is at most 180 characters").reason(Reason::FieldValueInvalid),
)]
#[serde(rename_all = "camelCase")]
pub struct BackupRepositorySpec {
    /// Location of the store: exactly one of `s3`, `gcs`, `azure` and `persistentVolumeClaim`.
    pub storage: Storage,
    /// Secret with the store's credentials, in the same namespace. If unset, the worker uses its
    /// own cloud identity. Keys for S3: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and optionally
    /// `AWS_SESSION_TOKEN`. Key for GCS: `service-account.json`. Keys for Azure:
    /// `AZURE_STORAGE_ACCOUNT_KEY` or `AZURE_STORAGE_SAS_TOKEN`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret: Option<LocalReference>,
    /// Secret with the repository's password, in the same namespace. If the password is lost, the
    /// backups are lost: keep a copy outside the cluster.
    pub password_secret: PasswordSecret,
    /// Who can open the repository if the password Secret is lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery: Option<Recovery>,
    /// When the repository is maintained and checked. Of the ticks that were due while the operator
    /// was down, one is caught up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maintenance: Option<Maintenance>,
    /// Takes over a store written by other namespaces, for example those of a lost cluster.
    /// Requires the verb `adopt` on this BackupRepository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adopt: Option<Adoption>,
}

/// The Secret with the repository's password, in the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PasswordSecret {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
    /// Key in the Secret. Defaults to `password`.
    #[serde(default = "default_key")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub key: String,
    /// Whether the first check creates the Secret with a random password if there is none. It
    /// creates none once the store holds a repository. Requires the verb `create` on `secrets`.
    /// Defaults to false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub generate: bool,
}

fn default_key() -> String {
    "password".to_owned()
}

/// Who can open the repository if the password Secret is lost.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Recovery {
    /// Public keys in age's format (`age1…`). Each check stores a copy of the password below
    /// `tenantatlas/recovery/` in the store, encrypted for these keys: `age --decrypt` opens it with
    /// the private key of any of them. A check that could not store it says so in its message. A
    /// change takes effect with the next check. Requires the verb `get` on the password Secret.
    #[schemars(
        length(min = 1, max = 10),
        inner(length(min = 62, max = 62), regex(pattern = r"^age1[02-9ac-hj-np-z]{58}$")),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub recipients: Vec<String>,
}

/// Location of the store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.s3), has(self.gcs), has(self.azure), has(self.persistentVolumeClaim)].filter(given, given).size() == 1").message("storage takes exactly one of s3, gcs, azure and persistentVolumeClaim"))]
pub struct Storage {
    /// Amazon S3, or a compatible store with conditional writes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3: Option<S3Storage>,
    /// Google Cloud Storage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gcs: Option<GcsStorage>,
    /// Azure Blob Storage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub azure: Option<AzureStorage>,
    /// A volume in the tenant's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistent_volume_claim: Option<VolumeStorage>,
}

/// A bucket of Amazon S3 or of a compatible store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct S3Storage {
    /// Name of the bucket.
    #[schemars(length(min = 3, max = 63), regex(pattern = r"^[a-z0-9][-a-z0-9.]*[a-z0-9]$"))]
    pub bucket: String,
    /// Path in the bucket. Give each tenant its own.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(
        length(max = 512),
        regex(pattern = r"^([A-Za-z0-9_=-][A-Za-z0-9._=-]*(/[A-Za-z0-9_=-][A-Za-z0-9._=-]*)*)?$")
    )]
    pub prefix: String,
    /// URL of an S3-compatible store. Defaults to Amazon's endpoint for the region. With `http://`
    /// the worker connects without TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512), regex(pattern = r"^https?://[A-Za-z0-9.\[\]:_-]+/?$"))]
    pub endpoint: Option<String>,
    /// Region of the bucket. Defaults to `us-east-1`.
    #[serde(default = "default_region")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[a-z0-9-]+$"))]
    pub region: String,
    /// Whether the bucket is part of the URL's path instead of its host name. Defaults to true if
    /// `endpoint` is set, else to false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_style: Option<bool>,
    /// PEM certificates to trust for the endpoint, in addition to the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 65536))]
    pub ca_bundle: Option<String>,
    /// Role that the worker assumes with its ServiceAccount token (IRSA). Used only if
    /// `credentialsSecret` is unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048), regex(pattern = r"^arn:[a-z-]+:iam::[0-9]+:role/.+$"))]
    pub role_arn: Option<String>,
}

fn default_region() -> String {
    "us-east-1".to_owned()
}

/// A bucket of Google Cloud Storage.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GcsStorage {
    /// Name of the bucket.
    #[schemars(length(min = 3, max = 222), regex(pattern = r"^[a-z0-9][-a-z0-9._]*[a-z0-9]$"))]
    pub bucket: String,
    /// Path in the bucket. Give each tenant its own.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(
        length(max = 512),
        regex(pattern = r"^([A-Za-z0-9_=-][A-Za-z0-9._=-]*(/[A-Za-z0-9_=-][A-Za-z0-9._=-]*)*)?$")
    )]
    pub prefix: String,
}

/// A container of Azure Blob Storage.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AzureStorage {
    /// Name of the storage account.
    #[schemars(length(min = 3, max = 24), regex(pattern = r"^[a-z0-9]+$"))]
    pub account: String,
    /// Name of the container.
    #[schemars(length(min = 3, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub container: String,
    /// Path in the container. Give each tenant its own.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(
        length(max = 512),
        regex(pattern = r"^([A-Za-z0-9_=-][A-Za-z0-9._=-]*(/[A-Za-z0-9_=-][A-Za-z0-9._=-]*)*)?$")
    )]
    pub prefix: String,
    /// Client id of a workload identity. Used only if `credentialsSecret` is unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), regex(pattern = r"^[0-9a-fA-F-]+$"))]
    pub client_id: Option<String>,
    /// Directory (tenant) id of that workload identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), regex(pattern = r"^[0-9a-fA-F-]+$"))]
    pub directory_id: Option<String>,
}

/// A volume in the tenant's namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VolumeStorage {
    /// Name of the PersistentVolumeClaim, in the same namespace.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub claim_name: String,
}

/// When a repository is maintained and checked. Of the ticks that were due while the operator was
/// down, one is caught up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(concat!("!has(self.schedule) || ", day_rule!("self.schedule"))).message("maintenance.schedule names a day that its month never has"),
    validation = Rule::new(concat!("!has(self.schedule) || ", cron_rule!("self.schedule"))).message("maintenance.schedule takes five fields (minute 0-59, hour 0-23, day of month 1-31, month 1-12 or JAN-DEC, day of week 0-7 or SUN-SAT) such as '0 3 * * 0', or an alias: @yearly, @annually, @monthly, @weekly, @daily, @midnight, @hourly; always in UTC"),
    validation = Rule::new(concat!("!has(self.check) || ", day_rule!("self.check"))).message("maintenance.check names a day that its month never has"),
    validation = Rule::new(concat!("!has(self.check) || ", cron_rule!("self.check"))).message("maintenance.check takes five fields (minute 0-59, hour 0-23, day of month 1-31, month 1-12 or JAN-DEC, day of week 0-7 or SUN-SAT) such as '0 3 * * *', or an alias: @yearly, @annually, @monthly, @weekly, @daily, @midnight, @hourly; always in UTC"),
)]
pub struct Maintenance {
    /// When `repository.maintain` runs, in UTC: a cron expression with 5 fields, or an `@alias`.
    /// Maintenance removes snapshots that are at least a day old and that no backup set names. It
    /// deletes their data later, and then checks the repository. If unset, maintenance never runs,
    /// and the data of deleted backup sets stays in the store. Requires the verb `run` on
    /// `repository.maintain`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub schedule: Option<String>,
    /// When `repository.check` runs, in UTC: a cron expression with 5 fields, or an `@alias`. If
    /// unset, checks run with maintenance, after a change of any field of the spec other than
    /// `maintenance` and `recovery`, and while the repository is not Ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub check: Option<String>,
    /// Percentage of the data that a check reads back, including the check in maintenance. With 0,
    /// the default, a check covers the structure only. Checks that run a fixed number of days apart
    /// eventually read all data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub read_data_percent: Option<i32>,
}

/// Consent to take over a store written by other namespaces.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Adoption {
    /// Uids of the namespaces whose backups are taken over.
    #[schemars(length(min = 1, max = 32), inner(length(max = 64)))]
    pub namespace_uids: Vec<String>,
}

/// Observed state of the store. Written by the controller, from the last `repository.check` or
/// `repository.maintain`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct BackupRepositoryStatus {
    /// Generation of the spec that this status describes; -1 until a first check has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Hash of the part of the spec that the last check covers: everything but `maintenance` and
    /// `recovery`. No new check is needed while the hash stays the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), regex(pattern = r"^[0-9a-f]{64}$"))]
    pub checked_spec: Option<String>,
    /// Number of snapshots in the store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshots: Option<i64>,
    /// Size of the store, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<i64>,
    /// Captured bytes per stored byte, such as `12.4`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub dedup_ratio: Option<String>,
    /// When the last check ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::date_time")]
    pub last_check: Option<Timestamp>,
    /// Run of the last check.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_check_run: Option<crate::ObjectReference>,
    /// When maintenance last removed unneeded data.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::date_time")]
    pub last_prune: Option<Timestamp>,
    /// What the backup sets hold of the tenant, as the newest inventory of the whole tenant that looked
    /// found it (`coverageDays` of `inventory.sync`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coverage: Option<Box<crate::coverage::RepositoryCoverage>>,
    /// Ticks of `spec.maintenance` that are already handled, and the last automatic recheck.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maintenance: Option<MaintenanceStatus>,
    /// `Ready`, and the kstatus conditions `Reconciling` and `Stalled`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub conditions: Vec<Condition>,
}

/// Ticks that are already handled, and the last automatic recheck.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MaintenanceStatus {
    /// Ticks of `spec.maintenance.schedule`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Ticked>,
    /// Ticks of `spec.maintenance.check`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check: Option<Ticked>,
    /// When the operator last started a check of the repository while it was not Ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::date_time")]
    pub recheck: Option<Timestamp>,
}

/// A cron expression, and the time up to which its ticks are handled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Ticked {
    /// Expression, as in the spec. If it changes, ticks are counted from then on.
    #[schemars(length(max = 128))]
    pub expression: String,
    /// Ticks up to this time are not started any more.
    #[schemars(schema_with = "crate::schema::date_time")]
    pub until: Timestamp,
}

impl BackupRepositorySpec {
    /// Hash of the part of the spec that a check covers: location, Secrets and adopted namespaces.
    #[must_use]
    pub fn checked_hash(&self) -> String {
        let Self { storage, credentials_secret, password_secret, recovery: _, maintenance: _, adopt } = self;
        canonical::digest(&json!({
            "storage": storage, "credentialsSecret": credentials_secret, "passwordSecret": password_secret, "adopt": adopt,
        }))
    }
}

impl BackupRepository {
    /// Whether the store was checked with the current spec, or with one that differs only in fields
    /// that a check does not cover.
    #[must_use]
    pub fn is_checked(&self) -> bool {
        self.status.as_ref().is_some_and(|status| {
            status.observed_generation == self.metadata.generation
                || status.checked_spec.as_ref().is_some_and(|checked| *checked == self.spec.checked_hash())
        })
    }

    /// Whether the next check may have to create the password Secret: the spec says so, and no check
    /// has passed with this location and this Secret.
    #[must_use]
    pub fn may_need_password(&self) -> bool {
        let has_passed = self.status.as_ref().is_some_and(|status| status.bytes.is_some());
        self.spec.password_secret.generate && !(has_passed && self.is_checked())
    }

    /// Whether the store passed its last check with the current spec.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let conditions = self.status.iter().flat_map(|status| &status.conditions);
        let mut ready = conditions.filter(|condition| condition.type_ == "Ready" && condition.status == "True");
        self.is_checked() && ready.next().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::BackupRepository;
    use serde_json::{Value, json};

    #[test]
    fn what_a_check_vouches_for_is_all_of_the_spec_but_maintenance() {
        let of = |change: &dyn Fn(&mut Value)| {
            let mut spec = json!({"storage": {"persistentVolumeClaim": {"claimName": "backups"}}, "passwordSecret": {"name": "p"},
                "credentialsSecret": {"name": "c"}, "adopt": {"namespaceUids": ["u"]}});
            change(&mut spec);
            let repository = json!({"apiVersion": "tenantatlas.io/v1alpha1", "kind": "BackupRepository", "metadata": {"name": "main"}, "spec": spec});
            serde_json::from_value::<BackupRepository>(repository).expect("a repository").spec.checked_hash()
        };
        let before = of(&|_| ());
        // The hash is stored in statuses. A different one would recheck every repository once.
        insta::assert_snapshot!(before);
        assert_eq!(of(&|spec| spec["maintenance"] = json!({"schedule": "@daily", "readDataPercent": 7})), before);
        for (field, value) in [
            ("storage", json!({"persistentVolumeClaim": {"claimName": "others"}})),
            ("passwordSecret", json!({"name": "p", "key": "other"})),
            ("credentialsSecret", Value::Null),
            ("adopt", Value::Null),
        ] {
            assert_ne!(of(&|spec| spec[field] = value.clone()), before, "{field}");
        }
    }

    #[test]
    fn a_repository_is_ready_if_a_check_vouches_for_what_it_is_now() {
        let repository = |generation: i64, status: Value| -> BackupRepository {
            serde_json::from_value(json!({
                "apiVersion": "tenantatlas.io/v1alpha1", "kind": "BackupRepository",
                "metadata": {"name": "main", "generation": generation},
                "spec": {"storage": {"s3": {"bucket": "backups"}}, "passwordSecret": {"name": "p"}}, "status": status
            }))
            .expect("a repository")
        };
        let condition = |type_: &str, status: &str| {
            json!([{"type": type_, "status": status, "reason": "r", "message": "m",
                "lastTransitionTime": "2026-01-01T00:00:00Z"}])
        };
        let ready = condition("Ready", "True");
        let hash = repository(1, json!(null)).spec.checked_hash();
        for (of, observed, hash, conditions, is_checked, is_ready) in [
            ("this generation", 7, "", &ready, true, true),
            ("an earlier generation of another spec", 6, "another", &ready, false, false),
            ("an earlier generation of the same spec", 6, hash.as_str(), &ready, true, true),
            ("this generation, and it failed", 7, "", &condition("Ready", "False"), true, false),
            ("this generation, and says another thing", 7, "", &condition("Stalled", "True"), true, false),
            ("this generation, and says nothing", 7, "", &json!([]), true, false),
        ] {
            let status = json!({"observedGeneration": observed, "checkedSpec": hash, "conditions": conditions});
            let repository = repository(7, status);
            assert_eq!(
                (repository.is_checked(), repository.is_ready()),
                (is_checked, is_ready),
                "the check is of {of}"
            );
        }
        let unchecked = repository(7, json!(null));
        assert!(!unchecked.is_checked() && !unchecked.is_ready(), "nobody has looked at it");
        assert_eq!(unchecked.spec.storage.s3.map(|s3| s3.region).as_deref(), Some("us-east-1"));
        assert_eq!(unchecked.spec.password_secret.key, "password");
    }
}
