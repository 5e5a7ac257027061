//! CEL rules for cron expressions, for every field that holds one. The API server rejects an
//! expression that cannot be valid. The controller reports what is left (such as a range that runs
//! backwards), with the position of the mistake.

/// Regular expression for one field: a list of values, ranges and steps. Whether a range runs
/// forwards is left to the controller. The pattern has no backslashes, because it is embedded in a
/// CEL string.
macro_rules! cron_list {
    ($value:expr, $step:expr) => {
        concat!($crate::cron_rules::cron_list!(@one $value, $step), "(,", $crate::cron_rules::cron_list!(@one $value, $step), ")*")
    };
    (@one $value:expr, $step:expr) => {
        concat!("([*?]|", $value, "(-", $value, ")?)(/", $step, ")?")
    };
}

/// Requires five well-formed cron fields, or a known alias.
macro_rules! cron_rule {
    ($expression:expr) => {
        concat!(
            $expression,
            ".matches('^[[:space:]]*(@(yearly|annually|monthly|weekly|daily|midnight|hourly)|",
            $crate::cron_rules::cron_list!("0*[1-5]?[0-9]", "0*([1-9]|[1-5][0-9])"),
            "[[:space:]]+",
            $crate::cron_rules::cron_list!("0*(1?[0-9]|2[0-3])", "0*([1-9]|1[0-9]|2[0-3])"),
            "[[:space:]]+",
            $crate::cron_rules::cron_list!("0*([1-9]|[12][0-9]|3[01])", "0*([1-9]|[12][0-9]|3[01])"),
            "[[:space:]]+",
            $crate::cron_rules::cron_list!(
                "(0*([1-9]|1[0-2])|(?i:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec))",
                "0*([1-9]|1[0-2])"
            ),
            "[[:space:]]+",
            $crate::cron_rules::cron_list!("(0*[0-7]|(?i:sun|mon|tue|wed|thu|fri|sat))", "0*[1-7]"),
            ")[[:space:]]*$')"
        )
    };
}

/// Rejects an expression whose only day of the month does not exist in its only month.
macro_rules! day_rule {
    ($expression:expr) => {
        concat!(
            "!",
            $expression,
            ".matches('^[[:space:]]*[^[:space:]]+[[:space:]]+[^[:space:]]+[[:space:]]+(0*3[01][[:space:]]+(0*2|(?i:feb))|0*31[[:space:]]+(0*([469]|11)|(?i:apr|jun|sep|nov)))[[:space:]]+[*?][[:space:]]*$')"
        )
    };
}

pub(crate) use {cron_list, cron_rule, day_rule};
