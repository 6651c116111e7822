//! What is accepted, what is warned of, what is refused, and in which words.

use std::path::Path;

use super::diagnostic::Diagnostics;
use super::model::{CheckKind, LbKind, Seconds};
use super::reader::read;
use super::*;

const DEPLOYMENT: &str = include_str!("../../../examples/keepalived.conf");

/// Reads `text` as `t.conf`.
fn load_text(text: &str) -> Result<Loaded, Refused> {
    let mut diagnostics = Diagnostics::new(Path::new("t.conf").into());
    let config = parse(Path::new("t.conf"), text, "main", &mut diagnostics);
    finish(config, diagnostics)
}

fn messages(list: &[Diagnostic]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

/// The one mistake that `text` makes.
fn mistake(text: &str) -> String {
    let refused = load_text(text).expect_err("the text has a mistake");
    let errors: Vec<_> = refused
        .diagnostics
        .into_iter()
        .filter(|diagnostic| diagnostic.severity == Severity::Error)
        .collect();
    assert_eq!(errors.len(), 1, "expected one mistake, got {errors:#?}");
    errors[0].to_string()
}

/// A service with `inside` in its block and `server` in its real server's.
fn service(inside: &str, server: &str) -> String {
    format!(
        "virtual_server 10.0.0.1 80 {{\n{inside}\nreal_server 10.0.0.2 80 {{\n{server}\n}}\n}}\n"
    )
}

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
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/keepalived-advanced.conf");
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
fn json_says_the_same_as_keepalived_conf() {
    let config = load_text(DEPLOYMENT)
        .expect("the deployment's file is accepted")
        .config;
    let text = json::write(&config).to_string();
    let mut diagnostics = Diagnostics::new(Path::new("t.json").into());
    let again = parse(Path::new("t.json"), &text, "main", &mut diagnostics);
    assert_eq!(messages(&diagnostics.into_list()), Vec::<String>::new());
    assert_eq!(again, Some(config));
}

#[test]
fn json_mistakes_are_named_by_their_path() {
    let text = r#"{"virtual_server": [{"address": "10.0.0.1:80", "lb_algoo": "rr"}]}"#;
    let mut diagnostics = Diagnostics::new(Path::new("t.json").into());
    json::read(text, &mut diagnostics);
    assert_eq!(
        messages(&diagnostics.into_list()),
        ["t.json: unknown field `virtual_server[0].lb_algoo`, did you mean `lb_algo`?"]
    );
}

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
            "port 0",
            "virtual_server 10.0.0.1 0 {\n}\n".to_owned(),
            "t.conf:1: port 0 of `virtual_server` is no port that a client can connect to; \
             expected 1 to 65535",
        ),
        (
            "a port beyond 65535",
            "virtual_server 10.0.0.1 65536 {\n}\n".to_owned(),
            "t.conf:1: `virtual_server` expects an IP address and a port from 1 to 65535, \
             found `10.0.0.1 65536`",
        ),
        (
            "a real server twice",
            service("real_server 10.0.0.2 80 {\n}", ""),
            "t.conf:4: real_server 10.0.0.2 80 is in this virtual_server already at t.conf:2",
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
            "an address in a group without its port",
            "virtual_server_group G {\n10.0.0.9\n}\n".to_owned(),
            "t.conf:2: expected `ADDRESS PORT`, `FIRST-LAST PORT` or `ADDRESS/PREFIX PORT`, \
             found `10.0.0.9 `",
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
            "t.conf:2: forwarding method `NAT` is not served; expected DR (direct routing)",
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
            "t.conf:2: unknown scheduler `rrr`; expected one of: rr, wrr, lc, wlc, sh, mh, did you mean `rr`?",
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
        ]
    );
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
    for (word, bits) in [("255.255.255.0", 24), ("255.255.255.255", 32), ("20", 20)] {
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
fn every_check_survives_json() {
    let text = service(
        "",
        "HTTP_GET { url { path /a\n status_code 200 300-399\n digest 00\n regex x\n regex_options caseless } }
        SSL_GET { connect_port 443\n url { path /b } }
        MISC_CHECK { misc_path \"/bin/x 'a b'\"\n misc_timeout 2\n misc_dynamic\n user nobody }
        UDP_CHECK { payload ab\n require_reply aX\n min_reply_length 2 }
        PING_CHECK { retry 2 }
        RTMP_CHECK { app live\n stream s\n play_timeout 3 }",
    );
    let config = load_text(&text).expect("the checks are accepted").config;
    assert_eq!(config.virtual_server[0].real_server[0].checks.len(), 6);
    let json = json::write(&config).to_string();
    let mut diagnostics = Diagnostics::new(Path::new("t.json").into());
    let again = parse(Path::new("t.json"), &json, "main", &mut diagnostics);
    assert_eq!(messages(&diagnostics.into_list()), Vec::<String>::new());
    assert_eq!(again, Some(config));
}

/// Guards the vocabularies: a word must not be listed as served and then be
/// answered with "unknown word" or "is ignored".
#[test]
fn every_word_that_is_listed_as_served_is_read() {
    use super::reader::vocabulary as v;
    let in_server = |inside: &str| {
        format!("virtual_server 10.0.0.1 80 {{\nreal_server 10.0.0.2 80 {{\n{inside}")
    };
    let around: [(&v::Vocabulary, &str, &str); 14] = [
        (&v::TOP_LEVEL, "", ""),
        (&v::GLOBAL_DEFS, "global_defs {\n", "\n}"),
        (&v::VRRP_INSTANCE, "vrrp_instance V {\n", "\n}"),
        (&v::VRRP_SYNC_GROUP, "vrrp_sync_group G {\n", "\n}"),
        (&v::VRRP_SCRIPT, "vrrp_script S {\n", "\n}"),
        (&v::VIRTUAL_SERVER, "virtual_server 10.0.0.1 80 {\n", "\n}"),
        (&v::REAL_SERVER, &in_server(""), "\n}\n}"),
        (&v::TCP_CHECK, &in_server("TCP_CHECK {\n"), "\n}\n}\n}"),
        (&v::PING_CHECK, &in_server("PING_CHECK {\n"), "\n}\n}\n}"),
        (&v::HTTP_GET, &in_server("HTTP_GET {\n"), "\n}\n}\n}"),
        (&v::URL, &in_server("HTTP_GET {\nurl {\n"), "\n}\n}\n}\n}"),
        (&v::MISC_CHECK, &in_server("MISC_CHECK {\n"), "\n}\n}\n}"),
        (&v::UDP_CHECK, &in_server("UDP_CHECK {\n"), "\n}\n}\n}"),
        (&v::RTMP_CHECK, &in_server("RTMP_CHECK {\n"), "\n}\n}\n}"),
    ];
    for (vocabulary, before, after) in around {
        for word in vocabulary.served {
            let mut diagnostics = Diagnostics::new(Path::new("t.conf").into());
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
fn json_keeps_to_the_same_bounds() {
    let text = r#"{
        "vrrp_instance": [{"name": "V", "interface": "eth0", "virtual_router_id": 1, "advert_int": 0,
            "virtual_ipaddress": [{"address": "10.0.0.1", "label": "eth0:much-too-long"}]}],
        "virtual_server": [{"address": "10.0.0.1:80", "delay_loop": 0, "persistence_timeout": 0,
            "real_server": [{"address": "10.0.0.2:80", "weight": 4294967295,
                "checks": [{"type": "TCP_CHECK", "connect_timeout": 0}]}]}]}"#;
    let mut diagnostics = Diagnostics::new(Path::new("t.json").into());
    let config = parse(Path::new("t.json"), text, "main", &mut diagnostics);
    let refused = finish(config, diagnostics).expect_err("numbers are out of bounds");
    assert_eq!(
        messages(&refused.diagnostics),
        [
            "t.json: vrrp_instance V: `advert_int` is 0 s; expected more than 0 seconds",
            "t.json: vrrp_instance V: `label` is eth0:much-too-long; expected at most 15 bytes",
            "t.json: virtual_server 10.0.0.1 80: `delay_loop` is 0 s; expected more than 0 seconds",
            "t.json: virtual_server 10.0.0.1 80: `persistence_timeout` is 0; expected 1 to 2678400 \
             seconds",
            "t.json: real_server 10.0.0.2:80: `connect_timeout` is 0 s; expected more than 0 seconds",
            "t.json: real_server 10.0.0.2:80: `weight` is 4294967295; expected 0 to 65535",
        ]
    );
}
