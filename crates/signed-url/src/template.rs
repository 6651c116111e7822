//! The text that is signed.

use std::fmt;
use std::str::FromStr;

use crate::Request;

/// A part of the text that is signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    /// These characters.
    Text(String),
    /// `{key}`: the secret.
    Key,
    /// `{app}`: the application.
    App,
    /// `{stream}`: the stream, without suffix.
    Stream,
    /// `{uri}`: the path of the URL.
    Uri,
    /// `{expires}`: the time of expiry as the URL has it.
    Expires,
    /// `{remote_addr}`: the client's address.
    RemoteAddr,
}

/// The names of pieces between braces.
const NAMED: [(&str, Piece); 6] = [
    ("key", Piece::Key),
    ("app", Piece::App),
    ("stream", Piece::Stream),
    ("uri", Piece::Uri),
    ("expires", Piece::Expires),
    ("remote_addr", Piece::RemoteAddr),
];

/// The text that is signed, with places for what differs: `{key}{stream}{expires}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Piece>);

/// The reason for which a text is no template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A name that is none of the known ones.
    #[error(
        "there is no {{{0}}}: known are {{key}}, {{app}}, {{stream}}, {{uri}}, {{expires}} and {{remote_addr}}"
    )]
    Unknown(String),
    /// A brace without its partner.
    #[error("a brace is missing")]
    Unbalanced,
}

impl Template {
    pub(crate) fn of(pieces: impl IntoIterator<Item = Piece>) -> Self {
        Self(pieces.into_iter().collect())
    }

    /// True if the text has this piece.
    pub(crate) fn has(&self, piece: &Piece) -> bool {
        self.0.contains(piece)
    }

    /// The text for `request`, with this secret and this time of expiry.
    pub(crate) fn fill(&self, request: &Request<'_>, secret: &str, expires: &str) -> String {
        let mut text = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(characters) => text.push_str(characters),
                Piece::Key => text.push_str(secret),
                Piece::App => text.push_str(request.app),
                Piece::Stream => text.push_str(request.stream),
                Piece::Uri => text.push_str(request.uri),
                Piece::Expires => text.push_str(expires),
                // An IPv4 client of a dual-stack socket has an address such as
                // ::ffff:192.0.2.7.
                Piece::RemoteAddr => text.push_str(&request.remote_addr.to_canonical().to_string()),
            }
        }
        text
    }
}

impl FromStr for Template {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Self, TemplateError> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let (name, after) = after.split_once('}').ok_or(TemplateError::Unbalanced)?;
            push_text(&mut pieces, before)?;
            let named = NAMED.iter().find(|(known, _)| *known == name);
            let (_, piece) = named.ok_or_else(|| TemplateError::Unknown(name.to_owned()))?;
            pieces.push(piece.clone());
            rest = after;
        }
        push_text(&mut pieces, rest)?;
        Ok(Self(pieces))
    }
}

fn push_text(pieces: &mut Vec<Piece>, text: &str) -> Result<(), TemplateError> {
    if text.contains('}') {
        return Err(TemplateError::Unbalanced);
    }
    if !text.is_empty() {
        pieces.push(Piece::Text(text.to_owned()));
    }
    Ok(())
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|piece| match piece {
            Piece::Text(text) => f.write_str(text),
            named => {
                let name = NAMED.iter().find(|(_, it)| it == named);
                write!(f, "{{{}}}", name.map_or("", |(name, _)| name))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_printed_as_it_was_written() {
        for text in [
            "{key}{stream}{expires}",
            "/{app}/{stream}-{expires} {remote_addr}",
            "{uri}",
        ] {
            assert_eq!(text.parse::<Template>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_template_says_why() {
        for (text, error) in [
            ("{stream", TemplateError::Unbalanced),
            ("stream}", TemplateError::Unbalanced),
            ("{key}}", TemplateError::Unbalanced),
            ("{name}", TemplateError::Unknown("name".to_owned())),
            ("{}", TemplateError::Unknown(String::new())),
        ] {
            assert_eq!(text.parse::<Template>(), Err(error), "{text}");
        }
    }
}
