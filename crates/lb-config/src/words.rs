//! One line of keepalived.conf, split into words and braces.

/// A piece of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Token {
    /// A word, quotes and escapes resolved.
    Word(String),
    /// `{`
    Open,
    /// `}`
    Close,
}

impl Token {
    /// The token as it would be written in a shell command.
    pub(crate) fn into_text(self) -> String {
        match self {
            Self::Word(word) => word,
            Self::Open => "{".to_owned(),
            Self::Close => "}".to_owned(),
        }
    }
}

/// A mistake in a line's quoting.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the quotation that {0} opens is not closed on this line")]
pub(crate) struct UnclosedQuote(char);

/// Splits a line (keepalived.conf(5), "Quoted strings").
///
/// Quotes may start within a word, as in a shell; inside them a backslash
/// escapes. A brace counts where it stands alone or ends a bare word, so that
/// `${NAME}` and a regular expression's `a{2}` stay whole.
///
/// # Errors
/// A quotation that is still open at the end of the line.
pub(crate) fn split(line: &str) -> Result<Vec<Token>, UnclosedQuote> {
    let mut tokens = Vec::new();
    let mut characters = line.chars().peekable();
    loop {
        while characters.next_if(|c| c.is_whitespace()).is_some() {}
        if characters.peek().is_none() {
            return Ok(tokens);
        }
        let mut word = String::new();
        let mut quoted = false;
        while let Some(c) = characters.next_if(|c| !c.is_whitespace()) {
            match c {
                '"' | '\'' => {
                    quoted = true;
                    read_quotation(c, &mut characters, &mut word)?;
                }
                _ => word.push(c),
            }
        }
        if quoted {
            tokens.push(Token::Word(word));
        } else {
            push_bare(&word, &mut tokens);
        }
    }
}

/// Cuts the comment off a line: from a `#` or `!` outside quotations on.
pub(crate) fn without_comment(line: &str) -> &str {
    let mut open: Option<char> = None;
    let mut escaped = false;
    for (at, c) in line.char_indices() {
        match open {
            _ if escaped => escaped = false,
            Some(_) if c == '\\' => escaped = true,
            Some(quote) if c == quote => open = None,
            Some(_) => {}
            None if c == '"' || c == '\'' => open = Some(c),
            None if c == '#' || c == '!' => return &line[..at],
            None => {}
        }
    }
    line
}

fn push_bare(word: &str, tokens: &mut Vec<Token>) {
    match word {
        "{" => tokens.push(Token::Open),
        "}" => tokens.push(Token::Close),
        _ => {
            if let Some(inner) = word.strip_suffix('{') {
                push_bare(inner, tokens);
                tokens.push(Token::Open);
            } else if let Some(rest) = word.strip_prefix('{').filter(|rest| !rest.contains('}')) {
                tokens.push(Token::Open);
                push_bare(rest, tokens);
            } else if word.ends_with('}') && !word.contains('{') {
                push_bare(&word[..word.len() - 1], tokens);
                tokens.push(Token::Close);
            } else {
                tokens.push(Token::Word(word.to_owned()));
            }
        }
    }
}

fn read_quotation(
    quote: char,
    characters: &mut std::iter::Peekable<std::str::Chars<'_>>,
    word: &mut String,
) -> Result<(), UnclosedQuote> {
    loop {
        match characters.next() {
            None => return Err(UnclosedQuote(quote)),
            Some(c) if c == quote => return Ok(()),
            Some('\\') => match characters.next() {
                None => return Err(UnclosedQuote(quote)),
                Some(escaped) => word.push(unescape(escaped, characters)),
            },
            Some(c) => word.push(c),
        }
    }
}

/// The character that a backslash and `escaped` stand for.
fn unescape(escaped: char, rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> char {
    match escaped {
        'a' => '\x07',
        'b' => '\x08',
        'E' => '\x1b',
        'f' => '\x0c',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\x0b',
        'c' => rest.next().map_or('c', |c| char::from(c as u8 & 0x1f)),
        'x' => numeric(rest, 16, usize::MAX, 0).unwrap_or('x'),
        '0'..='7' => numeric(rest, 8, 2, escaped as u32 - '0' as u32).unwrap_or(escaped),
        other => other,
    }
}

fn numeric(
    rest: &mut std::iter::Peekable<std::str::Chars<'_>>,
    radix: u32,
    digits: usize,
    start: u32,
) -> Option<char> {
    let mut value = start;
    for _ in 0..digits {
        let Some(c) = rest.next_if(|c| c.is_digit(radix)) else {
            break;
        };
        value = value.checked_mul(radix)?.checked_add(c.to_digit(radix)?)?;
    }
    char::from_u32(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        split(line)
            .expect("the line is well quoted")
            .into_iter()
            .map(|token| match token {
                Token::Word(word) => word,
                Token::Open => "<open>".to_owned(),
                Token::Close => "<close>".to_owned(),
            })
            .collect()
    }

    #[test]
    fn quotes_join_and_part_words_as_the_manual_says() {
        assert_eq!(words(r#"abcd" efg h jkl "mnop"#), ["abcd efg h jkl mnop"]);
        assert_eq!(
            words(r#"abcd "efg h jkl" mnop"#),
            ["abcd", "efg h jkl", "mnop"]
        );
        assert_eq!(words("notify '/a b' c"), ["notify", "/a b", "c"]);
        assert_eq!(words(r#"x """#), ["x", ""]);
    }

    #[test]
    fn escapes_inside_quotes_are_resolved() {
        assert_eq!(words(r#""a\"b\\c\tq\x41\101""#), ["a\"b\\c\tqAA"]);
    }

    #[test]
    fn an_open_quotation_is_an_error() {
        assert_eq!(split("auth_pass \"oops"), Err(UnclosedQuote('"')));
    }

    #[test]
    fn braces_count_alone_or_at_the_end_of_a_bare_word() {
        assert_eq!(
            words("real_server 10.0.0.1 80 {"),
            ["real_server", "10.0.0.1", "80", "<open>"]
        );
        assert_eq!(
            words("authentication{ auth_pass 1 }"),
            ["authentication", "<open>", "auth_pass", "1", "<close>"]
        );
        assert_eq!(words("weight 1}}"), ["weight", "1", "<close>", "<close>"]);
        assert_eq!(
            words("path ${UNSET} a{2} \"{\""),
            ["path", "${UNSET}", "a{2}", "{"]
        );
    }

    #[test]
    fn comments_start_anywhere_but_in_quotations() {
        assert_eq!(without_comment("! whole line"), "");
        assert_eq!(without_comment("weight 1 # share"), "weight 1 ");
        assert_eq!(
            without_comment(r#"auth_pass "a#b!c" ! secret"#),
            r#"auth_pass "a#b!c" "#
        );
    }
}
