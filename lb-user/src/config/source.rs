//! From files to lines: what stands between the operator's text and the parser.

use std::path::Path;
use std::sync::Arc;

use super::diagnostic::{Diagnostics, Origin, Position};
use super::words::without_comment;

/// A line that holds something, its comment cut off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The text.
    pub text: String,
    /// Where it stands.
    pub position: Position,
}

/// Splits `text`, the content of `file`, into the lines that hold something.
pub fn lines(file: &Arc<Path>, text: &str) -> Vec<Line> {
    text.lines()
        .enumerate()
        .map(|(index, line)| Line {
            text: without_comment(line).trim().to_owned(),
            position: Position {
                file: Arc::clone(file),
                line: index + 1,
            },
        })
        .filter(|line| !line.text.is_empty())
        .collect()
}

/// Reads a file, or reports why it cannot be read.
pub fn read(file: &Path, at: &Origin, diagnostics: &mut Diagnostics) -> Option<String> {
    match std::fs::read(file) {
        Ok(bytes) => match String::from_utf8(bytes) {
            Ok(text) => Some(text),
            Err(error) => {
                let line = 1 + error.as_bytes()[..error.utf8_error().valid_up_to()]
                    .iter()
                    .filter(|byte| **byte == b'\n')
                    .count();
                let position = Position {
                    file: file.into(),
                    line,
                };
                diagnostics.error(&Origin(Some(position)), "the file is not UTF-8 text here");
                None
            }
        },
        Err(error) => {
            diagnostics.error(at, format!("cannot read {}: {error}", file.display()));
            None
        }
    }
}
