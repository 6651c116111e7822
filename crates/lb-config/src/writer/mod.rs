//! From the model to keepalived.conf: one file per kind of block, as in the
//! reader.
//!
//! Structures are taken apart field by field, so that a field which nobody
//! writes does not compile.

mod check;
mod global;
mod route;
mod service;
mod tracked;
mod vrrp;

use lb_model::config::quoted;
use std::fmt::{Display, Write as _};

use lb_model::config::{Config, Script, Seconds};

/// Writes `config` as keepalived.conf(5); what the reader makes of the text is
/// equal to `config`.
pub fn write(config: &Config) -> String {
    let Config {
        global_defs,
        static_ipaddress,
        static_routes,
        track_file,
        vrrp_script,
        vrrp_sync_group,
        vrrp_instance,
        virtual_server_group,
        virtual_server,
    } = config;
    let mut out = Writer::default();
    out.global_defs(global_defs);
    out.block_of(
        "static_ipaddress",
        static_ipaddress,
        Writer::virtual_address,
    );
    out.block_of("static_routes", static_routes, Writer::route);
    for file in track_file {
        out.track_file(file);
    }
    for script in vrrp_script {
        out.vrrp_script(script);
    }
    for group in vrrp_sync_group {
        out.vrrp_sync_group(group);
    }
    for instance in vrrp_instance {
        out.vrrp_instance(instance);
    }
    for group in virtual_server_group {
        out.virtual_server_group(group);
    }
    for service in virtual_server {
        out.virtual_server(service);
    }
    out.text
}

/// Writes directives, each on a line of its own, indented by the blocks around
/// it.
#[derive(Default)]
struct Writer {
    text: String,
    depth: usize,
}

impl Writer {
    /// A directive of words that need no quoting.
    fn line(&mut self, words: impl Display) {
        let indent = "    ".repeat(self.depth);
        writeln!(self.text, "{indent}{words}").expect("a string can always grow");
    }

    /// A block, the directives in it written by `inside`.
    fn block(&mut self, head: impl Display, inside: impl FnOnce(&mut Self)) {
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
    fn block_of<T>(&mut self, head: &str, items: &[T], mut item: impl FnMut(&mut Self, &T)) {
        if !items.is_empty() {
            self.block(head, |out| items.iter().for_each(|one| item(out, one)));
        }
    }

    /// A directive with one argument that needs no quoting, if there is one.
    fn value<T: Display>(&mut self, word: &str, value: Option<T>) {
        if let Some(value) = value {
            self.line(format_args!("{word} {value}"));
        }
    }

    /// A directive with one argument of the operator's choice, if there is one.
    fn text(&mut self, word: &str, text: Option<&String>) {
        self.value(word, text.map(|text| quoted(text)));
    }

    fn seconds(&mut self, word: &str, time: Option<Seconds>) {
        self.value(word, time.map(|Seconds(time)| time.as_secs_f64()));
    }

    fn switch(&mut self, word: &str, on: Option<bool>) {
        self.value(word, on.map(|on| if on { "on" } else { "off" }));
    }

    /// A bare word, if it holds.
    fn flag(&mut self, word: &str, holds: bool) {
        if holds {
            self.line(word);
        }
    }

    fn script(&mut self, word: &str, script: Option<&Script>) {
        let Some(Script {
            command,
            user,
            group,
            location: _,
        }) = script
        else {
            return;
        };
        let command: Vec<String> = command.iter().map(|word| quoted(word)).collect();
        let words = [Some(&command.join(" ")), user.as_ref(), group.as_ref()];
        let words: Vec<String> = words
            .into_iter()
            .flatten()
            .map(|word| quoted(word))
            .collect();
        self.line(format_args!("{word} {}", words.join(" ")));
    }
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
