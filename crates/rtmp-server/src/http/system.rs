//! What the kernel says of this process and of the machine (proc(5)). What cannot be
//! read is left at zero, as SRS leaves it.

use procfs::process::Process;
use procfs::{Current, CurrentSI, KernelStats, LoadAverage, Meminfo, Uptime};

/// Time of processors, in ticks.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct CpuTimes {
    /// This process'.
    process: u64,
    /// All of the machine's, and the part of it in which there was something to do.
    total: u64,
    busy: u64,
}

impl CpuTimes {
    /// Reads them.
    pub(super) fn read() -> Self {
        let stat = Process::myself().and_then(|process| process.stat());
        let process = stat.map_or(0, |stat| stat.utime + stat.stime);
        let Ok(KernelStats { total: cpu, .. }) = KernelStats::current() else {
            return Self {
                process,
                ..Self::default()
            };
        };
        let busy = cpu.user
            + cpu.nice
            + cpu.system
            + cpu.irq.unwrap_or(0)
            + cpu.softirq.unwrap_or(0)
            + cpu.steal.unwrap_or(0);
        Self {
            process,
            total: busy + cpu.idle + cpu.iowait.unwrap_or(0),
            busy,
        }
    }

    /// The parts of one processor that this process has taken since `earlier`, and of all
    /// processors that somebody has: 1.0 is all of it.
    pub(super) fn since(&self, earlier: &Self, processors: usize) -> (f64, f64) {
        let total = self.total.saturating_sub(earlier.total);
        if total == 0 {
            return (0.0, 0.0);
        }
        let part = |now: u64, before: u64| now.saturating_sub(before) as f64 / total as f64;
        let process = part(self.process, earlier.process) * processors as f64;
        (process, part(self.busy, earlier.busy))
    }
}

/// This process.
#[derive(Debug, Default)]
pub(super) struct ProcessFigures {
    pub(super) parent: i32,
    pub(super) resident_bytes: u64,
    pub(super) cpu_seconds: f64,
    pub(super) open_descriptors: usize,
}

impl ProcessFigures {
    /// Reads them.
    pub(super) fn read() -> Self {
        let Ok(process) = Process::myself() else {
            return Self::default();
        };
        let Ok(stat) = process.stat() else {
            return Self::default();
        };
        let ticks = (stat.utime + stat.stime) as f64;
        Self {
            parent: stat.ppid,
            resident_bytes: stat.rss * procfs::page_size(),
            cpu_seconds: ticks / procfs::ticks_per_second() as f64,
            open_descriptors: process.fd_count().unwrap_or(0),
        }
    }
}

/// The machine.
#[derive(Debug, Default)]
pub(super) struct SystemFigures {
    pub(super) memory_kb: u64,
    pub(super) memory_used: f64,
    pub(super) swap_kb: u64,
    pub(super) swap_used: f64,
    pub(super) uptime_s: f64,
    pub(super) idle_s: f64,
    pub(super) load: [f32; 3],
    /// Bytes received and sent at all interfaces but the loopback.
    pub(super) network: (u64, u64),
    /// The same at the loopback.
    pub(super) loopback: (u64, u64),
    /// TCP connections in the state ESTABLISHED, by both versions of IP.
    pub(super) established: u64,
}

impl SystemFigures {
    /// Reads them.
    pub(super) fn read() -> Self {
        let mut figures = Self::default();
        if let Ok(memory) = Meminfo::current() {
            let free = memory.mem_available.unwrap_or(memory.mem_free);
            figures.memory_kb = memory.mem_total / 1024;
            figures.memory_used = used(memory.mem_total, free);
            figures.swap_kb = memory.swap_total / 1024;
            figures.swap_used = used(memory.swap_total, memory.swap_free);
        }
        if let Ok(uptime) = Uptime::current() {
            (figures.uptime_s, figures.idle_s) = (uptime.uptime, uptime.idle);
        }
        if let Ok(load) = LoadAverage::current() {
            figures.load = [load.one, load.five, load.fifteen];
        }
        for interface in procfs::net::dev_status().unwrap_or_default().into_values() {
            let bytes = match &*interface.name {
                "lo" => &mut figures.loopback,
                _ => &mut figures.network,
            };
            bytes.0 += interface.recv_bytes;
            bytes.1 += interface.sent_bytes;
        }
        let snmp = procfs::net::snmp();
        figures.established = snmp.map_or(0, |snmp| snmp.tcp_curr_estab);
        figures
    }
}

/// The part of `total` that is not free: 1.0 is all of it.
fn used(total: u64, free: u64) -> f64 {
    match total {
        0 => 0.0,
        _ => total.saturating_sub(free) as f64 / total as f64,
    }
}
