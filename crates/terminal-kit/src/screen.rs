//! The loop of a screen, and the screen without a terminal.

use std::io::{self, IsTerminal as _};

use crossterm::event::{
    Event as Input, EventStream, KeyCode, KeyEvent, KeyEventKind, KeyModifiers,
};
use futures_util::StreamExt as _;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::{DefaultTerminal, Frame, Terminal};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// What is shown, and the keys that change it. No I/O.
pub trait Screen {
    /// News of what is shown.
    type Update;

    /// Takes news.
    fn take(&mut self, update: Self::Update);

    /// Does what a key says.
    fn handle(&mut self, code: KeyCode);

    /// Draws everything.
    fn draw(&mut self, frame: &mut Frame);

    /// Lines that it takes to show everything.
    fn height(&self) -> usize;
}

/// True if somebody sits at a terminal.
#[must_use]
pub fn has_terminal() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// Shows `screen` until `q`, Ctrl-C, a signal, or until nobody sends updates any more. The
/// terminal is left as it was found.
///
/// # Errors
/// The terminal cannot be drawn on.
pub async fn run<S: Screen>(mut screen: S, updates: mpsc::Receiver<S::Update>) -> io::Result<()> {
    let _restore = Restore;
    // A panic restores the terminal, too, before its message is printed.
    let mut terminal = ratatui::try_init()?;
    show(&mut terminal, &mut screen, updates).await
}

/// Leaves the terminal as it was found.
struct Restore;

impl Drop for Restore {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

async fn show<S: Screen>(
    terminal: &mut DefaultTerminal,
    screen: &mut S,
    mut updates: mpsc::Receiver<S::Update>,
) -> io::Result<()> {
    let mut input = EventStream::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    loop {
        // This also follows the size of the terminal.
        terminal.draw(|frame| screen.draw(frame))?;
        tokio::select! {
            update = updates.recv() => match update {
                Some(update) => screen.take(update),
                None => return Ok(()),
            },
            input = input.next() => match input.transpose()? {
                Some(input) => match key(&input) {
                    Some(Key::Quit) => return Ok(()),
                    Some(Key::Other(code)) => screen.handle(code),
                    // Such as another size.
                    None => {}
                },
                None => return Ok(()),
            },
            _ = terminate.recv() => return Ok(()),
            _ = hang_up.recv() => return Ok(()),
        }
    }
}

/// A key that has been pressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    /// `q`, Ctrl-C.
    Quit,
    Other(KeyCode),
}

fn key(input: &Input) -> Option<Key> {
    let Input::Key(KeyEvent {
        code,
        modifiers,
        kind: KeyEventKind::Press | KeyEventKind::Repeat,
        ..
    }) = input
    else {
        return None;
    };
    let control = modifiers.contains(KeyModifiers::CONTROL);
    Some(match code {
        KeyCode::Char('q') => Key::Quit,
        KeyCode::Char('c') if control => Key::Quit,
        code => Key::Other(*code),
    })
}

/// The whole of `screen` as lines of at most `width` letters, without colours.
///
/// # Errors
/// None that is known: it is drawn in memory.
pub fn plain(screen: &mut impl Screen, width: u16) -> io::Result<String> {
    let height = u16::try_from(screen.height()).unwrap_or(u16::MAX);
    let mut terminal = Terminal::new(TestBackend::new(width, height)).map_err(io::Error::other)?;
    let drawn = terminal.draw(|frame| screen.draw(frame));
    drawn.map_err(io::Error::other)?;
    let lines = lines(terminal.backend().buffer());
    Ok(lines.iter().map(|line| format!("{line}\n")).collect())
}

/// The lines of `buffer`, without the blanks at their ends.
fn lines(buffer: &Buffer) -> Vec<String> {
    let rows = buffer
        .content()
        .chunks(usize::from(buffer.area.width).max(1));
    rows.map(|cells| {
        let line: String = cells.iter().map(|cell| cell.symbol()).collect();
        line.trim_end().to_owned()
    })
    .collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use ratatui::widgets::Widget;

    use super::*;

    /// The lines of `widget` on a terminal of this size.
    pub(crate) fn drawn(widget: &(impl Widget + Clone), width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        let draw = |frame: &mut Frame| frame.render_widget(widget.clone(), frame.area());
        terminal.draw(draw).unwrap();
        lines(terminal.backend().buffer())
    }

    /// Counts keys.
    struct Counter(usize);

    impl Screen for Counter {
        type Update = usize;

        fn take(&mut self, update: usize) {
            self.0 += update;
        }

        fn handle(&mut self, _: KeyCode) {
            self.0 += 1;
        }

        fn draw(&mut self, frame: &mut Frame) {
            frame.render_widget(format!("{} keys, all of them", self.0), frame.area());
        }

        fn height(&self) -> usize {
            2
        }
    }

    #[test]
    fn without_a_terminal_all_is_plain_lines() {
        let mut screen = Counter(3);
        assert_eq!(plain(&mut screen, 40).unwrap(), "3 keys, all of them\n\n");
        assert_eq!(plain(&mut screen, 6).unwrap(), "3 keys\n\n");
    }

    #[test]
    fn q_and_ctrl_c_quit_and_c_does_not() {
        let press = |code, modifiers| key(&Input::Key(KeyEvent::new(code, modifiers)));
        let (q, c) = (KeyCode::Char('q'), KeyCode::Char('c'));
        assert_eq!(press(q, KeyModifiers::NONE), Some(Key::Quit));
        assert_eq!(press(c, KeyModifiers::CONTROL), Some(Key::Quit));
        assert_eq!(press(c, KeyModifiers::NONE), Some(Key::Other(c)));
        assert_eq!(key(&Input::Resize(40, 10)), None);
    }
}
