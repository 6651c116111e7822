//! What the balancer's agent reads from the network, as bytes: no I/O, no clock.
//!
//! - Answers of servers to checks: [`page`] (`HTTP_GET`, `SSL_GET`), [`flv`] (`FLV_CHECK`),
//!   [`load`] (`LOAD_CHECK`), [`dns`] (`DNS_CHECK`); [`http`] and [`media`] are below them.
//!   `RTMP_CHECK` reads with `rtmp_proto::session::ClientSession`.
//! - Servers that others name: [`list`] (etcd, files), [`dns`].
//! - Lists of clients that directors send each other: [`clients`].

#![forbid(unsafe_code)]

pub mod clients;
pub mod dns;
pub mod flv;
pub mod http;
pub mod list;
pub mod load;
pub mod media;
pub mod page;
