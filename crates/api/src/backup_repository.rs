//! `BackupRepository`: where a tenant's backups are, and with which Secrets they open.

use crate::{
    LocalReference, canonical,
    cron_rules::{cron_rule, day_rule},
    reference::SecretKeyReference,
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// A tenant's encrypted, deduplicated store.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
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
    doc = "A tenant's encrypted, deduplicated store of backups, in the format of restic: whoever has the location and the password can read it with stock tools.",
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
    /// Where the data is: exactly one of `s3`, `gcs`, `azure`, `persistentVolumeClaim`.
    pub storage: Storage,
    /// Secret with the store's credentials, in the same namespace. Left out: the worker's own identity in the cloud.
    /// Keys: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` (and `AWS_SESSION_TOKEN`); `service-account.json`;
    /// `AZURE_STORAGE_ACCOUNT_KEY` or `AZURE_STORAGE_SAS_TOKEN`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret: Option<LocalReference>,
    /// Secret with the repository's password, in the same namespace. Lost password, lost backups: keep a copy outside the cluster.
    pub password_secret: SecretKeyReference,
    /// When the repository is cleaned and checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maintenance: Option<Maintenance>,
    /// Takes over a store written by other namespaces (of a lost cluster, say). Needs the verb `adopt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adopt: Option<Adoption>,
}

/// Where the data is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.s3), has(self.gcs), has(self.azure), has(self.persistentVolumeClaim)].filter(given, given).size() == 1").message("storage takes exactly one of s3, gcs, azure and persistentVolumeClaim"))]
pub struct Storage {
    /// Amazon S3 or a compatible store with conditional writes.
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

/// A bucket of S3 or of a compatible store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct S3Storage {
    /// Bucket.
    #[schemars(length(min = 3, max = 63), regex(pattern = r"^[a-z0-9][-a-z0-9.]*[a-z0-9]$"))]
    pub bucket: String,
    /// Path in the bucket; give each tenant its own.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(
        length(max = 512),
        regex(pattern = r"^([A-Za-z0-9_=-][A-Za-z0-9._=-]*(/[A-Za-z0-9_=-][A-Za-z0-9._=-]*)*)?$")
    )]
    pub prefix: String,
    /// URL of a compatible store; left out: Amazon's for the region. `http://` is taken at its word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512), regex(pattern = r"^https?://[A-Za-z0-9.\[\]:_-]+/?$"))]
    pub endpoint: Option<String>,
    /// Region.
    #[serde(default = "default_region")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[a-z0-9-]+$"))]
    pub region: String,
    /// Whether the bucket stands in the URL's path and not in its host name; true where an endpoint is given and this is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_style: Option<bool>,
    /// PEM certificates to trust for the endpoint, beside the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 65536))]
    pub ca_bundle: Option<String>,
    /// Role the worker takes on by its ServiceAccount token (IRSA), where no `credentialsSecret` is given.
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
    /// Bucket.
    #[schemars(length(min = 3, max = 222), regex(pattern = r"^[a-z0-9][-a-z0-9._]*[a-z0-9]$"))]
    pub bucket: String,
    /// Path in the bucket; give each tenant its own.
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
    /// Storage account.
    #[schemars(length(min = 3, max = 24), regex(pattern = r"^[a-z0-9]+$"))]
    pub account: String,
    /// Container.
    #[schemars(length(min = 3, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub container: String,
    /// Path in the container; give each tenant its own.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(
        length(max = 512),
        regex(pattern = r"^([A-Za-z0-9_=-][A-Za-z0-9._=-]*(/[A-Za-z0-9_=-][A-Za-z0-9._=-]*)*)?$")
    )]
    pub prefix: String,
    /// Client id of a workload identity, where no `credentialsSecret` is given.
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
    /// PersistentVolumeClaim in the same namespace.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub claim_name: String,
}

/// When a repository is cleaned and checked. Of ticks that came while the operator was down one is made up for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(concat!("!has(self.schedule) || ", day_rule!("self.schedule"))).message("maintenance.schedule names a day that its month never has"),
    validation = Rule::new(concat!("!has(self.schedule) || ", cron_rule!("self.schedule"))).message("maintenance.schedule takes five fields (minute 0-59, hour 0-23, day of month 1-31, month 1-12 or JAN-DEC, day of week 0-7 or SUN-SAT) such as '0 3 * * 0', or an alias: @yearly, @annually, @monthly, @weekly, @daily, @midnight, @hourly; always in UTC"),
    validation = Rule::new(concat!("!has(self.check) || ", day_rule!("self.check"))).message("maintenance.check names a day that its month never has"),
    validation = Rule::new(concat!("!has(self.check) || ", cron_rule!("self.check"))).message("maintenance.check takes five fields (minute 0-59, hour 0-23, day of month 1-31, month 1-12 or JAN-DEC, day of week 0-7 or SUN-SAT) such as '0 3 * * *', or an alias: @yearly, @annually, @monthly, @weekly, @daily, @midnight, @hourly; always in UTC"),
)]
pub struct Maintenance {
    /// When `repository.maintain` runs, cron with 5 fields or an `@alias`, UTC: it removes snapshots that are a day old and named by no
    /// backup set, later their data, and then checks. Left out: never, and what backup sets gave up stays in the store. Needs the verb `run`
    /// on `repository.maintain`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub schedule: Option<String>,
    /// When `repository.check` runs, cron with 5 fields or an `@alias`, UTC. Left out: when another field of the spec than `maintenance` changes, and
    /// with maintenance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub check: Option<String>,
    /// Percentage of the data a check reads back, also that of maintenance; 0 (or left out) checks the structure alone. Checks a
    /// fixed number of days apart come around to all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub read_data_percent: Option<i32>,
}

/// Consent to take over a store written by others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Adoption {
    /// Uids of the namespaces whose backups are taken over.
    #[schemars(length(min = 1, max = 32), inner(length(max = 64)))]
    pub namespace_uids: Vec<String>,
}

/// What is known of the store. Written by the controller, from the last `repository.check` or `repository.maintain`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct BackupRepositoryStatus {
    /// Generation of the spec this status speaks of; -1 until it was looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// What of the spec the last check vouches for, as a hash: all but `maintenance`. While it stays the same there is no need of another.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), regex(pattern = r"^[0-9a-f]{64}$"))]
    pub checked_spec: Option<String>,
    /// Snapshots in the store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshots: Option<i64>,
    /// Bytes in the store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<i64>,
    /// Captured bytes for each stored byte, such as `12.4`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub dedup_ratio: Option<String>,
    /// When the last check ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::date_time")]
    pub last_check: Option<Timestamp>,
    /// The run that made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_check_run: Option<crate::ObjectReference>,
    /// When unneeded data were last removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::date_time")]
    pub last_prune: Option<Timestamp>,
    /// Until when the ticks of `spec.maintenance` are dealt with, and when the repository was checked by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maintenance: Option<MaintenanceStatus>,
    /// `Ready`, and kstatus' `Reconciling` and `Stalled`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub conditions: Vec<Condition>,
}

/// Until when ticks are dealt with, and when the repository was checked by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MaintenanceStatus {
    /// Of `spec.maintenance.schedule`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Ticked>,
    /// Of `spec.maintenance.check`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check: Option<Ticked>,
    /// When it was last checked by itself because it was not Ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::date_time")]
    pub recheck: Option<Timestamp>,
}

/// An expression, and until when its ticks are dealt with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Ticked {
    /// The expression, as it is in the spec. Another one is counted anew.
    #[schemars(length(max = 128))]
    pub expression: String,
    /// No tick until then is started any more.
    #[schemars(schema_with = "crate::schema::date_time")]
    pub until: Timestamp,
}

impl BackupRepositorySpec {
    /// What a check vouches for, as a hash: where the store is, how it opens, whose it is.
    #[must_use]
    pub fn checked_hash(&self) -> String {
        let Self { storage, credentials_secret, password_secret, maintenance: _, adopt } = self;
        canonical::digest(&json!({
            "storage": storage, "credentialsSecret": credentials_secret, "passwordSecret": password_secret, "adopt": adopt,
        }))
    }
}

impl BackupRepository {
    /// Whether the store was checked with the spec as it is now, or with one that differs in nothing that a check vouches for.
    #[must_use]
    pub fn is_checked(&self) -> bool {
        self.status.as_ref().is_some_and(|status| {
            status.observed_generation == self.metadata.generation
                || status.checked_spec.as_ref().is_some_and(|checked| *checked == self.spec.checked_hash())
        })
    }

    /// Whether the store passed its last check with the spec as it is now.
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
        // It stands in statuses: another one would have every repository checked once more.
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
}
