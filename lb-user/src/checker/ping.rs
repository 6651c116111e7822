//! `PING_CHECK`: a host answers an ICMP echo request (RFC 792, RFC 4443).

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use futures_util::future::BoxFuture;
use net_types::internet_checksum;

use super::health_check::HealthCheck;
use super::machine::ProbeOutcome;
use super::tcp::{Connection, is_local, reason};

const ECHO_REQUEST_V4: u8 = 8;
const ECHO_REPLY_V4: u8 = 0;
const ECHO_REQUEST_V6: u8 = 128;
const ECHO_REPLY_V6: u8 = 129;

/// Length of what tells our reply from those to other programs, in bytes.
const COOKIE_BYTES: usize = 16;

/// A check by an echo request; ports do not matter, and are 0 in a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PingProbe(pub Connection);

impl HealthCheck for PingProbe {
    fn check(&self) -> BoxFuture<'_, ProbeOutcome> {
        Box::pin(check(self))
    }

    fn max_duration(&self) -> Duration {
        self.0.timeout
    }
}

impl fmt::Display for PingProbe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PING_CHECK {}", self.0.to.ip())
    }
}

/// Sends an echo request, and waits for its reply.
async fn check(PingProbe(connection): &PingProbe) -> ProbeOutcome {
    let cookie = fastrand::u128(..).to_be_bytes();
    match timeout(connection.timeout, exchange(connection, cookie)).await {
        Ok(Ok(())) => ProbeOutcome::Success,
        Ok(Err(error)) if is_local(&error) => ProbeOutcome::Local(reason(&error)),
        Ok(Err(error)) => ProbeOutcome::Failure(reason(&error)),
        Err(_) => ProbeOutcome::Failure(format!(
            "no reply within {} s",
            connection.timeout.as_secs_f64()
        )),
    }
}

async fn exchange(connection: &Connection, cookie: [u8; COOKIE_BYTES]) -> io::Result<()> {
    let address = connection.to.ip();
    let (domain, protocol) = match address {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
    };
    let socket = Socket::new(domain, Type::RAW, Some(protocol))?;
    socket.set_nonblocking(true)?;
    if let Some(from) = connection.from {
        socket.bind(&SocketAddr::new(from.ip(), 0).into())?;
    }
    socket.connect(&SocketAddr::new(address, 0).into())?;
    // Raw and datagram sockets are alike to tokio: readiness, send, receive.
    let socket = UdpSocket::from_std(std::net::UdpSocket::from(socket))?;
    socket.send(&request(address, cookie)).await?;
    let mut packet = vec![0; 2048];
    loop {
        let length = socket.recv(&mut packet).await?;
        if is_reply(address, &packet[..length], cookie) {
            return Ok(());
        }
    }
}

fn request(address: IpAddr, cookie: [u8; COOKIE_BYTES]) -> Vec<u8> {
    let kind = if address.is_ipv4() {
        ECHO_REQUEST_V4
    } else {
        ECHO_REQUEST_V6
    };
    let mut message = vec![kind, 0, 0, 0, cookie[0], cookie[1], 0, 1];
    message.extend(cookie);
    if address.is_ipv4() {
        // For ICMPv6 the kernel fills it in (RFC 3542 §3.1).
        let checksum = internet_checksum(&[&message]);
        message[2..4].copy_from_slice(&checksum.to_be_bytes());
    }
    message
}

/// True if a packet, for IPv4 with its IP header, answers our request.
fn is_reply(address: IpAddr, packet: &[u8], cookie: [u8; COOKIE_BYTES]) -> bool {
    let (kind, message) = match address {
        IpAddr::V4(_) => {
            let Some(first) = packet.first() else {
                return false;
            };
            let header_bytes = usize::from(first & 0x0f) * 4;
            (
                ECHO_REPLY_V4,
                packet.get(header_bytes..).unwrap_or_default(),
            )
        }
        IpAddr::V6(_) => (ECHO_REPLY_V6, packet),
    };
    message.first() == Some(&kind) && message.get(8..) == Some(cookie.as_slice())
}

#[cfg(test)]
mod tests {
    use super::*;

    const COOKIE: [u8; COOKIE_BYTES] = *b"0123456789abcdef";

    #[test]
    fn a_request_has_a_valid_checksum_and_only_its_own_reply_counts() {
        let address: IpAddr = "127.0.0.1".parse().expect("an address");
        let request = request(address, COOKIE);
        assert_eq!(internet_checksum(&[&request]), 0, "a valid message");
        let mut reply = vec![0x45; 20];
        reply.extend(&request);
        assert!(!is_reply(address, &reply, COOKIE), "a request is no reply");
        reply[20] = ECHO_REPLY_V4;
        assert!(is_reply(address, &reply, COOKIE));
        assert!(!is_reply(address, &reply, *b"another program."));
        for length in 0..reply.len() {
            assert!(
                !is_reply(address, &reply[..length], COOKIE),
                "cut to {length} bytes"
            );
        }
    }

    #[tokio::test]
    async fn this_host_answers() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let to = address.parse().expect("an address");
            let timeout = Duration::from_secs(5);
            let outcome = check(&PingProbe(Connection {
                to,
                from: None,
                timeout,
            }))
            .await;
            let expected = if nix::unistd::geteuid().is_root() {
                ProbeOutcome::Success
            } else {
                ProbeOutcome::Failure("Operation not permitted".to_owned())
            };
            assert_eq!(outcome, expected, "{address}");
        }
    }
}
