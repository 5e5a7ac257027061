//! The components of a cluster: their order, their arguments and their configuration files, each with its reason.

use std::fmt;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow};
use serde_json::{Value, json};

use super::network::{PODS, SERVICES};
use super::{Cluster, audit, pki, processes, volumes};
use crate::{image, shell, tools};

/// The one node's name; `pki.go` knows it too.
pub(super) const NODE: &str = "local";
/// Extra arguments for the API server, separated by white space, for a try.
const EXTRA_API_SERVER_FLAGS: &str = "ATLAS_APISERVER_FLAGS";
const ETCD: &str = "http://127.0.0.1:2379";

/// One long-running program of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Component {
    Containerd,
    Etcd,
    ApiServer,
    ControllerManager,
    Scheduler,
    Kubelet,
    Proxy,
}

impl Component {
    /// All, in the order in which they start: first those that need no API server.
    pub(super) const ALL: [Self; 7] = [
        Self::Containerd,
        Self::Etcd,
        Self::ApiServer,
        Self::ControllerManager,
        Self::Scheduler,
        Self::Kubelet,
        Self::Proxy,
    ];

    pub(super) const fn program(self) -> &'static str {
        match self {
            Self::Containerd => "containerd",
            Self::Etcd => "etcd",
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
            Self::Scheduler => "kube-scheduler",
            Self::Kubelet => "kubelet",
            Self::Proxy => "kube-proxy",
        }
    }

    /// The component that a process with these arguments is, if any.
    pub(super) fn of(arguments: &[PathBuf]) -> Option<Self> {
        let program = arguments.first()?.file_name()?;
        let name = if program == "kube" { arguments.get(1)?.as_os_str() } else { program };
        Self::ALL.into_iter().find(|component| component.program() == name)
    }

    pub(super) fn log(self, cluster: &Cluster) -> PathBuf {
        cluster.logs().join(format!("{}.log", self.program()))
    }

    pub(super) fn start(self, cluster: &Cluster) -> Result<()> {
        let mut arguments = match self {
            Self::Containerd => vec![text(&tools::containerd()?)],
            _ => vec![text(&tools::kube()?), self.program().to_owned()],
        };
        arguments.extend(self.flags(cluster)?);
        processes::start_component(cluster, self, &arguments)
    }

    /// The error that says so, with the component's last words.
    pub(super) fn ended(self, cluster: &Cluster) -> anyhow::Error {
        let log = self.log(cluster);
        anyhow!("{self} ended; the end of {}:\n{}", log.display(), shell::tail(&log, 12))
    }

    fn flags(self, cluster: &Cluster) -> Result<Vec<String>> {
        let pki = |name: &str| text(&pki::folder(cluster).join(name));
        let config = |name: &str| text(&cluster.folder.join(name));
        let kubeconfig = |user: &str| text(&pki::kubeconfig(cluster, user));
        let address = cluster.subnet()?.cluster();
        let mut flags: Vec<String> = Vec::new();
        let mut set = |flag: &str, value: &str| flags.push(format!("--{flag}={value}"));
        match self {
            Self::Containerd => set("config", &config("containerd.toml")),
            Self::Etcd => {
                set("data-dir", &config("etcd"));
                set("listen-client-urls", ETCD);
                set("advertise-client-urls", ETCD);
                set("listen-peer-urls", "http://127.0.0.1:2380");
                set("log-level", "warn");
            }
            Self::ApiServer => {
                set("etcd-servers", ETCD);
                set("secure-port", &pki::API_PORT.to_string());
                set("bind-address", "0.0.0.0");
                set("advertise-address", &address.to_string());
                set("tls-cert-file", &pki("kube-apiserver.crt"));
                set("tls-private-key-file", &pki("kube-apiserver.key"));
                set("client-ca-file", &pki("ca.crt"));
                set("authorization-mode", "Node,RBAC");
                set("enable-admission-plugins", "NodeRestriction");
                set("allow-privileged", "true");
                set("service-cluster-ip-range", SERVICES);
                set("service-account-issuer", "https://kubernetes.default.svc");
                set("service-account-key-file", &pki("service-accounts.key"));
                set("service-account-signing-key-file", &pki("service-accounts.key"));
                set("kubelet-certificate-authority", &pki("ca.crt"));
                set("kubelet-client-certificate", &pki("kubelet-client.crt"));
                set("kubelet-client-key", &pki("kubelet-client.key"));
                // Without DNS for nodes, `kubectl logs` must not look up the node's name.
                set("kubelet-preferred-address-types", "InternalIP");
                set("audit-policy-file", &config("audit-policy.json"));
                set("audit-log-path", &text(&cluster.audit_log()));
                set("audit-log-maxsize", "100");
                // The whole test run is compared with the rights that were held.
                set("audit-log-maxbackup", "10");
                let extra = std::env::var(EXTRA_API_SERVER_FLAGS).unwrap_or_default();
                flags.extend(extra.split_whitespace().map(str::to_owned));
            }
            Self::ControllerManager => {
                let own = kubeconfig(self.program());
                set("kubeconfig", &own);
                set("authentication-kubeconfig", &own);
                set("authorization-kubeconfig", &own);
                set("bind-address", "127.0.0.1");
                set("leader-elect", "false");
                set("use-service-account-credentials", "true");
                set("service-account-private-key-file", &pki("service-accounts.key"));
                set("root-ca-file", &pki("ca.crt"));
                set("cluster-signing-cert-file", &pki("ca.crt"));
                set("cluster-signing-key-file", &pki("ca.key"));
                set("flex-volume-plugin-dir", &config("volume-plugins"));
                // Hundreds of Jobs and namespaces at once must not wait for a client-side limit meant for shared API servers.
                set("kube-api-qps", "200");
                set("kube-api-burst", "400");
            }
            Self::Scheduler => {
                let own = kubeconfig(self.program());
                set("kubeconfig", &own);
                set("authentication-kubeconfig", &own);
                set("authorization-kubeconfig", &own);
                set("bind-address", "127.0.0.1");
                set("leader-elect", "false");
                set("kube-api-qps", "200");
                set("kube-api-burst", "400");
            }
            Self::Kubelet => {
                set("config", &config("kubelet.json"));
                set("kubeconfig", &kubeconfig(self.program()));
                set("cert-dir", &config("pki"));
                set("hostname-override", NODE);
                set("node-ip", &address.to_string());
            }
            Self::Proxy => {
                set("kubeconfig", &kubeconfig(self.program()));
                set("hostname-override", NODE);
                set("proxy-mode", "nftables");
                set("cluster-cidr", PODS);
                // These limits belong to the machine, not to a network namespace, which may only read them.
                set("conntrack-max-per-core", "0");
            }
        }
        Ok(flags)
    }
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.program())
    }
}

/// Writes every component's configuration file.
pub(super) fn write_configuration(cluster: &Cluster, address: Ipv4Addr) -> Result<()> {
    let write = |name: &str, content: &str| {
        let file = cluster.folder.join(name);
        fs::write(&file, content).with_context(|| format!("cannot write {}", file.display()))
    };
    fs::create_dir_all(cluster.folder.join("cni"))?;
    write("containerd.toml", &containerd(cluster))?;
    write("cni/10-pods.conflist", &cni(cluster).to_string())?;
    write("kubelet.json", &kubelet(cluster, address).to_string())?;
    write("audit-policy.json", &audit::policy(cluster.audit).to_string())?;
    write("resolv.conf", "")
}

fn containerd(cluster: &Cluster) -> String {
    let folder = cluster.folder.display();
    let runtime = cluster.runtime.display();
    let runc = processes::runc_folder(cluster);
    let runc = runc.display();
    let socket = cluster.socket();
    let pause = image::PAUSE;
    // Negative OOM scores are refused on machines that run in a container or sandbox themselves.
    format!(
        r#"version = 3
root = "{folder}/containerd"
state = "{runtime}/containerd"
oom_score = 0

[grpc]
address = "{}"

[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = "{pause}"

[plugins.'io.containerd.cri.v1.runtime']
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true

[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ["/usr/lib/cni"]
conf_dir = "{folder}/cni"

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
Root = "{runc}"
"#,
        socket.display()
    )
}

/// Every pod has its own wire to the node and everything is routed: unlike a bridge, this needs no kernel module to let
/// the service rules see what pods send to each other.
fn cni(cluster: &Cluster) -> Value {
    json!({
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [
            {
                "type": "ptp",
                "ipam": {
                    "type": "host-local",
                    "dataDir": text(&cluster.folder.join("cni/addresses")),
                    "ranges": [[{"subnet": PODS}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    })
}

fn kubelet(cluster: &Cluster, address: Ipv4Addr) -> Value {
    let pki = |name: &str| text(&pki::folder(cluster).join(name));
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {"anonymous": {"enabled": false}, "webhook": {"enabled": true}, "x509": {"clientCAFile": pki("ca.crt")}},
        "authorization": {"mode": "Webhook"},
        "address": address.to_string(),
        "tlsCertFile": pki("kubelet.crt"),
        "tlsPrivateKeyFile": pki("kubelet.key"),
        "containerRuntimeEndpoint": format!("unix://{}", cluster.socket().display()),
        "podLogsDir": text(&cluster.logs().join("pods")),
        "volumePluginDir": text(&cluster.folder.join("volume-plugins")),
        // There is no cluster DNS, but an address keeps the kubelet from warning at every pod.
        "clusterDomain": "cluster.local",
        "clusterDNS": ["10.96.0.10"],
        "resolvConf": text(&cluster.folder.join("resolv.conf")),
        "maxPods": 200,
        // The machine may have no systemd, version 1 of control groups, swap, and no right to lower OOM scores.
        "cgroupDriver": "cgroupfs",
        "failCgroupV1": false,
        "cgroupsPerQOS": false,
        "enforceNodeAllocatable": [],
        "failSwapOn": false,
        "oomScoreAdj": 0,
        // The disk is the developer's; pods are not evicted because it is nearly full. Images came from a file and
        // could not be pulled again, so none is ever collected.
        "evictionHard": {"memory.available": "100Mi"},
        "imageGCHighThresholdPercent": 100,
    })
}

/// Objects that any cluster has and the components do not make themselves.
pub(super) fn base_objects() -> Value {
    volumes::storage_class()
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_is_known_by_its_arguments() {
        let of = |line: &str| Component::of(&line.split(' ').map(PathBuf::from).collect::<Vec<_>>());
        assert_eq!(of("/t/bin/kube kubelet --config=/c/kubelet.json"), Some(Component::Kubelet));
        assert_eq!(of("/t/bin/containerd --config=/c/containerd.toml"), Some(Component::Containerd));
        for other in
            ["/t/bin/containerd-shim-runc-v2 -id x", "/t/bin/kube", "/t/bin/kube pki /c 10.0.0.1", "sqlite3 etcd"]
        {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
