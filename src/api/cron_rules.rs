//! Rules of CEL about cron expressions, for every field that holds one: what cannot be right is refused when it is written. What is left
//! over (a range that runs backwards) the controller tells, with its position ([`crate::schedule::cron`]).

/// One field of an expression as a regular expression: a list of values, ranges and steps. Only that a range runs forwards is left to the
/// controller. No backslashes: it stands in a string of CEL.
macro_rules! cron_list {
    ($value:expr, $step:expr) => {
        concat!($crate::api::cron_rules::cron_list!(@one $value, $step), "(,", $crate::api::cron_rules::cron_list!(@one $value, $step), ")*")
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
            $crate::api::cron_rules::cron_list!("0*[1-5]?[0-9]", "0*([1-9]|[1-5][0-9])"),
            "[[:space:]]+",
            $crate::api::cron_rules::cron_list!("0*(1?[0-9]|2[0-3])", "0*([1-9]|1[0-9]|2[0-3])"),
            "[[:space:]]+",
            $crate::api::cron_rules::cron_list!("0*([1-9]|[12][0-9]|3[01])", "0*([1-9]|[12][0-9]|3[01])"),
            "[[:space:]]+",
            $crate::api::cron_rules::cron_list!(
                "(0*([1-9]|1[0-2])|(?i:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec))",
                "0*([1-9]|1[0-2])"
            ),
            "[[:space:]]+",
            $crate::api::cron_rules::cron_list!("(0*[0-7]|(?i:sun|mon|tue|wed|thu|fri|sat))", "0*[1-7]"),
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

pub(in crate::api) use {cron_list, cron_rule, day_rule};

#[cfg(test)]
mod tests {
    use crate::schedule::Expression;
    use proptest::prelude::*;

    /// What the API server makes of an expression: RE2 and this crate read these patterns alike.
    fn is_admitted(expression: &str) -> bool {
        let matches = |rule: &str| {
            let pattern = rule.split_once(".matches('").and_then(|(_, rest)| rest.strip_suffix("')"));
            regex::Regex::new(pattern.expect("a pattern")).expect("it reads").is_match(expression)
        };
        matches(cron_rule!("self.schedule")) && !matches(day_rule!("self.schedule"))
    }

    #[test]
    fn the_api_server_takes_what_can_be_read_and_refuses_what_is_out_of_range() {
        // A block of YAML ends with a line end, and CronJobs take tabs.
        for good in [
            "* * * * *",
            "*\t*\t* * *",
            "15 2 * * *\n",
            "\t@daily\n",
            " 5/15 0-6,22 ? JAN-MAR mon ",
            "0 0 29 2 *",
            "00 07 * * 7",
            "0 0 30 2,3 *",
            "@daily",
        ] {
            assert!(is_admitted(good) && Expression::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "60 * * * *",
            "0 24 * * *",
            "0 0 0 * *",
            "0 0 * 13 *",
            "0 0 * * 8",
            "*/0 * * * *",
            "0 0 30 2 *",
            "0\t0\t30\t2\t*\n",
            "0 0 31 apr ?",
            "0 0 * XXX *",
            "0 0 *",
        ] {
            assert!(!is_admitted(bad) && Expression::parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        /// So that nobody is refused for what would run; and of what does not read, what is left over is no more than ranges that run
        /// backwards and days that no month of several has.
        #[test]
        fn what_reads_is_admitted(fields in proptest::collection::vec("([*?]|[0-9]{1,2}(-[0-9]{1,2})?)(/[0-9]{1,2})?(,[0-9]{1,2})?", 5)) {
            let expression = fields.join(" ");
            match Expression::parse(&expression) {
                Ok(_) => prop_assert!(is_admitted(&expression), "{}", expression),
                Err(mistake) => {
                    let seen_later = ["backwards", "never comes"].iter().any(|words| mistake.message.contains(words));
                    prop_assert!(seen_later || !is_admitted(&expression), "{}: {}", expression, mistake);
                }
            }
        }
    }
}
