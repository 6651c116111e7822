//! The words of keepalived.conf(5) (keepalived 2.2.7), block by block.

/// The words that may stand in a block.
pub struct Vocabulary {
    /// Where they stand, as the end of a sentence.
    pub block: &'static str,
    /// Words that the reader acts upon.
    pub served: &'static [&'static str],
    /// Words that keepalived knows and Millrace does not act upon.
    pub not_served: &'static [NotServed],
}

/// Words that are not served for one and the same reason.
pub struct NotServed {
    because: &'static str,
    words: &'static [&'static str],
}

impl Vocabulary {
    /// Why a word that keepalived knows is not served; `None` for other words.
    pub fn reason_not_served(&self, word: &str) -> Option<&'static str> {
        self.not_served
            .iter()
            .find(|group| group.words.contains(&word))
            .map(|group| group.because)
    }

    /// Every word that keepalived knows here.
    pub fn words(&self) -> impl Iterator<Item = &'static str> {
        let not_served = self.not_served.iter().flat_map(|group| group.words);
        self.served.iter().chain(not_served).copied()
    }

    /// Whether `word` is followed by a value on the same line.
    pub fn takes_value(&self, word: &str) -> bool {
        matches!(
            word,
            "brd" | "broadcast" | "scope" | "peer" | "preferred_lft"
        )
    }
}

/// Every vocabulary.
#[cfg(test)]
pub const ALL: [&Vocabulary; 18] = [
    &TOP_LEVEL,
    &GLOBAL_DEFS,
    &VRRP_INSTANCE,
    &AUTHENTICATION,
    &VIRTUAL_IPADDRESS,
    &VIRTUAL_SERVER,
    &REAL_SERVER,
    &TCP_CHECK,
    &PING_CHECK,
    &HTTP_GET,
    &MISC_CHECK,
    &UDP_CHECK,
    &RTMP_CHECK,
    &URL,
    &VRRP_SYNC_GROUP,
    &VRRP_SCRIPT,
    &TRACKED,
    &UNICAST_PEER,
];

const MAIL: &str = "Millrace sends no mail; follow its log or its events instead";
const IPVS: &str = "it tunes the kernel's IPVS, which Millrace does without";
const PROCESSES: &str = "it tunes keepalived's own processes";
const FIREWALL: &str = "Millrace needs no firewall rules";
const OBSERVATION: &str = "Millrace has no SNMP or D-Bus; see `lb-user list --json`";
const DIRECT_ROUTING: &str = "it has no meaning in direct routing";
const VIRTUAL_MAC: &str = "Millrace holds virtual addresses on the interface's own MAC address, \
                           and announces them when they move";
const NOT_YET: &str = "Millrace does not serve it";
const LIKE_KERNEL: &str = "Millrace leaves this to the kernel's defaults";

pub const TOP_LEVEL: Vocabulary = Vocabulary {
    block: "at the top of the file",
    served: &[
        "global_defs",
        "vrrp_script",
        "vrrp_sync_group",
        "vrrp_instance",
        "virtual_server_group",
        "virtual_server",
    ],
    not_served: &[
        NotServed {
            because: NOT_YET,
            words: &[
                "vrrp_track_process",
                "track_file",
                "vrrp_track_file",
                "track_group",
                "SSL",
                "bfd_instance",
                "static_ipaddress",
                "static_routes",
                "static_rules",
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

pub const GLOBAL_DEFS: Vocabulary = Vocabulary {
    block: "in `global_defs`",
    served: &[
        "default_interface",
        "script_user",
        "vrrp_version",
        "vrrp_mcast_group4",
        "vrrp_mcast_group6",
        "vrrp_startup_delay",
        "vrrp_garp_master_delay",
        "vrrp_garp_master_repeat",
        "vrrp_garp_lower_prio_delay",
        "vrrp_garp_lower_prio_repeat",
        "vrrp_garp_master_refresh",
        "vrrp_garp_master_refresh_repeat",
        "vrrp_garp_interval",
        "vrrp_gna_interval",
        "vrrp_min_garp",
        "vrrp_lower_prio_no_advert",
        "vrrp_higher_prio_send_advert",
        "vrrp_down_timer_adverts",
        "vrrp_check_unicast_src",
        "lvs_timeouts",
        "lb_reset_rate",
    ],
    not_served: &[
        NotServed {
            because: MAIL,
            words: &[
                "notification_email",
                "notification_email_from",
                "smtp_server",
                "smtp_helo_name",
                "smtp_connect_timeout",
                "smtp_alert",
                "smtp_alert_vrrp",
                "smtp_alert_checker",
                "no_email_faults",
                "no_checker_emails",
                "router_id",
            ],
        },
        NotServed {
            because: IPVS,
            words: &[
                "lvs_sync_daemon",
                "lvs_flush",
                "lvs_flush_on_stop",
                "lvs_netlink_cmd_rcv_bufs",
                "lvs_netlink_cmd_rcv_bufs_force",
                "lvs_netlink_monitor_rcv_bufs",
                "lvs_netlink_monitor_rcv_bufs_force",
            ],
        },
        NotServed {
            because: PROCESSES,
            words: &[
                "process_names",
                "process_name",
                "vrrp_process_name",
                "checker_process_name",
                "bfd_process_name",
                "startup_script",
                "startup_script_timeout",
                "shutdown_script",
                "shutdown_script_timeout",
                "tmp_config_directory",
                "config_save_dir",
                "vrrp_priority",
                "checker_priority",
                "bfd_priority",
                "vrrp_no_swap",
                "checker_no_swap",
                "bfd_no_swap",
                "vrrp_rt_priority",
                "checker_rt_priority",
                "bfd_rt_priority",
                "vrrp_cpu_affinity",
                "checker_cpu_affinity",
                "bfd_cpu_affinity",
                "vrrp_rlimit_rttime",
                "checker_rlimit_rttime",
                "bfd_rlimit_rttime",
                "vrrp_rlimit_rtime",
                "checker_rlimit_rtime",
                "bfd_rlimit_rtime",
                "max_auto_priority",
                "min_auto_priority_delay",
                "process_monitor_rcv_bufs",
                "process_monitor_rcv_bufs_force",
                "umask",
                "random_seed",
                "reload_check_config",
                "reload_time_file",
                "reload_repeat",
                "reload_file",
                "data_use_instance",
                "vrrp_netlink_cmd_rcv_bufs",
                "vrrp_netlink_cmd_rcv_bufs_force",
                "vrrp_netlink_monitor_rcv_bufs",
                "vrrp_netlink_monitor_rcv_bufs_force",
                "vrrp_rx_bufs_policy",
                "vrrp_rx_bufs_multiplier",
            ],
        },
        NotServed {
            because: FIREWALL,
            words: &[
                "nftables",
                "nftables_priority",
                "nftables_counters",
                "nftables_ifindex",
                "nftables_ipvs",
                "nftables_ipvs_priority",
                "nftables_ipvs_start_fwmark",
                "vrrp_iptables",
                "iptables",
                "vrrp_ipsets",
                "disable_local_igmp",
                "vmac_prefix",
                "vmac_addr_prefix",
            ],
        },
        NotServed {
            because: OBSERVATION,
            words: &[
                "enable_snmp_vrrp",
                "enable_snmp_checker",
                "enable_snmp_keepalived",
                "enable_snmp_rfc",
                "enable_snmp_rfcv2",
                "enable_snmp_rfcv3",
                "enable_traps",
                "snmp_socket",
                "snmp_server",
                "enable_dbus",
                "dbus_service_name",
            ],
        },
        NotServed {
            because: VIRTUAL_MAC,
            words: &["vrrp_garp_extra_if"],
        },
        NotServed {
            because: NOT_YET,
            words: &[
                "checker_log_all_failures",
                "vrrp_skip_check_adv_addr",
                "vrrp_strict",
                "vrrp_notify_priority_changes",
                "log_unknown_vrids",
                "notify_fifo",
                "notify_fifo_script",
                "vrrp_notify_fifo",
                "vrrp_notify_fifo_script",
                "lvs_notify_fifo",
                "lvs_notify_fifo_script",
                "fifo_write_vrrp_states_on_reload",
                "dynamic_interfaces",
                "rs_init_notifies",
                "enable_script_security",
                "include_check",
            ],
        },
    ],
};

pub const VRRP_INSTANCE: Vocabulary = Vocabulary {
    block: "in `vrrp_instance`",
    served: &[
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
        "track_quorum",
        "notify_master",
        "notify_backup",
        "notify_fault",
        "notify_stop",
        "notify",
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
            ],
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
            because: NOT_YET,
            words: &[
                "vrf",
                "track_file",
                "unicast_fault_no_peer",
                "old_unicast_checksum",
                "virtual_routes",
                "virtual_rules",
                "strict_mode",
                "debug",
                "notify_master_rx_lower_pri",
                "notify_priority_changes",
                "kernel_rx_buf_size",
                "linkbeat_use_polling",
            ],
        },
    ],
};

pub const AUTHENTICATION: Vocabulary = Vocabulary {
    block: "in `authentication`",
    served: &["auth_type", "auth_pass"],
    not_served: &[],
};

pub const VIRTUAL_IPADDRESS: Vocabulary = Vocabulary {
    block: "after an address in `virtual_ipaddress`",
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

pub const VIRTUAL_SERVER: Vocabulary = Vocabulary {
    block: "in `virtual_server`",
    served: &[
        "lb_algo",
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
        "alpha",
        "connect_timeout",
        "retry",
        "nb_get_retry",
        "delay_before_retry",
        "warmup",
        "delay_loop",
        "virtualhost",
        "expire_quiescent",
        "sh-port",
        "mh-port",
        "orphans",
        "sloppy",
        "slow_start",
        "flap_limit",
        "flap_window",
        "flap_hold_down",
        "flap_hold_down_max",
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
                "flag-1",
                "flag-2",
                "flag-3",
                "sh-fallback",
                "mh-fallback",
                "ops",
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

pub const REAL_SERVER: Vocabulary = Vocabulary {
    block: "in `real_server`",
    served: &[
        "weight",
        "inhibit_on_failure",
        "notify_up",
        "notify_down",
        "TCP_CHECK",
        "alpha",
        "connect_timeout",
        "retry",
        "nb_get_retry",
        "delay_before_retry",
        "warmup",
        "delay_loop",
        "virtualhost",
        "HTTP_GET",
        "SSL_GET",
        "MISC_CHECK",
        "UDP_CHECK",
        "PING_CHECK",
        "RTMP_CHECK",
        "slow_start",
        "flap_limit",
        "flap_window",
        "flap_hold_down",
        "flap_hold_down_max",
    ],
    not_served: &[
        NotServed {
            because: MAIL,
            words: &["smtp_alert"],
        },
        NotServed {
            because: IPVS,
            words: &["uthreshold", "lthreshold", "snmp_name"],
        },
        NotServed {
            because: NOT_YET,
            words: &[
                "lvs_method",
                "SMTP_CHECK",
                "DNS_CHECK",
                "BFD_CHECK",
                "FILE_CHECK",
            ],
        },
    ],
};

pub const TCP_CHECK: Vocabulary = Vocabulary {
    block: "in `TCP_CHECK`",
    served: &[
        "connect_ip",
        "connect_port",
        "bindto",
        "bind_port",
        "alpha",
        "connect_timeout",
        "retry",
        "nb_get_retry",
        "delay_before_retry",
        "warmup",
        "delay_loop",
    ],
    not_served: &[NotServed {
        because: NOT_YET,
        words: &["bind_if", "fwmark", "log_all_failures"],
    }],
};

pub const PING_CHECK: Vocabulary = Vocabulary {
    block: "in `PING_CHECK`",
    served: &[
        "connect_ip",
        "connect_port",
        "bindto",
        "bind_port",
        "alpha",
        "connect_timeout",
        "retry",
        "nb_get_retry",
        "delay_before_retry",
        "warmup",
        "delay_loop",
    ],
    not_served: &[NotServed {
        because: NOT_YET,
        words: &["bind_if", "fwmark", "log_all_failures"],
    }],
};

pub const HTTP_GET: Vocabulary = Vocabulary {
    block: "in an HTTP check",
    served: &[
        "url",
        "connect_ip",
        "connect_port",
        "bindto",
        "bind_port",
        "alpha",
        "connect_timeout",
        "retry",
        "nb_get_retry",
        "delay_before_retry",
        "warmup",
        "delay_loop",
    ],
    not_served: &[NotServed {
        because: NOT_YET,
        words: &[
            "bind_if",
            "fwmark",
            "log_all_failures",
            "http_protocol",
            "fast_recovery",
            "enable_sni",
        ],
    }],
};

pub const MISC_CHECK: Vocabulary = Vocabulary {
    block: "in `MISC_CHECK`",
    served: &[
        "misc_path",
        "misc_timeout",
        "misc_dynamic",
        "user",
        "connect_ip",
        "connect_port",
        "bindto",
        "bind_port",
        "alpha",
        "connect_timeout",
        "retry",
        "nb_get_retry",
        "delay_before_retry",
        "warmup",
        "delay_loop",
    ],
    not_served: &[NotServed {
        because: NOT_YET,
        words: &["bind_if", "fwmark", "log_all_failures"],
    }],
};

pub const UDP_CHECK: Vocabulary = Vocabulary {
    block: "in `UDP_CHECK`",
    served: &[
        "payload",
        "require_reply",
        "min_reply_length",
        "max_reply_length",
        "connect_ip",
        "connect_port",
        "bindto",
        "bind_port",
        "alpha",
        "connect_timeout",
        "retry",
        "nb_get_retry",
        "delay_before_retry",
        "warmup",
        "delay_loop",
    ],
    not_served: &[NotServed {
        because: NOT_YET,
        words: &["bind_if", "fwmark", "log_all_failures"],
    }],
};

pub const RTMP_CHECK: Vocabulary = Vocabulary {
    block: "in `RTMP_CHECK`",
    served: &[
        "app",
        "stream",
        "play_timeout",
        "virtualhost",
        "connect_ip",
        "connect_port",
        "bindto",
        "bind_port",
        "alpha",
        "connect_timeout",
        "retry",
        "nb_get_retry",
        "delay_before_retry",
        "warmup",
        "delay_loop",
    ],
    not_served: &[NotServed {
        because: NOT_YET,
        words: &["bind_if", "fwmark", "log_all_failures"],
    }],
};

pub const URL: Vocabulary = Vocabulary {
    block: "in `url`",
    served: &[
        "path",
        "digest",
        "status_code",
        "virtualhost",
        "regex",
        "regex_no_match",
        "regex_options",
    ],
    not_served: &[NotServed {
        because: NOT_YET,
        words: &[
            "regex_stack",
            "regex_min_offset",
            "regex_max_offset",
            "tls_compliant",
        ],
    }],
};
pub const VRRP_SYNC_GROUP: Vocabulary = Vocabulary {
    block: "in `vrrp_sync_group`",
    served: &[
        "group",
        "track_interface",
        "track_script",
        "notify_master",
        "notify_backup",
        "notify_fault",
        "notify_stop",
        "notify",
    ],
    not_served: &[
        NotServed {
            because: MAIL,
            words: &["smtp_alert"],
        },
        NotServed {
            because: NOT_YET,
            words: &[
                "track_file",
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
    served: &[
        "script",
        "interval",
        "timeout",
        "weight",
        "rise",
        "fall",
        "user",
        "init_fail",
    ],
    not_served: &[],
};

pub const TRACKED: Vocabulary = Vocabulary {
    block: "after a tracked name",
    served: &["weight"],
    not_served: &[],
};

pub const UNICAST_PEER: Vocabulary = Vocabulary {
    block: "after an address in `unicast_peer`",
    served: &["min_ttl", "max_ttl"],
    not_served: &[],
};
