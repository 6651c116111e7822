//! The balancer's coming and going.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use netbed::{Host, INTERFACE, Process, wait_for};
use testbed::{Cluster, Director, Source, VIP, program};

use crate::on;

fn has_xdp(host: &Host) -> Result<bool> {
    Ok(host
        .sh(&format!("ip -details link show {INTERFACE}"))?
        .contains("xdp"))
}

/// What is left below a directory that only the balancer writes to.
fn remains(host: &Host, directory: &str) -> Result<String> {
    // The kernel's own `maps.debug` and `progs.debug` are in every bpffs.
    host.sh(&format!("find {directory} -mindepth 1 -not -name *.debug"))
}

#[test]
#[ignore = "needs root"]
fn a_balancer_that_is_stopped_leaves_nothing_behind() {
    on(Cluster::builder(), |cluster| {
        let director = cluster.director();
        assert!(has_xdp(director.host())?, "XDP is attached while it runs");
        assert!(director.host().has_address(VIP)?, "and it has the VIP");

        director.stop()?;
        assert!(!has_xdp(director.host())?, "XDP is detached");
        assert!(!director.host().has_address(VIP)?, "the VIP is gone");
        assert_eq!(
            remains(director.host(), "/sys/fs/bpf")?,
            "",
            "nothing is pinned"
        );
        assert_eq!(
            remains(director.host(), "/run -name *.sock")?,
            "",
            "no socket remains"
        );
        Ok(())
    });
}

#[test]
#[ignore = "needs root"]
fn a_balancer_that_is_started_again_serves_again() {
    on(Cluster::builder(), |cluster| {
        cluster.push(&Source::Generated)?;
        cluster.director().stop()?;
        cluster.director().start()?;
        cluster.director().wait_until_ready()?;
        let viewer = cluster.client(0).pull(&cluster.viewing_url())?;
        viewer.wait_for_more(25)?.ensure_rising()
    });
}

#[test]
#[ignore = "needs root"]
fn the_balancer_holds_the_vip_as_a_host_address() {
    on(Cluster::builder().edges(1).clients(1), |cluster| {
        let addresses = cluster
            .director()
            .host()
            .sh("ip -4 -oneline address show")?;
        assert!(addresses.contains(&format!(" {VIP}/32 ")), "{addresses}");
        let list = cluster.director().list()?;
        assert!(
            list.virtual_addresses.iter().all(|address| address.held),
            "{list:#?}"
        );
        Ok(())
    });
}

/// The capabilities that the example unit leaves, as setpriv(1) writes them.
fn capabilities_of_the_unit() -> Result<String> {
    let unit = include_str!("../../../examples/lb-user.service");
    let names = unit
        .lines()
        .find_map(|line| line.strip_prefix("CapabilityBoundingSet=CAP_"))
        .context("the unit names its capabilities")?;
    Ok(format!(
        "-all,+{}",
        names.to_lowercase().replace(" cap_", ",+")
    ))
}

/// Starts a balancer that is root with nothing but these capabilities, as systemd starts it.
pub(crate) fn start_confined(director: &Director) -> Result<Process> {
    let mut command = Command::new("setpriv");
    command
        .args(["--bounding-set", &capabilities_of_the_unit()?])
        .args(["--inh-caps", "-all", "--no-new-privs"])
        .arg(program("lb-user")?)
        .args(["run", "-c", "keepalived.conf", "--xdp-mode", "generic"]);
    let balancer = director.host().spawn("confined", command)?;
    wait_for("the confined balancer to be ready", || {
        ensure!(balancer.is_running(), "it has ended:\n{}", balancer.log());
        Ok(director.list().is_ok_and(|list| list.is_ready()))
    })?;
    Ok(balancer)
}

#[test]
#[ignore = "needs root"]
fn the_capabilities_that_the_unit_leaves_are_all_that_the_balancer_needs() {
    on(Cluster::builder().clients(1), |cluster| {
        cluster.push(&Source::Generated)?;
        let director = cluster.director();
        director.stop()?;
        let balancer = start_confined(director)?;
        let viewer = cluster.client(0).pull(&cluster.viewing_url())?;
        viewer.wait_for_more(25)?.ensure_rising()?;
        balancer.stop()?;
        assert!(
            !director.host().has_address(VIP)?,
            "it could undo all that it did"
        );
        Ok(())
    });
}
