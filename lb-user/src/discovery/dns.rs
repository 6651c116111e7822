//! Servers that the DNS names: by SRV records (RFC 2782), or by A and AAAA records.
//!
//! A stub resolver (RFC 1034 §5.3.1): it asks recursive name servers, over UDP, and over TCP
//! what does not fit.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use lb_wire::dns::{MAX_TTL, Record, Service, is_answer, read_records};
use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, TYPE};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{sleep, timeout};

use super::{ANSWER_TIME, Pauses, Reports};
use lb_model::config::DiscoveredServer;

/// The shortest pause until records are asked for again, whatever their time to live.
const MIN_TTL: Duration = Duration::from_secs(1);

/// Time within which one name server is to answer one query.
const TRY_TIME: Duration = Duration::from_secs(2);
/// Length of the longest answer over UDP that is read (RFC 1035 §4.2.1, and some more).
const MAX_DATAGRAM_BYTES: usize = 4096;
/// Port of name servers.
const PORT: u16 = 53;
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Tells of the name's servers each time that their records have been asked for.
pub(super) async fn follow(name: String, server: Option<SocketAddr>, reports: Reports) {
    let mut pauses = Pauses::new();
    loop {
        let pause = match resolve(&name, server).await {
            Ok(Resolved { servers, ttl }) => {
                pauses.reset();
                if !reports.send(Ok(servers)) {
                    return;
                }
                ttl.clamp(MIN_TTL, MAX_TTL)
            }
            Err(error) => {
                if !reports.send(Err(error)) {
                    return;
                }
                pauses.next()
            }
        };
        sleep(pause).await;
    }
}

/// Servers, and how long they may be taken for right.
#[derive(Debug, PartialEq)]
struct Resolved {
    servers: Vec<DiscoveredServer>,
    ttl: Duration,
}

async fn resolve(name: &str, server: Option<SocketAddr>) -> Result<Resolved, String> {
    let name_servers = match server {
        Some(server) => vec![server],
        None => configured().map_err(|error| format!("{RESOLV_CONF}: {error}"))?,
    };
    let asking = Asking { name_servers };
    if name.starts_with('_') {
        asking.services(name).await
    } else {
        let (addresses, ttl) = asking.addresses(name).await?;
        let servers = addresses.into_iter().map(|address| DiscoveredServer {
            address,
            port: None,
            weight: None,
        });
        let servers = servers.collect();
        Ok(Resolved { servers, ttl })
    }
}

/// The name servers of resolv.conf(5).
fn configured() -> io::Result<Vec<SocketAddr>> {
    let text = std::fs::read_to_string(RESOLV_CONF)?;
    let servers = name_servers(&text);
    if servers.is_empty() {
        return Err(io::Error::other("it names no name server"));
    }
    Ok(servers)
}

fn name_servers(text: &str) -> Vec<SocketAddr> {
    let lines = text.lines();
    let words = lines.filter_map(|line| line.trim_start().strip_prefix("nameserver"));
    let addresses = words.filter_map(|words| words.split_whitespace().next()?.parse().ok());
    addresses
        .map(|address: IpAddr| SocketAddr::new(address, PORT))
        .collect()
}

struct Asking {
    name_servers: Vec<SocketAddr>,
}

impl Asking {
    /// The servers that SRV records name: those of the lowest priority (RFC 2782).
    async fn services(&self, name: &str) -> Result<Resolved, String> {
        let (records, mut ttl) = self.query(name, TYPE::SRV).await?;
        let services = records.into_iter().filter_map(|record| match record {
            Record::Service(service) => Some(service),
            Record::Address(_) => None,
        });
        let services: Vec<Service> = services.collect();
        let first = services.iter().map(|service| service.priority).min();
        let Some(first) = first else {
            return Err("there are no SRV records".to_owned());
        };
        let mut servers = Vec::new();
        for service in services.iter().filter(|it| it.priority == first) {
            let (addresses, of_target) = self.addresses(&service.target).await?;
            ttl = ttl.min(of_target);
            servers.extend(addresses.into_iter().map(|address| DiscoveredServer {
                address,
                port: Some(service.port),
                // 0 stands for little, not for nothing.
                weight: Some(service.weight.max(1).into()),
            }));
        }
        Ok(Resolved { servers, ttl })
    }

    /// The addresses of a name, of both families.
    async fn addresses(&self, name: &str) -> Result<(Vec<IpAddr>, Duration), String> {
        let mut addresses = Vec::new();
        let mut ttl = MAX_TTL;
        let (v4, v6) = tokio::join!(self.query(name, TYPE::A), self.query(name, TYPE::AAAA));
        // No reading without both: the servers of a family whose query has failed would be
        // taken out. A family without records is no failure.
        for answer in [v4, v6] {
            let (records, of_records) = answer?;
            ttl = ttl.min(of_records);
            addresses.extend(records.into_iter().filter_map(|record| match record {
                Record::Address(address) => Some(address),
                Record::Service(_) => None,
            }));
        }
        if addresses.is_empty() {
            return Err(format!("{name} has no addresses"));
        }
        Ok((addresses, ttl))
    }

    /// Asks one name server after the other, twice.
    async fn query(&self, name: &str, kind: TYPE) -> Result<(Vec<Record>, Duration), String> {
        let mut failure = "no answer".to_owned();
        let attempts = async {
            for server in self
                .name_servers
                .iter()
                .cycle()
                .take(2 * self.name_servers.len())
            {
                let asked = timeout(TRY_TIME, ask(*server, name, kind)).await;
                failure = match asked {
                    Ok(Ok(answer)) => return Some(answer),
                    Ok(Err(error)) => format!("{name} at {server}: {error}"),
                    Err(_) => format!("{name} at {server}: no answer"),
                };
            }
            None
        };
        let answer = timeout(ANSWER_TIME, attempts).await.ok().flatten();
        answer.ok_or(failure)
    }
}

async fn ask(
    server: SocketAddr,
    name: &str,
    kind: TYPE,
) -> Result<(Vec<Record>, Duration), String> {
    let id = fastrand::u16(..);
    let query = query(id, name, kind).map_err(|error| format!("`{name}` is no name: {error}"))?;
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let exchange = async {
        let socket = UdpSocket::bind((any, 0)).await?;
        socket.connect(server).await?;
        socket.send(&query).await?;
        let mut answer = vec![0; MAX_DATAGRAM_BYTES];
        loop {
            let length = socket.recv(&mut answer).await?;
            if is_answer(&answer[..length], id) {
                answer.truncate(length);
                return io::Result::Ok(answer);
            }
        }
    };
    let answer = exchange.await.map_err(|error| error.to_string())?;
    match read_records(&answer)? {
        Some(answer) => Ok(answer),
        None => {
            let answer = ask_by_tcp(server, &query).await;
            let answer = answer.map_err(|error| format!("over TCP: {error}"))?;
            read_records(&answer)?.ok_or_else(|| "its answer over TCP is truncated".to_owned())
        }
    }
}

/// RFC 1035 §4.2.2.
async fn ask_by_tcp(server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    stream.write_u16(query.len() as u16).await?;
    stream.write_all(query).await?;
    let mut answer = vec![0; stream.read_u16().await?.into()];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

fn query(id: u16, name: &str, kind: TYPE) -> Result<Vec<u8>, simple_dns::SimpleDnsError> {
    let name = Name::new(name.strip_suffix('.').unwrap_or(name))?;
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    let class = QCLASS::CLASS(CLASS::IN);
    let question = Question::new(name, QTYPE::TYPE(kind), class, false);
    packet.questions.push(question);
    packet.build_bytes_vec()
}

#[cfg(test)]
mod tests;
