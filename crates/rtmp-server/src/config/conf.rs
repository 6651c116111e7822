//! Reads SRS's `.conf` grammar: words, `;`, `{ … }`, `#` comments, quotes.

use std::sync::Arc;

use conf_kit::text::{NOT_UTF8, UNDECODABLE, shortened};
use conf_kit::{Diagnostic, Directive, Location};

/// Blocks deeper than this are no configuration that anyone wrote by hand.
const MAX_DEPTH: usize = 16;

#[derive(Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Semicolon,
    Open,
    Close,
}

/// Reads `text`, which messages call `source`, into its directives.
///
/// # Errors
/// The first place where the text does not follow the grammar.
pub fn parse(source: &str, text: &str) -> Result<Vec<Directive>, Diagnostic> {
    let source: Arc<str> = source.into();
    let tokens = tokenize(&source, text)?;
    let undecodable = tokens
        .iter()
        .find(|(token, _)| matches!(token, Token::Word(word) if word.contains(UNDECODABLE)));
    if let Some((_, line)) = undecodable {
        return Err(Diagnostic::error(&Location::line(&source, *line), NOT_UTF8));
    }
    let mut reader = Reader {
        source,
        tokens,
        next: 0,
    };
    reader.block(0, None)
}

fn tokenize(source: &Arc<str>, text: &str) -> Result<Vec<(Token, usize)>, Diagnostic> {
    let mut tokens = Vec::new();
    let mut line = 1;
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\n' => line += 1,
            '\u{feff}' => {}
            white if white.is_whitespace() => {}
            '#' => while characters.next_if(|&next| next != '\n').is_some() {},
            ';' => tokens.push((Token::Semicolon, line)),
            '{' => tokens.push((Token::Open, line)),
            '}' => tokens.push((Token::Close, line)),
            quote @ ('"' | '\'') => {
                let begun = line;
                let mut word = String::new();
                loop {
                    match characters.next() {
                        None => {
                            return Err(Diagnostic::error(
                                &Location::line(source, begun),
                                format!("the quoted word begun here has no closing {quote}"),
                            ));
                        }
                        Some(end) if end == quote => break,
                        Some('\\') => word.extend(characters.next()),
                        Some(other) => {
                            line += usize::from(other == '\n');
                            word.push(other);
                        }
                    }
                }
                tokens.push((Token::Word(word), begun));
            }
            first => {
                let mut word = String::from(first);
                while let Some(next) = characters
                    .next_if(|&next| !next.is_whitespace() && !matches!(next, ';' | '{' | '}'))
                {
                    word.push(next);
                }
                tokens.push((Token::Word(word), line));
            }
        }
    }
    Ok(tokens)
}

struct Reader {
    source: Arc<str>,
    tokens: Vec<(Token, usize)>,
    next: usize,
}

impl Reader {
    fn take(&mut self) -> Option<(Token, usize)> {
        let slot = self.tokens.get_mut(self.next)?;
        self.next += 1;
        let token = std::mem::replace(&mut slot.0, Token::Semicolon);
        Some((token, slot.1))
    }

    fn error(&self, line: usize, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(&Location::line(&self.source, line), message)
    }

    /// Reads directives up to the end of the block that `opened` began (its
    /// name and line), or up to the end of the text.
    fn block(
        &mut self,
        depth: usize,
        opened: Option<(&str, usize)>,
    ) -> Result<Vec<Directive>, Diagnostic> {
        if depth > MAX_DEPTH {
            let line = opened.map_or(1, |(_, line)| line);
            return Err(self.error(line, format!("blocks nest deeper than {MAX_DEPTH}")));
        }
        let mut directives = Vec::new();
        loop {
            match self.take() {
                None => {
                    return match opened {
                        None => Ok(directives),
                        Some((name, line)) => Err(self.error(
                            line,
                            format!("the block `{}` has no closing `}}`", shortened(name)),
                        )),
                    };
                }
                Some((Token::Close, line)) => {
                    return match opened {
                        Some(_) => Ok(directives),
                        None => Err(self.error(line, "a `}` without a block to close")),
                    };
                }
                // An empty directive, as after a block: harmless.
                Some((Token::Semicolon, _)) => {}
                Some((Token::Open, line)) => {
                    return Err(self.error(line, "a `{` without the name of a directive"));
                }
                Some((Token::Word(name), line)) => {
                    directives.push(self.directive(depth, name, line)?);
                }
            }
        }
    }

    fn directive(
        &mut self,
        depth: usize,
        name: String,
        line: usize,
    ) -> Result<Directive, Diagnostic> {
        let mut arguments = Vec::new();
        let children = loop {
            match self.take() {
                Some((Token::Word(argument), _)) => arguments.push(argument),
                Some((Token::Semicolon, _)) => break None,
                Some((Token::Open, opened)) => {
                    break Some(self.block(depth + 1, Some((&name, opened)))?);
                }
                Some((Token::Close, _)) | None => {
                    return Err(self.error(
                        line,
                        format!("`{}` is not ended by `;` or a block", shortened(&name)),
                    ));
                }
            }
        };
        Ok(Directive {
            keyword: name,
            arguments,
            children,
            location: Location::line(&self.source, line),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_blocks_comments_and_quotes_are_read() {
        let tree = parse(
            "x.conf",
            "listen 1935 19350; # two\nvhost 'a b' {\n  mr { enabled off; }\n  refer \"a\\\"b\";\n}\n",
        )
        .unwrap();
        assert_eq!(tree[0].arguments, ["1935", "19350"]);
        assert_eq!(tree[1].arguments, ["a b"]);
        assert_eq!(tree[1].location.to_string(), "x.conf:2");
        let children = tree[1].children.as_ref().unwrap();
        assert_eq!(children[0].children.as_ref().unwrap()[0].arguments, ["off"]);
        assert_eq!(children[1].arguments, ["a\"b"]);
        assert_eq!(children[1].location.to_string(), "x.conf:4");
    }

    #[test]
    fn each_break_of_the_grammar_names_its_line() {
        for (text, expected) in [
            (
                "listen 1935",
                "x.conf:1: `listen` is not ended by `;` or a block",
            ),
            (
                "\nvhost a {\n listen 1; ",
                "x.conf:2: the block `vhost` has no closing `}`",
            ),
            ("listen 1;\n}", "x.conf:2: a `}` without a block to close"),
            ("{", "x.conf:1: a `{` without the name of a directive"),
            (
                "pid 'x;\n",
                "x.conf:1: the quoted word begun here has no closing '",
            ),
        ] {
            assert_eq!(parse("x.conf", text).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn endless_nesting_is_refused() {
        let text = "a {".repeat(100_000);
        let mistake = parse("x.conf", &text).unwrap_err().to_string();
        assert!(mistake.contains("nest deeper than 16"), "{mistake}");
    }
}
