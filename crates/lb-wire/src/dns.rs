//! Answers of name servers (RFC 1035): to `DNS_CHECK`, and those that name servers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use simple_dns::rdata::RData;
use simple_dns::{Packet, PacketFlag, RCODE, header_buffer};

/// The longest time to live that is believed.
pub const MAX_TTL: Duration = Duration::from_secs(3600);

/// The response code of an answer to query `id`; `None` for other packets.
pub fn response_code(packet: &[u8], id: u16) -> Option<RCODE> {
    let code = header_buffer::rcode(packet).ok()?;
    is_answer(packet, id).then_some(code)
}

/// A record that matters here.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// An address (A, AAAA).
    Address(IpAddr),
    /// A server of a service (SRV).
    Service(Service),
}

/// A server of a service (RFC 2782).
#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    /// Servers of the lowest one are to be asked.
    pub priority: u16,
    /// Its share among those of one priority.
    pub weight: u16,
    /// Its port.
    pub port: u16,
    /// Its name.
    pub target: String,
}

/// True if a packet is an answer to query `id`.
pub fn is_answer(packet: &[u8], id: u16) -> bool {
    header_buffer::id(packet).is_ok_and(|of_packet| of_packet == id)
        && header_buffer::has_flags(packet, PacketFlag::RESPONSE).unwrap_or_default()
}

/// The records of an answer, and the shortest time to live; `None` if it is truncated.
///
/// # Errors
/// It is none, or says that there is an error.
pub fn read_records(answer: &[u8]) -> Result<Option<(Vec<Record>, Duration)>, String> {
    let packet = Packet::parse(answer).map_err(|error| format!("not understood: {error}"))?;
    if packet.has_flags(PacketFlag::TRUNCATION) {
        return Ok(None);
    }
    match packet.rcode() {
        RCODE::NoError => {}
        RCODE::NameError => return Err("there is no such name".to_owned()),
        code => return Err(format!("the answer is an error: {code:?}")),
    }
    let mut records = Vec::new();
    let mut ttl = MAX_TTL;
    for record in &packet.answers {
        ttl = ttl.min(Duration::from_secs(record.ttl.into()));
        records.extend(match &record.rdata {
            RData::A(a) => Some(Record::Address(Ipv4Addr::from(a.address).into())),
            RData::AAAA(aaaa) => Some(Record::Address(Ipv6Addr::from(aaaa.address).into())),
            RData::SRV(srv) => Some(Record::Service(Service {
                priority: srv.priority,
                weight: srv.weight,
                port: srv.port,
                target: srv.target.to_string(),
            })),
            // A name that stands for another one is followed by the server.
            _ => None,
        });
    }
    Ok(Some((records, ttl)))
}
