//! The words of keepalived.conf(5) (keepalived 2.2.7), block by block.

mod check;
mod global;
mod route;
mod service;
mod vrrp;

pub use check::{
    DNS_CHECK, FILE_CHECK, HTTP_GET, MISC_CHECK, PING_CHECK, RTMP_CHECK, SMTP_CHECK, SSL_GET,
    TCP_CHECK, UDP_CHECK, URL,
};
pub use global::{GLOBAL_DEFS, TOP_LEVEL};
pub use route::{ESSENTIAL, ROUTE};
pub use service::{REAL_SERVER, VIRTUAL_SERVER};
pub use vrrp::{
    AUTHENTICATION, TRACK_FILE, TRACKED, UNICAST_PEER, VIRTUAL_IPADDRESS, VRRP_INSTANCE,
    VRRP_SCRIPT, VRRP_SYNC_GROUP,
};

/// The words that may stand in a block.
pub struct Vocabulary {
    /// Where they stand, as the end of a sentence.
    pub block: &'static str,
    /// Words that the reader acts upon, in groups that blocks share.
    served: &'static [&'static [&'static str]],
    /// Words that keepalived knows and Millrace does not act upon.
    not_served: &'static [NotServed],
}

/// Words that are not served for one and the same reason.
struct NotServed {
    because: &'static str,
    words: &'static [&'static str],
}

impl Vocabulary {
    /// Every word that the reader acts upon.
    pub fn served(&self) -> impl Iterator<Item = &'static str> {
        self.served.iter().flat_map(|group| group.iter().copied())
    }

    /// Why a word that keepalived knows is not served; `None` for other words.
    pub fn reason_not_served(&self, word: &str) -> Option<&'static str> {
        self.not_served
            .iter()
            .find(|group| group.words.contains(&word))
            .map(|group| group.because)
    }

    /// Every word that is known here.
    pub fn words(&self) -> impl Iterator<Item = &'static str> {
        let not_served = self.not_served.iter().flat_map(|group| group.words);
        self.served().chain(not_served.copied())
    }

    /// Whether `word` is followed by a value on the same line.
    pub fn takes_value(&self, word: &str) -> bool {
        matches!(
            word,
            "brd" | "broadcast" | "scope" | "peer" | "preferred_lft" | "track_group"
        )
    }
}

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

/// When checks run and how often they may fail.
const TIMING: &[&str] = &[
    "alpha",
    "connect_timeout",
    "retry",
    "nb_get_retry",
    "delay_before_retry",
    "warmup",
    "delay_loop",
];

/// Every vocabulary.
#[cfg(test)]
pub const ALL: [&Vocabulary; 24] = [
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
