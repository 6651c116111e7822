//! Runs of the load generator.

use clap::Parser;
use rtmp_load::{Options, Report, run};

/// A second's run with a keyframe every half second.
pub(crate) fn report(url: &str, more: &str) -> Report {
    let fixed = "rtmp-load -t 1 --settle 1 --start-rate 100 --gop-seconds 0.5 --quiet";
    let words = fixed
        .split_whitespace()
        .chain(more.split_whitespace())
        .chain([url]);
    let options = Options::try_parse_from(words).expect("the words are options");
    run(&options).expect("the run takes place")
}
