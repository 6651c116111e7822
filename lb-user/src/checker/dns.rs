//! `DNS_CHECK`: a server answers a query (RFC 1035, over UDP).

use std::fmt;
use std::time::Duration;

use futures_util::future::BoxFuture;
use lb_wire::dns::response_code;
use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, TYPE};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::health_check::HealthCheck;
use super::machine::ProbeOutcome;
use super::tcp::{Connection, is_local, reason};
use super::udp;
use lb_model::config::RecordType;

/// A check by a query.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DnsProbe {
    /// The server's address.
    pub connection: Connection,
    /// The type of record to query.
    pub record: RecordType,
    /// The name to query.
    pub name: String,
}

/// Length of the longest answer that is read (RFC 1035 §4.2.1).
const MAX_ANSWER_BYTES: usize = 512;

impl HealthCheck for DnsProbe {
    fn check(&self) -> BoxFuture<'_, ProbeOutcome> {
        Box::pin(check(self))
    }

    fn max_duration(&self) -> Duration {
        self.connection.timeout
    }
}

impl fmt::Display for DnsProbe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DNS_CHECK {} {}", self.connection.to, self.name)
    }
}

/// Queries, and judges the answer as keepalived does: it must be one to our query,
/// and say that there was no error; how much it answers does not matter.
async fn check(probe: &DnsProbe) -> ProbeOutcome {
    let connection = &probe.connection;
    match timeout(connection.timeout, exchange(probe)).await {
        Ok(Ok(RCODE::NoError)) => ProbeOutcome::Success,
        Ok(Ok(code)) => ProbeOutcome::Failure(format!("the answer is an error: {code:?}")),
        Ok(Err(error)) if is_local(&error) => ProbeOutcome::Local(reason(&error)),
        Ok(Err(error)) => ProbeOutcome::Failure(reason(&error)),
        Err(_) => ProbeOutcome::Failure(format!(
            "no answer within {} s",
            connection.timeout.as_secs_f64()
        )),
    }
}

async fn exchange(probe: &DnsProbe) -> std::io::Result<RCODE> {
    let id = fastrand::u16(..);
    let query = query(id, probe.record, &probe.name).map_err(std::io::Error::other)?;
    let socket: UdpSocket = udp::connect(&probe.connection).await?;
    socket.send(&query).await?;
    let mut answer = [0; MAX_ANSWER_BYTES];
    loop {
        let length = socket.recv(&mut answer).await?;
        if let Some(code) = response_code(&answer[..length], id) {
            return Ok(code);
        }
    }
}

/// The bytes of a query.
///
/// # Errors
/// The name is none that DNS can carry.
pub fn query(
    id: u16,
    record: RecordType,
    name: &str,
) -> Result<Vec<u8>, simple_dns::SimpleDnsError> {
    // A name in the DNS has no final dot, and that of the root nothing at all.
    let name = Name::new(name.strip_suffix('.').unwrap_or(name))?;
    let kind = match record {
        RecordType::A => TYPE::A,
        RecordType::Ns => TYPE::NS,
        RecordType::Cname => TYPE::CNAME,
        RecordType::Soa => TYPE::SOA,
        RecordType::Mx => TYPE::MX,
        RecordType::Txt => TYPE::TXT,
        RecordType::Aaaa => TYPE::AAAA,
    };
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    packet.questions.push(Question::new(
        name,
        QTYPE::TYPE(kind),
        QCLASS::CLASS(CLASS::IN),
        false,
    ));
    packet.build_bytes_vec()
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn probe(to: SocketAddr) -> DnsProbe {
        DnsProbe {
            connection: Connection {
                to,
                from: None,
                timeout: Duration::from_secs(5),
            },
            record: RecordType::Soa,
            name: ".".to_owned(),
        }
    }

    #[test]
    fn a_query_is_as_the_rfc_lays_it_out() {
        // RFC 1035 §4.1: header, then name, type 1 (A), class 1 (IN).
        let expected = b"\x12\x34\x01\x00\0\x01\0\0\0\0\0\0\x03www\x07example\0\0\x01\0\x01";
        let built = query(0x1234, RecordType::A, "www.example.").expect("a name");
        assert_eq!(built, expected);
        let root = query(0x1234, RecordType::Soa, ".").expect("the root");
        assert_eq!(root[12..], *b"\0\0\x06\0\x01");
        assert!(
            query(1, RecordType::A, &"x".repeat(64)).is_err(),
            "a label of 64 bytes"
        );
    }

    /// Answers every query, first as another would, then with `code`.
    async fn server(code: u8) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
        let address = socket.local_addr().expect("its address");
        tokio::spawn(async move {
            let mut query = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut query).await {
                let query = &mut query[..length];
                socket
                    .send_to(query, from)
                    .await
                    .expect("sent: a query is no answer");
                query[2] |= 0x80;
                query[0] ^= 1;
                socket
                    .send_to(query, from)
                    .await
                    .expect("sent: the answer to another");
                query[0] ^= 1;
                query[3] = query[3] & 0xf0 | code;
                socket.send_to(query, from).await.expect("sent");
            }
        });
        address
    }

    #[tokio::test]
    async fn an_answer_without_error_is_success_and_an_error_is_failure() {
        assert_eq!(check(&probe(server(0).await)).await, ProbeOutcome::Success);
        assert_eq!(
            check(&probe(server(2).await)).await,
            ProbeOutcome::Failure("the answer is an error: ServerFailure".to_owned())
        );
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_failure() {
        let silent = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
        let to = silent.local_addr().expect("its address");
        assert_eq!(
            check(&probe(to)).await,
            ProbeOutcome::Failure("no answer within 5 s".to_owned())
        );
    }
}
