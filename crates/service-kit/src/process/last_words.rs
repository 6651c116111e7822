//! What a program has written last.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::time::sleep;

/// Lines that are kept.
const MAX_LINES: usize = 8;
/// Bytes that are kept of each.
const MAX_LINE_BYTES: usize = 300;
/// Bytes that are read at once.
const READ_BYTES: usize = 16 * 1024;
/// Pause after each read: a program that writes without end gets 1.6 MB/s out, and costs
/// no more than that.
const READ_PAUSE: Duration = Duration::from_millis(10);

/// The last lines that a program has written.
#[derive(Debug, Default)]
pub(super) struct LastWords {
    lines: VecDeque<String>,
    /// The line that is being written, cut off at its limit.
    line: Vec<u8>,
}

impl LastWords {
    /// Reads until the end.
    pub(super) async fn read(&mut self, mut pipe: impl AsyncRead + Unpin) {
        let mut buffer = vec![0; READ_BYTES];
        // An error is an end, too: nothing more can be had.
        while let Ok(count @ 1..) = pipe.read(&mut buffer).await {
            self.take(&buffer[..count]);
            sleep(READ_PAUSE).await;
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            // ffmpeg ends a line of its progress with a carriage return.
            if byte == b'\n' || byte == b'\r' {
                self.end_line();
            } else if self.line.len() < MAX_LINE_BYTES {
                self.line.push(byte);
            }
        }
    }

    fn end_line(&mut self) {
        let text = String::from_utf8_lossy(&self.line).trim().to_owned();
        self.line.clear();
        if text.is_empty() {
            return;
        }
        if self.lines.len() == MAX_LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(text);
    }

    /// The lines, oldest first.
    pub(super) fn into_lines(mut self) -> Vec<String> {
        self.end_line();
        self.lines.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(written: &[&[u8]]) -> Vec<String> {
        let mut words = LastWords::default();
        for bytes in written {
            words.take(bytes);
        }
        words.into_lines()
    }

    #[test]
    fn the_last_lines_are_kept_and_long_ones_cut() {
        assert_eq!(
            lines(&[b"a\n\r\nb", b"c\r d \n", b"e"]),
            ["a", "bc", "d", "e"]
        );
        let many: Vec<_> = (0..100).map(|number| format!("{number}\n")).collect();
        let many: Vec<_> = many.iter().map(String::as_bytes).collect();
        assert_eq!(lines(&many).first().map(String::as_str), Some("92"));
        let long = vec![b'x'; 1_000_000];
        assert_eq!(lines(&[&long])[0].len(), MAX_LINE_BYTES);
    }
}
