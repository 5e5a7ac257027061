//! The cluster with the operator, as `cargo xtask bench` made it, and what every row needs of it.

use crate::process::Process;
use crate::{Result, api, stub};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::api::{Api, ListParams, PostParams};
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use kube::{Client, Config, ResourceExt as _};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tenantatlas::api::{execution::ACCOUNTS, labels};
use tenantatlas::cluster::client::{ClientOptions, connect_with};

/// Name of the operator's Deployment and of its account, as the chart gives it.
const CONTROLLER: &str = "tenantatlas-controller";

/// Policies by which the API server lets only the pods of operations write reports and the audit chain. A worker that is
/// measured is a process of this machine.
pub const OF_PODS_ALONE: [&str; 2] = ["tenantatlas-audit-writers", "tenantatlas-reports"];

/// See the module's text.
pub struct Bed {
    /// As the administrator.
    pub client: Client,
    /// As the operator's account, by a token of it: for the bare side, which meets the same policies.
    pub as_operator: Client,
    /// As the Job controller, which alone ends Jobs of operations.
    pub as_job_controller: Client,
    /// The kubeconfig's path.
    pub kubeconfig: PathBuf,
    /// The API server's audit log.
    pub audit_log: PathBuf,
    /// The operator's binary, as it lies in the image.
    pub binary: PathBuf,
    /// The operator's image.
    pub image: String,
    /// An image with a shell.
    pub shell_image: String,
    operator_namespace: String,
}

impl Bed {
    /// Reads what `cargo xtask bench` gives.
    pub async fn from_environment() -> Result<Self> {
        let kubeconfig = PathBuf::from(environment("ATLAS_KUBECONFIG")?);
        let config =
            Config::from_custom_kubeconfig(Kubeconfig::read_from(&kubeconfig)?, &KubeConfigOptions::default()).await?;
        let client = connect_with(config.clone(), ClientOptions::default())?;
        let operator_namespace = environment("ATLAS_OPERATOR_NAMESPACE")?;
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), &operator_namespace);
        let request = TokenRequest {
            spec: TokenRequestSpec { expiration_seconds: Some(24 * 3600), ..TokenRequestSpec::default() },
            ..TokenRequest::default()
        };
        let answer = accounts.create_token_request(CONTROLLER, &PostParams::default(), &request).await?;
        let token = answer.status.map(|status| status.token.into());
        let mut as_job_controller = config.clone();
        as_job_controller.auth_info.impersonate = Some("system:kube-controller-manager".to_owned());
        as_job_controller.auth_info.impersonate_groups = Some(vec!["system:masters".to_owned()]);
        let as_job_controller = connect_with(as_job_controller, ClientOptions::default())?;
        let mut as_operator = config;
        as_operator.auth_info = AuthInfo { token, ..AuthInfo::default() };
        let as_operator = connect_with(as_operator, ClientOptions::default())?;
        Ok(Self {
            client,
            as_operator,
            as_job_controller,
            kubeconfig,
            audit_log: environment("ATLAS_AUDIT_LOG")?.into(),
            binary: environment("ATLAS_BINARY")?.into(),
            image: environment("ATLAS_IMAGE")?,
            shell_image: environment("ATLAS_SHELL_IMAGE")?,
            operator_namespace,
        })
    }

    /// The operator's user name, as the audit log has it.
    pub fn operator(&self) -> String {
        format!("system:serviceaccount:{}:{CONTROLLER}", self.operator_namespace)
    }

    /// A new tenant with this name's beginning, onboarded where the operator runs. Returns the namespace.
    pub async fn tenant(&self, stem: &str, wait: bool) -> Result<String> {
        let namespace = format!("{stem}-{}", unique());
        let manifest = json!({ "apiVersion": "v1", "kind": "Namespace",
            "metadata": { "name": namespace, "labels": { (labels::WORKSPACE): "bench" } } });
        api::create(&self.client, "/api/v1/namespaces", &manifest).await?;
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), &namespace);
        let ready = async || {
            for account in ACCOUNTS {
                if accounts.get_opt(account).await?.is_none() {
                    return Ok(None);
                }
            }
            Ok(Some(()))
        };
        if wait {
            until(&format!("the accounts of {namespace}"), Duration::from_mins(1), ready).await?;
        }
        Ok(namespace)
    }

    /// So many of them.
    pub async fn tenants(&self, stem: &str, count: usize, wait: bool) -> Result<Vec<String>> {
        let mut namespaces = Vec::new();
        for number in 0..count {
            namespaces.push(self.tenant(&format!("{stem}{number}"), wait).await?);
        }
        Ok(namespaces)
    }

    /// A type whose Jobs the stub carries out. Returns its name.
    pub async fn stub_type(&self, stem: &str) -> Result<String> {
        let mut template = self.shell_job("true");
        template["spec"]["managedBy"] = stub::MANAGER.into();
        self.operation_type(stem, &template).await
    }

    /// A type with this Job template and a history that nothing here fills. Returns its name.
    pub async fn operation_type(&self, stem: &str, template: &Value) -> Result<String> {
        self.limited_type(stem, template, &json!({})).await
    }

    /// The same with these limits.
    pub async fn limited_type(&self, stem: &str, template: &Value, limits: &Value) -> Result<String> {
        let name = format!("{stem}.{}", unique());
        let mut manifest = json!({ "apiVersion": "tenantatlas.io/v1alpha1", "kind": "OperationType", "metadata": { "name": name },
            "spec": { "historyLimit": 10_000, "executor": { "jobTemplate": template } } });
        manifest["spec"].as_object_mut().ok_or("no spec")?.extend(limits.as_object().cloned().unwrap_or_default());
        api::create(&self.client, "/apis/tenantatlas.io/v1alpha1/operationtypes", &manifest).await?;
        Ok(name)
    }

    /// A Job's template that runs a line of shell.
    pub fn shell_job(&self, script: &str) -> Value {
        json!({ "spec": { "template": { "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1,
            "containers": [{
                "name": "main", "image": self.shell_image, "imagePullPolicy": "Never",
                "command": ["/bin/sh", "-c", script],
                "resources": { "requests": { "cpu": "1m", "memory": "8Mi" } },
            }],
        }}}})
    }

    /// Takes admission policies away: they let only pods of operations write, and a worker that is measured is a process.
    pub async fn take_away(&self, policies: &[&str]) -> Result<()> {
        for policy in policies {
            let path = format!("/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings/{policy}");
            api::delete(&self.client, &path).await?;
        }
        Ok(())
    }

    /// Stops the operator, and waits until its pod is gone.
    pub async fn stop_operator(&self) -> Result<()> {
        self.scale(0).await?;
        let gone = async || Ok(self.pods().await?.is_empty().then_some(()));
        until("the end of the operator", Duration::from_mins(1), gone).await
    }

    /// Starts the operator and waits until it leads and has carried out a run, which says that its caches are full.
    pub async fn start_operator(&self) -> Result<Process> {
        self.scale(1).await?;
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), &self.operator_namespace);
        let leads = async || {
            let holders = leases.list(&ListParams::default()).await?.items;
            let holders: Vec<String> = holders.into_iter().filter_map(|lease| lease.spec?.holder_identity).collect();
            let pod = self.pods().await?.into_iter().find(|pod| pod.metadata.deletion_timestamp.is_none());
            let Some(pod) = pod.filter(|pod| holders.iter().any(|holder| holder.starts_with(&pod.name_any()))) else {
                return Ok(None);
            };
            let statuses = pod.status.and_then(|status| status.container_statuses).unwrap_or_default();
            let id = statuses.into_iter().find_map(|container| container.container_id);
            Ok(id.and_then(|id| Some(id.rsplit('/').next()?.to_owned())))
        };
        let container = until("the operator to lead", Duration::from_mins(2), leads).await?;
        let process = Process::of_container(&container)?;
        self.probe().await?;
        Ok(process)
    }

    /// Stops the operator and gives it another value of a setting. Returns the one that it had.
    pub async fn set(&self, name: &str, value: &str) -> Result<String> {
        self.stop_operator().await?;
        let path = format!("/apis/apps/v1/namespaces/{}/deployments/{CONTROLLER}", self.operator_namespace);
        let mut containers = api::get(&self.client, &path).await?["spec"]["template"]["spec"]["containers"].take();
        let settings = containers[0]["env"].as_array_mut().into_iter().flatten();
        let setting = settings.into_iter().find(|setting| setting["name"] == name);
        let setting = setting.ok_or_else(|| format!("the operator has no setting {name}"))?;
        let before = setting["value"].as_str().unwrap_or_default().to_owned();
        setting["value"] = value.into();
        // A list is replaced as a whole.
        let changed = json!({ "spec": { "template": { "spec": { "containers": containers } } } });
        api::merge(&self.client, &path, &changed).await?;
        Ok(before)
    }

    /// One run of no known type: the operator ends it as blocked, so it is at work.
    pub async fn probe(&self) -> Result<()> {
        let namespace = self.tenant("probe", true).await?;
        let run = run("probe", "no.such.type", &json!({}));
        // A moment after the installation its kinds are not served yet.
        let served = async || {
            let code = api::try_create(&self.client, &api::runs(&namespace), &run).await?;
            Ok((code == 201).then_some(()))
        };
        until("the operator's kinds to be served", Duration::from_mins(1), served).await?;
        let path = format!("{}/probe", api::runs(&namespace));
        let ended = async || {
            let run = api::get(&self.client, &path).await?;
            Ok((run["status"]["phase"] == "completed").then_some(()))
        };
        until("the operator to be at work", Duration::from_mins(2), ended).await?;
        api::delete(&self.client, &format!("/api/v1/namespaces/{namespace}")).await
    }

    async fn scale(&self, replicas: u8) -> Result<()> {
        let path = format!("/apis/apps/v1/namespaces/{}/deployments/{CONTROLLER}/scale", self.operator_namespace);
        api::merge(&self.client, &path, &json!({ "spec": { "replicas": replicas } })).await
    }

    async fn pods(&self) -> Result<Vec<Pod>> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.operator_namespace);
        Ok(pods.list(&ListParams::default().labels("app.kubernetes.io/name=tenantatlas")).await?.items)
    }

    /// Waits until no run of a namespace is open. Asked seldom: it is not to be what is measured.
    pub async fn all_completed(&self, namespaces: &[String], deadline: Duration) -> Result<()> {
        for namespace in namespaces {
            let path = format!("{}?fieldSelector=status.phase!=completed&limit=1", api::runs(namespace));
            let none = async || {
                let open = api::get(&self.client, &path).await?;
                Ok(open["items"].as_array().is_some_and(Vec::is_empty).then_some(()))
            };
            until(&format!("the end of all runs in {namespace}"), deadline, none).await?;
        }
        Ok(())
    }
}

/// A run's manifest.
pub fn run(name: &str, operation_type: &str, inputs: &Value) -> Value {
    json!({ "apiVersion": "tenantatlas.io/v1alpha1", "kind": "OperationRun", "metadata": { "name": name },
        "spec": { "type": operation_type, "inputs": inputs } })
}

/// Looks until there is a value, or says what there was none of.
pub async fn until<T>(what: &str, deadline: Duration, look: impl AsyncFn() -> Result<Option<T>>) -> Result<T> {
    let started = Instant::now();
    loop {
        if let Some(value) = look().await? {
            return Ok(value);
        }
        if started.elapsed() > deadline {
            return Err(format!("waited for {what}: not within {} s", deadline.as_secs()).into());
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

/// A variable that `cargo xtask bench` sets.
pub fn environment(name: &str) -> Result<String> {
    let missing = || format!("{name} is not set: `cargo xtask bench` makes the cluster that is measured, and sets it");
    std::env::var(name).map_err(|_| missing().into())
}

/// Digits that no other name on the cluster ends with.
pub fn unique() -> String {
    let nanoseconds = jiff::Timestamp::now().as_nanosecond();
    format!("{:010x}", nanoseconds & 0xff_ffff_ffff)
}
