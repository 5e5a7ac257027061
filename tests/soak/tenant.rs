//! Tenants: a namespace with objects, a repository and a schedule each.

use crate::bed::Bed;
use crate::repository::PASSWORD;
use crate::s3::{ACCESS_KEY, SECRET_KEY};
use crate::store::{BUCKET, Store};
use crate::{Result, api};
use futures::{StreamExt as _, TryStreamExt as _};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tenantatlas::api::execution::ACCOUNTS;
use tenantatlas::api::labels;

/// How many ConfigMaps a tenant has, from `settings-0`.
pub const MAPS: u64 = 6;

/// How many tenants are prepared at once.
const AT_ONCE: usize = 6;

/// One tenant.
#[derive(Clone, Debug)]
pub struct Tenant {
    pub number: u64,
    pub namespace: String,
    /// Where the repository's files are, on this machine.
    pub folder: PathBuf,
    /// Whether that is a bucket of the store; else it is a volume.
    pub is_on_s3: bool,
    /// Minutes between two ticks of its schedule.
    pub every: i64,
}

/// Minutes between ticks that make the same minutes of each hour.
const RHYTHMS: [i64; 8] = [2, 3, 4, 5, 6, 10, 12, 15];

/// How many tenants take all of two cores if each of their schedules ticks every minute.
const TENANTS_A_MINUTE: u64 = 12;

/// How much rarer everything happens than with few tenants, so that the machine bears it.
pub fn pace(tenants: u64) -> u64 {
    tenants.div_ceil(TENANTS_A_MINUTE)
}

impl Tenant {
    fn new(number: u64, bed: &Bed, store: &Store) -> Self {
        let namespace = format!("soak-{number}");
        let is_on_s3 = number % 5 != 4;
        let folder = if is_on_s3 { store.folder(&namespace) } else { bed.settings.volume_root.join(&namespace) };
        let pace = i64::try_from(pace(bed.settings.tenants)).unwrap_or(1);
        let every = RHYTHMS.into_iter().find(|rhythm| *rhythm >= pace).unwrap_or(60);
        Self { number, namespace, folder, is_on_s3, every }
    }

    /// The minute in which its ticks come, of so many.
    pub fn rest(&self) -> i64 {
        i64::try_from(self.number).unwrap_or_default() % self.every
    }
}

/// Makes all tenants, each with a repository that is Ready.
pub async fn prepare(bed: &Arc<Bed>, store: &Arc<Store>) -> Result<Vec<Tenant>> {
    let all = (0..bed.settings.tenants).map(|number| Tenant::new(number, bed, store));
    let made = futures::stream::iter(all).map(|tenant| async move {
        make(bed, store, &tenant).await.map_err(|error| format!("{}: {error}", tenant.namespace))?;
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(tenant)
    });
    let made: Vec<Tenant> = made.buffered(AT_ONCE).try_collect().await?;
    // Last, so that no tenant waits for the first captures of others.
    for tenant in &made {
        bed.create(&Bed::ours(&tenant.namespace, "backupschedules"), &schedule(tenant)).await?;
        let maintenance = json!({ "spec": { "maintenance": maintenance(tenant) } });
        bed.merge(&Bed::ours(&tenant.namespace, "backuprepositories/main"), &maintenance).await?;
    }
    Ok(made)
}

async fn make(bed: &Bed, store: &Store, tenant: &Tenant) -> Result<()> {
    let namespace = &tenant.namespace;
    let labels = json!({ (labels::WORKSPACE): "soak", "pod-security.kubernetes.io/enforce": "restricted" });
    bed.create("/api/v1/namespaces", &json!({ "metadata": { "name": namespace, "labels": labels } })).await?;
    bed.until("the accounts", Duration::from_mins(2), async || {
        for account in ACCOUNTS {
            bed.get(&format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}")).await?;
        }
        Ok(Ok(()))
    })
    .await?;
    for (path, object) in objects(namespace) {
        bed.create(&path, &object).await?;
    }
    bed.create(&Bed::ours(namespace, "backuprepositories"), &repository(bed, store, tenant).await?).await?;
    bed.until("the repository is Ready", Duration::from_mins(5), async || {
        let repository = bed.get(&Bed::ours(namespace, "backuprepositories/main")).await?;
        let conditions = repository["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let is_ready = |condition: &Value| condition["type"] == "Ready" && condition["status"] == "True";
        if conditions.iter().any(is_ready) { Ok(Ok(())) } else { Ok(Err(json!(conditions).to_string())) }
    })
    .await
}

/// What a user has in a namespace; nothing of it starts a pod.
fn objects(namespace: &str) -> Vec<(String, Value)> {
    let core = |plural: &str| format!("/api/v1/namespaces/{namespace}/{plural}");
    let apps = format!("/apis/apps/v1/namespaces/{namespace}/deployments");
    let mut objects: Vec<_> =
        (0..MAPS).map(|number| (core("configmaps"), map(&format!("settings-{number}"), "0"))).collect();
    objects.extend([
        (core("secrets"), json!({ "metadata": { "name": "token" }, "stringData": { "token": "first" } })),
        (
            core("secrets"),
            json!({ "metadata": { "name": "s3" },
                "stringData": { "AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY } }),
        ),
        (core("secrets"), json!({ "metadata": { "name": "password" }, "stringData": { "password": PASSWORD } })),
        (
            core("services"),
            json!({ "metadata": { "name": "web" }, "spec": { "selector": { "app": "web" }, "ports": [{ "port": 80 }] } }),
        ),
        (
            apps,
            json!({ "metadata": { "name": "web" }, "spec": {
                "replicas": 0,
                "selector": { "matchLabels": { "app": "web" } },
                "template": { "metadata": { "labels": { "app": "web" } },
                    "spec": { "containers": [{ "name": "web", "image": "localhost/none" }] } },
            }}),
        ),
    ]);
    objects
}

/// A ConfigMap with a value.
pub fn map(name: &str, value: &str) -> Value {
    json!({ "metadata": { "name": name }, "data": { "value": value, "text": "of a tenant of the soak ".repeat(20) } })
}

async fn repository(bed: &Bed, store: &Store, tenant: &Tenant) -> Result<Value> {
    let mut spec = json!({ "passwordSecret": { "name": "password" } });
    if tenant.is_on_s3 {
        spec["credentialsSecret"] = json!({ "name": "s3" });
        spec["storage"] = json!({ "s3": { "bucket": BUCKET, "prefix": tenant.namespace, "endpoint": store.endpoint(), "region": "eu-1" } });
    } else {
        volume(bed, tenant).await?;
        spec["storage"] = json!({ "persistentVolumeClaim": { "claimName": "backups" } });
    }
    Ok(json!({ "apiVersion": "tenantatlas.io/v1alpha1", "kind": "BackupRepository",
        "metadata": { "name": "main" }, "spec": spec }))
}

/// A claim, and a volume for it in a folder of the node.
async fn volume(bed: &Bed, tenant: &Tenant) -> Result<()> {
    std::fs::create_dir_all(&tenant.folder)?;
    let nodes = api::get(&bed.client, "/api/v1/nodes").await?;
    let node = &nodes["items"][0]["metadata"]["name"];
    let affinity =
        json!([{ "matchExpressions": [{ "key": "kubernetes.io/hostname", "operator": "In", "values": [node] }] }]);
    let volume = json!({ "metadata": { "name": tenant.namespace }, "spec": {
        "accessModes": ["ReadWriteOnce"],
        "capacity": { "storage": "1Gi" },
        "local": { "path": tenant.folder },
        "persistentVolumeReclaimPolicy": "Retain",
        "storageClassName": "soak",
        "claimRef": { "namespace": tenant.namespace, "name": "backups" },
        "nodeAffinity": { "required": { "nodeSelectorTerms": affinity } },
    }});
    bed.create("/api/v1/persistentvolumes", &volume).await?;
    let claim = json!({ "metadata": { "name": "backups" }, "spec": {
        "accessModes": ["ReadWriteOnce"],
        "resources": { "requests": { "storage": "1Gi" } },
        "storageClassName": "soak",
        "volumeName": tenant.namespace,
    }});
    bed.create(&format!("/api/v1/namespaces/{}/persistentvolumeclaims", tenant.namespace), &claim).await?;
    Ok(())
}

/// After every fourth tick, each tenant in another minute.
fn maintenance(tenant: &Tenant) -> Value {
    let every = tenant.every * 4;
    let minute = i64::try_from(tenant.number).unwrap_or_default() % every;
    json!({ "schedule": format!("{minute}-59/{every} * * * *"), "readDataPercent": 10 })
}

/// A capture at each tick, by one of the three policies.
fn schedule(tenant: &Tenant) -> Value {
    let policy = ["Forbid", "Allow", "Replace"][usize::try_from(tenant.number % 3).unwrap_or_default()];
    json!({ "apiVersion": "tenantatlas.io/v1alpha1", "kind": "BackupSchedule", "metadata": { "name": "ticks" }, "spec": {
        "schedule": format!("{}-59/{} * * * *", tenant.rest(), tenant.every),
        "jitterSeconds": 60,
        "concurrencyPolicy": policy,
        "retention": { "keepLast": 5 },
        "operation": { "type": "backup.capture", "inputs": { "repository": "main" } },
    }})
}
