//! Tables of known directives: a table both reads a block and knows the words
//! that a misspelled one may have meant.

use std::collections::HashMap;

use super::directive::{Directive, Mistake, shortened};
use super::suggestion::did_you_mean;

/// One directive that may stand in a block that configures a `T`.
pub(super) struct Setting<T> {
    name: &'static str,
    read: Reading<T>,
}

type ReadValue<T> = fn(&mut T, &Directive) -> Result<(), Mistake>;
type ReadBlock<T> = fn(&mut T, &[Directive], &mut Findings);

enum Reading<T> {
    Value(ReadValue<T>),
    Block(ReadBlock<T>),
    /// Older configurations have arguments where newer ones have a block.
    Either(ReadValue<T>, ReadBlock<T>),
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
    /// A directive whose arguments are read by `read`.
    pub(super) const fn new(name: &'static str, read: ReadValue<T>) -> Self {
        Self {
            name,
            read: Reading::Value(read),
        }
    }

    /// A directive without arguments, whose block is read by `read`.
    pub(super) const fn block(name: &'static str, read: ReadBlock<T>) -> Self {
        Self {
            name,
            read: Reading::Block(read),
        }
    }

    /// A directive whose arguments are read by `value`, or whose block by
    /// `block`.
    pub(super) const fn either(
        name: &'static str,
        value: ReadValue<T>,
        block: ReadBlock<T>,
    ) -> Self {
        Self {
            name,
            read: Reading::Either(value, block),
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
/// messages. Only the names in `repeatable` may stand twice.
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
        let here = (directive.name.as_str(), &*directive.location.source);
        let earlier = seen.get(&here).copied();
        seen.entry(here).or_insert(directive);
        if let Some(earlier) = earlier
            && directive.location.line.is_some()
            && !repeatable.contains(&directive.name.as_str())
        {
            findings.mistakes.push(Mistake::new(
                &directive.location,
                format!(
                    "`{}` was already given at {}",
                    directive.name, earlier.location
                ),
            ));
            continue;
        }
        let Some(setting) = table.iter().find(|setting| setting.name == directive.name) else {
            let names = table.iter().map(|setting| setting.name);
            findings.mistakes.push(unknown(directive, block, names));
            continue;
        };
        let read = match (&setting.read, directive.body()) {
            (Reading::Ignored(why), _) => {
                findings.warnings.push(Mistake::new(
                    &directive.location,
                    format!("`{}` has no effect: {why}", directive.name),
                ));
                Ok(())
            }
            (Reading::Block(read) | Reading::Either(_, read), Ok(children)) => {
                read(target, children, findings);
                Ok(())
            }
            (Reading::Block(_), Err(mistake)) => Err(mistake),
            (Reading::Value(read) | Reading::Either(read, _), _) => read(target, directive),
        };
        findings.mistakes.extend(read.err());
    }
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
