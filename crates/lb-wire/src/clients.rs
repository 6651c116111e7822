//! The datagrams by which a director tells others of its own server's clients. No I/O.
//!
//! ```text
//! "MLRC" | version 2 | virtual router | count of clients (2)
//! start of the sender, in ms since 1970 (8) | number of the datagram (8)
//! service: address (16), port (2) | server: address (16), port (2)
//! per client: address (16), port (2), port of the service (2), awaited sequence number (4)
//! first 16 bytes of an HMAC-SHA256 over all of that and the sender's address (16)
//! ```
//!
//! All numbers are big-endian, and IPv4 addresses are mapped to IPv6 (RFC 4291 §2.5.5.2).

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use hmac::{Hmac, Mac as _};
use sha2::Sha256;

const MAGIC: &[u8; 4] = b"MLRC";
const VERSION: u8 = 2;
const HEADER_BYTES: usize = 60;
const CLIENT_BYTES: usize = 24;
const HMAC_BYTES: usize = 16;

/// Number of clients that a datagram holds without fragments, over IPv6 with an MTU of 1,500
/// bytes.
pub const MAX_CLIENTS: usize = 56;
/// More than the longest datagram.
pub const BUFFER_BYTES: usize = 2048;

/// A connection of a server, as another director has to know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client {
    /// The client's end.
    pub client: SocketAddr,
    /// The port of the service that it has connected to.
    pub port: u16,
    /// The last acknowledgement number of the client.
    pub awaited_sequence: u32,
}

/// When a datagram was made: a later one of the same sender is greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp {
    /// When its sender began, in milliseconds since 1970.
    pub started_ms: u64,
    /// Its number since then.
    pub number: u64,
}

/// Some clients of a server that is the sender itself, or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clients {
    /// Number of the virtual router by which the sender leads.
    pub virtual_router_id: u8,
    /// When this is told.
    pub stamp: Stamp,
    /// The service; its port is 0 if it is one of all ports.
    pub service: SocketAddr,
    /// The server.
    pub server: SocketAddr,
    /// At most [`MAX_CLIENTS`].
    pub clients: Vec<Client>,
}

/// The datagram, sent from `source`, signed with `secret`, which may be empty.
pub fn encode(clients: &Clients, source: IpAddr, secret: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(BUFFER_BYTES);
    bytes.extend(MAGIC);
    bytes.extend([VERSION, clients.virtual_router_id]);
    bytes.extend((clients.clients.len() as u16).to_be_bytes());
    bytes.extend(clients.stamp.started_ms.to_be_bytes());
    bytes.extend(clients.stamp.number.to_be_bytes());
    write_end(&mut bytes, clients.service);
    write_end(&mut bytes, clients.server);
    for client in &clients.clients {
        write_end(&mut bytes, client.client);
        bytes.extend(client.port.to_be_bytes());
        bytes.extend(client.awaited_sequence.to_be_bytes());
    }
    sign(bytes, source, secret)
}

/// Signs what is to be sent from `source`: appends the first bytes of its HMAC.
pub fn sign(mut bytes: Vec<u8>, source: IpAddr, secret: &[u8]) -> Vec<u8> {
    let code = code(&bytes, source, secret).finalize().into_bytes();
    bytes.extend(&code[..HMAC_BYTES]);
    bytes
}

/// Number of the virtual router that a datagram is about; `None` if it is none of ours.
pub fn virtual_router_id(datagram: &[u8]) -> Option<u8> {
    match datagram.strip_prefix(MAGIC)? {
        [VERSION, virtual_router_id, ..] => Some(*virtual_router_id),
        _ => None,
    }
}

/// What a datagram from `source` says; `None` if it is malformed, or signed with none of
/// `secrets`.
pub fn decode<'s>(
    datagram: &[u8],
    source: IpAddr,
    mut secrets: impl Iterator<Item = &'s [u8]>,
) -> Option<Clients> {
    let virtual_router_id = virtual_router_id(datagram)?;
    let (signed, signature) = datagram.split_last_chunk::<HMAC_BYTES>()?;
    let is_signed_with = |secret: &[u8]| {
        let code = code(signed, source, secret);
        code.verify_truncated_left(signature).is_ok()
    };
    let (header, clients) = signed.split_at_checked(HEADER_BYTES)?;
    let count: [u8; 2] = header[6..8].try_into().ok()?;
    let count = usize::from(u16::from_be_bytes(count));
    if count > MAX_CLIENTS || clients.len() != count * CLIENT_BYTES || !secrets.any(is_signed_with)
    {
        return None;
    }
    let (started_ms, number) = header[8..24].split_first_chunk::<8>()?;
    let clients = clients.as_chunks::<CLIENT_BYTES>().0.iter();
    Some(Clients {
        virtual_router_id,
        stamp: Stamp {
            started_ms: u64::from_be_bytes(*started_ms),
            number: u64::from_be_bytes(number.try_into().ok()?),
        },
        service: read_end(&header[24..42])?,
        server: read_end(&header[42..])?,
        clients: clients.filter_map(read_client).collect(),
    })
}

fn read_client(bytes: &[u8; CLIENT_BYTES]) -> Option<Client> {
    let (client, rest) = bytes.split_at(18);
    let (port, sequence) = rest.split_first_chunk::<2>()?;
    Some(Client {
        client: read_end(client)?,
        port: u16::from_be_bytes(*port),
        awaited_sequence: u32::from_be_bytes(sequence.try_into().ok()?),
    })
}

fn write_end(bytes: &mut Vec<u8>, end: SocketAddr) {
    bytes.extend(octets(end.ip()));
    bytes.extend(end.port().to_be_bytes());
}

fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

/// Reads an address and a port.
fn read_end(bytes: &[u8]) -> Option<SocketAddr> {
    let (address, port) = bytes.split_first_chunk::<16>()?;
    let address = IpAddr::V6(Ipv6Addr::from(*address)).to_canonical();
    Some(SocketAddr::new(
        address,
        u16::from_be_bytes(port.try_into().ok()?),
    ))
}

fn code(bytes: &[u8], source: IpAddr, secret: &[u8]) -> Hmac<Sha256> {
    let code = <Hmac<Sha256> as hmac::Mac>::new_from_slice(secret);
    let mut code = code.expect("HMAC takes keys of any length");
    code.update(bytes);
    code.update(&octets(source));
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(text: &str) -> SocketAddr {
        text.parse().expect("an end")
    }

    const SOURCE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(172, 16, 1, 10));

    fn clients(count: usize) -> Clients {
        let client = |number: usize| Client {
            client: end(if number.is_multiple_of(2) {
                "10.0.0.7:40000"
            } else {
                "[2001:db8::7]:50000"
            }),
            port: 1935,
            awaited_sequence: 0xFEDC_BA98,
        };
        Clients {
            virtual_router_id: 51,
            stamp: Stamp {
                started_ms: 1 << 40,
                number: u64::MAX,
            },
            service: end("172.16.1.200:1935"),
            server: end("[2001:db8::1]:1935"),
            clients: (0..count).map(client).collect(),
        }
    }

    #[test]
    fn a_list_is_read_as_it_was_written_and_fits_a_frame() {
        for count in [0, 1, MAX_CLIENTS] {
            let datagram = encode(&clients(count), SOURCE, b"secret");
            assert!(datagram.len() + 48 <= 1500, "{}", datagram.len());
            let secrets = [b"other".as_slice(), b"secret"];
            let read = decode(&datagram, SOURCE, secrets.into_iter());
            assert_eq!(read, Some(clients(count)));
        }
    }

    #[test]
    fn what_was_changed_or_signed_with_another_secret_is_refused() {
        let datagram = encode(&clients(2), SOURCE, b"secret");
        assert_eq!(
            decode(&datagram, SOURCE, [b"other".as_slice()].into_iter()),
            None
        );
        assert_eq!(
            decode(&datagram, SOURCE, [b"".as_slice()].into_iter()),
            None
        );
        assert_eq!(decode(&datagram, SOURCE, std::iter::empty()), None);
        let elsewhere = end("172.16.1.11:0").ip();
        let read = decode(&datagram, elsewhere, [b"secret".as_slice()].into_iter());
        assert_eq!(read, None, "sent again by another machine");
        for position in 0..datagram.len() {
            let mut forged = datagram.clone();
            forged[position] ^= 1;
            let read = decode(&forged, SOURCE, [b"secret".as_slice()].into_iter());
            assert_eq!(read, None, "byte {position}");
            let shorter = &datagram[..position];
            assert_eq!(
                decode(shorter, SOURCE, [b"secret".as_slice()].into_iter()),
                None
            );
        }
    }
}
