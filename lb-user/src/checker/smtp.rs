//! `SMTP_CHECK`: a server takes part in a dialogue (RFC 5321).

use std::fmt;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::health_check::HealthCheck;
use super::machine::ProbeOutcome;
use super::tcp::{self, Connection};

/// A check by a dialogue that sends no mail.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SmtpProbe {
    /// The server's address; the time limit is also that of the dialogue.
    pub connection: Connection,
    /// The name by which we introduce ourselves.
    pub helo_name: String,
}

/// Length of the longest reply that is read, all its lines together.
const MAX_REPLY_BYTES: u64 = 16 * 1024;

impl HealthCheck for SmtpProbe {
    fn check(&self) -> BoxFuture<'_, ProbeOutcome> {
        Box::pin(check(self))
    }

    fn max_duration(&self) -> Duration {
        self.connection.max_duration()
    }
}

impl fmt::Display for SmtpProbe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SMTP_CHECK {}", self.connection.to)
    }
}

/// Waits for the greeting, says HELO and takes leave. A server that answers
/// QUIT wrongly, or not at all, is as good as one that does.
async fn check(probe: &SmtpProbe) -> ProbeOutcome {
    let stream = match tcp::connect(&probe.connection).await {
        Ok(stream) => stream,
        Err(outcome) => return outcome,
    };
    let limit = probe.connection.timeout;
    match timeout(limit, converse(stream, &probe.helo_name)).await {
        Ok(Ok(())) => ProbeOutcome::Success,
        Ok(Err(reason)) => ProbeOutcome::Failure(reason),
        Err(_) => ProbeOutcome::Failure(format!("no answer within {} s", limit.as_secs_f64())),
    }
}

async fn converse(stream: TcpStream, helo_name: &str) -> Result<(), String> {
    let mut stream = BufReader::new(stream);
    expect(&mut stream, "220", "the greeting").await?;
    send_line(&mut stream, &format!("HELO {helo_name}")).await?;
    expect(&mut stream, "250", "the answer to HELO").await?;
    send_line(&mut stream, "QUIT").await
}

async fn send_line(stream: &mut BufReader<TcpStream>, command: &str) -> Result<(), String> {
    let line = format!("{command}\r\n");
    let written = stream.write_all(line.as_bytes()).await;
    written.map_err(|error| tcp::reason(&error))
}

/// Reads a reply to its last line (RFC 5321 §4.2.1), which must have `code`.
async fn expect(stream: &mut BufReader<TcpStream>, code: &str, what: &str) -> Result<(), String> {
    let mut stream = stream.take(MAX_REPLY_BYTES);
    loop {
        let mut line = Vec::new();
        let read = stream.read_until(b'\n', &mut line).await;
        read.map_err(|error| tcp::reason(&error))?;
        if !line.ends_with(b"\n") {
            return Err(format!("{what} breaks off"));
        }
        let line = String::from_utf8_lossy(&line);
        let line = line.trim_end();
        if !line.starts_with(code) {
            return Err(format!("{what} is `{line}`, expected {code}"));
        }
        if !line[code.len()..].starts_with('-') {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// Checks a server that greets with one, answers HELO with the other and
    /// closes; what came of it, and what the server was told.
    async fn dialogue(greeting: &'static str, answer: &'static str) -> (ProbeOutcome, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let to = listener.local_addr().expect("its address");
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("the check's connection");
            let written = stream.write_all(greeting.as_bytes()).await;
            written.expect("written");
            let mut told = String::new();
            if greeting.ends_with('\n') {
                let mut stream = BufReader::new(stream);
                stream.read_line(&mut told).await.expect("read");
                // A check that has failed is gone.
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.get_mut().shutdown().await;
                let _ = stream.read_to_string(&mut told).await;
            }
            told
        });
        let connection = Connection {
            to,
            from: None,
            timeout: Duration::from_secs(5),
        };
        let helo_name = "director.example".to_owned();
        let outcome = check(&SmtpProbe {
            connection,
            helo_name,
        })
        .await;
        (outcome, server.await.expect("the server has run"))
    }

    #[tokio::test]
    async fn a_server_that_greets_and_answers_helo_is_up() {
        let (outcome, told) = dialogue("220-Welcome\r\n220 mx ESMTP\r\n", "250 mx\r\n").await;
        assert_eq!(outcome, ProbeOutcome::Success);
        assert_eq!(told, "HELO director.example\r\nQUIT\r\n");
    }

    #[tokio::test]
    async fn a_server_that_greets_or_answers_otherwise_is_down() {
        let table = [
            (
                "554 go away\r\n",
                "",
                "the greeting is `554 go away`, expected 220",
            ),
            (
                "220 mx\r\n",
                "502 what?\r\n",
                "the answer to HELO is `502 what?`, expected 250",
            ),
            ("220 mx\r\n", "250-mx\r\n", "the answer to HELO breaks off"),
            ("22", "", "the greeting breaks off"),
        ];
        for (greeting, answer, expected) in table {
            let (outcome, _) = dialogue(greeting, answer).await;
            assert_eq!(
                outcome,
                ProbeOutcome::Failure(expected.to_owned()),
                "{greeting:?}"
            );
        }
    }
}
