//! keepalived.conf as a tree of directives, before any of them has a meaning.

use conf_kit::{Diagnostics, Directive, Location};

use crate::expand::Line;
use crate::words::{Token, split};

/// Blocks within blocks; nothing that is known goes deeper than a few.
const MAX_DEPTH: usize = 32;

/// Builds the tree. Mistakes of structure are reported to `diagnostics`; what
/// could be understood is returned all the same, so that one run names them all.
pub(crate) fn parse(lines: &[Line], diagnostics: &mut Diagnostics) -> Vec<Directive> {
    let mut parser = Parser {
        open: Vec::new(),
        siblings: Vec::new(),
        too_deep: 0,
        diagnostics,
    };
    for line in lines {
        parser.line(line);
    }
    parser.finish()
}

struct Parser<'a> {
    /// Blocks that are open: the directive and its siblings so far.
    open: Vec<(Directive, Vec<Directive>)>,
    /// Directives of the innermost open block so far.
    siblings: Vec<Directive>,
    /// Blocks that are open below the deepest that is kept.
    too_deep: usize,
    diagnostics: &'a mut Diagnostics,
}

impl Parser<'_> {
    fn line(&mut self, line: &Line) {
        let location = &line.location;
        let tokens = match split(&line.text) {
            Ok(tokens) => tokens,
            Err(mistake) => {
                self.diagnostics.error(location, mistake.to_string());
                return;
            }
        };
        let mut current: Option<Directive> = None;
        for token in tokens {
            match (token, &mut current) {
                (Token::Word(word), Some(directive)) => directive.arguments.push(word),
                (Token::Word(keyword), None) => {
                    current = Some(Directive::leaf(&keyword, &[], location.clone()));
                }
                (Token::Open, _) => self.open(current.take(), location),
                (Token::Close, _) => {
                    self.siblings.extend(current.take());
                    self.close(location);
                }
            }
        }
        self.siblings.extend(current);
    }

    fn open(&mut self, directive: Option<Directive>, location: &Location) {
        if self.open.len() == MAX_DEPTH {
            if self.too_deep == 0 {
                let message = format!("blocks are nested more than {MAX_DEPTH} deep");
                self.diagnostics.error(location, message);
            }
            self.too_deep += 1;
            return;
        }
        // A brace on a line of its own belongs to the directive before it.
        let directive = directive.or_else(|| self.siblings.pop_if(|last| last.children.is_none()));
        match directive {
            Some(directive) => {
                let outer = std::mem::take(&mut self.siblings);
                self.open.push((directive, outer));
            }
            None => self
                .diagnostics
                .error(location, "`{` without a directive before it"),
        }
    }

    fn close(&mut self, location: &Location) {
        if self.too_deep > 0 {
            self.too_deep -= 1;
            return;
        }
        match self.open.pop() {
            Some((mut directive, outer)) => {
                directive.children = Some(std::mem::replace(&mut self.siblings, outer));
                self.siblings.push(directive);
            }
            None => self
                .diagnostics
                .error(location, "`}` without a block that it could close"),
        }
    }

    fn finish(mut self) -> Vec<Directive> {
        // The innermost is where the brace is most likely missing.
        if let Some((directive, _)) = self.open.last() {
            let message = format!(
                "the block of `{}` is never closed with `}}`",
                directive.keyword
            );
            let location = directive.location.clone();
            self.diagnostics.error(&location, message);
        }
        self.too_deep = 0;
        while !self.open.is_empty() {
            self.close(&Location::default());
        }
        self.siblings
    }
}
