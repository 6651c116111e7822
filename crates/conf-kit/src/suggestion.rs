//! The nearest known word to a misspelled one.

/// Below this Jaro-Winkler similarity a suggestion confuses more than it helps.
const NEAR: f64 = 0.8;

/// Length in bytes up to which words are compared: no known word is nearly as
/// long, and comparing costs the product of both lengths.
const MAX_COMPARED: usize = 64;

/// The nearest of `known` to a misspelled `word`, as the tail of a sentence:
/// ``", did you mean `retry`?"``, or nothing where none is near.
pub fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    if word.len() > MAX_COMPARED {
        return String::new();
    }
    known
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(word, candidate), candidate))
        .filter(|(similarity, _)| *similarity >= NEAR)
        .max_by(|(left, _), (right, _)| left.total_cmp(right))
        .map_or_else(String::new, |(_, nearest)| {
            format!(", did you mean `{nearest}`?")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_suggested_and_a_far_one_is_not() {
        let known = || ["retry", "real_server", "virtual_server"];
        assert_eq!(did_you_mean("retri", known()), ", did you mean `retry`?");
        assert_eq!(
            did_you_mean("reel_server", known()),
            ", did you mean `real_server`?"
        );
        assert_eq!(did_you_mean("zzz", known()), "");
        assert_eq!(did_you_mean(&"r".repeat(MAX_COMPARED + 1), known()), "");
    }
}
