//! Virtual routers.

use super::{CHECKSUM, IPVS, MAIL, NOT_YET, NotServed, RULES, VIRTUAL_MAC, Vocabulary};

const LIKE_KERNEL: &str = "Millrace leaves this to the kernel's defaults";

/// What is run when a state changes.
const NOTIFY: &[&str] = &[
    "notify_master",
    "notify_backup",
    "notify_fault",
    "notify_stop",
    "notify",
];

pub const VRRP_INSTANCE: Vocabulary = Vocabulary {
    block: "in `vrrp_instance`",
    served: &[
        NOTIFY,
        &[
            "state",
            "interface",
            "version",
            "virtual_router_id",
            "priority",
            "advert_int",
            "down_timer_adverts",
            "authentication",
            "virtual_ipaddress",
            "virtual_ipaddress_excluded",
            "virtual_routes",
            "mcast_src_ip",
            "mcast_dst_ip",
            "track_src_ip",
            "unicast_src_ip",
            "unicast_peer",
            "unicast_ttl",
            "check_unicast_src",
            "nopreempt",
            "preempt",
            "preempt_delay",
            "accept",
            "no_accept",
            "garp_master_delay",
            "garp_master_repeat",
            "garp_lower_prio_delay",
            "garp_lower_prio_repeat",
            "garp_master_refresh",
            "garp_master_refresh_repeat",
            "lower_prio_no_advert",
            "higher_prio_send_advert",
            "dont_track_primary",
            "track_interface",
            "track_script",
            "track_file",
            "track_quorum",
        ],
    ],
    not_served: &[
        NotServed {
            because: MAIL,
            words: &["smtp_alert"],
        },
        NotServed {
            because: IPVS,
            words: &["lvs_sync_daemon_interface"],
        },
        NotServed {
            because: VIRTUAL_MAC,
            words: &[
                "use_vmac",
                "use_vmac_addr",
                "vmac_xmit_base",
                "use_ipvlan",
                "garp_extra_if",
                "vmac_garp_intvl",
            ],
        },
        NotServed {
            because: CHECKSUM,
            words: &["v3_checksum_as_v2"],
        },
        NotServed {
            because: "it needs none: one without addresses is taken as it is",
            words: &["no_virtual_ipaddress"],
        },
        NotServed {
            because: "Millrace runs no such monitor; a `vrrp_script` can look at the same thing",
            words: &["track_process", "track_bfd"],
        },
        NotServed {
            because: "the family of an instance is that of its addresses",
            words: &["native_ipv6"],
        },
        NotServed {
            because: "Millrace adds a virtual address as /32 unless told otherwise, so that it \
                      has no secondary addresses",
            words: &["promote_secondaries"],
        },
        NotServed {
            because: "Millrace always looks at all addresses of an advert",
            words: &["skip_check_adv_addr"],
        },
        NotServed {
            because: "Millrace tells a deleted instance's scripts STOP",
            words: &["notify_deleted"],
        },
        NotServed {
            because: RULES,
            words: &["virtual_rules"],
        },
        NotServed {
            because: NOT_YET,
            words: &[
                "vrf",
                "unicast_fault_no_peer",
                "old_unicast_checksum",
                "strict_mode",
                "debug",
                "notify_master_rx_lower_pri",
                "notify_priority_changes",
                "kernel_rx_buf_size",
                "linkbeat_use_polling",
                "owner_ignore_adverts",
                "timer_expired_backup",
                "thread_timer_expired",
            ],
        },
    ],
};

pub const AUTHENTICATION: Vocabulary = Vocabulary {
    block: "in `authentication`",
    served: &[&["auth_type", "auth_pass"]],
    not_served: &[],
};

pub const VIRTUAL_IPADDRESS: Vocabulary = Vocabulary {
    block: "after an address in `virtual_ipaddress`",
    served: &[&["dev", "label"]],
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

pub const UNICAST_PEER: Vocabulary = Vocabulary {
    block: "after an address in `unicast_peer`",
    served: &[&["min_ttl", "max_ttl"]],
    not_served: &[],
};

pub const TRACKED: Vocabulary = Vocabulary {
    block: "after a tracked name",
    served: &[&["weight"]],
    not_served: &[],
};

pub const VRRP_SYNC_GROUP: Vocabulary = Vocabulary {
    block: "in `vrrp_sync_group`",
    served: &[
        NOTIFY,
        &["group", "track_interface", "track_script", "track_file"],
    ],
    not_served: &[
        NotServed {
            because: MAIL,
            words: &["smtp_alert"],
        },
        NotServed {
            because: "Millrace tells a deleted group's scripts STOP",
            words: &["notify_deleted"],
        },
        NotServed {
            because: NOT_YET,
            words: &[
                "track_process",
                "track_bfd",
                "global_tracking",
                "sync_group_tracking_weight",
                "notify_priority_changes",
            ],
        },
    ],
};

pub const VRRP_SCRIPT: Vocabulary = Vocabulary {
    block: "in `vrrp_script`",
    served: &[&[
        "script",
        "interval",
        "timeout",
        "weight",
        "rise",
        "fall",
        "user",
        "init_fail",
    ]],
    not_served: &[],
};

pub const TRACK_FILE: Vocabulary = Vocabulary {
    block: "in `track_file`",
    served: &[&["file", "weight", "init_file"]],
    not_served: &[],
};
