//! Cron expressions with five fields, as Kubernetes' CronJob accepts them, and their match against
//! a wall clock.
//!
//! The fields are `minute hour day-of-month month day-of-week`, with lists `1,15`, ranges `1-5`,
//! steps `*/10`, `5/15`, `1-30/5`, and names `JAN`, `MON`. 7 is Sunday too. The aliases are
//! `@yearly`, `@annually`, `@monthly`, `@weekly`, `@daily`, `@midnight`, `@hourly`. If both days
//! are restricted, a date matches if either of them does, as in every cron. This module knows
//! nothing about time zones.

use jiff::civil::{Date, DateTime};

/// Longest wait of any expression that can match at all: from one February 29 to the next, across a
/// year such as 2100.
const LONGEST_WAIT_DAYS: usize = 8 * 366 + 1;

/// What is wrong with an expression, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("position {position}: {message}")]
pub struct Mistake {
    /// The character where the mistake begins, counted from 1.
    pub position: usize,
    /// What is wrong and what would be right.
    pub message: String,
}

/// A parsed expression: a bit set for each field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expression {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    any_day: bool,
    any_weekday: bool,
}

struct Field {
    name: &'static str,
    low: u8,
    high: u8,
    names: &'static [&'static str],
}

const MONTHS: [&str; 12] = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];
const FIELDS: [Field; 5] = [
    Field { name: "minute", low: 0, high: 59, names: &[] },
    Field { name: "hour", low: 0, high: 23, names: &[] },
    Field { name: "day of month", low: 1, high: 31, names: &[] },
    Field { name: "month", low: 1, high: 12, names: &MONTHS },
    Field { name: "day of week", low: 0, high: 7, names: &WEEKDAYS },
];

const ALIASES: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

impl Expression {
    /// Parses an expression.
    pub fn parse(text: &str) -> Result<Self, Mistake> {
        let trimmed = text.trim();
        if trimmed.starts_with('@') {
            let known = ALIASES.iter().find(|(alias, _)| *alias == trimmed);
            let (_, meaning) = known.ok_or_else(|| Mistake {
                position: position(text, trimmed),
                message: format!("{trimmed} is no alias: {} are", ALIASES.map(|(alias, _)| alias).join(", ")),
            })?;
            return Self::parse(meaning);
        }
        let words: Vec<&str> = text.split_whitespace().collect();
        if words.len() != FIELDS.len() {
            let at = words.get(FIELDS.len()).map_or(text.chars().count() + 1, |word| position(text, word));
            let hint = if trimmed.contains("TZ=") { "; the time zone goes into spec.timeZone" } else { "" };
            return Err(Mistake {
                position: at,
                message: format!(
                    "an expression has 5 fields (minute, hour, day of month, month, day of week), not {}{hint}",
                    words.len()
                ),
            });
        }
        let mut sets = [(0_u64, false); 5];
        for ((set, field), word) in sets.iter_mut().zip(&FIELDS).zip(&words) {
            *set = field.parse(text, word)?;
        }
        let [(minutes, _), (hours, _), (days, any_day), (months, _), (weekdays, any_weekday)] = sets;
        // 7 is Sunday, as 0 is.
        let weekdays = (weekdays | weekdays >> 7) & 0x7f;
        let expression = Self { minutes, hours, days, months, weekdays, any_day, any_weekday };
        if any_weekday && !expression.has_a_date() {
            let at = words.get(2).map_or(1, |word| position(text, word));
            return Err(Mistake {
                position: at,
                message: "no month named here has that day: it never comes".to_owned(),
            });
        }
        Ok(expression)
    }

    /// Whether the expression runs in every hour of a matching day, and so follows elapsed time
    /// rather than the clock.
    #[must_use]
    pub fn is_hourly(&self) -> bool {
        self.hours == (1 << 24) - 1
    }

    fn has_a_date(&self) -> bool {
        const LENGTHS: [u8; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        (1_u8..)
            .zip(LENGTHS)
            .any(|(month, length)| has(self.months, month) && (1..=length).any(|day| has(self.days, day)))
    }

    fn suits(&self, date: Date) -> bool {
        let bit = |number: i8| u8::try_from(number).unwrap_or_default();
        if !has(self.months, bit(date.month())) {
            return false;
        }
        let day = has(self.days, bit(date.day()));
        let weekday = has(self.weekdays, bit(date.weekday().to_sunday_zero_offset()));
        if self.any_day || self.any_weekday { day && weekday } else { day || weekday }
    }

    /// Whether the clock shows a minute that matches.
    #[must_use]
    pub fn matches(&self, time: DateTime) -> bool {
        let minute = Minute::at_or_after(time);
        minute.of_day < 1440 && self.suits(minute.date) && self.has_minute(minute.of_day)
    }

    fn has_minute(&self, of_day: u16) -> bool {
        let part = |number: u16| u8::try_from(number).unwrap_or_default();
        has(self.hours, part(of_day / 60)) && has(self.minutes, part(of_day % 60))
    }

    /// The first match in `[from, to)`.
    #[must_use]
    pub fn first(&self, from: DateTime, to: DateTime) -> Option<DateTime> {
        let (from, to) = (Minute::at_or_after(from), Minute::at_or_after(to));
        let mut date = from.date;
        for _ in 0..LONGEST_WAIT_DAYS {
            if date > to.date {
                return None;
            }
            if self.suits(date) {
                let (low, high) = bounds(date, from, to);
                if let Some(found) = (low..high).find(|of_day| self.has_minute(*of_day)) {
                    return moment(date, found);
                }
            }
            date = date.tomorrow().ok()?;
        }
        None
    }

    /// The last match in `[from, to)`.
    #[must_use]
    pub fn last(&self, from: DateTime, to: DateTime) -> Option<DateTime> {
        let (from, to) = (Minute::at_or_after(from), Minute::at_or_after(to));
        let mut date = to.date;
        for _ in 0..LONGEST_WAIT_DAYS {
            if date < from.date {
                return None;
            }
            if self.suits(date) {
                let (low, high) = bounds(date, from, to);
                if let Some(found) = (low..high).rev().find(|of_day| self.has_minute(*of_day)) {
                    return moment(date, found);
                }
            }
            date = date.yesterday().ok()?;
        }
        None
    }

    /// The number of matches in `[from, to)`. Iterates over days, not over matches.
    #[must_use]
    pub fn count(&self, from: DateTime, to: DateTime) -> u64 {
        let (from, to) = (Minute::at_or_after(from), Minute::at_or_after(to));
        let a_day = u64::from(self.minutes.count_ones()) * u64::from(self.hours.count_ones());
        let mut counted = 0;
        let mut date = from.date;
        while date <= to.date {
            if self.suits(date) {
                counted += match bounds(date, from, to) {
                    (0, 1440) => a_day,
                    (low, high) => (low..high).map(|of_day| u64::from(self.has_minute(of_day))).sum(),
                };
            }
            let Ok(next) = date.tomorrow() else { break };
            date = next;
        }
        counted
    }
}

/// A minute of a day. 1440 is the end of that day.
#[derive(Clone, Copy)]
struct Minute {
    date: Date,
    of_day: u16,
}

impl Minute {
    /// The first whole minute at or after a time.
    fn at_or_after(time: DateTime) -> Self {
        let begun = u16::from(time.second() > 0 || time.subsec_nanosecond() > 0);
        let part = |number: i8| u16::try_from(number).unwrap_or_default();
        Self { date: time.date(), of_day: part(time.hour()) * 60 + part(time.minute()) + begun }
    }
}

/// The minutes of a day that lie between two minutes.
fn bounds(date: Date, from: Minute, to: Minute) -> (u16, u16) {
    let low = if date == from.date { from.of_day } else { 0 };
    let high = if date == to.date { to.of_day } else { 1440 };
    (low, high)
}

fn moment(date: Date, of_day: u16) -> Option<DateTime> {
    let part = |number: u16| i8::try_from(number).unwrap_or_default();
    jiff::civil::Time::new(part(of_day / 60), part(of_day % 60), 0, 0).ok().map(|time| date.to_datetime(time))
}

fn has(set: u64, bit: u8) -> bool {
    set >> bit & 1 == 1
}

/// Where a part of a text begins, in characters counted from 1.
fn position(text: &str, part: &str) -> usize {
    let offset = part.as_ptr() as usize - text.as_ptr() as usize;
    text.get(..offset).map_or(1, |before| before.chars().count() + 1)
}

impl Field {
    /// Parses a field into its bit set, and whether it is no restriction at all.
    fn parse(&self, text: &str, word: &str) -> Result<(u64, bool), Mistake> {
        let mut set = 0;
        let mut any = false;
        for part in word.split(',') {
            let (range, step) = match part.split_once('/') {
                None => (part, None),
                Some((range, step)) => (range, Some(self.step(text, step)?)),
            };
            let (low, high) = if matches!(range, "*" | "?") {
                any |= step.is_none_or(|step| step == 1);
                (self.low, self.high)
            } else if let Some((low, high)) = range.split_once('-') {
                (self.value(text, low)?, self.value(text, high)?)
            } else {
                let value = self.value(text, range)?;
                // `5/15` begins at 5 and continues to the end.
                (value, if step.is_some() { self.high } else { value })
            };
            if low > high {
                return Err(self.wrong(text, range, &format!("the range {range} runs backwards")));
            }
            for value in (low..=high).step_by(usize::from(step.unwrap_or(1))) {
                set |= 1 << value;
            }
        }
        Ok((set, any))
    }

    fn step(&self, text: &str, word: &str) -> Result<u8, Mistake> {
        let number = word.parse().ok().filter(|step| (1..=self.high).contains(step));
        number.ok_or_else(|| {
            self.wrong(
                text,
                word,
                &format!("the step {word:?} of the {} is not a number from 1 to {}", self.name, self.high),
            )
        })
    }

    fn value(&self, text: &str, word: &str) -> Result<u8, Mistake> {
        let named = self.names.iter().position(|name| name.eq_ignore_ascii_case(word));
        let value = match named {
            Some(index) => u8::try_from(index).ok().map(|index| index + self.low),
            None if !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit()) => word.parse().ok(),
            None => None,
        };
        value.filter(|value| (self.low..=self.high).contains(value)).ok_or_else(|| {
            let names = match (self.names.first(), self.names.last()) {
                (Some(first), Some(last)) => format!(" or {first} to {last}"),
                _ => String::new(),
            };
            self.wrong(
                text,
                word,
                &format!("the {} {word:?} is not a number from {} to {}{names}", self.name, self.low, self.high),
            )
        })
    }

    #[allow(clippy::unused_self, reason = "reads as the field's own word")]
    fn wrong(&self, text: &str, word: &str, message: &str) -> Mistake {
        Mistake { position: position(text, word), message: message.to_owned() }
    }
}
