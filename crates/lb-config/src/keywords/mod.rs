//! The words of keepalived.conf(5) (keepalived 2.2.7), block by block.

mod check;
mod global;
mod route;
mod service;
mod vrrp;

pub(crate) use check::{CONNECTION, TCP_CHECK, TIMING, URL, block_of, empty_kind};
#[cfg(test)]
pub(crate) use check::{
    DNS_CHECK, FILE_CHECK, HTTP_GET, MISC_CHECK, PING_CHECK, RTMP_CHECK, SMTP_CHECK, SSL_GET,
    UDP_CHECK,
};
pub(crate) use global::{GLOBAL_DEFS, TOP_LEVEL};
pub(crate) use route::{ESSENTIAL, ROUTE};
pub(crate) use service::{REAL_SERVER, RECOVERY, VIRTUAL_SERVER};
pub(crate) use vrrp::{
    AUTHENTICATION, NOTIFY, TRACK_FILE, TRACKED, UNICAST_PEER, VIRTUAL_IPADDRESS, VRRP_INSTANCE,
    VRRP_SCRIPT, VRRP_SYNC_GROUP,
};

/// Words of `virtual_ipaddress` that are followed by a value on the same line.
pub(crate) const WITH_VALUE: [&str; 6] = [
    "brd",
    "broadcast",
    "scope",
    "peer",
    "preferred_lft",
    "track_group",
];

const MAIL: &str = "Millrace sends no mail; follow its log or its events instead";
const IPVS: &str = "it tunes the kernel's IPVS, which Millrace does without";
const DIRECT_ROUTING: &str = "it has no meaning in direct routing";
const VIRTUAL_MAC: &str = "Millrace holds virtual addresses on the interface's own MAC address, \
                           and announces them when they move";
const CHECKSUM: &str = "adverts of version 3 over IPv4 are believed with either checksum, and sent with \
                        that of keepalived's default";
const RULES: &str = "Millrace sets addresses and routes, no rules; set them with `ip rule` before \
                     the start";
const NOT_YET: &str = "Millrace does not serve it";

/// Every vocabulary.
#[cfg(test)]
pub(crate) static ALL: [&dyn crate::keyword::Vocabulary; 24] = [
    &TOP_LEVEL,
    &GLOBAL_DEFS,
    &VRRP_INSTANCE,
    &VRRP_SYNC_GROUP,
    &VRRP_SCRIPT,
    &TRACK_FILE,
    &AUTHENTICATION,
    &VIRTUAL_IPADDRESS,
    &ROUTE,
    &TRACKED,
    &UNICAST_PEER,
    &VIRTUAL_SERVER,
    &REAL_SERVER,
    &TCP_CHECK,
    &PING_CHECK,
    &HTTP_GET,
    &SSL_GET,
    &URL,
    &MISC_CHECK,
    &UDP_CHECK,
    &DNS_CHECK,
    &SMTP_CHECK,
    &RTMP_CHECK,
    &FILE_CHECK,
];
