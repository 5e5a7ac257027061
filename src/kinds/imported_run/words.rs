//! The words of other systems, in ours. Pure.
//!
//! The table is in docs/guides/imported-records.md. A word that is not in it is not guessed: it has
//! no phase and no outcome, and the message says so.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use super::foreign::{Condition, Read};
use crate::api::{Outcome, Phase};

/// The state of a record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Where it is, and how it ended.
    pub state: Option<(Phase, Outcome)>,
    /// Their own word.
    pub word: Option<String>,
    /// What they say about it.
    pub says: Option<String>,
    /// What we say about it. It quotes nothing but the word.
    pub note: Option<String>,
}

const QUEUED: (Phase, Outcome) = (Phase::Queued, Outcome::Pending);
const RUNNING: (Phase, Outcome) = (Phase::Running, Outcome::Pending);

const fn ended(outcome: Outcome) -> (Phase, Outcome) {
    (Phase::Completed, outcome)
}

fn known(state: (Phase, Outcome), word: Option<String>, says: Option<String>) -> Verdict {
    Verdict { state: Some(state), word, says, note: None }
}

fn unknown(system: &str, word: String) -> Verdict {
    let note = Some(format!("this version knows no state {word:?} of {system}: look at the record itself"));
    Verdict { word: Some(word), note, ..Verdict::default() }
}

fn schedule(word: Option<String>, says: Option<String>, note: &str) -> Verdict {
    Verdict { state: None, word, says, note: Some(note.to_owned()) }
}

/// A record whose status cannot be read. What is absent would say that it has not begun.
#[must_use]
pub fn unread() -> Verdict {
    let note = "its status is too large or has another form than is known: look at the record itself";
    Verdict { note: Some(note.to_owned()), ..Verdict::default() }
}

/// A Backup or a Restore of Velero.
#[must_use]
pub fn velero_run(read: &Read) -> Verdict {
    let word = read.phase.clone();
    let state = match word.as_deref().unwrap_or_default() {
        "" | "New" | "Queued" | "ReadyToStart" => QUEUED,
        "InProgress"
        | "WaitingForPluginOperations"
        | "WaitingForPluginOperationsPartiallyFailed"
        | "Finalizing"
        | "FinalizingPartiallyFailed" => RUNNING,
        "Completed" => ended(Outcome::Succeeded),
        "PartiallyFailed" => ended(Outcome::PartiallySucceeded),
        "Failed" => ended(Outcome::Failed),
        "FailedValidation" => ended(Outcome::Blocked),
        "Deleting" => {
            let note = "Velero deletes it, and no longer says how it ended".to_owned();
            return Verdict { word, note: Some(note), ..Verdict::default() };
        }
        other => return unknown("Velero", other.to_owned()),
    };
    known(state, word, read.velero_says())
}

/// A Schedule of Velero.
#[must_use]
pub fn velero_schedule(read: &Read) -> Verdict {
    let word = read.phase.clone();
    let note = match word.as_deref().unwrap_or_default() {
        "" | "New" => "a schedule that Velero has not looked at yet",
        "Enabled" if read.paused => "a schedule that is paused",
        "Enabled" => "a schedule: its Backups are listed as they are made",
        "FailedValidation" => "a schedule that Velero refuses: it makes no Backups",
        other => return unknown("Velero", other.to_owned()),
    };
    schedule(word, read.velero_says(), note)
}

/// A Backup of K8up, which says it with conditions.
#[must_use]
pub fn k8up_backup(read: &Read) -> Verdict {
    let is_true = |of: &Condition| of.status == "True";
    if let Some(failed) = read.condition("PreBackupPodReady").filter(|of| of.status == "False")
        && !["Succeeded", "Waiting", "NoPreBackupPodsFound", "Ready"].contains(&failed.reason.as_str())
    {
        return known(ended(Outcome::Failed), Some(failed.word()), failed.says());
    }
    if let Some(completed) = read.condition("Completed").filter(|of| is_true(of)) {
        let word = completed.word();
        return match completed.reason.as_str() {
            "Succeeded" => known(ended(Outcome::Succeeded), Some(word), completed.says()),
            "Failed" => known(ended(Outcome::Failed), Some(word), completed.says()),
            _ => unknown("K8up", word),
        };
    }
    if let Some(progressing) = read.condition("Progressing") {
        let word = progressing.word();
        return match (progressing.status.as_str(), progressing.reason.as_str()) {
            ("True", "Started") => known(RUNNING, Some(word), progressing.says()),
            ("False", "Finished") => finished(word),
            _ => unknown("K8up", word),
        };
    }
    // Older releases have the two fields alone, and do not say how it ended.
    match (read.finished, read.started) {
        (true, _) => finished("finished".to_owned()),
        (false, true) => known(RUNNING, Some("started".to_owned()), None),
        (false, false) => known(QUEUED, None, None),
    }
}

fn finished(word: String) -> Verdict {
    let note = Some("K8up says that it has finished, and not how: look at the record itself".to_owned());
    Verdict { word: Some(word), note, ..Verdict::default() }
}

/// A Schedule of K8up.
#[must_use]
pub fn k8up_schedule(read: &Read) -> Verdict {
    let Some(ready) = read.condition("Ready") else {
        return schedule(None, None, "a schedule that K8up has not looked at yet");
    };
    let note = match ready.status.as_str() {
        "True" => "a schedule: its Backups are listed as they are made",
        "False" => "a schedule that K8up could not set up",
        _ => return unknown("K8up", ready.word()),
    };
    schedule(Some(ready.word()), ready.says(), note)
}

/// A Job that a CronJob made.
#[must_use]
pub fn job(read: &Read) -> Verdict {
    let condition = |kind: &str| read.condition(kind).filter(|of| of.status == "True");
    if let Some(complete) = condition("Complete") {
        return known(ended(Outcome::Succeeded), Some(complete.kind.clone()), complete.says());
    }
    if let Some(failed) = condition("Failed") {
        return known(ended(Outcome::Failed), Some(failed.word()), failed.says());
    }
    // Its pods still end; only then is it what these say.
    if let Some(ending) = condition("FailureTarget").or_else(|| condition("SuccessCriteriaMet")) {
        return known(RUNNING, Some(ending.word()), ending.says());
    }
    if let Some(suspended) = condition("Suspended") {
        return known(QUEUED, Some(suspended.kind.clone()), suspended.says());
    }
    if read.started_at.is_some() { known(RUNNING, None, None) } else { known(QUEUED, None, None) }
}
