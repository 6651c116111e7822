//! Configurations that are accepted with a warning, and the words.

use super::*;

/// The warnings about `text` that have `word` in them.
fn warnings(text: &str, word: &str) -> Vec<String> {
    let loaded = load_text(text).expect("the text is accepted");
    let mut warnings = messages(&loaded.warnings);
    warnings.retain(|warning| warning.contains(word));
    warnings
}

/// A service at 10.0.0.1 with these lines in its block, which begins on line 10.
fn among_directors(lines: &str) -> String {
    format!(
        "vrrp_instance V {{
            interface eth0
            virtual_router_id 1
            unicast_src_ip 10.0.0.8
            unicast_peer {{ 10.0.0.9 }}
            virtual_ipaddress {{
                10.0.0.1
                10.0.0.2
            }} virtual_ipaddress_excluded {{ 10.0.0.3 }} }}
        virtual_server 10.0.0.1 80 {{
            {lines}
        }}
        virtual_server 10.0.0.4 80 {{ }}"
    )
}

#[test]
fn a_server_with_a_virtual_address_is_warned_of_with_its_line_and_a_way_out() {
    let virtual_address = "has a virtual address: packets go to the director that holds it, in a \
                           circle or nowhere; expected the server's own address";
    let real = |address: &str| (format!("real_server {address} 80"), 11, "{ }");
    let sorry = |address: &str| (format!("sorry_server {address} 80"), 10, "");
    for ((what, line, block), expected) in [
        (real("10.0.0.2"), Some(virtual_address)),
        (real("10.0.0.3"), Some(virtual_address)),
        (real("10.0.0.4"), Some(virtual_address)),
        (sorry("10.0.0.1"), Some(virtual_address)),
        (real("127.0.0.1"), None),
        (sorry("10.0.0.8"), None),
        (real("10.0.0.9"), None),
        (real("10.0.0.7"), None),
    ] {
        let text = among_directors(&format!("{what} {block}"));
        let expected = expected.map(|words| format!("t.conf:{line}: warning: {what} {words}"));
        let told = warnings(&text, "director");
        assert_eq!(told, expected.into_iter().collect::<Vec<_>>(), "{what}");
    }
}

#[test]
fn a_machine_that_shares_services_with_directors_is_told_what_it_lacks() {
    let lacks_address = |server: &str| {
        format!(
            "t.conf:11: warning: {server} is this machine, which accepts connections to 10.0.0.1 \
             only while it has that address itself: put it on lo, as `millrace-realserver start \
             10.0.0.1 --persist` does"
        )
    };
    let lacks_place = "t.conf:11: warning: real_server 10.0.0.9 80 is another director \
                       (unicast_peer of vrrp_instance V at t.conf:1), which takes frames from \
                       here for a client's unless this machine is a real server of the service, \
                       too: name this machine's address as a real_server, or run the server on a \
                       machine that is no director";
    let both = "real_server 10.0.0.8 80 { } real_server 10.0.0.9 80 { }";
    for (servers, addresses, expected) in [
        (both, &["10.0.0.8", "10.0.0.1"][..], None),
        (
            both,
            &["10.0.0.8"],
            Some(lacks_address("real_server 10.0.0.8 80")),
        ),
        (
            "real_server 127.0.0.1 80 { }",
            &[],
            Some(lacks_address("real_server 127.0.0.1 80")),
        ),
        (
            "real_server 10.0.0.9 80 { }",
            &["10.0.0.8"],
            Some(lacks_place.to_owned()),
        ),
        ("real_server 10.0.0.7 80 { }", &["10.0.0.8"], None),
    ] {
        let loaded = load_text(&among_directors(servers)).expect("the text is accepted");
        let own: Vec<_> = addresses
            .iter()
            .map(|it| it.parse().expect("an address"))
            .collect();
        let told = warnings_of_directors(&loaded.config, Path::new("t.conf"), &own);
        assert_eq!(
            messages(&told),
            expected.into_iter().collect::<Vec<_>>(),
            "{servers}"
        );
    }
}

#[test]
fn what_is_said_of_another_port_is_what_the_checks_do() {
    let text = |checks: &str| {
        format!("virtual_server 10.0.0.1 80 {{\nreal_server 10.0.0.2 8080 {{\n{checks}\n}}\n}}\n")
    };
    let said = |what: &str| {
        format!(
            "t.conf:2: warning: real_server 10.0.0.2 8080: ports stay as they are, viewers reach \
             the server at port 80; {what}"
        )
    };
    let checks = said("only checks connect to port 8080");
    let nothing = said("nothing connects to port 8080");
    for (block, expected) in [
        ("TCP_CHECK { }", &checks),
        ("TCP_CHECK { connect_port 80 }\nTCP_CHECK { }", &checks),
        ("TCP_CHECK { connect_port 80 }", &nothing),
        ("MISC_CHECK {\nmisc_path /bin/true\n}", &nothing),
        ("PING_CHECK { }", &nothing),
        ("", &nothing),
    ] {
        let told = warnings(&text(block), "ports stay");
        assert_eq!(told, std::slice::from_ref(expected), "{block}");
    }
}

#[test]
fn addresses_that_no_advert_names_are_told_of() {
    let router = |count: usize| {
        let addresses: Vec<String> = (0..count)
            .map(|n| format!("10.0.{}.{}", n / 250, n % 250))
            .collect();
        let addresses = addresses.join("\n");
        format!(
            "vrrp_instance V {{\ninterface e\nvirtual_router_id 1\nvirtual_ipaddress {{\n{addresses}\n}}\n}}\n"
        )
    };
    assert_eq!(warnings(&router(255), "advert"), Vec::<String>::new());
    assert_eq!(
        warnings(&router(256), "advert"),
        [
            "t.conf:1: warning: vrrp_instance V: an advert names at most 255 of its 256 \
             virtual_ipaddress: the others are held as if they were in virtual_ipaddress_excluded"
        ]
    );
}

#[test]
fn an_authentication_that_is_not_served_is_one_mistake() {
    let router = |lines: &str| {
        format!(
            "vrrp_instance V {{\ninterface e\nvirtual_router_id 1\nauthentication {{\n{lines}\n}}\n}}\n"
        )
    };
    let ah = "t.conf:5: `auth_type AH` is not served (RFC 5798 withdrew it); expected PASS";
    assert_eq!(mistake(&router("auth_type AH\nauth_pass 1111")), ah);
    assert_eq!(mistake(&router("auth_type AH")), ah);
    assert_eq!(
        mistake(&router("auth_type XX\nauth_pass 1111")),
        "t.conf:5: `auth_type` expects PASS, found `XX`"
    );
    assert_eq!(
        mistake(&router("auth_pass 1111")),
        "t.conf:4: `authentication` expects both `auth_type` and `auth_pass`"
    );
}

#[test]
fn a_sloppy_service_is_warned_of_where_sources_are_validated() {
    let with = |validation: &str, service: &str| {
        let text = format!(
            "global_defs {{ lb_syn_validation {validation} }}
            virtual_server 10.0.0.1 80 {{
                {service}
                real_server 10.0.0.2 80 {{ TCP_CHECK {{ }} }}
            }}"
        );
        warnings(&text, "flood of ACKs").len()
    };
    assert_eq!(with("automatic", "lb_algo mh"), 1);
    assert_eq!(with("always", "sloppy on"), 1);
    assert_eq!(with("always", "lb_algo mh\nsloppy off"), 0);
    assert_eq!(with("always", "lb_algo mh\nprotocol UDP"), 0);
    assert_eq!(with("always", "lb_algo wlc"), 0);
    assert_eq!(with("off", "lb_algo mh"), 0);
}

#[test]
fn a_password_that_goes_to_etcd_in_clear_is_warned_of() {
    let with = |url: &str| {
        let text = format!(
            "virtual_server 10.0.0.1 80 {{
                real_server_template {{ TCP_CHECK {{ }} }}
                discover {{
                    etcd {url}
                    etcd_username director
                    etcd_password secret
                }}
            }}"
        );
        warnings(&text, "in clear").len()
    };
    assert_eq!(with("http://10.0.0.9:2379"), 1);
    assert_eq!(with("https://10.0.0.9:2379"), 0);
}
