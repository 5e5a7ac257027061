//! The values: each is read by some template, and those that cannot be meant are refused with the key's name.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{Chart, NEWER, ensure};
use crate::shell;

/// Values that `values.schema.json` must refuse, and a word that the refusal must hold.
const BAD: [(&str, &str); 22] = [
    ("replicas=\"two\"", "replicas"),
    ("replicas=-1", "replicas"),
    ("replica=2", "replica"),
    ("image.repository=\"\"", "repository"),
    ("image.repository=\"a b\"", "repository"),
    ("image.digest=\"sha256:abc\"", "digest"),
    ("image.pullPolicy=\"Sometimes\"", "pullPolicy"),
    ("imagePullSecrets=[\"name\"]", "imagePullSecrets"),
    ("limits.maxActiveRuns=0", "maxActiveRuns"),
    ("limits.maxActiveRun=1", "maxActiveRun"),
    ("findings.staleAfter=\"7d\"", "staleAfter"),
    ("findings.resolvedTtl=\"0h\"", "resolvedTtl"),
    ("import.velero.namespaces=[\"a/b\"]", "namespaces"),
    ("import.k8up=\"yes\"", "k8up"),
    ("admission.initiator=\"maybe\"", "initiator"),
    // It would end a text in CEL and start an expression.
    ("admission.queueControllers=[\"a' || true || 'b\"]", "queueControllers"),
    ("admission.jobControllers=[]", "jobControllers"),
    ("admission.systemNamespaces=[\"a'\"]", "systemNamespaces"),
    ("crds.keep=\"yes\"", "keep"),
    ("metrics.serviceMonitor.interval=\"soon\"", "interval"),
    ("metrics.prometheusRule.enabled=\"yes\"", "enabled"),
    ("metrics.readers=[\"prometheus\"]", "readers"),
];

/// Values that show only beside another one.
const BESIDE: [(&str, &str); 4] = [
    ("metrics.serviceMonitor.interval", "metrics.serviceMonitor.enabled=true"),
    ("metrics.serviceMonitor.credentialsSecret", "metrics.serviceMonitor.enabled=true"),
    ("metrics.serviceMonitor.labels", "metrics.serviceMonitor.enabled=true"),
    ("metrics.prometheusRule.labels", "metrics.prometheusRule.enabled=true"),
];

/// Another value than the default changes what is rendered: no value is there for show.
pub(super) fn check_each_is_read(chart: &Chart) -> Result<()> {
    let read = |file: &str| -> Result<Value> {
        let text = std::fs::read_to_string(chart.folder.join(file)).with_context(|| format!("cannot read {file}"))?;
        serde_saphyr::from_str(&text).with_context(|| format!("{file} is not YAML"))
    };
    let mut defaults = BTreeSet::new();
    leaves(&read("values.yaml")?, "", &mut defaults);
    let other = read("ci/everything-values.yaml")?;
    for key in defaults {
        let pointer = format!("/{}", key.replace('.', "/"));
        let value = other.pointer(&pointer);
        let value = match (key.as_str(), value) {
            // On by default, and without them there is nothing left to look at in that file.
            ("crds.install" | "admission.enabled", _) => Value::Bool(false),
            (_, Some(value)) => value.clone(),
            (_, None) => anyhow::bail!("ci/everything-values.yaml has no other value for {key}"),
        };
        let beside: Vec<&str> = BESIDE.iter().filter(|(of, _)| *of == key).map(|(_, beside)| *beside).collect();
        let single = format!("{key}={value}");
        let with: Vec<&str> = beside.iter().copied().chain([single.as_str()]).collect();
        let changed = chart.render(None, NEWER, &with)? != chart.render(None, NEWER, &beside)?;
        ensure(changed, || format!("no template reads {key}: {value} renders the same as the default"))?;
    }
    Ok(())
}

/// The paths of all values that are not objects with fixed keys.
fn leaves(value: &Value, path: &str, into: &mut BTreeSet<String>) {
    // These hold what users put in, as Kubernetes has it.
    let whole = ["resources", "worker.resources", "nodeSelector", "affinity"].contains(&path);
    match value.as_object() {
        Some(fields) if !fields.is_empty() && !whole => {
            for (key, value) in fields {
                leaves(value, &if path.is_empty() { key.clone() } else { format!("{path}.{key}") }, into);
            }
        }
        _ => drop(into.insert(path.to_owned())),
    }
}

/// The schema refuses what cannot be meant, and says which value.
pub(super) fn check_bad_ones_are_refused(chart: &Chart) -> Result<()> {
    for (value, word) in BAD {
        let refused = chart.render(None, NEWER, &[value]);
        let said = refused.err().map(|error| format!("{error:#}"));
        ensure(said.as_ref().is_some_and(|said| said.contains("schema") && said.contains(word)), || {
            format!("{value} is not refused by the schema with the word {word}: {}", said.unwrap_or_default())
        })?;
    }
    // Quoted or not, nothing else may have made them fail.
    shell::run(chart.helm(&["lint", "--quiet"]).arg(&chart.folder))
}
