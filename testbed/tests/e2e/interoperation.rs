//! Other people's servers in the same network.

use std::net::Ipv4Addr;

use anyhow::ensure;
use netbed::{start_keepalived, wait_for};
use testbed::{Cluster, ServerKind, Source, VIP, virtual_router_conf};

use crate::on;

#[test]
#[ignore = "needs root"]
fn nginx_as_origin_and_edge_serves_a_viewer() {
    let builder = Cluster::builder()
        .servers(ServerKind::NginxRtmp)
        .without_balancer();
    on(builder, |cluster| {
        cluster.push(&Source::Generated)?;
        let url = format!("rtmp://{}/live/livestream", cluster.edge(0).address());
        let viewer = cluster.client(0).pull(&url)?;
        viewer.wait_for_more(50)?.ensure_rising()?;
        assert_eq!(cluster.edge_serving(cluster.client(0))?, Some(0));
        Ok(())
    });
}

#[test]
#[ignore = "needs root"]
fn keepalived_on_another_director_takes_the_vip_when_it_is_alone() {
    const STANDBY: Ipv4Addr = Ipv4Addr::new(172, 16, 1, 209);
    let builder = Cluster::builder()
        .network_only()
        .host("director-2", STANDBY);
    on(builder, |cluster| {
        let standby = cluster.host("director-2");
        let config = virtual_router_conf("BACKUP", 90);
        let keepalived = start_keepalived(standby, &config)?;
        wait_for("keepalived to take the VIP", || {
            ensure!(
                keepalived.is_running(),
                "keepalived has ended:\n{}",
                keepalived.log()
            );
            standby.has_address(VIP)
        })?;
        keepalived.stop()?;
        assert!(
            !standby.has_address(VIP)?,
            "it gives the VIP back when it is stopped"
        );
        Ok(())
    });
}
