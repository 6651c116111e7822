//! Configurations that are refused, and the words.

use super::*;

#[test]
fn a_file_that_is_not_there_is_named() {
    let refused = load(Path::new("/nonexistent/keepalived.conf")).expect_err("there is no file");
    assert_eq!(
        refused.to_string(),
        "/nonexistent/keepalived.conf: cannot be read: No such file or directory (os error 2)"
    );
}

#[test]
fn every_mistake_of_a_file_is_reported_in_one_run() {
    let refused =
        load_text("virtual_serve x\nvrrp_instance V {\n interfac eth0\n prioritty 3\n}\n")
            .expect_err("three misspelled words");
    assert_eq!(
        messages(&refused.diagnostics),
        [
            "t.conf:1: unknown word `virtual_serve` at the top of the file, did you mean `virtual_server`?",
            "t.conf:3: unknown word `interfac` in `vrrp_instance`, did you mean `interface`?",
            "t.conf:4: unknown word `prioritty` in `vrrp_instance`, did you mean `priority`?",
            "t.conf:2: vrrp_instance V has no `virtual_router_id`; expected one from 1 to 255",
        ]
    );
}

#[test]
fn mistakes_are_told_in_words_that_help() {
    let two = "virtual_server 10.0.0.1 80 {\nreal_server 10.0.0.2 80 {\nTCP_CHECK {\n}\n}\n}\n";
    let table: &[(&str, String, &str)] = &[
        (
            "a word that nobody knows",
            service("", "TCP_CHECK {\n nb_get_retri 3\n}"),
            "t.conf:5: unknown word `nb_get_retri` in `TCP_CHECK`, did you mean `nb_get_retry`?",
        ),
        (
            "a word that is near to nothing",
            service("zzz", ""),
            "t.conf:2: unknown word `zzz` in `virtual_server`",
        ),
        (
            "a check of a file that nobody has defined",
            format!(
                "track_file number {{\nfile /run/number\n}}\n{}",
                service("", "FILE_CHECK {\n track_file numbr\n}")
            ),
            "t.conf:6: there is no track_file `numbr`, did you mean `number`?",
        ),
        (
            "a check of a file that names none",
            service("", "FILE_CHECK {\n weight 3\n}"),
            "t.conf:4: `FILE_CHECK` expects a `track_file`",
        ),
        (
            "a check of a stream that names none",
            service("", "FLV_CHECK {\n app live\n}"),
            "t.conf:4: `FLV_CHECK` expects a `stream`",
        ),
        (
            "a check of the load at an address that is none",
            service("", "LOAD_CHECK {\n url http://10.0.0.300:1985/\n}"),
            "t.conf:3: real_server 10.0.0.2:80: `url` is http://10.0.0.300:1985/; expected a URL \
             such as `http://10.0.0.3:1985/api/v1/load`",
        ),
        (
            "a file without a path",
            "track_file F {\nweight 3\n}\n".to_owned(),
            "t.conf:1: track_file F has no `file`",
        ),
        (
            "a weight of a tracked file out of bounds",
            "vrrp_instance V {\nvirtual_router_id 1\ntrack_file {\nF weight 255\n}\n}\n".to_owned(),
            "t.conf:4: `F` expects a weight from -254 to 254 and perhaps `reverse`, found \
             `weight 255`",
        ),
        (
            "a number to begin with that is none",
            "track_file F {\nfile /run/f\ninit_file one overwrite\n}\n".to_owned(),
            "t.conf:3: `init_file` expects a whole number and perhaps `overwrite`, found \
             `one overwrite`",
        ),
        (
            "an IPv6 service whose clients are all one, as neither keepalived nor IPVS has it",
            "virtual_server fd00::1 80 {\npersistence_granularity 0\n}\n".to_owned(),
            "t.conf:1: virtual_server fd00::1 80: `persistence_granularity` of an IPv6 service \
             is 1 to 128 bits",
        ),
        (
            "an IPv4 service with a granularity of IPv6's",
            service("persistence_granularity 64", ""),
            "t.conf:1: virtual_server 10.0.0.1 80: `persistence_granularity` of an IPv4 service \
             is 0 to 32 bits",
        ),
        (
            "a network of the other family",
            "global_defs {\nlb_tunnel_source4 fd00::/64\n}\n".to_owned(),
            "t.conf: global_defs: `lb_tunnel_source4` is fd00::/64; expected an IPv4 network",
        ),
        (
            "a network that is none",
            "global_defs {\nlb_tunnel_source6 fd00::/129\n}\n".to_owned(),
            "t.conf:2: `lb_tunnel_source6` expects a network such as 172.16.0.0/16 or fd00::/64, \
             found `fd00::/129`",
        ),
        (
            "persistence of 0",
            service("persistence_timeout 0", ""),
            "t.conf:2: `persistence_timeout 0` means nothing; leave the line out for no \
             persistence, or give a number of seconds from 1 on",
        ),
        (
            "a number that is none",
            service("persistence_timeout fifty", ""),
            "t.conf:2: `persistence_timeout` expects a whole number from 1 to 2678400, found `fifty`",
        ),
        (
            "a virtual address that is no address",
            "virtual_server 10.0.0.300 80 {\n}\n".to_owned(),
            "t.conf:1: `virtual_server` expects an IP address instead of `10.0.0.300`, \
             found `10.0.0.300 80`",
        ),
        (
            "a check that has no port",
            "virtual_server 10.0.0.1 {\nreal_server 10.0.0.2 {\nTCP_CHECK {\n}\n}\n}\n".to_owned(),
            "t.conf:2: real_server 10.0.0.2 0: its `TCP_CHECK` has no port to connect to; \
             expected `connect_port` within it, or a port behind the server's address",
        ),
        (
            "a server that is never given connections again",
            service("", "uthreshold 5\nlthreshold 6"),
            "t.conf:3: real_server 10.0.0.2 80: `lthreshold` is 6 and `uthreshold` 5; expected a \
             `uthreshold` that is no less",
        ),
        (
            "a port beyond 65535",
            "virtual_server 10.0.0.1 65536 {\n}\n".to_owned(),
            "t.conf:1: `virtual_server` expects an IP address and perhaps a port up to 65535, \
             found `10.0.0.1 65536`",
        ),
        (
            "a service twice",
            format!("{two}{two}"),
            "t.conf:7: virtual_server 10.0.0.1 80 is there already at t.conf:1; expected each \
             address, port and protocol once",
        ),
        (
            "a real server at the virtual address",
            "virtual_server 10.0.0.1 80 {\nreal_server 10.0.0.1 80 {\n}\n}\n".to_owned(),
            "t.conf:2: real_server 10.0.0.1 80 is the virtual address itself; expected the \
             server's own address",
        ),
        (
            "an instance without interface",
            "vrrp_instance V {\nvirtual_router_id 1\n}\n".to_owned(),
            "t.conf:1: vrrp_instance V has no `interface`, and `global_defs` no `default_interface`",
        ),
        (
            "one virtual router twice",
            "vrrp_instance A {\ninterface e\nvirtual_router_id 1\n}\nvrrp_instance B {\ninterface e\nvirtual_router_id 1\n}\n"
                .to_owned(),
            "t.conf:5: vrrp_instance B has virtual_router_id 1 on e, which vrrp_instance A has at t.conf:1",
        ),
        (
            "a group that does not exist",
            "virtual_server_group GR {\n10.0.0.1 80\n}\nvirtual_server group GRR {\n}\n".to_owned(),
            "t.conf:4: there is no virtual_server_group `GRR`, did you mean `GR`?",
        ),
        (
            "a range that runs backwards",
            "virtual_server_group G {\n10.0.0.9-3 80\n}\n".to_owned(),
            "t.conf:2: `10.0.0.9-3` has 0 addresses; expected 1 to 65536",
        ),
        (
            "an address in a group with two ports",
            "virtual_server_group G {\n10.0.0.9 80 81\n}\n".to_owned(),
            "t.conf:2: expected `ADDRESS [PORT]`, `FIRST-LAST [PORT]` or `ADDRESS/PREFIX \
             [PORT]`, found `10.0.0.9 80 81`",
        ),
        (
            "a page check without a page",
            service("", "HTTP_GET {\n}"),
            "t.conf:4: `HTTP_GET` expects a `url` block at least",
        ),
        (
            "status codes that are none",
            service("", "HTTP_GET {\nurl {\nstatus_code 99\n}\n}"),
            "t.conf:6: `status_code` expects status codes from 100 to 999 or ranges such as \
             200-299, found `99`",
        ),
        (
            "a payload that is not hexadecimal",
            service("", "UDP_CHECK {\npayload hello\n}"),
            "t.conf:5: `payload` expects hexadecimal digits, such as `AB 12 f`, found `hello`",
        ),
        (
            "a forwarding method that is not served",
            service("lb_kind NAT", ""),
            "t.conf:2: forwarding method `NAT` is not served; expected DR (direct routing) or \
             TUN (a tunnel)",
        ),
        (
            "a tunnel that is not served",
            service("lb_kind TUN type gue port 6080", ""),
            "t.conf:2: tunnels of type `gue` are not served; expected `TUN type ipip`",
        ),
        (
            "a firewall mark",
            "virtual_server fwmark 3 {\n}\n".to_owned(),
            "t.conf:1: `virtual_server fwmark` is not served: packets reach the balancer before \
             the firewall could mark them; expected `virtual_server ADDRESS PORT`",
        ),
        (
            "a scheduler that nobody knows",
            service("lb_algo rrr", ""),
            "t.conf:2: unknown scheduler `rrr`; expected one of: rr, wrr, lc, wlc, sh, mh, \
             dh, sed, nq, fo, ovf, did you mean `rr`?",
        ),
        (
            "a scheduler of transparent caches",
            service("lb_algo lblc", ""),
            "t.conf:2: scheduler `lblc` is not served: it chooses by the destination, for \
             transparent caches behind a firewall mark, and a virtual server here has one \
             destination; expected one of: rr, wrr, lc, wlc, sh, mh, dh, sed, nq, fo, ovf",
        ),
        (
            "a block that is never closed",
            "virtual_server 10.0.0.1 80 {\nreal_server 10.0.0.2 80 {\n}\n".to_owned(),
            "t.conf:1: the block of `virtual_server` is never closed with `}`",
        ),
        (
            "a brace too many",
            format!("{two}}}\n"),
            "t.conf:7: `}` without a block that it could close",
        ),
        (
            "a directive without its block",
            "virtual_server 10.0.0.1 80\n".to_owned(),
            "t.conf:1: `virtual_server` expects a block in braces after it, found `10.0.0.1 80`",
        ),
        (
            "an open quotation",
            "vrrp_instance \"V {\n".to_owned(),
            "t.conf:1: the quotation that \" opens is not closed on this line",
        ),
    ];
    for (what, text, expected) in table {
        assert_eq!(mistake(text), *expected, "{what}, in:\n{text}");
    }
}

#[test]
fn names_that_refer_to_nothing_are_mistakes() {
    let router =
        "vrrp_instance VI_1 {\ninterface e\nvirtual_router_id 1\nvirtual_ipaddress { 10.0.0.9 }\n";
    assert_eq!(
        mistake(&format!(
            "vrrp_sync_group G {{ group {{ VI_2 }}\n }}\n{router}}}"
        )),
        "t.conf:1: vrrp_sync_group G names vrrp_instance `VI_2`, which does not exist, did you \
         mean `VI_1`?"
    );
    assert_eq!(
        mistake(&format!("{router}track_script {{ chk }}\n}}")),
        "t.conf:1: `track_script` names `chk`, which is no vrrp_script"
    );
}

#[test]
fn nesting_has_a_limit_and_a_long_word_is_not_compared() {
    let deep = "a {\n".repeat(200_000);
    let refused = load_text(&deep).expect_err("nothing is so deep");
    let told = messages(&refused.diagnostics);
    assert!(
        told.iter()
            .any(|message| message.contains("nested more than 32 deep")),
        "{:?}",
        told.first()
    );

    let long = "x".repeat(10 * 1024 * 1024);
    assert_eq!(
        mistake(&long),
        "t.conf:1: the line is longer than 65536 bytes"
    );
}

#[test]
fn a_quorum_that_could_never_be_is_reduced_and_told() {
    let loaded = load_text(&service("quorum 9", "weight 3")).expect("accepted");
    let told = messages(&loaded.warnings);
    assert_eq!(
        told[0],
        "t.conf:1: warning: virtual_server 10.0.0.1 80: a quorum of 9 is more than all its \
         servers weigh; it is taken for 3"
    );
}

#[test]
fn one_number_serves_an_ipv4_and_an_ipv6_router_of_one_interface_and_no_two_alike() {
    let router = |name: &str, address: &str| {
        format!(
            "vrrp_instance {name} {{\ninterface eth0\nvirtual_router_id 7\nvirtual_ipaddress \
             {{\n{address}\n}}\n}}\n"
        )
    };
    let both = router("V4", "10.0.0.1") + &router("V6", "fe80::1");
    load_text(&both).expect("IPv4 and IPv6 have their numbers to themselves");
    let again = both + &router("W6", "fe80::2");
    assert_eq!(
        mistake(&again),
        "t.conf:15: vrrp_instance W6 has virtual_router_id 7 on eth0, which vrrp_instance V6 has \
         at t.conf:8"
    );
}

#[test]
fn routes_that_cannot_be_are_told_of_with_what_was_expected() {
    let told = |route: &str| mistake(&format!("static_routes {{\n{route}\n}}\n"));
    let table = [
        (
            "10.0.0.0/8 via fd00::1",
            "the route 10.0.0.0/8 via fd00::1: fd00::1 is not of the same family as the network; \
             write `::/0` or `0.0.0.0/0` in place of `default`",
        ),
        (
            "10.0.0.0/8",
            "the route 10.0.0.0/8: expected `via`, `dev` or `nexthop`",
        ),
        (
            "blackhole 10.0.0.0/8 via 10.1.0.1",
            "the route blackhole 10.0.0.0/8 via 10.1.0.1: its packets are not sent: expected no `via`, \
             `dev` or `nexthop`",
        ),
        (
            "10.0.0.0/33 dev eth0",
            "the route `10.0.0.0/33 dev eth0`: expected a network such as 10.0.0.0/8, or \
             `default`",
        ),
        (
            "default via 10.1.0.1 table no-such-table",
            "the route `default via 10.1.0.1 table no-such-table`: expected the number of a \
             routing table from 1 on, or a name of /etc/iproute2/rt_tables",
        ),
        (
            "10.0.0.0/8 via 10.1.0.1 onlnk",
            "the route `10.0.0.0/8 via 10.1.0.1 onlnk`: expected words of a route, not `onlnk`, \
             did you mean `onlink`?",
        ),
        (
            "10.0.0.0/8 via 10.1.0.1 weight 2",
            "the route `10.0.0.0/8 via 10.1.0.1 weight 2`: expected `weight` behind the `nexthop` \
             that it belongs to: `nexthop via ADDRESS weight N`",
        ),
        (
            "10.0.0.0/8 dev eth0 tos 4",
            "the route `10.0.0.0/8 dev eth0 tos 4`: expected no `tos`, which Millrace does not \
             serve and without which this would be another route; set it with `ip route` before \
             the start",
        ),
    ];
    for (route, expected) in table {
        assert_eq!(told(route), format!("t.conf:2: {expected}"));
    }
    let text = "static_routes {\n10.0.0.0/8 dev eth0 initcwnd 20 metric 3\n}\n";
    let loaded = load_text(text).expect("accepted");
    assert_eq!(loaded.config.static_routes[0].metric, Some(3));
    assert_eq!(
        messages(&loaded.warnings)[0],
        "t.conf:2: warning: `initcwnd` is ignored: it tunes TCP connections of this machine's own"
    );
}

#[test]
fn a_script_without_a_program_and_a_member_outside_its_group_are_left_out() {
    let text = "vrrp_script S {\ninterval 1\n}\nvrrp_sync_group G {\nV\n}\nvrrp_instance V {\n\
                interface eth0\nvirtual_router_id 7\nvirtual_ipaddress {\n10.0.0.1\n}\n\
                track_script {\nS\n}\n}\n";
    let loaded = load_text(text).expect("accepted");
    assert!(loaded.config.vrrp_instance[0].track_script.is_empty());
    assert_eq!(
        messages(&loaded.warnings)[..2],
        [
            "t.conf:1: warning: vrrp_script S has no `script`, and counts for nothing",
            "t.conf:5: warning: `V` stands outside `group { … }` of vrrp_sync_group G, and is \
             ignored",
        ]
    );
}

#[test]
fn a_sync_group_of_one_is_told_of() {
    let text = "vrrp_sync_group G {\ngroup {\nV\n}\n}\nvrrp_sync_group E {\ngroup {\n}\n}\n\
                vrrp_instance V {\ninterface eth0\nvirtual_router_id 7\nvirtual_ipaddress \
                {\n10.0.0.1\n}\n}\n";
    let warnings = messages(&load_text(text).expect("accepted").warnings);
    assert_eq!(
        warnings[..2],
        [
            "t.conf:1: warning: vrrp_sync_group G has only one member, V, which is master alone: \
             name those that are to be master with it, or move what the group runs and tracks to \
             the vrrp_instance",
            "t.conf:6: warning: vrrp_sync_group E has no members, and is ignored",
        ]
    );
}

#[test]
fn comments_may_be_in_any_encoding_and_words_are_utf8() {
    let directory = tempfile::tempdir().expect("a directory");
    let read = |name: &str, bytes: &[u8]| {
        let file = directory.path().join(name);
        std::fs::write(&file, bytes).expect("written");
        load(&file)
    };
    let comments = b"# Stra\xdfe\n! \xff\nglobal_defs { # \xe4\n}\n";
    read("keepalived.conf", comments).expect("only comments are not UTF-8");
    let marked = b"\xef\xbb\xbfglobal_defs {\n}\n";
    read("keepalived.conf", marked).expect("a mark of UTF-8 is no word");
    let told: [(&str, &[u8], usize); 3] = [
        (
            "word.conf",
            b"global_defs {\n}\nvrrp_instance V\xdf {\n}\n",
            3,
        ),
        (
            "quoted.conf",
            b"global_defs {\nrouter_id \"# \xdf\"\n}\n",
            2,
        ),
        ("file.json", b"{\n\"x\": \"\xdf\"}", 2),
    ];
    for (name, bytes, line) in told {
        let refused = read(name, bytes).expect_err(name).to_string();
        let expected = format!("{name}:{line}: this is not UTF-8 text");
        assert!(refused.contains(&expected), "{refused}");
    }
}

#[test]
fn a_real_server_that_stands_twice_counts_once() {
    let loaded = load_text(&service("real_server 10.0.0.2 80 {\n}", "")).expect("accepted");
    let told = messages(&loaded.warnings);
    let expected = "t.conf:4: warning: real_server 10.0.0.2 80 is in this virtual_server already \
                    at t.conf:2; this one is ignored";
    assert!(told.iter().any(|warning| warning == expected), "{told:?}");
    assert_eq!(loaded.config.virtual_server[0].servers().count(), 1);
}

#[test]
fn files_that_etcd_makes_no_use_of_are_mistakes() {
    let told = |source: &str| {
        let text = format!(
            "virtual_server 10.0.0.1 80 {{
                real_server_template {{ TCP_CHECK {{ }} }}
                discover {{
                    {source}
                }}
            }}"
        );
        load_text(&text).map_or_else(
            |refused| messages(&refused.diagnostics).join("\n"),
            |_| String::new(),
        )
    };
    const TLS: &str = "etcd https://10.0.0.9:2379";
    for (source, expected) in [
        (format!("{TLS}\netcd_cert /c.pem\netcd_key /k.pem"), ""),
        (
            format!("{TLS}\netcd_cert /c.pem"),
            "expected both `etcd_cert` and `etcd_key`, or neither",
        ),
        (
            format!("{TLS}\netcd_key /k.pem"),
            "expected both `etcd_cert` and `etcd_key`, or neither",
        ),
        (
            "etcd http://10.0.0.9:2379\netcd_cert /c.pem\netcd_key /k.pem".to_owned(),
            "`etcd_cert` is of no use without TLS",
        ),
    ] {
        let told = told(&source);
        assert!(
            told.contains(expected) && told.is_empty() == expected.is_empty(),
            "{source}: {told}"
        );
    }
}
