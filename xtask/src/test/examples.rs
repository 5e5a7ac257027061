//! Every manifest under `examples/` is one that the API server takes, and the main ones do what they say.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use super::bed::Bed;
use crate::cluster::{Cluster, checkout};
use crate::shell::{self, say};

/// The namespace that the examples are about.
const NAMESPACE: &str = "acme";

/// Groups of tools that the test's cluster has not. An API server that does not know a kind cannot say whether an object of it is right.
const OF_OTHERS: [&str; 3] = ["source.toolkit.fluxcd.io", "kustomize.toolkit.fluxcd.io", "argoproj.io"];

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
        let of_others = examples.is_accepted(manifest)?;
        if !of_others.is_empty() {
            say(format!("   examples/{manifest}: read, and not shown to the API server: {}", of_others.join(", ")));
        }
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

    /// A server-side dry run: schema, CEL, admission and authorization, all but storing it. Which objects the server was not asked
    /// about, because they are of other tools' kinds.
    fn is_accepted(&self, manifest: &str) -> Result<Vec<String>> {
        let text = std::fs::read_to_string(self.folder.join(manifest))?;
        // A generated name can only be created.
        let verb = if text.contains("generateName:") { &["create"][..] } else { &["apply", "--server-side"] };
        let (asked, of_others) = sorted(&text).with_context(|| format!("examples/{manifest}"))?;
        let arguments = |filename| [verb, &["--dry-run=server", "--validate=strict", "--filename", filename]].concat();
        if of_others.is_empty() {
            // As its reader would.
            self.kubectl(&arguments(manifest)).with_context(|| format!("examples/{manifest}"))?;
        } else if !asked.is_empty() {
            let list = json!({ "apiVersion": "v1", "kind": "List", "items": asked });
            let mut kubectl = self.cluster.kubectl()?;
            shell::feed(kubectl.args(arguments("-")), list.to_string().as_bytes())
                .with_context(|| format!("examples/{manifest}"))?;
        }
        Ok(of_others)
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

/// The objects of a manifest that an API server is to be asked about, and the names of those that it knows nothing of. Each must be an
/// object with a name, whose kind it is.
fn sorted(text: &str) -> Result<(Vec<Value>, Vec<String>)> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).context("it is not YAML")?;
    let (mut asked, mut of_others) = (Vec::new(), Vec::new());
    for document in documents.into_iter().filter(|document| !document.is_null()) {
        let (version, kind) = (document["apiVersion"].as_str(), document["kind"].as_str());
        let metadata = &document["metadata"];
        let name = metadata["name"].as_str().or(metadata["generateName"].as_str());
        let (Some(version), Some(kind), Some(name)) = (version, kind, name) else {
            bail!("it has a document without apiVersion, kind or name: {document}");
        };
        let group = version.split_once('/').map_or("", |(group, _)| group);
        if OF_OTHERS.contains(&group) {
            ensure!(document["spec"].is_object(), "{kind}/{name} has no spec");
            of_others.push(format!("{kind}/{name}"));
        } else {
            asked.push(document);
        }
    }
    Ok((asked, of_others))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_example_reads_and_only_kinds_of_other_tools_are_kept_from_the_api_server() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
        let mut found = Vec::new();
        walk(&folder, &mut found).expect("the examples");
        let mut kept = Vec::new();
        for path in &found {
            let text = std::fs::read_to_string(path).expect("a manifest");
            let (asked, of_others) = sorted(&text).unwrap_or_else(|error| panic!("{}: {error:#}", path.display()));
            assert!(!asked.is_empty() || !of_others.is_empty(), "{} holds no object", path.display());
            kept.extend(of_others);
        }
        kept.sort();
        assert_eq!(kept, ["Application/acme-backups", "GitRepository/platform", "Kustomization/acme-backups"]);
    }

    #[test]
    fn a_document_that_is_no_object_is_told() {
        assert!(sorted("kind: ConfigMap\nmetadata: {name: a}\n").is_err());
        assert!(
            sorted("apiVersion: argoproj.io/v1alpha1\nkind: Application\nmetadata: {name: a}\n").is_err(),
            "no spec"
        );
        let text = "apiVersion: v1\nkind: Pod\nmetadata: {generateName: a-}\n---\n";
        assert_eq!(sorted(text).map(|(asked, of_others)| (asked.len(), of_others.len())).ok(), Some((1, 0)));
    }
}
