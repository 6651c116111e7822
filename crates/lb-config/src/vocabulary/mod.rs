//! The words that may stand in a place of keepalived.conf: those that are served, those
//! that keepalived knows and Millrace does not act upon, with the reason.

mod lines;
mod route;

pub(crate) use lines::{
    AUTHENTICATION, TOP_LEVEL, TRACKED, UNICAST_PEER, VIRTUAL_IPADDRESS, WITH_VALUE,
};
pub(crate) use route::{ESSENTIAL, ROUTE};

/// Keywords that are not served for one and the same reason.
pub(crate) struct NotServed {
    pub(crate) because: &'static str,
    pub(crate) words: &'static [&'static str],
}

/// The keywords of a block, whatever it configures.
pub(crate) trait Vocabulary: Sync {
    /// Their place, as the end of a sentence.
    fn place(&self) -> &'static str;

    /// Every keyword that is served.
    fn served(&self) -> Vec<&'static str>;

    /// Keywords that are known and not served.
    fn not_served(&self) -> &'static [NotServed];

    /// Reason why a word that keepalived knows is not served; `None` for other words.
    fn reason_not_served(&self, word: &str) -> Option<&'static str> {
        let mut groups = self.not_served().iter();
        let group = groups.find(|group| group.words.contains(&word));
        group.map(|group| group.because)
    }

    /// Every word that is known here.
    fn words(&self) -> Vec<&'static str> {
        let not_served = self.not_served().iter().flat_map(|group| group.words);
        self.served()
            .into_iter()
            .chain(not_served.copied())
            .collect()
    }
}

/// Words of a place that has no keyword table.
pub(crate) struct Words {
    /// Their place, as the end of a sentence.
    place: &'static str,
    served: &'static [&'static str],
    not_served: &'static [NotServed],
}

impl Vocabulary for Words {
    fn place(&self) -> &'static str {
        self.place
    }

    fn served(&self) -> Vec<&'static str> {
        self.served.to_vec()
    }

    fn not_served(&self) -> &'static [NotServed] {
        self.not_served
    }
}

pub(crate) const MAIL: &str = "Millrace sends no mail; follow its log or its events instead";
pub(crate) const IPVS: &str = "it tunes the kernel's IPVS, which Millrace does without";
pub(crate) const DIRECT_ROUTING: &str = "it has no meaning in direct routing";
pub(crate) const VIRTUAL_MAC: &str = "Millrace holds virtual addresses on the interface's own MAC address, \
                           and announces them when they move";
pub(crate) const CHECKSUM: &str = "adverts of version 3 over IPv4 are believed with either checksum, and sent with \
                        that of keepalived's default";
pub(crate) const RULES: &str = "Millrace sets addresses and routes, no rules; set them with `ip rule` before \
                     the start";
pub(crate) const NOT_YET: &str = "Millrace does not serve it";

pub(crate) const PROCESSES: &str = "it tunes keepalived's own processes";
