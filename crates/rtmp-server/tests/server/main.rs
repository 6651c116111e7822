//! Whole servers on loopback sockets, with our own client session as the peer.

mod api;
mod api_client;
mod chain;
mod closing_lines;
#[path = "../common/mod.rs"]
#[allow(dead_code, reason = "the other test programs use the rest")]
mod common;
mod directives;
mod drain;
mod dvr;
mod edge;
mod flv_client;
mod forward;
mod hls;
mod hook_order;
mod hooks;
mod http2;
mod http_flv;
mod load;
mod loops;
mod memory;
mod message_streams;
mod names;
mod origin;
mod permission;
mod players;
mod programs;
mod prometheus;
mod publications;
mod quotas;
mod redirects;
mod redundancy;
mod signed_urls;
mod slate;
mod standby;
mod support;
mod timeouts;
mod tls;
mod tls_certificates;
mod tls_support;
mod tls_upstream;
mod waiting;
