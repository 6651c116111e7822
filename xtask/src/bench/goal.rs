//! What was to be reached, and whether it was.

use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Value, json};

/// One figure to reach.
#[derive(Debug, Clone)]
pub(crate) struct Goal {
    /// In words.
    pub(crate) what: String,
    /// What was measured; a goal whose figure is missing is not reached.
    pub(crate) measured: Option<f64>,
    /// The bound.
    pub(crate) bound: f64,
    /// Whether the bound is the least or the most.
    pub(crate) at_least: bool,
}

impl Goal {
    /// A figure that may be this at most.
    pub(crate) fn at_most(
        what: impl Into<String>,
        measured: impl Into<Option<f64>>,
        bound: f64,
    ) -> Self {
        Self {
            what: what.into(),
            measured: measured.into(),
            bound,
            at_least: false,
        }
    }

    /// A figure that has to be this at least.
    pub(crate) fn at_least(
        what: impl Into<String>,
        measured: impl Into<Option<f64>>,
        bound: f64,
    ) -> Self {
        Self {
            at_least: true,
            ..Self::at_most(what, measured, bound)
        }
    }

    /// Whether it was reached.
    pub(crate) fn is_reached(&self) -> bool {
        self.measured.is_some_and(|measured| match self.at_least {
            true => measured >= self.bound,
            false => measured <= self.bound,
        })
    }

    /// For the JSON file.
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "goal": self.what,
            "measured": self.measured,
            "bound": self.bound,
            "at_least": self.at_least,
            "reached": self.is_reached(),
        })
    }
}

/// What was to be reached, for people.
pub(crate) fn table(goals: &[Goal]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header(["goal", "measured", "bound", "reached"]);
    for goal in goals {
        table.add_row([
            goal.what.clone(),
            match goal.measured {
                Some(measured) => format!("{measured:.4}"),
                None => "not measured".to_owned(),
            },
            format!("{} {}", if goal.at_least { "≥" } else { "≤" }, goal.bound),
            if goal.is_reached() { "yes" } else { "no" }.to_owned(),
        ]);
    }
    align(&mut table, 1);
    table
}

/// Numbers to the right, from this column on.
pub(crate) fn align(table: &mut Table, first: usize) {
    for column in table.column_iter_mut().skip(first) {
        column.set_cell_alignment(CellAlignment::Right);
    }
}

/// A figure, or nothing.
pub(crate) fn show(value: Option<f64>, digits: usize) -> String {
    value.map_or(String::new(), |value| format!("{value:.digits$}"))
}
