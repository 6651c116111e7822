//! Checks with every default filled in.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use crate::checker::dns::DnsProbe;
use crate::checker::file::FileProbe;
use crate::checker::flv::FlvProbe;
use crate::checker::http::{HttpProbe, Page};
use crate::checker::load::LoadProbe;
use crate::checker::machine::Timing;
use crate::checker::misc::MiscProbe;
use crate::checker::ping::PingProbe;
use crate::checker::rtmp::RtmpProbe;
use crate::checker::smtp::SmtpProbe;
use crate::checker::tcp::{Connection, TcpProbe};
use crate::checker::udp::{Reply, UdpProbe};
use crate::checker::{CheckSpec, Probe};
use lb_model::config::{
    Check, CheckKind, CheckTiming, Config, ConnectionOptions, LoadHost, LoadUrl, RecordType,
    Seconds, StatusCodes, UrlCheck, hex,
};
use lb_script::{Factor, NumberFile, READ_INTERVAL, Runnable};

/// Delay of the first check beyond the random part, in keepalived.
const FIRST_CHECK: Duration = Duration::from_secs(1);
/// keepalived.conf(5), `retry`.
const DEFAULT_RETRY: u32 = 1;
/// keepalived.conf(5), `DNS_CHECK`.
const DEFAULT_DNS_RETRY: u32 = 3;
/// keepalived.conf(5), `MISC_CHECK`.
const DEFAULT_MISC_RETRY: u32 = 0;
/// keepalived.conf(5), `delay_before_retry`, for `HTTP_GET` and `SSL_GET`.
const DEFAULT_DELAY_BEFORE_HTTP_RETRY: Duration = Duration::from_secs(3);
/// keepalived.conf(5), `status_code`.
const DEFAULT_STATUS_CODES: (u16, u16) = (200, 299);
/// keepalived.conf(5), `max_reply_length`.
const DEFAULT_MAX_REPLY_LENGTH: u16 = 255;
/// The application of an `RTMP_CHECK` or `FLV_CHECK`.
const DEFAULT_APP: &str = "live";
/// Time limit of the first media of an `RTMP_CHECK` or `FLV_CHECK`.
const DEFAULT_PLAY_TIMEOUT: Duration = Duration::from_secs(10);
/// keepalived.conf(5), `delay_loop`.
const DEFAULT_DELAY_LOOP: Duration = Duration::from_secs(60);
/// `delay_loop` of a `LOAD_CHECK`, whatever the others' is.
const DEFAULT_LOAD_DELAY_LOOP: Duration = Duration::from_secs(1);
/// Port of the HTTP API, and the path of the load there.
const DEFAULT_API_PORT: u16 = 1985;
const DEFAULT_LOAD_PATH: &str = "/api/v1/load";
/// keepalived.conf(5), `connect_timeout`.
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// keepalived.conf(5), `delay_before_retry`.
const DEFAULT_DELAY_BEFORE_RETRY: Duration = Duration::from_secs(1);

/// The surroundings of a check that it takes values from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Around<'a> {
    /// The whole configuration.
    pub config: &'a Config,
    /// The server's address.
    pub server: SocketAddr,
    /// Times of its server and its service.
    pub timing: &'a CheckTiming,
    /// The virtual host of its server or its service.
    pub virtual_host: Option<&'a String>,
}

/// A check with every default filled in.
pub(super) fn check_spec(check: &Check, around: Around<'_>) -> CheckSpec {
    let Around {
        config,
        server,
        timing,
        virtual_host,
    } = around;
    let timing = check.timing.or(timing);
    let delay_loop = match &check.kind {
        // The others are made far too seldom for shares that follow the load.
        CheckKind::Load { .. } => seconds(check.timing.delay_loop, DEFAULT_LOAD_DELAY_LOOP),
        _ => seconds(timing.delay_loop, DEFAULT_DELAY_LOOP),
    };
    let connection = connection(&check.connection, server, &timing);
    let mut retry = DEFAULT_RETRY;
    let mut delay_before_retry = DEFAULT_DELAY_BEFORE_RETRY;
    let mut alpha = timing.alpha.unwrap_or_default();
    let probe = match &check.kind {
        CheckKind::Tcp => Probe::Tcp(TcpProbe(connection)),
        CheckKind::Ping => Probe::Ping(PingProbe(without_ports(connection))),
        CheckKind::Http { url } | CheckKind::Https { url, .. } => {
            delay_before_retry = DEFAULT_DELAY_BEFORE_HTTP_RETRY;
            Probe::Http(HttpProbe {
                connection,
                tls: matches!(check.kind, CheckKind::Https { .. }),
                server_name: matches!(
                    check.kind,
                    CheckKind::Https {
                        enable_sni: true,
                        ..
                    }
                ),
                pages: url.iter().map(|url| page(url, virtual_host)).collect(),
            })
        }
        CheckKind::Misc {
            misc_path,
            misc_timeout,
            misc_dynamic,
        } => {
            retry = DEFAULT_MISC_RETRY;
            let script = Runnable::new(misc_path.clone(), &config.global_defs);
            // keepalived leaves out a check that cannot be made: its server is
            // not down for want of a success.
            alpha &= script.check().is_ok();
            Probe::Misc(MiscProbe {
                script,
                timeout: seconds(*misc_timeout, delay_loop),
                dynamic: *misc_dynamic,
            })
        }
        CheckKind::Udp {
            payload,
            require_reply,
            min_reply_length,
            max_reply_length,
        } => {
            let bytes = |text: &String| hex::parse(text).unwrap_or_default();
            let payload = payload.as_ref().map(bytes).unwrap_or_default();
            Probe::Udp(UdpProbe {
                connection,
                payload: payload.into_iter().map(|(value, _)| value).collect(),
                reply: require_reply.as_ref().map(|pattern| Reply {
                    pattern: bytes(pattern),
                    min_length: min_reply_length.unwrap_or(0).into(),
                    max_length: max_reply_length.unwrap_or(DEFAULT_MAX_REPLY_LENGTH).into(),
                }),
            })
        }
        CheckKind::Dns { record_type, name } => {
            retry = DEFAULT_DNS_RETRY;
            delay_before_retry = delay_loop;
            Probe::Dns(DnsProbe {
                connection,
                record: record_type.unwrap_or(RecordType::Soa),
                name: name.clone().unwrap_or_else(|| ".".to_owned()),
            })
        }
        CheckKind::Smtp { helo_name } => Probe::Smtp(SmtpProbe {
            connection,
            helo_name: helo_name.clone().unwrap_or_else(host_name),
        }),
        CheckKind::File {
            track_file,
            weight,
            reverse,
        } => return file_check(track_file, *weight, *reverse, config),
        CheckKind::Rtmp {
            app,
            stream,
            play_timeout,
            virtualhost,
        } => Probe::Rtmp(RtmpProbe {
            connection,
            virtual_host: virtualhost.as_ref().or(virtual_host).cloned(),
            app: app.clone().unwrap_or_else(|| DEFAULT_APP.to_owned()),
            play: stream
                .clone()
                .map(|stream| (stream, seconds(*play_timeout, DEFAULT_PLAY_TIMEOUT))),
        }),
        CheckKind::Flv {
            app,
            stream,
            play_timeout,
            virtualhost,
            tls,
        } => Probe::Flv(FlvProbe {
            connection,
            tls: *tls,
            virtual_host: virtualhost.as_ref().or(virtual_host).cloned(),
            app: app.clone().unwrap_or_else(|| DEFAULT_APP.to_owned()),
            stream: stream.clone(),
            play_timeout: seconds(*play_timeout, DEFAULT_PLAY_TIMEOUT),
        }),
        CheckKind::Load {
            url,
            username,
            password,
        } => {
            let url = url.as_deref().and_then(LoadUrl::parse);
            let url = url.unwrap_or_else(|| LoadUrl {
                tls: false,
                host: LoadHost::Address(SocketAddr::new(
                    connection.to.ip(),
                    check.connection.connect_port.unwrap_or(DEFAULT_API_PORT),
                )),
                path: DEFAULT_LOAD_PATH.to_owned(),
            });
            Probe::Load(LoadProbe {
                host: url.host,
                from: connection.from,
                timeout: connection.timeout,
                tls: url.tls,
                path: url.path,
                credentials: username
                    .clone()
                    .map(|username| (username, password.clone().unwrap_or_default())),
            })
        }
    };
    CheckSpec {
        probe,
        timing: Timing {
            delay_loop,
            delay_before_retry: seconds(timing.delay_before_retry, delay_before_retry),
            retry: timing.retry.unwrap_or(retry),
            first_check: FIRST_CHECK,
            warmup: seconds(timing.warmup, delay_loop),
            alpha,
        },
    }
}

/// keepalived.conf(5): no word about times concerns `FILE_CHECK`. The file is
/// read at once, and what it says decides at once.
fn file_check(name: &str, weight: Option<i32>, reverse: bool, config: &Config) -> CheckSpec {
    let given = config.track_file.iter().find(|file| file.name == name);
    // `validate` has seen that it exists.
    let given = given.cloned().unwrap_or_default();
    let factor = match weight {
        Some(weight) => Factor { weight, reverse },
        None => Factor::from(&given),
    };
    CheckSpec {
        probe: Probe::File(FileProbe {
            file: NumberFile::from(&given),
            factor,
        }),
        timing: Timing {
            delay_loop: READ_INTERVAL,
            delay_before_retry: READ_INTERVAL,
            retry: 0,
            first_check: Duration::ZERO,
            warmup: Duration::ZERO,
            alpha: false,
        },
    }
}

fn connection(options: &ConnectionOptions, server: SocketAddr, timing: &CheckTiming) -> Connection {
    let to = SocketAddr::new(
        options.connect_ip.unwrap_or(server.ip()),
        options.connect_port.unwrap_or(server.port()),
    );
    let any: IpAddr = if to.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let is_bound = options.bindto.is_some() || options.bind_port.is_some();
    let from = SocketAddr::new(
        options.bindto.unwrap_or(any),
        options.bind_port.unwrap_or(0),
    );
    Connection {
        to,
        from: is_bound.then_some(from),
        timeout: seconds(timing.connect_timeout, DEFAULT_CONNECT_TIMEOUT),
    }
}

/// For a check without ports: services of one host on several ports have the same one.
fn without_ports(mut connection: Connection) -> Connection {
    connection.to.set_port(0);
    if let Some(from) = &mut connection.from {
        from.set_port(0);
    }
    connection
}

/// The host's name, for those whom a check talks to.
fn host_name() -> String {
    let name = nix::unistd::gethostname().unwrap_or_default();
    name.into_string()
        .unwrap_or_else(|_| "localhost".to_owned())
}

fn page(url: &UrlCheck, virtual_host: Option<&String>) -> Page {
    let mut status_codes: Vec<(u16, u16)> = url
        .status_code
        .iter()
        .map(|StatusCodes(low, high)| (*low, *high))
        .collect();
    if status_codes.is_empty() {
        status_codes.push(DEFAULT_STATUS_CODES);
    }
    Page {
        path: url.path.clone(),
        virtual_host: url.virtualhost.as_ref().or(virtual_host).cloned(),
        status_codes,
        digest: url.digest.clone(),
        regex: url
            .regex
            .clone()
            .map(|pattern| (pattern, !url.regex_no_match)),
    }
}

/// A time of the configuration's; `default` where it says none.
pub(super) fn seconds(given: Option<Seconds>, default: Duration) -> Duration {
    given.map_or(default, |Seconds(duration)| duration)
}
