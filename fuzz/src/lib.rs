//! The fuzz targets of `rtmp-proto`.

pub mod targets;
