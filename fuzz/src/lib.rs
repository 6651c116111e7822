//! The fuzz targets of `rtmp-proto`, `http-flv`, `hls` and `signed-url`.

pub mod hls;
pub mod http_flv;
pub mod signed_url;
pub mod targets;
