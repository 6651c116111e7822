//! Memory, descriptors and threads of the programs that live all along.

use std::fs;

use anyhow::Context as _;
use comfy_table::{Table, presets};
use testbed::Cluster;

/// By how much the most of the last third may be above that of the second: what one party more
/// takes that is just leaving, and what the allocator keeps.
const MORE_DESCRIPTORS: u64 = 40;
const MORE_THREADS: u64 = 8;
const MORE_MEMORY_KB: u64 = 24 << 10;

/// What a process holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sample {
    memory_kb: u64,
    descriptors: u64,
    threads: u64,
}

/// One figure of a sample.
type Figure = fn(&Sample) -> u64;

/// Samples of one process.
#[derive(Debug)]
struct Watched {
    name: String,
    pid: u32,
    samples: Vec<Sample>,
}

/// Samples of all processes that live all along.
#[derive(Debug)]
pub(super) struct Resources(Vec<Watched>);

impl Resources {
    pub(super) fn of(cluster: &Cluster) -> anyhow::Result<Self> {
        let processes = [
            // The other one comes and goes.
            cluster.standby().process()?,
            cluster.origin().process()?,
            cluster.edge(0).process()?,
        ];
        let watched = processes.iter().map(|process| Watched {
            name: process.name().to_owned(),
            pid: process.pid(),
            samples: Vec::new(),
        });
        Ok(Self(watched.collect()))
    }

    /// Takes a sample of each.
    pub(super) fn sample(&mut self) -> anyhow::Result<()> {
        for watched in &mut self.0 {
            let sample = Sample::of(watched.pid);
            let sample = sample.with_context(|| format!("{} has ended", watched.name))?;
            watched.samples.push(sample);
        }
        Ok(())
    }

    pub(super) fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(presets::ASCII_MARKDOWN);
        table.set_header(["program", "memory MB", "descriptors", "threads"]);
        for watched in &self.0 {
            let column = |of: Figure, unit: u64| {
                let values: Vec<u64> = watched.samples.iter().map(|it| of(it) / unit).collect();
                let end = |value: Option<&u64>| value.copied().unwrap_or_default();
                let most = end(values.iter().max());
                format!(
                    "{} to {}, at most {most}",
                    end(values.first()),
                    end(values.last())
                )
            };
            table.add_row([
                watched.name.clone(),
                column(|it| it.memory_kb, 1024),
                column(|it| it.descriptors, 1),
                column(|it| it.threads, 1),
            ]);
        }
        table
    }

    /// What has grown from the second third of the time to the last.
    pub(super) fn growth(&self) -> Vec<String> {
        self.0.iter().flat_map(Watched::growth).collect()
    }
}

impl Watched {
    fn growth(&self) -> Vec<String> {
        let third = self.samples.len() / 3;
        let (before, after) = self.samples[third..].split_at(third);
        let most = |samples: &[Sample], of: Figure| samples.iter().map(of).max();
        let kinds: [(&str, Figure, u64); 3] = [
            ("kB of memory", |it| it.memory_kb, MORE_MEMORY_KB),
            ("descriptors", |it| it.descriptors, MORE_DESCRIPTORS),
            ("threads", |it| it.threads, MORE_THREADS),
        ];
        let grown = kinds.into_iter().filter_map(|(what, of, more)| {
            let (before, after) = (most(before, of)?, most(after, of)?);
            (after > before + more)
                .then(|| format!("{}: {before} {what} have become {after}", self.name))
        });
        grown.collect()
    }
}

impl Sample {
    /// Of a living process (proc(5)).
    fn of(pid: u32) -> anyhow::Result<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let value = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
            value.with_context(|| format!("/proc/{pid}/status has no {name}"))
        };
        Ok(Self {
            memory_kb: field("VmRSS:")?,
            threads: field("Threads:")?,
            descriptors: fs::read_dir(format!("/proc/{pid}/fd"))?.count() as u64,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched(descriptors: &[u64]) -> Watched {
        let samples = descriptors.iter().map(|&descriptors| Sample {
            memory_kb: 10_000,
            descriptors,
            threads: 4,
        });
        Watched {
            name: "edge".to_owned(),
            pid: 0,
            samples: samples.collect(),
        }
    }

    #[test]
    fn what_grows_after_the_beginning_is_a_fault() {
        assert_eq!(watched(&[10, 90, 300, 310, 290, 330]).growth(), [""; 0]);
        let leaking = watched(&[10, 20, 30, 40, 100, 110]).growth();
        assert_eq!(leaking, ["edge: 40 descriptors have become 110"]);
    }

    #[test]
    fn a_living_process_can_be_sampled() {
        let own = Sample::of(std::process::id()).expect("this process lives");
        assert!(own.memory_kb > 0 && own.descriptors > 2 && own.threads > 0);
    }
}
