//! Runs as they go: on a terminal one table that is drawn anew, elsewhere a line for each change.

use serde_json::Value;

use super::Started;
use super::screen::Screen;

/// The columns of `kubectl get operationruns`, and from which width on each is shown.
const COLUMNS: [(&str, usize); 7] =
    [("NAMESPACE", 0), ("NAME", 0), ("TYPE", 0), ("STATUS", 0), ("OUTCOME", 0), ("PROGRESS", 0), ("INITIATOR", 100)];

type Row = [String; COLUMNS.len()];

/// Follows runs from one listing to the next.
pub(super) struct Follow<'a> {
    screen: &'a Screen,
    started: &'a [Started],
    rows: Vec<Row>,
    drawn: usize,
    failed: Vec<String>,
}

impl<'a> Follow<'a> {
    pub(super) fn new(screen: &'a Screen, started: &'a [Started]) -> Self {
        Self { screen, started, rows: Vec::new(), drawn: 0, failed: Vec::new() }
    }

    /// Takes a listing, shows what changed, and returns whether all runs are at their end.
    pub(super) fn update(&mut self, listed: &Value) -> bool {
        let runs: Vec<&Value> = self.started.iter().filter_map(|started| find(listed, started)).collect();
        let rows: Vec<Row> = runs.iter().map(|run| row(run)).collect();
        if rows != self.rows {
            if self.screen.is_terminal {
                self.redraw(&rows);
            } else {
                self.append(&rows);
            }
            self.rows = rows;
        }
        self.failed = runs.iter().filter(|run| run["status"]["outcome"] != "succeeded").map(|run| why(run)).collect();
        runs.len() == self.started.len() && runs.iter().all(|run| run["status"]["phase"] == "completed")
    }

    /// The runs that did not succeed, each with why.
    pub(super) fn not_succeeded(self) -> Vec<String> {
        self.failed
    }

    fn redraw(&mut self, rows: &[Row]) {
        if self.drawn > 0 {
            anstream::print!("\x1b[{}A", self.drawn);
        }
        let lines = lines(rows, self.screen);
        for line in &lines {
            anstream::println!("\x1b[2K{line}");
        }
        self.drawn = lines.len();
    }

    /// The header once, then each row whenever it changes, as `kubectl get --watch` does.
    fn append(&mut self, rows: &[Row]) {
        let lines = lines(rows, self.screen);
        if self.rows.is_empty() {
            anstream::println!("{}", lines[0]);
        }
        for (row, line) in rows.iter().zip(&lines[1..]) {
            if !self.rows.contains(row) {
                anstream::println!("{line}");
            }
        }
    }
}

fn find<'v>(listed: &'v Value, started: &Started) -> Option<&'v Value> {
    listed["items"].as_array()?.iter().find(|run| {
        run["metadata"]["namespace"] == started.namespace.as_str() && run["metadata"]["name"] == started.name.as_str()
    })
}

fn row(run: &Value) -> Row {
    let (metadata, spec, status) = (&run["metadata"], &run["spec"], &run["status"]);
    [
        &metadata["namespace"],
        &metadata["name"],
        &spec["type"],
        &status["phase"],
        &status["outcome"],
        &status["progress"],
        &spec["initiator"]["username"],
    ]
    .map(|value| value.as_str().unwrap_or_default().to_owned())
}

fn why(run: &Value) -> String {
    let status = &run["status"];
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    format!(
        "  {}/{}: {}, {}: {}",
        text(&run["metadata"]["namespace"]),
        text(&run["metadata"]["name"]),
        text(&status["outcome"]),
        text(&status["reason"]),
        text(&status["message"])
    )
}

/// The table with its header, as wide as its content and no wider than the screen.
fn lines(rows: &[Row], screen: &Screen) -> Vec<String> {
    let header = COLUMNS.map(|(name, _)| name.to_owned());
    let widths: Vec<usize> = (0..COLUMNS.len())
        .map(|column| {
            let cells = rows.iter().map(|row| row[column].chars().count());
            // What a column holds later must not move the others: phases and outcomes have their longest from the start.
            let least = match COLUMNS[column].0 {
                "STATUS" | "OUTCOME" => "completed".len(),
                name => name.len(),
            };
            cells.max().unwrap_or(0).max(least)
        })
        .collect();
    let shown: Vec<usize> = (0..COLUMNS.len()).filter(|column| screen.width >= COLUMNS[*column].1).collect();
    let line = |row: &Row| {
        let cells: Vec<String> = shown.iter().map(|column| format!("{:<1$}", row[*column], widths[*column])).collect();
        screen.cut(&cells.join("  "))
    };
    std::iter::once(&header).chain(rows).map(line).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use serde_json::json;

    fn listed(phase: &str, outcome: &str) -> Value {
        json!({ "items": [{
            "metadata": { "namespace": "demo-acme", "name": "before-deploy-x7k2p" },
            "spec": { "type": "backup.capture", "initiator": { "username": "ada" } },
            "status": { "phase": phase, "outcome": outcome, "progress": "96/214" },
        }] })
    }

    #[test]
    fn a_table_fits_80_columns_and_shows_the_initiator_where_there_is_room() {
        let rows = [row(&listed("completed", "succeeded")["items"][0])];
        let narrow = lines(&rows, &Screen::in_a_file(80));
        assert!(narrow.iter().all(|line| line.chars().count() <= 80 && !line.contains('…')), "{narrow:#?}");
        assert!(narrow[1].contains("96/214") && !narrow[1].contains("ada"), "{narrow:#?}");
        let wide = lines(&rows, &Screen::in_a_file(160));
        assert!(wide[1].ends_with("ada"), "{wide:#?}");
    }

    #[test]
    fn following_ends_when_all_are_completed_and_tells_which_did_not_succeed() {
        let screen = Screen::in_a_file(80);
        let started = [Started { namespace: "demo-acme".into(), name: "before-deploy-x7k2p".into() }];
        let mut follow = Follow::new(&screen, &started);
        assert!(!follow.update(&json!({ "items": [] })), "not listed yet");
        assert!(!follow.update(&listed("running", "pending")));
        assert!(follow.update(&listed("completed", "failed")));
        assert_eq!(follow.not_succeeded().len(), 1);
    }
}
