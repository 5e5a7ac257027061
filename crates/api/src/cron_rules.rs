//! Rules of CEL about cron expressions, for every field that holds one: what cannot be right is refused when it is written. What is left
//! over (a range that runs backwards) the controller tells, with its position.

/// One field of an expression as a regular expression: a list of values, ranges and steps. Only that a range runs forwards is left to the
/// controller. No backslashes: it stands in a string of CEL.
macro_rules! cron_list {
    ($value:expr, $step:expr) => {
        concat!($crate::cron_rules::cron_list!(@one $value, $step), "(,", $crate::cron_rules::cron_list!(@one $value, $step), ")*")
    };
    (@one $value:expr, $step:expr) => {
        concat!("([*?]|", $value, "(-", $value, ")?)(/", $step, ")?")
    };
}

/// That what stands here is five fields of cron that could be read, or an alias that there is.
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

/// That no day is named alone that the one month that is named has not.
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
