//! `TCP_CHECK`: a connection can be made. Also what other checks connect by.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::BoxFuture;
use nix::errno::Errno;
use tokio::net::{TcpSocket, TcpStream};

use super::health_check::HealthCheck;
use super::machine::ProbeOutcome;

/// A check by a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TcpProbe(pub Connection);

impl HealthCheck for TcpProbe {
    fn check(&self) -> BoxFuture<'_, ProbeOutcome> {
        Box::pin(check(self))
    }

    fn max_duration(&self) -> Duration {
        self.0.timeout
    }
}

impl fmt::Display for TcpProbe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TCP_CHECK {}", self.0.to)
    }
}

/// The two ends of a check's connection, and its time limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Connection {
    /// Address and port to connect to.
    pub to: SocketAddr,
    /// Local address to connect from; port 0 for any.
    pub from: Option<SocketAddr>,
    /// Time limit of the connection.
    pub timeout: Duration,
}

impl Connection {
    /// The longest time of a check that first connects and then has the same time again
    /// for what follows.
    pub fn max_duration(&self) -> Duration {
        self.timeout * 2
    }
}

/// Makes a connection and closes it in the ordinary way.
async fn check(TcpProbe(connection): &TcpProbe) -> ProbeOutcome {
    match connect(connection).await {
        Ok(_stream) => ProbeOutcome::Success,
        Err(outcome) => outcome,
    }
}

/// Connects within the time allowed.
///
/// # Errors
/// The outcome that the attempt means for the server.
pub async fn connect(connection: &Connection) -> Result<TcpStream, ProbeOutcome> {
    let socket = open(connection).map_err(|error| ProbeOutcome::Local(reason(&error)))?;
    match tokio::time::timeout(connection.timeout, socket.connect(connection.to)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) if is_local(&error) => Err(ProbeOutcome::Local(reason(&error))),
        Ok(Err(error)) => Err(ProbeOutcome::Failure(reason(&error))),
        Err(_) => Err(ProbeOutcome::Failure(format!(
            "no connection within {} s",
            connection.timeout.as_secs_f64()
        ))),
    }
}

fn open(connection: &Connection) -> io::Result<TcpSocket> {
    let socket = match connection.to {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    if let Some(from) = connection.from {
        socket.set_reuseaddr(true)?;
        socket.bind(from)?;
    }
    Ok(socket)
}

/// An error in words, without its number.
pub fn reason(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => Errno::from_raw(number).desc().to_owned(),
        None => error.to_string(),
    }
}

/// True if a failed connect(2) tells of this machine rather than of the server.
///
/// `ENETUNREACH` is among them, as for keepalived: without a route of ours no
/// server can be judged.
pub fn is_local(error: &io::Error) -> bool {
    let Some(errno) = error.raw_os_error().map(Errno::from_raw) else {
        return false;
    };
    matches!(
        errno,
        Errno::EMFILE
            | Errno::ENFILE
            | Errno::ENOBUFS
            | Errno::ENOMEM
            | Errno::EADDRNOTAVAIL
            | Errno::EADDRINUSE
            | Errno::EAGAIN
            | Errno::EACCES
            | Errno::EPERM
            | Errno::EAFNOSUPPORT
            | Errno::ENODEV
            | Errno::ENETUNREACH
            | Errno::ENETDOWN
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(address: SocketAddr) -> TcpProbe {
        TcpProbe(Connection {
            to: address,
            from: None,
            timeout: Duration::from_secs(5),
        })
    }

    #[tokio::test]
    async fn a_listening_server_succeeds_and_sees_an_ordinary_close() {
        use tokio::io::AsyncReadExt;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a listener");
        let address = listener.local_addr().expect("its address");
        assert_eq!(check(&to(address)).await, ProbeOutcome::Success);
        let (mut stream, _) = listener.accept().await.expect("the check's connection");
        let read = stream.read(&mut [0]).await;
        assert_eq!(read.expect("an end of file, no reset"), 0);
    }

    #[tokio::test]
    async fn a_refused_connection_is_the_servers_failure() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
        let address = listener.local_addr().expect("its address");
        drop(listener);
        let outcome = check(&to(address)).await;
        assert!(
            matches!(&outcome, ProbeOutcome::Failure(reason) if reason.contains("refused")),
            "{outcome:?}"
        );
    }

    #[tokio::test]
    async fn a_local_address_that_is_not_ours_is_our_own_trouble() {
        let mut probe = to("127.0.0.1:9".parse().expect("an address"));
        probe.0.from = Some("192.0.2.1:0".parse().expect("an address"));
        let outcome = check(&probe).await;
        assert!(matches!(outcome, ProbeOutcome::Local(_)), "{outcome:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_server_fails_when_the_time_is_over() {
        // A full backlog on Linux drops further SYNs: the connection hangs.
        let listener = TcpSocket::new_v4().expect("a socket");
        listener
            .bind("127.0.0.1:0".parse().expect("an address"))
            .expect("bound");
        let listener = listener.listen(0).expect("a listener");
        let address = listener.local_addr().expect("its address");
        let _fill = std::net::TcpStream::connect(address).expect("the backlog's one place");
        let connection = Connection {
            timeout: Duration::from_secs(3),
            ..to(address).0
        };
        assert_eq!(
            check(&TcpProbe(connection)).await,
            ProbeOutcome::Failure("no connection within 3 s".to_owned())
        );
    }
}
