//! Names of choices, for the reader and the writer of keepalived.conf alike.

use lb_model::config::{AntiReplay, HmacMode, InitialState, LbKind, RecordType};
use lb_model::{OrphanPolicy, Protocol, Scheduler};

/// `lb_algo`
pub(crate) const SCHEDULERS: [(&str, Scheduler); 11] = [
    ("rr", Scheduler::Rr),
    ("wrr", Scheduler::Wrr),
    ("lc", Scheduler::Lc),
    ("wlc", Scheduler::Wlc),
    ("sh", Scheduler::Sh),
    ("mh", Scheduler::Mh),
    ("dh", Scheduler::Dh),
    ("sed", Scheduler::Sed),
    ("nq", Scheduler::Nq),
    ("fo", Scheduler::Fo),
    ("ovf", Scheduler::Ovf),
];

/// `lb_kind`, as it is written.
pub(crate) const LB_KINDS: [(&str, LbKind); 2] =
    [("DR", LbKind::DirectRouting), ("TUN", LbKind::Tunnel)];

/// `protocol`
pub(crate) const PROTOCOLS: [(&str, Protocol); 2] =
    [("TCP", Protocol::Tcp), ("UDP", Protocol::Udp)];

/// `state` of a `vrrp_instance`
pub(crate) const STATES: [(&str, InitialState); 2] = [
    ("MASTER", InitialState::Master),
    ("BACKUP", InitialState::Backup),
];

/// `anti_replay` of `auth_hmac`
pub(crate) const ANTI_REPLAY: [(&str, AntiReplay); 2] = [
    ("time", AntiReplay::Time),
    ("monotonic", AntiReplay::Monotonic),
];

/// `mode` of `auth_hmac`
pub(crate) const HMAC_MODES: [(&str, HmacMode); 3] = [
    ("enforce", HmacMode::Enforce),
    ("permissive", HmacMode::Permissive),
    ("receive-only", HmacMode::ReceiveOnly),
];

/// `orphans`
pub(crate) const ORPHAN_POLICIES: [(&str, OrphanPolicy); 3] = [
    ("reset", OrphanPolicy::Reset),
    ("drop", OrphanPolicy::Drop),
    ("reschedule", OrphanPolicy::Reschedule),
];

/// `type` of `DNS_CHECK`
pub(crate) const RECORD_TYPES: [(&str, RecordType); 7] = [
    ("A", RecordType::A),
    ("NS", RecordType::Ns),
    ("CNAME", RecordType::Cname),
    ("SOA", RecordType::Soa),
    ("MX", RecordType::Mx),
    ("TXT", RecordType::Txt),
    ("AAAA", RecordType::Aaaa),
];

/// The value that `name` stands for.
pub(crate) fn value_of<T: Copy>(names: &[(&str, T)], name: &str) -> Option<T> {
    let mut names = names.iter();
    names
        .find(|(known, _)| *known == name)
        .map(|(_, value)| *value)
}

/// The name of `value`, which must be among them.
pub(crate) fn name_of<T: PartialEq>(names: &[(&'static str, T)], value: T) -> &'static str {
    let mut names = names.iter();
    let (name, _) = names
        .find(|(_, known)| *known == value)
        .expect("every value has a name");
    name
}
