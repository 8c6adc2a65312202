//! What was measured: one row a size, one figure a column.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};

/// The figures of one size.
#[derive(Debug, Default)]
pub struct Row {
    /// How many events or cameras.
    pub size: usize,
    figures: BTreeMap<&'static str, f64>,
}

impl Row {
    /// A row without figures.
    pub fn of(size: usize) -> Self {
        Self { size, figures: BTreeMap::new() }
    }

    /// Notes a figure.
    pub fn note(&mut self, name: &'static str, figure: f64) {
        eprintln!("  {name}: {figure:.2}");
        self.figures.insert(name, figure);
    }

    /// Notes a time.
    pub fn note_ms(&mut self, name: &'static str, time: Duration) {
        self.note(name, time.as_secs_f64() * 1e3);
    }

    /// For machines.
    pub fn json(&self) -> Value {
        json!({ "size": self.size, "figures": self.figures })
    }
}

/// A column of a table: its heading, and the figure that stands in it.
pub type Column = (&'static str, &'static str);

/// A Markdown table.
pub fn table(first: &str, columns: &[Column], rows: &[Row]) -> String {
    let headings: Vec<&str> = columns.iter().map(|(heading, _)| *heading).collect();
    let mut text =
        format!("| {first} | {} |\n|{}\n", headings.join(" | "), " ---: |".repeat(columns.len() + 1));
    for row in rows {
        let cells: Vec<String> = columns
            .iter()
            .map(|(_, name)| row.figures.get(name).map_or_else(|| "–".to_owned(), |figure| shown(*figure)))
            .collect();
        text.extend(["| ", &grouped(row.size), " | ", &cells.join(" | "), " |\n"]);
    }
    text
}

/// A figure with three digits or more.
fn shown(figure: f64) -> String {
    match figure {
        f if f < 10.0 => format!("{f:.1}"),
        f if f < 1000.0 => format!("{f:.0}"),
        // Thousands are enough; every figure is far below what the type holds.
        f => grouped(format!("{:.0}", (f / 100.0).round() * 100.0).parse().unwrap_or_default()),
    }
}

/// `1,000,000`.
pub fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count as a figure.
pub fn number(count: impl TryInto<u32>) -> f64 {
    count.try_into().map_or(f64::INFINITY, f64::from)
}

/// The middle one.
pub fn median(times: Vec<Duration>) -> Duration {
    percentile(times, 50)
}

/// The one that so many in a hundred do not exceed.
pub fn percentile(mut times: Vec<Duration>, percent: usize) -> Duration {
    times.sort_unstable();
    times.get(times.len() * percent / 100).copied().unwrap_or_default()
}
