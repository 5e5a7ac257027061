//! The programs a cluster consists of, built from pinned source once and kept in the user's cache folder.
//!
//! This is the one place with versions. The folder's name is a hash over them and over our own sources, so a changed
//! pin builds beside the old programs and two checkouts with the same pins share one build.

use std::fmt::Write as _;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use sha2::{Digest as _, Sha256};

use crate::shell;

pub(crate) const KUBERNETES: &str = "1.36.3";
pub(crate) const CONTAINERD: &str = "2.2.9";
pub(crate) const HELM: &str = "4.3.1";

/// The Go program and the C program that this repository brings.
const SOURCES: [(&str, &str); 5] = [
    ("go.mod", include_str!("../cluster/go.mod")),
    ("go.sum", include_str!("../cluster/go.sum")),
    ("main.go", include_str!("../cluster/main.go")),
    ("pki.go", include_str!("../cluster/pki.go")),
    ("pause.c", include_str!("../cluster/pause.c")),
];

/// All Kubernetes components, etcd and kubectl in one binary; its first argument names the component.
pub(crate) fn kube() -> Result<PathBuf> {
    ensure("kube", |building| {
        let mut build = go()?;
        build
            .current_dir(sources())
            .args(["build", "-v", "-ldflags", &kubernetes_flags(), "-o"])
            .arg(building.join("kube"))
            .arg(".");
        shell::step(
            &format!("Kubernetes {KUBERNETES} from source (about 6 minutes the first time)"),
            &mut build,
            &building.join("kube.log"),
        )?;
        std::os::unix::fs::symlink("kube", building.join("kubectl"))?;
        Ok(vec!["kubectl", "kube"])
    })
}

/// kubectl of exactly the cluster's version.
pub(crate) fn kubectl() -> Result<PathBuf> {
    Ok(kube()?.with_file_name("kubectl"))
}

/// containerd, with its shim and `ctr` beside it.
pub(crate) fn containerd() -> Result<PathBuf> {
    ensure("containerd", |building| {
        let packages = ["containerd-shim-runc-v2", "ctr", "containerd"];
        let mut install = go()?;
        install
            .env("GOBIN", building)
            .args(["install", "-v", "-ldflags", "-s -w"])
            .args(packages.map(|name| format!("github.com/containerd/containerd/v2/cmd/{name}@v{CONTAINERD}")));
        shell::step(
            &format!("containerd {CONTAINERD} from source (about 80 seconds the first time)"),
            &mut install,
            &building.join("containerd.log"),
        )?;
        Ok(packages.to_vec())
    })
}

/// containerd's own client, which loads images without a registry.
pub(crate) fn ctr() -> Result<PathBuf> {
    Ok(containerd()?.with_file_name("ctr"))
}

/// Helm.
pub(crate) fn helm() -> Result<PathBuf> {
    ensure("helm", |building| {
        let mut install = go()?;
        install
            .env("GOBIN", building)
            .args(["install", "-v", "-ldflags"])
            .arg(format!("-s -w -X helm.sh/helm/v4/internal/version.version=v{HELM}"))
            .arg(format!("helm.sh/helm/v4/cmd/helm@v{HELM}"));
        shell::step(
            &format!("Helm {HELM} from source (about 2 minutes the first time)"),
            &mut install,
            &building.join("helm.log"),
        )?;
        Ok(vec!["helm"])
    })
}

/// What the comparison with Velero takes.
pub(crate) struct BesideVelero {
    pub(crate) velero: PathBuf,
    /// Velero's plugin for S3.
    pub(crate) plugin: PathBuf,
    /// An S3 server.
    pub(crate) s3: PathBuf,
}

/// Velero, its plugin for S3 and an S3 server, of the versions in `xtask/velero/go.mod`. Who measures other rows builds none of it.
pub(crate) fn velero() -> Result<BesideVelero> {
    let text = include_str!("../velero/go.mod");
    let version = |module: &str| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(module)?.strip_prefix(" v"));
        line.and_then(|line| line.split(' ').next())
            .with_context(|| format!("xtask/velero/go.mod does not require {module}"))
    };
    let program = |name: &str, module: &str, package: &str| {
        let version = version(module)?;
        ensure(&format!("{name}-{version}"), |building| {
            let mut build = go()?;
            // Of a module that is only required: its own `replace` lines do not count, ours do.
            build
                .current_dir(sources().with_file_name("velero"))
                .args(["build", "-v", "-ldflags"])
                .arg(format!("-s -w -X github.com/vmware-tanzu/velero/pkg/buildinfo.Version=v{version}"))
                .arg("-o")
                .arg(building.join(format!("{name}-{version}")))
                .arg(format!("{module}/{package}"));
            let log = building.join(format!("{name}.log"));
            shell::step(&format!("{name} {version} from source (minutes, the first time)"), &mut build, &log)?;
            Ok(vec![format!("{name}-{version}")])
        })
    };
    let plugin = "velero-plugin-for-aws";
    Ok(BesideVelero {
        velero: program("velero", "github.com/vmware-tanzu/velero", "cmd/velero")?,
        plugin: program(plugin, "github.com/vmware-tanzu/velero-plugin-for-aws", plugin)?,
        s3: program("versitygw", "github.com/versity/versitygw", "cmd/versitygw")?,
    })
}

/// The program that does nothing: it holds a pod's namespaces, and the cluster's.
pub(crate) fn pause() -> Result<PathBuf> {
    ensure("pause", |building| {
        shell::ensure_packages(&[("cc", "gcc"), ("/usr/include/stdlib.h", "libc6-dev")])?;
        let mut compile = shell::command("cc");
        compile.args(["-O2", "-static", "-s", "-o"]).arg(building.join("pause")).arg(sources().join("pause.c"));
        shell::run(&mut compile)?;
        Ok(vec!["pause"])
    })
}

/// The folder with everything that is built so far, for `PATH`.
pub(crate) fn folder() -> Result<PathBuf> {
    Ok(cache()?.join("tools").join(versions_hash()).join("bin"))
}

/// Our folder in the user's cache folder: `$XDG_CACHE_HOME/tenantatlas` or `~/.cache/tenantatlas`.
pub(crate) fn cache() -> Result<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_CACHE_HOME")
        .or_else(|| Some(absolute("HOME")?.join(".cache")))
        .map(|folder| folder.join("tenantatlas"))
        .context("neither XDG_CACHE_HOME nor HOME names a folder to keep the built programs in: set one of them")
}

/// An exclusive lock on a file, held until the value is dropped (or the process dies, however it dies).
pub(crate) fn lock(file: &Path, waiting_for: &str) -> Result<File> {
    if let Some(lock) = try_lock(file)? {
        return Ok(lock);
    }
    shell::say(format!("Waiting for {waiting_for} …"));
    let lock = File::create(file).with_context(|| format!("cannot write {}", file.display()))?;
    lock.lock()?;
    Ok(lock)
}

/// The same, or nothing where somebody else holds it.
pub(crate) fn try_lock(file: &Path) -> Result<Option<File>> {
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let lock = File::create(file).with_context(|| format!("cannot write {}", file.display()))?;
    match lock.try_lock() {
        Ok(()) => Ok(Some(lock)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("cannot lock {}", file.display())),
    }
}

/// Returns the program, building it first where it is missing. `build` gets an empty folder and returns the names of
/// what it made there, the asked-for program last: that one's presence means that the others are there too.
fn ensure<N: AsRef<Path> + std::fmt::Debug>(
    program: &str,
    build: impl FnOnce(&Path) -> Result<Vec<N>>,
) -> Result<PathBuf> {
    let folder = folder()?;
    let file = folder.join(program);
    if file.is_file() {
        return Ok(file);
    }
    let _lock =
        lock(&folder.with_file_name(format!("{program}.lock")), &format!("another command that builds {program}"))?;
    if file.is_file() {
        return Ok(file);
    }
    let building = folder.with_file_name(format!("{program}.building"));
    if building.exists() {
        std::fs::remove_dir_all(&building)?;
    }
    std::fs::create_dir_all(&building)?;
    std::fs::create_dir_all(&folder)?;
    for name in build(&building)? {
        std::fs::rename(building.join(&name), folder.join(&name))
            .with_context(|| format!("the build of {program} did not make {name:?}"))?;
    }
    std::fs::remove_dir_all(&building)?;
    Ok(file)
}

/// What a release build of Kubernetes tells its programs about themselves. The two packages are read by the servers and by
/// every client; without the latter a `User-Agent` in the audit log says v0.0.0.
fn kubernetes_flags() -> String {
    let mut flags = "-s -w".to_owned();
    let mut parts = KUBERNETES.split('.');
    let (major, minor) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    for package in ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"] {
        for (name, value) in [("Version", &*format!("v{KUBERNETES}")), ("Major", major), ("Minor", minor)] {
            let _ = write!(flags, " -X {package}.git{name}={value}");
        }
    }
    flags
}

/// The Go command with everything set that a developer's own environment could change in the result.
fn go() -> Result<std::process::Command> {
    let needed =
        SOURCES[0].1.lines().find_map(|line| line.strip_prefix("go ")).context("go.mod names no Go version")?;
    let help = format!(
        "Go {needed} or newer is needed once, to build Kubernetes from source. Install it from your distribution or the Go project's \
         download page and put `go` on the PATH; or name a cluster you already have with --context."
    );
    let mut command = shell::command(shell::find("go").with_context(|| format!("Go is missing. {help}"))?);
    command
        .env("CGO_ENABLED", "0")
        .env("GOFLAGS", "-trimpath")
        .env("GOTOOLCHAIN", "local")
        .env("GOWORK", "off")
        .env_remove("GOEXPERIMENT")
        .env_remove("GOOS")
        .env_remove("GOARCH");
    let mut version = shell::command(command.get_program());
    let found = shell::output(version.env("GOTOOLCHAIN", "local").args(["env", "GOVERSION"]))?;
    if major_minor(found.trim_start_matches("go"))? < major_minor(needed)? {
        bail!("Go is too old: {found}. {help}");
    }
    Ok(command)
}

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster")
}

fn versions_hash() -> String {
    let mut hash = Sha256::new();
    for part in [&*kubernetes_flags(), CONTAINERD, HELM, std::env::consts::ARCH]
        .into_iter()
        .chain(SOURCES.map(|(_, text)| text))
    {
        hash.update(part.len().to_le_bytes());
        hash.update(part);
    }
    hex::encode(&hash.finalize()[..6])
}

/// `1.26.8`, `1.26` and `1.26rc1` are all (1, 26).
fn major_minor(version: &str) -> Result<(u32, u32)> {
    let digits = |part: &str| {
        let end = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
        part[..end].parse::<u32>().ok()
    };
    let mut parts = version.split('.');
    match (parts.next().and_then(digits), parts.next().and_then(digits)) {
        (Some(major), Some(minor)) => Ok((major, minor)),
        _ => bail!("{version:?} is not a version"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn go_versions_compare_by_number_not_by_text() {
        assert!(major_minor("1.9.7").unwrap() < major_minor("1.26.0").unwrap());
        assert_eq!(major_minor("1.27rc1").unwrap(), (1, 27));
        assert!(major_minor("devel").is_err());
    }

    #[test]
    fn the_pinned_kubernetes_is_the_one_go_mod_requires() {
        let required = format!("k8s.io/kubernetes v{KUBERNETES}");
        assert!(SOURCES[0].1.contains(&required), "go.mod does not require {required}");
    }

    #[test]
    fn a_lock_is_exclusive_and_ends_with_its_holder() {
        let file = std::env::temp_dir().join(format!("tenantatlas-lock-{}", std::process::id()));
        let held = lock(&file, "nobody").unwrap();
        assert!(File::open(&file).unwrap().try_lock().is_err());
        drop(held);
        assert!(File::open(&file).unwrap().try_lock().is_ok());
        std::fs::remove_file(&file).unwrap();
    }
}
