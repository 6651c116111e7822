//! The scripts that operators run.

use std::process::Command;

use anyhow::{Context, Result};
use netbed::{Host, INTERFACE};
use testbed::{Cluster, ServerKind, Source, VIP, source_root};

use crate::on;

/// Runs a script on a host: its exit status and everything that it wrote.
fn script(host: &Host, name: &str, arguments: &[&str]) -> Result<(i32, String)> {
    let mut command = Command::new(source_root().join("scripts").join(name));
    command.args(arguments);
    let output = host.output(command)?;
    let text = [output.stdout, output.stderr].concat();
    let status = output.status.code().context("ended by a signal")?;
    Ok((status, String::from_utf8_lossy(&text).into_owned()))
}

fn realserver(host: &Host, arguments: &[&str]) -> Result<(i32, String)> {
    script(host, "realserver.sh", arguments)
}

fn arp_settings(host: &Host) -> Result<String> {
    host.sh(
        "sysctl net.ipv4.conf.all.arp_ignore net.ipv4.conf.lo.arp_ignore \
             net.ipv4.conf.all.arp_announce net.ipv4.conf.lo.arp_announce",
    )
}

#[test]
#[ignore = "needs root"]
fn realserver_takes_the_vip_without_answering_for_it() {
    on(Cluster::builder().network_only(), |cluster| {
        let (server, client) = (cluster.edge(0).host(), cluster.client(0).host());
        let vip = VIP.to_string();
        let ping = format!("ping -c 1 -W 1 {vip}");
        let (status, text) = realserver(server, &["start", &vip])?;
        assert_eq!(status, 0, "{text}");
        assert!(server.has_address(VIP)?);
        server
            .sh(&ping)
            .context("the server itself reaches the VIP")?;
        assert!(
            client.sh(&ping).is_err(),
            "nobody else learns from it where the VIP is"
        );
        assert_eq!(realserver(server, &["status", &vip])?.0, 0);
        Ok(())
    });
}

#[test]
#[ignore = "needs root"]
fn realserver_started_twice_changes_nothing_the_second_time() {
    on(Cluster::builder().network_only(), |cluster| {
        let server = cluster.edge(0).host();
        let vip = VIP.to_string();
        realserver(server, &["start", &vip])?;
        let before = server.sh("ip address show dev lo")?;
        let (status, text) = realserver(server, &["start", &vip])?;
        assert_eq!((status, text.lines().count()), (0, 1), "{text}");
        assert_eq!(server.sh("ip address show dev lo")?, before);
        Ok(())
    });
}

#[test]
#[ignore = "needs root"]
fn realserver_restores_what_it_found_when_it_is_stopped() {
    on(Cluster::builder().network_only(), |cluster| {
        let server = cluster.edge(0).host();
        server.sh("sysctl -w net.ipv4.conf.all.arp_ignore=2 net.ipv4.conf.lo.arp_announce=1")?;
        let settings = arp_settings(server)?;
        let routes = server.sh("ip -4 route show table all")?;
        let vip = VIP.to_string();
        realserver(server, &["start", &vip])?;
        assert_ne!(arp_settings(server)?, settings);

        let (status, text) = realserver(server, &["stop", &vip])?;
        assert_eq!(status, 0, "{text}");
        assert_eq!(arp_settings(server)?, settings);
        assert_eq!(server.sh("ip -4 route show table all")?, routes);
        assert!(!server.has_address(VIP)?);
        assert_eq!(
            realserver(server, &["status", &vip])?.0,
            3,
            "and status says so"
        );
        Ok(())
    });
}

#[test]
#[ignore = "needs root"]
fn realserver_keeps_the_settings_while_another_vip_needs_them() {
    on(Cluster::builder().network_only(), |cluster| {
        let server = cluster.edge(0).host();
        let settings = arp_settings(server)?;
        realserver(server, &["start", "172.16.1.200"])?;
        realserver(server, &["start", "172.16.1.201"])?;
        realserver(server, &["stop", "172.16.1.200"])?;
        assert_eq!(realserver(server, &["status", "172.16.1.201"])?.0, 0);
        realserver(server, &["stop", "172.16.1.201"])?;
        assert_eq!(arp_settings(server)?, settings);
        Ok(())
    });
}

#[test]
#[ignore = "needs root"]
fn realserver_names_each_file_that_it_writes_and_removes_them_all() {
    on(Cluster::builder().network_only(), |cluster| {
        let server = cluster.edge(0).host();
        let root = server.directory().join("image");
        std::fs::create_dir(&root)?;
        let root = root.to_str().context("a path in UTF-8")?;
        let find = format!("find {root} -not -type d");
        let vip = VIP.to_string();

        let (status, text) = realserver(server, &["start", &vip, "--persist", "--root", root])?;
        assert_eq!(status, 0, "{text}");
        let files = server.sh(&find)?;
        assert_eq!(
            files.lines().count(),
            4,
            "settings, script, unit, its enabling:\n{files}"
        );
        for file in files.lines().filter(|file| !file.contains(".wants/")) {
            assert!(
                text.contains(&format!("wrote {file}\n")),
                "{file} is not named in:\n{text}"
            );
        }
        assert!(
            !server.has_address(VIP)?,
            "an image that is built has no addresses"
        );

        let (status, text) = realserver(server, &["stop", &vip, "--persist", "--root", root])?;
        assert_eq!((status, server.sh(&find)?.as_str()), (0, ""), "{text}");
        Ok(())
    });
}

/// Gives a host directories of its own where `--persist` writes.
fn hide_system_directories(host: &Host) -> Result<()> {
    for directory in [
        "/etc/sysctl.d",
        "/etc/systemd/system",
        "/usr/local/sbin",
        "/var/lib",
    ] {
        host.sh(&format!("mount -t tmpfs tmpfs {directory}"))?;
    }
    Ok(())
}

#[test]
#[ignore = "needs root"]
fn realserver_restores_what_it_found_before_a_reboot() {
    on(Cluster::builder().network_only(), |cluster| {
        let server = cluster.edge(0).host();
        hide_system_directories(server)?;
        let settings = arp_settings(server)?;
        let vip = VIP.to_string();
        let (status, text) = realserver(server, &["start", &vip, "--persist"])?;
        assert_eq!(status, 0, "{text}");
        // What a reboot does: /run is empty, the address is gone, and sysctl.d
        // has set everything before the unit starts the script.
        server.sh("rm -r /run/millrace")?;
        server.sh(&format!("ip address del {vip}/32 dev lo"))?;
        assert_ne!(arp_settings(server)?, settings);
        let (status, text) = realserver(server, &["start", &vip])?;
        assert_eq!(status, 0, "{text}");

        let (status, text) = realserver(server, &["stop", &vip, "--persist"])?;
        assert_eq!(status, 0, "{text}");
        assert_eq!(arp_settings(server)?, settings);
        let left = "find /etc/sysctl.d /etc/systemd/system /usr/local/sbin /var/lib -not -type d";
        assert_eq!(server.sh(left)?, "");
        Ok(())
    });
}

#[test]
#[ignore = "needs root"]
fn realserver_tells_a_host_address_of_vrrp_from_its_own() {
    on(Cluster::builder().network_only(), |cluster| {
        let server = cluster.edge(0).host();
        // In no network that the machine has: its own.
        let own = "198.51.100.7";
        server.sh(&format!("ip address add {own}/32 dev {INTERFACE}"))?;
        let (status, text) = realserver(server, &["start", own])?;
        assert_eq!(status, 2, "{text}");
        assert!(text.contains("own address"), "{text}");
        // In its network: VRRP's.
        let vip = VIP.to_string();
        server.sh(&format!("ip address add {vip}/32 dev {INTERFACE}"))?;
        let (status, text) = realserver(server, &["start", &vip])?;
        assert_eq!(status, 0, "{text}");
        // VRRP takes an address that the machine is a real server of.
        server.sh(&format!("ip address del {own}/32 dev {INTERFACE}"))?;
        assert_eq!(realserver(server, &["start", own])?.0, 0);
        server.sh(&format!("ip address add {own}/32 dev {INTERFACE}"))?;
        let (status, text) = realserver(server, &["start", own])?;
        assert_eq!(status, 0, "{text}");
        Ok(())
    });
}

#[test]
#[ignore = "needs root"]
fn realserver_refuses_addresses_that_cannot_be_a_vip() {
    on(Cluster::builder().network_only(), |cluster| {
        let server = cluster.edge(0).host();
        let own = server.address().to_string();
        for vip in [
            "0.0.0.0",
            "127.0.0.1",
            "224.0.0.18",
            "255.255.255.255",
            &own,
        ] {
            let (status, text) = realserver(server, &["start", vip])?;
            assert_eq!(status, 2, "{vip}: {text}");
            assert!(text.contains(vip), "{text}");
        }
        assert_eq!(
            server
                .sh("ip -4 -oneline address show dev lo")?
                .lines()
                .count(),
            1
        );
        Ok(())
    });
}

#[test]
#[ignore = "needs root"]
fn demo_says_what_is_wrong_with_its_arguments_before_it_does_anything() {
    on(Cluster::builder().network_only(), |cluster| {
        let cases: [(&[&str], &str); 5] = [
            (
                &["--seconds", "5"],
                "--seconds needs a whole number from 20 to 3600, not 5",
            ),
            (
                &["--viewers=many"],
                "--viewers needs a whole number from 1 to 60, not many",
            ),
            (
                &["--input", "nowhere.flv"],
                "cannot read the file nowhere.flv",
            ),
            (&["--edges"], "--edges needs a value"),
            (&["--quick"], "unknown argument --quick"),
        ];
        for (arguments, message) in cases {
            let (status, text) = script(cluster.client(0).host(), "demo.sh", arguments)?;
            assert_eq!(
                (status, text.lines().count()),
                (2, 1),
                "{arguments:?}: {text}"
            );
            assert!(
                text.contains(message),
                "{arguments:?} should say {message:?}: {text}"
            );
        }
        Ok(())
    });
}

#[test]
#[ignore = "needs root"]
fn realserver_says_what_is_wrong_with_its_arguments() {
    on(Cluster::builder().network_only(), |cluster| {
        let cases: [(&[&str], &str); 7] = [
            (&[], "a command is missing: start, stop or status"),
            (
                &["begin", "172.16.1.200"],
                "unknown command begin: expected start, stop or status",
            ),
            (&["start"], "the virtual IP address is missing"),
            (&["start", "172.16.1"], "not an IPv4 address: 172.16.1"),
            (
                &["start", "172.16.1.256"],
                "not an IPv4 address: 172.16.1.256",
            ),
            (
                &["start", "172.16.1.200", "--persistent"],
                "unknown option --persistent",
            ),
            (
                &["start", "172.16.1.200", "172.16.1.201"],
                "one argument too many: 172.16.1.201",
            ),
        ];
        for (arguments, message) in cases {
            let (status, text) = realserver(cluster.edge(0).host(), arguments)?;
            assert_eq!(status, 2, "{arguments:?}: {text}");
            assert!(
                text.contains(message),
                "{arguments:?} should say {message:?}: {text}"
            );
        }
        Ok(())
    });
}

#[test]
#[ignore = "needs root"]
fn realserver_serves_a_director_that_holds_the_vip_and_leaves_that_to_vrrp() {
    on(Cluster::builder().network_only(), |cluster| {
        let (server, client) = (cluster.edge(0).host(), cluster.client(0).host());
        let vip = VIP.to_string();
        let held = || server.sh(&format!("ip -4 -oneline address show dev {INTERFACE}"));
        let is_answered = || client.sh(&format!("ping -c 1 -W 1 {vip}")).is_ok();
        // As VRRP does when it leads, and when it does no more.
        server.sh(&format!("ip address add {vip}/32 dev {INTERFACE}"))?;
        let (status, text) = realserver(server, &["start", &vip])?;
        assert_eq!(status, 0, "{text}");
        assert!(is_answered(), "who leads answers ARP");
        server.sh(&format!("ip address del {vip}/32 dev {INTERFACE}"))?;
        client.sh("ip neigh flush all")?;
        assert!(!is_answered(), "who does not lead is silent");
        assert_eq!(realserver(server, &["status", &vip])?.0, 0);

        server.sh(&format!("ip address add {vip}/32 dev {INTERFACE}"))?;
        assert_eq!(realserver(server, &["stop", &vip])?.0, 0);
        assert!(held()?.contains(&format!("{vip}/32")), "it is VRRP's");
        Ok(())
    });
}

#[test]
fn millrace_says_what_is_wrong_with_its_arguments() {
    let cases: [(&[&str], &str); 6] = [
        (&[], "a command is missing: init, join, undo or status"),
        (
            &["begin"],
            "unknown command begin: expected init, join, undo or status",
        ),
        (&["init", "--vip"], "--vip needs a value"),
        (&["init", "--vips", "10.0.0.1"], "unknown option --vips"),
        (&["init", "join"], "one argument too many: join"),
        (&["join", "--port"], "unknown option --port"),
    ];
    for (arguments, message) in cases {
        let mut command = Command::new(source_root().join("scripts/millrace.sh"));
        let output = command.args(arguments).output().expect("it can be started");
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
        assert!(
            text.contains(message),
            "{arguments:?} should say {message:?}: {text}"
        );
    }
}

/// A cluster whose only running server is an origin of nginx's.
fn with_an_origin(test: impl FnOnce(&Cluster, &Host, &str) -> Result<()>) {
    let builder = Cluster::builder()
        .edges(0)
        .clients(1)
        .servers(ServerKind::NginxRtmp);
    on(builder.without_balancer(), |cluster| {
        test(cluster, cluster.client(0).host(), &cluster.publishing_url())
    });
}

#[test]
#[ignore = "needs root"]
fn load_test_reports_viewers_that_are_all_served() {
    with_an_origin(|cluster, client, url| {
        cluster.push(&Source::Generated)?;
        let (status, text) = script(client, "load-test.sh", &["-n", "4", "-t", "15", url])?;
        assert_eq!(status, 0, "{text}");
        let (_, table) = text.split_once("errors\n").context("no table")?;
        let row: Vec<u64> = table
            .lines()
            .next()
            .unwrap_or("")
            .split_whitespace()
            .flat_map(str::parse)
            .collect();
        let [started, alive, bytes, frames, lowest, median, errors] = row[..] else {
            panic!("not seven numbers: {text}");
        };
        assert_eq!((started, alive, errors), (4, 4, 0), "{text}");
        assert!(bytes > 100_000 && frames > 100, "{text}");
        assert!(0 < lowest && lowest <= median, "{text}");
        Ok(())
    });
}

#[test]
#[ignore = "needs root"]
fn load_test_fails_when_viewers_receive_nothing() {
    with_an_origin(|_, client, url| {
        let (status, text) = script(client, "load-test.sh", &["-n", "2", "-t", "3", url])?;
        assert_eq!(status, 1, "{text}");
        assert!(text.contains("viewer 1 received no video"), "{text}");
        assert!(text.contains("2 of 2 viewers starved"), "{text}");
        Ok(())
    });
}

#[test]
#[ignore = "needs root"]
fn load_test_fails_when_nobody_listens_and_says_why() {
    on(Cluster::builder().network_only(), |cluster| {
        let url = cluster.publishing_url();
        let client = cluster.client(0).host();
        let (status, text) = script(client, "load-test.sh", &["-n", "1", "-t", "3", &url])?;
        assert_eq!(status, 1, "{text}");
        assert!(text.contains("viewer 1 ended early: "), "{text}");
        assert!(text.contains("Connection refused"), "{text}");
        Ok(())
    });
}

#[test]
#[ignore = "needs root"]
fn load_test_says_what_is_wrong_with_its_arguments() {
    on(Cluster::builder().network_only(), |cluster| {
        let cases: [(&[&str], &str); 5] = [
            (&[], "the URL is missing"),
            (
                &["-n", "0", "rtmp://a/b/c"],
                "-n needs a whole number above 0, not 0",
            ),
            (
                &["-t", "soon", "rtmp://a/b/c"],
                "-t needs a whole number above 0, not soon",
            ),
            (&["http://a/b/c"], "not an RTMP URL: http://a/b/c"),
            (&["--fast", "rtmp://a/b/c"], "unknown option --fast"),
        ];
        for (arguments, message) in cases {
            let (status, text) = script(cluster.client(0).host(), "load-test.sh", arguments)?;
            assert_eq!(status, 2, "{arguments:?}: {text}");
            assert!(
                text.contains(message),
                "{arguments:?} should say {message:?}: {text}"
            );
        }
        Ok(())
    });
}
