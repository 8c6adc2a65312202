//! The measured figures: one row per size, one figure per column.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// The figures of one size.
#[derive(Debug, Default)]
pub struct Row {
    /// Number of events or cameras.
    pub size: usize,
    figures: BTreeMap<&'static str, f64>,
}

impl Row {
    /// Creates a row without figures.
    pub fn new(size: usize) -> Self {
        Self { size, figures: BTreeMap::new() }
    }

    /// Records a figure, and prints it to standard error.
    pub fn record(&mut self, name: &'static str, figure: f64) {
        eprintln!("  {name}: {figure:.2}");
        self.figures.insert(name, figure);
    }

    pub fn to_json(&self) -> Value {
        json!({ "size": self.size, "figures": self.figures })
    }
}

/// A column of a table: its heading and the name of its figure.
pub type Column = (&'static str, &'static str);

/// Returns a Markdown table.
pub fn table(first: &str, columns: &[Column], rows: &[Row]) -> String {
    let headings: Vec<&str> = columns.iter().map(|(heading, _)| *heading).collect();
    let mut text =
        format!("| {first} | {} |\n|{}\n", headings.join(" | "), " ---: |".repeat(columns.len() + 1));
    for row in rows {
        let cells: Vec<String> = columns
            .iter()
            .map(|(_, name)| row.figures.get(name).map_or_else(|| "–".to_owned(), |&figure| rounded(figure)))
            .collect();
        text.extend(["| ", &grouped(row.size), " | ", &cells.join(" | "), " |\n"]);
    }
    text
}

/// Returns a figure with one decimal, as an integer, or in hundreds, depending on its size.
fn rounded(figure: f64) -> String {
    match figure {
        f if f < 10.0 => format!("{f:.1}"),
        f if f < 1000.0 => format!("{f:.0}"),
        // Every figure is far below the maximum of `usize`.
        f => grouped(format!("{:.0}", (f / 100.0).round() * 100.0).parse().unwrap_or_default()),
    }
}

/// Returns a number with separators: `1,000,000`.
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
