//! When a repository that cannot be used is rechecked automatically. Pure.
//!
//! Otherwise, a store that did not answer for a minute, or a password that has been corrected,
//! would hold up every capture until a user ran a check. Everything is derived from the status:
//! since when the repository is not Ready, and when it was last checked.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use crate::{
    api::{BackupRepositoryStatus, backup_set::DAMAGED, conditions},
    schedule::CLOCKS_DIFFER,
};
use jiff::{SignedDuration, Timestamp};

/// Shortest delay: the first recheck comes this long after the check that failed. Each later delay
/// is as long as the repository had not been Ready when it was last checked.
const SHORTEST: SignedDuration = SignedDuration::from_mins(10);

/// Longest delay.
const LONGEST: SignedDuration = SignedDuration::from_hours(1);

/// Delay if damage was found: such a check reads back everything, and damage seldom repairs itself.
const OF_DAMAGE: SignedDuration = SignedDuration::from_hours(24);

/// When the repository is due for a recheck; `None` if it is Ready, or was never checked. The time
/// stays the same until `maintenance.recheck` or `lastCheck` changes, so a run that is named after
/// it is created once.
#[must_use]
pub fn due(status: &BackupRepositoryStatus, now: Timestamp) -> Option<Timestamp> {
    let ready = status.conditions.iter().find(|condition| condition.type_ == conditions::READY)?;
    if ready.status != "False" {
        return None;
    }
    let since = ready.last_transition_time.0;
    let last = [status.last_check, status.maintenance.as_ref().and_then(|maintenance| maintenance.recheck)];
    // A time written by a clock that has been set back since must not silence rechecks until then.
    let looked_at = |time: &Timestamp| time.duration_since(now) <= CLOCKS_DIFFER;
    let last = last.into_iter().flatten().chain([since]).filter(looked_at).max()?;
    let rest = if ready.reason == DAMAGED { OF_DAMAGE } else { last.duration_since(since).clamp(SHORTEST, LONGEST) };
    last.checked_add(rest).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn at(text: &str) -> Timestamp {
        format!("2026-01-01T{text}:00Z").parse().expect("a time")
    }

    fn unready(reason: &str, since: &str, last_check: &str) -> BackupRepositoryStatus {
        let ready = json!({"type": "Ready", "status": "False", "reason": reason, "message": "", "lastTransitionTime": at(since)});
        serde_json::from_value(json!({"lastCheck": at(last_check), "conditions": [ready]})).expect("a status")
    }

    #[test]
    fn it_comes_soon_at_first_then_seldom_and_hourly_at_last() {
        for (last, next) in
            [("03:00", "03:10"), ("03:10", "03:20"), ("03:21", "03:42"), ("03:42", "04:24"), ("06:00", "07:00")]
        {
            let status = unready("StoreUnreachable", "03:00", last);
            assert_eq!(due(&status, at("12:00")), Some(at(next)), "after {last}");
        }
    }

    #[test]
    fn damage_is_looked_at_once_a_day() {
        let next = due(&unready("Damaged", "03:00", "04:00"), at("12:00"));
        assert_eq!(next, Some(at("04:00") + SignedDuration::from_hours(24)));
    }

    #[test]
    fn one_that_said_nothing_counts_too() {
        let mut status = unready("StoreUnreachable", "03:00", "03:00");
        status.maintenance = serde_json::from_value(json!({"recheck": at("03:30")})).expect("a status");
        assert_eq!(due(&status, at("12:00")), Some(at("04:00")));
    }

    #[test]
    fn a_repository_that_is_ready_or_was_never_checked_is_not_looked_at() {
        let mut status = unready("StoreUnreachable", "03:00", "03:00");
        for ready in ["True", "Unknown"] {
            status.conditions[0].status = ready.to_owned();
            assert_eq!(due(&status, at("12:00")), None);
        }
        assert_eq!(due(&BackupRepositoryStatus::default(), at("12:00")), None);
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_silence_it() {
        let status = unready("StoreUnreachable", "03:00", "23:00");
        assert_eq!(due(&status, at("04:00")), Some(at("03:10")));
    }
}
