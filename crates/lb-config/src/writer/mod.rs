//! Directives as text of keepalived.conf(5).

mod tracked;
mod vrrp;

use std::fmt::{Display, Write as _};
use std::net::SocketAddr;

use lb_model::config::{Route, Script, Seconds, quoted};

/// Writes directives, each on a line of its own, indented by the blocks around
/// it.
#[derive(Default)]
pub(crate) struct Writer {
    pub(crate) text: String,
    depth: usize,
}

impl Writer {
    /// A directive of words that need no quoting.
    pub(crate) fn line(&mut self, words: impl Display) {
        let indent = "    ".repeat(self.depth);
        writeln!(self.text, "{indent}{words}").expect("a string can always grow");
    }

    /// A block, the directives in it written by `inside`.
    pub(crate) fn block(&mut self, head: impl Display, inside: impl FnOnce(&mut Self)) {
        if self.depth == 0 && !self.text.is_empty() {
            self.text.push('\n');
        }
        self.line(format_args!("{head} {{"));
        self.depth += 1;
        inside(self);
        self.depth -= 1;
        self.line('}');
    }

    /// A block that is left out where it would hold nothing.
    pub(crate) fn block_of<T>(
        &mut self,
        head: &str,
        items: &[T],
        mut item: impl FnMut(&mut Self, &T),
    ) {
        if !items.is_empty() {
            self.block(head, |out| items.iter().for_each(|one| item(out, one)));
        }
    }

    /// A directive with one argument that needs no quoting, if there is one.
    pub(crate) fn value<T: Display>(&mut self, word: &str, value: Option<T>) {
        if let Some(value) = value {
            self.line(format_args!("{word} {value}"));
        }
    }

    /// A directive with one argument of the operator's choice, if there is one.
    pub(crate) fn text(&mut self, word: &str, text: Option<&String>) {
        self.value(word, text.map(|text| quoted(text)));
    }

    pub(crate) fn seconds(&mut self, word: &str, time: Option<Seconds>) {
        self.value(word, time.map(|Seconds(time)| time.as_secs_f64()));
    }

    pub(crate) fn switch(&mut self, word: &str, on: Option<bool>) {
        self.value(word, on.map(|on| if on { "on" } else { "off" }));
    }

    /// A bare word, if it holds.
    pub(crate) fn flag(&mut self, word: &str, holds: bool) {
        if holds {
            self.line(word);
        }
    }

    /// A route, on a line of its own.
    pub(crate) fn route(&mut self, route: &Route) {
        self.line(route);
    }

    pub(crate) fn script(&mut self, word: &str, script: Option<&Script>) {
        let Some(Script {
            command,
            user,
            group,
            location: _,
        }) = script
        else {
            return;
        };
        // The command with its arguments is one word.
        let words = [Some(joined(command)), user.clone(), group.clone()];
        let words: Vec<String> = words.into_iter().flatten().collect();
        self.line(format_args!("{word} {}", joined(&words)));
    }
}

/// Words that are quoted where they must be.
pub(crate) fn joined(words: &[String]) -> String {
    let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    words.join(" ")
}

/// An address and a port as two words.
pub(crate) fn two_words(address: SocketAddr) -> String {
    format!("{} {}", address.ip(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::{Token, split};

    #[test]
    fn a_quoted_word_is_read_as_it_was() {
        for word in [
            "", "a b", "a\"b\\c", "$VIP", "{", "x{", "#!", "a\nb7", "ö", "'", "\\", "@x",
        ] {
            let line = quoted(word);
            assert_eq!(
                split(&line),
                Ok(vec![Token::Word(word.to_owned())]),
                "{line}"
            );
        }
    }
}
