//! Connections that break when directors behind a router (ECMP) come and go, after servers
//! have come and gone: with a second chance at the servers, and without.

use anyhow::Context as _;
use clap::Args;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use testbed::Ecmp;

/// What to measure.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// Connections, which the servers answer byte for byte
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(3..=28_000))]
    connections: u32,
    /// Directors at a time
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(2..=8))]
    directors: u8,
    /// Servers
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(3..=16))]
    servers: u8,
}

/// Measures, and prints what it saw.
///
/// # Errors
/// If the network could not be made, or a program did not do its part.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    // The client's ends are sockets of this process; each server has descriptors of its own.
    let wanted = u64::from(options.connections) + 1024;
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let most = most.max(wanted);
    setrlimit(Resource::RLIMIT_NOFILE, most, most)
        .context("too few descriptors: lower --connections, or raise the limit (ulimit -Hn)")?;
    println!(
        "{} directors, {} servers: one server added, one drained, then one director killed and \
         one added",
        options.directors, options.servers
    );
    for with_second_chance in [true, false] {
        let ecmp = Ecmp::new(options.directors + 1, options.servers)?;
        measure(&ecmp, options, with_second_chance).with_context(|| ecmp.logs())?;
    }
    Ok(())
}

fn measure(ecmp: &Ecmp, options: &Options, with_second_chance: bool) -> anyhow::Result<()> {
    ecmp.start_directors()?;
    if with_second_chance {
        ecmp.start_second_chance()?;
    }
    let mut connections = ecmp.change_everything(options.connections as usize)?;
    let broken = connections.broken();
    let all = connections.len();
    let percent = 100.0 * broken as f64 / all as f64;
    if with_second_chance {
        let passed_on = ecmp.passed_on()?;
        println!(
            "with a second chance:    {broken} of {all} broken ({percent:.1} %; goal 0); {passed_on} packets passed on"
        );
    } else {
        println!("without a second chance: {broken} of {all} broken ({percent:.1} %)");
    }
    Ok(())
}
