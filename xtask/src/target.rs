//! Which cluster a command works on: one that the developer names, kind where Docker is there, else the local one.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::cluster::{self, Cluster};
use crate::image::oci::Archive;
use crate::{shell, tools};

/// The cluster to work on.
#[derive(Debug)]
pub(crate) enum Target {
    /// A cluster the developer already has, by the name of its context.
    Existing { context: String },
    /// A cluster that `kind` makes in Docker.
    Kind(Kind),
    /// The one from source, see [`cluster`].
    Local(Cluster),
}

/// A cluster in Docker, by name.
#[derive(Debug)]
pub(crate) struct Kind {
    name: String,
    kubeconfig: PathBuf,
}

/// What decides: told apart from the machine, so that it can be tested.
#[derive(Debug, PartialEq, Eq)]
enum Choice<'a> {
    Existing(&'a str),
    Kind,
    Local,
}

fn choose(context: Option<&str>, kind_works: impl FnOnce() -> bool) -> Choice<'_> {
    match context {
        Some(context) => Choice::Existing(context),
        None if kind_works() => Choice::Kind,
        None => Choice::Local,
    }
}

impl Target {
    /// `--context` wins; then kind with a Docker that answers; else the cluster from source.
    pub(crate) fn resolve(context: Option<&str>) -> Result<Self> {
        let kind_works = || {
            shell::find("kind").is_some()
                && shell::succeeds(shell::command("docker").args(["info", "--format", "{{.ID}}"]))
        };
        Ok(match choose(context, kind_works) {
            Choice::Existing(context) => Self::Existing { context: context.to_owned() },
            Choice::Kind => {
                Self::Kind(Kind { name: "tenantatlas".to_owned(), kubeconfig: tools::cache()?.join("kind.kubeconfig") })
            }
            Choice::Local => Self::Local(Cluster::new(cluster::DEFAULT_NAME)?),
        })
    }

    /// Makes sure that the cluster is there and answers, starting it where that is ours to do.
    pub(crate) fn ensure(&self) -> Result<()> {
        match self {
            Self::Existing { context } => {
                if !shell::succeeds(self.kubectl()?.args(["get", "--raw", "/readyz", "--request-timeout", "10s"])) {
                    bail!(
                        "the cluster of the context {context:?} does not answer; `kubectl --context {context} get --raw /readyz` says why"
                    );
                }
                Ok(())
            }
            Self::Kind(kind) => kind.ensure(),
            Self::Local(cluster) => cluster.up(),
        }
    }

    /// kubectl for this cluster. The developer's own is used with the developer's own cluster.
    pub(crate) fn kubectl(&self) -> Result<Command> {
        match self {
            Self::Existing { context } => {
                let mut command = shell::command(own_or("kubectl", tools::kubectl)?);
                command.args(["--context", context]);
                Ok(command)
            }
            Self::Kind(kind) => {
                let mut command = shell::command(own_or("kubectl", tools::kubectl)?);
                command.env("KUBECONFIG", &kind.kubeconfig);
                Ok(command)
            }
            Self::Local(cluster) => cluster.kubectl(),
        }
    }

    /// Helm for this cluster.
    pub(crate) fn helm(&self) -> Result<Command> {
        match self {
            Self::Existing { context } => {
                let mut command = shell::command(own_or("helm", tools::helm)?);
                command.args(["--kube-context", context]);
                Ok(command)
            }
            Self::Kind(kind) => {
                let mut command = shell::command(own_or("helm", tools::helm)?);
                command.env("KUBECONFIG", &kind.kubeconfig);
                Ok(command)
            }
            Self::Local(cluster) => cluster.helm(),
        }
    }

    /// Puts an image into the cluster, where there is a way to do so without a registry.
    pub(crate) fn load_image(&self, archive: &Archive) -> Result<()> {
        match self {
            Self::Existing { context } => bail!(
                "an image cannot be put into the cluster of the context {context:?} from here: push {} to a registry that it pulls \
                 from, and give its name with --image",
                archive.file.display()
            ),
            Self::Kind(kind) => {
                let mut load = shell::command("kind");
                load.args(["load", "image-archive", "--name", &kind.name]).arg(&archive.file);
                shell::run(&mut load)
            }
            Self::Local(cluster) => cluster.load(&archive.file),
        }
    }
}

impl Kind {
    fn ensure(&self) -> Result<()> {
        let clusters = shell::output(shell::command("kind").args(["get", "clusters"]))?;
        if clusters.lines().any(|name| name == self.name) {
            let mut export = shell::command("kind");
            export.args(["export", "kubeconfig", "--name", &self.name, "--kubeconfig"]);
            return shell::run(export.arg(&self.kubeconfig));
        }
        let folder = tools::cache()?;
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let mut create = shell::command("kind");
        create
            .args(["create", "cluster", "--name", &self.name, "--wait", "120s", "--kubeconfig"])
            .arg(&self.kubeconfig);
        shell::step("a cluster in Docker, by kind", &mut create, &folder.join("kind.log"))
    }
}

/// The program on the `PATH`, or the one built from source where there is none.
fn own_or(program: &str, built: impl FnOnce() -> Result<PathBuf>) -> Result<PathBuf> {
    shell::find(program).map_or_else(built, Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_context_wins_then_kind_then_the_local_cluster() {
        assert_eq!(choose(Some("prod-eu"), || true), Choice::Existing("prod-eu"));
        assert_eq!(choose(None, || true), Choice::Kind);
        assert_eq!(choose(None, || false), Choice::Local);
    }
}
