//! The fuzz targets of `rtmp-proto` and `http-flv`.

pub mod http_flv;
pub mod targets;
