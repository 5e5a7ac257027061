//! Compares ticks with a second implementation that walks every minute of a year, and tests what
//! else must hold for them.

use super::{Due, Expression, Timetable, due, jitter, zone};
use jiff::{SignedDuration, Timestamp, civil::DateTime, tz::TimeZone};
use proptest::prelude::*;

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

fn timetable(expression: &str, zone_name: &str) -> Timetable {
    Timetable {
        expression: Expression::parse(expression).unwrap_or_else(|mistake| panic!("{expression}: {mistake}")),
        zone: zone::find(zone_name).expect("a zone"),
    }
}

/// The second implementation: it parses the expression in its own simple way and advances a wall
/// clock minute by minute.
mod wall_clock {
    use super::{DateTime, SignedDuration, TimeZone, Timestamp};

    fn field(text: &str, low: i64, high: i64, value: i64) -> bool {
        text.split(',').any(|part| {
            let mut split = part.split('/');
            let range = split.next().unwrap_or("*");
            let step: i64 = split.next().map_or(1, |step| step.parse().expect("a number"));
            let (from, to) = match range.split_once('-') {
                Some((from, to)) => (from.parse().expect("a number"), to.parse().expect("a number")),
                None if range == "*" => (low, high),
                None => {
                    let from: i64 = range.parse().expect("a number");
                    (from, if part.contains('/') { high } else { from })
                }
            };
            value >= from && value <= to && (value - from) % step == 0
        })
    }

    /// For each field, which of its values match.
    struct Wall {
        fields: [Vec<bool>; 5],
        any: [bool; 5],
    }

    impl Wall {
        fn of(expression: &str) -> Self {
            let words: Vec<&str> = expression.split(' ').collect();
            let bounds = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 7)];
            let table = |index: usize| {
                let (low, high) = bounds[index];
                (0..=high).map(|value| value >= low && field(words[index], low, high, value)).collect()
            };
            Self { fields: std::array::from_fn(table), any: std::array::from_fn(|index| words[index] == "*") }
        }

        fn shows(&self, time: DateTime) -> bool {
            let has = |index: usize, value: i8| self.fields[index][usize::try_from(value).expect("no negative")];
            if !has(0, time.minute()) || !has(1, time.hour()) || !has(3, time.month()) {
                return false;
            }
            let weekday = time.date().weekday().to_sunday_zero_offset();
            let weekday = has(4, weekday) || (weekday == 0 && has(4, 7));
            let day = has(2, time.day());
            if self.any[2] || self.any[4] { day && weekday } else { day || weekday }
        }

        fn every_hour(&self) -> bool {
            self.fields[1].iter().all(|hour| *hour)
        }
    }

    /// Every tick of each expression in `[from, to)`.
    pub(super) fn ticks(expressions: &[&str], zone: &TimeZone, from: Timestamp, to: Timestamp) -> Vec<Vec<Timestamp>> {
        let minute = SignedDuration::from_mins(1);
        let walls: Vec<Wall> = expressions.iter().map(|expression| Wall::of(expression)).collect();
        let mut found = vec![Vec::new(); expressions.len()];
        // The latest time that the wall clock has shown.
        let mut latest = zone.to_datetime(from.checked_sub(minute).expect("a time"));
        let mut now = from;
        while now < to {
            let shown = zone.to_datetime(now);
            let mut passed = Vec::new();
            while latest < shown {
                latest = latest.checked_add(minute).expect("a time");
                passed.push(latest);
            }
            for (wall, found) in walls.iter().zip(&mut found) {
                let due =
                    if wall.every_hour() { wall.shows(shown) } else { passed.iter().any(|time| wall.shows(*time)) };
                if due {
                    found.push(now);
                }
            }
            now = now.checked_add(minute).expect("a time");
        }
        found
    }
}

const EXPRESSIONS: [&str; 12] = [
    "* * * * *",
    "*/15 * * * *",
    "30 * * * *",
    "0 0 * * *",
    "30 2 * * *",
    "15,45 1-3 * * *",
    "0 */2 * * *",
    "*/20 2 * * *",
    "0 12 1 * *",
    "0 3 13 * 5",
    "5/25 22 */2 3,10 *",
    "59 23 31 12 *",
];

/// Zones with half an hour of daylight saving and with two, without any, with it in winter, with
/// four changes a year, with a change at midnight, with an offset of a quarter of an hour, and with
/// the usual rules.
const ZONES: [&str; 10] = [
    "UTC",
    "Europe/Berlin",
    "Europe/Dublin",
    "Africa/Casablanca",
    "Antarctica/Troll",
    "America/New_York",
    "Australia/Lord_Howe",
    "America/Santiago",
    "Asia/Kathmandu",
    "Pacific/Chatham",
];

/// Compares with another library's ticks for the same expressions. In UTC, because the library
/// handles daylight saving differently.
#[test]
fn the_ticks_of_a_leap_year_and_the_one_after_are_those_that_another_library_finds() {
    let more = [
        "0 0 29 2 *",
        "7 */5 1-7 * MON",
        "0 9-17/4 * JAN-MAR,NOV tue-thu",
        "3-59/19 0,12 * * *",
        "0 0 31 * *",
        "1 1 * * 7",
    ];
    let (from, to) = (at("2028-01-01T00:00:00Z"), at("2030-01-01T00:00:00Z"));
    for expression in EXPRESSIONS.into_iter().chain(more) {
        // The library does not know the form `5/25`.
        let theirs = expression.replace("5/25", "5-59/25");
        let theirs: croner::Cron = theirs.parse().unwrap_or_else(|error| panic!("{theirs}: {error}"));
        let theirs =
            theirs.iter_from(from.to_zoned(TimeZone::UTC), croner::Direction::Forward).map(|tick| tick.timestamp());
        let timetable = timetable(expression, "UTC");
        let before = from.checked_sub(SignedDuration::from_nanos(1)).expect("a time");
        let ours = std::iter::successors(timetable.next(before), |tick| timetable.next(*tick));
        let until = |tick: &Timestamp| *tick < to;
        assert!(ours.take_while(until).eq(theirs.take_while(until)), "{expression}");
    }
}

#[test]
fn a_year_of_ticks_is_what_a_clock_on_the_wall_gives_minute_by_minute() {
    let (from, to) = (at("2026-01-01T00:00:00Z"), at("2027-01-01T00:00:00Z"));
    let before = from.checked_sub(SignedDuration::from_nanos(1)).expect("a time");
    for zone_name in ZONES {
        let all = wall_clock::ticks(&EXPRESSIONS, &zone::find(zone_name).expect("a zone"), from, to);
        for (expression, expected) in EXPRESSIONS.iter().zip(all) {
            let timetable = timetable(expression, zone_name);
            let mut ticks = Vec::new();
            let mut last = before;
            while let Some(tick) = timetable.next(last).filter(|tick| *tick < to) {
                ticks.push(tick);
                last = tick;
            }
            let differ = ticks.iter().zip(&expected).find(|(tick, expected)| tick != expected);
            assert_eq!(differ, None, "{expression} in {zone_name}");
            assert_eq!(ticks.len(), expected.len(), "{expression} in {zone_name}");
            let until = to.checked_sub(SignedDuration::from_nanos(1)).expect("a time");
            assert_eq!(timetable.count(before, until), expected.len() as u64, "{expression} in {zone_name}");
            assert_eq!(timetable.last(before, until), expected.last().copied(), "{expression} in {zone_name}");
        }
    }
}

#[test]
fn a_day_that_a_zone_left_out_is_one_tick_at_its_end() {
    // Samoa had no December 30 in 2011.
    let timetable = timetable("0 6,9 * * *", "Pacific/Apia");
    let (from, to) = (at("2011-12-28T00:00:00Z"), at("2012-01-02T00:00:00Z"));
    let expected = wall_clock::ticks(&["0 6,9 * * *"], &timetable.zone, from, to).remove(0);
    let mut ticks = Vec::new();
    let mut last = from;
    while let Some(tick) = timetable.next(last).filter(|tick| *tick < to) {
        ticks.push(tick);
        last = tick;
    }
    assert_eq!(ticks, expected);
    assert!(ticks.contains(&at("2011-12-30T10:00:00Z")), "{ticks:?}");
}

#[test]
fn a_job_in_the_gap_runs_once_right_after_it_and_one_in_the_repeated_hour_once() {
    let nightly = timetable("30 2 * * *", "Europe/Berlin");
    assert_eq!(nightly.next(at("2026-03-28T12:00:00Z")), Some(at("2026-03-29T01:00:00Z")), "03:00, as 02:30 never was");
    assert_eq!(nightly.next(at("2026-03-29T01:00:00Z")), Some(at("2026-03-30T00:30:00Z")));
    assert_eq!(nightly.next(at("2026-10-24T12:00:00Z")), Some(at("2026-10-25T00:30:00Z")), "the first of two 02:30");
    assert_eq!(nightly.next(at("2026-10-25T00:30:00Z")), Some(at("2026-10-26T01:30:00Z")));
    let quarters = timetable("*/15 * * * *", "Europe/Berlin");
    let (before, after) = (at("2026-10-25T00:00:00Z"), at("2026-10-25T02:00:00Z"));
    assert_eq!(quarters.count(before, after), 8, "what runs every quarter of an hour goes on doing so");
}

#[test]
fn aliases_mean_what_they_say() {
    for (alias, meaning) in [
        ("@yearly", "0 0 1 1 *"),
        ("@annually", "0 0 1 JAN ?"),
        ("@monthly", "0 0 1 * *"),
        ("@weekly", "0 0 * * SUN"),
        ("@daily", "0 0 * * *"),
        ("@midnight", "0 0 */1 * *"),
        ("@hourly", "0 * * * *"),
        (" 0  0 * * 7 ", "0 0 * * sun"),
    ] {
        assert_eq!(Expression::parse(alias), Expression::parse(meaning), "{alias}");
    }
}

#[test]
fn a_mistake_says_where_it_is() {
    for (expression, position, words) in [
        ("", 1, "5 fields"),
        ("* * * *", 8, "5 fields"),
        ("0 0 * * * *", 11, "not 6"),
        ("TZ=UTC 0 0 * * *", 16, "spec.timeZone"),
        ("60 * * * *", 1, "minute \"60\""),
        ("0 24 * * *", 3, "hour \"24\""),
        ("0 0 32 * *", 5, "day of month"),
        ("0 0 * 13 *", 7, "JAN to DEC"),
        ("0 0 * * MOO", 9, "SUN to SAT"),
        ("0 0 * * 1,8", 11, "day of week \"8\""),
        ("0 22-4 * * *", 3, "backwards"),
        ("*/0 * * * *", 3, "step"),
        ("*/x * * * *", 3, "step"),
        ("0 0 30 2 *", 5, "never comes"),
        ("0 0 31 4,6,9,11 *", 5, "never comes"),
        ("@every 1h", 1, "@midnight"),
        ("0 0 L * *", 5, "\"L\""),
        ("ü * * * *", 1, "\"ü\""),
        ("0 0 ü * *", 5, "\"ü\""),
        ("-5 * * * *", 1, "minute \"\""),
    ] {
        let mistake = Expression::parse(expression).expect_err(expression);
        assert_eq!(mistake.position, position, "{expression}: {mistake}");
        assert!(mistake.message.contains(words), "{expression}: {mistake}");
    }
    // Either day suffices, so a Friday matches even though the 30th never comes.
    assert!(Expression::parse("0 0 30 2 5").is_ok());
}

#[test]
fn the_29th_of_february_comes_even_when_a_century_leaves_it_out() {
    let leap = timetable("0 0 29 2 *", "UTC");
    assert_eq!(leap.next(at("2096-02-29T00:00:00Z")), Some(at("2104-02-29T00:00:00Z")));
}

#[test]
fn a_zone_is_found_by_its_iana_name_wherever_this_runs() {
    assert!(
        ["UTC", "Etc/UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires"]
            .iter()
            .all(|name| zone::find(name).is_some())
    );
    assert!(["", "Local", "Europe/Berln", "../../etc/localtime", "CEST"].iter().all(|name| zone::find(name).is_none()));
}

const NONE: SignedDuration = SignedDuration::ZERO;

#[test]
fn a_tick_is_due_at_its_minute_once_and_the_next_is_told() {
    let hourly = timetable("@hourly", "UTC");
    let settled = at("2026-01-01T05:00:00Z");
    let next = Some(at("2026-01-01T06:00:00Z"));
    assert_eq!(due(&hourly, settled, NONE, None, at("2026-01-01T05:59:59Z")), Due { next, ..Due::default() });
    let now = at("2026-01-01T06:00:00Z");
    let after = Some(at("2026-01-01T07:00:00Z"));
    assert_eq!(due(&hourly, settled, NONE, None, now), Due { tick: next, next: after, ..Due::default() });
    assert_eq!(due(&hourly, now, NONE, None, now), Due { next: after, ..Due::default() });
    // A clock that is set back does not repeat a tick.
    assert_eq!(due(&hourly, now, NONE, None, settled), Due { next: after, ..Due::default() });
}

#[test]
fn of_many_ticks_that_went_by_one_is_caught_up_within_the_deadline_and_the_rest_are_counted() {
    let minutely = timetable("* * * * *", "Europe/Berlin");
    let (settled, now) = (at("2026-03-20T00:00:00Z"), at("2026-04-20T00:00:30Z"));
    let found = due(&minutely, settled, NONE, Some(SignedDuration::from_secs(60)), now);
    let last = at("2026-04-20T00:00:00Z");
    assert_eq!((found.tick, found.missed), (Some(last), 31 * 1440 - 1));
    assert_eq!(found.last_missed, Some(at("2026-04-19T23:59:00Z")));
    let late = due(&minutely, settled, NONE, Some(SignedDuration::from_secs(20)), now);
    assert_eq!((late.tick, late.missed, late.last_missed), (None, 31 * 1440, Some(last)));
    assert_eq!(late.next, Some(at("2026-04-20T00:01:00Z")));
}

#[test]
#[allow(clippy::disallowed_methods, reason = "it measures how long a count takes")]
fn ten_years_of_missed_minutes_are_counted_in_no_time() {
    let minutely = timetable("* * * * *", "Europe/Berlin");
    let begun = std::time::Instant::now();
    let found = due(&minutely, at("2016-01-01T00:00:00Z"), NONE, None, at("2026-01-01T00:00:00Z"));
    assert_eq!(found.missed + 1, 3653 * 1440);
    assert!(begun.elapsed() < std::time::Duration::from_millis(200), "{:?}", begun.elapsed());
}

#[test]
fn with_jitter_a_tick_waits_and_keeps_its_minute() {
    let hourly = timetable("@hourly", "UTC");
    let (settled, jitter) = (at("2026-01-01T05:00:00Z"), SignedDuration::from_secs(600));
    let tick = Some(at("2026-01-01T06:00:00Z"));
    let early = due(&hourly, settled, jitter, None, at("2026-01-01T06:09:59Z"));
    assert_eq!((early.tick, early.next), (None, tick));
    let found = due(&hourly, settled, jitter, Some(SignedDuration::from_secs(10)), at("2026-01-01T06:10:05Z"));
    assert_eq!((found.tick, found.missed), (tick, 0), "the deadline counts from when it was to fire");
}

#[test]
fn jitter_is_the_same_for_ever_and_spread_evenly_among_schedules() {
    let window = 1440;
    let mut buckets = [0_u32; 24];
    let mut distinct = std::collections::HashSet::new();
    for number in 0..24_000 {
        let seconds = jitter(&format!("uid-{number}"), window).as_secs();
        assert!((0..window).contains(&seconds));
        distinct.insert(seconds);
        buckets[usize::try_from(seconds / 60).expect("a bucket")] += 1;
    }
    assert_eq!(distinct.len(), 1440, "every second of the window is used");
    assert!(buckets.iter().all(|bucket| (850..1150).contains(bucket)), "{buckets:?}");
    assert_eq!(jitter("a", 3600), jitter("a", 3600));
    assert_eq!((jitter("a", 0), jitter("a", -5)), (NONE, NONE));
}

fn any_timetable() -> impl Strategy<Value = Timetable> {
    (0..EXPRESSIONS.len(), 0..ZONES.len())
        .prop_map(|(expression, zone)| timetable(EXPRESSIONS[expression], ZONES[zone]))
}

fn any_moment() -> impl Strategy<Value = Timestamp> {
    // 2020 to 2035, to the second.
    (1_577_836_800_i64..2_051_222_400).prop_map(|second| Timestamp::from_second(second).expect("a time"))
}

proptest! {
    #[test]
    fn next_last_and_count_tell_the_same_story(timetable in any_timetable(), from in any_moment()) {
        let tick = timetable.next(from).expect("it comes");
        prop_assert!(tick > from);
        prop_assert_eq!(timetable.last(from, tick), Some(tick));
        prop_assert_eq!(timetable.count(from, tick), 1);
        let before = tick.checked_sub(SignedDuration::from_nanos(1)).expect("a time");
        prop_assert_eq!(timetable.count(from, before), 0);
        prop_assert_eq!(timetable.last(from, before), None);
    }

    /// Whenever the passes happen, each tick is either started or missed, once.
    #[test]
    fn no_tick_is_lost_or_doubled_however_passes_fall(
        timetable in any_timetable(),
        start in any_moment(),
        steps in proptest::collection::vec(1_i64..500_000, 1..12),
        jitter in 0_i64..7200,
        deadline in proptest::option::of(10_i64..100_000),
    ) {
        let (jitter, deadline) = (SignedDuration::from_secs(jitter), deadline.map(SignedDuration::from_secs));
        let (mut settled, mut now, mut seen) = (start, start, 0);
        for step in steps {
            now = now.checked_add(SignedDuration::from_secs(step)).expect("a time");
            let found = due(&timetable, settled, jitter, deadline, now);
            seen += found.missed + u64::from(found.tick.is_some());
            if let Some(tick) = found.tick {
                prop_assert!(tick > settled);
                prop_assert!(found.last_missed.is_none_or(|missed| missed < tick));
            }
            settled = found.tick.or(found.last_missed).unwrap_or(settled);
            let next = found.next.expect("it comes");
            prop_assert!(next.checked_add(jitter).expect("a time") > now);
        }
        let come = now.checked_sub(jitter).expect("a time");
        prop_assert_eq!(seen, if come > start { timetable.count(start, come) } else { 0 });
    }
}

#[test]
fn a_number_in_an_expression_is_digits_alone() {
    for text in ["+5 * * * *", "-5 * * * *", "5 +1 * * *", "0x5 * * * *"] {
        assert!(Expression::parse(text).is_err(), "{text}");
    }
}

#[test]
fn a_moment_within_a_minute_belongs_to_the_minute_that_follows() {
    let one = Expression::parse("0 1 * * *").expect("an expression");
    let shows = |text: &str| one.matches(text.parse().expect("a time"));
    assert!(shows("2026-01-01T01:00:00") && shows("2026-01-01T00:59:30") && shows("2026-01-01T00:59:00.5"));
    assert!(!shows("2026-01-01T00:59:00") && !shows("2026-01-01T01:00:30"));
}
