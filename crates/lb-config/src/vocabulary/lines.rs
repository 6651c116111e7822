//! Words at the top of the file, and on lines that begin with an address or a name.

use super::{NOT_YET, NotServed, PROCESSES, RULES, Words};

const LIKE_KERNEL: &str = "Millrace leaves this to the kernel's defaults";

pub(crate) static TOP_LEVEL: Words = Words {
    place: "at the top of the file",
    served: &[
        "global_defs",
        "static_ipaddress",
        "static_routes",
        "track_file",
        "vrrp_track_file",
        "vrrp_script",
        "vrrp_sync_group",
        "vrrp_instance",
        "virtual_server_group",
        "virtual_server",
    ],
    not_served: &[
        NotServed {
            because: RULES,
            words: &["static_rules"],
        },
        NotServed {
            because: NOT_YET,
            words: &[
                "vrrp_track_process",
                "track_group",
                "SSL",
                "bfd_instance",
                "interface_up_down_delays",
                "garp_group",
                "linkbeat_interfaces",
                "linkbeat_use_polling",
            ],
        },
        NotServed {
            because: PROCESSES,
            words: &[
                "net_namespace",
                "net_namespace_ipvs",
                "namespace_with_ipsets",
                "instance",
                "use_pid_dir",
                "child_wait_time",
            ],
        },
    ],
};

pub(crate) static AUTHENTICATION: Words = Words {
    place: "in `authentication`",
    served: &["auth_type", "auth_pass"],
    not_served: &[],
};

pub(crate) static VIRTUAL_IPADDRESS: Words = Words {
    place: "after an address in `virtual_ipaddress`",
    served: &["dev", "label"],
    not_served: &[NotServed {
        because: LIKE_KERNEL,
        words: &[
            "brd",
            "broadcast",
            "scope",
            "peer",
            "preferred_lft",
            "home",
            "-nodad",
            "mngtmpaddr",
            "noprefixroute",
            "autojoin",
            "no_track",
            "track_group",
            "use_vmac",
        ],
    }],
};

pub(crate) static UNICAST_PEER: Words = Words {
    place: "after an address in `unicast_peer`",
    served: &["min_ttl", "max_ttl"],
    not_served: &[],
};

pub(crate) static TRACKED: Words = Words {
    place: "after a tracked name",
    served: &["weight"],
    not_served: &[],
};

/// Words of `virtual_ipaddress` that are followed by a value on the same line.
pub(crate) const WITH_VALUE: [&str; 6] = [
    "brd",
    "broadcast",
    "scope",
    "peer",
    "preferred_lft",
    "track_group",
];
