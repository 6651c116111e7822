//! Reads a directive's arguments as the types that settings have.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use super::directive::{Directive, Mistake, shortened};
use super::model::DEFAULT_PORT;

impl Directive {
    fn mistake(&self, expected: &str) -> Mistake {
        let found = match self.arguments.as_slice() {
            [] => "nothing".to_owned(),
            words => format!("`{}`", shortened(&words.join(" "))),
        };
        Mistake::new(
            &self.location,
            format!("`{}` takes {expected}, not {found}", self.name),
        )
    }

    /// The single argument of a directive that has no block.
    pub(super) fn word(&self, expected: &str) -> Result<&str, Mistake> {
        match (self.arguments.as_slice(), &self.children) {
            ([word], None) => Ok(word),
            (_, None) => Err(self.mistake(expected)),
            (_, Some(_)) => Err(Mistake::new(
                &self.location,
                format!("`{}` takes {expected} and a `;`, not a block", self.name),
            )),
        }
    }

    /// One or more arguments.
    pub(super) fn words(&self, expected: &str) -> Result<&[String], Mistake> {
        match (self.arguments.as_slice(), &self.children) {
            ([], _) | (_, Some(_)) => Err(self.mistake(expected)),
            (words, None) => Ok(words),
        }
    }

    /// `on` or `off`.
    pub(super) fn switch(&self) -> Result<bool, Mistake> {
        match self.word("`on` or `off`")? {
            "on" | "true" => Ok(true),
            "off" | "false" => Ok(false),
            _ => Err(self.mistake("`on` or `off`")),
        }
    }

    /// A whole number within `range`.
    pub(super) fn number(&self, range: RangeInclusive<u32>) -> Result<u32, Mistake> {
        self.number_of("", range)
    }

    fn number_of(&self, unit: &str, range: RangeInclusive<u32>) -> Result<u32, Mistake> {
        let expected = format!(
            "a number{unit} between {} and {}",
            range.start(),
            range.end()
        );
        let number = self.word(&expected)?.parse().ok();
        number
            .filter(|number| range.contains(number))
            .ok_or_else(|| self.mistake(&expected))
    }

    /// A time in milliseconds within `range`.
    pub(super) fn milliseconds(&self, range: RangeInclusive<u32>) -> Result<Duration, Mistake> {
        let number = self.number_of(" of milliseconds", range)?;
        Ok(Duration::from_millis(number.into()))
    }

    /// A time in seconds within `range`; fractions are read.
    pub(super) fn seconds(&self, range: RangeInclusive<u32>) -> Result<Duration, Mistake> {
        let expected = format!(
            "a number of seconds between {} and {}",
            range.start(),
            range.end()
        );
        let bounds = f64::from(*range.start())..=f64::from(*range.end());
        let number: Option<f64> = self.word(&expected)?.parse().ok();
        number
            .filter(|number| bounds.contains(number))
            .map(Duration::from_secs_f64)
            .ok_or_else(|| self.mistake(&expected))
    }

    /// `port` or `address:port`, each with a port that is not 0.
    pub(super) fn socket_addresses(&self) -> Result<Vec<SocketAddr>, Mistake> {
        let expected = "`port` or `address:port`, the port between 1 and 65535";
        let words = self.words(expected)?;
        let read = |word: &String| {
            let port = word
                .parse()
                .map(|port| SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port));
            port.or_else(|_| word.parse())
                .ok()
                .filter(|address| address.port() != 0)
        };
        words
            .iter()
            .map(read)
            .collect::<Option<_>>()
            .ok_or_else(|| self.mistake(expected))
    }

    /// One or more `host` or `host:port`, as `host:port`.
    pub(super) fn hosts(&self) -> Result<Vec<String>, Mistake> {
        let expected = "one or several `host` or `host:port`";
        let words = self.words(expected)?;
        let read = |word: &String| {
            if let Ok(address) = word.parse::<IpAddr>() {
                return Some(SocketAddr::new(address, DEFAULT_PORT).to_string());
            }
            let (host, port) = match word.rsplit_once(':') {
                Some((host, port)) => (host, port.parse().ok().filter(|&port: &u16| port != 0)?),
                None => (word.as_str(), DEFAULT_PORT),
            };
            let bare = host
                .strip_prefix('[')
                .and_then(|host| host.strip_suffix(']'));
            let plausible = match bare {
                Some(address) => address.parse::<Ipv6Addr>().is_ok(),
                None => !host.is_empty() && !host.contains([':', '/', '[', ']']),
            };
            plausible.then(|| format!("{host}:{port}"))
        };
        words
            .iter()
            .map(read)
            .collect::<Option<_>>()
            .ok_or_else(|| self.mistake(expected))
    }

    /// The directives of the block of a directive without arguments.
    pub(super) fn body(&self) -> Result<&[Directive], Mistake> {
        match (&self.children, self.arguments.as_slice()) {
            (Some(children), []) => Ok(children),
            _ => Err(Mistake::new(
                &self.location,
                format!("`{name}` takes a block: `{name} {{ … }}`", name = self.name),
            )),
        }
    }
}
