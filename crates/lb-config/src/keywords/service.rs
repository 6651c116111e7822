//! Virtual and real servers.

use super::{DIRECT_ROUTING, IPVS, MAIL, NOT_YET, TIMING};
use crate::keyword::{Block, ByHand, NotServed};

/// How servers come back that have been down; words of Millrace's.
const RECOVERY: &[&str] = &[
    "slow_start",
    "flap_limit",
    "flap_window",
    "flap_hold_down",
    "flap_hold_down_max",
];

pub(crate) static VIRTUAL_SERVER: Block<()> = Block {
    place: "in `virtual_server`",
    rows: &[&[
        &ByHand(TIMING),
        &ByHand(RECOVERY),
        &ByHand(&[
            "lb_algo",
            "weight",
            "lvs_sched",
            "lb_kind",
            "lvs_method",
            "protocol",
            "persistence_timeout",
            "persistence_granularity",
            "quorum",
            "hysteresis",
            "quorum_up",
            "quorum_down",
            "sorry_server",
            "inhibit_on_failure",
            "omega",
            "real_server",
            "virtualhost",
            "expire_quiescent",
            "sh-port",
            "mh-port",
            "sh-fallback",
            "mh-fallback",
            "flag-1",
            "flag-2",
            "ops",
            "orphans",
            "sloppy",
        ]),
    ]],
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

pub(crate) static REAL_SERVER: Block<()> = Block {
    place: "in `real_server`",
    rows: &[&[
        &ByHand(TIMING),
        &ByHand(RECOVERY),
        &ByHand(&[
            "lb_kind",
            "lvs_method",
            "weight",
            "uthreshold",
            "lthreshold",
            "inhibit_on_failure",
            "notify_up",
            "notify_down",
            "TCP_CHECK",
            "virtualhost",
            "HTTP_GET",
            "SSL_GET",
            "MISC_CHECK",
            "UDP_CHECK",
            "PING_CHECK",
            "RTMP_CHECK",
            "FILE_CHECK",
            "DNS_CHECK",
            "SMTP_CHECK",
            "mac_address",
        ]),
    ]],
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
};
