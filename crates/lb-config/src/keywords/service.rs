//! Virtual and real servers.

use std::net::SocketAddr;

use lb_model::config::discovery::MAX_SERVERS;
use lb_model::config::{
    Discover, LbKind, RealServer, RealServerTemplate, Recovery, VirtualServer, bounds,
};
use net_types::MacAddress;

use super::check::TIMING;
use crate::argument::{Choice, Command, Flag, Number, Own, Switch, Text, Time, unbounded};
use crate::keyword::{Block, ByHand, Explained, Row, nested, rows};
use crate::names::{LB_KINDS, ORPHAN_POLICIES, PROTOCOLS, SCHEDULERS};
use crate::vocabulary::{DIRECT_ROUTING, IPVS, MAIL, NOT_YET, NotServed};
use crate::writer::two_words;

/// Return of servers that have been down; keepalived does not know these words.
pub(crate) const RECOVERY: &[&dyn Row<Recovery>] = rows!(Recovery {
    slow_start: Time::From0,
    flap_limit: Number(1..=1000),
    flap_window: Time::MoreThan0,
    flap_hold_down: Time::MoreThan0,
    flap_hold_down_max: Time::MoreThan0,
});

pub(crate) static VIRTUAL_SERVER: Block<VirtualServer> = Block {
    place: "in `virtual_server`",
    rows: &[
        nested!(VirtualServer, timing: TIMING),
        rows!(VirtualServer {
            ["lb_algo", "lvs_sched"] lb_algo: Choice {
                names: &SCHEDULERS,
                read: |reader, item| reader.scheduler(item),
            },
            ["lb_kind", "lvs_method"] lb_kind: LB_KIND,
            protocol: Choice {
                names: &PROTOCOLS,
                read: |reader, item| reader.protocol(item),
            },
            persistence_timeout: PERSISTENCE_TIMEOUT,
            persistence_granularity: GRANULARITY,
            expire_quiescent: Flag,
            // ip_vs.h: the flags of the schedulers `sh` and `mh`.
            ["mh-port", "sh-port", "flag-2"] hash_port: Flag,
            ["mh-fallback", "sh-fallback", "flag-1"] hash_fallback: Flag,
            ops: Flag,
            orphans: Choice {
                names: &ORPHAN_POLICIES,
                read: |reader, item| {
                    reader.choice(item, &ORPHAN_POLICIES, "reset, drop or reschedule")
                },
            },
            sloppy: Switch,
            quorum: Number(bounds::COUNT),
            hysteresis: Number(0..=u32::MAX),
            quorum_up: Command,
            quorum_down: Command,
            announce: Text,
            sorry_server: SORRY_SERVER,
            virtualhost: Text,
            inhibit_on_failure: Switch,
            omega: Switch,
        }),
        nested!(VirtualServer, recovery: RECOVERY),
        &[
            &Explained {
                names: &["weight"],
                argument: "0 to 65535",
                meaning: "Weight of its servers that name none",
            },
            &Explained {
                names: &["real_server"],
                argument: r"address \[port\] and a block",
                meaning: "A real server",
            },
            &Explained {
                names: &["discover"],
                argument: "a block",
                meaning: "A source of further real servers",
            },
            &Explained {
                names: &["real_server_template"],
                argument: "a block",
                meaning: "What real servers of such sources are like: the words of `real_server` \
                          but `mac_address`, and checks",
            },
        ],
    ],
    not_served: &[
        NotServed {
            because: DIRECT_ROUTING,
            words: &["nat_mask"],
        },
        NotServed {
            because: MAIL,
            words: &["smtp_alert"],
        },
        NotServed {
            because: IPVS,
            words: &[
                "hashed",
                "flag-3",
                "persistence_engine",
                "snmp_name",
                "ip_family",
            ],
        },
        NotServed {
            because: NOT_YET,
            words: &[
                "ha_suspend",
                "sorry_server_inhibit",
                "sorry_server_lvs_method",
            ],
        },
    ],
};

/// The keywords of `real_server` and `real_server_template`, which have the same fields.
macro_rules! real_server_block {
    ($type:ty, $place:literal, $own:expr) => {
        Block {
            place: $place,
            rows: &[
                $own,
                rows!($type {
                    weight: Number(bounds::WEIGHT),
                    uthreshold: Number(0..=u32::MAX),
                    lthreshold: Number(0..=u32::MAX),
                    ["lb_kind", "lvs_method"] lb_kind: LB_KIND,
                    virtualhost: Text,
                    inhibit_on_failure: Switch,
                    notify_up: Command,
                    notify_down: Command,
                }),
                nested!($type, timing: TIMING),
                nested!($type, recovery: RECOVERY),
                &[&ByHand(&[
                    "TCP_CHECK",
                    "HTTP_GET",
                    "SSL_GET",
                    "MISC_CHECK",
                    "UDP_CHECK",
                    "DNS_CHECK",
                    "SMTP_CHECK",
                    "PING_CHECK",
                    "FILE_CHECK",
                    "RTMP_CHECK",
                    "FLV_CHECK",
                    "LOAD_CHECK",
                ])],
            ],
            not_served: &[
                NotServed {
                    because: MAIL,
                    words: &["smtp_alert"],
                },
                NotServed {
                    because: IPVS,
                    words: &["snmp_name"],
                },
                NotServed {
                    because: NOT_YET,
                    words: &["BFD_CHECK"],
                },
            ],
        }
    };
}

pub(crate) static REAL_SERVER: Block<RealServer> = real_server_block!(
    RealServer,
    "in `real_server`",
    rows!(RealServer {
        mac_address: MAC_ADDRESS
    })
);

pub(crate) static REAL_SERVER_TEMPLATE: Block<RealServerTemplate> =
    real_server_block!(RealServerTemplate, "in `real_server_template`", &[]);

pub(crate) static DISCOVER: Block<Discover> = Block {
    place: "in `discover`",
    rows: &[rows!(Discover {
        file: Text,
        dns: Text,
        dns_server: NAME_SERVER,
        etcd: Text,
        etcd_ca: Text,
        etcd_cert: Text,
        etcd_key: Text,
        etcd_username: Text,
        etcd_password: Text,
        prefix: Text,
        max_servers: Number(MAX_SERVERS),
    })],
    not_served: &[],
};

const NAME_SERVER: Own<Option<SocketAddr>> = Own {
    read: |reader, item| reader.socket_address(item, DNS_PORT).map(Some),
    write: |out, keyword, address| out.value(keyword, address.map(two_words)),
    check: unbounded,
    limits: &[],
    placeholder: r"address \[port\]",
};

const DNS_PORT: u16 = 53;

const LB_KIND: Choice<LbKind> = Choice {
    names: &LB_KINDS,
    read: |reader, item| reader.lb_kind(item),
};

const PERSISTENCE_TIMEOUT: Own<Option<u32>> = Own {
    read: |reader, item| reader.persistence_timeout(item).map(Some),
    write: |out, keyword, timeout| out.value(keyword, *timeout),
    check: |bounds, keyword, timeout| {
        bounds.within(keyword, *timeout, &bounds::PERSISTENCE_TIMEOUT_S);
    },
    limits: &[
        ("minimum", *bounds::PERSISTENCE_TIMEOUT_S.start()),
        ("maximum", *bounds::PERSISTENCE_TIMEOUT_S.end()),
    ],
    placeholder: r"\[1 to 2678400 seconds\]",
};

const GRANULARITY: Own<Option<u8>> = Own {
    read: |reader, item| reader.granularity(item).map(Some),
    write: |out, keyword, bits| out.value(keyword, *bits),
    check: |bounds, keyword, bits| bounds.within(keyword, *bits, &bounds::PERSISTENCE_GRANULARITY),
    limits: &[
        ("minimum", *bounds::PERSISTENCE_GRANULARITY.start() as u32),
        ("maximum", *bounds::PERSISTENCE_GRANULARITY.end() as u32),
    ],
    placeholder: "netmask or 0 to 128",
};

const SORRY_SERVER: Own<Option<SocketAddr>> = Own {
    read: |reader, item| {
        let port = reader.service_port;
        reader.socket_address(item, port).map(Some)
    },
    write: |out, keyword, address| out.value(keyword, address.map(two_words)),
    check: unbounded,
    limits: &[],
    placeholder: r"address \[port\]",
};

const MAC_ADDRESS: Own<Option<MacAddress>> = Own {
    read: |reader, item| reader.mac_address(item).map(Some),
    write: |out, keyword, address| out.value(keyword, *address),
    check: unbounded,
    limits: &[],
    placeholder: "MAC address",
};
