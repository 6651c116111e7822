//! Values that JSON can give and keepalived.conf cannot: the reader of keepalived.conf
//! keeps to the same bounds keyword by keyword, where it can name the line.

use std::fmt::Display;
use std::ops::RangeInclusive;

use conf_kit::{Diagnostics, Location};
use lb_model::config::{Route, Script, Seconds, Tracked, TrackedFile, VirtualIpAddress, bounds};

/// Checks the numbers of one block.
pub(crate) struct Bounds<'a> {
    what: String,
    location: &'a Location,
    diagnostics: &'a mut Diagnostics,
}

impl<'a> Bounds<'a> {
    pub(crate) fn of(
        what: impl Into<String>,
        location: &'a Location,
        diagnostics: &'a mut Diagnostics,
    ) -> Self {
        Self {
            what: what.into(),
            location,
            diagnostics,
        }
    }

    pub(crate) fn addresses<'i>(
        &mut self,
        addresses: impl IntoIterator<Item = &'i VirtualIpAddress>,
    ) {
        for address in addresses {
            let widest = if address.address.is_ipv4() { 32 } else { 128 };
            self.within("prefix", address.prefix, &(0..=widest));
            let label = address.label.as_deref().unwrap_or_default();
            let expected = format!("at most {} bytes", bounds::MAX_LABEL_BYTES);
            let fits = label.len() <= bounds::MAX_LABEL_BYTES;
            self.holds(fits, "label", label, &expected);
        }
    }

    pub(crate) fn routes(&mut self, routes: &[Route]) {
        for route in routes {
            let widest = if route.address.is_ipv4() { 32 } else { 128 };
            self.within("prefix", route.prefix, &(0..=widest));
            self.within("table", route.table, &bounds::ROUTING_TABLE);
            for hop in &route.nexthop {
                self.within("weight", hop.weight, &bounds::NEXT_HOP_WEIGHT);
            }
        }
    }

    pub(crate) fn name(&mut self, name: &str) {
        self.holds(!name.is_empty(), "name", "empty", "a name");
    }

    pub(crate) fn positive(&mut self, word: &str, seconds: Option<Seconds>) {
        if let Some(seconds) = seconds {
            let given = format!("{} s", seconds.0.as_secs_f64());
            let expected = bounds::MORE_THAN_0_SECONDS;
            self.holds(bounds::is_positive(seconds), word, &given, expected);
        }
    }

    pub(crate) fn within<T>(&mut self, word: &str, number: Option<T>, range: &RangeInclusive<T>)
    where
        T: Display + PartialOrd,
    {
        if let Some(number) = number {
            let expected = bounds::words(range);
            self.holds(
                range.contains(&number),
                word,
                &number.to_string(),
                &expected,
            );
        }
    }

    pub(crate) fn tracked(&mut self, word: &str, list: &[Tracked]) {
        for tracked in list {
            let word = format!("{word} {}", tracked.name);
            self.within(&word, tracked.weight, &bounds::TRACKED_WEIGHT);
            self.reversible(&word, tracked.weight, tracked.reverse);
        }
    }

    pub(crate) fn tracked_files(&mut self, list: &[TrackedFile]) {
        for tracked in list {
            let word = format!("track_file {}", tracked.name);
            self.within(&word, tracked.weight, &bounds::TRACKED_FILE_WEIGHT);
            self.reversible(&word, tracked.weight, tracked.reverse);
        }
    }

    pub(crate) fn reversible<T>(&mut self, word: &str, weight: Option<T>, reverse: bool) {
        let right = weight.is_some() || !reverse;
        self.holds(
            right,
            word,
            "reversed without a weight",
            "`weight` beside `reverse`",
        );
    }

    pub(crate) fn script(&mut self, word: &str, script: Option<&Script>) {
        let Some(script) = script else { return };
        self.holds(!script.command.is_empty(), word, "empty", "a command");
        let right = script.group.is_none() || script.user.is_some();
        self.holds(
            right,
            word,
            "with a group but no user",
            "a user before the group",
        );
    }

    pub(crate) fn holds(&mut self, holds: bool, word: &str, given: &str, expected: &str) {
        if !holds {
            let message = format!("{}: `{word}` is {given}; expected {expected}", self.what);
            self.diagnostics.error(self.location, message);
        }
    }
}
