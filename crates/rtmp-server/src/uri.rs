//! Names of streams and files as parts of URIs (RFC 3986 section 2).

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// All but the unreserved characters. A playlist would take a `#` for a comment, a `"` for the
/// end of an attribute and what stands before a `:` for a scheme.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');
/// The same for several segments.
const PATH: &AsciiSet = &SEGMENT.remove(b'/');

/// `name` as one segment of a path.
pub(crate) fn encode_segment(name: &str) -> String {
    utf8_percent_encode(name, SEGMENT).to_string()
}

/// `path` as segments that `/` separates.
pub(crate) fn encode_path(path: &str) -> String {
    utf8_percent_encode(path, PATH).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_end_the_line_or_the_attribute_that_it_stands_in() {
        assert_eq!(encode_path("live/#EXTINF.ts"), "live/%23EXTINF.ts");
        assert_eq!(encode_path("a\"b%2f:\n"), "a%22b%252f%3A%0A");
        assert_eq!(
            encode_segment("\u{76f4}\u{64ad}/1"),
            "%E7%9B%B4%E6%92%AD%2F1"
        );
        assert_eq!(encode_path("a-b_c.~1"), "a-b_c.~1");
    }
}
