//! Checkers.

use conf_kit::Directive;
use lb_model::config::{StatusCodes, bounds, hex};

use super::Reader;

impl Reader<'_> {
    /// Options of PCRE that have a letter here.
    pub(crate) fn regex_options(&mut self, item: &Directive) -> String {
        let mut letters = String::new();
        for option in &item.arguments {
            match option.as_str() {
                "caseless" => letters.push('i'),
                "multiline" => letters.push('m'),
                "dotall" => letters.push('s'),
                "extended" => letters.push('x'),
                "ungreedy" => letters.push('U'),
                "utf" | "ucp" => {}
                _ => self.wrong(
                    item,
                    "caseless, multiline, dotall, extended, ungreedy, utf or ucp",
                ),
            }
        }
        letters
    }

    /// `200 300-399 …`
    pub(crate) fn status_codes(&mut self, item: &Directive) -> Option<Vec<StatusCodes>> {
        const EXPECTED: &str = "status codes from 100 to 999 or ranges such as 200-299";
        let code = |word: &str| {
            word.parse()
                .ok()
                .filter(|code| bounds::STATUS_CODE.contains(code))
        };
        let range = |word: &String| {
            let (low, high) = word.split_once('-').unwrap_or((word, word));
            let (low, high) = (code(low)?, code(high)?);
            (low <= high).then_some(StatusCodes(low, high))
        };
        match item.arguments.iter().map(range).collect::<Option<Vec<_>>>() {
            Some(codes) if !codes.is_empty() => Some(codes),
            _ => {
                self.wrong(item, EXPECTED);
                None
            }
        }
    }

    pub(crate) fn hexadecimal(
        &mut self,
        item: &Directive,
        is_right: fn(&str) -> bool,
    ) -> Option<String> {
        let text = item.arguments.join(" ");
        if !is_right(&text) {
            self.wrong(item, hex::EXPECTED);
            return None;
        }
        Some(text)
    }
}
