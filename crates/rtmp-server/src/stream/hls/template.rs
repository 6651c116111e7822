//! The text of a playlist that many get, each with a query of its own in its URIs.

use bytes::Bytes;

/// Stands in a text where the query of segments belongs. No URI has it.
pub(super) const QUERY: char = '\u{1}';
/// The same for the query of keys.
pub(super) const KEY_QUERY: char = '\u{2}';

/// The queries of one viewer, each with its `?`, or empty.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Queries<'a> {
    pub(crate) segments: &'a str,
    pub(crate) keys: &'a str,
}

/// A place for a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    at: usize,
    is_of_key: bool,
}

/// A text with places for a query.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Template {
    text: String,
    /// The places, in the order of the text.
    places: Vec<Place>,
}

impl Template {
    /// The template that `text` is, with [`QUERY`] and [`KEY_QUERY`] at the places.
    pub(super) fn new(text: &str) -> Self {
        let mut plain = String::with_capacity(text.len());
        let mut places = Vec::new();
        for piece in text.split_inclusive([QUERY, KEY_QUERY]) {
            let (piece, is_of_key) = match piece.strip_suffix(KEY_QUERY) {
                Some(piece) => (piece, Some(true)),
                None => match piece.strip_suffix(QUERY) {
                    Some(piece) => (piece, Some(false)),
                    None => (piece, None),
                },
            };
            plain.push_str(piece);
            let at = plain.len();
            places.extend(is_of_key.map(|is_of_key| Place { at, is_of_key }));
        }
        Self {
            text: plain,
            places,
        }
    }

    /// The text with `queries` at their places.
    pub(crate) fn fill(&self, queries: Queries<'_>) -> Bytes {
        let query = |place: &Place| match place.is_of_key {
            true => queries.keys,
            false => queries.segments,
        };
        let added: usize = self.places.iter().map(|place| query(place).len()).sum();
        let mut filled = String::with_capacity(self.text.len() + added);
        let mut begun = 0;
        for place in &self.places {
            filled.push_str(&self.text[begun..place.at]);
            filled.push_str(query(place));
            begun = place.at;
        }
        filled.push_str(&self.text[begun..]);
        filled.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_gets_the_text_with_a_query_of_its_own() {
        let template = Template::new("a\u{1}\nb\u{1}\nk\u{2}c");
        let queries = Queries {
            segments: "?x",
            keys: "?y",
        };
        assert_eq!(template.fill(queries), "a?x\nb?x\nk?yc");
        assert_eq!(template.fill(Queries::default()), "a\nb\nkc");
        assert_eq!(Template::new("a\n").fill(queries), "a\n");
    }
}
