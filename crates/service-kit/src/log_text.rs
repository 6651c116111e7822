//! Escaping of foreign text in log lines.

use std::fmt::{self, Display, Write};

/// Displays a text in one line, with control characters escaped. The text of a peer
/// (a web server's answer, an origin's status) may hold line breaks, which would forge
/// log lines, and escape sequences, which would control the reader's terminal.
#[derive(Debug)]
pub struct OneLine<T>(pub T);

impl<T: Display> Display for OneLine<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaping(f), "{}", self.0)
    }
}

struct Escaping<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for part in text.split_inclusive(needs_escape) {
            match part.char_indices().next_back() {
                Some((plain, last)) if needs_escape(last) => {
                    write!(self.0, "{}{}", &part[..plain], last.escape_default())?;
                }
                _ => self.0.write_str(part)?,
            }
        }
        Ok(())
    }
}

/// Returns true for characters that are not shown themselves and change the display of
/// others: control characters, line and paragraph separators, and those that change
/// the direction of writing (Unicode 16, §23.2, and UAX #9 §2).
fn needs_escape(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logged(text: &str) -> String {
        OneLine(format_args!("it says {text}.")).to_string()
    }

    #[test]
    fn nobody_can_forge_a_line_or_steer_a_terminal() {
        assert_eq!(logged("no\r\n2026 INFO"), r"it says no\r\n2026 INFO.");
        assert_eq!(logged("\u{1b}[2J\0"), r"it says \u{1b}[2J\u{0}.");
        assert_eq!(
            logged("\u{85}\u{2028}a\u{202e}b"),
            r"it says \u{85}\u{2028}a\u{202e}b."
        );
    }

    #[test]
    fn all_that_can_be_shown_is_shown_as_it_is() {
        let text = r#"C:\live "日本" l'été नमस्ते"#;
        assert_eq!(logged(text), format!("it says {text}."));
    }
}
