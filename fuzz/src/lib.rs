//! The fuzz targets of whatever reads the network.

pub mod hls;
pub mod http_flv;
pub mod lb_wire;
pub mod rtsp;
pub mod signed_url;
pub mod targets;
pub mod tls_record;
pub mod vrrp;
