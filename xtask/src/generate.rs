//! Everything that is made from the Rust types of the API: the CRDs, the chart's templates of them, the field
//! reference, the JSON schemas for editors.
//!
//! The files are checked in, so that a reviewer sees what a change of a type does to users. `--check` fails when one is
//! stale. The types are read by running `tenantatlas crds`: this program does not link the operator.

mod editor_schema;
mod reference;

use anyhow::{Context as _, Result, bail};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;

use crate::cluster::checkout;
use crate::shell::say;

/// What to run when a file is stale.
const COMMAND: &str = "cargo xtask generate";

/// Folders in which every file with one of the extensions is generated: a file of a kind that is gone is stale too.
const FOLDERS: [(&str, &str); 4] =
    [("crds", "yaml"), ("charts/tenantatlas/templates/crds", "yaml"), ("docs/api", "md"), ("docs/api/schemas", "json")];

/// Write what is made from the API's types: CRDs, the chart's templates of them, field reference, editor schemas.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Write nothing; fail when a file is not as it would be written
    #[arg(long)]
    check: bool,
}

/// Writes the files, or with `--check` names those that are stale.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let root = checkout()?;
    let files = files(&definitions(root)?)?;
    let stale = stale(root, &files)?;
    if arguments.check {
        if stale.is_empty() {
            return Ok(());
        }
        let names: Vec<_> = stale.iter().map(|path| format!("  {}", path.display())).collect();
        bail!("stale, run `{COMMAND}` and commit the result:\n{}", names.join("\n"));
    }
    for path in stale {
        let target = root.join(&path);
        if let Some(content) = files.get(&path) {
            if let Some(folder) = target.parent() {
                std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
            }
            std::fs::write(&target, content).with_context(|| format!("cannot write {}", path.display()))?;
            say(format!("wrote {}", path.display()));
        } else {
            std::fs::remove_file(&target).with_context(|| format!("cannot remove {}", path.display()))?;
            say(format!("removed {}", path.display()));
        }
    }
    Ok(())
}

/// The definitions as the operator's binary prints them.
fn definitions(root: &Path) -> Result<Vec<Value>> {
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["run", "--quiet", "--package", "tenantatlas", "--bin", "tenantatlas", "--", "crds"])
        .current_dir(root)
        .output()
        .context("cannot run cargo")?;
    if !output.status.success() {
        bail!("`tenantatlas crds` failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    serde_json::from_slice(&output.stdout).context("`tenantatlas crds` did not print a JSON array")
}

/// Every generated file by its path in the repository.
fn files(definitions: &[Value]) -> Result<BTreeMap<PathBuf, String>> {
    let mut files = BTreeMap::new();
    let mut kinds = Vec::new();
    for definition in definitions {
        let definition = tidy(definition);
        let kind = Kind::of(&definition)?;
        let plural = &kind.plural;
        files.insert(format!("crds/{plural}.yaml").into(), custom_resource_definition(&definition)?);
        files.insert(
            format!("charts/tenantatlas/templates/crds/{plural}.yaml").into(),
            chart_template(&kind, &definition)?,
        );
        files.insert(format!("docs/api/{}.md", kind.file_name()).into(), reference::page(&kind));
        files.insert(
            format!("docs/api/schemas/{}_{}.json", kind.file_name(), kind.version).into(),
            json(&editor_schema::of(&kind))?,
        );
        kinds.push(kind);
    }
    files.insert("docs/api/README.md".into(), reference::index(&kinds));
    Ok(files)
}

/// Paths whose file is missing, different, or there without being generated any more.
fn stale(root: &Path, files: &BTreeMap<PathBuf, String>) -> Result<Vec<PathBuf>> {
    let mut stale: Vec<PathBuf> = files
        .iter()
        .filter(|(path, content)| std::fs::read_to_string(root.join(path)).ok().as_ref() != Some(content))
        .map(|(path, _)| path.clone())
        .collect();
    for (folder, extension) in FOLDERS {
        let Ok(entries) = std::fs::read_dir(root.join(folder)) else { continue };
        for entry in entries {
            let path = Path::new(folder).join(entry?.file_name());
            if path.extension().is_some_and(|found| found == extension) && !files.contains_key(&path) {
                stale.push(path);
            }
        }
    }
    Ok(stale)
}

/// One kind, with what the generators need of its definition.
struct Kind {
    name: String,
    plural: String,
    group: String,
    version: String,
    names: Value,
    namespaced: bool,
    columns: Vec<Value>,
    schema: Value,
}

impl Kind {
    fn of(definition: &Value) -> Result<Self> {
        let text = |pointer: &str| {
            let value = definition.pointer(pointer).and_then(Value::as_str);
            value.map(str::to_owned).with_context(|| format!("a definition has no {pointer}"))
        };
        let version = &definition["spec"]["versions"][0];
        Ok(Self {
            name: text("/spec/names/kind")?,
            plural: text("/spec/names/plural")?,
            group: text("/spec/group")?,
            version: text("/spec/versions/0/name")?,
            names: definition["spec"]["names"].clone(),
            namespaced: definition["spec"]["scope"] == "Namespaced",
            columns: version["additionalPrinterColumns"].as_array().cloned().unwrap_or_default(),
            schema: version["schema"]["openAPIV3Schema"].clone(),
        })
    }

    /// The kind as it stands in file names.
    fn file_name(&self) -> String {
        self.name.to_lowercase()
    }

    fn api_version(&self) -> String {
        format!("{}/{}", self.group, self.version)
    }
}

/// The same value with sorted keys, whatever features `serde_json` was built with, and with whole numbers written as such:
/// bounds are floating point in the definition's type, and `minimum: 1.0` reads badly.
fn tidy(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let sorted: BTreeMap<_, _> = map.iter().collect();
            Value::Object(sorted.into_iter().map(|(key, value)| (key.clone(), tidy(value))).collect::<Map<_, _>>())
        }
        Value::Array(items) => Value::Array(items.iter().map(tidy).collect()),
        // `1.0` prints as `1`, which reads back as an integer.
        Value::Number(number) if number.is_f64() => number
            .as_f64()
            .and_then(|number| number.to_string().parse().ok())
            .map_or_else(|| value.clone(), Value::Number),
        other => other.clone(),
    }
}

fn yaml(value: &Value) -> Result<String> {
    serde_saphyr::to_string(value).context("cannot write YAML")
}

fn json(value: &Value) -> Result<String> {
    Ok(format!("{}\n", serde_json::to_string_pretty(value)?))
}

fn custom_resource_definition(definition: &Value) -> Result<String> {
    Ok(format!("# Generated by `{COMMAND}` from crates/api. Do not edit.\n{}", yaml(definition)?))
}

/// The definition as a template: Helm never upgrades what stands in a chart's `crds/` folder.
fn chart_template(kind: &Kind, definition: &Value) -> Result<String> {
    let specification = yaml(&Value::Object(Map::from_iter([("spec".to_owned(), definition["spec"].clone())])))?;
    if specification.contains("{{") {
        bail!("the definition of {} contains `{{{{`, which Helm would read as a template", kind.name);
    }
    Ok(format!(
        r#"{{{{- /* Generated by `{COMMAND}` from crates/api. Do not edit. */ -}}}}
{{{{- if .Values.crds.install }}}}
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: {}.{}
  labels:
    {{{{- include "tenantatlas.labels" . | nindent 4 }}}}
  {{{{- if .Values.crds.keep }}}}
  annotations:
    helm.sh/resource-policy: keep
  {{{{- end }}}}
{}{{{{- end }}}}
"#,
        kind.plural, kind.group, specification
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn whole_numbers_are_written_without_a_fraction_and_keys_are_sorted() {
        let tidied = tidy(&json!({"b": 1.0, "a": [0.5, 31_536_000.0], "c": -1}));
        assert_eq!(serde_json::to_string(&tidied).unwrap(), r#"{"a":[0.5,31536000],"b":1,"c":-1}"#);
    }

    #[test]
    fn a_missing_a_changed_and_an_orphaned_file_are_stale() {
        let root = std::env::temp_dir().join(format!("generate-{}", std::process::id()));
        std::fs::create_dir_all(root.join("crds")).unwrap();
        for (name, content) in [("same", "x"), ("changed", "old"), ("orphan", "x")] {
            std::fs::write(root.join(format!("crds/{name}.yaml")), content).unwrap();
        }
        let files = [("same", "x"), ("changed", "new"), ("missing", "x")]
            .map(|(name, content)| (PathBuf::from(format!("crds/{name}.yaml")), content.to_owned()));
        let mut stale = stale(&root, &BTreeMap::from(files)).unwrap();
        std::fs::remove_dir_all(&root).unwrap();
        stale.sort();
        assert_eq!(stale, ["crds/changed.yaml", "crds/missing.yaml", "crds/orphan.yaml"].map(PathBuf::from));
    }
}
