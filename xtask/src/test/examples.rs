//! Every manifest under `examples/` is one that the API server takes, and the main ones do what they say.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::bed::Bed;
use crate::cluster::{Cluster, checkout};
use crate::shell::{self, say};

/// The namespace that the examples are about.
const NAMESPACE: &str = "acme";

/// See the module's text.
pub(super) fn check(bed: &mut Bed) -> Result<()> {
    bed.operator()?;
    let cluster = bed.running().context("the operator is installed on a cluster")?;
    let examples = Examples { cluster, folder: checkout()?.join("examples") };
    examples.clear()?;
    // The others name its namespace.
    examples.apply("tenant/namespace.yaml")?;
    let manifests = examples.manifests()?;
    for manifest in &manifests {
        examples.is_accepted(manifest)?;
    }
    say(format!("   {} manifests are accepted", manifests.len()));
    examples.run()?;
    examples.clear()
}

struct Examples<'a> {
    cluster: &'a Cluster,
    folder: PathBuf,
}

impl Examples<'_> {
    fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        shell::output(self.cluster.kubectl()?.current_dir(&self.folder).args(arguments))
    }

    fn apply(&self, manifest: &str) -> Result<String> {
        self.kubectl(&["apply", "--server-side", "--filename", manifest])
    }

    /// Every YAML file, relative to the folder, sorted.
    fn manifests(&self) -> Result<Vec<String>> {
        let mut found = Vec::new();
        walk(&self.folder, &mut found)?;
        found.sort();
        let relative = found.iter().filter_map(|path| path.strip_prefix(&self.folder).ok());
        Ok(relative.map(|path| path.to_string_lossy().into_owned()).collect())
    }

    /// A server-side dry run: schema, CEL, admission and authorization, all but storing it.
    fn is_accepted(&self, manifest: &str) -> Result<()> {
        let text = std::fs::read_to_string(self.folder.join(manifest))?;
        // A generated name can only be created.
        let verb = if text.contains("generateName:") { &["create"][..] } else { &["apply", "--server-side"] };
        let arguments = [verb, &["--dry-run=server", "--validate=strict", "--filename", manifest]].concat();
        self.kubectl(&arguments).with_context(|| format!("examples/{manifest}")).map(drop)
    }

    /// From a namespace to a backup and a dump, by the manifests as they are.
    fn run(&self) -> Result<()> {
        for volume in volumes() {
            self.cluster.create_volume(&volume, "1Gi")?;
        }
        for manifest in ["tenant", "backup/repository-on-a-volume.yaml", "database-dump/type.yaml"] {
            self.apply(manifest)?;
        }
        self.apply("database-dump/database.yaml")?;
        let wait = |condition: &str, object: &str| {
            self.kubectl(&["wait", "--namespace", NAMESPACE, condition, object, "--timeout=120s"])
        };
        wait("--for=condition=Ready", "backuprepository/main")?;
        wait("--for=jsonpath={.status.readyReplicas}=1", "statefulset/database")?;
        for manifest in ["backup/run.yaml", "backup/run-of-a-selection.yaml", "database-dump/run.yaml"] {
            let name = self.kubectl(&["create", "--filename", manifest, "--output", "name"])?;
            wait("--for=condition=Finished", &name)?;
            let run = self.kubectl(&["get", "--namespace", NAMESPACE, &name, "--output", "json"])?;
            let run: Value = serde_json::from_str(&run).context("kubectl did not print JSON")?;
            let status = &run["status"];
            ensure!(
                status["outcome"] == "succeeded",
                "examples/{manifest}: {} ended as {}, {}: {}",
                name,
                status["outcome"],
                status["reason"],
                status["message"]
            );
            say(format!("   examples/{manifest}: {}", status["message"].as_str().unwrap_or("done")));
        }
        Ok(())
    }

    /// Nothing of an earlier run may help or disturb this one.
    fn clear(&self) -> Result<()> {
        let objects = ["namespace/acme", "operationtype/database.dump"];
        for object in objects {
            self.kubectl(&["delete", object, "--ignore-not-found", "--wait", "--timeout=120s"])?;
        }
        for volume in volumes() {
            self.kubectl(&["delete", "persistentvolume", &volume, "--ignore-not-found", "--wait=false"])?;
        }
        Ok(())
    }
}

/// A volume for each claim. Named after this process: the folder of an earlier one still holds another's repository.
fn volumes() -> impl Iterator<Item = String> {
    (1..=3).map(|number| format!("examples-{}-{number}", std::process::id()))
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            walk(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            found.push(path);
        }
    }
    Ok(())
}
