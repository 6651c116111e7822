//! Arguments that only SRS's grammar has.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use conf_kit::{Diagnostic, Directive};

/// `port` or `address:port`, each with a port that is not 0.
pub(super) fn socket_addresses(directive: &Directive) -> Result<Vec<SocketAddr>, Diagnostic> {
    let expected = "`port` or `address:port`, the port between 1 and 65535";
    let words = directive.words(expected)?;
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
        .ok_or_else(|| directive.expects(expected))
}

/// `on` or `off`.
pub(super) fn switch(directive: &Directive) -> Result<bool, Diagnostic> {
    const WORDS: [(&str, bool); 4] = [
        ("on", true),
        ("true", true),
        ("off", false),
        ("false", false),
    ];
    directive.choice(&WORDS, "`on` or `off`")
}

/// The directives of the block of a directive without arguments.
pub(super) fn body(directive: &Directive) -> Result<&[Directive], Diagnostic> {
    match (&directive.children, directive.arguments.as_slice()) {
        (Some(children), []) => Ok(children),
        _ => {
            let name = &directive.keyword;
            Err(directive.error(format!("`{name}` takes a block: `{name} {{ … }}`")))
        }
    }
}
