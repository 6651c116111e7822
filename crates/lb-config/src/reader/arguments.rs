//! Arguments of directives: each kind read in one way, with one wording of its mistakes.

use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::str::FromStr;

use conf_kit::{Diagnostic, Directive, Location, did_you_mean};

use super::Reader;
use crate::vocabulary::Vocabulary;
use lb_model::config::{Script, Seconds, bounds};
use net_types::Network;

impl Reader<'_> {
    /// Reports a directive that its block does not serve.
    pub(crate) fn not_served(&mut self, directive: &Directive, vocabulary: &dyn Vocabulary) {
        self.word_not_served(&directive.location, &directive.keyword, vocabulary);
    }

    /// Reports a word that is not served where it stands.
    pub(crate) fn word_not_served(
        &mut self,
        location: &Location,
        word: &str,
        vocabulary: &dyn Vocabulary,
    ) {
        match vocabulary.reason_not_served(word) {
            Some(reason) => {
                self.diagnostics
                    .warn(location, format!("`{word}` is ignored: {reason}"));
            }
            None => {
                let suggestion = did_you_mean(word, vocabulary.words());
                let block = vocabulary.place();
                self.diagnostics.error(
                    location,
                    format!("unknown word `{word}` {block}{suggestion}"),
                );
            }
        }
    }

    /// The directives of a block; a directive without one is reported.
    pub(crate) fn block<'d>(&mut self, directive: &'d Directive) -> &'d [Directive] {
        match &directive.children {
            Some(directives) => directives,
            None => {
                self.wrong(directive, "a block in braces after it");
                &[]
            }
        }
    }

    /// The one argument of a directive.
    pub(crate) fn argument<'d>(
        &mut self,
        directive: &'d Directive,
        expected: &str,
    ) -> Option<&'d str> {
        self.diagnostics.take(directive.argument(expected))
    }

    /// The one of `choices` that the one argument names.
    pub(crate) fn choice<C: Copy>(
        &mut self,
        directive: &Directive,
        choices: &[(&str, C)],
        expected: &str,
    ) -> Option<C> {
        self.diagnostics.take(directive.choice(choices, expected))
    }

    /// A word of the operator's choice.
    pub(crate) fn text(&mut self, directive: &Directive) -> Option<String> {
        self.argument(directive, "one word").map(str::to_owned)
    }

    /// A whole number within `range`.
    pub(crate) fn number<T>(&mut self, directive: &Directive, range: RangeInclusive<T>) -> Option<T>
    where
        T: FromStr + PartialOrd + Display,
    {
        self.diagnostics.take(directive.number(range))
    }

    /// A time span in seconds, fractions allowed.
    pub(crate) fn seconds(&mut self, directive: &Directive) -> Option<Seconds> {
        self.diagnostics.take(directive.seconds()).map(Seconds)
    }

    /// A time span that must not be 0.
    pub(crate) fn positive_seconds(&mut self, directive: &Directive) -> Option<Seconds> {
        let seconds = self.seconds(directive)?;
        if !bounds::is_positive(seconds) {
            self.wrong(directive, bounds::MORE_THAN_0_SECONDS);
            return None;
        }
        Some(seconds)
    }

    /// A switch: the bare word turns it on.
    pub(crate) fn switch(&mut self, directive: &Directive) -> Option<bool> {
        let on = switch(directive);
        self.diagnostics.take(on)
    }

    /// An address without port.
    pub(crate) fn ip_address(&mut self, directive: &Directive) -> Option<IpAddr> {
        self.diagnostics.take(directive.ip_address())
    }

    /// A network.
    pub(crate) fn network(&mut self, directive: &Directive) -> Option<Network> {
        const EXPECTED: &str = "a network such as 172.16.0.0/16 or fd00::/64";
        self.diagnostics.take(directive.parsed(EXPECTED, |_| true))
    }

    /// An address and a port, as two words; `default_port` where the file leaves
    /// the port out.
    pub(crate) fn socket_address(
        &mut self,
        directive: &Directive,
        default_port: u16,
    ) -> Option<SocketAddr> {
        const EXPECTED: &str = "an IP address and perhaps a port up to 65535";
        let (address, port) = match directive.arguments.as_slice() {
            [address, port] => (address, port.parse().ok()),
            [address] => (address, Some(default_port)),
            _ => {
                self.wrong(directive, EXPECTED);
                return None;
            }
        };
        let Ok(address) = address.parse::<IpAddr>() else {
            self.wrong(directive, &format!("an IP address instead of `{address}`"));
            return None;
        };
        if port.is_none() {
            self.wrong(directive, EXPECTED);
        }
        port.map(|port| SocketAddr::new(address, port))
    }

    /// A command with its arguments, and the user and group to run it as.
    ///
    /// One quoted string holds command and arguments; words that follow it name
    /// user and group.
    pub(crate) fn script(&mut self, directive: &Directive) -> Option<Script> {
        const EXPECTED: &str =
            "a command (quoted, if it has arguments) and perhaps a user and a group";
        let (command, user, group) = match directive.arguments.as_slice() {
            [command] => (command, None, None),
            [command, user] => (command, Some(user.clone()), None),
            [command, user, group] => (command, Some(user.clone()), Some(group.clone())),
            _ => {
                self.wrong(directive, EXPECTED);
                return None;
            }
        };
        let command: Vec<String> = match crate::words::split(command) {
            Ok(tokens) => tokens.into_iter().map(|token| token.into_text()).collect(),
            Err(mistake) => {
                self.wrong(directive, &format!("{EXPECTED}; {mistake}"));
                return None;
            }
        };
        if command.is_empty() {
            self.wrong(directive, EXPECTED);
            return None;
        }
        Some(Script {
            command,
            user,
            group,
            location: directive.location.clone(),
        })
    }

    /// Reports that a directive's arguments are not what was expected.
    pub(crate) fn wrong(&mut self, directive: &Directive, expected: &str) {
        self.diagnostics.push(directive.expects(expected));
    }
}

fn switch(directive: &Directive) -> Result<bool, Diagnostic> {
    match directive.arguments.as_slice() {
        [] => Ok(true),
        [word] => match word.to_ascii_lowercase().as_str() {
            "on" | "true" | "yes" => Ok(true),
            "off" | "false" | "no" => Ok(false),
            _ => Err(directive.expects("on, off, true, false, yes or no")),
        },
        _ => Err(directive.expects("nothing or one of on, off, true, false, yes, no")),
    }
}
