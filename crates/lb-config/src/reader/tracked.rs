//! `track_file`, and the lines that name what a virtual router
//! or a sync group tracks.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

use super::Reader;
use crate::vocabulary::TRACKED;
use conf_kit::Directive;
use lb_model::config::{InitFile, Tracked, TrackedFile, bounds};

impl Reader<'_> {
    /// `[VALUE] [overwrite]`
    pub(crate) fn init_file(&mut self, item: &Directive) -> Option<InitFile> {
        let (value, rest) = match item.arguments.split_first() {
            Some((word, rest)) if word != "overwrite" => (word.parse().ok(), rest),
            _ => (Some(0), item.arguments.as_slice()),
        };
        let overwrite = match rest {
            [] => Some(false),
            [word] if word == "overwrite" => Some(true),
            _ => None,
        };
        let (Some(value), Some(overwrite)) = (value, overwrite) else {
            self.wrong(item, "a whole number and perhaps `overwrite`");
            return None;
        };
        Some(InitFile { value, overwrite })
    }

    /// Interfaces or scripts: lines of `NAME [weight N [reverse]]`.
    pub(crate) fn tracked(&mut self, block: &Directive) -> Vec<Tracked> {
        let lines = self.tracked_within(block, &bounds::TRACKED_WEIGHT);
        let tracked = lines.map(|(name, weight, reverse)| Tracked {
            name,
            weight,
            reverse,
        });
        tracked.collect()
    }

    /// Files: lines of `NAME [weight N [reverse]]`.
    pub(crate) fn tracked_files(&mut self, block: &Directive) -> Vec<TrackedFile> {
        let lines = self.tracked_within(block, &bounds::TRACKED_FILE_WEIGHT);
        let tracked = lines.map(|(name, weight, reverse)| TrackedFile {
            name,
            weight,
            reverse,
        });
        tracked.collect()
    }

    fn tracked_within(
        &mut self,
        block: &Directive,
        range: &RangeInclusive<i16>,
    ) -> impl Iterator<Item = (String, Option<i16>, bool)> + use<> {
        let mut list = Vec::new();
        for item in self.block(block) {
            let (weight, reverse) = match item.arguments.split_first() {
                None => (None, false),
                Some((word, rest)) if word == "weight" => self.weight(item, rest, range),
                Some((word, _)) => {
                    self.word_not_served(&item.location, word, &TRACKED);
                    continue;
                }
            };
            list.push((item.keyword.clone(), weight, reverse));
        }
        list.into_iter()
    }

    /// `N [reverse|noreverse]`
    pub(crate) fn weight<T>(
        &mut self,
        item: &Directive,
        words: &[String],
        range: &RangeInclusive<T>,
    ) -> (Option<T>, bool)
    where
        T: FromStr + PartialOrd + Display,
    {
        let number = |word: &String| word.parse().ok().filter(|n| range.contains(n));
        let weight = match words {
            [word] => number(word).map(|weight| (weight, false)),
            [word, direction] => match direction.as_str() {
                "reverse" => number(word).map(|weight| (weight, true)),
                "noreverse" | "no_reverse" => number(word).map(|weight| (weight, false)),
                _ => None,
            },
            _ => None,
        };
        match weight {
            Some((weight, reverse)) => (Some(weight), reverse),
            None => {
                let range = format!("{} to {}", range.start(), range.end());
                self.wrong(
                    item,
                    &format!("a weight from {range} and perhaps `reverse`"),
                );
                (None, false)
            }
        }
    }
}
