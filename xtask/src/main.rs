//! The project's own tasks: build-ebpf, demo, bench, dist.

mod bench;
mod build_ebpf;
mod ebpf_sources;

use clap::{Parser, Subcommand};

/// The project's own tasks.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build the XDP program that lb-user embeds.
    BuildEbpf,
    /// Measure.
    #[command(subcommand)]
    Bench(bench::Bench),
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().task {
        Task::BuildEbpf => build_ebpf::run(),
        Task::Bench(bench) => bench::run(&bench),
    }
}
