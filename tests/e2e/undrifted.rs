//! `drift.generate` does not report what the cluster itself writes to a tenant that nobody changes, whether a person or a
//! schedule starts the run.

use crate::drift::versions;
use crate::support::audit::Request;
use crate::support::tenant::of_story;
use crate::support::{SOON, Tenant, wait_for};
use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt as _;
use kube::api::Api;
use serde_json::{Value, json};
use tenantatlas::api::drift::Drift;
use tenantatlas::api::execution::WORKER_ACCOUNT;
use tenantatlas::api::{OperationRunStatus, Outcome};

/// An annotation that a mesh leaves on what it has looked at.
const STATUS: &str = "sidecar.istio.io/status";

/// An annotation that a controller of the platform keeps up to date.
const CHECKED: &str = "reports.example.com/checked";

/// It leaves the shop alone while that has no replicas, and makes two of one.
const AUTOSCALER: &str = r"
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: { name: shop }
spec:
  scaleTargetRef: { apiVersion: apps/v1, kind: Deployment, name: shop }
  minReplicas: 2
  maxReplicas: 3
  metrics: [{ type: Resource, resource: { name: cpu, target: { type: Utilization, averageUtilization: 80 } } }]
";

/// A mesh, as an admission policy: it gives whatever has Pods an annotation, which is another one after each change.
fn mesh(tenant: &Tenant) -> Value {
    let name = format!("{}-mesh", tenant.name);
    let metadata = json!({ "name": name, "labels": of_story(tenant) });
    let patch = format!(
        "(has(object.metadata.annotations) ? [] : [JSONPatch{{op: 'add', path: '/metadata/annotations', value: {{}}}}]) \
         + [JSONPatch{{op: 'add', path: '/metadata/annotations/' + jsonpatch.escapeKey('{STATUS}'), \
         value: 'seen at ' + string(object.metadata.generation)}}]"
    );
    let policy = json!({ "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicy", "metadata": metadata,
        "spec": {
            "failurePolicy": "Fail", "reinvocationPolicy": "Never",
            "matchConstraints": {
                "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": tenant.name } },
                "resourceRules": [{ "apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments", "statefulsets"],
                    "operations": ["UPDATE"] }],
            },
            "mutations": [{ "patchType": "JSONPatch", "jsonPatch": { "expression": patch } }],
        } });
    let binding = json!({ "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicyBinding",
        "metadata": metadata, "spec": { "policyName": name } });
    json!({ "apiVersion": "v1", "kind": "List", "items": [policy, binding] })
}

impl Tenant {
    fn in_it(&self, arguments: &[&str]) -> String {
        self.cluster.kubectl_prints(&[arguments, &["--namespace", &self.name]].concat())
    }

    /// The cluster does what it does by itself: a rollout, and with it the mesh, the Deployment controller and the autoscaler; and
    /// a controller of the platform.
    async fn goes_on(&self, round: u8) {
        self.in_it(&["scale", "deployment/shop", "--replicas=1"]);
        self.in_it(&["rollout", "restart", "deployment/shop", "statefulset/shop-database"]);
        let checked = format!("{CHECKED}=round-{round}");
        let manager = "--field-manager=reports-controller";
        self.in_it(&["annotate", "configmap/shop-settings", &checked, "--overwrite", manager]);
        let deployments: Api<Deployment> = self.api();
        wait_for("the Deployment controller has rolled out", SOON, async || {
            let deployment = deployments.get("shop").await.map_err(|error| error.to_string())?;
            let revision = deployment.annotations().get("deployment.kubernetes.io/revision").cloned();
            if revision == Some((round + 1).to_string()) { Ok(()) } else { Err(format!("{revision:?}")) }
        })
        .await;
        let deployment = deployments.get("shop").await.expect("a Deployment");
        assert!(deployment.annotations().contains_key(STATUS), "the mesh has seen it: {:#?}", deployment.metadata);
    }

    /// Writes by the workers of operations.
    fn writes_of_workers(&self) -> Vec<Request> {
        let worker = format!("system:serviceaccount:{}:{WORKER_ACCOUNT}", self.name);
        self.audit().into_iter().filter(|request| request.user == worker && request.wrote()).collect()
    }
}

#[track_caller]
fn drift_of(status: OperationRunStatus) -> Drift {
    assert_eq!(status.outcome, Outcome::Succeeded, "{status:#?}");
    status.context.drift.expect("status.context.drift")
}

#[tokio::test]
async fn what_the_cluster_itself_writes_is_no_drift_by_hand_or_by_schedule_and_what_a_person_writes_is() {
    let tenant = Tenant::new("undrifted").await;
    tenant.apply(crate::restore::SHOP);
    tenant.apply(AUTOSCALER);
    tenant.repository("main").await;
    let ada = tenant.person("ada", &["tenantatlas-tenant-operator"]).await;
    tenant.captured_whole("nightly").await;
    let mesh = mesh(&tenant).to_string();
    tenant.cluster.kubectl_reads(&["apply", "--server-side", "--filename", "-"], &mesh);
    wait_for("the mesh is there", SOON, async || {
        let label = r#"{"metadata":{"labels":{"a":"b"}}}"#;
        let seen =
            tenant.in_it(&["patch", "deployment/shop", "--patch", label, "--dry-run=server", "--output", "yaml"]);
        if seen.contains(STATUS) { Ok(()) } else { Err(seen) }
    })
    .await;

    let pointer = format!("/metadata/annotations/{}", CHECKED.replace('/', "~1"));
    let inputs = json!({ "repository": "main", "ignore": [{ "paths": [pointer] }] });
    tenant.goes_on(1).await;
    let by_hand = drift_of(tenant.drifted(&ada, "by-hand", inputs.clone()).await);
    assert!(tenant.findings(&ada).await.is_empty(), "{by_hand:#?}");
    // The Deployment, the StatefulSet and the ConfigMap.
    assert_eq!((by_hand.drifted(), by_hand.ignored, by_hand.unreadable), (0, 3, 0), "{by_hand:#?}");

    tenant.goes_on(2).await;
    let operation = json!({ "type": "drift.generate", "inputs": inputs });
    tenant.schedule("drift", json!({ "schedule": "@yearly", "operation": operation })).await;
    let scheduled = drift_of(tenant.ran_now("drift", "one").await);
    assert_eq!((scheduled.drifted(), scheduled.ignored), (0, 3), "{scheduled:#?}");
    assert!(tenant.findings(&ada).await.is_empty());

    // A person does one thing more.
    tenant.in_it(&["set", "image", "deployment/shop", "web=example.com/shop:2"]);
    let changed = drift_of(tenant.ran_now("drift", "two").await);
    assert_eq!((changed.drifted(), changed.modified, changed.new, changed.ignored), (1, 1, 1, 2), "{changed:#?}");
    let findings = tenant.judged_findings(&ada).await;
    let paths = |item: &str| findings[item].spec.evidence.iter().map(|one| one.path.clone()).collect::<Vec<_>>();
    assert_eq!(findings.len(), 1, "{findings:#?}");
    assert_eq!(paths("apps/Deployment/shop"), ["spec.template.spec.containers[web].image"]);

    // Found again, nothing but the records of the run itself is written.
    let before = tenant.writes_of_workers().len();
    let again = drift_of(tenant.ran_now("drift", "three").await);
    assert_eq!((again.drifted(), again.new, again.reopened, again.resolved), (1, 0, 0, 0), "{again:#?}");
    assert_eq!(versions(&tenant.judged_findings(&ada).await), versions(&findings));
    let writes = tenant.writes_of_workers().split_off(before);
    let is_record = |write: &Request| match (write.resource.as_str(), write.subresource.as_str()) {
        ("operationreports" | "leases", "") => true,
        ("operationruns", "status") => write.name.starts_with("drift-"),
        _ => false,
    };
    assert!(!writes.is_empty() && writes.iter().all(is_record), "{writes:#?}");
    tenant.cluster.kubectl_reads(&["delete", "--filename", "-"], &mesh);
}
