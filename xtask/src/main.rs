//! The project's own tasks: build-ebpf, demo, bench, dist.

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
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().task {
        Task::BuildEbpf => build_ebpf::run(),
    }
}
