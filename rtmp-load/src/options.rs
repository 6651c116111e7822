//! The command line.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    str::FromStr,
};

use clap::{Parser, ValueEnum};

/// The version of the program: with the revision, where `cargo xtask dist` builds it.
const VERSION: &str = match option_env!("MILLRACE_VERSION") {
    Some(version) => version,
    None => env!("CARGO_PKG_VERSION"),
};

const EXAMPLES: &str = "\
Examples:
  500 players on a stream that someone else publishes, for 30 seconds:
    rtmp-load -n 500 rtmp://172.16.1.200/live/livestream

  Publish a generated 2 Mbit/s stream to the origin, play it from an edge, and
  measure the latency from one to the other:
    rtmp-load -n 1000 --publish generated --publish-url rtmp://origin/live/s rtmp://edge/live/s

  200 streams with 5 players each, published from a file:
    rtmp-load -n 1000 --streams 200 --publish film.flv 'rtmp://origin/live/s{}'

  500 players of HLS, with low latency where the server offers it, on a stream
  that has been published for ten seconds:
    rtmp-load -n 500 --publish generated --publish-url rtmp://origin/live/s --lead 10 \
      http://origin:8080/live/s.m3u8

  Only publish a file, until interrupted:
    rtmp-load -n 0 -t 0 --publish film.flv rtmp://origin/live/s

  Players from eight client addresses that come back when their edge dies:
    rtmp-load -n 500 --bind 172.16.1.101-108 --reconnect rtmp://172.16.1.200/live/livestream

  What does the server on this machine cost per megabyte that it delivers?
    rtmp-load -n 1000 --publish generated --watch-pid $(pidof rtmp-origin) rtmp://127.0.0.1/live/s

Exit status: 0 if every player was served well, 1 if some failed or starved, 2 if
the command line or the machine's limits do not allow the run.";

/// Loads a server of live streams with thousands of players from one process, and says
/// how it served them.
#[derive(Debug, Clone, Parser)]
#[command(name = "rtmp-load", version = VERSION, after_help = EXAMPLES, args_override_self = true)]
pub struct Options {
    /// What to play: `rtmp://HOST[:PORT]/APP/STREAM`, `http://…/STREAM.flv`,
    /// `ws://…/STREAM.flv` or `http://…/STREAM.m3u8`; `{}` stands for the number
    /// of the stream, from 1. `tcp://HOST:PORT` counts bare bytes.
    pub url: String,

    /// Number of players; 0: only publish.
    #[arg(short = 'n', long, default_value_t = 100)]
    pub players: u32,

    /// Number of streams; the players are spread over them in turn.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub streams: u32,

    /// Seconds to measure, after all players have been started and have
    /// settled; 0: until interrupted.
    #[arg(short = 't', long, default_value_t = 30)]
    pub seconds: u32,

    /// Players started per second.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    pub start_rate: u32,

    /// Seconds between the last player's start and the measurement.
    #[arg(long, default_value_t = 2)]
    pub settle: u32,

    /// Seconds for which our own publishers send before the first player starts:
    /// a playlist of HLS has to fill first.
    #[arg(long, default_value_t = 0, requires = "publish")]
    pub lead: u32,

    /// Play HLS by whole segments, as players without low latency do, even
    /// where the server offers parts.
    #[arg(long)]
    pub no_low_latency: bool,

    /// Client addresses to spread the connections over: one, or the first and
    /// last of a range; may be given several times.
    #[arg(long, value_name = "A.B.C.D[-E]")]
    pub bind: Vec<BindRange>,

    /// Connect again whenever a connection ends, and measure the time without
    /// video.
    #[arg(long)]
    pub reconnect: bool,

    /// Milliseconds between two attempts to connect again; the first follows at
    /// once.
    #[arg(long, default_value_t = 100, value_name = "MS")]
    pub reconnect_delay_ms: u32,

    /// Threads that serve the players.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub threads: u32,

    /// How players read from their sockets.
    #[arg(long, value_enum, default_value_t = Receiver::Epoll)]
    pub receiver: Receiver,

    /// Have the kernel acknowledge late what players receive, by whatever
    /// protocol. Otherwise it does so for those who speak to the server now and
    /// then, and at once for those who only listen.
    #[arg(long)]
    pub delayed_acks: bool,

    /// Publish the streams too: `generated`, or an FLV file, which is repeated
    /// with rising timestamps.
    #[arg(long, value_name = "SOURCE", help_heading = "Publishing")]
    pub publish: Option<PublishSource>,

    /// Where to publish, if not where the players play.
    #[arg(
        long,
        value_name = "URL",
        requires = "publish",
        help_heading = "Publishing"
    )]
    pub publish_url: Option<String>,

    /// Video bits per second of a generated stream.
    #[arg(
        long,
        default_value = "2M",
        value_name = "BITS",
        help_heading = "Publishing"
    )]
    pub bitrate: BitRate,

    /// Audio bits per second of a generated stream; 0: no audio.
    #[arg(
        long,
        default_value = "64k",
        value_name = "BITS",
        help_heading = "Publishing"
    )]
    pub audio_bitrate: BitRate,

    /// Pictures per second of a generated stream.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=240),
          help_heading = "Publishing")]
    pub fps: u32,

    /// Seconds between keyframes of a generated stream.
    #[arg(
        long,
        default_value_t = 2.0,
        value_name = "SECONDS",
        help_heading = "Publishing"
    )]
    pub gop_seconds: f64,

    /// A silence longer than this is a stall.
    #[arg(
        long,
        default_value_t = 1000,
        value_name = "MS",
        help_heading = "Judging"
    )]
    pub stall_ms: u32,

    /// A jump of timestamps longer than this is a gap.
    #[arg(
        long,
        default_value_t = 1000,
        value_name = "MS",
        help_heading = "Judging"
    )]
    pub gap_ms: u32,

    /// Seconds after which a connection that brings nothing is given up.
    #[arg(long, default_value_t = 10, value_name = "SECONDS", help_heading = "Judging",
          value_parser = clap::value_parser!(u32).range(1..))]
    pub timeout: u32,

    /// The share of its frames, from 0 to 1, below which a player counts as
    /// starved (streams of our own publishers only).
    #[arg(
        long,
        default_value_t = 0.99,
        value_name = "SHARE",
        help_heading = "Judging"
    )]
    pub min_delivered: f64,

    /// Look at the messages of one player in N to the end, and only count the
    /// bytes of the others after their first keyframe, which costs less; 0:
    /// only count.
    #[arg(long, default_value_t = 1, value_name = "N", help_heading = "Judging")]
    pub inspect_one_in: u32,

    /// Check every byte of the pictures of our own publishers, which costs
    /// more.
    #[arg(long, help_heading = "Judging")]
    pub verify: bool,

    /// Report the CPU time and memory of this process too; may be given
    /// several times.
    #[arg(long, value_name = "PID", help_heading = "Reporting")]
    pub watch_pid: Vec<u32>,

    /// Print the report as JSON.
    #[arg(long, help_heading = "Reporting")]
    pub json: bool,

    /// Add every player to the JSON report.
    #[arg(long, requires = "json", help_heading = "Reporting")]
    pub details: bool,

    /// Show no progress; it is shown on a terminal only anyway.
    #[arg(short, long, help_heading = "Reporting")]
    pub quiet: bool,
}

/// How players read: what a server pays for a receiver on the same machine
/// depends on how often that sleeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Receiver {
    /// Sockets stay registered with epoll; up to 256 kB a read.
    Epoll,
    /// As coroutines on state threads do (SRS's sb_rtmp_load): 4 kB a read until
    /// a socket is empty, and each wait registers it with epoll anew.
    Coroutines,
}

/// What is to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublishSource {
    /// A stream out of thin air.
    Generated,
    /// An FLV file.
    File(PathBuf),
}

impl FromStr for PublishSource {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "generated" => Self::Generated,
            path => Self::File(path.into()),
        })
    }
}

/// Bits per second, written with an optional `k` or `M`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BitRate(pub u64);

impl FromStr for BitRate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (digits, factor) = match text.as_bytes().last() {
            Some(b'k' | b'K') => (&text[..text.len() - 1], 1e3),
            Some(b'M' | b'm') => (&text[..text.len() - 1], 1e6),
            _ => (text, 1.0),
        };
        match digits.parse::<f64>() {
            Ok(number) if (0.0..=1e9).contains(&(number * factor)) => {
                Ok(Self((number * factor) as u64))
            }
            _ => Err("expected bits per second up to 1000M, such as 2M, 800k or 64000".to_owned()),
        }
    }
}

/// Client addresses, from the first to the last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindRange(pub Vec<IpAddr>);

impl FromStr for BindRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let expected = || {
            format!(
                "`{text}` is neither an address nor a range such as 127.0.0.2-9 or \
                 10.0.0.1-10.0.1.254"
            )
        };
        let Some((first, last)) = text.split_once('-') else {
            return Ok(Self(vec![text.parse().map_err(|_| expected())?]));
        };
        let first: Ipv4Addr = first.parse().map_err(|_| expected())?;
        let last = match last.parse::<u8>() {
            Ok(octet) => {
                let [a, b, c, _] = first.octets();
                Ipv4Addr::new(a, b, c, octet)
            }
            Err(_) => last.parse().map_err(|_| expected())?,
        };
        if last < first || u32::from(last) - u32::from(first) >= 65536 {
            return Err(format!(
                "`{text}`: the last address has to follow the first within 65536"
            ));
        }
        let addresses = u32::from(first)..=u32::from(last);
        Ok(Self(
            addresses
                .map(|address| Ipv4Addr::from(address).into())
                .collect(),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Options::command().debug_assert();
    }

    #[test]
    fn bit_rates_may_have_a_unit() {
        for (text, bits) in [
            ("2M", 2_000_000),
            ("1.5M", 1_500_000),
            ("800k", 800_000),
            ("0", 0),
        ] {
            assert_eq!(text.parse(), Ok(BitRate(bits)), "{text}");
        }
        for text in ["", "k", "-1", "2G", "many", "1001M"] {
            assert!(text.parse::<BitRate>().is_err(), "{text}");
        }
    }

    #[test]
    fn client_addresses_may_be_one_or_a_range() {
        let count = |text: &str| text.parse::<BindRange>().map(|range| range.0.len());
        assert_eq!(count("127.0.0.2"), Ok(1));
        assert_eq!(count("127.0.0.2-9"), Ok(8));
        assert_eq!(count("10.0.0.250-10.0.1.5"), Ok(12));
        assert_eq!(count("::1"), Ok(1));
        for text in ["", "host", "127.0.0.9-2", "127.0.0.1-", "10.0.0.0-11.0.0.0"] {
            assert!(count(text).is_err(), "{text}");
        }
    }
}
