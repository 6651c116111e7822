//! The top of the file, and `global_defs`.

use crate::argument::{Address, Choice, NetworkOf, Number, Own, Switch, Text, Time};
use crate::keyword::{Block, Explained, rows};
use crate::vocabulary::{CHECKSUM, IPVS, MAIL, NOT_YET, NotServed, PROCESSES, VIRTUAL_MAC};
use crate::writer::joined;
use lb_model::config::{GlobalDefs, LvsTimeouts, SynValidation, bounds};

const FIREWALL: &str = "Millrace needs no firewall rules";
const OBSERVATION: &str = "Millrace has no SNMP or D-Bus; see `lb-user list --json`";

pub(crate) static GLOBAL_DEFS: Block<GlobalDefs> = Block {
    place: "in `global_defs`",
    rows: &[
        rows!(GlobalDefs {
            default_interface: Text,
            lvs_timeouts: TIMEOUTS,
            lb_reset_rate: Number(0..=u32::MAX),
            lb_withdraw_delay: Time::From0,
            lb_syn_validation: Choice {
                names: &SynValidation::NAMES,
                read: |reader, item| {
                    reader.choice(item, &SynValidation::NAMES, "off, automatic or always")
                },
            },
            lb_syn_validation_rate: Number(bounds::CONNECTION_RATE),
            lb_syn_validation_half_open: Number(bounds::PERCENT),
            lb_connection_rate: Number(bounds::CONNECTION_RATE),
            lb_connection_burst: Number(bounds::CONNECTION_RATE),
            lb_deny_file: Text,
            lb_tunnel_source4: NetworkOf::Ipv4,
            lb_tunnel_source6: NetworkOf::Ipv6,
            script_user: USER,
            enable_script_security: Switch,
            vrrp_version: Number(bounds::VRRP_VERSION),
            vrrp_mcast_group4: Address,
            vrrp_mcast_group6: Address,
            vrrp_startup_delay: Time::From0,
            vrrp_garp_master_delay: Time::From0,
            vrrp_garp_master_repeat: Number(bounds::GARP_REPEAT),
            vrrp_garp_lower_prio_delay: Time::From0,
            vrrp_garp_lower_prio_repeat: Number(bounds::GARP_LOWER_PRIO_REPEAT),
            vrrp_garp_master_refresh: Time::From0,
            vrrp_garp_master_refresh_repeat: Number(bounds::GARP_REPEAT),
            vrrp_garp_interval: Time::From0,
            vrrp_gna_interval: Time::From0,
            vrrp_min_garp: Switch,
            vrrp_lower_prio_no_advert: Switch,
            vrrp_higher_prio_send_advert: Switch,
            vrrp_down_timer_adverts: Number(bounds::DOWN_TIMER_ADVERTS),
            vrrp_check_unicast_src: Switch,
        }),
        &[&Explained {
            names: &["lvs_flush_on_stop", "lvs_flush_onstop"],
            argument: r"\[VS\]",
            meaning: "Without effect: services go when the agent stops, in any case",
        }],
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
                "lvs_process_name",
                "set_supplementary_groups",
                "use_symlink_paths",
                "iproute_etc_dir",
                "iproute_usr_dir",
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
                "dbus_no_interface_name",
                "snmp_rs_stats_update_interval",
                "snmp_vs_stats_update_interval",
            ],
        },
        NotServed {
            because: VIRTUAL_MAC,
            words: &["vrrp_garp_extra_if", "vrrp_vmac_garp_intvl"],
        },
        NotServed {
            because: CHECKSUM,
            words: &["v3_checksum_as_v2"],
        },
        NotServed {
            because: "the files that keepalived's signals ask for are written below $TMPDIR, or \
                      /tmp, in the first form",
            words: &[
                "json_version",
                "json_dump_file",
                "state_dump_file",
                "stats_dump_file",
            ],
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
                "vrrp_owner_ignore_adverts",
                "vrrp_delay_after_boot",
                "rs_init_notifies",
                "include_check",
            ],
        },
    ],
};

/// `[tcp SECONDS] [tcpfin SECONDS] [udp SECONDS]`
const TIMEOUTS: Own<Option<LvsTimeouts>> = Own {
    read: |reader, item| reader.lvs_timeouts(item).map(Some),
    write: |out, keyword, timeouts| {
        if let Some(timeouts) = timeouts {
            let pairs = pairs(timeouts).into_iter();
            let words = pairs.filter_map(|(name, seconds)| Some(format!(" {name} {}", seconds?)));
            out.line(format_args!("{keyword}{}", words.collect::<String>()));
        }
    },
    check: |bounds, keyword, timeouts| {
        for (name, seconds) in timeouts.iter().flat_map(pairs) {
            bounds.within(&format!("{keyword} {name}"), seconds, &bounds::COUNT);
        }
    },
    limits: &[],
    placeholder: r"\[tcp seconds\] \[tcpfin seconds\] \[udp seconds\]",
};

fn pairs(timeouts: &LvsTimeouts) -> [(&'static str, Option<u32>); 3] {
    let LvsTimeouts { tcp, tcpfin, udp } = *timeouts;
    [("tcp", tcp), ("tcpfin", tcpfin), ("udp", udp)]
}

/// `USER [GROUP]`
const USER: Own<Option<Vec<String>>> = Own {
    read: |reader, item| {
        let (user, group) = reader.user(item)?;
        Some(Some([user].into_iter().chain(group).collect()))
    },
    write: |out, keyword, user| out.value(keyword, user.as_deref().map(joined)),
    check: |bounds, keyword, user| {
        let Some(words) = user else { return };
        let is_right = (1..=2).contains(&words.len());
        bounds.holds(
            is_right,
            keyword,
            &words.join(" "),
            "a user and perhaps a group",
        );
    },
    limits: &[("minItems", 1), ("maxItems", 2)],
    placeholder: r"user \[group\]",
};
