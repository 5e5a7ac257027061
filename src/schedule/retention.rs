//! Which backups of a schedule are kept. Pure.
//!
//! Each rule names backups to keep, and a backup that any rule names is kept. A rule by the clock
//! keeps one backup of each of the newest hours (days, …) that have one, as restic does: the last
//! whole one, or else the last. Whatever the rules say, these are kept: the last good backup, the
//! last good backup that holds the whole tenant, and every held backup. A backup that is not known
//! to be good is left for a user to judge.
//!
//! Backups of ticks and backups requested by users are judged separately, each by all the rules.
//! Requesting a backup takes less permission than deleting one, so a request must never let a
//! tick's backup expire. Inventories are judged apart from backups for the same reason: a schedule
//! may have made both, and an inventory does not replace a backup.

use jiff::{Span, Timestamp, civil::Date, tz::TimeZone};
use std::collections::{BTreeMap, BTreeSet};

/// What to keep. A rule that is left out keeps nothing.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Keep this many of the newest.
    pub last: usize,
    /// Keep one for each of this many hours.
    pub hourly: usize,
    /// Keep one for each of this many days.
    pub daily: usize,
    /// Keep one for each of this many weeks, Monday to Sunday.
    pub weekly: usize,
    /// Keep one for each of this many months.
    pub monthly: usize,
    /// Keep one for each of this many years.
    pub yearly: usize,
    /// Keep all that are at most this much older than the newest.
    pub within: Option<Span>,
}

/// A backup to judge.
#[expect(clippy::struct_excessive_bools, reason = "each says another thing, and any goes with any")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    /// Name of the backup.
    pub name: String,
    /// When it was taken.
    pub at: Timestamp,
    /// Whether it is known to be good.
    pub good: bool,
    /// Whether it holds the whole tenant.
    pub whole: bool,
    /// Whether a user holds it.
    pub hold: bool,
    /// Whether a user requested it, rather than a tick.
    pub asked: bool,
    /// Whether it is an inventory, which holds no objects.
    pub inventory: bool,
}

/// The names of the backups that no rule keeps. Calling this changes nothing, so that a plan can be
/// previewed.
#[must_use]
pub fn expired(rules: &Rules, zone: &TimeZone, backups: &[Backup]) -> Vec<String> {
    let mut apart: BTreeMap<(bool, bool), Vec<&Backup>> = BTreeMap::new();
    for backup in backups.iter().filter(|backup| backup.good) {
        apart.entry((backup.inventory, backup.asked)).or_default().push(backup);
    }
    apart.into_values().flat_map(|backups| expired_of(rules, zone, backups)).collect()
}

/// The same for good backups that are judged together.
fn expired_of<'a>(rules: &Rules, zone: &TimeZone, mut newest_first: Vec<&'a Backup>) -> Vec<String> {
    newest_first.sort_by(|one, other| (other.at, &other.name).cmp(&(one.at, &one.name)));
    let mut kept: BTreeSet<&str> = BTreeSet::new();
    let mut keep = |backup: &&'a Backup| {
        kept.insert(backup.name.as_str());
    };
    newest_first.iter().take(rules.last.max(1)).for_each(&mut keep);
    newest_first.iter().find(|backup| backup.whole).into_iter().for_each(&mut keep);
    newest_first.iter().filter(|backup| backup.hold).for_each(&mut keep);
    for (count, period) in PERIODS {
        // For each period, the last backup that holds the whole tenant, or else the last: a backup
        // with a failed item never replaces a whole one.
        let mut of_periods: Vec<(Period, &&Backup)> = Vec::new();
        for backup in &newest_first {
            let of = period(zone, backup.at);
            let seen = of_periods.len();
            match of_periods.last_mut() {
                Some((last, kept)) if *last == of => {
                    if backup.whole && !kept.whole {
                        *kept = backup;
                    }
                }
                _ if seen == count(rules) => break,
                _ => of_periods.push((of, backup)),
            }
        }
        of_periods.into_iter().map(|(_, backup)| backup).for_each(&mut keep);
    }
    if let (Some(within), Some(newest)) = (rules.within, newest_first.first()) {
        let oldest = newest.at.to_zoned(zone.clone()).checked_sub(within).map(|oldest| oldest.timestamp());
        newest_first
            .iter()
            .filter(|backup| oldest.as_ref().map_or(true, |oldest| backup.at >= *oldest))
            .for_each(&mut keep);
    }
    let expired = newest_first.iter().filter(|backup| !kept.contains(backup.name.as_str()));
    expired.map(|backup| backup.name.clone()).collect()
}

/// A period by the zone's clock, such as an hour: the date it begins at, and a number within that
/// date.
type Period = (Date, i32);

type Rule = (fn(&Rules) -> usize, fn(&TimeZone, Timestamp) -> Period);

const PERIODS: [Rule; 5] = [
    // An hour that comes twice counts as two, so its offset is part of it.
    (
        |rules| rules.hourly,
        |zone, at| {
            let shown = zone.to_datetime(at);
            (shown.date(), i32::from(shown.hour()) * 100_000 + zone.to_offset(at).seconds())
        },
    ),
    (|rules| rules.daily, |zone, at| (zone.to_datetime(at).date(), 0)),
    (
        |rules| rules.weekly,
        |zone, at| {
            let date = zone.to_datetime(at).date();
            let monday = date.checked_sub(Span::new().days(i64::from(date.weekday().to_monday_zero_offset())));
            (monday.unwrap_or(date), 0)
        },
    ),
    (|rules| rules.monthly, |zone, at| (zone.to_datetime(at).date().first_of_month(), 0)),
    (|rules| rules.yearly, |zone, at| (zone.to_datetime(at).date().first_of_year(), 0)),
];

/// Parses a length of time such as `1y2m3d4h`, as restic writes it: years, months, days, hours.
#[must_use]
pub fn span(text: &str) -> Option<Span> {
    let mut span = Span::new();
    let mut rest = text;
    let mut any = false;
    for unit in ['y', 'm', 'd', 'h'] {
        if let Some((number, after)) = rest.split_once(unit) {
            let number: i64 = number.parse().ok().filter(|number| (0..=9_999).contains(number))?;
            span = match unit {
                'y' => span.try_years(number),
                'm' => span.try_months(number),
                'd' => span.try_days(number),
                _ => span.try_hours(number),
            }
            .ok()?;
            any = true;
            rest = after;
        }
    }
    (any && rest.is_empty() && !span.is_zero()).then_some(span)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::zone;
    use proptest::prelude::*;

    fn berlin() -> TimeZone {
        zone::find("Europe/Berlin").expect("a zone")
    }

    fn good(at: &str) -> Backup {
        Backup {
            name: at.to_owned(),
            at: at.parse().expect("a time"),
            good: true,
            whole: true,
            hold: false,
            asked: false,
            inventory: false,
        }
    }

    fn kept(rules: &Rules, backups: &[Backup]) -> Vec<String> {
        let gone = expired(rules, &berlin(), backups);
        backups.iter().map(|backup| backup.name.clone()).filter(|name| !gone.contains(name)).collect()
    }

    #[test]
    fn each_rule_keeps_the_last_of_its_period_by_the_zones_clock_and_all_are_united() {
        let backups = [
            "2024-12-31T12:00:00Z",
            "2025-11-30T12:00:00Z",
            "2025-12-01T12:00:00Z",
            "2025-12-30T20:00:00Z",
            // In Berlin these two are on the same day, in the new year.
            "2025-12-31T23:30:00Z",
            "2026-01-01T20:00:00Z",
            "2026-01-01T20:40:00Z",
        ]
        .map(good);
        let keeps = |rules: Rules, indexes: &[usize]| {
            let wanted: Vec<String> = indexes.iter().map(|index| backups[*index].name.clone()).collect();
            assert_eq!(kept(&rules, &backups), wanted, "{rules:?}");
        };
        keeps(Rules::default(), &[6]);
        keeps(Rules { last: 3, ..Rules::default() }, &[4, 5, 6]);
        keeps(Rules { hourly: 2, ..Rules::default() }, &[4, 6]);
        keeps(Rules { daily: 2, ..Rules::default() }, &[3, 6]);
        keeps(Rules { weekly: 2, ..Rules::default() }, &[2, 6]);
        keeps(Rules { monthly: 3, ..Rules::default() }, &[1, 3, 6]);
        keeps(Rules { yearly: 3, ..Rules::default() }, &[0, 3, 6]);
        keeps(Rules { within: span("1d"), ..Rules::default() }, &[4, 5, 6]);
        keeps(Rules { daily: 2, yearly: 3, last: 2, ..Rules::default() }, &[0, 3, 5, 6]);
    }

    #[test]
    fn one_of_which_an_item_failed_does_not_replace_a_whole_one_of_its_day() {
        let mut backups =
            ["2026-01-01T08:00:00Z", "2026-01-01T20:00:00Z", "2026-01-02T08:00:00Z", "2026-01-02T20:00:00Z"].map(good);
        backups[1].whole = false;
        backups[2].whole = false;
        let daily = Rules { daily: 2, ..Rules::default() };
        assert_eq!(kept(&daily, &backups), [&backups[0].name, &backups[3].name].map(Clone::clone));
        backups[0].whole = false;
        assert_eq!(kept(&daily, &backups), [&backups[1].name, &backups[3].name].map(Clone::clone));
    }

    #[test]
    fn the_last_good_one_a_held_one_and_what_is_not_known_to_be_good_stay() {
        let mut backups =
            ["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z", "2026-01-03T00:00:00Z", "2026-01-04T00:00:00Z"].map(good);
        backups[0].hold = true;
        backups[2].whole = false;
        backups[3].good = false;
        let names = kept(&Rules { last: 1, ..Rules::default() }, &backups);
        let all: Vec<String> = backups.iter().map(|backup| backup.name.clone()).collect();
        assert_eq!(names, all, "held; the last whole one; the last good one; not good");
        backups[2].whole = true;
        assert_eq!(kept(&Rules::default(), &backups), [&all[0], &all[2], &all[3]].map(Clone::clone));
        backups[2].whole = false;
        assert_eq!(kept(&Rules::default(), &backups), all, "the newest good one, and the newest whole one");
    }

    #[test]
    fn those_that_were_asked_for_push_out_one_another_and_none_of_a_tick() {
        let mut backups =
            ["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z", "2026-01-02T01:00:00Z", "2026-01-02T02:00:00Z"].map(good);
        for asked in &mut backups[2..] {
            asked.asked = true;
        }
        let names = kept(&Rules { last: 2, ..Rules::default() }, &backups);
        assert_eq!(names, backups.clone().map(|backup| backup.name), "two of each");
        assert_eq!(kept(&Rules::default(), &backups), [&backups[1].name, &backups[3].name].map(Clone::clone));
    }

    #[test]
    fn an_inventory_takes_no_place_of_a_backup() {
        let mut sets =
            ["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z", "2026-01-03T00:00:00Z", "2026-01-04T00:00:00Z"].map(good);
        for inventory in &mut sets[2..] {
            inventory.inventory = true;
        }
        assert_eq!(kept(&Rules::default(), &sets), [&sets[1].name, &sets[3].name].map(Clone::clone));
    }

    #[test]
    fn a_span_reads_as_restic_writes_it() {
        assert_eq!(
            span("1y2m3d4h").map(jiff::Span::fieldwise),
            Some(Span::new().years(1).months(2).days(3).hours(4).fieldwise())
        );
        assert_eq!(span("30d").map(jiff::Span::fieldwise), Some(Span::new().days(30).fieldwise()));
        assert!(["", "30", "d", "4h3d", "-1d", "99999y", "1w", "0h", "0y0m"].iter().all(|text| span(text).is_none()));
    }

    fn any_backups() -> impl Strategy<Value = Vec<Backup>> {
        let time = 1_700_000_000_i64..1_760_000_000;
        let [hold, asked, inventory] = [0.1, 0.3, 0.2].map(prop::bool::weighted);
        let backup = (time, any::<bool>(), any::<bool>(), hold, asked, inventory);
        proptest::collection::vec(backup, 0..60).prop_map(|backups| {
            let backup = |(number, (second, good, whole, hold, asked, inventory)): (
                usize,
                (i64, bool, bool, bool, bool, bool),
            )| Backup {
                name: number.to_string(),
                at: Timestamp::from_second(second).expect("a time"),
                good,
                whole,
                hold,
                asked,
                inventory,
            };
            backups.into_iter().enumerate().map(backup).collect()
        })
    }

    fn any_rules() -> impl Strategy<Value = Rules> {
        let few = || 0_usize..5;
        let within = proptest::option::of(prop_oneof![Just("3d"), Just("1m"), Just("1y")]);
        (few(), few(), few(), few(), few(), few(), within).prop_map(
            |(last, hourly, daily, weekly, monthly, yearly, within)| Rules {
                last,
                hourly,
                daily,
                weekly,
                monthly,
                yearly,
                within: within.and_then(span),
            },
        )
    }

    proptest! {
        #[test]
        fn whatever_the_rules_the_last_good_one_stays_and_so_does_what_is_held(rules in any_rules(), backups in any_backups()) {
            let gone = expired(&rules, &berlin(), &backups);
            let is_gone = |backup: &Backup| gone.contains(&backup.name);
            let newest = |wanted: fn(&Backup) -> bool| {
                backups.iter().filter(|backup| !backup.inventory && backup.good && wanted(backup)).max_by(|one, other| (one.at, &one.name).cmp(&(other.at, &other.name)))
            };
            prop_assert!(newest(|_| true).is_none_or(|last| !is_gone(last)));
            prop_assert!(newest(|backup| backup.whole).is_none_or(|last| !is_gone(last)));
            prop_assert!(backups.iter().all(|backup| !(is_gone(backup) && (backup.hold || !backup.good))));
        }

        /// However many backups users request: no backup of a tick expires that would not expire
        /// without them.
        #[test]
        fn what_somebody_asks_for_lets_nothing_of_a_tick_expire(rules in any_rules(), backups in any_backups()) {
            let of_ticks: Vec<Backup> = backups.iter().filter(|backup| !backup.asked).cloned().collect();
            let mut gone = expired(&rules, &berlin(), &backups);
            gone.retain(|name| of_ticks.iter().any(|backup| backup.name == *name));
            prop_assert_eq!(gone, expired(&rules, &berlin(), &of_ticks));
        }

        /// The same of inventories: no backup expires because of them.
        #[test]
        fn what_is_only_an_inventory_lets_no_backup_expire(rules in any_rules(), sets in any_backups()) {
            let backups: Vec<Backup> = sets.iter().filter(|set| !set.inventory).cloned().collect();
            let mut gone = expired(&rules, &berlin(), &sets);
            gone.retain(|name| backups.iter().any(|backup| backup.name == *name));
            prop_assert_eq!(gone, expired(&rules, &berlin(), &backups));
        }

        /// Expiry is idempotent, and nothing expires that a preview of the plan did not name.
        #[test]
        fn what_is_left_is_left_again_and_more_rules_keep_more(rules in any_rules(), more in any_rules(), backups in any_backups()) {
            let gone = expired(&rules, &berlin(), &backups);
            let left: Vec<Backup> = backups.iter().filter(|backup| !gone.contains(&backup.name)).cloned().collect();
            prop_assert_eq!(expired(&rules, &berlin(), &left), Vec::<String>::new());
            let both = Rules {
                last: rules.last.max(more.last), hourly: rules.hourly.max(more.hourly), daily: rules.daily.max(more.daily),
                weekly: rules.weekly.max(more.weekly), monthly: rules.monthly.max(more.monthly), yearly: rules.yearly.max(more.yearly),
                within: rules.within,
            };
            let gone_by_both = expired(&both, &berlin(), &backups);
            prop_assert!(gone_by_both.iter().all(|name| gone.contains(name)));
        }

        /// Besides what is always kept, exactly the backups that one rule or another names are
        /// kept.
        #[test]
        fn what_the_rules_keep_together_is_what_each_keeps_by_itself(rules in any_rules(), backups in any_backups()) {
            let kept = |rules: &Rules| kept(rules, &backups).into_iter().collect::<BTreeSet<_>>();
            let none = Rules::default();
            let Rules { last, hourly, daily, weekly, monthly, yearly, within } = rules.clone();
            let each = [
                Rules { last, ..none.clone() },
                Rules { hourly, ..none.clone() },
                Rules { daily, ..none.clone() },
                Rules { weekly, ..none.clone() },
                Rules { monthly, ..none.clone() },
                Rules { yearly, ..none.clone() },
                Rules { within, ..none.clone() },
            ];
            let united: BTreeSet<String> = each.iter().flat_map(kept).collect();
            prop_assert_eq!(kept(&rules), united);
        }
    }
}
