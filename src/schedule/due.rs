//! What is due now, given what was settled before: one tick at most, however many have passed.

use super::timetable::Timetable;
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

/// What is due.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// The tick to start: the last one that came, unless its deadline has passed.
    pub tick: Option<Timestamp>,
    /// Number of ticks that came and are not started any more.
    pub missed: u64,
    /// The last missed tick.
    pub last_missed: Option<Timestamp>,
    /// The next tick. It fires `jitter` later.
    pub next: Option<Timestamp>,
}

/// Returns what is due at `now`, if every tick until `settled` is handled.
///
/// Each tick fires `jitter` after its minute. If several came, only the last is started, and only
/// within `deadline` of its firing. All others are missed. The result is the same whether one pass
/// sees them or many do.
#[must_use]
pub fn due(
    timetable: &Timetable,
    settled: Timestamp,
    jitter: SignedDuration,
    deadline: Option<SignedDuration>,
    now: Timestamp,
) -> Due {
    // A tick has not come until its jitter is over.
    let come = now.checked_sub(jitter).unwrap_or(Timestamp::MIN);
    let next = timetable.next(settled.max(come));
    let Some(last) = timetable.last(settled, come) else { return Due { next, ..Due::default() } };
    let fired = last.checked_add(jitter).unwrap_or(Timestamp::MAX);
    let in_time = deadline.is_none_or(|deadline| now.duration_since(fired) <= deadline);
    let tick = in_time.then_some(last);
    let until = if in_time { last.checked_sub(SignedDuration::from_nanos(1)).unwrap_or(settled) } else { last };
    let missed = timetable.count(settled, until);
    let last_missed = if missed == 0 { None } else { timetable.last(settled, until) };
    Due { tick, missed, last_missed, next }
}

/// How much later each tick of a schedule fires: always the same, and spread evenly over
/// `[0, window)` seconds among schedules.
#[must_use]
pub fn jitter(uid: &str, window: i64) -> SignedDuration {
    let Some(window) = u64::try_from(window).ok().filter(|window| *window > 0) else { return SignedDuration::ZERO };
    let digest = Sha256::digest(format!("jitter of {uid}"));
    let number = digest.iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    SignedDuration::from_secs(i64::try_from(number % window).unwrap_or_default())
}
