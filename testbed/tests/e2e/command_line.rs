//! What the programs say to an operator who has made a mistake.

use std::process::Command;

use anyhow::{Context, Result};
use netbed::Host;
use testbed::{
    Cluster, DEPLOYED_EDGE_CONF, DEPLOYED_KEEPALIVED_CONF, DEPLOYED_ORIGIN_CONF, program,
};

use crate::on;

/// Runs one of our programs to its end: exit status, and all that it wrote.
fn run(host: &Host, name: &str, arguments: &[&str]) -> Result<(i32, String)> {
    let mut command = Command::new(program(name)?);
    command.args(arguments);
    outcome(host, command)
}

fn outcome(host: &Host, command: Command) -> Result<(i32, String)> {
    let output = host.output(command)?;
    let text = [output.stdout, output.stderr].concat();
    let status = output.status.code().context("ended by a signal")?;
    Ok((status, String::from_utf8_lossy(&text).into_owned()))
}

#[track_caller]
fn assert_refused(outcome: (i32, String), status: i32, message: &str) {
    let (found, text) = outcome;
    assert_eq!(found, status, "{text}");
    assert!(text.contains(message), "{message:?} is not in:\n{text}");
    assert!(!text.contains("panicked"), "{text}");
}

#[test]
#[ignore = "needs root"]
fn a_configuration_file_that_is_missing_is_named() {
    on(Cluster::builder().network_only(), |cluster| {
        let host = cluster.director().host();
        for (program, arguments) in [
            ("lb-user", &["run", "-c", "nowhere.conf"][..]),
            ("rtmp-origin", &["-c", "nowhere.conf"]),
            ("rtmp-edge", &["-c", "nowhere.conf"]),
        ] {
            assert_refused(run(host, program, arguments)?, 2, "nowhere.conf");
        }
        Ok(())
    });
}

#[test]
#[ignore = "needs root"]
fn a_misspelled_word_is_told_by_file_and_line_with_the_nearest_one() {
    on(Cluster::builder().network_only(), |cluster| {
        let host = cluster.director().host();
        host.write_file(
            "lb.conf",
            DEPLOYED_KEEPALIVED_CONF.replace("lb_algo", "lb_algoo"),
        )?;
        host.write_file(
            "o.conf",
            DEPLOYED_ORIGIN_CONF.replace("queue_length", "queue_lenght"),
        )?;
        host.write_file("e.conf", DEPLOYED_EDGE_CONF.replace("origin  ", "orgin  "))?;
        for (program, arguments, place, word) in [
            (
                "lb-user",
                &["run", "-c", "lb.conf"][..],
                "lb.conf:29: ",
                "`lb_algo`",
            ),
            (
                "rtmp-origin",
                &["-c", "o.conf"],
                "o.conf:7: ",
                "`queue_length`",
            ),
            ("rtmp-edge", &["-c", "e.conf"], "e.conf:7: ", "`origin`"),
        ] {
            let (status, text) = run(host, program, arguments)?;
            assert_refused((status, text.clone()), 2, place);
            assert_refused((status, text), 2, &format!("did you mean {word}"));
        }
        Ok(())
    });
}

#[test]
#[ignore = "needs root"]
fn a_balancer_without_capabilities_names_those_that_it_lacks() {
    on(Cluster::builder().network_only(), |cluster| {
        let host = cluster.director().host();
        host.write_file("keepalived.conf", DEPLOYED_KEEPALIVED_CONF)?;
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
            .arg(program("lb-user")?)
            .args(["run", "-c", "keepalived.conf"]);
        let (status, text) = outcome(host, command)?;
        for capability in ["CAP_BPF", "CAP_NET_ADMIN", "CAP_NET_RAW"] {
            assert_refused((status, text.clone()), 1, capability);
        }
        Ok(())
    });
}

#[test]
#[ignore = "needs root"]
fn an_interface_that_does_not_exist_is_told_with_those_that_do() {
    on(Cluster::builder().network_only(), |cluster| {
        let host = cluster.director().host();
        host.write_file(
            "keepalived.conf",
            DEPLOYED_KEEPALIVED_CONF.replace("eth2", "eth9"),
        )?;
        let (status, text) = run(host, "lb-user", &["run", "-c", "keepalived.conf"])?;
        assert_refused((status, text.clone()), 2, "no network interface `eth9`");
        assert_refused((status, text), 2, "eth2");
        Ok(())
    });
}

#[test]
#[ignore = "needs root"]
fn services_that_contradict_each_other_are_told_with_both_lines() {
    on(Cluster::builder().network_only(), |cluster| {
        let host = cluster.director().host();
        let conf = DEPLOYED_KEEPALIVED_CONF;
        let service = &conf[conf.find("virtual_server").context("a service")?..];
        for (changed, message) in [
            (format!("{conf}{service}"), "already at lb.conf:27"),
            (
                // All ports are served, but a check needs one.
                conf.replace(" 1935 {", " 0 {"),
                "connect_port",
            ),
            (
                conf.replace("172.16.1.200 1935", "vip 1935"),
                "lb.conf:27: ",
            ),
        ] {
            host.write_file("lb.conf", changed)?;
            assert_refused(
                run(host, "lb-user", &["check", "-c", "lb.conf"])?,
                2,
                message,
            );
        }
        Ok(())
    });
}

#[test]
#[ignore = "needs root"]
fn a_server_that_is_named_twice_is_taken_once_with_a_warning_as_keepalived_does() {
    on(Cluster::builder().network_only(), |cluster| {
        let host = cluster.director().host();
        let twice = DEPLOYED_KEEPALIVED_CONF.replace("172.16.1.207", "172.16.1.211");
        host.write_file("lb.conf", twice)?;
        let (status, text) = run(host, "lb-user", &["check", "-c", "lb.conf"])?;
        assert_eq!(status, 0, "{text}");
        let warning = "already at lb.conf:35; this one is ignored";
        assert!(text.contains(warning), "{text}");
        Ok(())
    });
}

#[test]
#[ignore = "needs root"]
fn a_port_in_use_is_told_with_the_option_that_changes_it() {
    on(Cluster::builder().clients(1), |cluster| {
        for server in [cluster.origin(), cluster.edge(0)] {
            let (program, arguments) = if server.address() == cluster.origin().address() {
                ("rtmp-origin", &["-c", "origin.conf"])
            } else {
                ("rtmp-edge", &["-c", "edge.conf"])
            };
            let (status, text) = run(server.host(), program, arguments)?;
            assert_refused((status, text.clone()), 1, "1935");
            assert_refused((status, text), 1, "--listen");
        }
        Ok(())
    });
}
