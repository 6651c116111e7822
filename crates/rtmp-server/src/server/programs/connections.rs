//! Which connections are those of programs that the server has started, by proc(5).

use std::collections::HashSet;
use std::net::SocketAddr;

use procfs::ProcResult;
use procfs::net::{TcpNetEntry, TcpState};
use procfs::process::{FDTarget, Process, all_processes};

/// Local addresses of the TCP connections of all processes of `groups`, which are in this
/// network namespace; IPv4 is never mapped to IPv6.
///
/// What /proc does not show is left out.
pub(super) fn of_groups(groups: &HashSet<u32>) -> HashSet<SocketAddr> {
    let processes = all_processes().into_iter().flatten().flatten();
    let inodes: HashSet<u64> = processes
        .filter(|process| is_of(process, groups))
        .flat_map(|process| sockets(&process))
        .collect();
    let tables: [ProcResult<Vec<TcpNetEntry>>; 2] = [procfs::net::tcp(), procfs::net::tcp6()];
    tables
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.state == TcpState::Established && inodes.contains(&entry.inode))
        .map(|entry| {
            let address = entry.local_address;
            SocketAddr::new(address.ip().to_canonical(), address.port())
        })
        .collect()
}

fn is_of(process: &Process, groups: &HashSet<u32>) -> bool {
    let group = process.stat().ok().map(|stat| stat.pgrp);
    group
        .and_then(|group| u32::try_from(group).ok())
        .is_some_and(|group| groups.contains(&group))
}

/// Inodes of the sockets that a process has open.
fn sockets(process: &Process) -> Vec<u64> {
    let descriptors = process.fd().into_iter().flatten().flatten();
    descriptors
        .filter_map(|descriptor| match descriptor.target {
            FDTarget::Socket(inode) => Some(inode),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::OwnedFd;
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_program_s_connections_are_told_from_others() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let [theirs, ours] = [(); 2].map(|()| TcpStream::connect(address).unwrap());
        let [their_address, our_address] = [&theirs, &ours].map(|it| it.local_addr().unwrap());
        let mut command = Command::new("sleep");
        command.arg("600").process_group(0);
        command.stdin(Stdio::from(OwnedFd::from(theirs)));
        let mut program = command.spawn().unwrap();
        drop(command);
        let found = of_groups(&HashSet::from([program.id()]));
        program.kill().unwrap();
        program.wait().unwrap();
        assert_eq!(found, HashSet::from([their_address]), "not {our_address}");
        assert!(of_groups(&HashSet::from([program.id()])).is_empty());
    }
}
