//! Kinds of argument that several keywords have.

use std::fmt::Display;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;

use conf_kit::Directive;
use lb_model::config::{Script, Seconds};
use net_types::Network;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::bounds::Bounds;
use crate::keyword::{Argument, Documentation, Meaning, Row};
use crate::names::name_of;
use crate::reader::Reader;
use crate::writer::Writer;

/// A word of the operator's choice.
pub(crate) struct Text;

impl Argument<Option<String>> for Text {
    fn read(&self, item: &Directive, reader: &mut Reader<'_>) -> Option<Option<String>> {
        reader.text(item).map(Some)
    }

    fn write(&self, keyword: &str, value: &Option<String>, out: &mut Writer) {
        out.text(keyword, value.as_ref());
    }

    fn placeholder(&self) -> String {
        "word".to_owned()
    }
}

/// A whole number within a range.
pub(crate) struct Number<N>(pub(crate) RangeInclusive<N>);

impl<N> Argument<Option<N>> for Number<N>
where
    N: FromStr + PartialOrd + Display + Copy + Serialize + Sync,
{
    fn read(&self, item: &Directive, reader: &mut Reader<'_>) -> Option<Option<N>> {
        reader.number(item, self.0.clone()).map(Some)
    }

    fn write(&self, keyword: &str, value: &Option<N>, out: &mut Writer) {
        out.value(keyword, *value);
    }

    fn check(&self, keyword: &str, value: &Option<N>, bounds: &mut Bounds<'_>) {
        bounds.within(keyword, *value, &self.0);
    }

    fn limit(&self, schema: &mut Map<String, Value>) {
        put_range(schema, &self.0);
    }

    fn placeholder(&self) -> String {
        shown_range(&self.0)
    }
}

/// A number that must be there.
impl<N> Argument<N> for Number<N>
where
    N: FromStr + PartialOrd + Display + Copy + Serialize + Sync,
    Self: Argument<Option<N>>,
{
    fn read(&self, item: &Directive, reader: &mut Reader<'_>) -> Option<N> {
        reader.number(item, self.0.clone())
    }

    fn write(&self, keyword: &str, value: &N, out: &mut Writer) {
        out.value(keyword, Some(*value));
    }

    fn check(&self, keyword: &str, value: &N, bounds: &mut Bounds<'_>) {
        bounds.within(keyword, Some(*value), &self.0);
    }

    fn limit(&self, schema: &mut Map<String, Value>) {
        <Self as Argument<Option<N>>>::limit(self, schema);
    }

    fn placeholder(&self) -> String {
        <Self as Argument<Option<N>>>::placeholder(self)
    }
}

/// A time span in seconds, fractions allowed.
pub(crate) enum Time {
    From0,
    /// 0 makes no sense.
    MoreThan0,
}

impl Argument<Option<Seconds>> for Time {
    fn read(&self, item: &Directive, reader: &mut Reader<'_>) -> Option<Option<Seconds>> {
        let time = match self {
            Self::From0 => reader.seconds(item),
            Self::MoreThan0 => reader.positive_seconds(item),
        };
        time.map(Some)
    }

    fn write(&self, keyword: &str, value: &Option<Seconds>, out: &mut Writer) {
        out.seconds(keyword, *value);
    }

    fn check(&self, keyword: &str, value: &Option<Seconds>, bounds: &mut Bounds<'_>) {
        if matches!(self, Self::MoreThan0) {
            bounds.positive(keyword, *value);
        }
    }

    fn limit(&self, schema: &mut Map<String, Value>) {
        if matches!(self, Self::MoreThan0) {
            schema.insert("exclusiveMinimum".to_owned(), json!(0));
        }
    }

    fn placeholder(&self) -> String {
        match self {
            Self::From0 => "seconds".to_owned(),
            Self::MoreThan0 => "seconds, more than 0".to_owned(),
        }
    }
}

/// `on` or `off`; the bare keyword means `on`.
pub(crate) struct Switch;

impl Argument<Option<bool>> for Switch {
    fn read(&self, item: &Directive, reader: &mut Reader<'_>) -> Option<Option<bool>> {
        reader.switch(item).map(Some)
    }

    fn write(&self, keyword: &str, value: &Option<bool>, out: &mut Writer) {
        out.switch(keyword, *value);
    }

    fn placeholder(&self) -> String {
        r"\[on\|off\]".to_owned()
    }
}

/// A switch that is off where nothing is said.
impl Argument<bool> for Switch {
    fn read(&self, item: &Directive, reader: &mut Reader<'_>) -> Option<bool> {
        reader.switch(item)
    }

    fn write(&self, keyword: &str, value: &bool, out: &mut Writer) {
        out.flag(keyword, *value);
    }

    fn placeholder(&self) -> String {
        <Self as Argument<Option<bool>>>::placeholder(self)
    }
}

/// No argument: the bare keyword turns something on.
pub(crate) struct Flag;

impl Argument<bool> for Flag {
    fn read(&self, _: &Directive, _: &mut Reader<'_>) -> Option<bool> {
        Some(true)
    }

    fn write(&self, keyword: &str, value: &bool, out: &mut Writer) {
        out.flag(keyword, *value);
    }

    fn placeholder(&self) -> String {
        String::new()
    }
}

/// An address without port.
pub(crate) struct Address;

impl Argument<Option<IpAddr>> for Address {
    fn read(&self, item: &Directive, reader: &mut Reader<'_>) -> Option<Option<IpAddr>> {
        reader.ip_address(item).map(Some)
    }

    fn write(&self, keyword: &str, value: &Option<IpAddr>, out: &mut Writer) {
        out.value(keyword, *value);
    }

    fn placeholder(&self) -> String {
        "address".to_owned()
    }
}

/// A network of one family. Only JSON is checked for the family.
pub(crate) enum NetworkOf {
    Ipv4,
    Ipv6,
}

impl Argument<Option<Network>> for NetworkOf {
    fn read(&self, item: &Directive, reader: &mut Reader<'_>) -> Option<Option<Network>> {
        reader.network(item).map(Some)
    }

    fn write(&self, keyword: &str, value: &Option<Network>, out: &mut Writer) {
        out.value(keyword, *value);
    }

    fn check(&self, keyword: &str, value: &Option<Network>, bounds: &mut Bounds<'_>) {
        let Some(network) = value else { return };
        let is_right = network.address().is_ipv4() == matches!(self, Self::Ipv4);
        let expected = format!("an {}", self.placeholder());
        bounds.holds(is_right, keyword, &network.to_string(), &expected);
    }

    fn placeholder(&self) -> String {
        match self {
            Self::Ipv4 => "IPv4 network".to_owned(),
            Self::Ipv6 => "IPv6 network".to_owned(),
        }
    }
}

/// A command, and perhaps the user and group to run it as.
pub(crate) struct Command;

impl Argument<Option<Script>> for Command {
    fn read(&self, item: &Directive, reader: &mut Reader<'_>) -> Option<Option<Script>> {
        reader.script(item).map(Some)
    }

    fn write(&self, keyword: &str, value: &Option<Script>, out: &mut Writer) {
        out.script(keyword, value.as_ref());
    }

    fn check(&self, keyword: &str, value: &Option<Script>, bounds: &mut Bounds<'_>) {
        bounds.script(keyword, value.as_ref());
    }

    fn placeholder(&self) -> String {
        r"command \[user \[group\]\]".to_owned()
    }
}

/// A command that must be there.
impl Argument<Script> for Command {
    fn read(&self, item: &Directive, reader: &mut Reader<'_>) -> Option<Script> {
        reader.script(item)
    }

    fn write(&self, keyword: &str, value: &Script, out: &mut Writer) {
        out.script(keyword, Some(value));
    }

    fn check(&self, keyword: &str, value: &Script, bounds: &mut Bounds<'_>) {
        bounds.script(keyword, Some(value));
    }

    fn placeholder(&self) -> String {
        <Self as Argument<Option<Script>>>::placeholder(self)
    }
}

/// One of a few words, of which `read` knows more than those that are written.
pub(crate) struct Choice<C: 'static> {
    pub(crate) names: &'static [(&'static str, C)],
    pub(crate) read: fn(&mut Reader<'_>, &Directive) -> Option<C>,
}

impl<C: Copy + PartialEq + Sync> Argument<Option<C>> for Choice<C> {
    fn read(&self, item: &Directive, reader: &mut Reader<'_>) -> Option<Option<C>> {
        (self.read)(reader, item).map(Some)
    }

    fn write(&self, keyword: &str, value: &Option<C>, out: &mut Writer) {
        out.value(keyword, value.map(|value| name_of(self.names, value)));
    }

    fn placeholder(&self) -> String {
        let names: Vec<&str> = self.names.iter().map(|(name, _)| *name).collect();
        names.join(r"\|")
    }
}

/// A choice that has a default, which is written, too.
impl<C: Copy + PartialEq + Sync> Argument<C> for Choice<C> {
    fn read(&self, item: &Directive, reader: &mut Reader<'_>) -> Option<C> {
        (self.read)(reader, item)
    }

    fn write(&self, keyword: &str, value: &C, out: &mut Writer) {
        out.value(keyword, Some(name_of(self.names, *value)));
    }

    fn placeholder(&self) -> String {
        <Self as Argument<Option<C>>>::placeholder(self)
    }
}

/// An argument with a reader and a writer of its own.
pub(crate) struct Own<V: 'static> {
    pub(crate) read: fn(&mut Reader<'_>, &Directive) -> Option<V>,
    pub(crate) write: fn(&mut Writer, &str, &V),
    pub(crate) check: fn(&mut Bounds<'_>, &str, &V),
    pub(crate) limits: &'static [(&'static str, u32)],
    pub(crate) placeholder: &'static str,
}

impl<V> Argument<V> for Own<V> {
    fn read(&self, item: &Directive, reader: &mut Reader<'_>) -> Option<V> {
        (self.read)(reader, item)
    }

    fn write(&self, keyword: &str, value: &V, out: &mut Writer) {
        (self.write)(out, keyword, value);
    }

    fn check(&self, keyword: &str, value: &V, bounds: &mut Bounds<'_>) {
        (self.check)(bounds, keyword, value);
    }

    fn limit(&self, schema: &mut Map<String, Value>) {
        for (name, limit) in self.limits {
            schema.insert((*name).to_owned(), json!(limit));
        }
    }

    fn placeholder(&self) -> String {
        self.placeholder.to_owned()
    }
}

/// A block of lines, each of which is an `I`.
pub(crate) struct Lines<I: 'static> {
    pub(crate) read: fn(&mut Reader<'_>, &Directive) -> Vec<I>,
    pub(crate) write: fn(&mut Writer, &I),
    pub(crate) check: fn(&mut Bounds<'_>, &str, &[I]),
}

impl<I> Argument<Vec<I>> for Lines<I> {
    fn read(&self, item: &Directive, reader: &mut Reader<'_>) -> Option<Vec<I>> {
        Some((self.read)(reader, item))
    }

    fn write(&self, keyword: &str, value: &Vec<I>, out: &mut Writer) {
        out.block_of(keyword, value, self.write);
    }

    fn check(&self, keyword: &str, value: &Vec<I>, bounds: &mut Bounds<'_>) {
        (self.check)(bounds, keyword, value);
    }

    fn placeholder(&self) -> String {
        "block of lines".to_owned()
    }
}

/// `weight N [reverse]`, which sets two fields.
pub(crate) struct Weight<T: 'static, N: 'static> {
    pub(crate) range: RangeInclusive<N>,
    pub(crate) get: fn(&T) -> (Option<N>, bool),
    pub(crate) set: fn(&mut T, (Option<N>, bool)),
}

const WEIGHT: &str = "weight";

impl<T, N> Row<T> for Weight<T, N>
where
    N: FromStr + PartialOrd + Display + Copy + Serialize + Sync,
{
    fn names(&self) -> Vec<&'static str> {
        vec![WEIGHT]
    }

    fn read(&self, target: &mut T, item: &Directive, reader: &mut Reader<'_>) -> bool {
        let is_called = item.keyword == WEIGHT;
        if is_called {
            (self.set)(target, reader.weight(item, &item.arguments, &self.range));
        }
        is_called
    }

    fn write(&self, target: &T, out: &mut Writer) {
        let (weight, reverse) = (self.get)(target);
        out.weight(weight, reverse);
    }

    fn check(&self, target: &T, bounds: &mut Bounds<'_>) {
        let (weight, reverse) = (self.get)(target);
        bounds.within(WEIGHT, weight, &self.range);
        bounds.reversible(WEIGHT, weight, reverse);
    }

    fn limit(&self, properties: &mut Map<String, Value>) {
        if let Some(Value::Object(schema)) = properties.get_mut(WEIGHT) {
            put_range(schema, &self.range);
        }
    }

    fn documentation(&self) -> Vec<Documentation> {
        vec![Documentation {
            names: &[WEIGHT],
            argument: format!(r"{} \[reverse\]", shown_range(&self.range)),
            meaning: Meaning::OfField(WEIGHT),
        }]
    }
}

fn put_range<N: Serialize>(schema: &mut Map<String, Value>, range: &RangeInclusive<N>) {
    schema.insert("minimum".to_owned(), json!(range.start()));
    schema.insert("maximum".to_owned(), json!(range.end()));
}

fn shown_range<N: Display>(range: &RangeInclusive<N>) -> String {
    format!("{} to {}", range.start(), range.end())
}

/// The check of values that cannot be out of bounds.
pub(crate) fn unbounded<V: ?Sized>(_: &mut Bounds<'_>, _: &str, _: &V) {}
