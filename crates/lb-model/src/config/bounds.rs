//! The numbers that words of a configuration may have, whatever it is written in.
//!
//! The reader of keepalived.conf keeps to them word by word, where it can name
//! the line; `validate_values` holds JSON to them; the JSON Schema tells them.

use std::fmt::Display;
use std::ops::RangeInclusive;

use super::Seconds;

/// `weight` of a real server (ipvsadm(8)).
pub const WEIGHT: RangeInclusive<u32> = 0..=65535;

/// `persistence_timeout`, in seconds: up to 31 days (ipvsadm(8)).
pub const PERSISTENCE_TIMEOUT_S: RangeInclusive<u32> = 1..=31 * 24 * 3600;

/// `persistence_granularity`, in bits; an IPv4 service has 32 at most, an IPv6 one 1
/// at least.
pub const PERSISTENCE_GRANULARITY: RangeInclusive<u8> = 0..=128;

/// Counts that 0 would make meaningless: `quorum`, `rise`, `fall`.
pub const COUNT: RangeInclusive<u32> = 1..=u32::MAX;

/// `lb_syn_validation_rate`, `lb_connection_rate` and `lb_connection_burst`.
pub const CONNECTION_RATE: RangeInclusive<u32> = 1..=1_000_000_000;

/// `lb_syn_validation_half_open`, in per cent.
pub const PERCENT: RangeInclusive<u8> = 1..=100;

/// `flap_limit`
pub const FLAP_LIMIT: RangeInclusive<u32> = 1..=1000;

/// Ports that something can listen on.
pub const PORT: RangeInclusive<u16> = 1..=65535;

/// Status codes of HTTP.
pub const STATUS_CODE: RangeInclusive<u16> = 100..=999;

/// `virtual_router_id`
pub const VIRTUAL_ROUTER_ID: RangeInclusive<u8> = 1..=255;

/// Number of addresses that a virtual router's adverts can name (RFC 3768 §5.3.5).
pub const MAX_ADVERTISED_ADDRESSES: usize = 255;

/// `priority` of a virtual router; 0 is what one says that leaves.
pub const PRIORITY: RangeInclusive<u8> = 1..=255;

/// `version` of VRRP.
pub const VRRP_VERSION: RangeInclusive<u8> = 2..=3;

/// `down_timer_adverts`
pub const DOWN_TIMER_ADVERTS: RangeInclusive<u32> = 1..=100;

/// Gratuitous ARPs in a volley.
pub const GARP_REPEAT: RangeInclusive<u32> = 1..=100;

/// Gratuitous ARPs in a volley that may be left out.
pub const GARP_LOWER_PRIO_REPEAT: RangeInclusive<u32> = 0..=100;

/// `unicast_ttl`
pub const UNICAST_TTL: RangeInclusive<u8> = 1..=255;

/// Weight of an interface or script that is tracked.
pub const TRACKED_WEIGHT: RangeInclusive<i16> = -253..=253;

/// Factor of the number in a file.
pub const FILE_WEIGHT: RangeInclusive<i32> = -i32::MAX..=i32::MAX;

/// Factor of the number in a file before it is added to a priority.
pub const TRACKED_FILE_WEIGHT: RangeInclusive<i16> = -254..=254;

/// `track_quorum`: what a lost quorum adds to a priority.
pub const QUORUM_WEIGHT: RangeInclusive<i16> = -253..=-1;

/// Length of the label of an address in bytes: the kernel's `IFNAMSIZ` less its
/// final zero.
pub const MAX_LABEL_BYTES: usize = 15;

/// Addresses that a range of a `virtual_server_group` may have.
pub const RANGE: RangeInclusive<u128> = 1..=1 << 16;

/// A range of numbers in words.
pub fn words<T: Display>(range: &RangeInclusive<T>) -> String {
    format!("{} to {}", range.start(), range.end())
}

/// Expectation where [`is_positive`] must hold.
pub const MORE_THAN_0_SECONDS: &str = "more than 0 seconds";

/// True if a time span can be an interval or a time limit.
pub fn is_positive(Seconds(duration): Seconds) -> bool {
    !duration.is_zero()
}

/// `table` of a route: any number but 0, which is no table.
pub const ROUTING_TABLE: RangeInclusive<u32> = 1..=u32::MAX;
/// `weight` of a route's `nexthop` (rtnetlink(7): one less is sent in a byte).
pub const NEXT_HOP_WEIGHT: RangeInclusive<u16> = 1..=256;
