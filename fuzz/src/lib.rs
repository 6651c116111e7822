//! The fuzz targets of `rtmp-proto`, `http-flv` and `signed-url`.

pub mod http_flv;
pub mod signed_url;
pub mod targets;
