//! What the reconcile of a finding reads besides the finding: whether its baseline is there.

use crate::{
    api::{BackupSet, Finding, ObjectReference, reference::is_object_name},
    kernel::Error,
    runs::context::Context,
};
use jiff::{SignedDuration, Timestamp};
use kube::{Api, ResourceExt};
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

/// How long an answer of the API server about a backup set counts.
const FRESH: SignedDuration = SignedDuration::from_mins(1);

/// Most answers that are held.
const MOST: usize = 10_000;

/// Answers of the API server about baselines. Backup sets are not watched, and a thousand findings
/// of a run have the same baseline.
#[derive(Default)]
pub struct Baselines(Mutex<HashMap<(String, String), Answer>>);

/// The uid of a backup set at a time, if it was there.
struct Answer {
    uid: Option<String>,
    at: Timestamp,
}

impl Baselines {
    /// Whether a backup set is gone, by an answer that still counts.
    fn known(&self, namespace: &str, set: &ObjectReference, now: Timestamp) -> Option<bool> {
        let answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = answers.get(&(namespace.to_owned(), set.name.clone()))?;
        (now.duration_since(answer.at) < FRESH).then(|| answer.uid.as_ref() != Some(&set.uid))
    }

    fn learn(&self, namespace: &str, name: &str, uid: Option<String>, now: Timestamp) {
        let mut answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if answers.len() >= MOST {
            answers.retain(|_, answer| now.duration_since(answer.at) < FRESH);
            if answers.len() >= MOST {
                answers.clear();
            }
        }
        answers.insert((namespace.to_owned(), name.to_owned()), Answer { uid, at: now });
    }
}

/// Whether the backup set that an open finding compares with was deleted.
pub(super) async fn baseline_is_gone(
    context: &Context,
    baselines: &Baselines,
    finding: &Finding,
) -> Result<bool, Error> {
    if finding.resolved_at().is_some() || finding.metadata.deletion_timestamp.is_some() {
        return Ok(false);
    }
    let (namespace, set) = (finding.namespace().unwrap_or_default(), &finding.spec.baseline.backup_set);
    // A worker writes the name, and the name becomes a part of the request's path.
    if !is_object_name(&set.name) {
        return Ok(true);
    }
    let now = context.clock.now();
    if let Some(known) = baselines.known(&namespace, set, now) {
        return Ok(known);
    }
    let sets: Api<BackupSet> = Api::namespaced(context.client.clone(), &namespace);
    let uid = sets.get_opt(&set.name).await?.and_then(|set| set.uid());
    let is_gone = uid.as_ref() != Some(&set.uid);
    baselines.learn(&namespace, &set.name, uid, now);
    Ok(is_gone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_counts_for_a_minute_and_for_one_incarnation_of_a_set_in_its_namespace() {
        let baselines = Baselines::default();
        let [then, soon, later] = [0, 59, 60].map(|second| Timestamp::from_second(second).expect("a time"));
        let set = |uid: &str| ObjectReference { name: "nightly".into(), uid: uid.into() };
        assert_eq!(baselines.known("acme", &set("a"), then), None);
        baselines.learn("acme", "nightly", Some("a".into()), then);
        assert_eq!(baselines.known("acme", &set("a"), soon), Some(false));
        assert_eq!(baselines.known("acme", &set("b"), soon), Some(true), "a set of this name, and another one");
        assert_eq!(baselines.known("other", &set("a"), soon), None);
        assert_eq!(baselines.known("acme", &set("a"), later), None);
        baselines.learn("acme", "nightly", None, later);
        assert_eq!(baselines.known("acme", &set("a"), later), Some(true));
    }
}
