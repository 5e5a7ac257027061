//! The cluster under test, and whom one is in it.

use super::{SOON, wait_for};
use http::header::{HeaderValue, USER_AGENT};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::api::{Api, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

/// A story that ends the operator's processes runs alone, so that it disturbs no other's clock. `cargo xtask test` runs those
/// after all others; the lock is for whoever starts the program otherwise.
static OPERATOR: RwLock<()> = RwLock::const_new(());

/// What `cargo xtask test` says about the cluster.
#[derive(Clone)]
pub(crate) struct Cluster {
    /// As the administrator.
    pub(crate) client: Client,
    config: Config,
    pub(crate) kubeconfig: PathBuf,
}

/// Whether this story leaves the operator alone.
#[expect(dead_code, reason = "held, never read")]
pub(crate) enum Hold {
    Shared(RwLockReadGuard<'static, ()>),
    Alone(RwLockWriteGuard<'static, ()>),
    /// A second tenant: the story's first one holds it.
    None,
}

/// A number that a developer may set in the environment.
pub(crate) fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}

/// A value that `cargo xtask test` gives. Missing: the tests were started some other way, and fail rather than skip.
pub(crate) fn environment(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!(
            "{name} is not set: these tests need a cluster with the operator. `cargo xtask test --only e2e -- NAME` makes one and \
             runs the tests whose names contain NAME; --keep keeps it for the next time. Those of two clusters: --only recovery"
        )
    })
}

impl Cluster {
    /// The cluster, as its administrator.
    pub(crate) async fn connect() -> Self {
        Self::at(environment("ATLAS_KUBECONFIG").into()).await
    }

    /// Another one, where the operator was installed and nothing else was done.
    pub(crate) async fn second() -> Self {
        Self::at(environment("ATLAS_SECOND_KUBECONFIG").into()).await
    }

    /// The one of a kubeconfig.
    pub(crate) async fn at(path: PathBuf) -> Self {
        let file = Kubeconfig::read_from(&path)
            .unwrap_or_else(|error| panic!("the kubeconfig {} cannot be read: {error}", path.display()));
        let mut config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
            .await
            .unwrap_or_else(|error| panic!("the kubeconfig {} is not complete: {error}", path.display()));
        // The audit log then tells which story asked for what: `cargo xtask mutate-policies` reads it.
        let story = std::thread::current().name().and_then(|name| HeaderValue::from_str(name).ok());
        config.headers.extend(story.map(|story| (USER_AGENT, story)));
        Self {
            client: Client::try_from(config.clone()).expect("a client for the kubeconfig"),
            config,
            kubeconfig: path,
        }
    }

    /// Beside others that leave the operator alone.
    pub(crate) async fn shared() -> Hold {
        Hold::Shared(OPERATOR.read().await)
    }

    /// For stories that end the operator's processes, or need all of the machine.
    pub(crate) async fn alone() -> Hold {
        // A story that waits for all others to end, among them, would leave the machine idle meanwhile.
        let story = std::thread::current();
        let story = story.name().unwrap_or_default();
        assert!(story.contains("alone::"), "{story} runs alone: move it into a module `alone`");
        Hold::Alone(OPERATOR.write().await)
    }

    /// As another user, by impersonation: the API server's own authorization and admission apply.
    pub(crate) fn as_user(&self, user: &str, groups: &[&str]) -> Client {
        let mut config = self.config.clone();
        config.auth_info.impersonate = Some(user.to_owned());
        let groups = groups.iter().map(|group| (*group).to_owned()).chain(["system:authenticated".to_owned()]);
        config.auth_info.impersonate_groups = Some(groups.collect());
        Client::try_from(config).expect("a client that impersonates")
    }

    /// As the account of a pod, with the token that the kubelet of its node gets for it.
    pub(crate) async fn as_pod(&self, pod: &Pod) -> Client {
        let metadata = &pod.metadata;
        let spec = pod.spec.as_ref().expect("a pod has a spec");
        let node = spec.node_name.as_deref().expect("the pod is on a node");
        let kubelet = self.as_user(&format!("system:node:{node}"), &["system:nodes"]);
        let accounts: Api<ServiceAccount> =
            Api::namespaced(kubelet, metadata.namespace.as_deref().expect("a namespace"));
        let bound = BoundObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            name: metadata.name.clone(),
            uid: metadata.uid.clone(),
        };
        let request = TokenRequest {
            spec: TokenRequestSpec { bound_object_ref: Some(bound), ..TokenRequestSpec::default() },
            ..TokenRequest::default()
        };
        let account = spec.service_account_name.as_deref().unwrap_or("default");
        // The API server learns from its own watch which pods are on a node, and refuses until then.
        let token = wait_for(&format!("a token of {account} for a kubelet"), SOON, async || {
            let answer = accounts.create_token_request(account, &PostParams::default(), &request).await;
            answer.map_err(|error| error.to_string())
        })
        .await;
        self.with_token(token)
    }

    /// As a user who claims, by impersonation, that a pod's token stands behind it.
    pub(crate) fn as_user_in_pod(&self, user: &str, pod: &str) -> Client {
        let mut config = self.config.clone();
        config.auth_info.impersonate = Some(user.to_owned());
        config.auth_info.impersonate_groups = Some(vec!["system:authenticated".to_owned()]);
        let claim = ("authentication.kubernetes.io/pod-name".to_owned(), vec![pod.to_owned()]);
        config.auth_info.impersonate_user_extra = Some(HashMap::from([claim]));
        Client::try_from(config).expect("a client that impersonates")
    }

    fn with_token(&self, token: TokenRequest) -> Client {
        let mut config = self.config.clone();
        config.auth_info = kube::config::AuthInfo {
            token: token.status.map(|status| status.token.into()),
            ..kube::config::AuthInfo::default()
        };
        Client::try_from(config).expect("a client with a token")
    }

    /// kubectl as the administrator: what a user would type.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> Output {
        let output = self.kubectl_command(arguments).output();
        output.unwrap_or_else(|error| panic!("kubectl cannot be started: {error}"))
    }

    /// What kubectl prints; it must succeed.
    pub(crate) fn kubectl_prints(&self, arguments: &[&str]) -> String {
        printed(arguments, self.kubectl(arguments))
    }

    /// What kubectl prints with this input; it must succeed.
    pub(crate) fn kubectl_reads(&self, arguments: &[&str], input: &str) -> String {
        printed(arguments, self.kubectl_with(arguments, input))
    }

    /// kubectl with this input.
    pub(crate) fn kubectl_with(&self, arguments: &[&str], input: &str) -> Output {
        let mut command = self.kubectl_command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("kubectl cannot be started: {error}"));
        let mut stdin = child.stdin.take().expect("a pipe");
        // One that ends before it has read everything says why itself.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        child.wait_with_output().expect("kubectl ends")
    }

    /// A port of this machine that leads to one of a pod, for as long as what is returned lives.
    pub(crate) fn forwards(&self, namespace: &str, pod: &str, port: u16) -> Forwarded {
        let ports = format!(":{port}");
        let mut command = self.kubectl_command(&["port-forward", "--namespace", namespace, pod, &ports]);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("kubectl can be started");
        let mut line = String::new();
        let mut said = BufReader::new(child.stdout.take().expect("a pipe"));
        said.read_line(&mut line).expect("kubectl says where it listens");
        let port = line.split_once("127.0.0.1:").and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
        let port = port.unwrap_or_else(|| panic!("kubectl port-forward: {line:?}"));
        Forwarded { port, child, _said: said }
    }

    fn kubectl_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(environment("ATLAS_KUBECTL"));
        command.env("KUBECONFIG", &self.kubeconfig).args(arguments);
        command
    }
}

/// A port that leads into a pod.
pub(crate) struct Forwarded {
    /// The port, of 127.0.0.1.
    pub(crate) port: u16,
    child: Child,
    /// Held, or kubectl ends at the next line that it prints.
    _said: BufReader<ChildStdout>,
}

impl Drop for Forwarded {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn printed(arguments: &[&str], output: Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "kubectl {} failed: {said}", arguments.join(" "));
    String::from_utf8(output.stdout).expect("kubectl prints text")
}
