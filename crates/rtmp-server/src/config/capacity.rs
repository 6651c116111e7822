//! `capacity` and `admission`: how much may be sent, and who is refused beyond it.

use conf_kit::{Diagnostic, Diagnostics, Directive};
use hyper::Uri;
use serde::Serialize;

use super::schema::Globals;
use super::setting::{Setting, apply};
use super::value::switch;

/// Part of the capacity that viewers may take unless `limit` says another, in percent.
const DEFAULT_LIMIT: f64 = 95.0;
/// Bit rate of a stream that nothing is known of yet, unless `reserve` says another.
const DEFAULT_RESERVE: u64 = 2_000_000;
/// The highest rate that can be set: 100 Tbit/s.
const MAX_RATE: u64 = 100_000_000_000_000;

/// What this server may send.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Capacity {
    /// What the interface with the default route can.
    #[default]
    Auto,
    /// What the interface of this name can.
    Interface(String),
    /// This process, bits per second.
    Rate(u64),
}

/// `admission { limit 95%; overflow URL …; … }`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Admission {
    /// `None`: wherever a `capacity` is set.
    pub enabled: Option<bool>,
    /// Part of the capacity beyond which no viewer is let in, in percent.
    pub limit: f64,
    /// Bit rate that a viewer is expected to take whose stream is not known yet, bit/s.
    pub reserve: u64,
    /// True if servers that pull streams are refused, too.
    pub relays: bool,
    /// True if publishers are refused, too.
    pub publishers: bool,
    /// Where viewers are sent that are not let in: one URL for each scheme.
    pub overflow: Vec<Overflow>,
}

impl Default for Admission {
    fn default() -> Self {
        Self {
            enabled: None,
            limit: DEFAULT_LIMIT,
            reserve: DEFAULT_RESERVE,
            relays: false,
            publishers: false,
            overflow: Vec::new(),
        }
    }
}

/// A server that takes viewers for whom there is no room: `scheme://host[:port]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Overflow {
    /// `rtmp`, `rtmps`, `http` or `https`.
    pub scheme: String,
    /// `host[:port]`.
    pub authority: String,
}

impl Overflow {
    fn parse(word: &str) -> Option<Self> {
        let uri: Uri = word.parse().ok()?;
        let scheme = uri.scheme_str()?;
        let authority = uri.authority()?;
        let is_known = matches!(scheme, "rtmp" | "rtmps" | "http" | "https");
        let is_bare = matches!(uri.path(), "" | "/") && uri.query().is_none();
        let is_host = !authority.host().is_empty() && !authority.as_str().contains('@');
        (is_known && is_bare && is_host).then(|| Self {
            scheme: scheme.to_owned(),
            authority: authority.to_string(),
        })
    }
}

impl Admission {
    /// The server for viewers by one of `schemes`, those named first preferred.
    #[must_use]
    pub fn overflow(&self, schemes: [&str; 2]) -> Option<&Overflow> {
        let by_scheme = |scheme| self.overflow.iter().find(|it| it.scheme == scheme);
        schemes.into_iter().find_map(by_scheme)
    }
}

/// Reads `capacity RATE`, `capacity INTERFACE` or `capacity auto`.
pub(super) fn capacity(globals: &mut Globals, directive: &Directive) -> Result<(), Diagnostic> {
    let expected = "a rate in bit/s such as `10g` or `400m`, the name of an interface, or `auto`";
    let word = directive.argument(expected)?;
    let capacity = match word {
        "auto" => Capacity::Auto,
        word if word.starts_with(|first: char| first.is_ascii_digit()) => {
            Capacity::Rate(rate(word).ok_or_else(|| directive.expects(expected))?)
        }
        name if is_interface(name) => Capacity::Interface(name.to_owned()),
        _ => return Err(directive.expects(expected)),
    };
    globals.config.capacity = Some(capacity);
    Ok(())
}

/// True for what can be the name of an interface (`dev_valid_name` of Linux).
fn is_interface(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'/' | b':');
    name.len() < 16 && name != "." && name != ".." && name.bytes().all(is_plain)
}

/// A rate in bit/s, with `k`, `m`, `g` or `t` for a thousand, a million and so on.
fn rate(word: &str) -> Option<u64> {
    let (number, factor) = match word.as_bytes().last()?.to_ascii_lowercase() {
        b'k' => (&word[..word.len() - 1], 1e3),
        b'm' => (&word[..word.len() - 1], 1e6),
        b'g' => (&word[..word.len() - 1], 1e9),
        b't' => (&word[..word.len() - 1], 1e12),
        _ => (word, 1.0),
    };
    let rate = number.parse::<f64>().ok()? * factor;
    (1.0..=MAX_RATE as f64)
        .contains(&rate)
        .then_some(rate as u64)
}

/// Reads `admission on;`, or `admission off;`.
pub(super) fn admission_switch(
    globals: &mut Globals,
    directive: &Directive,
) -> Result<(), Diagnostic> {
    globals.config.admission.enabled = Some(switch(directive)?);
    Ok(())
}

/// Reads `admission { … }`.
pub(super) fn admission(
    globals: &mut Globals,
    children: &[Directive],
    diagnostics: &mut Diagnostics,
) {
    apply(
        globals,
        children,
        ADMISSION,
        "in `admission`",
        &[],
        diagnostics,
    );
}

const ADMISSION: &[Setting<Globals>] = &[
    Setting::new("enabled", admission_switch),
    Setting::new("capacity", capacity),
    Setting::new("limit", |globals, directive| {
        let expected = "a part of the capacity such as `95%`";
        let word = directive.argument(expected)?;
        let number = word.strip_suffix('%').unwrap_or(word).parse().ok();
        let percent = number.filter(|percent| *percent > 0.0 && *percent <= 100.0);
        globals.config.admission.limit = percent.ok_or_else(|| directive.expects(expected))?;
        Ok(())
    }),
    Setting::new("reserve", |globals, directive| {
        let expected = "a rate in bit/s such as `2500k` or `4m`";
        let rate = rate(directive.argument(expected)?);
        globals.config.admission.reserve = rate.ok_or_else(|| directive.expects(expected))?;
        Ok(())
    }),
    Setting::new("relays", |globals, directive| {
        globals.config.admission.relays = switch(directive)?;
        Ok(())
    }),
    Setting::new("publishers", |globals, directive| {
        globals.config.admission.publishers = switch(directive)?;
        Ok(())
    }),
    Setting::list("overflow", |globals, directive| {
        let expected = "URLs without a path, one for each of `rtmp://`, `rtmps://`, `http://` and \
                        `https://` at most";
        let words = directive.words(expected)?;
        let read: Option<Vec<_>> = words.iter().map(|word| Overflow::parse(word)).collect();
        let mut urls = read.ok_or_else(|| directive.expects(expected))?;
        urls.sort_by(|one, other| one.scheme.cmp(&other.scheme));
        if urls.windows(2).any(|two| two[0].scheme == two[1].scheme) {
            return Err(directive.expects(expected));
        }
        globals.config.admission.overflow = urls;
        Ok(())
    }),
];

#[cfg(test)]
mod tests {
    use super::super::tests::mistakes;
    use super::super::{Config, Role, load};
    use super::*;

    fn config(text: &str) -> Config {
        load(text, Role::Origin).unwrap().config
    }

    #[test]
    fn a_capacity_is_a_rate_or_what_an_interface_can() {
        assert_eq!(config("").capacity, None);
        for (word, capacity) in [
            ("auto", Capacity::Auto),
            ("10g", Capacity::Rate(10_000_000_000)),
            ("2.5G", Capacity::Rate(2_500_000_000)),
            ("400m", Capacity::Rate(400_000_000)),
            ("64k", Capacity::Rate(64_000)),
            ("9000", Capacity::Rate(9_000)),
            ("bond0.7", Capacity::Interface("bond0.7".to_owned())),
        ] {
            let config = config(&format!("capacity {word};"));
            assert_eq!(config.capacity, Some(capacity), "{word}");
        }
    }

    #[test]
    fn an_admission_has_a_limit_and_a_place_for_those_beyond() {
        let config = config(
            "admission { capacity 1g; limit 90%; reserve 3m; relays on; \
             overflow rtmp://b:1936 https://b/; }",
        );
        assert_eq!(config.capacity, Some(Capacity::Rate(1_000_000_000)));
        let admission = &config.admission;
        assert_eq!((admission.enabled, admission.limit), (None, 90.0));
        assert_eq!((admission.reserve, admission.relays), (3_000_000, true));
        let sent_to = |schemes| {
            let overflow = admission.overflow(schemes);
            overflow.map(|it| format!("{}://{}", it.scheme, it.authority))
        };
        assert_eq!(sent_to(["rtmps", "rtmp"]).unwrap(), "rtmp://b:1936");
        assert_eq!(sent_to(["http", "https"]).unwrap(), "https://b");
        assert_eq!(
            self::config("admission off;").admission.enabled,
            Some(false)
        );
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, expected) in [
            ("capacity 10x;", "`capacity` expects a rate in bit/s"),
            ("capacity 0;", "`capacity` expects"),
            ("capacity a/b;", "`capacity` expects"),
            ("admission { limit 0%; }", "`limit` expects a part"),
            ("admission { limit 101; }", "`limit` expects a part"),
            ("admission { limits 95%; }", "did you mean `limit`"),
            ("admission { overflow b:1935; }", "`overflow` expects URLs"),
            (
                "admission { overflow rtmp://b/live; }",
                "`overflow` expects",
            ),
            (
                "admission { overflow rtmp://b rtmp://c; }",
                "`overflow` expects",
            ),
        ] {
            let mistakes = mistakes(text, Role::Origin);
            assert!(mistakes.contains(expected), "{text}: {mistakes}");
        }
    }
}
