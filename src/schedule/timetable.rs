//! The ticks of an expression in a time zone, as moments.
//!
//! When clocks go forward, a tick in the gap fires once, right after it, and several ticks in the
//! gap count as one. When clocks go back, a tick in the repeated hour fires the first time only. An
//! expression that runs in every hour (`*/15 * * * *`) follows elapsed time rather than the clock:
//! it continues evenly through both.
//!
//! Between two changes of its offset, a zone is plain arithmetic, so each step here covers one such
//! stretch. Nothing loops over ticks.

use super::{
    cron::{Expression, Mistake},
    zone,
};
use jiff::{
    SignedDuration, Timestamp,
    civil::DateTime,
    tz::{Offset, TimeZone},
};

/// Maximum number of offset changes examined for one tick: no zone has that many in the years that
/// any expression waits.
const MOST_CHANGES: usize = 200;

/// An expression in a zone.
#[derive(Clone, Debug)]
pub struct Timetable {
    /// The cron expression.
    pub expression: Expression,
    /// The zone whose clock it follows.
    pub zone: TimeZone,
}

/// Why two texts do not make a timetable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// The expression has a mistake.
    Expression(Mistake),
    /// There is no such zone.
    Zone,
}

/// A time over which a zone's offset is constant: `[start, end)`.
#[derive(Clone, Copy)]
struct Stretch {
    start: Timestamp,
    end: Timestamp,
    offset: Offset,
    /// The offset until `start`.
    before: Offset,
}

/// The requested part of a stretch, by its clock, and the one tick that stands for those in the gap
/// before it.
struct Window {
    after_gap: Option<Timestamp>,
    from: DateTime,
    to: DateTime,
    offset: Offset,
}

impl Timetable {
    /// Parses an expression and the name of a zone.
    pub fn read(expression: &str, zone: &str) -> Result<Self, Unreadable> {
        let expression = Expression::parse(expression).map_err(Unreadable::Expression)?;
        Ok(Self { expression, zone: zone::find(zone).ok_or(Unreadable::Zone)? })
    }

    /// The first tick after a moment.
    #[must_use]
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let mut from = just_after(after);
        for _ in 0..MOST_CHANGES {
            let stretch = self.stretch(from);
            let window = self.window(&stretch, from, Timestamp::MAX);
            let shown = || self.expression.first(window.from, window.to).and_then(|shown| window.moment(shown));
            let tick = window.after_gap.or_else(shown);
            if tick.is_some() || stretch.end == Timestamp::MAX {
                return tick;
            }
            from = stretch.end;
        }
        None
    }

    /// The last tick in `(after, until]`.
    #[must_use]
    pub fn last(&self, after: Timestamp, until: Timestamp) -> Option<Timestamp> {
        let from = just_after(after);
        let mut to = just_after(until);
        while from < to {
            let stretch = self.stretch(to.checked_sub(SignedDuration::from_nanos(1)).ok()?);
            let window = self.window(&stretch, from, to);
            let tick = self.expression.last(window.from, window.to).and_then(|found| window.moment(found));
            if let Some(tick) = tick.or(window.after_gap) {
                return Some(tick);
            }
            to = stretch.start;
        }
        None
    }

    /// The number of ticks in `(after, until]`.
    #[must_use]
    pub fn count(&self, after: Timestamp, until: Timestamp) -> u64 {
        let mut from = just_after(after);
        let to = just_after(until);
        let mut counted = 0;
        while from < to {
            let stretch = self.stretch(from);
            let window = self.window(&stretch, from, to);
            counted += u64::from(window.after_gap.is_some()) + self.expression.count(window.from, window.to);
            from = stretch.end;
        }
        counted
    }

    fn stretch(&self, at: Timestamp) -> Stretch {
        let offset = self.zone.to_offset(at);
        let start = self.zone.preceding(just_after(at)).next().map_or(Timestamp::MIN, |change| change.timestamp());
        let end = self.zone.following(at).next().map_or(Timestamp::MAX, |change| change.timestamp());
        let before =
            start.checked_sub(SignedDuration::from_nanos(1)).map_or(offset, |earlier| self.zone.to_offset(earlier));
        Stretch { start, end, offset, before }
    }

    fn window(&self, stretch: &Stretch, from: Timestamp, to: Timestamp) -> Window {
        let Stretch { start, end, offset, before } = *stretch;
        let evenly = self.expression.is_hourly();
        let mut lower = offset.to_datetime(from.max(start));
        let upper = offset.to_datetime(to.min(end));
        let mut after_gap = None;
        if before != offset && !evenly {
            let (shown_before, shown) = (before.to_datetime(start), offset.to_datetime(start));
            if shown < shown_before {
                lower = lower.max(shown_before);
            } else if from <= start
                && start < to
                && !self.expression.matches(shown)
                && self.expression.first(shown_before, shown).is_some()
            {
                after_gap = Some(start);
            }
        }
        Window { after_gap, from: lower, to: upper.max(lower), offset }
    }
}

impl Window {
    fn moment(&self, shown: DateTime) -> Option<Timestamp> {
        self.offset.to_timestamp(shown).ok()
    }
}

fn just_after(moment: Timestamp) -> Timestamp {
    moment.checked_add(SignedDuration::from_nanos(1)).unwrap_or(Timestamp::MAX)
}
