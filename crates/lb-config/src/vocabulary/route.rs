//! Routes.

use super::{NotServed, Words};

pub(crate) static ROUTE: Words = Words {
    place: "in a route",
    served: &[
        "to",
        "inet",
        "inet6",
        "via",
        "gw",
        "or",
        "dev",
        "oif",
        "src",
        "table",
        "metric",
        "priority",
        "preference",
        "mtu",
        "scope",
        "onlink",
        "nexthop",
        "weight",
        "no_track",
        "unicast",
        "blackhole",
        "unreachable",
        "prohibit",
        "throw",
        "add",
        "append",
        "prepend",
    ],
    not_served: &[
        NotServed {
            because: "routes that Millrace sets are known by `proto keepalived`",
            words: &["protocol"],
        },
        NotServed {
            because: "no virtual router depends on a route: one that is taken away is set again",
            words: &["track_group"],
        },
        NotServed {
            because: "it tunes TCP connections of this machine's own",
            words: &[
                "advmss",
                "rtt",
                "rttvar",
                "reordering",
                "window",
                "cwnd",
                "ssthresh",
                "rto_min",
                "initcwnd",
                "initrwnd",
                "features",
                "quickack",
                "congctl",
                "fastopen_no_cookie",
                "realms",
                "hoplimit",
                "pref",
                "ttl-propagate",
            ],
        },
    ],
};

/// Words that give a route another meaning, so that without them it would be
/// wrong.
pub(crate) const ESSENTIAL: [&str; 8] = [
    "from", "tos", "dsfield", "encap", "vrf", "expires", "as", "local",
];
