//! The results as a picture: each figure as a share of what its target allows. Shorter is better, and beyond the line is a miss.
//! Plain SVG that reads on light and dark.

use std::fmt::Write as _;

use serde_json::Value;

use super::document::{Figure, figures};

const WIDTH: f64 = 900.0;
/// Where the bars begin, and where the target's line is.
const LEFT: f64 = 470.0;
const LINE: f64 = 690.0;
const BAR: f64 = 14.0;
const STEP: f64 = 22.0;
/// Bars end here at the latest, with an arrow.
const MOST: f64 = 1.7;

const STYLE: &str = "<style>
text { font: 12px system-ui, sans-serif; fill: #1f2328 }
.title { font-weight: 600 } .value { fill: #59636e } .line { stroke: #1f2328 }
.met { fill: #2f81b7 } .missed { fill: #d1622b }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .value { fill: #9198a1 } .line { stroke: #e6edf3 }
  .met { fill: #4fa3d9 } .missed { fill: #f0883e }
}
</style>";

/// The whole picture.
pub(crate) fn svg(rows: &[(String, Value)]) -> String {
    let mut body = String::new();
    let mut y = 46.0;
    for (_, report) in rows {
        let judged: Vec<Figure<'_>> = figures(report).into_iter().filter(|figure| figure.target.is_some()).collect();
        if judged.is_empty() {
            continue;
        }
        let title = escape(report["title"].as_str().unwrap_or_default());
        let _ = writeln!(body, "<text class=\"title\" x=\"12\" y=\"{:.0}\">{title}</text>", y + 12.0);
        y += STEP;
        for figure in judged {
            bar(&mut body, &figure, y);
            y += STEP;
        }
        y += 8.0;
    }
    let height = y + 10.0;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH:.0} {height:.0}\" role=\"img\" aria-label=\"Each figure as a share of its target\">\n{STYLE}\n\
         <text class=\"value\" x=\"12\" y=\"20\">Each bar is a share of what the target allows: shorter is better, beyond the line is a miss</text>\n\
         <text x=\"{LINE:.0}\" y=\"36\" text-anchor=\"middle\">target</text>\n{body}\
         <line class=\"line\" x1=\"{LINE:.0}\" y1=\"42\" x2=\"{LINE:.0}\" y2=\"{:.0}\" stroke-dasharray=\"4 3\"/>\n</svg>\n",
        height - 8.0
    )
}

fn bar(body: &mut String, figure: &Figure<'_>, y: f64) {
    let share = share(figure);
    let width = (LINE - LEFT) * share.min(MOST);
    let class = if figure.is_met() == Some(true) { "met" } else { "missed" };
    let name = escape(figure.name);
    let _ = writeln!(body, "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\">{name}</text>", LEFT - 8.0, y + 11.0);
    let _ = writeln!(
        body,
        "<rect class=\"{class}\" x=\"{LEFT:.0}\" y=\"{y:.0}\" width=\"{:.1}\" height=\"{BAR:.0}\" rx=\"2\"/>",
        width.max(2.0)
    );
    let beyond = if share > MOST { "… " } else { "" };
    let _ = writeln!(
        body,
        "<text class=\"value\" x=\"{:.0}\" y=\"{:.0}\">{beyond}{} ({})</text>",
        // Not across the line.
        if (LEFT + width) < LINE { LINE + 8.0 } else { LEFT + width + 6.0 },
        y + 11.0,
        escape(&figure.text()),
        escape(&figure.bound())
    );
}

/// How much of what the target allows is used; 1 at the target, for lower bounds turned round.
fn share(figure: &Figure<'_>) -> f64 {
    match figure.target {
        Some((true, bound)) => bound / figure.value.max(f64::EPSILON),
        // Nothing is allowed, and there is nothing, or something.
        Some((false, 0.0)) if figure.value > 0.0 => f64::INFINITY,
        Some((false, 0.0)) | None => 0.0,
        Some((false, bound)) => (figure.value / bound).max(0.0),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_miss_is_drawn_beyond_the_line_and_in_its_own_colour() {
        let report = json!({ "title": "A & B", "figures": [
            { "name": "over", "value": 128.0, "unit": "MiB", "target": { "at_most": 64.0 } },
            { "name": "none", "value": 0.0, "unit": "", "target": { "at_most": 0.0 } },
        ]});
        let picture = svg(&[("row".to_owned(), report)]);
        assert!(picture.contains("A &amp; B"));
        assert!(
            picture.contains(&format!("class=\"missed\" x=\"470\" y=\"68\" width=\"{:.1}\"", 220.0 * MOST)),
            "{picture}"
        );
        assert!(picture.contains("class=\"met\" x=\"470\" y=\"90\" width=\"2.0\""), "{picture}");
    }
}
