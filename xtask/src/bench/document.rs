//! docs/benchmarks.md, from the results.

use std::fmt::Write as _;

use serde_json::Value;

/// A figure of a row, against its target if it has one.
pub(crate) struct Figure<'a> {
    pub(crate) name: &'a str,
    pub(crate) value: f64,
    unit: &'a str,
    /// Whether it is a lower bound, and the bound.
    pub(crate) target: Option<(bool, f64)>,
}

impl<'a> Figure<'a> {
    fn read(figure: &'a Value) -> Option<Self> {
        let target = &figure["target"];
        let at_least = target["at_least"].as_f64().map(|bound| (true, bound));
        Some(Self {
            name: figure["name"].as_str()?,
            value: figure["value"].as_f64()?,
            unit: figure["unit"].as_str()?,
            target: at_least.or_else(|| target["at_most"].as_f64().map(|bound| (false, bound))),
        })
    }

    /// Whether it is as it must be; none without a target.
    pub(crate) fn is_met(&self) -> Option<bool> {
        self.target.map(|(at_least, bound)| if at_least { self.value >= bound } else { self.value <= bound })
    }

    pub(crate) fn text(&self) -> String {
        with_unit(self.value, self.unit)
    }

    pub(crate) fn bound(&self) -> String {
        match self.target {
            Some((true, bound)) => format!("≥ {}", with_unit(bound, self.unit)),
            Some((false, bound)) => format!("≤ {}", with_unit(bound, self.unit)),
            None => String::new(),
        }
    }
}

/// A row's figures.
pub(crate) fn figures(report: &Value) -> Vec<Figure<'_>> {
    report["figures"].as_array().into_iter().flatten().filter_map(Figure::read).collect()
}

/// A row for the terminal.
pub(crate) fn plain(report: &Value) -> String {
    let lines = figures(report).into_iter().map(|figure| {
        let verdict = match figure.is_met() {
            Some(true) => format!("  ({}: met)", figure.bound()),
            Some(false) => format!("  ({}: MISSED)", figure.bound()),
            None => String::new(),
        };
        format!("   {:<60} {:>12}{verdict}", figure.name, figure.text())
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The whole document.
pub(crate) fn markdown(rows: &[(String, Value)], unmeasured: &[String]) -> String {
    let mut text = String::from(HEAD);
    let all: Vec<Figure<'_>> = rows.iter().flat_map(|(_, report)| figures(report)).collect();
    let missed: Vec<&Figure<'_>> = all.iter().filter(|figure| figure.is_met() == Some(false)).collect();
    let judged = all.iter().filter(|figure| figure.is_met().is_some()).count();
    let _ = writeln!(text, "{} of {judged} targets are met.\n", judged - missed.len());
    text.push_str(
        "![Each figure as a share of its target](benchmarks.svg)\n\n| | measured | target | |\n|---|---|---|---|\n",
    );
    for (_, report) in rows {
        let figures = figures(report);
        let judged: Vec<_> = figures.iter().filter(|figure| figure.target.is_some()).collect();
        if !judged.is_empty() {
            let _ = writeln!(text, "| **{}** | | | |", string(&report["title"]));
        }
        for figure in judged {
            let verdict = if figure.is_met() == Some(true) { "met" } else { "**missed**" };
            let _ = writeln!(text, "| {} | {} | {} | {verdict} |", figure.name, figure.text(), figure.bound());
        }
    }
    if !unmeasured.is_empty() {
        let _ = writeln!(
            text,
            "\n**Not measured yet: {}.** `cargo xtask bench` measures and adds them.",
            unmeasured.join(", ")
        );
    }
    if !missed.is_empty() {
        text.push_str("\n## What misses its target\n\n");
        for figure in missed {
            let _ = writeln!(text, "- {}: {} instead of {}", figure.name, figure.text(), figure.bound());
        }
    }
    text.push_str("\n## Row by row\n");
    for (name, report) in rows {
        row(&mut text, name, report);
    }
    text.push_str(TAIL);
    text
}

fn row(text: &mut String, name: &str, report: &Value) {
    let measured = &report["measured"];
    let _ = writeln!(text, "\n### {}\n\n{}\n", string(&report["title"]), string(&report["how"]));
    let others: Vec<String> = figures(report)
        .iter()
        .filter(|figure| figure.target.is_none())
        .map(|figure| format!("{}: {}", figure.name, figure.text()))
        .collect();
    if others.len() > FEW {
        let _ = writeln!(text, "- {}\n", others.join("\n- "));
    } else if !others.is_empty() {
        let _ = writeln!(text, "{}.\n", others.join("; "));
    }
    let samples: Vec<&Value> = report["samples"].as_array().into_iter().flatten().collect();
    if !samples.is_empty() {
        text.push_str("| | median | least | most | values |\n|---|---|---|---|---|\n");
    }
    for sample in samples {
        let unit = string(&sample["unit"]);
        let values: Vec<f64> = sample["values"].as_array().into_iter().flatten().filter_map(Value::as_f64).collect();
        let mut sorted = values.clone();
        sorted.sort_by(f64::total_cmp);
        let (Some(least), Some(most)) = (sorted.first(), sorted.last()) else { continue };
        let list: Vec<String> = values.iter().map(|value| number(*value)).collect();
        let list = if list.len() > 10 { format!("{} of them", list.len()) } else { list.join(", ") };
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {list} |",
            string(&sample["side"]),
            with_unit(sorted[(sorted.len() - 1) / 2], &unit),
            number(*least),
            number(*most),
        );
    }
    let _ = writeln!(
        text,
        "\n`cargo xtask bench {name} --repetitions {}`, {}, commit {}, {} build, load average before {}. {}.",
        measured["repetitions"],
        string(&measured["on"]),
        string(&measured["commit"]),
        string(&measured["build"]),
        string(&measured["load_before"]),
        string(&measured["machine"]),
    );
}

fn string(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn with_unit(value: f64, unit: &str) -> String {
    match unit {
        "" => number(value),
        "%" | "×" | "/s" => format!("{}{}{unit}", number(value), if unit == "×" { " " } else { "" }),
        _ => format!("{} {unit}", number(value)),
    }
}

/// Three significant digits, more for large numbers, none after the point where there is nothing.
fn number(value: f64) -> String {
    let text = match value.abs() {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    };
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// So many figures without a target are a sentence; more are a list.
const FEW: usize = 8;

const HEAD: &str = "# Benchmarks

<!-- Written by `cargo xtask bench` from benchmarks.json: not edited by hand. -->

What an operation costs beside the bare operation on the same API server. Both sides run on the same machine in turns (A B A B …), as often as each row says; etcd
syncs every write to disk; requests are counted from the API server's audit log and memory is the kernel's figure, never the operator's own word.
A ratio is the median of the ratios of neighbouring repetitions.

";

const TAIL: &str = "
## Do it yourself

```sh
cargo xtask bench                  # everything: a cluster of its own, about an hour and a half, 6 GiB of free memory
cargo xtask bench capture idle     # these rows; the others keep their results
cargo xtask bench --quick          # a few minutes, to see that it works; the figures mean nothing
cargo xtask bench --release        # the binary as it is shipped, whose build takes minutes
```

The cluster is removed at the end, also after Ctrl-C. `--keep` leaves it. What drives and measures is in `benches/measure`, one file a row.

### Beside Velero

```sh
cargo xtask bench velero --release
```

builds Velero, its plugin for S3 and an S3 server (versitygw) from source, starts them as processes beside a cluster of its own, and measures the same objects through both:
backups, restores, what they store, and memory. It is never among all rows. What it found stands above once somebody has measured it; without that there are no figures of Velero here.
";

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn report() -> Value {
        json!({ "title": "Speed", "how": "By hand.", "samples": [{ "side": "ours", "unit": "ms", "values": [3.0, 1.0, 2.0] }], "figures": [
            { "name": "fast", "value": 90.0, "unit": "%", "target": { "at_least": 85.0 } },
            { "name": "small", "value": 70.25, "unit": "MiB", "target": { "at_most": 64.0 } },
            { "name": "told", "value": 3.0, "unit": "", "target": null },
        ]})
    }

    #[test]
    fn what_misses_its_target_is_said_plainly() {
        let text = markdown(&[("speed".to_owned(), report())], &["idle".to_owned()]);
        assert!(text.contains("Not measured yet: idle."), "{text}");
        assert!(text.contains("1 of 2 targets are met."), "{text}");
        assert!(text.contains("- small: 70.2 MiB instead of ≤ 64 MiB"), "{text}");
        assert!(text.contains("| fast | 90% | ≥ 85% | met |"), "{text}");
        assert!(text.contains("| ours | 2 ms | 1 | 3 | 3, 1, 2 |"), "{text}");
        assert!(plain(&report()).contains("MISSED"));
    }
}
