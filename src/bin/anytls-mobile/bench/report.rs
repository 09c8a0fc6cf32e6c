//! Tables for people, JSON for programs.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::Failure;

/// One table.
pub(super) struct Report {
    name: &'static str,
    title: String,
    columns: &'static [&'static str],
    rows: Vec<Vec<Value>>,
}

impl Report {
    /// `name` is the JSON's file.
    pub(super) fn new(
        name: &'static str,
        title: impl Into<String>,
        columns: &'static [&'static str],
    ) -> Self {
        Self { name, title: title.into(), columns, rows: Vec::new() }
    }

    /// Adds a row: a cell for each column.
    pub(super) fn row(&mut self, cells: Vec<Value>) {
        debug_assert_eq!(cells.len(), self.columns.len());
        self.rows.push(cells);
    }

    pub(super) fn print(&self) {
        let table: Vec<Vec<String>> = self.rows.iter().map(|row| row.iter().map(text).collect()).collect();
        let width = |column: usize| {
            let cells = table.iter().map(|row| row[column].chars().count());
            cells.chain([self.columns[column].chars().count()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let line = |cells: &[&str]| {
            let mut padded = cells.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| {
                if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
            });
            padded.by_ref().collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        println!("\n{}", self.title);
        println!("{}", line(self.columns));
        for row in &table {
            println!("{}", line(&row.iter().map(String::as_str).collect::<Vec<_>>()));
        }
    }

    /// Writes `NAME.json` into `folder`.
    pub(super) fn write(&self, folder: &Path) -> Result<(), Failure> {
        let named = |row: &Vec<Value>| {
            self.columns.iter().map(|name| (*name).to_owned()).zip(row.iter().cloned()).collect::<Map<_, _>>()
        };
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let all = json!({
            "title": self.title,
            "machine": { "cores": cores, "arch": std::env::consts::ARCH },
            "rows": self.rows.iter().map(named).collect::<Vec<_>>(),
        });
        fs::create_dir_all(folder)?;
        let path = folder.join(format!("{}.json", self.name));
        fs::write(&path, format!("{all:#}\n")).map_err(|error| format!("{}: {error}", path.display()).into())
    }
}

fn text(cell: &Value) -> String {
    match cell {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}

/// Of a list that need not be sorted; `None` of an empty one.
pub(super) fn median<T: Ord + Copy>(values: &[T]) -> Option<T> {
    let mut sorted = values.to_vec();
    sorted.sort();
    sorted.get(sorted.len() / 2).copied()
}

/// Whole milliseconds, or nothing.
pub(super) fn millis(time: impl Into<Option<Duration>>) -> Value {
    time.into().map_or(Value::Null, |time| json!(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)))
}

/// Median and longest, as in `6.1 (9.0)`.
pub(super) fn median_and_most(times: &[Duration]) -> Value {
    let (Some(median), Some(most)) = (median(times), times.iter().max()) else { return Value::Null };
    json!(format!("{:.1} ({:.1})", median.as_secs_f64(), most.as_secs_f64()))
}
