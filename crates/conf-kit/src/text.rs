//! Text of configuration files. Comments need not be UTF-8: older ones are Latin-1.

/// Stands for a byte that is not UTF-8. Unicode has no such character.
pub const UNDECODABLE: char = '\u{ffff}';

/// Message about a word with such a byte in it.
pub const NOT_UTF8: &str = "this is not UTF-8 text; write it in UTF-8 (only comments may be in \
                            another encoding)";

/// Decodes UTF-8; each byte that is none becomes [`UNDECODABLE`].
pub fn decode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| UNDECODABLE));
    }
    text
}

/// The number of the first line with a byte that is not UTF-8, from 1.
pub fn first_undecodable_line(text: &str) -> Option<usize> {
    let place = text.find(UNDECODABLE)?;
    Some(1 + text[..place].matches('\n').count())
}

/// `text` as it is shown in a message: one line of it at most.
pub fn shortened(text: &str) -> String {
    const MAX_CHARACTERS: usize = 80;
    match text.char_indices().nth(MAX_CHARACTERS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
