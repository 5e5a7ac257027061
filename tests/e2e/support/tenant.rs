//! A tenant of a story's own: a namespace that is deleted when the story has ended well, and stays to be looked at
//! when it has not.

use super::cluster::{Cluster, Hold, environment};
use super::wait::{SOON, wait_for};
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use k8s_openapi::api::core::v1::{Event, Namespace, PersistentVolume, Pod, ServiceAccount};
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, NamespaceResourceScope, Resource};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::fmt::Debug;
use std::sync::atomic::{AtomicU32, Ordering};
use tenantatlas::api::{OperationType, WorkspaceRun, execution::ACCOUNTS, labels};

/// On everything of a story that lies outside its namespace: the namespace's name.
pub(crate) const STORY: &str = "test.tenantatlas.io/story";

/// See the module's text.
pub(crate) struct Tenant {
    pub(crate) cluster: Cluster,
    /// The namespace.
    pub(crate) name: String,
    /// The namespace's uid.
    pub(crate) uid: String,
    /// The team it belongs to.
    pub(crate) workspace: String,
    _hold: Hold,
}

impl Tenant {
    /// A new tenant, onboarded: the accounts of its Jobs are there. Pod Security `restricted` is enforced in it.
    pub(crate) async fn new(story: &str) -> Self {
        Self::onboard(story, Cluster::shared().await).await
    }

    /// A new tenant in a story that ends the operator's processes.
    pub(crate) async fn alone(story: &str) -> Self {
        Self::onboard(story, Cluster::alone().await).await
    }

    /// A tenant at the moment its namespace was created: the operator may not have seen it.
    pub(crate) async fn fresh(story: &str) -> Self {
        Self::unprepared(story, Cluster::shared().await).await
    }

    /// A second tenant in the same story.
    pub(crate) async fn beside(&self, story: &str) -> Self {
        Self::onboard(story, Hold::None).await
    }

    /// A tenant whose namespace has the same name in another cluster, and nothing else in common.
    pub(crate) async fn namesake(&self, cluster: Cluster) -> Self {
        let tenant = Self::in_cluster(cluster, self.name.clone(), Hold::None).await;
        tenant.onboarded().await;
        tenant
    }

    async fn onboard(story: &str, hold: Hold) -> Self {
        let tenant = Self::unprepared(story, hold).await;
        tenant.onboarded().await;
        tenant
    }

    async fn onboarded(&self) {
        let accounts: Api<ServiceAccount> = self.api();
        wait_for(&format!("the accounts of tenant {}", self.name), SOON, async || {
            let mut missing = Vec::new();
            for account in ACCOUNTS {
                if accounts.get_opt(account).await.expect("ServiceAccounts can be read").is_none() {
                    missing.push(account);
                }
            }
            if missing.is_empty() { Ok(()) } else { Err(format!("missing: {}", missing.join(", "))) }
        })
        .await;
        // The API server knows a binding a moment after it was created.
        let reviews: Api<SubjectAccessReview> = Api::all(self.cluster.client.clone());
        for account in ACCOUNTS {
            let review: SubjectAccessReview = serde_json::from_value(json!({ "spec": {
                "user": format!("system:serviceaccount:{}:{account}", self.name),
                "resourceAttributes": { "namespace": self.name, "verb": "create", "group": "tenantatlas.io", "resource": "operationreports" } } }))
            .expect("a review");
            wait_for(&format!("{account} has its rights"), SOON, async || {
                let answer = reviews.create(&PostParams::default(), &review).await.expect("an answer");
                if answer.status.is_some_and(|status| status.allowed) { Ok(()) } else { Err("not yet") }
            })
            .await;
        }
    }

    /// The namespace alone, at the moment it was created.
    async fn unprepared(story: &str, hold: Hold) -> Self {
        Self::in_cluster(Cluster::connect().await, unique(story), hold).await
    }

    async fn in_cluster(cluster: Cluster, name: String, hold: Hold) -> Self {
        let workspace = "e2e".to_owned();
        let namespaces: Api<Namespace> = Api::all(cluster.client.clone());
        let namespace = serde_json::from_value(json!({ "metadata": { "name": name, "labels": {
            (labels::WORKSPACE): workspace,
            "pod-security.kubernetes.io/enforce": "restricted",
        }}}));
        let created = namespaces.create(&PostParams::default(), &namespace.expect("a namespace")).await;
        let created = created.unwrap_or_else(|error| panic!("namespace {name} cannot be created: {error}"));
        Self { cluster, name, uid: created.metadata.uid.expect("a uid"), workspace, _hold: hold }
    }

    /// Objects of one kind in the tenant, as the administrator.
    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.cluster.client.clone(), &self.name)
    }

    /// Creates an object as a manifest would: exactly these fields, the rest by the API server's defaults.
    pub(crate) async fn create<K>(&self, manifest: Value) -> Result<K, kube::Error>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + DeserializeOwned,
    {
        self.create_as(self.cluster.client.clone(), manifest).await
    }

    /// The same as another user.
    pub(crate) async fn create_as<K>(&self, client: kube::Client, manifest: Value) -> Result<K, kube::Error>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + DeserializeOwned,
    {
        let api: Api<DynamicObject> = Api::namespaced_with(client, &self.name, &ApiResource::erase::<K>(&()));
        let created = api.create(&PostParams::default(), &manifest_of::<K>(manifest)).await?;
        Ok(created.try_parse().expect("the API server answers with the kind that was sent"))
    }

    /// Applies manifests, any kinds, as YAML documents or JSON.
    pub(crate) fn apply(&self, manifests: &str) {
        self.cluster
            .kubectl_reads(&["apply", "--server-side", "--namespace", &self.name, "--filename", "-"], manifests);
    }

    /// Merges fields into an object, or fails.
    pub(crate) async fn merge<K>(&self, name: &str, patch: Value)
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + DeserializeOwned + Clone + Debug,
    {
        let merged = self.api::<K>().patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await;
        merged.unwrap_or_else(|error| panic!("{} {name} cannot be patched with {patch}: {error}", K::kind(&())));
    }

    /// The messages of events about an object, oldest first, as `Reason: note`.
    pub(crate) async fn events_about(&self, name: &str) -> Vec<String> {
        let events: Api<Event> = self.api();
        let listed = events.list(&ListParams::default().fields(&format!("involvedObject.name={name}"))).await;
        let mut events = listed.expect("events can be listed").items;
        events.sort_by_key(|event| event.metadata.creation_timestamp.clone());
        let text =
            |event: Event| format!("{}: {}", event.reason.unwrap_or_default(), event.message.unwrap_or_default());
        events.into_iter().map(text).collect()
    }

    /// Pods of operations in the tenant.
    pub(crate) async fn operation_pods(&self) -> Vec<Pod> {
        let pods: Api<Pod> = self.api();
        let listed = pods.list(&ListParams::default().labels(labels::RUN_UID)).await;
        listed.expect("pods can be listed").items
    }

    /// What a person would look at first.
    pub(crate) fn look(&self) -> String {
        let get = ["get", "opr,brepo,bset,jobs,pods", "--namespace", &self.name, "--output", "wide"];
        let events = ["get", "events", "--namespace", &self.name, "--sort-by=.lastTimestamp"];
        let runs = ["get", "opr", "--namespace", &self.name, "--output", "yaml"];
        [&get[..], &events[..], &runs[..]]
            .map(|arguments| {
                let output = self.cluster.kubectl(arguments);
                String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
            })
            .join("\n")
    }
}

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// A name that no other story, run or process on the cluster has.
fn unique(story: &str) -> String {
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    let moment = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock past 1970");
    let digits = format!("{:x}{:x}", moment.as_millis() % 0x1000_0000, std::process::id());
    format!("{story}-{digits}-{number}")
}

fn manifest_of<K: Resource<DynamicType = ()>>(mut manifest: Value) -> DynamicObject {
    manifest["apiVersion"] = K::api_version(&()).into();
    manifest["kind"] = K::kind(&()).into();
    serde_json::from_value(manifest).expect("a manifest is an object with metadata")
}

impl Drop for Tenant {
    /// Asks for the tenant's deletion and does not wait for it.
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("left to be looked at: namespace {}\n{}", self.name, self.look());
            return;
        }
        let (name, kubeconfig) = (self.name.clone(), self.cluster.kubeconfig.clone());
        // A client belongs to its runtime, and this one is about to end.
        let deletion = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let client = Cluster::at(kubeconfig).await.client;
                let story = ListParams::default().labels(&format!("{STORY}={name}"));
                let parameters = DeleteParams::default();
                let _ = Api::<Namespace>::all(client.clone()).delete(&name, &parameters).await;
                let _ = Api::<OperationType>::all(client.clone()).delete_collection(&parameters, &story).await;
                let _ = Api::<WorkspaceRun>::all(client.clone()).delete_collection(&parameters, &story).await;
                let _ = Api::<PersistentVolume>::all(client).delete_collection(&parameters, &story).await;
            });
        });
        if deletion.join().is_err() {
            eprintln!("namespace {} could not be deleted", self.name);
        }
    }
}

/// The label that ties an object outside the namespace to its story.
pub(crate) fn of_story(tenant: &Tenant) -> Value {
    json!({ (STORY): tenant.name })
}

/// The folder on the node in which volumes lie.
pub(crate) fn volume_root() -> std::path::PathBuf {
    environment("ATLAS_VOLUME_ROOT").into()
}
