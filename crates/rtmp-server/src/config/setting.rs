//! Tables of known directives: a table both reads a block and knows the words
//! that a misspelled one may have meant.

use std::borrow::Cow;
use std::collections::HashMap;

use conf_kit::did_you_mean;

use super::directive::{Directive, Mistake, shortened};

/// One directive that may stand in a block that configures a `T`.
pub(super) struct Setting<T> {
    name: &'static str,
    read: Reading<T>,
}

enum Reading<T> {
    Value(fn(&mut T, &Directive) -> Result<(), Mistake>),
    /// Any number of arguments.
    List(fn(&mut T, &Directive) -> Result<(), Mistake>),
    Block(fn(&mut T, &[Directive], &mut Findings)),
    /// Either of the two.
    ValueOrBlock(
        fn(&mut T, &Directive) -> Result<(), Mistake>,
        fn(&mut T, &[Directive], &mut Findings),
    ),
    /// Known from SRS but without effect here: a warning with this reason.
    Ignored(&'static str),
}

/// What reading a configuration found besides the configuration.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) mistakes: Vec<Mistake>,
    pub(super) warnings: Vec<Mistake>,
}

impl<T> Setting<T> {
    /// A directive of one argument, which is read by `read`. What stands behind
    /// it is left out with a warning: SRS looks at the first only, and its own
    /// samples have `;` missing.
    pub(super) const fn new(
        name: &'static str,
        read: fn(&mut T, &Directive) -> Result<(), Mistake>,
    ) -> Self {
        Self {
            name,
            read: Reading::Value(read),
        }
    }

    /// A directive of several arguments, which are read by `read`.
    pub(super) const fn list(
        name: &'static str,
        read: fn(&mut T, &Directive) -> Result<(), Mistake>,
    ) -> Self {
        Self {
            name,
            read: Reading::List(read),
        }
    }

    /// A directive without arguments, whose block is read by `read`.
    pub(super) const fn block(
        name: &'static str,
        read: fn(&mut T, &[Directive], &mut Findings),
    ) -> Self {
        Self {
            name,
            read: Reading::Block(read),
        }
    }

    /// A directive whose arguments are read by `read` if it has no block, and
    /// whose block is read by `read_block` if it has one.
    pub(super) const fn value_or_block(
        name: &'static str,
        read: fn(&mut T, &Directive) -> Result<(), Mistake>,
        read_block: fn(&mut T, &[Directive], &mut Findings),
    ) -> Self {
        Self {
            name,
            read: Reading::ValueOrBlock(read, read_block),
        }
    }

    /// Whether this is the directive of that name.
    pub(super) fn is_called(&self, name: &str) -> bool {
        self.name == name
    }

    /// A directive of SRS that has no effect here, and why.
    pub(super) const fn ignored(name: &'static str, why: &'static str) -> Self {
        Self {
            name,
            read: Reading::Ignored(why),
        }
    }
}

/// Applies `directives` to `target` by `table`. `block` names the place in
/// messages. Of what stands twice the last holds, which is worth a warning; not
/// for the names in `repeatable`, nor for what has no effect: SRS has any number
/// of some of those (`ingest`, `stream_caster`).
pub(super) fn apply<T>(
    target: &mut T,
    directives: &[Directive],
    table: &[Setting<T>],
    block: &str,
    repeatable: &[&str],
    findings: &mut Findings,
) {
    let mut seen: HashMap<(&str, &str), &Directive> = HashMap::new();
    for directive in directives {
        let Some(setting) = table.iter().find(|setting| setting.name == directive.name) else {
            let names = table.iter().map(|setting| setting.name);
            findings.mistakes.push(unknown(directive, block, names));
            continue;
        };
        let here = (directive.name.as_str(), &*directive.location.source);
        if let Some(earlier) = seen.insert(here, directive)
            && directive.location.line.is_some()
            && !repeatable.contains(&directive.name.as_str())
            && !matches!(setting.read, Reading::Ignored(_))
        {
            findings.warnings.push(Mistake::new(
                &directive.location,
                format!(
                    "`{}` was already given at {}: this one holds, where SRS takes the first",
                    directive.name, earlier.location
                ),
            ));
        }
        match (&setting.read, &directive.children) {
            (Reading::Value(read), _) => {
                let directive = first_argument(directive, findings);
                if let Err(mistake) = read(target, &directive) {
                    findings.mistakes.push(mistake);
                }
            }
            (Reading::List(read), _) | (Reading::ValueOrBlock(read, _), None) => {
                if let Err(mistake) = read(target, directive) {
                    findings.mistakes.push(mistake);
                }
            }
            (Reading::Block(read) | Reading::ValueOrBlock(_, read), _) => match directive.body() {
                Ok(children) => read(target, children, findings),
                Err(mistake) => findings.mistakes.push(mistake),
            },
            (Reading::Ignored(why), _) => findings.warnings.push(Mistake::new(
                &directive.location,
                format!("`{}` has no effect: {why}", directive.name),
            )),
        }
    }
}

/// `directive` with one argument at most; a warning tells of the others.
fn first_argument<'a>(directive: &'a Directive, findings: &mut Findings) -> Cow<'a, Directive> {
    let [first, others @ ..] = directive.arguments.as_slice() else {
        return Cow::Borrowed(directive);
    };
    if others.is_empty() {
        return Cow::Borrowed(directive);
    }
    let (name, others) = (&directive.name, shortened(&others.join(" ")));
    findings.warnings.push(Mistake::new(
        &directive.location,
        format!("`{name}` takes one word, and `{others}` has no effect: is a `;` missing?"),
    ));
    let mut directive = directive.clone();
    directive.arguments = vec![first.clone()];
    Cow::Owned(directive)
}

/// The mistake of an unknown directive, with the nearest known word.
pub(super) fn unknown<'a>(
    directive: &Directive,
    block: &str,
    known: impl Iterator<Item = &'a str>,
) -> Mistake {
    let name = directive.name.as_str();
    let hint = did_you_mean(name, known);
    Mistake::new(
        &directive.location,
        format!("unknown directive `{}` {block}{hint}", shortened(name)),
    )
}
