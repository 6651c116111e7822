//! `cargo xtask plan`: how many machines so many viewers need, and what the death of each
//! costs; by figures that were measured (docs/planning.md).

mod constants;
pub(crate) mod model;

use clap::Args;
use comfy_table::{CellAlignment, Table, presets};

use constants::{ALL, SEGMENTS_PER_ACK, WIRE_FACTOR};
use model::{Death, Demand, Limit, Plan};

/// Say how many machines so many viewers need, and what the death of each costs.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Viewers at once.
    #[arg(long, default_value_t = 1_000_000)]
    viewers: u64,
    /// Of a stream, in Mbit/s.
    #[arg(long, default_value_t = 2.0, value_parser = positive)]
    bit_rate: f64,
    /// Different streams that the viewers of one edge watch.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    streams: u64,
    /// Speed of a machine's link, in Gbit/s.
    #[arg(long, default_value_t = 25.0, value_parser = positive)]
    link: f64,
    /// Cores of a machine.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    cores: u32,
    /// Part of links and cores that may be used while one machine is missing, in per cent.
    #[arg(long, default_value_t = 70, value_parser = clap::value_parser!(u8).range(1..=100))]
    load: u8,
    /// Send every message at once (`min_latency on`).
    #[arg(long)]
    min_latency: bool,
    /// Seconds until the checks notice a dead server.
    #[arg(long, default_value_t = 3.0, value_parser = positive)]
    detection: f64,
    /// Print the measured figures, too, with their places in the documents.
    #[arg(long)]
    constants: bool,
}

impl Arguments {
    fn demand(&self) -> Demand {
        Demand {
            viewers: self.viewers.max(1),
            bit_rate: self.bit_rate * 1e6,
            streams: self.streams,
            link: self.link * 1e9,
            cores: self.cores,
            load: f64::from(self.load) / 100.0,
            min_latency: self.min_latency,
            detection: self.detection,
        }
    }
}

/// Prints the plan.
///
/// # Errors
/// Such machines cannot carry the streams.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let demand = arguments.demand();
    println!("{}", report(&demand)?);
    if arguments.constants {
        println!("\n{}", constants());
    }
    Ok(())
}

/// Machines and deaths, for people.
fn report(demand: &Demand) -> anyhow::Result<String> {
    let plan = demand.plan()?;
    let deaths = deaths(&plan.deaths(demand));
    Ok(format!("{}\n\n{deaths}", machines(&plan, demand)))
}

fn positive(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "no number".to_owned())?;
    if number.is_finite() && number > 0.0 {
        Ok(number)
    } else {
        Err("expected a number above 0".to_owned())
    }
}

fn machines(plan: &Plan, demand: &Demand) -> Table {
    let mut table = new_table([
        "machines",
        "number",
        "CPU of each",
        "link of each",
        "memory",
    ]);
    let percent = |part: f64| format!("{:.0} %", part * 100.0);
    let megabytes = |bytes: f64| format!("{:.0} MB", bytes / 1e6);
    let working = (plan.directors - 1) as f64;
    table.add_row([
        format!("directors, {:.1} M packets/s together", plan.packets / 1e6),
        plan.directors.to_string(),
        percent(plan.director_cpu / working),
        percent(plan.director_link / working),
        megabytes(plan.connection_bytes),
    ]);
    let limit = match demand.edge_capacity().1 {
        Limit::Link => "the link",
        Limit::Cores => "the cores",
    };
    table.add_row([
        format!(
            "edges, {:.0} viewers each (limit: {limit})",
            plan.viewers_per_edge
        ),
        plan.edges.to_string(),
        percent(plan.edge_cpu),
        percent(plan.edge_link),
        megabytes(plan.edge_bytes),
    ]);
    for (index, count) in plan.levels.iter().enumerate().rev() {
        let level = format!("servers between, level {}", index + 1);
        table.add_row([level, count.to_string()]);
    }
    let origins = format!("origins, each feeds up to {} servers", plan.fan_out);
    table.add_row([origins, plan.origins.to_string()]);
    align(table)
}

fn deaths(deaths: &[Death]) -> Table {
    let mut table = new_table([
        "death of one",
        "viewers who reconnect",
        "all play after, s",
        "load of each that remains",
    ]);
    for death in deaths {
        table.add_row([
            death.machine.to_owned(),
            format!("{:.0}", death.viewers),
            death
                .seconds
                .map_or_else(String::new, |seconds| format!("{seconds:.1}")),
            format!("{:.0} %", death.load_of_rest * 100.0),
        ]);
    }
    align(table)
}

fn constants() -> Table {
    let mut table = new_table(["measured", "value", "unit", "place"]);
    for constant in ALL {
        table.add_row([
            constant.what.to_owned(),
            constant.value.to_string(),
            constant.unit.to_owned(),
            constant.source.to_owned(),
        ]);
    }
    table.add_row([
        "bytes on the wire for one of a stream".to_owned(),
        format!("{WIRE_FACTOR:.3}"),
        String::new(),
        "arithmetic: full Ethernet frames, TCP time stamps".to_owned(),
    ]);
    table.add_row([
        "segments per acknowledgement".to_owned(),
        SEGMENTS_PER_ACK.to_string(),
        String::new(),
        "assumed: RFC 5681 §4.2".to_owned(),
    ]);
    align(table)
}

pub(crate) fn new_table<const N: usize>(headings: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header(headings);
    table
}

/// The second column holds numbers.
pub(crate) fn align(mut table: Table) -> Table {
    if let Some(column) = table.column_mut(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

#[cfg(test)]
mod tests {
    use std::{env, fs};

    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/planning.md");
    const END: &str = "<!-- End. -->\n";

    /// `document` with `text` behind the mark of this name.
    fn with(document: &str, name: &str, text: &str) -> String {
        let mark = format!("<!-- {name}: written by `WRITE=1 cargo test -p xtask plan`. -->\n");
        let (before, rest) = document
            .split_once(&mark)
            .expect("the document has the mark");
        let (_, after) = rest.split_once(END).expect("the mark has an end");
        [before, &mark, text, "\n", END, after].concat()
    }

    #[test]
    fn the_document_shows_what_the_program_prints() {
        let document = fs::read_to_string(FILE).expect("the document can be read");
        let arguments = Line::parse_from(["plan"]).arguments;
        let text = report(&arguments.demand()).expect("a plan");
        let expected = with(&document, "The plan", &text);
        let expected = with(&expected, "The figures", &constants().to_string());
        if env::var_os("WRITE").is_some() {
            fs::write(FILE, expected).expect("the document can be written");
        } else {
            assert_eq!(document, expected, "write it anew with WRITE=1");
        }
    }
}
