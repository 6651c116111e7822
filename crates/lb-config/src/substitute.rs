//! Finding the parameters in a line: `$NAME` before white space, `${NAME}`
//! anywhere.

use std::ops::Range;

/// A parameter that is to be replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// Its place in the line.
    pub range: Range<usize>,
    /// The lines that it stands for.
    pub lines: Vec<String>,
}

/// Length in bytes up to which a name is looked for between braces.
const MAX_NAME_BYTES: usize = 256;

/// The first parameter in `text` that `value` knows. An unknown one stays as it
/// is: scripts have dollar signs too.
pub(crate) fn next_parameter(
    text: &str,
    value: impl Fn(&str) -> Option<Vec<String>>,
) -> Option<Found> {
    text.match_indices('$').find_map(|(start, _)| {
        let rest = &text[start + 1..];
        let (name, length) = match rest.strip_prefix('{') {
            Some(braced) => {
                let end = braced
                    .bytes()
                    .take(MAX_NAME_BYTES)
                    .position(|b| b == b'}')?;
                (&braced[..end], end + 2)
            }
            None => {
                let in_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
                let end = rest.find(|c| !in_name(c)).unwrap_or(rest.len());
                let (name, after) = rest.split_at(end);
                if after.starts_with(|c: char| !c.is_whitespace()) {
                    return None;
                }
                (name, end)
            }
        };
        let lines = value(name)?;
        Some(Found {
            range: start..start + 1 + length,
            lines,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_end_at_white_space_or_their_brace() {
        let value = |name: &str| (name == "X").then(|| vec!["1".to_owned()]);
        let range = |text| next_parameter(text, value).map(|found| found.range);
        assert_eq!(range("a $X b"), Some(2..4));
        assert_eq!(range("a $X"), Some(2..4));
        assert_eq!(range("a.${X}.b"), Some(2..6));
        assert_eq!(range("a $XY b"), None);
        assert_eq!(
            range("a $Y ${X}"),
            Some(5..9),
            "what is unknown is passed over"
        );
        assert_eq!(range("a ${X"), None);
    }
}
