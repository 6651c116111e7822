//! The JSON of the server and its machine.

use serde_json::{Value, json};
use service_kit::unix_ms;

use super::Api;
use super::system::{CpuTimes, ProcessFigures, SystemFigures};
use crate::config::Role;

/// SRS's `self` and `system`, and beside them what `summaries` of Millrace has.
pub(super) fn report(api: &Api) -> Value {
    let server = &api.server;
    let streams = server.streams();
    let published = streams
        .iter()
        .filter(|stream| stream.is_published())
        .count();
    let players: usize = streams.iter().map(|stream| stream.players()).sum();
    let players = players + server.clients().hls_viewers();
    let log_bytes: u64 = streams
        .iter()
        .filter_map(|stream| stream.memory().ok())
        .sum();
    let connections = server.clients().connections();
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let (process_cpu, system_cpu) = CpuTimes::read().since(api.samples.oldest().cpu(), processors);
    let (process, system) = (ProcessFigures::read(), SystemFigures::read());
    let totals = server.clients().totals();
    let now_ms = unix_ms();
    let arguments = std::env::args_os().map(|it| it.to_string_lossy().into_owned());
    let cwd = std::env::current_dir().unwrap_or_default();
    json!({
        "ok": true,
        "now_ms": now_ms,
        "self": {
            "version": env!("CARGO_PKG_VERSION"),
            "pid": std::process::id(),
            "ppid": process.parent,
            "argv": shown(arguments),
            "cwd": cwd.to_string_lossy(),
            "mem_kbyte": process.resident_bytes / 1024,
            "mem_percent": part(process.resident_bytes / 1024, system.memory_kb),
            "cpu_percent": process_cpu,
            "srs_uptime": server.uptime().as_secs(),
        },
        "system": {
            "cpu_percent": system_cpu,
            "disk_read_KBps": 0,
            "disk_write_KBps": 0,
            "disk_busy_percent": 0.0,
            "mem_ram_kbyte": system.memory_kb,
            "mem_ram_percent": system.memory_used,
            "mem_swap_kbyte": system.swap_kb,
            "mem_swap_percent": system.swap_used,
            "cpus": processors,
            "cpus_online": processors,
            "uptime": system.uptime_s,
            "ilde_time": system.idle_s,
            "load_1m": system.load[0],
            "load_5m": system.load[1],
            "load_15m": system.load[2],
            "net_sample_time": now_ms,
            "net_recv_bytes": system.network.0,
            "net_send_bytes": system.network.1,
            "net_recvi_bytes": system.loopback.0,
            "net_sendi_bytes": system.loopback.1,
            "srs_sample_time": now_ms,
            "srs_recv_bytes": totals.received,
            "srs_send_bytes": totals.sent,
            "conn_sys": system.established,
            "conn_sys_et": system.established,
            "conn_sys_tw": 0,
            "conn_sys_udp": 0,
            "conn_srs": connections,
        },
        "role": role(server.role()),
        "uptime_s": server.uptime().as_secs(),
        "connections": connections,
        "streams": streams.len(),
        "published": published,
        "players": players,
        "log_bytes": log_bytes,
        "log_limit": server.log_memory().limit(),
        "players_per_worker": server.players_per_worker(),
    })
}

/// The command line. Of what `--set` gives only the directive's name: its words may be
/// secrets.
fn shown(arguments: impl Iterator<Item = String>) -> String {
    const SET: &str = "--set";
    let name = |directive: &str| {
        let end = directive.find(|it: char| it.is_whitespace() || it == '{');
        directive[..end.unwrap_or(directive.len())].to_owned()
    };
    let mut is_set = false;
    let arguments: Vec<_> = arguments
        .map(|argument| {
            let is_value = std::mem::replace(&mut is_set, argument == SET);
            match argument.strip_prefix("--set=") {
                _ if is_value => name(argument.trim_start()),
                Some(directive) => format!("{SET}={}", name(directive.trim_start())),
                None => argument,
            }
        })
        .collect();
    arguments.join(" ")
}

/// Name of a role.
pub(super) fn role(role: Role) -> &'static str {
    match role {
        Role::Origin => "origin",
        Role::Edge => "edge",
    }
}

fn part(of: u64, all: u64) -> f64 {
    match all {
        0 => 0.0,
        _ => of as f64 / all as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_shows_no_words_of_directives() {
        let given = [
            "rtmp-origin",
            "--set",
            "signed_urls { enabled on; play { key a s3cret; } }",
            "--listen",
            "1935",
            "--set=forward{ destination rtmp://h/app/k3y; }",
            "--set",
        ];
        assert_eq!(
            shown(given.into_iter().map(str::to_owned)),
            "rtmp-origin --set signed_urls --listen 1935 --set=forward --set"
        );
    }
}
