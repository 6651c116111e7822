//! A director, two servers and a client on one segment.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{ChildStderr, Command, Output, Stdio};
use std::sync::Arc;

use netbed::{Bed, Cable, Host, INTERFACE, Process, Segment, wait_for};
use nix::sys::signal::Signal;

/// The virtual address of `examples/keepalived.conf`.
pub(crate) const VIP: &str = "172.16.1.200";

/// A virtual address of IPv6.
pub(crate) const VIP6: &str = "2001:db8::c8";

/// Hosts with their addresses.
const HOSTS: [(&str, &str, &str); 4] = [
    ("director", "172.16.1.208", "2001:db8::d0"),
    ("edge1", "172.16.1.211", "2001:db8::d3"),
    ("edge2", "172.16.1.207", "2001:db8::cf"),
    ("client", "172.16.1.50", "2001:db8::32"),
];

/// The network, which goes away with this.
pub(crate) struct Network {
    segment: Segment,
    hosts: Vec<Arc<Host>>,
    bed: Bed,
}

impl Network {
    /// Builds the network; needs root.
    pub(crate) fn new() -> Self {
        let bed = Bed::new().expect("root may make namespaces");
        let switch = bed.host("switch", Ipv4Addr::UNSPECIFIED);
        let segment = Segment::create(&switch.expect("a switch"), "br0").expect("a bridge");
        let mut network = Self {
            segment,
            hosts: Vec::new(),
            bed,
        };
        for (host, address, _) in HOSTS {
            network.add_host(host, address.parse().expect("an address"));
            network.plug_in(host);
        }
        for edge in ["edge1", "edge2"] {
            network.set(edge, "net.ipv4.conf.all.arp_ignore=1");
            network.set(edge, "net.ipv4.conf.all.arp_announce=2");
            network.ip_on(edge, &format!("addr add {VIP}/32 dev lo"));
            // An address on `lo` is not advertised on `eth2`: for IPv6 that is
            // the kernel's way by itself.
            network.ip_on(edge, &format!("addr add {VIP6}/128 dev lo nodad"));
        }
        network
    }

    fn add_host(&mut self, name: &str, address: Ipv4Addr) {
        let host = self.bed.host(name, address);
        self.hosts.push(host.expect("root may make namespaces"));
    }

    /// A host by its name.
    pub(crate) fn on(&self, name: &str) -> &Host {
        let mut hosts = self.hosts.iter();
        hosts.find(|host| host.name() == name).expect("a host")
    }

    /// Gives a host its interface, `eth2`.
    pub(crate) fn plug_in(&self, host: &str) {
        let cable = Cable::to(self.on(host));
        self.segment.plug_in(&[cable]).expect("the port is free");
        let mut hosts = HOSTS.into_iter();
        if let Some((_, _, address6)) = hosts.find(|(name, ..)| *name == host) {
            self.ip_on(
                host,
                &format!("addr add {address6}/64 dev {INTERFACE} nodad"),
            );
        }
    }

    /// Deletes a host's interface.
    pub(crate) fn unplug(&self, host: &str) {
        self.ip_on(host, &format!("link del {INTERFACE}"));
    }

    /// Adds a host with two cables: its `eth2` to the switch, and its `eth3` to
    /// `peer`'s.
    pub(crate) fn plug_in_between(&mut self, host: &str, address: &str, peer: &str) {
        self.add_host(host, address.parse().expect("an address"));
        self.plug_in(host);
        let end = self.on(peer).net_path();
        self.ip_on(
            host,
            &format!(
                "link add eth3 type veth peer name eth3 netns {}",
                end.display()
            ),
        );
        for host in [host, peer] {
            self.ip_on(host, "link set eth3 up");
        }
    }

    /// Adds a host without any cable.
    pub(crate) fn host(&mut self, host: &str) {
        self.add_host(host, Ipv4Addr::UNSPECIFIED);
    }

    /// Lets a host take packets from wherever they say they are, on interfaces
    /// to come, too.
    pub(crate) fn accept_any_source(&self, host: &str, interfaces: &[&str]) {
        for interface in ["all", "default"].iter().chain(interfaces) {
            self.set(host, &format!("net.ipv4.conf.{interface}.rp_filter=0"));
        }
    }

    /// Sets a kernel parameter on a host.
    pub(crate) fn set(&self, host: &str, setting: &str) {
        let output = self.output(host, &["sysctl", "-qw", setting]);
        assert!(output.status.success(), "{output:?}");
    }

    /// Lets a host's packets leave as they would on a wire: none larger than the
    /// MTU, and each with its checksum.
    pub(crate) fn finish_packets(&self, host: &str) {
        let output = self.output(host, &["ethtool", "-K", "eth2", "tx", "off"]);
        assert!(output.status.success(), "{output:?}");
    }

    /// Takes packets out of those that travel to `host` through a tunnel, and
    /// gives them to its stack: what a kernel's `tunl0` does, which not every
    /// kernel has.
    pub(crate) fn decapsulate(&self, host: &str) -> Process {
        const PROGRAM: &str = "
import fcntl, os, socket, struct, subprocess
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454ca, 1, 0x1000
tun = os.open('/dev/net/tun', os.O_RDWR)
fcntl.ioctl(tun, TUNSETIFF, struct.pack('16sH22x', b'inner', IFF_TUN | IFF_NO_PI))
subprocess.run(['ip', 'link', 'set', 'inner', 'up'], check=True)
outer = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_IPIP)
while True:
    packet = outer.recv(65535)
    os.write(tun, packet[(packet[0] & 15) * 4:])
";
        self.start_python(host, PROGRAM, &[])
    }

    /// Runs `ip` on a host.
    pub(crate) fn ip_on(&self, host: &str, words: &str) {
        let output = self.on(host).sh(&format!("ip {words}"));
        output.expect("ip succeeds");
    }

    /// Starts a program on a host, which reads nothing.
    pub(crate) fn start(&self, host: &str, mut command: Command) -> Process {
        command.stdin(Stdio::null());
        let started = self.on(host).spawn_with_streams(command);
        started.expect("the program exists")
    }

    /// Starts a program on a host, to which the test speaks.
    pub(crate) fn start_dialogue(&self, host: &str, mut command: Command) -> Process {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let started = self.on(host).spawn_with_streams(command);
        started.expect("the program exists")
    }

    /// Starts a Python program on a host.
    pub(crate) fn start_python(&self, host: &str, program: &str, arguments: &[&str]) -> Process {
        self.start(host, python(program, arguments))
    }

    /// Runs a command on a host to its end.
    pub(crate) fn output(&self, host: &str, words: &[&str]) -> Output {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]);
        let output = self.on(host).output(command);
        output.expect("the program exists")
    }

    /// What a command on a host prints.
    pub(crate) fn stdout(&self, host: &str, words: &[&str]) -> String {
        String::from_utf8(self.output(host, words).stdout).expect("UTF-8")
    }

    /// Starts a Python server on a host, and waits until it listens on port 1935: a
    /// check that came before would find it down.
    pub(crate) fn start_server(&self, host: &str, program: &str, arguments: &[&str]) -> Process {
        let server = self.start_python(host, program, arguments);
        wait_for("the server to listen", || self.on(host).listens(1935)).expect("it listens");
        server
    }

    /// Starts a TCP server on a host's port 1935 that says the host's name, and
    /// at the end of what it is told how many bytes that was.
    pub(crate) fn serve(&self, host: &str) -> Process {
        const PROGRAM: &str = "
import socket, socketserver, sys
class Handler(socketserver.BaseRequestHandler):
    def handle(self):
        try:
            self.request.sendall(sys.argv[1].encode())
            count = 0
            while chunk := self.request.recv(65536):
                count += len(chunk)
            self.request.sendall(b' %d' % count)
        except OSError:
            pass # A check, which does not wait for the end.
class Server(socketserver.ThreadingTCPServer):
    address_family = socket.AF_INET6  # and IPv4 with it
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 1024  # of checks, should this program stand still
Server(('::', 1935), Handler).serve_forever()
";
        self.start_server(host, PROGRAM, &[host])
    }

    /// As [`Self::serve`], but the server says its name for every line that it is
    /// told, and never ends a connection.
    pub(crate) fn converse(&self, host: &str) -> Process {
        const PROGRAM: &str = "
import socketserver, sys
class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            self.request.sendall(sys.argv[1].encode() + b'\\n')
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 1024  # of checks, should this program stand still
Server(('0.0.0.0', 1935), Handler).serve_forever()
";
        self.start_server(host, PROGRAM, &[host])
    }

    /// Starts a TCP server on a host's port 1935 that keeps every connection and
    /// says nothing.
    pub(crate) fn hold(&self, host: &str) -> Process {
        const PROGRAM: &str = "
import resource, socket
most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
server = socket.create_server(('', 1935), backlog=1024)
held = []
while True:
    held.append(server.accept()[0])
";
        self.start_server(host, PROGRAM, &[])
    }

    /// Starts a TCP server on a host's port 1935 that ends every connection at
    /// once, and adds a byte to a file for each.
    pub(crate) fn count_connections(&self, host: &str, file: &Path) -> Process {
        const PROGRAM: &str = "
import socket, sys
server = socket.create_server(('', 1935), backlog=1024)
with open(sys.argv[1], 'ab', buffering=0) as file:
    while True:
        server.accept()[0].close()
        file.write(b'.')
";
        let file = file.to_str().expect("UTF-8");
        self.start_server(host, PROGRAM, &[file])
    }

    /// Starts to capture packets at a host; they are counted from the moment this
    /// returns.
    pub(crate) fn capture(&self, host: &str, filter: &str) -> Capture {
        let mut words = vec!["tcpdump", "-n", "-l", "--immediate-mode", "-i", "eth2"];
        words.extend(filter.split(' '));
        let mut command = Command::new(words[0]);
        command
            .args(&words[1..])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let process = self.start(host, command);
        // tcpdump says on its standard error that it listens.
        let mut said = BufReader::new(process.take_stderr().expect("piped"));
        let mut line = String::new();
        while !line.contains("listening on") {
            line.clear();
            let read = said.read_line(&mut line).expect("read");
            assert_ne!(read, 0, "tcpdump listens");
        }
        Capture {
            process,
            _said: said,
        }
    }

    /// As [`Self::ask`], with a question of so many bytes, in packets as large
    /// as its way takes: the name, and how many bytes have arrived.
    pub(crate) fn tell(&self, bytes: usize) -> String {
        const PROGRAM: &str = "
import socket, sys
with socket.create_connection((sys.argv[1], 1935), 60) as s:
    s.sendall(b'?' * int(sys.argv[2]))
    s.shutdown(socket.SHUT_WR)
    answer = b''
    while chunk := s.recv(64):
        answer += chunk
    print(answer.decode(), end='')
";
        let bytes = bytes.to_string();
        self.stdout("client", &["python3", "-c", PROGRAM, VIP, &bytes])
    }

    /// The name of the host that answers on the virtual address, if one does within a
    /// second: for one question of several.
    pub(crate) fn ask(&self) -> String {
        self.ask_within(VIP, 1)
    }

    /// The names of the hosts that answer the next two connections to `address`,
    /// in order of the alphabet.
    pub(crate) fn ask_twice_at(&self, address: &str) -> [String; 2] {
        let mut answers = [(); 2].map(|()| self.answer_at(address));
        answers.sort();
        answers
    }

    /// The name of the host that answers on `address`, as soon as one does.
    ///
    /// As patient as a kernel that sends its SYN again: a connection that was
    /// given up would have taken a server's turn.
    pub(crate) fn answer_at(&self, address: &str) -> String {
        wait_for("an answer", || {
            Some(self.ask_within(address, 15)).filter(|answer| !answer.is_empty())
        })
    }

    fn ask_within(&self, address: &str, seconds: u32) -> String {
        const PROGRAM: &str = "
import socket, sys
with socket.create_connection((sys.argv[1], 1935), int(sys.argv[2])) as s:
    print(s.recv(64).decode(), end='')
";
        let seconds = seconds.to_string();
        self.stdout("client", &["python3", "-c", PROGRAM, address, &seconds])
    }
}

/// Packets that are being captured.
pub(crate) struct Capture {
    process: Process,
    /// Kept open, lest tcpdump cannot write there.
    _said: BufReader<ChildStderr>,
}

impl Capture {
    /// One line for every packet so far.
    pub(crate) fn stop(self) -> String {
        // The signal ends it, whatever it has not read yet; it sleeps when it has read
        // all (proc_pid_stat(5), field 3).
        wait_for("tcpdump to have read every packet", || {
            let stat = fs::read_to_string(format!("/proc/{}/stat", self.process.pid())).ok()?;
            let (_, state) = stat.rsplit_once(") ")?;
            state.starts_with('S').then_some(())
        });
        self.process.signal(Signal::SIGINT).expect("tcpdump runs");
        self.all()
    }

    /// As [`Self::stop`], but it ends by itself, by a filter `-c`.
    pub(crate) fn all(self) -> String {
        self.process.wait().expect("tcpdump ends");
        let mut packets = String::new();
        let mut stdout = self.process.take_stdout().expect("piped");
        stdout.read_to_string(&mut packets).expect("read");
        packets
    }
}

/// A command of Python's.
pub(crate) fn python(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("python3");
    command.args(["-c", program]).args(arguments);
    command
}
