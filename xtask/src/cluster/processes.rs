//! A cluster's processes: the one that holds its namespaces, and finding and ending the rest.
//!
//! There are no pid files: what belongs to a cluster is what runs in its process namespace, as the kernel says, so a pid
//! that was given to someone else in the meantime is never touched.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::Cluster;
use super::components::Component;
use crate::{shell, tools};

/// The namespace of containerd, and the name of the branch of control groups, that a kubelet's containers are in.
pub(super) const CONTAINERD_NAMESPACE: &str = "k8s.io";

/// What runs of a cluster, by the machine's process ids.
#[derive(Debug, Default)]
pub(super) struct Processes {
    /// Process 1 of the cluster's namespaces.
    pub(super) holder: Option<u32>,
    pub(super) components: BTreeMap<Component, u32>,
}

impl Processes {
    pub(super) fn of(cluster: &Cluster) -> Result<Self> {
        let all = running()?;
        let Some(holder) = all.iter().find(|(_, arguments)| is_holder(arguments, &cluster.folder)) else {
            return Ok(Self::default());
        };
        let namespace = pid_namespace(holder.0);
        let components = all
            .iter()
            .filter(|(pid, _)| pid_namespace(*pid) == namespace)
            .filter_map(|(pid, arguments)| Some((Component::of(arguments)?, *pid)))
            .collect();
        Ok(Self { holder: Some(holder.0), components })
    }

    /// The components that do not run, in the order in which they start.
    pub(super) fn missing(&self) -> impl Iterator<Item = Component> {
        Component::ALL.into_iter().filter(|component| !self.components.contains_key(component))
    }
}

/// Makes the namespaces and returns the process that holds them, as soon as everything private is mounted.
pub(super) fn start_holder(cluster: &Cluster) -> Result<u32> {
    // Mounts made inside stay inside (private), but containers see those of the kubelet (shared among themselves). Three paths
    // are wired into the kubelet and containerd's shims; folders of the cluster are put over them, so that no other kubelet or
    // containerd is disturbed. (And sockets below them have short paths, however deep the cluster's folder lies.)
    let script = r#"
        set -e
        mount --make-rprivate / && mount --make-rshared /
        for path in /var/lib/kubelet /var/log/containers /run/containerd; do
            mkdir -p "$1/private$path" "$path"
            mount --bind "$1/private$path" "$path"
        done
        exec "$2" "$1"
    "#;
    let log = cluster.logs().join("namespaces.log");
    let output = fs::File::create(&log)?;
    // setsid: the developer's Ctrl+C and closed terminal are not meant for the cluster.
    let mut command = shell::command("setsid");
    let mut unshare = vec!["unshare", "--net", "--mount", "--pid", "--ipc", "--fork", "--mount-proc"];
    if cluster.bound {
        // The kernel ends `unshare` with this process, and the holder with `unshare`.
        command = shell::command("setpriv");
        command.args(["--pdeathsig", "KILL", "setsid"]);
        unshare.push("--kill-child=KILL");
    }
    let mut child = command
        .args(unshare)
        .args(["sh", "-c", script, "sh"])
        .arg(&cluster.folder)
        .arg(tools::pause()?)
        .current_dir("/")
        .stdout(output.try_clone()?)
        .stderr(output)
        .spawn()
        .context("cannot start setsid")?;
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(holder) = Processes::of(cluster)?.holder {
            return Ok(holder);
        }
        if let Some(status) = child.try_wait()? {
            bail!(
                "this machine does not let root make namespaces ({status}); inside a container it has to be a privileged one:\n{}",
                shell::tail(&log, 5)
            );
        }
        if Instant::now() > deadline {
            bail!("the cluster's namespaces are not there after 10 s:\n{}", shell::tail(&log, 5));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A command that runs inside the cluster's namespaces.
pub(super) fn enter(holder: u32) -> Command {
    let mut command = shell::command("nsenter");
    command.args(["--target", &holder.to_string(), "--net", "--mount", "--pid", "--ipc", "--"]);
    command
}

/// Starts a component inside the cluster's namespaces, so that it outlives this process, and returns when it is to be seen
/// among the cluster's processes.
pub(super) fn start_component(cluster: &Cluster, component: Component, arguments: &[String]) -> Result<()> {
    let holder = Processes::of(cluster)?.holder.context("the cluster's namespaces are gone")?;
    let log = component.log(cluster);
    let output = fs::OpenOptions::new().create(true).append(true).open(&log)?;
    let folder = tools::folder()?;
    let path = format!("PATH={}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", folder.display());
    // Nothing of the developer's environment (proxies, Go's and Rust's switches) reaches the cluster.
    let status = enter(holder)
        .args(["setsid", "--fork", "env", "-i", &path, "HOME=/"])
        .args(arguments)
        .current_dir("/")
        .stdout(output.try_clone()?)
        .stderr(output)
        .status()
        .context("cannot start nsenter")?;
    let deadline = Instant::now() + Duration::from_secs(2);
    while !Processes::of(cluster)?.components.contains_key(&component) {
        if !status.success() || Instant::now() > deadline {
            bail!("{component} does not start; the end of {}:\n{}", log.display(), shell::tail(&log, 12));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Ends every process of the cluster and returns whether there was one. The kernel ends what is left in a process
/// namespace with its process 1, and only then lets that one go.
pub(super) fn stop(cluster: &Cluster) -> Result<bool> {
    let Some(holder) = Processes::of(cluster)?.holder else {
        return Ok(false);
    };
    shell::run(shell::command("kill").args(["-KILL", &holder.to_string()]).stdout(Stdio::null()))?;
    let deadline = Instant::now() + Duration::from_secs(30);
    while Processes::of(cluster)?.holder.is_some() || Path::new(&format!("/proc/{holder}/ns/pid")).exists() {
        if Instant::now() > deadline {
            bail!("the process {holder} and what runs in its namespaces do not end");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(true)
}

/// Where runc keeps the state of running containers, a folder for each, named by its id.
pub(super) fn runc_folder(cluster: &Cluster) -> PathBuf {
    cluster.runtime.join("runc")
}

/// Removes the control groups of containers that the kernel ended with the cluster: runc was not asked. They lie beside
/// those of any other containerd, so they are told by the ids of this cluster's containers.
pub(super) fn remove_cgroups(cluster: &Cluster) -> Result<()> {
    let root = Path::new("/sys/fs/cgroup");
    // Version 2 has one tree; version 1 has one for each controller.
    let mut trees = vec![root.to_path_buf()];
    trees.extend(fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path()));
    let containers = fs::read_dir(runc_folder(cluster).join(CONTAINERD_NAMESPACE));
    for container in containers.into_iter().flatten().flatten() {
        for tree in &trees {
            let group = tree.join(CONTAINERD_NAMESPACE).join(container.file_name());
            if group.is_dir() {
                remove_cgroup(&group)?;
            }
        }
    }
    Ok(())
}

/// Control groups are removed from the leaves up, each by `rmdir`; their files cannot and need not be.
fn remove_cgroup(group: &Path) -> Result<()> {
    for entry in fs::read_dir(group)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_cgroup(&entry.path())?;
        }
    }
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        match fs::remove_dir(group) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            // The last process may be dead and still be counted, for a moment.
            Err(error) if error.kind() == ErrorKind::ResourceBusy && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(error) => bail!("cannot remove the control group {}: {error}", group.display()),
        }
    }
}

/// Whether these arguments are those of the process that holds the namespaces of the cluster in `folder`.
fn is_holder(arguments: &[PathBuf], folder: &Path) -> bool {
    matches!(arguments, [program, argument] if program.ends_with("bin/pause") && argument == folder)
}

/// Every process with its arguments. One that ends meanwhile is left out; so are kernel threads, which have none.
fn running() -> Result<Vec<(u32, Vec<PathBuf>)>> {
    let mut all = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if let Ok(line) = fs::read(format!("/proc/{pid}/cmdline")) {
            let arguments = split_arguments(&line);
            if !arguments.is_empty() {
                all.push((pid, arguments));
            }
        }
    }
    Ok(all)
}

fn split_arguments(line: &[u8]) -> Vec<PathBuf> {
    line.split(|byte| *byte == 0)
        .filter(|argument| !argument.is_empty())
        .map(|argument| PathBuf::from(std::ffi::OsStr::from_bytes(argument)))
        .collect()
}

/// The process namespace, in the kernel's own notation; none for a process that has ended.
fn pid_namespace(pid: u32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/ns/pid")).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn arguments(line: &str) -> Vec<PathBuf> {
        split_arguments(line.replace(' ', "\0").as_bytes())
    }

    #[test]
    fn only_the_process_that_holds_this_very_folder_is_the_holder() {
        let folder = Path::new("/c/dev-0011");
        assert!(is_holder(&arguments("/tools/bin/pause /c/dev-0011"), folder));
        for other in [
            "/tools/bin/pause /c/dev-0022",
            "/tools/bin/pause /c/dev-0011-b",
            "/tools/bin/pause",
            "vim /c/dev-0011",
            "sh -c script sh /c/dev-0011 /tools/bin/pause",
            "/pause",
        ] {
            assert!(!is_holder(&arguments(other), folder), "{other}");
        }
    }

    #[test]
    fn a_cluster_that_does_not_run_has_no_processes() {
        let cluster = Cluster::at("dev", Path::new("/nowhere"), Path::new("/nowhere"));
        let found = Processes::of(&cluster).unwrap();
        assert!(found.holder.is_none() && found.components.is_empty());
    }

    #[test]
    fn this_process_is_found_in_its_own_namespace() {
        let own = std::process::id();
        assert!(running().unwrap().iter().any(|(pid, _)| *pid == own));
        assert!(pid_namespace(own).is_some());
    }
}
