//! A real single-node Kubernetes on a bare machine, from source, without Docker.
//!
//! Everything of a cluster runs inside its own Linux namespaces (network, mounts, processes, IPC), which one process, the
//! *holder*, keeps open. So ports, firewall rules, mounts and process ids are private to a cluster, any number of
//! clusters run side by side, and ending the holder ends all of it at once: the kernel kills what is left in
//! its process namespace, and the mounts and the network go with the last process. A cluster outlives the command that
//! started it, but for one that is bound to it.
//!
//! Outside of the namespaces there are only: a folder below the user's cache folder, a folder below `/run`, one end of a
//! virtual Ethernet pair (all named by the cluster's id), and the containers' control groups.

mod audit;
mod components;
mod network;
mod pki;
mod processes;
mod volumes;

pub(crate) use audit::Audit;
pub(crate) use network::is_pod_address;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Parser, Subcommand};
use sha2::{Digest as _, Sha256};

use self::components::Component;
use self::processes::Processes;
use crate::image::{self, oci};
use crate::{shell, tools};

/// The name used when none is given.
pub(crate) const DEFAULT_NAME: &str = "dev";

/// A real Kubernetes on this machine, built from source
#[derive(Debug, Parser)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
    /// Name of the cluster; each checkout of the repository has its own
    #[arg(long, global = true, default_value = DEFAULT_NAME)]
    name: String,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Start the cluster (building it first where needed) and wait until it is ready
    Up,
    /// Stop the cluster and delete everything it stored
    Down,
    /// Show what runs
    Status,
    /// Print the path of the kubeconfig
    Kubeconfig,
    /// Print shell commands that point kubectl and helm at the cluster: eval "$(cargo xtask cluster env)"
    Env,
    /// Send a signal to a component, to see what its loss does; `up` brings back one that ended
    Signal {
        /// Program of the component, such as `kube-apiserver`
        #[arg(value_parser = component)]
        component: Component,
        /// Name of the signal
        #[arg(value_parser = ["KILL", "TERM", "STOP", "CONT"])]
        signal: String,
    },
    /// Load an image archive into the cluster
    Load {
        /// An OCI image archive, such as `cargo xtask image` writes
        archive: PathBuf,
    },
    /// Make a volume that a `PersistentVolumeClaim` can bind to
    Volume {
        /// Name of the `PersistentVolume`
        volume: String,
        /// Its capacity, which is not enforced
        #[arg(long, default_value = "1Gi")]
        size: String,
    },
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let cluster = Cluster::new(&arguments.name)?;
    match &arguments.action {
        Action::Up => cluster.up(),
        Action::Down => cluster.down(),
        Action::Status => cluster.status(),
        Action::Kubeconfig => result(cluster.kubeconfig().display()),
        Action::Env => cluster.env(),
        Action::Signal { component, signal } => cluster.signal(*component, signal),
        Action::Load { archive } => cluster.load(archive),
        Action::Volume { volume, size } => cluster.create_volume(volume, size),
    }
}

/// The component whose program has this name.
fn component(name: &str) -> Result<Component, String> {
    let named = Component::ALL.into_iter().find(|component| component.program() == name);
    named.ok_or_else(|| format!("one of {}", Component::ALL.map(Component::program).join(", ")))
}

/// One cluster of this checkout, running or not.
#[derive(Debug)]
pub(crate) struct Cluster {
    name: String,
    /// Eight hexadecimal digits, different for each name and checkout.
    id: String,
    /// Everything it keeps: certificates, etcd, images, volumes, logs.
    folder: PathBuf,
    /// What must not outlive a reboot: containerd's socket (whose path must be short, below 108 bytes) and the state of
    /// running containers.
    runtime: PathBuf,
    /// Whether it ends with this process.
    bound: bool,
    /// How much its audit log tells.
    audit: Audit,
}

impl Cluster {
    pub(crate) fn new(name: &str) -> Result<Self> {
        let is_valid = |name: &str| {
            name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
                && !name.starts_with('-')
                && !name.ends_with('-')
        };
        ensure!(
            (1..=20).contains(&name.len()) && is_valid(name),
            "{name:?} cannot name a cluster: use 1 to 20 lower-case letters, digits and dashes, no dash at either end"
        );
        Ok(Self::at(name, checkout()?, &tools::cache()?))
    }

    fn at(name: &str, checkout: &Path, cache: &Path) -> Self {
        let mut hash = Sha256::new();
        hash.update(checkout.as_os_str().as_encoded_bytes());
        hash.update([0]);
        hash.update(name);
        let id = hex::encode(&hash.finalize()[..4]);
        Self {
            name: name.to_owned(),
            folder: cache.join("clusters").join(format!("{name}-{id}")),
            runtime: Path::new("/run/tenantatlas").join(&id),
            id,
            bound: false,
            audit: Audit::Requests,
        }
    }

    /// The same, but it ends with this process, however that ends: nobody else knows that it is there. What it stored stays
    /// until the next start or `down`.
    pub(crate) fn bound(self) -> Self {
        Self { bound: true, ..self }
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.folder.join("admin.kubeconfig")
    }

    fn subnet(&self) -> Result<network::Subnet> {
        fs::read_to_string(self.folder.join("network"))
            .with_context(|| format!("the cluster {:?} is not up; `cargo xtask cluster up` starts it", self.name))?
            .parse()
    }

    /// The address at which pods reach this machine.
    pub(crate) fn host_address(&self) -> Result<Ipv4Addr> {
        Ok(self.subnet()?.host())
    }

    /// The address of the API server and of the node, reached without any proxy.
    pub(crate) fn address(&self) -> Result<Ipv4Addr> {
        Ok(self.subnet()?.cluster())
    }

    /// The network namespace, in which etcd listens.
    pub(crate) fn network(&self) -> Result<PathBuf> {
        let holder = Processes::of(self)?.holder.context("the cluster's namespaces are gone")?;
        Ok(PathBuf::from(format!("/proc/{holder}/ns/net")))
    }

    /// The folder whose sub-folders are volumes, seen by this machine and the node under the same path.
    pub(crate) fn volumes(&self) -> PathBuf {
        self.folder.join("volumes")
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.folder.join("logs")
    }

    fn socket(&self) -> PathBuf {
        self.runtime.join("containerd.sock")
    }

    /// Written last by a successful start; names the tools it was started with.
    fn started_marker(&self) -> PathBuf {
        self.folder.join("started")
    }

    /// Serializes `up` and `down` of one cluster. The file lies beside the folders, which `down` removes.
    fn lock(&self) -> Result<fs::File> {
        tools::lock(&self.runtime.with_extension("lock"), &format!("another command on the cluster {:?}", self.name))
    }

    /// kubectl as the cluster's administrator.
    pub(crate) fn kubectl(&self) -> Result<Command> {
        Ok(self.as_administrator(tools::kubectl()?))
    }

    /// Helm as the cluster's administrator.
    pub(crate) fn helm(&self) -> Result<Command> {
        Ok(self.as_administrator(tools::helm()?))
    }

    /// A client of the cluster, which is reached directly, whatever proxy the downloads go through.
    fn as_administrator(&self, program: PathBuf) -> Command {
        let mut command = shell::command(program);
        command.env("KUBECONFIG", self.kubeconfig());
        if let Ok(subnet) = self.subnet() {
            command.env("NO_PROXY", subnet.cluster().to_string());
        }
        command
    }

    /// Starts the cluster. A running one is left alone; one that misses a component gets it back, with its data; one whose
    /// start did not finish, or which a reboot ended, starts anew and empty.
    pub(crate) fn up(&self) -> Result<()> {
        let begun = Instant::now();
        check_machine()?;
        let kube = tools::kube()?;
        tools::containerd()?;
        tools::pause()?;
        let _lock = self.lock()?;

        let processes = Processes::of(self)?;
        let tools = kube.parent().map(Path::to_path_buf).unwrap_or_default();
        let started_with = fs::read_to_string(self.started_marker()).ok();
        let is_current = started_with.as_deref() == tools.to_str();
        if processes.holder.is_some() && is_current {
            if processes.missing().next().is_none() && self.api_is_ready()? {
                shell::say(format!("The cluster {:?} is running ({}).", self.name, shell::elapsed(begun)));
                return Ok(());
            }
            self.revive()?;
        } else {
            if processes.holder.is_some() || self.folder.exists() {
                shell::say(format!(
                    "The cluster {:?} was not whole, or of other versions: starting it anew, empty",
                    self.name
                ));
            }
            self.remove()?;
            if let Err(error) = self.start() {
                shell::say(format!(
                    "The start failed; logs are in {}, `cargo xtask cluster down --name {}` removes what is left.",
                    self.logs().display(),
                    self.name
                ));
                return Err(error);
            }
            fs::write(self.started_marker(), tools.as_os_str().as_encoded_bytes())?;
        }
        shell::say(format!(
            "The cluster {:?} is ready ({}). export KUBECONFIG={}",
            self.name,
            shell::elapsed(begun),
            self.kubeconfig().display()
        ));
        Ok(())
    }

    fn start(&self) -> Result<()> {
        for folder in [&self.logs(), &self.runtime, &self.volumes()] {
            fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        let holder = processes::start_holder(self)?;
        let subnet = network::create(self, holder)?;
        fs::write(self.folder.join("network"), subnet.to_string())?;
        pki::write(self, subnet.cluster())?;
        components::write_configuration(self, subnet.cluster())?;

        for component in [Component::Containerd, Component::Etcd, Component::ApiServer] {
            component.start(self)?;
        }
        self.wait_for_start("containerd", |cluster| Ok(cluster.socket().exists()))?;
        self.load_pause_image()?;
        self.wait_for_start("the API server", Self::api_is_ready)?;
        for component in Component::ALL.into_iter().skip(3) {
            component.start(self)?;
        }
        self.apply(&components::base_objects())?;
        self.wait_for_start("the node", Self::node_is_ready)
    }

    /// Starts what is missing until the cluster is ready. More than once: a component that was killed a moment ago may still
    /// be among the processes, and one that lost another ends by itself.
    fn revive(&self) -> Result<()> {
        let mut started = BTreeMap::<Component, u32>::new();
        self.wait_for("the revived cluster", |cluster| {
            for component in Processes::of(cluster)?.missing() {
                let times = *started.entry(component).and_modify(|times| *times += 1).or_insert(1);
                if times > 3 {
                    return Err(component.ended(cluster));
                }
                shell::say(format!("{component} does not run: starting it"));
                component.start(cluster)?;
            }
            Ok(cluster.api_is_ready()? && cluster.node_is_ready()?)
        })
    }

    /// Removes everything of the cluster, from whatever state: running, half-started, crashed, rebooted.
    pub(crate) fn down(&self) -> Result<()> {
        let begun = Instant::now();
        ensure!(shell::is_root(), "root is needed to stop the cluster that root started");
        let _lock = self.lock()?;
        let existed = self.remove()?;
        shell::say(if existed {
            format!("The cluster {:?} is gone ({}).", self.name, shell::elapsed(begun))
        } else {
            format!("There is no cluster {:?} of this checkout.", self.name)
        });
        Ok(())
    }

    /// Returns whether there was anything to remove.
    fn remove(&self) -> Result<bool> {
        let stopped = processes::stop(self)?;
        network::remove(self)?;
        processes::remove_cgroups(self)?;
        let mut existed = stopped;
        for folder in [&self.runtime, &self.folder] {
            existed |= folder.exists();
            remove_folder(folder)?;
        }
        Ok(existed)
    }

    /// Sends a signal to a component, which has to run.
    fn signal(&self, component: Component, signal: &str) -> Result<()> {
        let processes = Processes::of(self)?;
        let pid = processes.components.get(&component);
        let pid = pid.with_context(|| format!("{component} does not run in the cluster {:?}", self.name))?;
        shell::run(shell::command("kill").arg(format!("-{signal}")).arg(pid.to_string()))
    }

    fn status(&self) -> Result<()> {
        let processes = Processes::of(self)?;
        let mut out = anstream::stdout().lock();
        let mut row = |name: &str, pid: Option<u32>| {
            let (pid, state) = pid.map_or(("-".to_owned(), "not running"), |pid| (pid.to_string(), "running"));
            writeln!(out, "{name:<25} {pid:>8}  {state}")
        };
        row("namespaces", processes.holder)?;
        for component in Component::ALL {
            row(component.program(), processes.components.get(&component).copied())?;
        }
        let api = if processes.holder.is_none() {
            "down"
        } else if self.api_is_ready()? {
            "ready"
        } else {
            "not ready"
        };
        writeln!(out, "\nAPI server    {api}")?;
        if let Ok(subnet) = self.subnet() {
            writeln!(out, "Addresses     cluster {}, this machine as pods see it {}", subnet.cluster(), subnet.host())?;
        }
        writeln!(out, "Kubeconfig    {}", self.kubeconfig().display())?;
        writeln!(out, "Folder        {}", self.folder.display())?;
        writeln!(
            out,
            "Versions      Kubernetes {}, containerd {}, Helm {}",
            tools::KUBERNETES,
            tools::CONTAINERD,
            tools::HELM
        )?;
        Ok(())
    }

    fn env(&self) -> Result<()> {
        let subnet = self.subnet()?;
        tools::helm()?;
        result(format_args!(
            "export KUBECONFIG={}\nexport PATH={}:\"$PATH\"\nexport NO_PROXY={}\nexport ATLAS_HOST_ADDRESS={}",
            self.kubeconfig().display(),
            tools::folder()?.display(),
            subnet.cluster(),
            subnet.host()
        ))
    }

    /// Loads an image archive, unless the cluster already holds these bytes under this name.
    pub(crate) fn load(&self, archive: &Path) -> Result<()> {
        let image = oci::inspect(archive)?;
        let listed = shell::output(self.ctr()?.args(["images", "list"]))?;
        let is_there = listed.lines().any(|line| {
            let mut words = line.split_whitespace();
            words.next() == Some(&image.reference) && words.any(|word| word == image.digest)
        });
        if is_there {
            shell::say(format!("{} is in the cluster already", image.reference));
            return Ok(());
        }
        let begun = Instant::now();
        shell::run(self.ctr()?.args(["images", "import"]).arg(archive))?;
        shell::say(format!("Loaded {} ({})", image.reference, shell::elapsed(begun)));
        Ok(())
    }

    fn load_pause_image(&self) -> Result<()> {
        let archive = self.folder.join("pause.tar");
        image::pack_pause(&archive)?;
        shell::run(self.ctr()?.args(["images", "import"]).arg(&archive))
    }

    fn ctr(&self) -> Result<Command> {
        let mut command = shell::command(tools::ctr()?);
        command.arg("--address").arg(self.socket()).args(["--namespace", processes::CONTAINERD_NAMESPACE]);
        Ok(command)
    }

    /// Applies objects, given as JSON, as the administrator.
    fn apply(&self, objects: &serde_json::Value) -> Result<()> {
        let mut command = self.kubectl()?;
        command.args(["apply", "--server-side", "--filename", "-"]);
        shell::feed(&mut command, &serde_json::to_vec(objects)?).map(drop)
    }

    fn api_is_ready(&self) -> Result<bool> {
        let mut command = self.kubectl()?;
        Ok(shell::succeeds(command.args(["get", "--raw", "/readyz", "--request-timeout", "2s"])))
    }

    fn node_is_ready(&self) -> Result<bool> {
        let path = r#"jsonpath={.status.conditions[?(@.type=="Ready")].status}"#;
        let mut command = self.kubectl()?;
        command.args(["get", "node", components::NODE, "--output", path, "--request-timeout", "2s"]);
        Ok(shell::output(&mut command).is_ok_and(|status| status == "True"))
    }

    /// Polls until the condition holds; quotes the logs when it does not in time.
    fn wait_for(&self, what: &str, mut condition: impl FnMut(&Self) -> Result<bool>) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(90);
        while !condition(self)? {
            if Instant::now() > deadline {
                let logs: Vec<String> = Component::ALL
                    .into_iter()
                    .map(|component| format!("  {component}:\n{}", shell::tail(&component.log(self), 4)))
                    .collect();
                bail!("{what} is not ready after 90 s; the ends of the logs:\n{}", logs.join("\n"));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    /// Waits during a start: fails at once when a component that was started has ended.
    fn wait_for_start(&self, what: &str, condition: impl Fn(&Self) -> Result<bool>) -> Result<()> {
        self.wait_for(what, |cluster| {
            let ended = Processes::of(cluster)?.missing().find(|component| component.log(cluster).exists());
            match ended {
                Some(component) => Err(component.ended(cluster)),
                None => condition(cluster),
            }
        })
    }
}

/// What `up` needs of the machine, all said at once where it can be.
fn check_machine() -> Result<()> {
    ensure!(
        shell::is_root(),
        "root is needed to start a cluster on this machine (namespaces, a virtual network interface, containers): run the \
             command as root, or name a cluster you already have with --context"
    );
    shell::ensure_packages(&[
        ("runc", "runc"),
        ("/usr/lib/cni/ptp", "containernetworking-plugins"),
        ("nft", "nftables"),
        ("ip", "iproute2"),
        ("nsenter", "util-linux"),
        ("mount", "mount"),
    ])
}

/// Prints a command's result, the only thing on standard output.
fn result(text: impl std::fmt::Display) -> Result<()> {
    writeln!(anstream::stdout(), "{text}")?;
    Ok(())
}

/// The folder of this checkout of the repository.
pub(crate) fn checkout() -> Result<&'static Path> {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the xtask package lies in a folder of the repository")
}

/// Removes a folder, but never through a mount: what is mounted there belongs to someone else.
fn remove_folder(folder: &Path) -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let below =
        mounts.lines().filter_map(|line| line.split(' ').nth(1)).find(|mount| Path::new(mount).starts_with(folder));
    if let Some(mount) = below {
        bail!(
            "{mount} is a mount point inside {}: unmount it first, so that nothing of it is deleted",
            folder.display()
        );
    }
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn at(name: &str, checkout: &str) -> Cluster {
        Cluster::at(name, Path::new(checkout), Path::new("/home/ada/.cache/tenantatlas"))
    }

    #[test]
    fn clusters_of_two_checkouts_or_names_share_nothing() {
        let clusters = [at("dev", "/src/a"), at("dev", "/src/b"), at("e2e", "/src/a")];
        for (i, one) in clusters.iter().enumerate() {
            for other in &clusters[i + 1..] {
                assert_ne!(one.folder, other.folder);
                assert_ne!(one.runtime, other.runtime);
                assert_ne!(network::host_link(one), network::host_link(other));
            }
        }
        assert_eq!(at("dev", "/src/a").folder, clusters[0].folder, "the same one is found again");
    }

    #[test]
    fn a_name_must_fit_into_paths_and_host_names() {
        for name in ["", "Dev", "a/b", "-a", "a-", "a_b", "twenty-one-characters"] {
            assert!(Cluster::new(name).is_err(), "{name:?}");
        }
        assert!(Cluster::new("dev").is_ok());
        assert!(Cluster::new("pull-request-12").is_ok());
    }
}
