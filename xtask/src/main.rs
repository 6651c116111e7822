//! The project's own tasks: build-ebpf, demo, bench, plan, test-kernels, fuzz, soak,
//! dependencies, dist.

mod bench;
mod build_ebpf;
mod cargo;
mod command;
mod demo;
mod dependencies;
mod dist;
mod ebpf_sources;
mod fuzz;
mod latency;
mod plan;
mod soak;
mod test_kernels;

use std::process::ExitCode;

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
    Demo(demo::Arguments),
    /// Measure.
    #[command(subcommand)]
    Bench(bench::Bench),
    Plan(plan::Arguments),
    TestKernels(test_kernels::Arguments),
    Fuzz(fuzz::Arguments),
    Soak(soak::Arguments),
    /// Compare licences and sources of all dependencies with deny.toml.
    Dependencies,
    Dist(dist::Arguments),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().task {
        Task::BuildEbpf => build_ebpf::run().map(|()| ExitCode::SUCCESS),
        Task::Demo(arguments) => demo::run(&arguments),
        Task::Bench(bench) => bench::run(&bench).map(|()| ExitCode::SUCCESS),
        Task::Plan(arguments) => plan::run(&arguments).map(|()| ExitCode::SUCCESS),
        Task::TestKernels(arguments) => test_kernels::run(&arguments),
        Task::Fuzz(arguments) => fuzz::run(&arguments).map(|()| ExitCode::SUCCESS),
        Task::Soak(arguments) => soak::run(&arguments).map(|()| ExitCode::SUCCESS),
        Task::Dist(arguments) => dist::run(&arguments).map(|()| ExitCode::SUCCESS),
        Task::Dependencies => dependencies::run().map(|()| ExitCode::SUCCESS),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
