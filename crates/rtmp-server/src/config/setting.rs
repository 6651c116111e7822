//! Tables of known directives: a table both reads a block and knows the words
//! that a misspelled one may have meant.

use std::borrow::Cow;
use std::collections::HashMap;

use conf_kit::text::shortened;
use conf_kit::{Diagnostic, Diagnostics, Directive, did_you_mean};

use super::value::body;

// Reasons why directives of SRS have no effect.
pub(super) const NO_OTHER_FILES: &str =
    "`dvr` records in FLV or MP4 files, and `hls` with `hls_path`";
pub(super) const NO_OTHER_PROTOCOL: &str = "Millrace speaks RTMP, HTTP-FLV and HLS only";

/// One directive that may stand in a block that configures a `T`.
pub(super) struct Setting<T> {
    name: &'static str,
    read: Reading<T>,
}

enum Reading<T> {
    Value(fn(&mut T, &Directive) -> Result<(), Diagnostic>),
    /// Any number of arguments.
    List(fn(&mut T, &Directive) -> Result<(), Diagnostic>),
    Block(fn(&mut T, &[Directive], &mut Diagnostics)),
    /// A name and a block.
    NamedBlock(fn(&mut T, &str, &[Directive], &mut Diagnostics)),
    /// Either of the two.
    ValueOrBlock(
        fn(&mut T, &Directive) -> Result<(), Diagnostic>,
        fn(&mut T, &[Directive], &mut Diagnostics),
    ),
    /// Any arguments, with a block or without.
    Any(fn(&mut T, &Directive, &mut Diagnostics)),
    /// Known from SRS but without effect here: a warning with this reason.
    Ignored(&'static str),
}

impl<T> Setting<T> {
    /// A directive of one argument, which is read by `read`. What stands behind
    /// it is left out with a warning: SRS looks at the first only, and its own
    /// samples have `;` missing.
    pub(super) const fn new(
        name: &'static str,
        read: fn(&mut T, &Directive) -> Result<(), Diagnostic>,
    ) -> Self {
        Self {
            name,
            read: Reading::Value(read),
        }
    }

    /// A directive of several arguments, which are read by `read`.
    pub(super) const fn list(
        name: &'static str,
        read: fn(&mut T, &Directive) -> Result<(), Diagnostic>,
    ) -> Self {
        Self {
            name,
            read: Reading::List(read),
        }
    }

    /// A directive without arguments, whose block is read by `read`.
    pub(super) const fn block(
        name: &'static str,
        read: fn(&mut T, &[Directive], &mut Diagnostics),
    ) -> Self {
        Self {
            name,
            read: Reading::Block(read),
        }
    }

    /// A directive of one argument, which is a name, whose block is read by `read`.
    pub(super) const fn named_block(
        name: &'static str,
        read: fn(&mut T, &str, &[Directive], &mut Diagnostics),
    ) -> Self {
        Self {
            name,
            read: Reading::NamedBlock(read),
        }
    }

    /// A directive whose arguments are read by `read` if it has no block, and
    /// whose block is read by `read_block` if it has one.
    pub(super) const fn value_or_block(
        name: &'static str,
        read: fn(&mut T, &Directive) -> Result<(), Diagnostic>,
        read_block: fn(&mut T, &[Directive], &mut Diagnostics),
    ) -> Self {
        Self {
            name,
            read: Reading::ValueOrBlock(read, read_block),
        }
    }

    /// A directive that `read` takes as it stands.
    pub(super) const fn any(
        name: &'static str,
        read: fn(&mut T, &Directive, &mut Diagnostics),
    ) -> Self {
        Self {
            name,
            read: Reading::Any(read),
        }
    }

    /// The same directive under another name.
    pub(super) const fn called(self, name: &'static str) -> Self {
        Self {
            name,
            read: self.read,
        }
    }

    /// True if this is the directive of that name.
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

/// Directives of one argument that set a field, one constant each.
macro_rules! settings {
    ($type:ty { $($row:ident: $name:literal, |$target:ident, $it:ident| $set:expr;)* }) => {
        $(const $row: Setting<$type> = Setting::new($name, |$target, $it| {
            $set;
            Ok(())
        });)*
    };
}

pub(super) use settings;

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
    diagnostics: &mut Diagnostics,
) {
    let mut seen: HashMap<(&str, Option<&str>), &Directive> = HashMap::new();
    for directive in directives {
        let keyword = directive.keyword.as_str();
        let Some(setting) = table.iter().find(|setting| setting.name == keyword) else {
            let names = table.iter().map(|setting| setting.name);
            let hint = did_you_mean(keyword, names);
            let keyword = shortened(keyword);
            let message = format!("unknown directive `{keyword}` {block}{hint}");
            diagnostics.error(&directive.location, message);
            continue;
        };
        let here = (keyword, directive.location.source());
        if let Some(earlier) = seen.insert(here, directive)
            && directive.location.has_line()
            && !repeatable.contains(&keyword)
            && !matches!(setting.read, Reading::Ignored(_))
        {
            let earlier = &earlier.location;
            let message = format!(
                "`{keyword}` was already given at {earlier}: this one holds, where SRS takes the \
                 first"
            );
            diagnostics.warn(&directive.location, message);
        }
        match (&setting.read, &directive.children) {
            (Reading::Value(_) | Reading::List(_), Some(_)) => {
                let message = format!("`{keyword}` takes no block; end it with `;`");
                diagnostics.error(&directive.location, message);
            }
            (Reading::Value(read), None) => {
                let directive = first_argument(directive, diagnostics);
                diagnostics.take(read(target, &directive));
            }
            (Reading::List(read) | Reading::ValueOrBlock(read, _), None) => {
                diagnostics.take(read(target, directive));
            }
            (Reading::Block(read) | Reading::ValueOrBlock(_, read), _) => {
                if let Some(children) = diagnostics.take(body(directive)) {
                    read(target, children, diagnostics);
                }
            }
            (Reading::NamedBlock(read), children) => {
                if let ([name], Some(children)) = (directive.arguments.as_slice(), children) {
                    read(target, name, children, diagnostics);
                } else {
                    let form = format!("`{keyword} NAME {{ … }}`");
                    let message = format!("`{keyword}` takes a name and a block: {form}");
                    diagnostics.error(&directive.location, message);
                }
            }
            (Reading::Any(read), _) => read(target, directive, diagnostics),
            (Reading::Ignored(why), _) => {
                let message = format!("`{keyword}` has no effect: {why}");
                diagnostics.warn(&directive.location, message);
            }
        }
    }
}

/// `directive` with one argument at most; a warning tells of the others.
fn first_argument<'a>(
    directive: &'a Directive,
    diagnostics: &mut Diagnostics,
) -> Cow<'a, Directive> {
    let [first, others @ ..] = directive.arguments.as_slice() else {
        return Cow::Borrowed(directive);
    };
    if others.is_empty() {
        return Cow::Borrowed(directive);
    }
    // What follows may be a secret.
    let (name, other) = (&directive.keyword, shortened(&others[0]));
    let message = format!(
        "`{name}` takes one word, and no effect has what begins with `{other}`: is a `;` missing?"
    );
    diagnostics.warn(&directive.location, message);
    let mut directive = directive.clone();
    directive.arguments = vec![first.clone()];
    Cow::Owned(directive)
}
