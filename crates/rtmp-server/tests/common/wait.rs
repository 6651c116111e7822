//! Waiting for a condition rather than for a time.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

/// Time limit of every wait. Only a broken program reaches it, even on the most
/// loaded machine.
pub(crate) const TIME_LIMIT: Duration = Duration::from_secs(120);

/// Interval at which a condition is checked.
const INTERVAL: Duration = Duration::from_millis(5);

/// Waits until `condition` yields a value, and returns it.
#[track_caller]
pub(crate) fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(begun.elapsed() < TIME_LIMIT, "waited in vain for {what}");
        thread::sleep(INTERVAL);
    }
}

/// Waits until `condition` holds.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    wait_for(what, || condition().then_some(()));
}

/// An address at which nobody listens.
pub(crate) fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap()
}
