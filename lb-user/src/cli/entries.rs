//! `lb-user list --connections` and `--persistence`: one line each, as they
//! come, so that a million take no memory.

use std::io::{self, BufWriter, Write};
use std::net::SocketAddr;
use std::path::Path;

use serde::Serialize;

use crate::control::Client;
use crate::control::protocol::{Request, Response};
use lb_dataplane::{Connection, PersistentClient};
use lb_model::Protocol;

/// Prints what `request` asks for.
///
/// # Errors
/// No agent answers, or it cannot read its tables.
pub(super) async fn print(socket: &Path, request: &Request, json: bool) -> anyhow::Result<()> {
    let mut client = Client::connect(socket).await?;
    client.send(request).await?;
    let mut output = BufWriter::new(io::stdout().lock());
    if !json {
        let heading = match request {
            Request::PersistentClients(_) => PERSISTENCE_HEADING,
            _ => CONNECTIONS_HEADING,
        };
        writeln!(output, "{heading}")?;
    }
    loop {
        match client.receive().await? {
            Some(Response::Connections(entries)) => {
                write_all(&mut output, &entries, json, connection)?;
            }
            Some(Response::PersistentClients(entries)) => {
                write_all(&mut output, &entries, json, persistent_client)?;
            }
            Some(Response::Done(_)) => break,
            Some(response) => return super::response::finish(response),
            None => anyhow::bail!("the agent has stopped"),
        }
    }
    Ok(output.flush()?)
}

fn write_all<E: Serialize>(
    output: &mut impl Write,
    entries: &[E],
    json: bool,
    line: fn(&E) -> String,
) -> anyhow::Result<()> {
    for entry in entries {
        let line = if json {
            serde_json::to_string(entry)?
        } else {
            line(entry)
        };
        writeln!(output, "{line}")?;
    }
    Ok(())
}

// Columns as those of `ipvsadm -Lnc`. IPv6 addresses may be wider; words are
// separated by spaces all the same.
const CONNECTIONS_HEADING: &str = "\
Prot Expires State       Client                Service               Server";
const PERSISTENCE_HEADING: &str = "\
Prot Expires Client                Service               Server";

fn connection(connection: &Connection) -> String {
    format!(
        "{:<4} {:>7} {:<11} {:<21} {:<21} {}",
        protocol(connection.protocol),
        expires(connection.expires_s),
        connection.state,
        connection.client.to_string(),
        connection.service.to_string(),
        server(connection.server),
    )
}

fn persistent_client(client: &PersistentClient) -> String {
    format!(
        "{:<4} {:>7} {:<21} {:<21} {}",
        protocol(client.protocol),
        expires(client.expires_s),
        format!("{}/{}", client.client, client.prefix_length),
        client.service.to_string(),
        server(client.server),
    )
}

fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
    }
}

/// Minutes and seconds, as ipvsadm(8) writes them.
fn expires(seconds: u64) -> String {
    format!("{:02}:{:02}", seconds / 60, seconds % 60)
}

fn server(server: Option<SocketAddr>) -> String {
    server.map_or_else(|| "gone".to_owned(), |server| server.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use lb_dataplane::ConnectionState;

    #[test]
    fn lines_stand_under_their_headings() {
        let line = connection(&Connection {
            protocol: Protocol::Tcp,
            state: ConnectionState::Established,
            expires_s: 899,
            client: "10.0.3.4:50000".parse().expect("an end"),
            service: "172.16.1.200:1935".parse().expect("an end"),
            server: Some("172.16.1.211:1935".parse().expect("an end")),
        });
        assert_eq!(
            [CONNECTIONS_HEADING, &line],
            [
                "Prot Expires State       Client                Service               Server",
                "TCP    14:59 ESTABLISHED 10.0.3.4:50000        172.16.1.200:1935     172.16.1.211:1935",
            ]
        );
        let line = persistent_client(&PersistentClient {
            protocol: Protocol::Tcp,
            expires_s: 50,
            client: "10.0.3.0".parse().expect("an address"),
            prefix_length: 24,
            service: "172.16.1.200:1935".parse().expect("an end"),
            server: None,
        });
        assert_eq!(
            [PERSISTENCE_HEADING, &line],
            [
                "Prot Expires Client                Service               Server",
                "TCP    00:50 10.0.3.0/24           172.16.1.200:1935     gone",
            ]
        );
    }
}
