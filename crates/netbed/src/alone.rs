//! Namespaces that live as long as a test's thread.

use std::fs;
use std::panic;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::thread;

use nix::sched::{CloneFlags, unshare};

/// A descriptor that one test closes lives on, until exec, in a child that
/// another forks at that moment, and what it attaches or locks with it.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Runs `test` in a network namespace of its own, where only `lo` is up, and in
/// `others`; says so where the kernel does not let us.
pub fn on_a_host_of_its_own(others: CloneFlags, test: impl FnOnce() + Send + 'static) {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let thread = thread::spawn(move || {
        if let Err(error) = unshare(CloneFlags::CLONE_NEWNET | others) {
            crate::skip!("cannot make a namespace: {error}");
        }
        ip("link set lo up");
        test();
    });
    thread
        .join()
        .unwrap_or_else(|panic| panic::resume_unwind(panic));
}

/// As [`on_a_host_of_its_own`], with a pair of interfaces, `near` and `far`.
pub fn with_interfaces(others: CloneFlags, test: impl FnOnce() + Send + 'static) {
    on_a_host_of_its_own(others, || {
        ip("link add near type veth peer name far");
        for interface in ["near", "far"] {
            // The neighbours' IPv6 would find each other, and be counted.
            let file = format!("/proc/sys/net/ipv6/conf/{interface}/disable_ipv6");
            if Path::new(&file).exists() {
                fs::write(&file, "1").expect("IPv6 is disabled");
            }
        }
        ip("link set near up");
        ip("link set far up");
        test();
    });
}

/// Runs ip(8) in the calling thread's namespaces; returns what it says.
pub fn ip(arguments: &str) -> String {
    let output = Command::new("ip")
        .args(arguments.split(' '))
        .output()
        .expect("ip(8) runs");
    assert!(
        output.status.success(),
        "ip {arguments}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}
