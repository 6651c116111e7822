//! TCP segments without data, IP header included, as they are handed to a raw socket.

use std::net::{IpAddr, SocketAddr};

use net_types::{internet_checksum, pseudo_header};

/// Octets of a TCP header without options (RFC 9293 §3.1).
const TCP_OCTETS: u16 = 20;
const TCP: u8 = 6;
const RST: u8 = 4;
const ACK: u8 = 16;
const HOP_LIMIT: u8 = 64;

/// A segment from `from` to `to` (of one family) with nothing but RST and a
/// sequence number. Without ACK, so that none of the client's numbers are
/// needed, and no firewall on the way compares them.
pub(super) fn reset(from: SocketAddr, to: SocketAddr, sequence: u32) -> Vec<u8> {
    segment(from, to, sequence, RST)
}

/// A segment from `from` to `to` (of one family) with nothing but ACK and a sequence number
/// that is over: as a keep-alive it is answered by what the client awaits (RFC 9293 §3.8.4).
pub(super) fn keep_alive(from: SocketAddr, to: SocketAddr, sequence: u32) -> Vec<u8> {
    segment(from, to, sequence, ACK)
}

fn segment(from: SocketAddr, to: SocketAddr, sequence: u32, flags: u8) -> Vec<u8> {
    let mut tcp = [0; TCP_OCTETS as usize];
    tcp[0..2].copy_from_slice(&from.port().to_be_bytes());
    tcp[2..4].copy_from_slice(&to.port().to_be_bytes());
    tcp[4..8].copy_from_slice(&sequence.to_be_bytes());
    tcp[12] = (TCP_OCTETS as u8 / 4) << 4;
    tcp[13] = flags;
    let (from, to) = (from.ip().to_canonical(), to.ip().to_canonical());
    let pseudo_header = pseudo_header(from, to, tcp.len(), TCP);
    let checksum = internet_checksum(&[&pseudo_header, &tcp]);
    tcp[16..18].copy_from_slice(&checksum.to_be_bytes());

    let mut segment = match from {
        IpAddr::V4(_) => ipv4_header(),
        IpAddr::V6(_) => ipv6_header(),
    };
    segment.extend(octets(from));
    segment.extend(octets(to));
    if from.is_ipv4() {
        let checksum = internet_checksum(&[&segment]);
        segment[10..12].copy_from_slice(&checksum.to_be_bytes());
    }
    segment.extend(tcp);
    segment
}

/// RFC 791 §3.1, up to the addresses, its checksum 0.
fn ipv4_header() -> Vec<u8> {
    const OCTETS: u16 = 20;
    const VERSION_AND_LENGTH: u8 = 0x45;
    const DO_NOT_FRAGMENT: u8 = 0x40;
    let [high, low] = (OCTETS + TCP_OCTETS).to_be_bytes();
    vec![
        VERSION_AND_LENGTH,
        0,
        high,
        low,
        0,
        0,
        DO_NOT_FRAGMENT,
        0,
        HOP_LIMIT,
        TCP,
        0,
        0,
    ]
}

/// RFC 8200 §3, up to the addresses.
fn ipv6_header() -> Vec<u8> {
    let [high, low] = TCP_OCTETS.to_be_bytes();
    vec![0x60, 0, 0, 0, high, low, TCP, HOP_LIMIT]
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use etherparse::{NetHeaders, PacketHeaders, TransportHeader};

    use super::*;

    #[test]
    fn a_reset_is_well_formed_in_both_families() {
        for (from, to) in [
            ("172.16.1.200:1935", "10.255.3.4:65535"),
            ("[2001:db8::c8]:1935", "[2001:db8:ffff::1]:40000"),
        ] {
            let (from, to): (SocketAddr, SocketAddr) =
                (from.parse().expect("an end"), to.parse().expect("an end"));
            let segment = reset(from, to, 0xFEDC_BA98);
            let headers = PacketHeaders::from_ip_slice(&segment).expect("it can be read");
            let Some(TransportHeader::Tcp(tcp)) = headers.transport else {
                panic!("not TCP: {headers:?}");
            };
            let expected = match &headers.net {
                Some(NetHeaders::Ipv4(ip, _)) => {
                    assert_eq!(ip.header_checksum, ip.calc_header_checksum());
                    assert_eq!(usize::from(ip.total_len), segment.len());
                    assert_eq!(
                        (IpAddr::from(ip.source), IpAddr::from(ip.destination)),
                        (from.ip(), to.ip())
                    );
                    tcp.calc_checksum_ipv4(ip, &[])
                }
                Some(NetHeaders::Ipv6(ip, _)) => {
                    assert_eq!(usize::from(ip.payload_length), segment.len() - 40);
                    assert_eq!(
                        (IpAddr::from(ip.source), IpAddr::from(ip.destination)),
                        (from.ip(), to.ip())
                    );
                    tcp.calc_checksum_ipv6(ip, &[])
                }
                other => panic!("not IP: {other:?}"),
            };
            assert_eq!(tcp.checksum, expected.expect("short enough"));
            assert_eq!(
                (tcp.source_port, tcp.destination_port),
                (from.port(), to.port())
            );
            assert_eq!(tcp.sequence_number, 0xFEDC_BA98);
            assert!(tcp.rst && !tcp.ack && !tcp.syn && !tcp.fin && !tcp.psh);
            let keep_alive = keep_alive(from, to, 7);
            let headers = PacketHeaders::from_ip_slice(&keep_alive).expect("it can be read");
            let Some(TransportHeader::Tcp(tcp)) = headers.transport else {
                panic!("not TCP: {headers:?}");
            };
            assert!(tcp.ack && !tcp.rst && !tcp.syn && !tcp.fin && !tcp.psh);
        }
    }
}
