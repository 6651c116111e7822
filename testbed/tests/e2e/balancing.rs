//! Who is sent where by the director, and what does not come by there.

use std::net::SocketAddrV4;

use netbed::wait_for;
use testbed::{Cluster, RTMP_PORT, Source, Tap, VIP, Viewer, XdpMode};

use crate::on;

#[test]
#[ignore = "needs root"]
fn viewers_from_several_addresses_are_spread_over_both_edges() {
    on(Cluster::builder().clients(4), |cluster| {
        cluster.push(&Source::Generated)?;
        for client in cluster.clients() {
            client.pull(&cluster.viewing_url())?.wait_for_more(1)?;
        }
        let mut viewers = [0, 0];
        for client in cluster.clients() {
            let edge = cluster.edge_serving(client)?;
            viewers[edge.expect("a viewer that has frames is served by an edge")] += 1;
        }
        assert_eq!(viewers, [2, 2], "`rr` deals four addresses out evenly");
        Ok(())
    });
}

#[test]
#[ignore = "needs root"]
fn the_connections_of_one_address_all_go_to_one_edge() {
    on(Cluster::builder().clients(3), |cluster| {
        cluster.push(&Source::Generated)?;
        let url = cluster.viewing_url();
        let faithful = cluster.client(0);
        let first = faithful.pull(&url)?;
        first.wait_for_more(1)?;
        let edge = cluster.edge_serving(faithful)?.expect("it is served");
        // Others come between, so that `rr` alone would send it elsewhere.
        for other in &cluster.clients()[1..] {
            other.pull(&url)?.wait_for_more(1)?;
            faithful.pull(&url)?.wait_for_more(1)?;
            assert_eq!(cluster.edge_serving(faithful)?, Some(edge));
        }
        Ok(())
    });
}

#[test]
#[ignore = "needs root"]
fn an_address_returns_to_its_edge_after_its_last_connection_has_ended() {
    on(Cluster::builder().clients(2), |cluster| {
        cluster.push(&Source::Generated)?;
        let url = cluster.viewing_url();
        let faithful = cluster.client(0);
        let first = faithful.pull(&url)?;
        first.wait_for_more(1)?;
        let edge = cluster.edge_serving(faithful)?.expect("it is served");
        first.stop()?;
        wait_for("the edge to see it go", || {
            Ok(cluster.edge_serving(faithful)?.is_none().then_some(()))
        })?;
        // One connection of another takes the next turn of `rr`.
        cluster.client(1).pull(&url)?.wait_for_more(1)?;
        faithful.pull(&url)?.wait_for_more(1)?;
        assert_eq!(cluster.edge_serving(faithful)?, Some(edge));
        Ok(())
    });
}

#[test]
#[ignore = "needs root"]
fn no_video_crosses_the_director() {
    on(Cluster::builder(), direct_routing_is_real);
}

#[test]
#[ignore = "needs root"]
fn no_video_crosses_a_director_with_native_xdp() {
    on(Cluster::builder().xdp_mode(XdpMode::Native), |cluster| {
        assert_eq!(cluster.director().list()?.interfaces[0].xdp_mode, "native");
        direct_routing_is_real(cluster)
    });
}

fn direct_routing_is_real(cluster: &Cluster) -> anyhow::Result<()> {
    let tap = Tap::start(cluster.switch(), cluster.director().host().name())?;
    cluster.push(&Source::Generated)?;
    let before = cluster.director().host().counters()?;
    let mut viewers = Vec::new();
    for client in cluster.clients() {
        let viewer = client.pull(&cluster.viewing_url())?;
        viewer.wait_for_more(100)?.ensure_rising()?;
        viewers.push(viewer);
    }
    let mut received = 0;
    for client in cluster.clients() {
        received += client.host().counters()?.rx_bytes;
    }
    let after = cluster.director().host().counters()?;
    // The tap must not stop between a packet that comes and the same that goes on.
    viewers.iter().try_for_each(Viewer::stop)?;
    wait_for("the edges to see the viewers go", || {
        let serving = cluster.clients().iter();
        let mut serving = serving.map(|client| cluster.edge_serving(client));
        serving.try_fold(true, |all, edge| Ok(all && edge?.is_none()))
    })?;
    let passages = tap.stop()?;

    let service = SocketAddrV4::new(VIP, RTMP_PORT);
    let of_viewers = |to_host| {
        let packets = passages
            .iter()
            .filter(|p| p.to_host == to_host && p.destination == service);
        packets.count()
    };
    assert!(
        of_viewers(true) > 0,
        "the viewers' packets come to the director"
    );
    assert_eq!(
        of_viewers(true),
        of_viewers(false),
        "and every one of them goes on"
    );
    let answers: Vec<_> = passages.iter().filter(|p| p.source == service).collect();
    assert_eq!(
        answers,
        Vec::<&testbed::Passage>::new(),
        "the servers' answers do not"
    );
    // And nothing else of that size either.
    let through = after.rx_bytes - before.rx_bytes;
    assert!(
        through * 4 < received,
        "{through} bytes at the director, {received} at the viewers"
    );
    Ok(())
}

#[test]
#[ignore = "needs root"]
fn the_balancer_counts_what_it_has_sent_to_each_edge() {
    on(Cluster::builder().clients(2), |cluster| {
        cluster.push(&Source::Generated)?;
        for client in cluster.clients() {
            client.pull(&cluster.viewing_url())?.wait_for_more(25)?;
        }
        let balancer = cluster.director().list()?;
        let service = &balancer.services[0];
        assert_eq!(service.counters.connections, 2, "{service:#?}");
        for server in &service.servers {
            assert_eq!(server.counters.connections, 1, "{server:#?}");
            assert!(server.counters.packets > 10, "{server:#?}");
            assert!(
                server.counters.bytes > 40 * server.counters.packets,
                "{server:#?}"
            );
        }
        Ok(())
    });
}

#[test]
#[ignore = "needs root"]
fn a_narrow_path_to_a_viewer_is_told_to_the_edge_that_serves_it() {
    let builder = Cluster::builder().clients(0).outer_clients(2);
    on(builder, |cluster| {
        cluster.push(&Source::Generated)?;
        // Smaller than what either end may send by its own interface.
        let router = cluster.host("router");
        router.sh("ip link set eth3 mtu 1400")?;
        let (narrow, url) = (cluster.client(0), cluster.viewing_url());
        let viewer = narrow.pull(&url)?;
        viewer.wait_for_more(50)?.ensure_rising()?;

        // The router's complaint went to the VIP, so to the director; the edge
        // has heard of it, and the other, which serves nobody, has not.
        let serving = cluster.edge_serving(narrow)?.expect("it is served");
        let path = |edge: usize| {
            let command = format!("ip route get {} from {VIP}", narrow.address());
            cluster.edge(edge).host().sh(&command)
        };
        let (path, other) = (path(serving)?, path(1 - serving)?);
        assert!(path.contains("mtu 1400"), "{path}");
        assert!(!other.contains("mtu 1400"), "{other}");
        Ok(())
    });
}
