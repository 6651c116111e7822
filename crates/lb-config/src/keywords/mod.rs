//! The words of keepalived.conf(5) (keepalived 2.2.7), block by block.

mod check;
mod global;
mod service;
mod vrrp;

pub(crate) use check::{CONNECTION, TCP_CHECK, TIMING, URL, block_of, empty_kind};
#[cfg(test)]
pub(crate) use check::{
    DNS_CHECK, FILE_CHECK, FLV_CHECK, HTTP_GET, LOAD_CHECK, MISC_CHECK, PING_CHECK, RTMP_CHECK,
    SMTP_CHECK, SSL_GET, UDP_CHECK,
};
pub(crate) use global::GLOBAL_DEFS;
pub(crate) use service::{DISCOVER, REAL_SERVER, REAL_SERVER_TEMPLATE, RECOVERY, VIRTUAL_SERVER};
pub(crate) use vrrp::{AUTH_HMAC, NOTIFY, TRACK_FILE, VRRP_INSTANCE, VRRP_SCRIPT, VRRP_SYNC_GROUP};

/// Every vocabulary.
#[cfg(test)]
pub(crate) static ALL: [&dyn crate::vocabulary::Vocabulary; 29] = [
    &crate::vocabulary::TOP_LEVEL,
    &GLOBAL_DEFS,
    &VRRP_INSTANCE,
    &VRRP_SYNC_GROUP,
    &VRRP_SCRIPT,
    &TRACK_FILE,
    &crate::vocabulary::AUTHENTICATION,
    &AUTH_HMAC,
    &crate::vocabulary::VIRTUAL_IPADDRESS,
    &crate::vocabulary::ROUTE,
    &crate::vocabulary::TRACKED,
    &crate::vocabulary::UNICAST_PEER,
    &VIRTUAL_SERVER,
    &REAL_SERVER,
    &REAL_SERVER_TEMPLATE,
    &DISCOVER,
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
    &FLV_CHECK,
    &LOAD_CHECK,
    &FILE_CHECK,
];
