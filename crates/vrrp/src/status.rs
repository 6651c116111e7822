//! What an operator sees of the virtual routers.

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
    /// Since when, in seconds since 1970.
    pub since: u64,
    /// Why.
    pub cause: String,
    /// Its priority now.
    pub priority: u8,
    /// Its priority as configured.
    pub base_priority: u8,
    /// Who is master, ourselves included; `None` while nobody is heard.
    pub master: Option<IpAddr>,
    /// The virtual addresses, those first that adverts name.
    pub addresses: Vec<IpAddr>,
    /// How many of them adverts name.
    #[serde(skip)]
    pub advertised: usize,
    /// What has been counted.
    pub counters: Counters,
}

/// Counted since a virtual router was configured.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Adverts sent, to each peer.
    pub adverts_sent: u64,
    /// Adverts that could not be sent.
    pub adverts_not_sent: u64,
    /// Adverts received and believed.
    pub adverts_received: u64,
    /// Those of them that said that a master leaves.
    pub leaving_received: u64,
    /// Adverts received and dropped, by reason.
    pub adverts_dropped: BTreeMap<Refusal, u64>,
    /// How often it became master.
    pub became_master: u64,
    /// How often it was master no more.
    pub released_master: u64,
    /// Adverts sent that said that it leaves.
    pub leaving_sent: u64,
}
