//! Lines that name what is tracked.

use std::fmt::Display;

use super::Writer;
use lb_model::config::{Tracked, TrackedFile, quoted};

impl Writer {
    pub(crate) fn tracked(&mut self, tracked: &Tracked) {
        let Tracked {
            name,
            weight,
            reverse,
        } = tracked;
        self.tracked_line(name, *weight, *reverse);
    }

    pub(crate) fn tracked_file(&mut self, tracked: &TrackedFile) {
        let TrackedFile {
            name,
            weight,
            reverse,
        } = tracked;
        self.tracked_line(name, *weight, *reverse);
    }

    fn tracked_line(&mut self, name: &str, weight: Option<i16>, reverse: bool) {
        let weight = weight.map(|weight| format!(" weight {}", directed(weight, reverse)));
        let name = quoted(name);
        self.line(format_args!("{name}{}", weight.unwrap_or_default()));
    }

    /// A weight, if there is one; without one there is nothing that could be
    /// reversed.
    pub(crate) fn weight<T: Display>(&mut self, weight: Option<T>, reverse: bool) {
        self.value("weight", weight.map(|weight| directed(weight, reverse)));
    }
}

fn directed<T: Display>(weight: T, reverse: bool) -> String {
    let direction = if reverse { " reverse" } else { "" };
    format!("{weight}{direction}")
}
