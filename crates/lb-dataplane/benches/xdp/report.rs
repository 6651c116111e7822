//! The figures as a table, beside their goals, or as JSON.

use crate::{Facts, Figures, scans};

/// A figure, the figure that it is compared with, and the ratio or difference to reach.
const GOALS: [(&str, &str, &str, Goal); 13] = [
    (
        "A packet that is not IP",
        "arp",
        "bare_pass",
        Goal::AtMostMore(10.0),
    ),
    (
        "A packet for no service",
        "not_a_service",
        "bare_pass",
        Goal::AtMostMore(10.0),
    ),
    (
        "Established, IPv4 and TCP",
        "established",
        "one_look_up",
        Goal::AtMostTimes(1.5),
    ),
    (
        "Established, IPv6 and TCP",
        "established_ipv6",
        "established",
        Goal::AtMostTimes(1.25),
    ),
    (
        "Established, IPv4 and UDP",
        "established_udp",
        "one_look_up",
        Goal::AtMostTimes(1.5),
    ),
    (
        "Established, into a tunnel, IPv4 in IPv4",
        "tunnel",
        "established",
        Goal::AtMostTimes(1.55),
    ),
    (
        "Established, into a tunnel, IPv6 in IPv6",
        "tunnel_ipv6",
        "established",
        Goal::AtMostTimes(1.55),
    ),
    (
        "Established, drawn from 65536 (single)",
        "single_established",
        "single_one_look_up",
        Goal::AtMostTimes(1.5),
    ),
    (
        "SYN with rr and persistence (single)",
        "single_syn",
        "single_established",
        Goal::AtMostTimes(4.0),
    ),
    (
        "SYN of a flood, half-open table full (single)",
        "single_syn_flood",
        "single_syn",
        Goal::AtMostTimes(2.0),
    ),
    (
        "SYN of a flood, in a row, half-open table full (single)",
        "single_flood_in_a_row",
        "single_syn",
        Goal::AtMostTimes(2.0),
    ),
    (
        "SYN of a flood, in a row, challenged (single)",
        "single_challenge_in_a_row",
        "bare_pass",
        Goal::AtMostMore(250.0),
    ),
    (
        "SYN of a denied source, one of 65536",
        "denied",
        "bare_pass",
        Goal::AtMostMore(250.0),
    ),
];

enum Goal {
    AtMostTimes(f64),
    AtMostMore(f64),
}

pub(crate) fn print_table(figures: &Figures, facts: &Facts, scans: &Figures) {
    println!("| baseline | ns |\n|---|---:|");
    for (says, name) in [
        ("bare XDP_PASS", "bare_pass"),
        ("swap MAC addresses, transmit", "swap"),
        ("one look-up, swap, transmit", "one_look_up"),
        (
            "one look-up, drawn from 65536 (single)",
            "single_one_look_up",
        ),
        (
            "bare XDP_PASS (single, taken off the others)",
            "single_bare_pass",
        ),
    ] {
        println!("| {says} | {:.0} |", figures[name]);
    }
    println!("\n| packet | ns | against | goal | reached |\n|---|---:|---|---|---|");
    for (says, name, against, goal) in &GOALS {
        let (figure, baseline) = (figures[name], figures[against]);
        let (goal, got, is_reached) = match goal {
            Goal::AtMostTimes(times) => (
                format!("≤ {times} ×"),
                format!("{:.2} ×", figure / baseline),
                figure <= baseline * times,
            ),
            Goal::AtMostMore(more) => (
                format!("≤ +{more:.0} ns"),
                format!("{:+.0} ns", figure - baseline),
                figure <= baseline + more,
            ),
        };
        let mark = if is_reached { "yes" } else { "**no**" };
        println!("| {says} | {figure:.0} | {against} | {goal} | {mark}: {got} |");
    }
    println!();
    for (name, value) in facts {
        let value = value.as_str().map_or(value.to_string(), str::to_owned);
        println!("- {}: {value}", name.replace('_', " "));
    }
    let connections = scans::CONNECTIONS;
    println!("\n| with {connections} connections in the table | ms |\n|---|---:|");
    for (name, says) in scans::SCANS {
        if let Some(figure) = scans.get(name) {
            println!("| {says} | {figure:.0} |");
        }
    }
}

pub(crate) fn print_json(figures: &Figures, facts: &Facts, scans: &Figures) {
    println!(
        "{}",
        serde_json::json!({
            "nanoseconds": figures,
            "facts": facts,
            "walk_milliseconds": scans,
        })
    );
}
