//! Durations for people. Pure.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use jiff::SignedDuration;

/// Formats a duration, such as `850ms`, `12s`, `3m5s`, `2h10m`, `4d3h`. The result is never
/// negative, although clocks step.
#[must_use]
pub fn human(duration: SignedDuration) -> String {
    let milliseconds = duration.as_millis().max(0);
    let seconds = milliseconds / 1000;
    let pair = |big: i128, big_unit: &str, small: i128, small_unit: &str| {
        if small == 0 { format!("{big}{big_unit}") } else { format!("{big}{big_unit}{small}{small_unit}") }
    };
    match seconds {
        0 => format!("{milliseconds}ms"),
        1..60 => format!("{seconds}s"),
        60..3600 => pair(seconds / 60, "m", seconds % 60, "s"),
        3600..86_400 => pair(seconds / 3600, "h", seconds % 3600 / 60, "m"),
        _ => pair(seconds / 86_400, "d", seconds % 86_400 / 3600, "h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_reads_at_a_glance_and_is_never_negative() {
        let read = |milliseconds| human(SignedDuration::from_millis(milliseconds));
        assert_eq!(
            [read(-5), read(850), read(12_000), read(185_000), read(7_800_000), read(356_400_000)],
            ["0ms", "850ms", "12s", "3m5s", "2h10m", "4d3h"]
        );
    }
}
