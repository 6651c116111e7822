use simple_dns::rdata::{A, AAAA, RData, SRV};
use simple_dns::{RCODE, ResourceRecord};
use tokio::net::TcpListener;

use super::*;

fn record<'a>(ttl: u32, rdata: RData<'a>) -> ResourceRecord<'a> {
    let name = Name::new("example.org").expect("a name");
    ResourceRecord::new(name, CLASS::IN, ttl, rdata)
}

/// The answer to `query` as the zone of these tests has it.
fn zone(query: &[u8], truncates: bool) -> Vec<u8> {
    let query = Packet::parse(query).expect("a query");
    let mut answer = query.into_reply();
    let question = answer.questions[0].clone();
    let name = question.qname.to_string();
    let v4 = |last: u8| {
        let address = Ipv4Addr::new(10, 0, 0, last).into();
        RData::A(A { address })
    };
    let srv = |priority: u16, weight: u16, port: u16, target: &'static str| {
        let target = Name::new(target).expect("a name");
        RData::SRV(SRV {
            priority,
            weight,
            port,
            target,
        })
    };
    let records = match (name.as_str(), question.qtype) {
        _ if truncates => {
            answer.set_flags(PacketFlag::TRUNCATION);
            Vec::new()
        }
        ("_rtmp._tcp.example.org", QTYPE::TYPE(TYPE::SRV)) => vec![
            record(60, srv(1, 5, 1935, "edge1.example.org")),
            record(60, srv(1, 0, 1936, "edge2.example.org")),
            record(60, srv(2, 9, 1937, "spare.example.org")),
        ],
        ("edge1.example.org", QTYPE::TYPE(TYPE::A)) => vec![record(30, v4(1))],
        ("edge2.example.org", QTYPE::TYPE(TYPE::A)) => vec![record(7, v4(2)), record(9, v4(3))],
        ("edge2.example.org", QTYPE::TYPE(TYPE::AAAA)) => {
            let address = Ipv6Addr::LOCALHOST.into();
            vec![record(8, RData::AAAA(AAAA { address }))]
        }
        ("half.example.org", QTYPE::TYPE(TYPE::AAAA)) => {
            let address = Ipv6Addr::LOCALHOST.into();
            vec![record(8, RData::AAAA(AAAA { address }))]
        }
        ("half.example.org", _) => {
            *answer.rcode_mut() = RCODE::ServerFailure;
            Vec::new()
        }
        ("empty.example.org" | "edge1.example.org", _) => Vec::new(),
        _ => {
            *answer.rcode_mut() = RCODE::NameError;
            Vec::new()
        }
    };
    answer.answers = records;
    answer.build_bytes_vec().expect("an answer")
}

/// A name server; one that `truncates` answers in full over TCP only.
async fn name_server(truncates: bool) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let address = socket.local_addr().expect("its address");
    let listener = TcpListener::bind(address).await.expect("the same port");
    tokio::spawn(async move {
        let mut query = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut query).await {
            let mut other = zone(&query[..length], truncates);
            other[0] ^= 1;
            socket.send_to(&other, from).await.expect("sent");
            let answer = zone(&query[..length], truncates);
            socket.send_to(&answer, from).await.expect("sent");
        }
    });
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let length = stream.read_u16().await.expect("a length");
            let mut query = vec![0; length.into()];
            stream.read_exact(&mut query).await.expect("a query");
            let answer = zone(&query, false);
            let length = answer.len() as u16;
            stream.write_u16(length).await.expect("sent");
            stream.write_all(&answer).await.expect("sent");
        }
    });
    address
}

fn server(address: &str, port: Option<u16>, weight: Option<u32>) -> DiscoveredServer {
    DiscoveredServer {
        address: address.parse().expect("an address"),
        port,
        weight,
    }
}

#[tokio::test]
async fn srv_records_of_the_lowest_priority_are_servers_with_port_and_weight() {
    for truncates in [false, true] {
        let at = Some(name_server(truncates).await);
        let resolved = resolve("_rtmp._tcp.example.org", at).await;
        let expected = Resolved {
            servers: vec![
                server("10.0.0.1", Some(1935), Some(5)),
                server("10.0.0.2", Some(1936), Some(1)),
                server("10.0.0.3", Some(1936), Some(1)),
                server("::1", Some(1936), Some(1)),
            ],
            ttl: Duration::from_secs(7),
        };
        assert_eq!(resolved, Ok(expected), "truncates: {truncates}");
    }
}

#[tokio::test]
async fn a_plain_name_has_addresses_of_both_families() {
    let at = Some(name_server(false).await);
    let resolved = resolve("edge2.example.org.", at).await.expect("addresses");
    let expected = ["10.0.0.2", "10.0.0.3", "::1"].map(|address| server(address, None, None));
    assert_eq!(resolved.servers, expected);
    assert_eq!(resolved.ttl, Duration::from_secs(7));
}

#[tokio::test]
async fn a_name_without_records_is_a_failure() {
    let at = name_server(false).await;
    let error = resolve("gone.example.org", Some(at)).await;
    let expected = format!("gone.example.org at {at}: there is no such name");
    assert_eq!(error, Err(expected));
    let error = resolve("empty.example.org", Some(at)).await;
    assert_eq!(error, Err("empty.example.org has no addresses".to_owned()));
}

#[tokio::test]
async fn a_name_of_which_one_family_cannot_be_read_is_a_failure() {
    let at = name_server(false).await;
    let error = resolve("half.example.org", Some(at)).await;
    let expected = format!("half.example.org at {at}: the answer is an error: ServerFailure");
    assert_eq!(error, Err(expected));
}

#[tokio::test(start_paused = true)]
async fn a_silent_name_server_is_a_failure_after_a_while() {
    let silent = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let at = silent.local_addr().expect("its address");
    let error = resolve("edge1.example.org", Some(at)).await;
    let expected = format!("edge1.example.org at {at}: no answer");
    assert_eq!(error, Err(expected));
}

#[test]
fn name_servers_are_read_as_resolv_conf_has_them() {
    let text = "# nameserver 10.0.0.9\nsearch example.org\nnameserver 10.0.0.1\n\
                nameserver fd00::1 \noptions rotate\n";
    let expected = ["10.0.0.1:53", "[fd00::1]:53"].map(|it| it.parse().expect("an address"));
    assert_eq!(name_servers(text), expected);
}
