//! Which story meets which part of which policy: from the API server's audit log of the stories on the cluster as it is, with probes.

use super::probe;
use anyhow::{Context as _, Result};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;

/// What is known of one story.
#[derive(Clone, Debug, Default)]
pub(super) struct Story {
    /// From its first request to its last, in seconds.
    pub(super) seconds: f64,
    /// The annotations of probes.
    pub(super) met: BTreeSet<String>,
}

/// Stories by the name of their test.
pub(super) type Record = BTreeMap<String, Story>;

/// Reads events since a moment, as the log writes moments. Stories say their name as the agent of the user; what others asked for is the
/// story's whose namespace it was about.
pub(super) fn read(files: &[impl AsRef<Path>], since: &str) -> Result<Record> {
    let mut reader = Reader::default();
    for file in files {
        let file = file.as_ref();
        let lines =
            BufReader::new(File::open(file).with_context(|| format!("cannot read {}", file.display()))?).lines();
        for line in lines {
            let line = line?;
            // Parsing is what takes long: most lines are of the cluster itself.
            if line.contains("::") || line.contains(probe::REFUSAL) || line.contains("/met\":") {
                let Ok(event) = serde_json::from_str::<Value>(&line) else { continue };
                if event["requestReceivedTimestamp"].as_str().is_some_and(|moment| moment >= since) {
                    reader.add(&event);
                }
            }
        }
    }
    Ok(reader.finish())
}

#[derive(Default)]
struct Reader {
    record: Record,
    /// First and last moment of each story.
    span: BTreeMap<String, (f64, f64)>,
    namespaces: BTreeMap<String, String>,
    /// What others met, by namespace.
    of_others: BTreeMap<String, BTreeSet<String>>,
}

impl Reader {
    fn add(&mut self, event: &Value) {
        let met = probe::met(event);
        let object = &event["objectRef"];
        let namespace = object["namespace"]
            .as_str()
            .or_else(|| object["name"].as_str().filter(|_| object["resource"] == "namespaces"));
        let Some(story) = event["userAgent"].as_str().filter(|agent| agent.contains("::")) else {
            if let Some(namespace) = namespace {
                self.of_others.entry(namespace.to_owned()).or_default().extend(met);
            }
            return;
        };
        self.record.entry(story.to_owned()).or_default().met.extend(met);
        if let Some(moment) = event["requestReceivedTimestamp"].as_str().and_then(seconds) {
            let span = self.span.entry(story.to_owned()).or_insert((moment, moment));
            *span = (span.0.min(moment), span.1.max(moment));
        }
        if let Some(namespace) = namespace {
            self.namespaces.entry(namespace.to_owned()).or_insert_with(|| story.to_owned());
        }
    }

    fn finish(mut self) -> Record {
        for (namespace, met) in self.of_others {
            let story = self.namespaces.get(&namespace).and_then(|story| self.record.get_mut(story));
            if let Some(story) = story {
                story.met.extend(met);
            }
        }
        for (story, (first, last)) in self.span {
            if let Some(story) = self.record.get_mut(&story) {
                // Past midnight the clock begins anew.
                story.seconds = (last - first).rem_euclid(86_400.0);
            }
        }
        self.record
    }
}

/// Seconds of the day.
fn seconds(moment: &str) -> Option<f64> {
    let time = moment.split_once('T')?.1.trim_end_matches('Z');
    let mut parts = time.split(':').map(|part| part.parse::<f64>().ok());
    let (hours, minutes, seconds) = (parts.next()??, parts.next()??, parts.next()??);
    Some((hours * 60.0 + minutes) * 60.0 + seconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_a_story_asked_for_is_its_own_and_so_is_what_others_did_in_its_namespace() {
        let mut reader = Reader::default();
        let event = |agent: &str, second: u32, object: Value, met: &str| {
            json!({ "userAgent": agent, "objectRef": object, "annotations": { met: "yes", "other": "yes" },
                "requestReceivedTimestamp": format!("2026-01-01T10:00:{second:02}.5Z") })
        };
        reader.add(&event("tenancy::one", 1, json!({ "resource": "namespaces", "name": "one-1" }), "probe.a/met"));
        reader.add(&event("tenancy::one", 4, json!({ "namespace": "one-1" }), "probe.b/met"));
        reader.add(&event("kube-controller-manager", 3, json!({ "namespace": "one-1" }), "probe.c/met"));
        reader.add(&event("kube-controller-manager", 3, json!({ "namespace": "kube-system" }), "probe.d/met"));
        let record = reader.finish();
        assert_eq!(record.len(), 1);
        let story = &record["tenancy::one"];
        assert_eq!(story.met, ["probe.a/met", "probe.b/met", "probe.c/met"].map(str::to_owned).into());
        assert!((story.seconds - 3.0).abs() < 0.001, "{}", story.seconds);
    }
}
