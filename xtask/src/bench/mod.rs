//! `cargo xtask bench`: measurements, not tests. They print what they saw and
//! what was to be reached, and fail only if they could not measure.

mod browser;
mod checks;
mod ecmp;
mod goal;
mod kernel_tls;
mod load;
mod process;
mod rtmp;
mod scrape;
mod setup;
mod standby;
mod start;
mod upgrade;
mod viewers;
mod xdp;

use clap::Subcommand;

/// What can be measured.
#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// How far a browser is behind the publisher.
    Browser(browser::Options),
    /// What it costs to check many servers on one core, and whether the checks
    /// come in time.
    Checks(checks::Options),
    /// How many connections break when directors behind ECMP come and go, with a second
    /// chance and without.
    Ecmp(ecmp::Options),
    /// What TLS costs in Debian's kernels, in instructions per byte, beside TLS in
    /// user space, none, and nginx.
    KernelTls(kernel_tls::Options),
    /// How full edges of several speeds become before a viewer is refused, and how soon
    /// directors react to a load.
    Load(load::Options),
    /// What the RTMP servers cost per megabyte and player, and how fast they
    /// are, against nginx-rtmp and a bare sendfile loop.
    Rtmp(rtmp::Options),
    /// From the start of each program to "ready".
    Start(start::Options),
    /// What a scrape of `/metrics` costs, and whether players notice.
    Scrape(scrape::Options),
    /// How long viewers see no new picture when the publisher fails and a standby takes
    /// its place.
    Standby(standby::Options),
    /// How long players see no new picture when the servers become another program.
    Upgrade(upgrade::Options),
    /// What viewers by HTTP-FLV, WebSocket-FLV and HLS cost beside players of
    /// RTMP, and beside nginx that serves the same files.
    Viewers(viewers::Options),
    /// What a packet costs in XDP, against programs that do the least that any
    /// must.
    Xdp(xdp::Options),
    /// The bare sendfile loop that `rtmp` compares with.
    #[command(hide = true)]
    RtmpFloor(rtmp::floor::Options),
}

/// Measures.
///
/// # Errors
/// If that was not possible.
pub(crate) fn run(bench: &Bench) -> anyhow::Result<()> {
    match bench {
        Bench::Browser(options) => browser::run(options),
        Bench::Checks(options) => checks::run(options),
        Bench::Ecmp(options) => ecmp::run(options),
        Bench::KernelTls(options) => kernel_tls::run(options),
        Bench::Load(options) => load::run(options),
        Bench::Rtmp(options) => rtmp::run(options),
        Bench::Start(options) => start::run(options),
        Bench::Scrape(options) => scrape::run(options),
        Bench::Standby(options) => standby::run(options),
        Bench::Upgrade(options) => upgrade::run(options),
        Bench::Viewers(options) => viewers::run(options),
        Bench::Xdp(options) => xdp::run(options),
        Bench::RtmpFloor(options) => rtmp::floor::run(options),
    }
}
