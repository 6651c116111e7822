use super::*;

/// The explanation of a file `t.conf` of this text.
fn explained(text: &str) -> String {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("keepalived.conf");
    std::fs::write(&file, text).expect("the file is written");
    let loaded = lb_config::load(&file).expect("the file is accepted");
    let plan = Plan::new(&loaded.config).expect("a plan");
    explain(Path::new("t.conf"), &plan, &[[10, 0, 0, 99].into()])
}

#[test]
fn what_the_second_chance_does_not_do_is_warned_of() {
    let warnings = |service: &str, checks: &str, own: &[IpAddr]| {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("keepalived.conf");
        let text = format!(
            "virtual_server 10.0.0.1 80 {{
                {service}
                real_server 10.0.0.2 80 {{
                    {checks}
                }}
            }}"
        );
        std::fs::write(&file, text).expect("the file is written");
        let loaded = lb_config::load(&file).expect("the file is accepted");
        let plan = Plan::new(&loaded.config).expect("a plan");
        second_chance_warnings(&plan, own)
    };
    let (load, own) = ("LOAD_CHECK {\n}", [[10, 0, 0, 2].into()]);
    let announced = "lb_algo mh\nannounce lo";
    assert_eq!(warnings(announced, "", &[]), [""; 0]);
    assert_eq!(warnings("lb_algo mh", load, &own), [""; 0]);
    assert_eq!(warnings("announce lo", load, &own), [""; 0]);
    let both = warnings(announced, load, &own);
    assert_eq!(both.len(), 2, "{both:?}");
    assert!(both[0].contains("10.0.0.2:80 is this machine"), "{both:?}");
    assert!(both[1].contains("LOAD_CHECK"), "{both:?}");
}

#[test]
fn a_sync_group_is_explained_by_how_many_it_has() {
    let text = explained(
        "vrrp_sync_group NONE { group { } }
        vrrp_sync_group ONE { group { V } }
        vrrp_instance V {
            interface eth0
            virtual_router_id 1
            virtual_ipaddress { 10.0.0.1 }
        }",
    );
    assert!(text.contains("\nONE: V is master alone.\n"), "{text}");
    assert!(!text.contains("NONE"), "{text}");
}

#[test]
fn a_route_is_explained_with_all_that_it_is() {
    let text = explained(
        "static_routes {
            blackhole 10.1.0.0/16
        }
        vrrp_instance V {
            interface eth0
            virtual_router_id 1
            virtual_ipaddress { 10.0.0.1 }
            virtual_routes {
                src 10.0.0.1 10.2.0.0/16 via 10.0.0.7 or 10.0.0.8
                10.3.0.0/16 via 10.0.0.7 dev eth0 metric 5 mtu 1400 no_track
            }
        }",
    );
    for expected in [
        "This machine has the route blackhole 10.1.0.0/16 while it runs.\n",
        "and has the route 10.2.0.0/16 src 10.0.0.1 nexthop via 10.0.0.7 nexthop via 10.0.0.8\n",
        "and has the route 10.3.0.0/16 via 10.0.0.7 dev eth0 metric 5 mtu 1400 no_track\n",
    ] {
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn who_gets_a_connection_is_explained() {
    let text = explained(
        "virtual_server 10.0.0.1 {
            protocol UDP
            persistence_timeout 50
            lb_algo sed
            ops
            real_server 10.0.0.2 { uthreshold 100 }
            real_server 10.0.0.3 { uthreshold 100\n lthreshold 80 }
        }",
    );
    for expected in [
        "UDP 10.0.0.1:0 (all ports that no other service has): direct routing, scheduler sed \
         for every packet by itself; a client's address",
        "10.0.0.2:0 weight 1: no check; full with 100 connections until there are fewer than three quarters\n",
        "; full with 100 connections until there are fewer than 80\n",
    ] {
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn the_deployment_is_explained_in_sentences() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/keepalived.conf");
    let loaded = lb_config::load(&file).expect("the deployment's file is accepted");
    let text = explain(
        Path::new("keepalived.conf"),
        &Plan::new(&loaded.config).expect("a plan"),
        &[],
    );
    assert_eq!(
        text,
        "keepalived.conf is right.\n\
         VI_1, as VRRP master with priority 100, holds 172.16.1.200/32 on eth2.\n    \
         the interface eth2 is a fault while it is down\n\
         TCP 172.16.1.200:1935: direct routing, scheduler rr; a client's address (/32) keeps \
         its server for 50 s after its last connection.\n    \
         172.16.1.211:1935 weight 1: TCP_CHECK 172.16.1.211:1935 every 6 s, down after 4 \
         failure(s) in a row 3 s apart\n    \
         172.16.1.207:1935 weight 1: TCP_CHECK 172.16.1.207:1935 every 6 s, down after 4 \
         failure(s) in a row 3 s apart\n"
    );
}

#[test]
fn a_server_that_is_this_machine_is_told_of() {
    let text = "virtual_server 10.0.0.1 80 {
        real_server 10.0.0.99 80 { }
        real_server 127.0.0.1 80 { lb_kind TUN }
        real_server 10.0.0.3 80 { }
    }";
    assert_eq!(
        explained(text),
        "t.conf is right.\n\
         TCP 10.0.0.1:80: direct routing, scheduler wlc; no persistence.\n    \
         10.0.0.99:80, this machine itself, weight 1: no check\n    \
         127.0.0.1:80, this machine itself, weight 1: no check\n    \
         10.0.0.3:80 weight 1: no check\n"
    );
}

#[test]
fn a_tunnel_is_told_of_where_it_is_not_the_services_way() {
    let text = "virtual_server 10.0.0.1 80 {
        lb_kind TUN
        real_server 10.1.0.2 80 { }
        real_server fd00::2 80 { }
        real_server 10.0.0.3 80 { lb_kind DR }
    }
    virtual_server 10.0.0.1 81 {
        real_server 10.1.0.2 81 { lvs_method TUN }
    }";
    assert_eq!(
        explained(text),
        "t.conf is right.\n\
         TCP 10.0.0.1:80: tunnels, scheduler wlc; no persistence.\n    \
         10.1.0.2:80 weight 1: no check\n    \
         [fd00::2]:80 weight 1: no check\n    \
         10.0.0.3:80 by direct routing weight 1: no check\n\
         TCP 10.0.0.1:81: direct routing, scheduler wlc; no persistence.\n    \
         10.1.0.2:81 through a tunnel weight 1: no check\n"
    );
}

#[test]
fn what_is_tracked_and_how_servers_come_back_is_told() {
    let text = "track_file F {\nfile /run/f\n}
    vrrp_script S {\nscript /bin/true\n}
    vrrp_sync_group G {\ngroup {\nA\nB\n}\ntrack_file {\nF weight 0 reverse\n}\n}
    vrrp_instance A {
        interface eth0
        virtual_router_id 1
        virtual_ipaddress { 10.0.0.1 }
        dont_track_primary
        track_interface {\neth1 weight 10\neth2 weight -5\n}
        track_script {\nS\n}
    }
    vrrp_instance B {
        interface eth0
        virtual_router_id 2
        virtual_ipaddress { 10.0.0.2 }
        dont_track_primary
        track_quorum -60
    }
    virtual_server 10.0.0.1 80 {
        quorum 2
        hysteresis 1
        slow_start 30
        flap_limit 5
        real_server 10.0.0.3 80 {\nweight 3\nFILE_CHECK {\ntrack_file F\n}\n}
    }";
    assert_eq!(
        explained(text),
        "t.conf is right.\n\
         A, as VRRP master with priority 100, holds 10.0.0.1/32 on eth0.\n    \
         the interface eth1 adds 10 to its priority while it is up\n    \
         the interface eth2 adds -5 to its priority while it is down\n    \
         the script S is a fault while it is down\n\
         B, as VRRP master with priority 100, holds 10.0.0.2/32 on eth0.\n    \
         the quorum of its services adds -60 to its priority while it is down\n\
         G: A and B are master together.\n    \
         the number in the file F is a fault if it is 0\n\
         TCP 10.0.0.1:80: direct routing, scheduler wlc; no persistence; quorum 2 ± 1.\n    \
         10.0.0.3:80 weight 3: FILE_CHECK /run/f every 0.25 s, down after 1 failure(s) in a \
         row 0.25 s apart; slow start 30 s; held out 30 s after more than 5 changes in 60 s\n"
    );
}
