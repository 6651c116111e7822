//! `lb-user list`: a table like that of `ipvsadm -Ln --stats`.

use std::fmt::Write as _;

use comfy_table::presets::NOTHING;
use comfy_table::{Attribute, Cell, CellAlignment, Color, Table};

use crate::control::protocol::{
    Counters, ListedInterface, ListedLoad, ListedProtection, ListedServer, ListedService,
    ListedSource, Listing, Rates, ServerState,
};
use lb_model::Protocol;
use lb_model::config::SynValidation;

const HEADINGS: [&str; 13] = [
    "Prot",
    "Local/Remote Address:Port",
    "State",
    "Weight",
    "ActiveConn",
    "InActConn",
    "Conns",
    "InPkts",
    "InBytes",
    "Conn/s",
    "Pkt/s",
    "bit/s",
    "MAC / reason",
];

/// Columns of `HEADINGS` that hold numbers.
const NUMBERS: std::ops::Range<usize> = 3..12;

/// Everything for people.
pub(super) fn table(listing: &Listing) -> String {
    let mut text = String::new();
    let mut line = |sentence: String| {
        writeln!(text, "{sentence}").expect("a string can always grow");
    };
    if let Some(reason) = &listing.refused {
        line(format!(
            "PACKETS ARE STILL JUDGED BY A FORMER STATE: {reason}"
        ));
    }
    if let Some(reason) = &listing.not_upgraded {
        line(format!(
            "NOT UPGRADED, the former program goes on: {reason}"
        ));
    }
    for interface in &listing.interfaces {
        line(interface_line(interface));
    }
    if let Some(sentence) = protection_line(&listing.protection) {
        line(sentence);
    }
    for source in &listing.sources {
        line(source_line(source));
    }
    for warning in &listing.path_warnings {
        line(format!("WARNING: {warning}"));
    }
    for address in &listing.virtual_addresses {
        line(format!(
            "{} on {}: {} is {} ({})",
            address.address, address.interface, address.instance, address.state, address.cause
        ));
    }
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(HEADINGS.map(|heading| Cell::new(heading).add_attribute(Attribute::Bold)));
    for column in NUMBERS {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for service in &listing.services {
        table.add_row(service_row(service));
        for server in &service.servers {
            table.add_row(server_row(server));
        }
    }
    line(table.trim_fmt());
    text
}

/// The mode in which the program is attached, or why it is not.
fn interface_line(interface: &ListedInterface) -> String {
    let ListedInterface { name, xdp_mode, .. } = interface;
    match (&interface.lost, &interface.native_refused) {
        (Some(reason), _) => format!("{name}: XDP not attached: {reason}"),
        (None, None) => format!("{name}: XDP {xdp_mode}"),
        (None, Some(reason)) => format!("{name}: XDP {xdp_mode} (native refused: {reason})"),
    }
}

/// A source of servers: how many, how old, and what is wrong.
fn source_line(source: &ListedSource) -> String {
    let ListedSource {
        source,
        servers,
        age_s,
        error,
    } = source;
    let age = age_s.map(|age| format!(", read {age} s ago"));
    let age = age.unwrap_or_default();
    let error = error.as_ref().map(|error| format!("; ERROR: {error}"));
    let error = error.unwrap_or_default();
    format!("{source}: {servers} server(s){age}{error}")
}

/// The protection from floods, where it is not off.
fn protection_line(protection: &ListedProtection) -> Option<String> {
    let mut parts = Vec::new();
    if protection.syn_validation != SynValidation::Off {
        let now = if protection.validating { "" } else { "not " };
        parts.push(format!(
            "SYN validation {} ({now}active; {} SYN/s, {} half-open)",
            protection.syn_validation, protection.syns_per_s, protection.half_open
        ));
    }
    if let Some(rate) = &protection.connection_rate {
        parts.push(format!(
            "each network limited to {} new connections per second, {} at once",
            rate.per_second, rate.burst
        ));
    }
    if protection.denied > 0 {
        parts.push(format!("{} network(s) denied", protection.denied));
    }
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// The verdicts over packets with their reasons, those never met left out.
pub(super) fn reasons(listing: &Listing) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(["Packets", "Reason", "Meaning"]);
    if let Some(column) = table.column_mut(0) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    for reason in listing.reasons.iter().filter(|reason| reason.packets > 0) {
        table.add_row([
            &reason.packets.to_string(),
            &reason.name,
            &reason.description,
        ]);
    }
    table.trim_fmt() + "\n"
}

fn service_row(service: &ListedService) -> Vec<Cell> {
    let protocol = match service.protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
    };
    let what = format!("{} {}", service.address, service.scheduling());
    let quorum = if service.quorum {
        Cell::new("")
    } else {
        Cell::new("no quorum").fg(Color::Red)
    };
    let mut row = vec![Cell::new(protocol), Cell::new(what), quorum];
    row.extend(["", "", ""].map(Cell::new));
    row.extend(numbers(&service.counters));
    row.extend(rates(service.rates));
    row.push(Cell::new(""));
    row
}

fn server_row(server: &ListedServer) -> Vec<Cell> {
    let color = match server.state {
        ServerState::Up => Color::Green,
        ServerState::Down | ServerState::NoMac | ServerState::Disabled => Color::Red,
        ServerState::Quiesced | ServerState::Full | ServerState::Standby => Color::Yellow,
    };
    let mac_or_reason = server.reason.as_ref().or(server.mac.as_ref());
    let mut last = mac_or_reason.cloned().unwrap_or_default();
    if let Some(load) = &server.load {
        write!(last, "; {}", load_text(load)).expect("a string can always grow");
    }
    let mut row = vec![
        Cell::new(if server.sorry { "  ~>" } else { "  ->" }),
        Cell::new(server.address),
        Cell::new(server.state).fg(color),
        Cell::new(server.weight_in_force()),
        Cell::new(server.active_connections),
        Cell::new(server.inactive_connections),
    ];
    row.extend(numbers(&server.counters));
    row.extend(rates(server.rates));
    row.push(Cell::new(last));
    row
}

/// What a server has said of its load: `sends 43M of 95M bit/s`.
pub(super) fn load_text(load: &ListedLoad) -> String {
    let used = scaled(load.used as f64);
    let sent = match load.limit {
        Some(limit) => format!("sends {used} of {} bit/s", scaled(limit as f64)),
        None => format!("sends {used} bit/s of an unknown capacity"),
    };
    match load.fresh {
        true => sent,
        false => format!("{sent}, as it last said"),
    }
}

fn numbers(counters: &Counters) -> [Cell; 3] {
    [counters.connections, counters.packets, counters.bytes].map(Cell::new)
}

fn rates(rates: Option<Rates>) -> [Cell; 3] {
    match rates {
        Some(rates) => [
            rates.connections_per_s,
            rates.packets_per_s,
            rates.bits_per_s,
        ]
        .map(|rate| Cell::new(scaled(rate))),
        None => ["-"; 3].map(Cell::new),
    }
}

/// A number in three digits or so, with its prefix of the SI.
pub(super) fn scaled(number: f64) -> String {
    /// From here on, three digits round to the next power of a thousand.
    const NEXT: f64 = 999.5;
    let (mut number, mut prefixes) = (number, ["k", "M", "G", "T"].iter());
    let mut prefix = "";
    while number >= NEXT
        && let Some(next) = prefixes.next()
    {
        number /= 1000.0;
        prefix = next;
    }
    // What rounds to 10.0 has two digits before the point.
    let digits = usize::from(number > 0.0 && number < 9.95);
    format!("{number:.digits$}{prefix}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::sample::{listing, server};
    use lb_dataplane::ReasonCount;

    #[test]
    fn an_interface_says_why_it_is_not_attached_as_one_would_wish() {
        let mut interface = ListedInterface {
            name: "eth2".to_owned(),
            index: 2,
            xdp_mode: "generic".to_owned(),
            native_refused: Some("the driver has no native XDP".to_owned()),
            lost: None,
        };
        assert_eq!(
            interface_line(&interface),
            "eth2: XDP generic (native refused: the driver has no native XDP)"
        );
        interface.lost = Some("the interface is gone".to_owned());
        assert_eq!(
            interface_line(&interface),
            "eth2: XDP not attached: the interface is gone"
        );
    }

    #[test]
    fn the_table_reads_like_that_of_ipvsadm() {
        let mut listing = listing(vec![
            server(211, ServerState::Up, None),
            server(207, ServerState::Down, Some("Connection refused")),
        ]);
        listing.path_warnings = vec!["eth2: packets do not fit".to_owned()];
        let lines: Vec<String> = table(&listing)
            .lines()
            .map(|l| l.trim_end().to_owned())
            .collect();
        assert_eq!(
            lines,
            [
                "eth2: XDP native",
                "WARNING: eth2: packets do not fit",
                "172.16.1.200/32 on eth2: VI_1 is master (nobody else is heard)",
                " Prot  Local/Remote Address:Port           State  Weight  ActiveConn  InActConn  Conns  InPkts  InBytes  Conn/s  Pkt/s  bit/s  MAC / reason",
                " TCP   172.16.1.200:1935 rr persistent 50                                           24    6912  1578024       -      -      -",
                "   ->  172.16.1.211:1935                   up          1         250          3     12    3456   789012      12    18k   7.6M  02:00:00:00:00:d3",
                "   ->  172.16.1.207:1935                   down        0         250          3     12    3456   789012      12    18k   7.6M  Connection refused",
            ]
        );
    }

    #[test]
    fn a_server_with_a_load_shows_it_and_the_weight_that_follows() {
        let mut server = server(211, ServerState::Up, None);
        server.load = Some(ListedLoad {
            weight: Some(143),
            fresh: true,
            used: 43_000_000,
            limit: Some(95_000_000),
            players: 17,
            lag_p99_ms: 40,
            cpu_percent: 3,
        });
        let text = table(&listing(vec![server.clone()]));
        let row = text
            .lines()
            .find(|line| line.contains("->"))
            .expect("its row");
        assert!(row.contains(" 143 "), "{row}");
        assert!(
            row.trim_end().ends_with("; sends 43M of 95M bit/s"),
            "{row}"
        );
        server.weight = 0;
        assert_eq!(server.weight_in_force(), 0, "an order comes first");
        let stale = ListedLoad {
            fresh: false,
            limit: None,
            ..server.load.expect("it has one")
        };
        let text = "sends 43M bit/s of an unknown capacity, as it last said";
        assert_eq!(load_text(&stale), text);
    }

    #[test]
    fn how_a_service_schedules_is_said_as_ipvsadm_says_it() {
        let mut service = listing(Vec::new()).services.remove(0);
        assert_eq!(service.scheduling(), "rr persistent 50");
        service.ops = true;
        assert_eq!(service.scheduling(), "rr persistent 50 ops");
        service.persistence = None;
        assert_eq!(service.scheduling(), "rr ops");
    }

    #[test]
    fn a_rate_has_three_digits_at_most() {
        for (number, expected) in [
            (0.0, "0"),
            (0.1, "0.1"),
            (9.9, "9.9"),
            (9.96, "10"),
            (999.0, "999"),
            (999.5, "1.0k"),
            (14_880_000.0, "15M"),
            (999_499.0, "999k"),
            (999_500.0, "1.0M"),
            (123_456_789_000.0, "123G"),
            (5e15, "5000T"),
        ] {
            assert_eq!(scaled(number), expected, "{number}");
        }
    }

    #[test]
    fn a_source_is_shown_with_its_age_and_what_is_wrong() {
        let mut source = ListedSource {
            source: "file /etc/servers".to_owned(),
            servers: 3,
            age_s: Some(12),
            error: None,
        };
        assert_eq!(
            source_line(&source),
            "file /etc/servers: 3 server(s), read 12 s ago"
        );
        source.error = Some("gone".to_owned());
        source.age_s = None;
        assert_eq!(
            source_line(&source),
            "file /etc/servers: 3 server(s); ERROR: gone"
        );
    }

    #[test]
    fn reasons_are_shown_that_have_been_met() {
        let reason = |name: &str, packets| ReasonCount {
            name: name.to_owned(),
            description: format!("Meaning of {name}."),
            packets,
        };
        let listing = Listing {
            reasons: vec![reason("established", 12), reason("not-a-service", 0)],
            ..Listing::default()
        };
        let lines: Vec<String> = reasons(&listing)
            .lines()
            .map(|line| line.trim_end().to_owned())
            .collect();
        assert_eq!(
            lines,
            [
                " Packets  Reason       Meaning",
                "      12  established  Meaning of established."
            ]
        );
    }
}
