//! The plan of a run: which streams there are, who plays which of them from
//! where, and when each player starts.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use crate::{
    address::{AddressError, Protocol, ResolveError, StreamAddress},
    dialogue::MAX_CONNECTIONS,
    limits::{self, LimitError},
    options::{Options, PublishSource},
    slot::Server,
    source::{Source, SourceError, flv::FlvFile, generated::Generated, shape::Shape},
    tls::TlsServer,
};

/// A run that cannot be made as it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The address is wrong.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The host has no address.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// The machine's limits.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// There is nothing to publish.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A host that TLS has no name for.
    #[error("{0}: TLS needs a host name or an IP address")]
    Name(String),
    /// Several streams under one name.
    #[error("{0}: --streams {1} needs a place for the stream's number; write {{}} into the name")]
    NotNumbered(String, u32),
    /// Only RTMP can be published.
    #[error("--publish needs an rtmp:// address; give one with --publish-url")]
    NoRtmp,
    /// No keyframes.
    #[error("--gop-seconds {0}: expected a number of seconds of at least one picture and up to 60")]
    Gop(f64),
    /// No share.
    #[error("--min-delivered {0}: expected a share from 0 to 1")]
    Share(f64),
    /// Addresses of different families.
    #[error("--bind {bind} cannot reach {server}: one is IPv4, the other IPv6")]
    Family {
        /// The client address.
        bind: IpAddr,
        /// The server's.
        server: SocketAddr,
    },
    /// No such process.
    #[error("--watch-pid {0}: there is no such process")]
    NoProcess(u32),
}

/// A publisher to come.
pub(crate) struct PublisherPlan {
    /// The stream that it publishes.
    pub address: Arc<StreamAddress>,
    /// From what.
    pub source: Box<dyn Source>,
}

/// A player to come.
#[derive(Debug, Clone)]
pub(crate) struct PlayerPlan {
    /// The stream that it plays.
    pub address: Arc<StreamAddress>,
    /// From which client address.
    pub bind: Option<IpAddr>,
    /// The time of its start, after the first player.
    pub starts: Duration,
    /// True if its messages are looked at to the end.
    pub inspects: bool,
}

/// See the module's description.
pub(crate) struct Plan {
    /// The server of the players.
    pub server: Server,
    /// The server of the publishers.
    pub publish_server: Server,
    /// Their client address.
    pub publish_bind: Option<IpAddr>,
    /// One for each stream, or none.
    pub publishers: Vec<PublisherPlan>,
    /// In the order of their start.
    pub players: Vec<PlayerPlan>,
}

impl Plan {
    /// Makes the plan, resolves the hosts, and sees to it that the machine
    /// allows it.
    ///
    /// # Errors
    /// If the options contradict each other or the machine's limits.
    pub(crate) fn new(options: &Options) -> Result<Self, PlanError> {
        if !(0.0..=1.0).contains(&options.min_delivered) {
            return Err(PlanError::Share(options.min_delivered));
        }
        let url = StreamAddress::parse(&options.url)?;
        let publish_url = match &options.publish_url {
            Some(text) => StreamAddress::parse(text)?,
            None => url.clone(),
        };
        if options.publish.is_some() && publish_url.protocol != Protocol::Rtmp {
            return Err(PlanError::NoRtmp);
        }
        for address in [&url, &publish_url] {
            let is_named = address.protocol != Protocol::Raw;
            if options.streams > 1 && is_named && !address.is_numbered() {
                return Err(PlanError::NotNumbered(address.to_string(), options.streams));
            }
        }
        let server = url.resolve()?;
        let publish_server = match &options.publish {
            Some(_) => publish_url.resolve()?,
            None => server,
        };
        let binds: Vec<IpAddr> = options
            .bind
            .iter()
            .flat_map(|range| range.0.iter().copied())
            .collect();
        for bind in &binds {
            for server in [server, publish_server] {
                if bind.is_ipv4() != server.is_ipv4() {
                    return Err(PlanError::Family {
                        bind: *bind,
                        server,
                    });
                }
            }
        }
        let each = match url.protocol {
            Protocol::Hls => MAX_CONNECTIONS as u32,
            _ => 1,
        };
        let connections = options.players.saturating_mul(each);
        limits::check_ports(connections.div_ceil(binds.len().max(1) as u32))?;
        let publishers = plan_publishers(options, &publish_url)?;
        limits::allow_connections(u64::from(connections) + publishers.len() as u64)?;
        let with_tls = |address, url: &StreamAddress| {
            let name = || TlsServer::new(&url.host).ok_or_else(|| PlanError::Name(url.to_string()));
            let tls = match url.secure {
                true => Some(Arc::new(name()?)),
                false => None,
            };
            Ok::<_, PlanError>(Server { address, tls })
        };
        Ok(Self {
            server: with_tls(server, &url)?,
            publish_server: with_tls(publish_server, &publish_url)?,
            publish_bind: binds.first().copied(),
            publishers,
            players: plan_players(options, &url, &binds),
        })
    }

    /// From the first player's start to the last's.
    pub(crate) fn ramp(&self) -> Duration {
        self.players
            .last()
            .map_or(Duration::ZERO, |player| player.starts)
    }
}

fn plan_publishers(
    options: &Options,
    url: &StreamAddress,
) -> Result<Vec<PublisherPlan>, PlanError> {
    let Some(source) = &options.publish else {
        return Ok(Vec::new());
    };
    let gop_frames = options.gop_seconds * f64::from(options.fps);
    if !(1.0..=60.0 * f64::from(options.fps)).contains(&gop_frames) {
        return Err(PlanError::Gop(options.gop_seconds));
    }
    let shape = Shape {
        video_bits_per_second: options.bitrate.0,
        audio_bits_per_second: options.audio_bitrate.0,
        frames_per_second: options.fps,
        gop_frames: gop_frames.round() as u32,
    };
    let publisher = |number| {
        let source: Box<dyn Source> = match source {
            PublishSource::Generated => Box::new(Generated::new(shape)),
            PublishSource::File(path) => Box::new(FlvFile::open(path)?),
        };
        Ok(PublisherPlan {
            address: Arc::new(url.numbered(number)),
            source,
        })
    };
    (1..=options.streams).map(publisher).collect()
}

fn plan_players(options: &Options, url: &StreamAddress, binds: &[IpAddr]) -> Vec<PlayerPlan> {
    let addresses: Vec<Arc<StreamAddress>> = (1..=options.streams)
        .map(|number| Arc::new(url.numbered(number)))
        .collect();
    let interval = Duration::from_secs(1) / options.start_rate;
    let player = |index: u32| PlayerPlan {
        address: Arc::clone(&addresses[index as usize % addresses.len()]),
        bind: binds.get(index as usize % binds.len().max(1)).copied(),
        starts: interval * index,
        inspects: options.inspect_one_in > 0 && index.is_multiple_of(options.inspect_one_in),
    };
    (0..options.players).map(player).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn plan(arguments: &str) -> Result<Plan, PlanError> {
        let words = std::iter::once("rtmp-load").chain(arguments.split_whitespace());
        Plan::new(&Options::try_parse_from(words).expect("the words are options"))
    }

    #[test]
    fn players_start_at_the_rate_asked_for() {
        let plan = plan("-n 5 --start-rate 4 rtmp://127.0.0.1/live/s").unwrap();
        let starts: Vec<u128> = plan
            .players
            .iter()
            .map(|player| player.starts.as_millis())
            .collect();
        assert_eq!(starts, [0, 250, 500, 750, 1000]);
        assert_eq!(plan.ramp(), Duration::from_secs(1));
    }

    #[test]
    fn players_are_spread_over_streams_and_client_addresses() {
        let plan = plan("-n 4 --streams 2 --bind 127.0.0.2-4 rtmp://127.0.0.1/live/s{}").unwrap();
        let who =
            |player: &PlayerPlan| format!("{} {}", player.address.stream, player.bind.unwrap());
        let players: Vec<String> = plan.players.iter().map(who).collect();
        assert_eq!(
            players,
            [
                "s1 127.0.0.2",
                "s2 127.0.0.3",
                "s1 127.0.0.4",
                "s2 127.0.0.2"
            ]
        );
    }

    #[test]
    fn every_stream_has_its_own_publisher() {
        let plan = plan(
            "--streams 3 --publish generated --publish-url rtmp://127.0.0.2/in/{} rtmp://127.0.0.1/live/s{}",
        )
        .unwrap();
        let streams: Vec<String> = plan
            .publishers
            .iter()
            .map(|publisher| publisher.address.to_string())
            .collect();
        assert_eq!(
            streams,
            [
                "rtmp://127.0.0.2/in/1",
                "rtmp://127.0.0.2/in/2",
                "rtmp://127.0.0.2/in/3"
            ]
        );
    }

    #[test]
    fn one_player_in_n_is_inspected() {
        let count = |arguments: &str| {
            let plan = plan(&format!("-n 10 {arguments} rtmp://127.0.0.1/live/s")).unwrap();
            plan.players.iter().filter(|player| player.inspects).count()
        };
        assert_eq!(count(""), 10);
        assert_eq!(count("--inspect-one-in 5"), 2);
        assert_eq!(count("--inspect-one-in 0"), 0);
    }

    #[test]
    fn a_run_that_cannot_be_made_says_why() {
        let table = [
            ("--streams 2 rtmp://127.0.0.1/live/s", "{}"),
            ("-n 80000 rtmp://127.0.0.1/live/s", "--bind"),
            ("--publish generated tcp://127.0.0.1:1", "--publish-url"),
            (
                "--publish generated http://127.0.0.1/live/s.flv",
                "--publish-url",
            ),
            (
                "--publish generated --gop-seconds 0 rtmp://127.0.0.1/live/s",
                "--gop-seconds",
            ),
            ("--bind ::1 rtmp://127.0.0.1/live/s", "IPv6"),
            ("--min-delivered 99 rtmp://127.0.0.1/live/s", "from 0 to 1"),
            ("--publish /none.flv rtmp://127.0.0.1/live/s", "/none.flv"),
            ("rtmp://no-such-host.invalid/live/s", "cannot be resolved"),
        ];
        for (arguments, expected) in table {
            let error = plan(arguments).err().expect(arguments).to_string();
            assert!(error.contains(expected), "{arguments}: {error}");
        }
    }
}
