//! The text of a playlist that many get, each with a query of its own in its URIs.

use bytes::Bytes;

/// Stands in a text where the query belongs. No URI has it.
pub(super) const QUERY: char = '\u{1}';

/// A text with places for a query.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Template {
    text: String,
    /// The places, in the order of the text.
    places: Vec<usize>,
}

impl Template {
    /// The template that `text` is, with [`QUERY`] at the places.
    pub(super) fn new(text: &str) -> Self {
        let mut plain = String::with_capacity(text.len());
        let mut places = Vec::new();
        for (number, piece) in text.split(QUERY).enumerate() {
            if number > 0 {
                places.push(plain.len());
            }
            plain.push_str(piece);
        }
        Self {
            text: plain,
            places,
        }
    }

    /// The text with `query` at each place.
    pub(crate) fn fill(&self, query: &str) -> Bytes {
        let length = self.text.len() + self.places.len() * query.len();
        let mut filled = String::with_capacity(length);
        let mut begun = 0;
        for &place in &self.places {
            filled.push_str(&self.text[begun..place]);
            filled.push_str(query);
            begun = place;
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
        let template = Template::new("a\u{1}\nb\u{1}");
        assert_eq!(template.fill("?x"), "a?x\nb?x");
        assert_eq!(template.fill(""), "a\nb");
        assert_eq!(Template::new("a\n").fill("?x"), "a\n");
    }
}
