//! Two directors and a third host on one switch.

use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use netbed::{Bed, Cable, Capture, Process, Segment, wait_for};
use nix::sys::signal::Signal;

pub(crate) use netbed::INTERFACE;

/// One of the hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Host {
    /// Where our side runs: 172.16.1.208.
    Ours,
    /// Where keepalived runs: 172.16.1.209.
    Theirs,
    /// Who asks for the virtual address: 172.16.1.50.
    Third,
}

impl Host {
    const ALL: [Self; 3] = [Self::Ours, Self::Theirs, Self::Third];

    fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Theirs => "theirs",
            Self::Third => "third",
        }
    }

    /// Its IPv4 address.
    pub(crate) fn address(self) -> Ipv4Addr {
        let last = match self {
            Self::Ours => 208,
            Self::Theirs => 209,
            Self::Third => 50,
        };
        Ipv4Addr::new(172, 16, 1, last)
    }
}

/// The network.
pub(crate) struct Network {
    /// In the order of [`Host::ALL`].
    hosts: [Arc<netbed::Host>; 3],
    segment: Segment,
    // Dropped last: it ends what runs on the hosts.
    _bed: Bed,
}

impl Network {
    /// Lays the network out.
    pub(crate) fn lay_out() -> Self {
        let bed = Bed::new().expect("root may make namespaces");
        let host = |name, address| bed.host(name, address).expect("a host");
        let hosts = Host::ALL.map(|it| host(it.name(), it.address()));
        let switch = host("switch", Ipv4Addr::UNSPECIFIED);
        let segment = Segment::create(&switch, "br0").expect("a bridge");
        let cables = [0, 1, 2].map(|at| Cable::to(&hosts[at]));
        segment.plug_in(&cables).expect("cables");
        Self {
            hosts,
            segment,
            _bed: bed,
        }
    }

    fn host(&self, host: Host) -> &netbed::Host {
        &self.hosts[host as usize]
    }

    /// Plugs a host in with a new interface, its old one having been deleted.
    pub(crate) fn plug_in_again(&self, host: Host) {
        let cable = Cable::to(self.host(host));
        self.segment.plug_in(&[cable]).expect("the port is free");
        // A new interface has another MAC address, which others have to learn.
        let mac = "address 02:00:00:00:00:77";
        self.ip_on(host, &format!("link set {INTERFACE} {mac}"));
    }

    /// Runs `ip` on a host.
    pub(crate) fn ip_on(&self, host: Host, arguments: &str) {
        self.run(host, &format!("ip {arguments}"));
    }

    /// Cuts a host off: its cable stays plugged in, nothing comes through.
    pub(crate) fn cut(&self, host: Host) {
        self.segment.cut(host.name()).expect("it has a port");
    }

    /// Ends a [`cut`](Self::cut).
    pub(crate) fn mend(&self, host: Host) {
        self.segment.mend(host.name()).expect("it has a port");
    }

    /// Runs a command on a host; returns what it prints.
    pub(crate) fn run(&self, host: Host, line: &str) -> String {
        self.host(host).sh(line).expect("the command succeeds")
    }

    /// True if a host holds an address.
    pub(crate) fn holds(&self, host: Host, address: &str) -> bool {
        let address: IpAddr = address.parse().expect("an address");
        let held = self.host(host).has_address(address);
        held.expect("addresses can be listed")
    }

    /// The MAC address of a host's interface.
    pub(crate) fn mac_address(&self, host: Host) -> String {
        let file = format!("/sys/class/net/{INTERFACE}/address");
        self.run(host, &format!("cat {file}")).trim().to_owned()
    }

    /// Waits until exactly this host holds an address, and the third host's
    /// packets to it go there.
    pub(crate) fn wait_for_holder(&self, host: Host, address: &str) {
        wait_for(format_args!("{address} on {host:?} alone"), || {
            [Host::Ours, Host::Theirs]
                .into_iter()
                .all(|each| self.holds(each, address) == (each == host))
        });
        let mac = self.mac_address(host);
        let what = format!("{address} known to the third host as {mac}");
        wait_for(what, || {
            let known = self.run(Host::Third, &format!("ip neigh show {address}"));
            known.contains(&mac)
        });
    }

    /// Makes the third host learn an address, so that announcements change what
    /// it knows.
    pub(crate) fn third_host_asks_for(&self, address: &str) {
        wait_for(format_args!("an answer from {address}"), || {
            let mut ping = Command::new("ping");
            ping.args(["-c", "1", "-W", "1", address]);
            let answered = self.host(Host::Third).output(ping);
            answered.expect("ping runs").status.success()
        });
    }

    /// Has the third host ask an address every few milliseconds while `events`
    /// happen; returns the longest time without an answer, and what they
    /// bring. Asks for a moment before and after.
    pub(crate) fn longest_silence<T>(
        &self,
        address: &str,
        events: impl FnOnce() -> T,
    ) -> (Duration, T) {
        const MOMENT: Duration = Duration::from_millis(200);
        let mut ping = Command::new("ping");
        ping.args(["-D", "-n", "-i", "0.005", address]);
        let ping = self.host(Host::Third).spawn("ping", ping);
        let ping = ping.expect("ping starts");
        thread::sleep(MOMENT);
        let result = events();
        thread::sleep(MOMENT);
        ping.signal(Signal::SIGINT).expect("ping runs");
        ping.wait().expect("ping ends");
        // [1700000000.123456] 64 bytes from …
        let answers: Vec<f64> = ping
            .log()
            .lines()
            .filter(|line| line.contains("bytes from"))
            .filter_map(|line| line.strip_prefix('[')?.split(']').next()?.parse().ok())
            .collect();
        let longest = answers
            .windows(2)
            .map(|pair| pair[1] - pair[0])
            .fold(0.0, f64::max);
        (Duration::from_secs_f64(longest), result)
    }

    /// Runs `work` in a thread that is on a host.
    pub(crate) fn on<T: Send + 'static>(
        &self,
        host: Host,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        self.host(host).thread(work)
    }

    /// Starts a program on a host.
    pub(crate) fn start(&self, host: Host, command: Command) -> Process {
        let started = self.host(host).spawn_with_streams(command);
        started.expect("the program starts")
    }

    /// Starts keepalived on a host.
    pub(crate) fn keepalived(&self, host: Host, configuration: &str) -> Keepalived {
        let started = netbed::start_keepalived(self.host(host), configuration);
        Keepalived(started.expect("keepalived starts"))
    }

    /// Starts to write down what the third host sees of VRRP, ARP and ICMPv6.
    pub(crate) fn capture(&self) -> Capture<Vec<u8>> {
        let third = self.host(Host::Third);
        let captured = Capture::start(third, INTERFACE, |frame| {
            is_of_interest(frame.bytes).then(|| frame.bytes.to_vec())
        });
        captured.expect("root may capture")
    }
}

/// True for an Ethernet frame of VRRP, ARP or ICMPv6.
fn is_of_interest(frame: &[u8]) -> bool {
    const VRRP: u8 = 112;
    const ICMPV6: u8 = 58;
    match frame.get(12..14) {
        Some([0x08, 0x06]) => true,
        Some([0x08, 0x00]) => frame.get(23) == Some(&VRRP),
        Some([0x86, 0xdd]) => [VRRP, ICMPV6].map(Some).contains(&frame.get(20).copied()),
        _ => false,
    }
}

/// A running keepalived.
pub(crate) struct Keepalived(Process);

impl Keepalived {
    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        self.0.log()
    }

    /// Waits until it has logged something.
    pub(crate) fn wait_for_log(&self, what: &str) {
        wait_for(format_args!("`{what}` in keepalived's log"), || {
            self.log().contains(what)
        });
    }

    /// Stops it as its service manager would.
    pub(crate) fn stop(self) {
        self.0.stop().expect("keepalived ends");
    }
}

impl Drop for Keepalived {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("keepalived's log:\n{}", self.log());
        }
        // One that has been stopped is not there any more.
        let _ = self.0.stop();
    }
}
