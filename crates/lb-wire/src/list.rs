//! Servers as files and values in etcd list them.
//!
//! A line is `ADDRESS [PORT] [weight N]`, as behind `real_server`; `ADDRESS:PORT` will do,
//! too. What is behind `#` or `!` is a comment. JSON is a list, whose items are texts of that
//! form, or objects: `{"address": "10.0.0.7", "port": 1935, "weight": 2}`.

use std::net::{IpAddr, SocketAddr};

use lb_model::config::{DiscoveredServer, bounds};
use serde::Deserialize;

/// Reads a list of servers, as lines or as JSON.
///
/// # Errors
/// What is not understood, with its place: then nothing of the list counts.
pub fn parse_list(text: &str) -> Result<Vec<DiscoveredServer>, String> {
    if text.trim_start().starts_with('[') {
        let items: Vec<Item> =
            serde_json::from_str(text).map_err(|error| format!("its JSON: {error}"))?;
        let items = items.into_iter().enumerate();
        return items
            .map(|(index, item)| {
                item.server()
                    .map_err(|error| format!("item {index}: {error}"))
            })
            .collect();
    }
    let mut servers = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.split(['#', '!']).next().unwrap_or_default().trim();
        if !line.is_empty() {
            let server = parse_line(line);
            servers.push(server.map_err(|error| format!("line {}: {error}", index + 1))?);
        }
    }
    Ok(servers)
}

/// Reads one server: a line, or an object of JSON.
///
/// # Errors
/// It is not understood.
pub fn parse_one(text: &str) -> Result<DiscoveredServer, String> {
    let text = text.trim();
    if text.starts_with('{') {
        let item: Item = serde_json::from_str(text).map_err(|error| error.to_string())?;
        return item.server();
    }
    parse_line(text)
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Item {
    Line(String),
    Server(Object),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Object {
    address: String,
    port: Option<u16>,
    weight: Option<u32>,
}

impl Item {
    fn server(self) -> Result<DiscoveredServer, String> {
        let object = match self {
            Self::Line(line) => return parse_line(&line),
            Self::Server(object) => object,
        };
        let (address, port) = parse_address(&object.address)?;
        Ok(DiscoveredServer {
            address,
            port: object.port.or(port),
            weight: object.weight.map(checked_weight).transpose()?,
        })
    }
}

fn parse_line(line: &str) -> Result<DiscoveredServer, String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let expected = || format!("`{line}`; expected `ADDRESS [PORT] [weight N]`");
    let [first, rest @ ..] = words.as_slice() else {
        return Err(expected());
    };
    let (address, of_address) = parse_address(first)?;
    let (port, weight) = match rest {
        [] => (None, None),
        [port] => (Some(*port), None),
        ["weight", weight] => (None, Some(*weight)),
        [port, "weight", weight] => (Some(*port), Some(*weight)),
        _ => return Err(expected()),
    };
    if port.is_some() && of_address.is_some() {
        return Err(expected());
    }
    let port = port.map(str::parse).transpose().map_err(|_| expected())?;
    let weight = weight.map(str::parse).transpose().map_err(|_| expected())?;
    Ok(DiscoveredServer {
        address,
        port: port.or(of_address),
        weight: weight.map(checked_weight).transpose()?,
    })
}

fn parse_address(word: &str) -> Result<(IpAddr, Option<u16>), String> {
    if let Ok(address) = word.parse::<SocketAddr>() {
        return Ok((address.ip(), Some(address.port())));
    }
    let address = word
        .parse()
        .map_err(|_| format!("`{word}` is no address"))?;
    Ok((address, None))
}

fn checked_weight(weight: u32) -> Result<u32, String> {
    if bounds::WEIGHT.contains(&weight) {
        return Ok(weight);
    }
    let expected = bounds::words(&bounds::WEIGHT);
    Err(format!("weight {weight}; expected {expected}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(address: &str, port: Option<u16>, weight: Option<u32>) -> DiscoveredServer {
        DiscoveredServer {
            address: address.parse().expect("an address"),
            port,
            weight,
        }
    }

    #[test]
    fn lines_and_json_list_the_same_servers() {
        let expected = vec![
            server("10.0.0.1", None, None),
            server("10.0.0.2", Some(1936), None),
            server("fd00::3", Some(1935), Some(4)),
            server("10.0.0.4", None, Some(0)),
        ];
        let lines = "# edges\n\n10.0.0.1 ! the old one\n10.0.0.2 1936\n\
                     [fd00::3]:1935 weight 4\r\n10.0.0.4 weight 0";
        assert_eq!(parse_list(lines), Ok(expected.clone()));
        let json = r#" ["10.0.0.1", {"address": "10.0.0.2", "port": 1936},
            "[fd00::3]:1935 weight 4", {"address": "10.0.0.4", "weight": 0}]"#;
        assert_eq!(parse_list(json), Ok(expected));
        assert_eq!(parse_list(" \n# none\n"), Ok(Vec::new()));
        let one = parse_one(r#"{"address": "10.0.0.2:1936"}"#);
        assert_eq!(one, Ok(server("10.0.0.2", Some(1936), None)));
    }

    #[test]
    fn what_is_not_understood_is_named_with_its_place() {
        for (text, expected) in [
            ("10.0.0.1\nedge1", "line 2: `edge1` is no address"),
            (
                "10.0.0.1 x",
                "line 1: `10.0.0.1 x`; expected `ADDRESS [PORT] [weight N]`",
            ),
            (
                "10.0.0.1:1 2",
                "line 1: `10.0.0.1:1 2`; expected `ADDRESS [PORT] [weight N]`",
            ),
            (
                "10.0.0.1 weight 65536",
                "line 1: weight 65536; expected 0 to 65535",
            ),
            (r#"["10.0.0.1", "x"]"#, "item 1: `x` is no address"),
        ] {
            assert_eq!(parse_list(text).expect_err("it is wrong"), expected);
        }
        let cut = parse_list(r#"["10.0.0.1", "#).expect_err("it is cut off");
        assert!(cut.starts_with("its JSON: EOF"), "{cut}");
        assert!(parse_list(r#"[{"address": "10.0.0.1", "wait": 3}]"#).is_err());
    }
}
