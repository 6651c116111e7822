//! Words of keepalived.conf(5).

use std::fmt::Write as _;

/// A word as it must be written to be read as it is: bare where that is safe,
/// else in double quotes with escapes (keepalived.conf(5), "Quoted strings").
pub fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "_-./:,%+*?".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    let mut text = String::from('"');
    for c in word.chars() {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            // Parameters are replaced within quotes, too; a control character
            // could end the line.
            '$' | '\0'..='\x1f' | '\x7f' => {
                write!(text, "\\{:03o}", u32::from(c)).expect("a string can always grow");
            }
            _ => text.push(c),
        }
    }
    text + "\""
}
