//! The part of a long table that is shown, and the keys that move it.

use crossterm::event::KeyCode;
use ratatui::style::Stylize as _;
use ratatui::text::Line;

/// The rows of a table that are shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scroll {
    /// Rows above the first one shown.
    skipped: usize,
    /// Rows that there is room for.
    page: usize,
    /// All rows.
    rows: usize,
}

impl Scroll {
    /// Fits `rows` rows into room for `page` of them. The last ones stay in sight.
    pub fn fit(&mut self, rows: usize, page: usize) {
        (self.rows, self.page) = (rows, page);
        self.skipped = self.skipped.min(rows.saturating_sub(page));
    }

    /// Does what a key says: arrows, page up and down, home, end.
    pub fn handle(&mut self, code: KeyCode) {
        match code {
            KeyCode::Up => self.skipped = self.skipped.saturating_sub(1),
            KeyCode::Down => self.skipped += 1,
            KeyCode::PageUp => self.skipped = self.skipped.saturating_sub(self.page),
            KeyCode::PageDown => self.skipped += self.page,
            KeyCode::Home => self.skipped = 0,
            KeyCode::End => self.skipped = self.rows,
            _ => {}
        }
    }

    /// Those of `rows` that are shown.
    pub fn shown<T>(&self, rows: impl IntoIterator<Item = T>) -> impl Iterator<Item = T> {
        rows.into_iter().skip(self.skipped).take(self.page)
    }

    /// `lines 3 to 12 of 40`; `None` if all are shown.
    #[must_use]
    pub fn position(&self) -> Option<String> {
        let last = self.rows.min(self.skipped + self.page);
        let first = self.skipped + 1;
        (self.rows > self.page).then(|| format!("lines {first} to {last} of {}", self.rows))
    }

    /// The last line of a screen: the keys that it knows, `keys` and those that scroll.
    #[must_use]
    pub fn keys(&self, keys: &[&str]) -> Line<'static> {
        let position = self.position();
        let position = position.map(|it| format!("arrows, page up, page down: {it}"));
        let all: Vec<&str> = keys.iter().copied().chain(position.as_deref()).collect();
        Line::from(all.join("   ")).dim()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_move_within_the_rows_that_there_are() {
        let mut scroll = Scroll::default();
        for (code, position) in [
            (KeyCode::Up, "lines 1 to 10 of 25"),
            (KeyCode::Down, "lines 2 to 11 of 25"),
            (KeyCode::PageDown, "lines 12 to 21 of 25"),
            (KeyCode::PageDown, "lines 16 to 25 of 25"),
            (KeyCode::PageUp, "lines 6 to 15 of 25"),
            (KeyCode::End, "lines 16 to 25 of 25"),
            (KeyCode::Down, "lines 16 to 25 of 25"),
            (KeyCode::Home, "lines 1 to 10 of 25"),
        ] {
            scroll.handle(code);
            scroll.fit(25, 10);
            assert_eq!(scroll.position().as_deref(), Some(position), "{code:?}");
        }
        scroll.handle(KeyCode::End);
        scroll.fit(12, 10);
        assert_eq!(
            scroll.shown(0..12).collect::<Vec<_>>(),
            Vec::from_iter(2..12)
        );
        scroll.fit(10, 10);
        assert_eq!(scroll.position(), None);
    }
}
