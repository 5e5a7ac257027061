//! What becomes of a finding. Pure.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use crate::api::{
    Finding, FindingStatus, Reason,
    conditions::{self, READY, STALLED, Wanted},
    finding::State,
};
use jiff::{SignedDuration, Timestamp};

/// How long a finding is not looked at if nothing happens to it. Backup sets are not watched, so
/// this is also how late it may be noticed that the baseline is gone.
pub const LOOK_AGAIN: SignedDuration = SignedDuration::from_hours(24);

/// How long findings count, and how long they are kept.
#[derive(Clone, Copy, Debug)]
pub struct Windows {
    /// A finding that no run has confirmed for this long is stale.
    pub stale_after: SignedDuration,
    /// A finding is deleted this long after it was resolved.
    pub resolved_ttl: SignedDuration,
}

/// What becomes of a finding.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// It is being deleted already.
    Nothing,
    /// It was resolved long ago.
    Delete,
    /// It stays.
    Keep(Box<Kept>),
}

/// A finding that stays.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    /// Its status.
    pub status: FindingStatus,
    /// What an event says once the status is written. Absent if the state is the one on record.
    pub event: Option<Reason>,
    /// When to look at it again.
    pub requeue: Option<SignedDuration>,
}

/// Decides about a finding. Of the status, `observed` is the worker's and `restored` that of the
/// reconcile of restores: both stay as they are.
#[must_use]
pub fn decide(finding: &Finding, baseline_is_gone: bool, windows: Windows, now: Timestamp) -> Decision {
    if finding.metadata.deletion_timestamp.is_some() {
        return Decision::Nothing;
    }
    let before = finding.status.clone().unwrap_or_default();
    let state = finding.state();
    let left = |from: Timestamp, window| from.checked_add(window).unwrap_or(Timestamp::MAX).duration_since(now);
    let expires = finding.resolved_at().map(|resolved_at| left(resolved_at, windows.resolved_ttl));
    if expires.is_some_and(|left| !left.is_positive()) {
        return Decision::Delete;
    }
    let unconfirmed = before.observed.as_ref().map(|observed| left(observed.last_seen, windows.stale_after));
    let is_unconfirmed = unconfirmed.is_some_and(|left| !left.is_positive());
    let stale = expires.is_none() && (baseline_is_gone || is_unconfirmed);
    let requeue = match expires {
        Some(left) => Some(left),
        None if stale => None,
        None => Some(unconfirmed.map_or(LOOK_AGAIN, |left| left.min(LOOK_AGAIN))),
    };
    let ready = |status| Wanted { type_: READY, status };
    let (wanted, reason, message) = match state {
        State::New => {
            // It does not go away by itself: without Stalled, kstatus would wait for it.
            let wanted = vec![ready("False"), Wanted { type_: STALLED, status: "True" }];
            (wanted, Reason::Drifted, of_new(finding))
        }
        State::Acknowledged => (vec![ready("True")], Reason::Acknowledged, "accepted until the difference changes"),
        State::Resolved => (vec![ready("True")], Reason::Resolved, "the item is as in its baseline"),
    };
    let doubt = match (stale, baseline_is_gone) {
        (false, _) => "",
        (true, true) => "; stale: its baseline is gone",
        (true, false) => "; stale: no run has confirmed it for long",
    };
    let generation = finding.metadata.generation;
    let message = format!("{message}{doubt}");
    let status = FindingStatus {
        state: Some(state),
        acknowledged_at: finding.is_acknowledged().then(|| before.acknowledged_at.unwrap_or(now)),
        stale,
        conditions: conditions::merge(&before.conditions, &wanted, reason.as_str(), &message, generation, now),
        observed_generation: generation,
        observed: before.observed,
        restored: before.restored,
    };
    Decision::Keep(Box::new(Kept { status, event: event(before.state, state), requeue }))
}

fn of_new(finding: &Finding) -> &'static str {
    if finding.spec.acknowledged.is_some() {
        "the difference changed after it was accepted: look at spec.evidence again, and at spec.digest"
    } else {
        "the item differs from its baseline: correct it, or accept the difference with spec.acknowledged"
    }
}

fn event(before: Option<State>, state: State) -> Option<Reason> {
    match (before, state) {
        (Some(before), now) if before == now => None,
        (_, State::Resolved) => Some(Reason::Resolved),
        (Some(State::Resolved), _) => Some(Reason::Reopened),
        (_, State::Acknowledged) => Some(Reason::Acknowledged),
        (_, State::New) => Some(Reason::Drifted),
    }
}

/// The words of an event about a finding.
#[must_use]
pub fn told(event: Reason, finding: &Finding) -> String {
    let subject = format!("{} {}", finding.spec.subject.kind, finding.spec.subject.name);
    match event {
        Reason::Resolved => format!("{subject} is as in its baseline"),
        Reason::Acknowledged => {
            format!("the difference of {subject} is accepted until it changes: spec.acknowledged says why and by whom")
        }
        _ => {
            let change: &str = finding.spec.change.into();
            let severity: &str = finding.spec.severity.into();
            let path = finding.spec.evidence.first().map(|evidence| evidence.path.as_str()).unwrap_or_default();
            let path = if path.is_empty() { String::new() } else { format!(" at {path}") };
            let again = if event == Reason::Reopened { " again" } else { "" };
            format!("{subject} was {change}{again}{path} (severity {severity})")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{
        FindingSpec,
        finding::{Acknowledged, Evidence, Observed},
    };
    use proptest::prelude::*;

    const WINDOWS: Windows =
        Windows { stale_after: SignedDuration::from_hours(10), resolved_ttl: SignedDuration::from_hours(5) };

    fn at(hour: i64) -> Timestamp {
        Timestamp::from_second(1_767_225_600 + hour * 3600).expect("a time")
    }

    /// A finding that was seen at hour 0, and resolved at this hour.
    fn finding(acknowledged: Option<&str>, resolved_at: Option<i64>) -> Finding {
        let mut spec = FindingSpec { digest: "now".into(), ..FindingSpec::default() };
        (spec.subject.kind, spec.subject.name) = ("ConfigMap".into(), "web".into());
        spec.acknowledged =
            acknowledged.map(|digest| Acknowledged { digest: digest.into(), ..Acknowledged::default() });
        let mut finding = Finding::new("drift-0", spec);
        finding.metadata.generation = Some(3);
        finding.status = Some(FindingStatus {
            observed: Some(Observed {
                first_seen: at(-50),
                last_seen: at(0),
                resolved_at: resolved_at.map(at),
                run: crate::api::ObjectReference::default(),
            }),
            observed_generation: Some(-1),
            ..FindingStatus::default()
        });
        finding
    }

    #[track_caller]
    fn kept(finding: &Finding, baseline_is_gone: bool, now: Timestamp) -> Kept {
        match decide(finding, baseline_is_gone, WINDOWS, now) {
            Decision::Keep(kept) => *kept,
            other => panic!("{other:?}"),
        }
    }

    fn said(status: &FindingStatus) -> String {
        let conditions = status.conditions.iter();
        let said = conditions.map(|condition| format!("{}={} {}", condition.type_, condition.status, condition.reason));
        said.collect::<Vec<_>>().join(", ")
    }

    /// From each state on record to each state, and what is told of it.
    #[test]
    fn each_transition_has_its_conditions_and_its_event() {
        use State::{Acknowledged, New, Resolved};
        let (new, accepted, resolved) = ("Ready=False Drifted, Stalled=True Drifted", "Acknowledged", "Resolved");
        let ready = |reason: &str| format!("Ready=True {reason}");
        for (before, state, event) in [
            (None, New, Some(Reason::Drifted)),
            (None, Acknowledged, Some(Reason::Acknowledged)),
            (None, Resolved, Some(Reason::Resolved)),
            (Some(New), New, None),
            (Some(New), Acknowledged, Some(Reason::Acknowledged)),
            (Some(New), Resolved, Some(Reason::Resolved)),
            (Some(Acknowledged), New, Some(Reason::Drifted)),
            (Some(Acknowledged), Acknowledged, None),
            (Some(Acknowledged), Resolved, Some(Reason::Resolved)),
            (Some(Resolved), New, Some(Reason::Reopened)),
            (Some(Resolved), Acknowledged, Some(Reason::Reopened)),
            (Some(Resolved), Resolved, None),
        ] {
            let mut finding = finding((state == Acknowledged).then_some("now"), (state == Resolved).then_some(0));
            finding.status.as_mut().expect("a status").state = before;
            let kept = kept(&finding, false, at(1));
            let words = match state {
                New => new.to_owned(),
                Acknowledged => ready(accepted),
                Resolved => ready(resolved),
            };
            assert_eq!((kept.event, kept.status.state), (event, Some(state)), "{before:?}");
            assert_eq!((said(&kept.status), kept.status.observed_generation), (words, Some(3)), "{before:?}");
        }
    }

    #[test]
    fn an_acknowledgement_of_another_digest_stays_and_does_not_count_and_one_that_counts_keeps_its_time() {
        let mut accepted = finding(Some("now"), None);
        let first = kept(&accepted, false, at(1)).status;
        assert_eq!(first.acknowledged_at, Some(at(1)));
        accepted.status = Some(first);
        assert_eq!(kept(&accepted, false, at(2)).status.acknowledged_at, Some(at(1)));
        accepted.spec.digest = "another".into();
        let changed = kept(&accepted, false, at(3));
        assert_eq!((changed.status.state, changed.event), (Some(State::New), Some(Reason::Drifted)));
        assert_eq!(changed.status.acknowledged_at, None);
        assert!(changed.status.conditions[0].message.contains("changed after it was accepted"));
    }

    #[test]
    fn a_finding_is_stale_when_no_run_has_confirmed_it_or_its_baseline_is_gone_and_is_looked_at_then() {
        let open = finding(None, None);
        let fresh = kept(&open, false, at(4));
        assert_eq!((fresh.status.stale, fresh.requeue), (false, Some(SignedDuration::from_hours(6))));
        let late = kept(&open, false, at(10));
        assert_eq!((late.status.stale, late.requeue), (true, None));
        assert!(late.status.conditions[0].message.contains("no run has confirmed it"));
        let gone = kept(&open, true, at(4));
        assert_eq!((gone.status.stale, gone.requeue), (true, None));
        assert!(gone.status.conditions[0].message.contains("its baseline is gone"));
        let accepted = kept(&finding(Some("now"), None), true, at(4));
        assert_eq!((accepted.status.state, accepted.status.stale), (Some(State::Acknowledged), true));
        // What is resolved needs no baseline.
        assert!(!kept(&finding(None, Some(3)), true, at(4)).status.stale);
        // Of one that no run has described yet nothing is known.
        let mut born = open;
        born.status = None;
        let born = kept(&born, false, at(4));
        assert_eq!((born.status.stale, born.requeue), (false, Some(LOOK_AGAIN)));
    }

    #[test]
    fn a_resolved_finding_is_deleted_when_its_time_is_over_and_not_before() {
        let resolved = finding(None, Some(2));
        assert_eq!(kept(&resolved, false, at(4)).requeue, Some(SignedDuration::from_hours(3)));
        assert_eq!(decide(&resolved, false, WINDOWS, at(7)), Decision::Delete);
        assert!(matches!(decide(&finding(None, None), true, WINDOWS, at(1000)), Decision::Keep(_)), "it is open");
        // A time that nobody lives to see.
        let mut never = resolved.clone();
        let observed = never.status.as_mut().and_then(|status| status.observed.as_mut()).expect("what was seen");
        observed.resolved_at = Some(Timestamp::MAX);
        assert!(matches!(decide(&never, false, WINDOWS, at(7)), Decision::Keep(_)));
        let mut going = resolved;
        going.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(1)));
        assert_eq!(decide(&going, false, WINDOWS, at(7)), Decision::Nothing);
    }

    #[test]
    fn an_event_names_the_item_the_change_and_the_worst_path() {
        let mut finding = finding(None, None);
        assert_eq!(told(Reason::Drifted, &finding), "ConfigMap web was modified (severity medium)");
        finding.spec.evidence = vec![Evidence { path: "data.mode".into(), ..Evidence::default() }];
        assert_eq!(told(Reason::Drifted, &finding), "ConfigMap web was modified at data.mode (severity medium)");
        assert_eq!(told(Reason::Reopened, &finding), "ConfigMap web was modified again at data.mode (severity medium)");
        assert_eq!(told(Reason::Resolved, &finding), "ConfigMap web is as in its baseline");
        assert!(told(Reason::Acknowledged, &finding).contains("ConfigMap web is accepted"));
    }

    proptest! {
        /// Whatever was on record before, a pass converges, and the next one writes nothing.
        #[test]
        fn the_pass_after_writes_nothing(
            first in (0..3_usize, proptest::option::of(-3..20_i64), any::<bool>()),
            second in (0..3_usize, proptest::option::of(-3..20_i64), any::<bool>()),
            now in 0..30_i64,
        ) {
            let of = |(acknowledged, resolved_at, _): (usize, Option<i64>, bool)| {
                finding([None, Some("now"), Some("before")][acknowledged], resolved_at)
            };
            let mut changed = of(second);
            if let Decision::Keep(earlier) = decide(&of(first), first.2, WINDOWS, at(now)) {
                let observed = changed.status.take().and_then(|status| status.observed);
                changed.status = Some(FindingStatus { observed, ..earlier.status });
            }
            if let Decision::Keep(once) = decide(&changed, second.2, WINDOWS, at(now)) {
                let observed = changed.status.as_ref().and_then(|status| status.observed.clone());
                prop_assert_eq!(&once.status.observed, &observed, "it is the worker's");
                changed.status = Some(once.status.clone());
                let again = decide(&changed, second.2, WINDOWS, at(now));
                prop_assert_eq!(again, Decision::Keep(Box::new(Kept { event: None, ..*once })));
            }
        }
    }
}
