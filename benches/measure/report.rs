//! What a row found: figures against their targets, and the samples they come from.

use serde::Serialize;

/// A row of the table.
#[derive(Debug, Serialize)]
pub struct Report {
    /// What was measured, as a heading.
    pub title: String,
    /// How, in sentences for the document.
    pub how: String,
    /// Against the targets first, the others after.
    pub figures: Vec<Figure>,
    /// What each repetition gave.
    pub samples: Vec<Samples>,
    /// Figures of a `--quick` run mean nothing.
    pub quick: bool,
}

/// One figure.
#[derive(Debug, Serialize)]
pub struct Figure {
    /// What it is.
    pub name: String,
    /// How much.
    pub value: f64,
    /// `%`, `MiB`, `ms`; empty for a count or a ratio.
    pub unit: String,
    /// None where it is told for its own sake.
    pub target: Option<Target>,
}

/// What a figure must reach.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// This or less.
    AtMost(f64),
    /// This or more.
    AtLeast(f64),
}

/// One side's values, a repetition each, in their order.
#[derive(Debug, Serialize)]
pub struct Samples {
    /// Whose.
    pub side: String,
    /// As in [`Figure::unit`].
    pub unit: String,
    /// In the order in which they were measured.
    pub values: Vec<f64>,
}

impl Report {
    /// An empty one.
    pub fn new(title: &str, how: impl Into<String>, quick: bool) -> Self {
        Self { title: title.to_owned(), how: how.into(), figures: Vec::new(), samples: Vec::new(), quick }
    }

    /// Adds a figure that has a target.
    pub fn against(&mut self, name: impl Into<String>, value: f64, unit: &str, target: Target) {
        self.figures.push(Figure { name: name.into(), value, unit: unit.to_owned(), target: Some(target) });
    }

    /// Adds a figure without one.
    pub fn figure(&mut self, name: impl Into<String>, value: f64, unit: &str) {
        self.figures.push(Figure { name: name.into(), value, unit: unit.to_owned(), target: None });
    }

    /// Adds the values of one side.
    pub fn samples(&mut self, side: impl Into<String>, unit: &str, values: &[f64]) {
        self.samples.push(Samples { side: side.into(), unit: unit.to_owned(), values: values.to_vec() });
    }
}

/// The middle one; 0 of none.
pub fn median(values: &[f64]) -> f64 {
    percentile(values, 0.5)
}

/// The value that this share of all does not exceed (nearest rank); 0 of none.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rank")]
pub fn percentile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

/// Quotients, pair by pair.
pub fn ratios(ours: &[f64], bare: &[f64]) -> Vec<f64> {
    ours.iter().zip(bare).map(|(ours, bare)| ours / bare).collect()
}

/// A count as a figure.
#[allow(clippy::cast_precision_loss, reason = "counts here are far below 2^52")]
pub fn count(number: usize) -> f64 {
    number as f64
}
