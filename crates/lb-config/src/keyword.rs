//! Keyword tables: one row for each keyword of a block.
//!
//! A row names the keyword, the field of the model and the kind of argument. Reader,
//! writer, bounds (of JSON, too), limits of the JSON Schema and the tables of
//! docs/configuration.md all go through the rows of a block. The meaning of a keyword
//! is the documentation of the model's field.

use conf_kit::Directive;
use serde_json::{Map, Value};

use crate::bounds::Bounds;
use crate::reader::Reader;
use crate::vocabulary::{NotServed, Vocabulary};
use crate::writer::Writer;

/// The keywords that may stand in one kind of block, which configures a `T`.
pub(crate) struct Block<T: 'static> {
    /// Their place, as the end of a sentence.
    pub(crate) place: &'static str,
    /// Keywords that are served, in the order in which they are written.
    pub(crate) rows: &'static [&'static [&'static dyn Row<T>]],
    /// Keywords that keepalived knows and Millrace does not act upon.
    pub(crate) not_served: &'static [NotServed],
}

impl<T> Vocabulary for Block<T> {
    fn place(&self) -> &'static str {
        self.place
    }

    fn served(&self) -> Vec<&'static str> {
        self.rows().flat_map(|row| row.names()).collect()
    }

    fn not_served(&self) -> &'static [NotServed] {
        self.not_served
    }
}

impl<T> Block<T> {
    /// The rows, in the order in which they are written.
    pub(crate) fn rows(&self) -> impl Iterator<Item = &'static dyn Row<T>> {
        self.rows.iter().copied().flatten().copied()
    }

    /// Reads a directive; false if no row knows its keyword.
    pub(crate) fn read(&self, target: &mut T, item: &Directive, reader: &mut Reader<'_>) -> bool {
        self.rows().any(|row| row.read(target, item, reader))
    }

    /// Writes all directives of the block.
    pub(crate) fn write(&self, target: &T, out: &mut Writer) {
        self.rows().for_each(|row| row.write(target, out));
    }

    /// Reports every value that is out of bounds.
    pub(crate) fn check(&self, target: &T, bounds: &mut Bounds<'_>) {
        self.rows().for_each(|row| row.check(target, bounds));
    }

    /// Puts the limits of the values into the properties of the block's JSON Schema.
    pub(crate) fn limit(&self, properties: &mut Map<String, Value>) {
        self.rows().for_each(|row| row.limit(properties));
    }
}

/// One keyword, or several that belong together.
pub(crate) trait Row<T>: Sync {
    /// The keywords.
    fn names(&self) -> Vec<&'static str>;

    /// Reads a directive; false if its keyword is not of this row.
    fn read(&self, target: &mut T, item: &Directive, reader: &mut Reader<'_>) -> bool;

    fn write(&self, target: &T, out: &mut Writer);

    fn check(&self, _target: &T, _bounds: &mut Bounds<'_>) {}

    fn limit(&self, _properties: &mut Map<String, Value>) {}

    /// The rows of the tables in the documents.
    fn documentation(&self) -> Vec<Documentation> {
        Vec::new()
    }
}

/// A keyword as the documents show it.
pub(crate) struct Documentation {
    /// All its names.
    pub(crate) names: &'static [&'static str],
    /// Kind of argument.
    pub(crate) argument: String,
    pub(crate) meaning: Meaning,
}

/// Meaning of a keyword.
pub(crate) enum Meaning {
    /// The description of a field in the JSON Schema.
    OfField(&'static str),
    Given(&'static str),
}

/// Kind of argument that a field of type `V` is written with.
pub(crate) trait Argument<V>: Sync {
    /// Reads a directive's arguments, or reports what is wrong with them.
    fn read(&self, item: &Directive, reader: &mut Reader<'_>) -> Option<V>;

    /// Writes the directive, unless `value` is what holds without it.
    fn write(&self, keyword: &str, value: &V, out: &mut Writer);

    /// Reports a value that is out of bounds.
    fn check(&self, _keyword: &str, _value: &V, _bounds: &mut Bounds<'_>) {}

    /// Puts the bounds into the JSON Schema of the value.
    fn limit(&self, _schema: &mut Map<String, Value>) {}

    /// The argument as the documents show it.
    fn placeholder(&self) -> String;
}

/// A keyword that sets a field.
pub(crate) struct Field<T: 'static, V: 'static> {
    /// The first name is written, all are read.
    pub(crate) names: &'static [&'static str],
    /// Name of the field in JSON.
    pub(crate) field: &'static str,
    pub(crate) get: fn(&T) -> &V,
    pub(crate) get_mut: fn(&mut T) -> &mut V,
    pub(crate) argument: &'static dyn Argument<V>,
}

impl<T, V> Row<T> for Field<T, V> {
    fn names(&self) -> Vec<&'static str> {
        self.names.to_vec()
    }

    fn read(&self, target: &mut T, item: &Directive, reader: &mut Reader<'_>) -> bool {
        let is_called = self.names.contains(&item.keyword.as_str());
        if is_called && let Some(value) = self.argument.read(item, reader) {
            *(self.get_mut)(target) = value;
        }
        is_called
    }

    fn write(&self, target: &T, out: &mut Writer) {
        self.argument.write(self.names[0], (self.get)(target), out);
    }

    fn check(&self, target: &T, bounds: &mut Bounds<'_>) {
        self.argument
            .check(self.names[0], (self.get)(target), bounds);
    }

    fn limit(&self, properties: &mut Map<String, Value>) {
        if let Some(Value::Object(schema)) = properties.get_mut(self.field) {
            self.argument.limit(schema);
        }
    }

    fn documentation(&self) -> Vec<Documentation> {
        vec![Documentation {
            names: self.names,
            argument: self.argument.placeholder(),
            meaning: Meaning::OfField(self.field),
        }]
    }
}

/// Keywords of a structure in a field.
pub(crate) struct Nested<T: 'static, U: 'static> {
    pub(crate) get: fn(&T) -> &U,
    pub(crate) get_mut: fn(&mut T) -> &mut U,
    pub(crate) rows: &'static [&'static dyn Row<U>],
    /// True if several blocks have them, which have a table of their own in the documents.
    pub(crate) is_shared: bool,
}

impl<T, U> Row<T> for Nested<T, U> {
    fn names(&self) -> Vec<&'static str> {
        self.rows.iter().flat_map(|row| row.names()).collect()
    }

    fn read(&self, target: &mut T, item: &Directive, reader: &mut Reader<'_>) -> bool {
        let inner = (self.get_mut)(target);
        self.rows.iter().any(|row| row.read(inner, item, reader))
    }

    fn write(&self, target: &T, out: &mut Writer) {
        let inner = (self.get)(target);
        self.rows.iter().for_each(|row| row.write(inner, out));
    }

    fn check(&self, target: &T, bounds: &mut Bounds<'_>) {
        let inner = (self.get)(target);
        self.rows.iter().for_each(|row| row.check(inner, bounds));
    }

    fn limit(&self, properties: &mut Map<String, Value>) {
        self.rows.iter().for_each(|row| row.limit(properties));
    }

    fn documentation(&self) -> Vec<Documentation> {
        if self.is_shared {
            return Vec::new();
        }
        let rows = self.rows.iter();
        rows.flat_map(|row| row.documentation()).collect()
    }
}

/// Keywords that the block's own code reads and writes, without a row in the documents.
pub(crate) struct ByHand(pub(crate) &'static [&'static str]);

impl<T> Row<T> for ByHand {
    fn names(&self) -> Vec<&'static str> {
        self.0.to_vec()
    }

    fn read(&self, _: &mut T, _: &Directive, _: &mut Reader<'_>) -> bool {
        false
    }

    fn write(&self, _: &T, _: &mut Writer) {}
}

/// A keyword that the block's own code reads and writes, as the documents show it.
pub(crate) struct Explained {
    pub(crate) names: &'static [&'static str],
    pub(crate) argument: &'static str,
    pub(crate) meaning: &'static str,
}

impl<T> Row<T> for Explained {
    fn names(&self) -> Vec<&'static str> {
        self.names.to_vec()
    }

    fn read(&self, _: &mut T, _: &Directive, _: &mut Reader<'_>) -> bool {
        false
    }

    fn write(&self, _: &T, _: &mut Writer) {}

    fn documentation(&self) -> Vec<Documentation> {
        vec![Documentation {
            names: self.names,
            argument: self.argument.to_owned(),
            meaning: Meaning::Given(self.meaning),
        }]
    }
}

/// The rows of fields: `Type { field: argument, [names] field: argument }`. Without
/// names the keyword is called like the field.
macro_rules! rows {
    ($type:ty { $($([$($name:literal),+])? $field:ident: $argument:expr),* $(,)? }) => {
        &[$(
            &$crate::keyword::Field::<$type, _> {
                names: rows!(@names $([$($name),+])? $field),
                field: stringify!($field),
                get: |it| &it.$field,
                get_mut: |it| &mut it.$field,
                argument: &$argument,
            } as &dyn $crate::keyword::Row<$type>,
        )*]
    };
    (@names $field:ident) => { &[stringify!($field)] };
    (@names [$($name:literal),+] $field:ident) => { &[$($name),+] };
}

/// A row for the keywords of the structure in a field.
macro_rules! nested {
    ($type:ty, $field:ident: $rows:expr) => {
        &[&$crate::keyword::Nested::<$type, _> {
            get: |it| &it.$field,
            get_mut: |it| &mut it.$field,
            rows: $rows,
            is_shared: true,
        } as &dyn $crate::keyword::Row<$type>]
    };
}

pub(crate) use {nested, rows};
