//! Status of the virtual routers, for operators.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Serialize;

use super::machine::State;
use super::packet::Refusal;

/// A virtual router at the moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InstanceStatus {
    /// Its name.
    pub name: String,
    /// The sync group that it belongs to.
    pub group: Option<String>,
    /// The interface that adverts use.
    pub interface: String,
    /// VRRP's version, 2 or 3.
    pub version: u8,
    /// Its number.
    pub virtual_router_id: u8,
    /// Its state.
    pub state: State,
    /// Time of its last change of state, in seconds since 1970.
    pub since: u64,
    /// The reason for its state.
    pub cause: String,
    /// Its priority now.
    pub priority: u8,
    /// Its priority as configured.
    pub base_priority: u8,
    /// Address of the master, which may be our own; `None` while none is known.
    pub master: Option<IpAddr>,
    /// The virtual addresses, those first that adverts name.
    pub addresses: Vec<IpAddr>,
    /// Number of those that adverts name.
    #[serde(skip)]
    pub advertised: usize,
    /// Its counters.
    pub counters: Counters,
}

/// Counters since a virtual router was configured.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Adverts sent, to each peer.
    pub adverts_sent: u64,
    /// Adverts that could not be sent.
    pub adverts_not_sent: u64,
    /// Adverts received and accepted.
    pub adverts_received: u64,
    /// Those of them that said that a master leaves.
    pub leaving_received: u64,
    /// Adverts received and dropped, by reason.
    pub adverts_dropped: BTreeMap<Refusal, u64>,
    /// Number of times that it has become master.
    pub became_master: u64,
    /// Number of times that it has ceased to be master.
    pub released_master: u64,
    /// Adverts sent that said that it leaves.
    pub leaving_sent: u64,
}
