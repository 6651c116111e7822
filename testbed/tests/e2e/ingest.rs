//! A camera in place of an encoder: its pictures reach viewers through the director, and it may
//! be gone for a while.

use std::fs;
use std::net::SocketAddr;

use anyhow::Result;
use netbed::local::{CAMERA_H264, camera};
use netbed::wait_for;
use nix::sys::signal::Signal;
use testbed::{Cluster, DEPLOYED_ORIGIN_CONF};

use crate::on;

/// The port of the camera.
const RTSP_PORT: u16 = 8554;

/// True if the origin's log contains `text`.
fn has_said(cluster: &Cluster, text: &str) -> Result<bool> {
    let log = cluster.origin().host().directory().join("objs/origin.log");
    Ok(fs::read_to_string(log)?.contains(text))
}

/// Has the running origin fetch the camera at `address`.
fn ingest(cluster: &Cluster, address: SocketAddr) -> Result<()> {
    let conf = format!(
        "{DEPLOYED_ORIGIN_CONF}
        vhost __defaultVhost__ {{
            ingest livestream {{
                enabled on;
                input {{ type rtsp; url rtsp://operator:secret@{address}/camera; timeout 2000; }}
            }}
        }}"
    );
    cluster.origin().host().write_file("origin.conf", conf)?;
    cluster.origin().process()?.signal(Signal::SIGHUP)?;
    wait_for("the camera to be on air", || {
        has_said(cluster, "publish live/livestream")
    })?;
    Ok(())
}

#[test]
#[ignore = "needs root"]
fn viewers_see_a_camera_and_stay_while_its_cable_is_out() {
    on(Cluster::builder(), |cluster| {
        let address = SocketAddr::from((cluster.encoder().address(), RTSP_PORT));
        let credentials = Some(("operator", "secret"));
        let camera = camera(address, CAMERA_H264, 0, credentials);
        cluster.encoder().spawn("camera", camera)?;
        ingest(cluster, address)?;
        let url = cluster.viewing_url();
        let clients = cluster.clients().iter();
        let viewers = clients
            .map(|client| client.pull(&url))
            .collect::<Result<Vec<_>>>()?;
        for viewer in &viewers {
            viewer.wait_for_more(50)?.ensure_rising()?;
        }
        cluster.encoder().cut_off()?;
        wait_for("the origin to notice", || {
            has_said(cluster, "nothing has come for 2s")
        })?;
        cluster.encoder().reconnect()?;
        for viewer in &viewers {
            viewer.wait_for_more(50)?.ensure_rising()?;
            let said = viewer.process().log();
            assert_eq!(said, "", "the viewer complains");
        }
        assert!(!has_said(cluster, "secret")?, "the password is in the log");
        Ok(())
    });
}
