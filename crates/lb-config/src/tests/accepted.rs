//! Configurations that are accepted, and their meaning.

use super::*;

#[test]
fn the_deployments_file_is_understood_as_its_author_meant_it() {
    let loaded = load_text(DEPLOYMENT).expect("the deployment's file is accepted");
    let [instance] = loaded.config.vrrp_instance.as_slice() else {
        panic!("one instance")
    };
    assert_eq!(instance.name, "VI_1");
    assert_eq!(instance.interface.as_deref(), Some("eth2"));
    assert_eq!(instance.virtual_router_id, 51);
    assert_eq!(instance.priority, Some(100));
    assert_eq!(
        instance
            .authentication
            .as_ref()
            .map(|a| a.auth_pass.as_str()),
        Some("1111")
    );
    assert_eq!(
        instance.virtual_ipaddress[0].address.to_string(),
        "172.16.1.200"
    );

    let [service] = loaded.config.virtual_server.as_slice() else {
        panic!("one service")
    };
    assert_eq!(service.address.to_string(), "172.16.1.200 1935");
    assert_eq!(service.persistence_timeout, Some(50));
    assert_eq!(service.lb_kind, Some(LbKind::DirectRouting));
    assert_eq!(
        service.timing.delay_loop,
        Some(Seconds(std::time::Duration::from_secs(6)))
    );
    let addresses: Vec<_> = service
        .real_server
        .iter()
        .map(|s| s.address.to_string())
        .collect();
    assert_eq!(addresses, ["172.16.1.211:1935", "172.16.1.207:1935"]);
    let check = &service.real_server[0].checks[0];
    assert_eq!(check.kind, CheckKind::Tcp);
    assert_eq!(check.timing.retry, Some(3), "nb_get_retry is read as retry");
}

#[test]
fn the_deployments_file_is_warned_about_by_name_and_line() {
    let warnings = load_text(DEPLOYMENT)
        .expect("the deployment's file is accepted")
        .warnings;
    assert_eq!(
        messages(&warnings),
        [
            "t.conf:4: warning: `notification_email` is ignored: Millrace sends no mail; follow its log or its events instead",
            "t.conf:6: warning: `notification_email_from` is ignored: Millrace sends no mail; follow its log or its events instead",
            "t.conf:31: warning: `nat_mask` is ignored: it has no meaning in direct routing",
        ]
    );
}

#[test]
fn the_advanced_example_is_accepted_without_a_word() {
    let file =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/keepalived-advanced.conf");
    for (id, priority) in [("main", 150), ("spare", 100)] {
        let loaded = load_for(&file, id).expect("the example is accepted");
        assert_eq!(messages(&loaded.warnings), Vec::<String>::new());
        assert_eq!(loaded.config.vrrp_instance[0].priority, Some(priority));
        let servers = &loaded.config.virtual_server[0].real_server;
        let addresses: Vec<_> = servers
            .iter()
            .map(|server| server.address.to_string())
            .collect();
        assert_eq!(addresses, ["172.16.1.211:1935", "172.16.1.207:1935"]);
        assert!(
            matches!(&servers[1].checks[0].kind, CheckKind::Rtmp { stream: Some(stream), .. }
                if stream == "livestream"),
            "{:?}",
            servers[1].checks
        );
    }
}

#[test]
fn the_example_for_browsers_is_accepted_without_a_word() {
    let file =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/keepalived-browsers.conf");
    let loaded = load_for(&file, "main").expect("the example is accepted");
    assert_eq!(messages(&loaded.warnings), Vec::<String>::new());
    let services = loaded.config.virtual_server.iter();
    let checked: Vec<_> = services
        .flat_map(|service| {
            let (address, servers) = (service.address.to_string(), &service.real_server);
            servers.iter().map(move |server| {
                assert_eq!(server.address.port(), 0, "any port");
                let check = &server.checks[0];
                let to = (
                    server.address.ip().to_string(),
                    check.connection.connect_port,
                );
                let is_tls = matches!(check.kind, CheckKind::Flv { tls: true, .. });
                (address.clone(), to.0, to.1, check.connecting_word(), is_tls)
            })
        })
        .collect();
    let expected = |port: u16, check, is_tls| {
        ["172.16.1.211", "172.16.1.207"].map(|server| {
            let service = format!("172.16.1.200 {port}");
            (service, server.to_owned(), Some(port), Some(check), is_tls)
        })
    };
    let expected = [
        expected(1935, "RTMP_CHECK", false),
        expected(8080, "FLV_CHECK", false),
        expected(443, "FLV_CHECK", true),
    ];
    assert_eq!(checked, expected.concat());
}

#[test]
fn virtual_routers_are_read_with_all_that_they_track_and_tell() {
    let loaded = load_text(
        "vrrp_script chk { script \"/bin/chk -q\" nobody\n interval 2\n weight -20 reverse\n fall 3\n init_fail }
        vrrp_sync_group G { group { A\n } notify_master /bin/gm }
        vrrp_instance A {
            state BACKUP
            interface eth2
            version 3
            virtual_router_id 7
            advert_int 0.5
            nopreempt
            preempt_delay 300
            unicast_src_ip 10.0.0.1
            unicast_peer { 10.0.0.2 min_ttl 254 max_ttl 255\n 10.0.0.3 }
            virtual_ipaddress { 10.0.0.9/24 dev eth3 label eth3:1\n 10.0.0.8 brd 10.0.0.255 scope link }
            track_interface { eth4\n eth5 weight 10 }
            track_script { chk weight -5 }
            notify \"/bin/notify all\"
        }",
    )
    .expect("the routers are accepted");
    let instance = &loaded.config.vrrp_instance[0];
    assert_eq!(
        instance.advert_int,
        Some(Seconds(std::time::Duration::from_millis(500)))
    );
    assert!(instance.nopreempt);
    assert_eq!(instance.unicast_peer.len(), 2);
    assert_eq!(instance.unicast_peer[0].min_ttl, Some(254));
    let address = &instance.virtual_ipaddress[0];
    assert_eq!(
        (address.prefix, address.dev.as_deref()),
        (Some(24), Some("eth3"))
    );
    let tracked: Vec<_> = instance.track_interface.iter().map(|t| t.weight).collect();
    assert_eq!(tracked, [None, Some(10)]);
    let script = &loaded.config.vrrp_script[0];
    assert_eq!(
        (script.weight, script.reverse, script.fall),
        (Some(-20), true, Some(3))
    );
    assert_eq!(script.script.command, ["/bin/chk", "-q"]);
    assert_eq!(loaded.config.vrrp_sync_group[0].group, ["A"]);
    let ignored: Vec<_> = messages(&loaded.warnings)
        .into_iter()
        .filter(|warning| warning.contains("is ignored"))
        .collect();
    assert_eq!(
        ignored,
        [
            "t.conf:20: warning: `brd` is ignored: Millrace leaves this to the kernel's defaults",
            "t.conf:20: warning: `scope` is ignored: Millrace leaves this to the kernel's defaults",
            "t.conf:8: warning: vrrp_instance A: `track_script` chk is ignored: members of a \
             sync group track nothing with a weight; the group itself can",
        ]
    );
}

#[test]
fn persistence_is_as_keepalived_reads_it() {
    let timeout = |line: &str| {
        let loaded = load_text(&service(line, "")).expect("the service is accepted");
        loaded.config.virtual_server[0].persistence_timeout
    };
    assert_eq!(timeout(""), None, "left out: none");
    assert_eq!(
        timeout("persistence_timeout"),
        Some(360),
        "the bare word: six minutes"
    );
    assert_eq!(timeout("persistence_timeout 50"), Some(50));
}

#[test]
fn granularity_is_a_netmask_or_a_prefix_length() {
    for (word, bits) in [
        ("255.255.255.0", 24),
        ("255.255.255.255", 32),
        ("0.0.0.0", 0),
        ("20", 20),
    ] {
        let text = service(&format!("persistence_granularity {word}"), "");
        let loaded = load_text(&text).expect("the service is accepted");
        assert_eq!(
            loaded.config.virtual_server[0].persistence_granularity,
            Some(bits),
            "{word}"
        );
    }
    assert_eq!(
        mistake(&service("persistence_granularity 255.0.255.0", "")),
        "t.conf:2: `persistence_granularity` expects a netmask such as 255.255.255.0 or a prefix \
         length, found `255.0.255.0`"
    );
}

#[test]
fn a_script_is_one_quoted_string_with_user_and_group_after_it() {
    let text = service("quorum_up \"/bin/notify 'a b' c\" nobody nogroup", "");
    let loaded = load_text(&text).expect("the service is accepted");
    let script = loaded.config.virtual_server[0]
        .quorum_up
        .clone()
        .expect("a script");
    assert_eq!(script.command, ["/bin/notify", "a b", "c"]);
    assert_eq!(script.user.as_deref(), Some("nobody"));
    assert_eq!(script.group.as_deref(), Some("nogroup"));
}

#[test]
fn braces_may_share_lines_or_have_their_own() {
    let text =
        "virtual_server 10.0.0.1 80\n{\n lb_algo rr\n real_server 10.0.0.2 80 { weight 3 }\n}";
    let loaded = load_text(text).expect("the service is accepted");
    assert_eq!(
        loaded.config.virtual_server[0].real_server[0].weight,
        Some(3)
    );
}

#[test]
fn a_service_of_all_ports_is_written_with_port_0_or_without_and_has_persistence() {
    for port in ["0", ""] {
        let loaded = load_text(&format!(
            "virtual_server 10.0.0.1 {port} {{
                protocol TCP
                sorry_server 10.0.0.9
                real_server 10.0.0.2 {port} {{ TCP_CHECK {{ connect_port 80\n }} }}
                real_server 10.0.0.3 80 {{ TCP_CHECK {{ }} }}
                real_server 10.0.0.4 {{ PING_CHECK {{ }} }}
            }}"
        ))
        .expect("accepted");
        let service = &loaded.config.virtual_server[0];
        let address = "10.0.0.1:0".parse().expect("an address");
        assert_eq!(service.persistence_timeout_at(address), Some(360));
        let ports: Vec<_> = service.servers().map(|it| it.address.port()).collect();
        assert_eq!(ports, [0, 80, 0]);
        assert_eq!(service.sorry_server.map(|sorry| sorry.port()), Some(0));
        assert_eq!(
            messages(&loaded.warnings),
            [
                "t.conf:1: warning: virtual_server 10.0.0.1 0: a service of all ports needs \
                 persistence; as in keepalived it has `persistence_timeout 360`",
                "t.conf:6: warning: real_server 10.0.0.3 80: ports stay as they are, viewers \
                 reach the server at the port that they connect to; only checks connect to port \
                 80",
            ]
        );
    }
    let given = load_text("virtual_server 10.0.0.1 0 {\npersistence_timeout 50\n}\n");
    let service = &given.expect("accepted").config.virtual_server[0];
    let address = "10.0.0.1:0".parse().expect("an address");
    assert_eq!(service.persistence_timeout_at(address), Some(50));
}

#[test]
fn the_addresses_of_a_group_may_have_all_ports_of_theirs() {
    let loaded = load_text(
        "virtual_server_group G {
            10.0.0.1
            10.0.0.8-9 0
            10.0.1.0/31 80
        }
        virtual_server group G {
            real_server 10.0.9.1 { PING_CHECK { } }
        }",
    )
    .expect("accepted");
    let service = &loaded.config.virtual_server[0];
    let addresses = loaded.config.addresses(service).into_iter();
    let persistence: Vec<_> = addresses
        .map(|address| (address.to_string(), service.persistence_timeout_at(address)))
        .collect();
    let persistence: Vec<_> = persistence
        .iter()
        .map(|(address, timeout)| (address.as_str(), *timeout))
        .collect();
    assert_eq!(
        persistence,
        [
            ("10.0.0.1:0", Some(360)),
            ("10.0.0.8:0", Some(360)),
            ("10.0.0.9:0", Some(360)),
            ("10.0.1.0:80", None),
            ("10.0.1.1:80", None),
        ]
    );
}

#[test]
fn flags_of_schedulers_have_two_names() {
    for (words, port, fallback) in [
        ("", false, false),
        ("sh-port", true, false),
        ("flag-2", true, false),
        ("mh-fallback", false, true),
        ("flag-1", false, true),
        ("sh-port\nsh-fallback", true, true),
    ] {
        let loaded = load_text(&service(words, "")).expect("accepted");
        let service = &loaded.config.virtual_server[0];
        let flags = (service.hash_port, service.hash_fallback);
        assert_eq!(flags, (port, fallback), "{words}");
    }
}

#[test]
fn ops_is_for_udp_and_ignored_elsewhere_as_in_keepalived() {
    for (protocol, is_served) in [("UDP", true), ("TCP", false)] {
        let text = service(&format!("ops\nprotocol {protocol}"), "");
        let loaded = load_text(&text).expect("accepted");
        assert_eq!(loaded.config.virtual_server[0].is_one_packet(), is_served);
        let told = messages(&loaded.warnings);
        let ignored = "t.conf:1: warning: virtual_server 10.0.0.1 80: `ops` is ignored: only \
                       packets of UDP are scheduled one by one";
        assert_eq!(
            told.iter().any(|told| told == ignored),
            !is_served,
            "{told:?}"
        );
    }
}

#[test]
fn thresholds_of_0_are_none() {
    let loaded = load_text(&service("", "uthreshold 0\nlthreshold 0")).expect("accepted");
    let server = &loaded.config.virtual_server[0].real_server[0];
    assert_eq!((server.uthreshold, server.lthreshold), (Some(0), Some(0)));
}
