//! Backup sets without a capture: snapshots that the library writes, and the records that name them. What a capture from an
//! API server costs is another row's.

use super::objects::object;
use crate::bed::Bed;
use crate::worker::{CLUSTER, PASSWORD, Worker};
use crate::{Result, api};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tenantatlas::repository::{
    CaptureOptions, Entry, ItemPath, Location, OwnerMarker, Ownership, Repository as _, RepositoryKey,
    RusticRepository, Timeouts, WriterPermit, entries,
};

/// The sets of a tenant.
pub struct Sets<'a> {
    bed: &'a Bed,
    namespace: String,
    uid: String,
    /// When the first one was taken.
    begun: Timestamp,
    /// The repository of the tenant's worker.
    pub repository: RusticRepository,
}

impl<'a> Sets<'a> {
    /// Opens the repository of a worker; one is made in an empty volume.
    pub async fn of(bed: &'a Bed, namespace: &str, worker: &Worker) -> Result<Self> {
        let tenant = api::get(&bed.client, &format!("/api/v1/namespaces/{namespace}")).await?;
        let uid = tenant["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
        let owner =
            OwnerMarker { cluster_uid: CLUSTER.to_owned(), namespace_uid: uid.clone(), created_by: "bench".to_owned() };
        let location = Location::FileSystem { path: worker.volume() };
        let key = RepositoryKey::Password(PASSWORD.to_owned());
        let ownership = Ownership { owner, adopt: Vec::new() };
        let repository = RusticRepository::open_or_init(&location, &Timeouts::default(), &key, &ownership).await?;
        let begun = Timestamp::now() - SignedDuration::from_hours(48);
        Ok(Self { bed, namespace: namespace.to_owned(), uid, begun, repository })
    }

    /// An object of the rows, with this as its data, as a capture would offer it.
    pub fn entry(&self, number: usize, value: &str) -> Result<Entry> {
        let (_, object) = object(&self.namespace, number, value);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let path = ItemPath::new("", "v1", &text(&object["kind"]), &text(&object["metadata"]["name"]))?;
        Ok(Entry { path, content: object.to_string().into(), mtime: self.begun })
    }

    /// Writes a snapshot of entries that come by kind and name. Each has another number, and is a second younger than the
    /// one before. Its id.
    pub async fn snapshot(&self, number: usize, items: impl Iterator<Item = Result<Entry>>) -> Result<String> {
        let options = CaptureOptions {
            audit: None,
            run_uid: format!("set-{number}"),
            host: self.namespace.clone(),
            tags: vec![format!("namespace={}", self.uid)],
            time: self.begun + SignedDuration::from_secs(i64::try_from(number)?),
            permit: WriterPermit::without_maintenance(),
        };
        let (mut sender, receiver) = entries();
        let offering = async {
            for item in items {
                sender.offer(item?).await?;
            }
            sender.finish().await?;
            Ok(())
        };
        let (offered, captured): (Result<()>, _) = tokio::join!(offering, self.repository.capture(receiver, options));
        let captured = captured?;
        offered?;
        Ok(captured.snapshot.id)
    }

    /// Records the set of a snapshot, as the operator does of a full capture. `more` is added to its spec.
    pub async fn record(&self, name: &str, snapshot: &str, more: &Value) -> Result<()> {
        let mut set = json!({ "apiVersion": "tenantatlas.io/v1alpha1", "kind": "BackupSet", "metadata": { "name": name },
            "spec": { "repository": { "name": "main" }, "snapshot": snapshot, "run": { "name": name, "uid": name },
                "namespaceUid": self.uid, "coverage": "full" } });
        set["spec"].as_object_mut().ok_or("no spec")?.extend(more.as_object().cloned().unwrap_or_default());
        api::create(&self.bed.as_operator, &self.path(), &set).await.map(drop)
    }

    /// Where the sets are.
    pub fn path(&self) -> String {
        format!("/apis/tenantatlas.io/v1alpha1/namespaces/{}/backupsets", self.namespace)
    }
}
