//! Conditions that kstatus, Flux, Argo CD and `kubectl wait` read.
//!
//! While a run is queued or running: `Reconciling=True`, `Ready=Unknown`. When it completes:
//! `Finished=True`, and:
//!
//! | outcome | conditions |
//! |---|---|
//! | succeeded | `Ready=True`, `Complete=True` |
//! | partially succeeded | `Ready=False`, `Stalled=True`, `Partial=True`: `Complete` means success, as on a Job |
//! | failed, blocked | `Ready=False`, `Stalled=True`, `Failed=True` |

use crate::{Outcome, Phase};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// The object is in its desired state.
pub const READY: &str = "Ready";
/// The controller or a Job is working (kstatus: `InProgress`).
pub const RECONCILING: &str = "Reconciling";
/// The object does not recover by itself (kstatus: `Failed`).
pub const STALLED: &str = "Stalled";
/// The run is completed, with any outcome.
pub const FINISHED: &str = "Finished";
/// The run succeeded, as on a Job.
pub const COMPLETE: &str = "Complete";
/// Some items of the run failed; the others are done.
pub const PARTIAL: &str = "Partial";
/// The run failed or was blocked, as on a Job.
pub const FAILED: &str = "Failed";

/// Desired state of a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Condition type.
    pub type_: &'static str,
    /// `True`, `False` or `Unknown`.
    pub status: &'static str,
}

/// Returns the conditions of a run in this phase and with this outcome.
#[must_use]
pub fn of_run(phase: Phase, outcome: Outcome) -> Vec<Wanted> {
    let wanted =
        |pairs: &[(&'static str, &'static str)]| pairs.iter().map(|(type_, status)| Wanted { type_, status }).collect();
    match (phase, outcome) {
        (Phase::Queued | Phase::Running, _) | (Phase::Completed, Outcome::Pending) => {
            wanted(&[(READY, "Unknown"), (RECONCILING, "True")])
        }
        (Phase::Completed, Outcome::Succeeded) => wanted(&[(READY, "True"), (COMPLETE, "True"), (FINISHED, "True")]),
        (Phase::Completed, Outcome::PartiallySucceeded) => {
            wanted(&[(READY, "False"), (STALLED, "True"), (PARTIAL, "True"), (FINISHED, "True")])
        }
        (Phase::Completed, Outcome::Failed | Outcome::Blocked) => {
            wanted(&[(READY, "False"), (STALLED, "True"), (FAILED, "True"), (FINISHED, "True")])
        }
    }
}

/// Returns the wanted conditions. `lastTransitionTime` is kept where the status did not change.
#[must_use]
pub fn merge(
    old: &[Condition],
    wanted: &[Wanted],
    reason: &str,
    message: &str,
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    wanted
        .iter()
        .map(|wanted| {
            let before =
                old.iter().find(|condition| condition.type_ == wanted.type_ && condition.status == wanted.status);
            Condition {
                type_: wanted.type_.to_owned(),
                status: wanted.status.to_owned(),
                reason: reason.to_owned(),
                message: message.to_owned(),
                observed_generation: generation,
                last_transition_time: before.map_or(Time(now), |condition| condition.last_transition_time.clone()),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partial_is_never_called_success_where_machines_look() {
        let conditions = of_run(Phase::Completed, Outcome::PartiallySucceeded);
        let state = |type_| conditions.iter().find(|wanted| wanted.type_ == type_).map(|wanted| wanted.status);
        assert_eq!(
            [READY, STALLED, PARTIAL, FINISHED, COMPLETE, FAILED].map(state),
            [Some("False"), Some("True"), Some("True"), Some("True"), None, None]
        );
    }

    #[test]
    fn each_phase_and_outcome_has_its_conditions() {
        let said = |phase, outcome| {
            let pairs: Vec<String> =
                of_run(phase, outcome).iter().map(|wanted| format!("{}={}", wanted.type_, wanted.status)).collect();
            pairs.join(" ")
        };
        for phase in [Phase::Queued, Phase::Running] {
            assert_eq!(said(phase, Outcome::Pending), "Ready=Unknown Reconciling=True");
        }
        assert_eq!(said(Phase::Completed, Outcome::Succeeded), "Ready=True Complete=True Finished=True");
        for outcome in [Outcome::Failed, Outcome::Blocked] {
            assert_eq!(said(Phase::Completed, outcome), "Ready=False Stalled=True Failed=True Finished=True");
        }
    }

    #[test]
    fn a_condition_keeps_the_time_at_which_it_last_changed() {
        let [then, now] = [0, 60].map(|second| Timestamp::from_second(second).expect("a time"));
        let old = merge(&[], &of_run(Phase::Queued, Outcome::Pending), "Queued", "waits", Some(1), then);
        assert!(old.iter().all(|condition| condition.last_transition_time == Time(then)));
        let still = merge(&old, &of_run(Phase::Running, Outcome::Pending), "Running", "works", Some(2), now);
        let ended = merge(&old, &of_run(Phase::Completed, Outcome::Succeeded), "Succeeded", "done", Some(2), now);
        let said = |conditions: &[Condition]| -> Vec<(String, String, Timestamp)> {
            let said = |one: &Condition| (one.type_.clone(), one.status.clone(), one.last_transition_time.0);
            conditions.iter().map(said).collect()
        };
        let line = |type_: &str, status: &str, at| (type_.to_owned(), status.to_owned(), at);
        assert_eq!(said(&still), [line(READY, "Unknown", then), line(RECONCILING, "True", then)]);
        assert!(still.iter().all(|one| one.reason == "Running" && one.message == "works"));
        assert!(still.iter().all(|one| one.observed_generation == Some(2)));
        // `Reconciling` was true as well: the time is that of the same condition, not of the same status.
        assert_eq!(
            said(&ended),
            [(READY, "True"), (COMPLETE, "True"), (FINISHED, "True")].map(|(t, s)| line(t, s, now))
        );
    }
}
