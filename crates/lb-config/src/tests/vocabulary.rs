//! The words of each block.

use super::*;
use crate::blocks::read;

/// Guards the vocabularies: a word must not be listed as served and then be
/// answered with "unknown word" or "is ignored".
#[test]
fn every_word_that_is_listed_as_served_is_read() {
    use crate::keywords as v;
    use crate::vocabulary::Vocabulary;
    let in_server = |inside: &str| {
        format!("virtual_server 10.0.0.1 80 {{\nreal_server 10.0.0.2 80 {{\n{inside}")
    };
    let around: [(&dyn Vocabulary, &str, &str); 21] = [
        (&crate::vocabulary::TOP_LEVEL, "", ""),
        (&v::GLOBAL_DEFS, "global_defs {\n", "\n}"),
        (&v::VRRP_INSTANCE, "vrrp_instance V {\n", "\n}"),
        (&v::VRRP_SYNC_GROUP, "vrrp_sync_group G {\n", "\n}"),
        (&v::VRRP_SCRIPT, "vrrp_script S {\n", "\n}"),
        (&v::TRACK_FILE, "track_file F {\n", "\n}"),
        (&v::FILE_CHECK, &in_server("FILE_CHECK {\n"), "\n}\n}\n}"),
        (&v::VIRTUAL_SERVER, "virtual_server 10.0.0.1 80 {\n", "\n}"),
        (&v::REAL_SERVER, &in_server(""), "\n}\n}"),
        (&v::TCP_CHECK, &in_server("TCP_CHECK {\n"), "\n}\n}\n}"),
        (&v::PING_CHECK, &in_server("PING_CHECK {\n"), "\n}\n}\n}"),
        (&v::HTTP_GET, &in_server("HTTP_GET {\n"), "\n}\n}\n}"),
        (&v::URL, &in_server("HTTP_GET {\nurl {\n"), "\n}\n}\n}\n}"),
        (&v::MISC_CHECK, &in_server("MISC_CHECK {\n"), "\n}\n}\n}"),
        (&v::UDP_CHECK, &in_server("UDP_CHECK {\n"), "\n}\n}\n}"),
        (&v::SSL_GET, &in_server("SSL_GET {\n"), "\n}\n}\n}"),
        (&v::DNS_CHECK, &in_server("DNS_CHECK {\n"), "\n}\n}\n}"),
        (&v::SMTP_CHECK, &in_server("SMTP_CHECK {\n"), "\n}\n}\n}"),
        (&v::RTMP_CHECK, &in_server("RTMP_CHECK {\n"), "\n}\n}\n}"),
        (&v::FLV_CHECK, &in_server("FLV_CHECK {\n"), "\n}\n}\n}"),
        (&v::LOAD_CHECK, &in_server("LOAD_CHECK {\n"), "\n}\n}\n}"),
    ];
    for (vocabulary, before, after) in around {
        for word in vocabulary.served() {
            let mut diagnostics = Diagnostics::new(Location::whole("t.conf"));
            let text = format!("{before}{word} x{after}");
            let lines = expand::expand(Path::new("t.conf"), &text, "main", &mut diagnostics);
            let directives = tree::parse(&lines, &mut diagnostics);
            read(&directives, &mut diagnostics);
            for said in messages(&diagnostics.into_list()) {
                let about_it = said.contains(&format!("`{word}`"));
                let unread = said.contains("unknown word") || said.contains("is ignored");
                assert!(
                    !(about_it && unread),
                    "{word} is listed as served, but: {said}"
                );
            }
        }
    }
}

/// The words that keepalived.conf(5) of keepalived 2.2.7 names, block by block.
const MANUAL: &[(&[&str], &str)] = &[
    (
        &["at the top of the file"],
        "global_defs net_namespace net_namespace_ipvs namespace_with_ipsets instance \
         use_pid_dir linkbeat_use_polling child_wait_time linkbeat_interfaces \
         interface_up_down_delays track_group static_ipaddress static_routes static_rules \
         track_file vrrp_track_file vrrp_track_process bfd_instance vrrp_script \
         vrrp_sync_group garp_group vrrp_instance virtual_server_group virtual_server SSL",
    ),
    (
        &["in `global_defs`"],
        "bfd_cpu_affinity bfd_no_swap bfd_priority bfd_process_name bfd_rlimit_rttime \
         bfd_rt_priority checker_cpu_affinity checker_log_all_failures checker_no_swap \
         checker_priority checker_process_name checker_rlimit_rttime checker_rt_priority \
         config_save_dir data_use_instance dbus_service_name default_interface \
         disable_local_igmp dynamic_interfaces enable_dbus enable_script_security \
         enable_snmp_checker enable_snmp_rfc enable_snmp_rfcv2 enable_snmp_rfcv3 \
         enable_snmp_vrrp enable_traps fifo_write_vrrp_states_on_reload include_check \
         log_unknown_vrids lvs_flush lvs_flush_on_stop lvs_netlink_cmd_rcv_bufs \
         lvs_netlink_cmd_rcv_bufs_force lvs_netlink_monitor_rcv_bufs \
         lvs_netlink_monitor_rcv_bufs_force lvs_notify_fifo lvs_notify_fifo_script \
         lvs_sync_daemon lvs_timeouts max_auto_priority min_auto_priority_delay nftables \
         nftables_counters nftables_ifindex nftables_ipvs nftables_ipvs_priority \
         nftables_ipvs_start_fwmark nftables_priority no_checker_emails no_email_faults \
         notification_email notification_email_from notify_fifo notify_fifo_script \
         process_monitor_rcv_bufs process_monitor_rcv_bufs_force process_name \
         process_names random_seed reload_check_config reload_file reload_repeat \
         reload_time_file router_id rs_init_notifies script_user shutdown_script \
         shutdown_script_timeout smtp_alert smtp_alert_checker smtp_alert_vrrp \
         smtp_connect_timeout smtp_helo_name smtp_server snmp_socket startup_script \
         startup_script_timeout umask vmac_addr_prefix vmac_prefix vrrp_check_unicast_src \
         vrrp_cpu_affinity vrrp_down_timer_adverts vrrp_garp_extra_if vrrp_garp_interval \
         vrrp_garp_lower_prio_delay vrrp_garp_lower_prio_repeat vrrp_garp_master_delay \
         vrrp_garp_master_refresh vrrp_garp_master_refresh_repeat vrrp_garp_master_repeat \
         vrrp_gna_interval vrrp_higher_prio_send_advert vrrp_ipsets vrrp_iptables \
         vrrp_lower_prio_no_advert vrrp_mcast_group4 vrrp_mcast_group6 vrrp_min_garp \
         vrrp_netlink_cmd_rcv_bufs vrrp_netlink_cmd_rcv_bufs_force \
         vrrp_netlink_monitor_rcv_bufs vrrp_netlink_monitor_rcv_bufs_force vrrp_no_swap \
         vrrp_notify_fifo vrrp_notify_fifo_script vrrp_notify_priority_changes \
         vrrp_priority vrrp_process_name vrrp_rlimit_rttime vrrp_rt_priority \
         vrrp_rx_bufs_multiplier vrrp_rx_bufs_policy vrrp_skip_check_adv_addr \
         vrrp_startup_delay vrrp_strict vrrp_version",
    ),
    (
        &["in `vrrp_script`"],
        "fall init_fail interval rise script timeout user weight",
    ),
    (
        &["in `vrrp_sync_group`"],
        "global_tracking group notify notify_backup notify_deleted notify_fault \
         notify_master notify_priority_changes notify_stop smtp_alert \
         sync_group_tracking_weight track_bfd track_file track_interface track_process \
         track_script",
    ),
    (
        &["in `vrrp_instance`"],
        "accept advert_int auth_hmac authentication check_unicast_src debug dont_track_primary \
         down_timer_adverts garp_extra_if garp_lower_prio_delay garp_lower_prio_repeat \
         garp_master_delay garp_master_refresh garp_master_refresh_repeat \
         garp_master_repeat higher_prio_send_advert interface kernel_rx_buf_size \
         linkbeat_use_polling lower_prio_no_advert mcast_dst_ip mcast_src_ip native_ipv6 \
         no_accept nopreempt notify notify_backup notify_fault notify_master \
         notify_master_rx_lower_pri notify_priority_changes notify_stop \
         old_unicast_checksum preempt preempt_delay priority promote_secondaries \
         skip_check_adv_addr smtp_alert state strict_mode track_bfd track_file \
         track_interface track_process track_script track_src_ip unicast_fault_no_peer \
         unicast_peer unicast_src_ip unicast_ttl use_ipvlan use_vmac use_vmac_addr \
         version virtual_ipaddress virtual_ipaddress_excluded virtual_router_id \
         virtual_routes virtual_rules vmac_xmit_base vrf",
    ),
    (&["in `authentication`"], "auth_type auth_pass"),
    (
        &["in `auth_hmac`"],
        "key active_key anti_replay time_window mode",
    ),
    (
        &["after an address in `virtual_ipaddress`"],
        "brd dev scope label peer home -nodad mngtmpaddr noprefixroute autojoin no_track \
         track_group preferred_lft use_vmac",
    ),
    (&["after an address in `unicast_peer`"], "min_ttl max_ttl"),
    (
        &["in `virtual_server`"],
        "lvs_sched flag-1 flag-2 flag-3 sh-port sh-fallback mh-port mh-fallback ops \
         lvs_method persistence_engine persistence_timeout persistence_granularity \
         protocol ha_suspend smtp_alert virtualhost snmp_name alpha omega quorum \
         hysteresis quorum_up quorum_down ip_family sorry_server sorry_server_inhibit \
         sorry_server_lvs_method connect_timeout retry delay_before_retry warmup \
         delay_loop inhibit_on_failure real_server",
    ),
    (
        &["in `real_server`"],
        "weight lvs_method notify_up notify_down uthreshold lthreshold smtp_alert \
         virtualhost snmp_name alpha connect_timeout retry delay_before_retry warmup \
         delay_loop inhibit_on_failure HTTP_GET SSL_GET TCP_CHECK SMTP_CHECK DNS_CHECK \
         MISC_CHECK BFD_CHECK UDP_CHECK PING_CHECK FILE_CHECK",
    ),
    (
        &[
            "in `TCP_CHECK`",
            "in `HTTP_GET`",
            "in `SSL_GET`",
            "in `UDP_CHECK`",
            "in `DNS_CHECK`",
            "in `SMTP_CHECK`",
            "in `PING_CHECK`",
        ],
        "connect_ip connect_port bindto bind_if bind_port fwmark alpha connect_timeout retry \
         delay_before_retry warmup delay_loop log_all_failures",
    ),
    (
        &["in `HTTP_GET`", "in `SSL_GET`"],
        "http_protocol fast_recovery url",
    ),
    (&["in `SSL_GET`"], "enable_sni"),
    (
        &["in `url`"],
        "path digest status_code virtualhost regex regex_no_match regex_options regex_stack \
         regex_min_offset regex_max_offset",
    ),
    (&["in `FILE_CHECK`"], "track_file dynamic weight"),
    (&["in `track_file`"], "file weight init_file"),
    (&["in `SMTP_CHECK`"], "helo_name"),
    (&["in `DNS_CHECK`"], "type name"),
    (
        &["in `MISC_CHECK`"],
        "misc_path misc_timeout misc_dynamic user alpha retry delay_before_retry warmup \
         delay_loop",
    ),
    (
        &["in `UDP_CHECK`"],
        "payload require_reply min_reply_length max_reply_length",
    ),
];

#[test]
fn every_word_of_the_manual_is_served_or_warned_about_by_name() {
    use crate::keywords as v;
    for (blocks, words) in MANUAL {
        for block in *blocks {
            let vocabulary = v::ALL
                .iter()
                .find(|vocabulary| vocabulary.place() == *block);
            let vocabulary = vocabulary.unwrap_or_else(|| panic!("no vocabulary {block}"));
            let known: Vec<&str> = vocabulary.words();
            let missing = words
                .split_whitespace()
                .filter(|word| !known.contains(word));
            assert_eq!(missing.collect::<Vec<_>>(), Vec::<&str>::new(), "{block}");
        }
    }
}

/// Words of the parsers of keepalived 2.2.7 to 2.4.3 that their manuals leave
/// out, or that 2.2.7 does not have.
const PARSERS: &[(&str, &str)] = &[
    (
        "in `global_defs`",
        "dbus_no_interface_name iproute_etc_dir iproute_usr_dir json_dump_file json_version \
         lvs_flush_onstop lvs_process_name set_supplementary_groups \
         snmp_rs_stats_update_interval snmp_vs_stats_update_interval state_dump_file \
         stats_dump_file use_symlink_paths v3_checksum_as_v2 vrrp_delay_after_boot \
         vrrp_owner_ignore_adverts vrrp_vmac_garp_intvl",
    ),
    (
        "in `vrrp_instance`",
        "no_virtual_ipaddress owner_ignore_adverts thread_timer_expired \
         timer_expired_backup v3_checksum_as_v2 vmac_garp_intvl notify_deleted",
    ),
    (
        "in `virtual_server`",
        "hashed weight lb_algo lb_kind nat_mask",
    ),
    ("in `SSL_GET`", "sni_name"),
    (
        "in a route",
        "src to via gw or inet inet6 dev oif onlink nexthop weight table protocol scope metric \
         priority preference mtu hoplimit advmss rtt rttvar reordering window cwnd ssthresh \
         realms rto_min initcwnd initrwnd features quickack congctl pref ttl-propagate \
         fastopen_no_cookie add prepend append no_track track_group",
    ),
];

#[test]
fn every_word_of_the_parsers_is_served_or_warned_about_by_name() {
    use crate::keywords as v;
    for (block, words) in PARSERS {
        let vocabulary = v::ALL
            .iter()
            .find(|vocabulary| vocabulary.place() == *block);
        let vocabulary = vocabulary.unwrap_or_else(|| panic!("no vocabulary {block}"));
        let known: Vec<&str> = vocabulary.words();
        let words = words.split_whitespace();
        let missing: Vec<&str> = words.filter(|word| !known.contains(word)).collect();
        assert_eq!(missing, Vec::<&str>::new(), "{block}");
    }
}

/// Debian's package has them.
const SAMPLES: &str = "/usr/share/doc/keepalived/samples";

#[test]
fn keepalived_s_own_samples_are_accepted_but_for_what_is_said_to_be_not_served() {
    let Ok(samples) = std::fs::read_dir(SAMPLES) else {
        // Debian's small images leave documentation out.
        netbed::skip!("no {SAMPLES}");
    };
    let mut accepted = 0;
    for sample in samples {
        let path = sample.expect("readable").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !name.starts_with("keepalived.conf.") {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("readable");
        // Most show NAT, which asks for a gateway and not for a director.
        let text = text.replace("lb_kind NAT", "lb_kind DR");
        match load_text(&text.replace("lvs_method NAT", "lvs_method DR")) {
            Ok(_) => accepted += 1,
            Err(refused) => {
                let mut errors = refused.diagnostics.iter();
                let first = errors.find(|told| told.severity == conf_kit::Severity::Error);
                let first = first.map(ToString::to_string).unwrap_or_default();
                assert!(first.contains("is not served"), "{name}: {first}");
            }
        }
    }
    assert!(accepted >= 20, "only {accepted} samples are accepted");
}

#[test]
fn a_word_that_is_not_served_is_warned_about_with_the_reason() {
    let loaded = load_text(&service("ha_suspend", "snmp_name edge")).expect("accepted");
    let told = messages(&loaded.warnings);
    assert_eq!(
        told[..2],
        [
            "t.conf:2: warning: `ha_suspend` is ignored: Millrace does not serve it",
            "t.conf:4: warning: `snmp_name` is ignored: it tunes the kernel's IPVS, which \
             Millrace does without",
        ]
    );
}
