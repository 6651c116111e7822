//! A data plane that refuses to change while the agent runs.

use std::os::fd::{AsFd as _, AsRawFd as _};

use aya::maps::MapData;
use lb_abi::maps;
use nix::libc;

use super::director::Director;
use super::*;

/// Lets nobody but the packet path write to a pinned map any more (bpf(2),
/// `BPF_MAP_FREEZE`).
fn freeze(director: &Director<'_>, map: &str) {
    const BPF_MAP_FREEZE: libc::c_long = 22;
    let pinned = director.pins().join("set-1").join(map);
    let data = MapData::from_pin(pinned).expect("it is pinned");
    let number = data.fd().as_fd().as_raw_fd();
    // SAFETY: the attributes of this command are the map's descriptor, which is
    // open, and both live until the call returns.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_MAP_FREEZE,
            &raw const number,
            size_of_val(&number),
        )
    };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

/// Status and text of `/healthz`.
fn health(network: &Network) -> String {
    const PROGRAM: &str = "
import urllib.request, urllib.error
try:
    answer = urllib.request.urlopen('http://127.0.0.1:9101/healthz')
except urllib.error.HTTPError as error:
    answer = error
print(answer.status, answer.read().decode(), end='')
";
    network.stdout("director", &["python3", "-c", PROGRAM])
}

#[test]
#[ignore = "needs root"]
fn what_the_data_plane_refuses_is_said_wherever_an_operator_looks() {
    let network = Network::new();
    let _servers = [network.converse("edge1"), network.converse("edge2")];
    let director = Director::new(&network, &both_servers());
    let _agent = director.start(&["--http", "127.0.0.1:9101"]);
    director.wait_until_ready();
    assert_eq!(health(&network), "200 ok\n");
    freeze(&director, maps::RINGS);
    let drained = director.output(&["drain", "172.16.1.211"]);
    assert!(drained.status.success(), "{drained:?}");

    let health = health(&network);
    assert!(
        health.starts_with("503 the data plane keeps a former state: "),
        "{health}"
    );
    let list = director.list().expect("it answers");
    let reason = list["refused"].as_str().expect("a reason").to_owned();
    assert!(health.contains(&reason), "{health}");
    let table = director.output(&["list"]);
    let table = String::from_utf8_lossy(&table.stdout).into_owned();
    assert!(table.contains(&reason), "{table}");
    let log = director.log();
    assert!(log.contains("keeps its former state"), "{log}");
}

#[test]
#[ignore = "needs root"]
fn more_services_than_a_table_has_by_default_are_served_and_a_check_agrees() {
    let network = Network::new();
    let services = (1..=300).map(|port| {
        format!(
            "virtual_server {VIP} {port} {{\nlb_algo mh\nreal_server 172.16.1.211 {port} {{\n}}\n}}\n"
        )
    });
    let configuration = configuration("") + "\n" + &services.collect::<String>();
    let agent = Agent::start(&network, &configuration);
    let list = agent.list().expect("the agent answers");
    let services = list["services"].as_array().expect("services");
    assert_eq!(services.len(), 301);
    let checked = std::process::Command::new(env!("CARGO_BIN_EXE_lb-user"))
        .args(["check", "-c"])
        .arg(agent.file())
        .output()
        .expect("lb-user exists");
    assert!(checked.status.success(), "{checked:?}");
    assert!(agent.stop().success());
}
