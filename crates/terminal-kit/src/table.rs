//! Tables that fit the width of the terminal.

use ratatui::layout::{Alignment, Constraint};
use ratatui::style::{Style, Stylize as _};
use ratatui::text::{Line, Text};
use ratatui::widgets::{Cell, Row, Table};

use crate::blocks::sparkline;

/// Width of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Width {
    /// As wide as its widest cell.
    OfContent,
    /// So many letters.
    Fixed(u16),
    /// All that is left.
    Rest,
}

/// A column.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// Its heading.
    pub heading: &'static str,
    /// Its width.
    pub width: Width,
    /// Left for words, right for numbers.
    pub alignment: Alignment,
    /// Width of the terminal from which on it is shown.
    pub from: u16,
}

impl Column {
    /// A column of words that is as wide as its content, and always shown.
    #[must_use]
    pub const fn words(heading: &'static str) -> Self {
        Self {
            heading,
            width: Width::OfContent,
            alignment: Alignment::Left,
            from: 0,
        }
    }

    /// A column of numbers of so many letters, on terminals of the width `from` on.
    #[must_use]
    pub const fn number(heading: &'static str, width: u16, from: u16) -> Self {
        Self {
            heading,
            width: Width::Fixed(width),
            alignment: Alignment::Right,
            from,
        }
    }

    /// The last column, which has all that is left.
    #[must_use]
    pub const fn rest(heading: &'static str, from: u16) -> Self {
        Self {
            heading,
            width: Width::Rest,
            alignment: Alignment::Left,
            from,
        }
    }

    /// The same with so many letters.
    #[must_use]
    pub const fn of_width(self, width: u16) -> Self {
        Self {
            width: Width::Fixed(width),
            ..self
        }
    }
}

/// What stands in a cell.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// Text, of which the beginning is shown where it does not fit.
    Words(String),
    /// A sparkline, of which the end is shown.
    History(Vec<f64>),
}

impl From<String> for Content {
    fn from(text: String) -> Self {
        Self::Words(text)
    }
}

impl Content {
    fn text(&self, room: usize) -> String {
        match self {
            Self::Words(text) => text.clone(),
            Self::History(values) => sparkline(values, room),
        }
    }

    fn width(&self) -> usize {
        match self {
            Self::Words(text) => Line::from(&**text).width(),
            Self::History(values) => values.len(),
        }
    }
}

/// A table `width` letters wide. `rows` have a cell for each of `columns`, with its style;
/// those that are not `shown` count for the width of columns, so that they do not jump.
#[must_use]
pub fn table<'a, const N: usize>(
    columns: &[Column; N],
    rows: &[[(Content, Style); N]],
    shown: impl Iterator<Item = &'a [(Content, Style); N]>,
    width: u16,
) -> Table<'static> {
    let kept: Vec<usize> = (0..N).filter(|&it| columns[it].from <= width).collect();
    let fixed = kept.iter().map(|&it| match columns[it].width {
        // One letter lies between two columns.
        Width::Fixed(letters) => letters + 1,
        Width::OfContent | Width::Rest => 0,
    });
    // Long names are cut, not the numbers beside them.
    let room = width.saturating_sub(fixed.sum());
    let letters = |&column: &usize| match columns[column].width {
        Width::OfContent => {
            let widest = rows.iter().map(|row| row[column].0.width()).max();
            let widest = widest.unwrap_or(0).max(columns[column].heading.len());
            u16::try_from(widest).unwrap_or(u16::MAX).min(room)
        }
        Width::Fixed(letters) => letters,
        Width::Rest => 0,
    };
    let widths: Vec<u16> = kept.iter().map(letters).collect();
    let taken = widths.iter().map(|letters| letters + 1).sum::<u16>();
    let rest = (width + 1).saturating_sub(taken);
    let constraints =
        kept.iter()
            .zip(&widths)
            .map(|(&column, &letters)| match columns[column].width {
                Width::Rest => Constraint::Fill(1),
                Width::OfContent | Width::Fixed(_) => Constraint::Length(letters),
            });
    let cell = |column: usize, text: String| {
        Cell::from(Text::from(text).alignment(columns[column].alignment))
    };
    let headings = kept
        .iter()
        .map(|&it| cell(it, columns[it].heading.to_owned()));
    let shown = shown.map(|row| {
        let text = |column: usize| row[column].0.text(rest.into());
        let cells = kept.iter().map(|&it| cell(it, text(it)).style(row[it].1));
        Row::new(cells.collect::<Vec<_>>())
    });
    Table::new(shown.collect::<Vec<_>>(), constraints)
        .header(Row::new(headings.collect::<Vec<_>>()).bold())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::screen::tests::drawn;

    #[test]
    fn a_narrow_terminal_has_fewer_columns() {
        const COLUMNS: [Column; 4] = [
            Column::words("Name"),
            Column::number("Count", 6, 0),
            Column::number("More", 5, 20),
            Column::rest("", 24),
        ];
        let row = |name: &str, count: &str, more: &str, rest: &str| {
            [name, count, more, rest].map(|text| (text.to_owned().into(), Style::new()))
        };
        let mut rows = [
            row("a", "7", "8", ""),
            row("server", "123", "9", "unreachable"),
        ];
        rows[0][3].0 = Content::History((0..8).map(f64::from).collect());
        let lines = |width| drawn(&table(&COLUMNS, &rows, rows.iter(), width), width, 3);
        assert_eq!(
            lines(26),
            [
                "Name    Count  More",
                "a           7     8 ▃▄▅▆▇█",
                "server    123     9 unreac"
            ]
        );
        assert_eq!(lines(20)[2], "server    123     9");
        assert_eq!(lines(13)[2], "server    123");
        assert_eq!(lines(11)[2], "serv    123");
    }
}
