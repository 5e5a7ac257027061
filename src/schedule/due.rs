//! What is due now, from what was settled before: one tick at most, however many went by.

use super::timetable::Timetable;
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

/// What is due.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// The tick to start: the last of those that came, if it is not too late for it.
    pub tick: Option<Timestamp>,
    /// Ticks that came and are not to be started any more.
    pub missed: u64,
    /// The last of them.
    pub last_missed: Option<Timestamp>,
    /// The next tick; it fires `jitter` later.
    pub next: Option<Timestamp>,
}

/// What is due at `now`, where every tick until `settled` is dealt with.
///
/// Each tick fires `jitter` after its minute. Of several that came only the last is started, and only within `deadline` of its
/// firing; all others are missed. It is the same whether one pass sees them or many do.
#[must_use]
pub fn due(
    timetable: &Timetable,
    settled: Timestamp,
    jitter: SignedDuration,
    deadline: Option<SignedDuration>,
    now: Timestamp,
) -> Due {
    // A tick whose firing is not over yet has not come.
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

/// By how much each tick of a schedule fires later: the same for ever, spread evenly over `[0, window)` seconds among schedules.
#[must_use]
pub fn jitter(uid: &str, window: i64) -> SignedDuration {
    let Some(window) = u64::try_from(window).ok().filter(|window| *window > 0) else { return SignedDuration::ZERO };
    let digest = Sha256::digest(format!("jitter of {uid}"));
    let number = digest.iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    SignedDuration::from_secs(i64::try_from(number % window).unwrap_or_default())
}
