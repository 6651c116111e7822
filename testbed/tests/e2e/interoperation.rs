//! Other people's servers in the same network.

use testbed::{Cluster, ServerKind, Source};

use crate::{SOON, on};

#[test]
fn nginx_as_origin_and_edge_serves_a_viewer() {
    let builder = Cluster::builder()
        .servers(ServerKind::NginxRtmp)
        .without_balancer();
    on(builder, |cluster| {
        cluster.push(&Source::Generated)?;
        let url = format!("rtmp://{}/live/livestream", cluster.edge(0).address());
        let viewer = cluster.client(0).pull(&url)?;
        viewer.wait_for_more(50, SOON)?.ensure_rising()?;
        assert_eq!(cluster.edge_serving(cluster.client(0))?, Some(0));
        Ok(())
    });
}
