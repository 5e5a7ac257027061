//! Who may do what: each admission policy and role, as the right user, the wrong user, a tenant with the stock `edit`,
//! another tenant and a worker. Every refusal is the API server's own, and nothing may have happened.

mod account_rights;
mod accounts;
mod approvals;
mod audit;
mod coverage;
mod exports;
mod fields;
mod findings;
mod groups;
mod immutable;
mod initiator;
mod jobs;
mod kinds;
mod lifetime;
mod metadata;
mod names;
mod offboarding;
mod onboarding;
mod pods;
mod records;
mod restore_accounts;
mod restore_rights;
mod restores;
mod roles;
mod schedules;
mod start;
mod status;
mod table;
mod ways;
mod workspaces;

use crate::support::cluster::{Cluster, environment};
use crate::support::types::FOREVER;
use crate::support::{SOON, Tenant, wait_for};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::rbac::v1::{ClusterRole, RoleBinding};
use kube::Client;
use kube::api::{Api, PostParams};
use serde_json::{Value, json};
use tenantatlas::api::execution::WORKER_ACCOUNT;

impl Cluster {
    /// As the operator's own account.
    pub(crate) fn as_operator(&self) -> Client {
        let namespace = environment("ATLAS_OPERATOR_NAMESPACE");
        self.as_user(&format!("system:serviceaccount:{namespace}:tenantatlas-controller"), &["system:serviceaccounts"])
    }
}

impl Tenant {
    /// A person with these ClusterRoles in the tenant, once the API server knows of them.
    pub(crate) async fn person(&self, user: &str, roles: &[&str]) -> Client {
        let bindings: Api<RoleBinding> = self.api();
        let client = self.cluster.as_user(user, &[]);
        for role in roles {
            // A right that comes with this role alone shows that the API server knows the binding.
            let gained = self.first_right_lacked(&client, role).await;
            let binding = json!({
                "metadata": { "name": format!("{user}-{role}") },
                "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role },
                "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user }],
            });
            let binding = serde_json::from_value(binding).expect("a RoleBinding");
            bindings.create(&PostParams::default(), &binding).await.expect("a RoleBinding can be created");
            if let Some(gained) = gained {
                self.until_allowed(&client, gained).await;
            }
        }
        client
    }

    /// A person with these rules in the tenant, whatever a role of the chart would not give.
    pub(crate) async fn person_with(&self, user: &str, rules: Value) -> Client {
        let name = format!("{}.{user}", self.name);
        self.apply(
            &json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": { "name": name }, "rules": rules })
                .to_string(),
        );
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": { "name": name },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name },
            "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user }],
        });
        self.apply(&binding.to_string());
        let client = self.cluster.as_user(user, &[]);
        let text = |key: &str| rules[0][key][0].as_str().map(str::to_owned);
        let (resource, subresource) = match text("resources").as_deref().and_then(|resource| resource.split_once('/')) {
            Some((resource, subresource)) => (Some(resource.to_owned()), Some(subresource.to_owned())),
            None => (text("resources"), None),
        };
        self.until_allowed(
            &client,
            ResourceAttributes {
                group: text("apiGroups"),
                name: text("resourceNames"),
                namespace: Some(self.name.clone()),
                resource,
                subresource,
                verb: text("verbs"),
                ..ResourceAttributes::default()
            },
        )
        .await;
        client
    }

    /// The first right of a ClusterRole that somebody does not have yet.
    async fn first_right_lacked(&self, client: &Client, role: &str) -> Option<ResourceAttributes> {
        let roles: Api<ClusterRole> = Api::all(self.cluster.client.clone());
        for rule in roles.get(role).await.expect("the role is there").rules.into_iter().flatten() {
            let first = |words: Option<Vec<String>>| words.into_iter().flatten().next();
            let right = ResourceAttributes {
                group: first(rule.api_groups),
                name: first(rule.resource_names),
                namespace: Some(self.name.clone()),
                resource: first(rule.resources),
                verb: first(Some(rule.verbs)),
                ..ResourceAttributes::default()
            };
            if !may(client, right.clone()).await {
                return Some(right);
            }
        }
        None
    }

    /// A right in the tenant: `verb group/resource[/subresource][:name]`, the core group being `core`.
    fn right(&self, words: &str) -> ResourceAttributes {
        ResourceAttributes { namespace: Some(self.name.clone()), ..right(words) }
    }

    /// Waits until the API server's authorizer knows of a right just given.
    async fn until_allowed(&self, client: &Client, attributes: ResourceAttributes) {
        wait_for(&format!("{attributes:?}"), SOON, async || {
            if may(client, attributes.clone()).await { Ok(()) } else { Err("not allowed") }
        })
        .await;
    }

    /// A run whose Job has a pod on a node; its work does not end.
    async fn operation_with_pod(&self, name: &str) -> (String, Pod) {
        self.operation_with_pod_as(name, WORKER_ACCOUNT).await
    }

    /// The same under another account.
    async fn operation_with_pod_as(&self, name: &str, account: &str) -> (String, Pod) {
        let named = |spec: &mut Value| {
            spec["executor"]["jobTemplate"]["spec"]["template"]["spec"]["serviceAccountName"] = account.into();
        };
        let operation = self.script_type(name, FOREVER, named).await;
        self.start(name, json!({ "type": operation })).await;
        let job = self.running(name, SOON).await.job.expect("a Job");
        let pod = wait_for("a pod on a node", SOON, async || {
            let pods = self.operation_pods().await;
            let mine = pods.into_iter().find(|pod| {
                let named = pod.metadata.name.as_deref().is_some_and(|pod| pod.starts_with(&job.name));
                named && pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some())
            });
            mine.ok_or("none")
        })
        .await;
        (job.name, pod)
    }

    /// The account of an operation's pod, with its kubelet's token, once the API server knows of its rights.
    async fn worker(&self, pod: &Pod) -> Client {
        let client = self.cluster.as_pod(pod).await;
        self.until_allowed(&client, self.right("patch tenantatlas.io/operationruns/status")).await;
        client
    }

    /// Who writes reports: the account of workers in the pod of an operation, once the API server knows of its rights.
    async fn reporter(&self) -> Client {
        let account = format!("system:serviceaccount:{}:{WORKER_ACCOUNT}", self.name);
        let client = self.cluster.as_user_in_pod(&account, "op-0123456789abcdef0123-x7k2p");
        self.until_allowed(&client, self.right("create tenantatlas.io/operationreports")).await;
        client
    }

    /// A path in the tenant.
    pub(crate) fn path(&self, group_version: &str, rest: &str) -> String {
        let root = if group_version == "v1" { "api" } else { "apis" };
        format!("/{root}/{group_version}/namespaces/{}/{rest}", self.name)
    }
}

/// A right everywhere, in the words of [`Tenant::right`].
fn right(words: &str) -> ResourceAttributes {
    let (verb, rest) = words.split_once(' ').expect("a verb");
    assert!(rest.contains('/') && !rest.contains(' '), "{words} names no resource");
    let (rest, name) = rest.split_once(':').map_or((rest, None), |(rest, name)| (rest, Some(name)));
    let mut parts = rest.split('/');
    let group = parts.next().filter(|group| *group != "core");
    ResourceAttributes {
        verb: Some(verb.to_owned()),
        group: group.map(str::to_owned),
        resource: parts.next().map(str::to_owned),
        subresource: parts.next().map(str::to_owned),
        name: name.map(str::to_owned),
        ..ResourceAttributes::default()
    }
}

/// Whether a user has a right.
async fn may(client: &Client, attributes: ResourceAttributes) -> bool {
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(attributes),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let answer = Api::<SelfSubjectAccessReview>::all(client.clone()).create(&PostParams::default(), &review).await;
    answer.expect("anybody may ask").status.is_some_and(|status| status.allowed)
}

/// One request as it goes over the wire, for what typed clients would not send.
pub(crate) async fn call(client: &Client, method: &str, path: &str, body: &Value) -> Result<Value, kube::Error> {
    let content = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let request = http::Request::builder().method(method).uri(path).header("content-type", content).body(body);
    client.request(request.expect("a request")).await
}

/// The request was refused with this code, in words that hold each of these.
#[track_caller]
pub(crate) fn assert_refused<T: std::fmt::Debug>(answer: Result<T, kube::Error>, code: u16, words: &[&str]) {
    match answer {
        Err(kube::Error::Api(status)) => {
            assert_eq!(status.code, code, "{}", status.message);
            for word in words {
                assert!(status.message.contains(word), "the refusal does not say {word:?}: {}", status.message);
            }
        }
        other => panic!("not refused: {other:?}"),
    }
}

/// The request was refused by one of two policies, each with its code and words that all stand in its refusal. The API server answers with the refusal of whichever it
/// asked first, and that order differs from one cluster to the next.
#[track_caller]
fn assert_refused_by_either<T: std::fmt::Debug>(answer: Result<T, kube::Error>, refusals: [(u16, &[&str]); 2]) {
    match answer {
        Err(kube::Error::Api(status)) => {
            let is = |(code, words): &(u16, &[&str])| {
                status.code == *code && words.iter().all(|word| status.message.contains(word))
            };
            let said = refusals.iter().any(is);
            assert!(said, "the refusal is none of {refusals:?}: {}: {}", status.code, status.message);
        }
        other => panic!("not refused: {other:?}"),
    }
}
