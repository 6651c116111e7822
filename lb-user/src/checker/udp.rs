//! `UDP_CHECK`: a port does not refuse, or answers as it should.

use std::fmt;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::health_check::HealthCheck;
use super::machine::ProbeOutcome;
use super::tcp::{Connection, is_local, reason};

/// A check by a datagram.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UdpProbe {
    /// The address to send it to.
    pub connection: Connection,
    /// The bytes that are sent.
    pub payload: Vec<u8>,
    /// The reply that must come; `None`: silence is success.
    pub reply: Option<Reply>,
}

/// The form that a reply must have.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reply {
    /// Its beginning: values and masks of its first bytes.
    pub pattern: Vec<(u8, u8)>,
    /// Shortest length, in bytes.
    pub min_length: usize,
    /// Longest length, in bytes.
    pub max_length: usize,
}

impl Reply {
    fn judge(&self, reply: &[u8]) -> Result<(), String> {
        let length = reply.len();
        if !(self.min_length..=self.max_length).contains(&length) {
            return Err(format!(
                "a reply of {length} bytes, expected {} to {}",
                self.min_length, self.max_length
            ));
        }
        let differs = reply
            .iter()
            .zip(&self.pattern)
            .position(|(byte, (value, mask))| byte & mask != value & mask);
        match differs {
            Some(at) => Err(format!("byte {at} of the reply is not as required")),
            None => Ok(()),
        }
    }
}

impl HealthCheck for UdpProbe {
    fn check(&self) -> BoxFuture<'_, ProbeOutcome> {
        Box::pin(check(self))
    }

    fn max_duration(&self) -> Duration {
        self.connection.timeout
    }
}

impl fmt::Display for UdpProbe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UDP_CHECK {}", self.connection.to)
    }
}

/// Sends a datagram, and waits for a reply or an ICMP error.
async fn check(probe: &UdpProbe) -> ProbeOutcome {
    let connection = &probe.connection;
    match timeout(connection.timeout, exchange(probe)).await {
        Ok(Ok(reply)) => match &probe.reply {
            Some(required) => match required.judge(&reply) {
                Ok(()) => ProbeOutcome::Success,
                Err(reason) => ProbeOutcome::Failure(reason),
            },
            None => ProbeOutcome::Success,
        },
        Ok(Err(error)) if is_local(&error) => ProbeOutcome::Local(reason(&error)),
        Ok(Err(error)) => ProbeOutcome::Failure(reason(&error)),
        Err(_) if probe.reply.is_none() => ProbeOutcome::Success,
        Err(_) => ProbeOutcome::Failure(format!(
            "no reply within {} s",
            connection.timeout.as_secs_f64()
        )),
    }
}

/// A socket that sends to, and receives from, where a check connects to.
pub async fn connect(connection: &Connection) -> std::io::Result<UdpSocket> {
    let any = if connection.to.is_ipv4() {
        "0.0.0.0:0"
    } else {
        "[::]:0"
    };
    let socket = match connection.from {
        Some(from) => UdpSocket::bind(from).await?,
        None => UdpSocket::bind(any).await?,
    };
    socket.connect(connection.to).await?;
    Ok(socket)
}

async fn exchange(probe: &UdpProbe) -> std::io::Result<Vec<u8>> {
    let socket = connect(&probe.connection).await?;
    socket.send(&probe.payload).await?;
    let mut reply = vec![0; 65536];
    let length = socket.recv(&mut reply).await?;
    reply.truncate(length);
    Ok(reply)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn probe(to: SocketAddr, reply: Option<Reply>) -> UdpProbe {
        let connection = Connection {
            to,
            from: None,
            timeout: Duration::from_secs(5),
        };
        UdpProbe {
            connection,
            payload: b"ping".to_vec(),
            reply,
        }
    }

    fn reply(pattern: &[(u8, u8)]) -> Option<Reply> {
        Some(Reply {
            pattern: pattern.to_vec(),
            min_length: 1,
            max_length: 255,
        })
    }

    #[tokio::test]
    async fn a_reply_is_compared_under_its_mask() {
        let server = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
        let to = server.local_addr().expect("its address");
        tokio::spawn(async move {
            let mut buffer = [0; 16];
            while let Ok((_, from)) = server.recv_from(&mut buffer).await {
                let _ = server.send_to(&[0xab, 0xcd], from).await;
            }
        });
        assert_eq!(check(&probe(to, None)).await, ProbeOutcome::Success);
        assert_eq!(
            check(&probe(to, reply(&[(0xab, 0xff), (0xc0, 0xf0)]))).await,
            ProbeOutcome::Success
        );
        assert_eq!(
            check(&probe(to, reply(&[(0xab, 0xff), (0xce, 0xff)]))).await,
            ProbeOutcome::Failure("byte 1 of the reply is not as required".to_owned())
        );
    }

    #[tokio::test]
    async fn a_closed_port_fails() {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
        let to = socket.local_addr().expect("its address");
        drop(socket);
        assert_eq!(
            check(&probe(to, None)).await,
            ProbeOutcome::Failure("Connection refused".to_owned())
        );
    }

    #[tokio::test(start_paused = true)]
    async fn silence_fails_only_where_a_reply_is_required() {
        let silent = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
        let to = silent.local_addr().expect("its address");
        assert_eq!(check(&probe(to, None)).await, ProbeOutcome::Success);
        assert_eq!(
            check(&probe(to, reply(&[]))).await,
            ProbeOutcome::Failure("no reply within 5 s".to_owned())
        );
    }
}
