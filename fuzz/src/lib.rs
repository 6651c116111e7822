//! The fuzz targets of `rtmp-proto`, `http-flv`, `hls`, `signed-url` and `tls-record`.

pub mod hls;
pub mod http_flv;
pub mod signed_url;
pub mod targets;
pub mod tls_record;
