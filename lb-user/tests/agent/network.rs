//! A director, two servers and a client on one bridge, in network namespaces
//! of their own.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::wait_for;

/// The virtual address of `examples/keepalived.conf`.
pub(crate) const VIP: &str = "172.16.1.200";

/// A virtual address of IPv6.
pub(crate) const VIP6: &str = "2001:db8::c8";

/// Hosts with their addresses; each has an interface `eth2`.
const HOSTS: [(&str, &str, &str); 4] = [
    ("director", "172.16.1.208", "2001:db8::d0"),
    ("edge1", "172.16.1.211", "2001:db8::d3"),
    ("edge2", "172.16.1.207", "2001:db8::cf"),
    ("client", "172.16.1.50", "2001:db8::32"),
];

/// Namespaces that go away with this.
pub(crate) struct Network {
    prefix: String,
    /// Hosts beside those that every network has.
    others: Vec<&'static str>,
}

impl Network {
    /// Builds the network; needs root.
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let network = Self {
            prefix: format!("lbuser-{}-{number}", std::process::id()),
            others: Vec::new(),
        };
        let switch = network.namespace("switch");
        ip(&["netns", "add", &switch]);
        ip(&["-n", &switch, "link", "add", "br0", "type", "bridge"]);
        ip(&["-n", &switch, "link", "set", "br0", "up"]);
        for (host, _, _) in HOSTS {
            let namespace = network.namespace(host);
            ip(&["netns", "add", &namespace]);
            network.spare_duplicate_address_detection(host);
            network.plug_in(host);
            ip(&["-n", &namespace, "link", "set", "lo", "up"]);
        }
        for edge in ["edge1", "edge2"] {
            network.output(
                edge,
                &[
                    "sysctl",
                    "-qw",
                    "net.ipv4.conf.all.arp_ignore=1",
                    "net.ipv4.conf.all.arp_announce=2",
                ],
            );
            ip(&[
                "-n",
                &network.namespace(edge),
                "addr",
                "add",
                &format!("{VIP}/32"),
                "dev",
                "lo",
            ]);
            // An address on `lo` is not advertised on `eth2`: for IPv6 that is
            // the kernel's way by itself.
            let vip6 = format!("{VIP6}/128");
            ip(&[
                "-n",
                &network.namespace(edge),
                "addr",
                "add",
                &vip6,
                "dev",
                "lo",
                "nodad",
            ]);
        }
        network
    }

    /// Lets a host use the link-local addresses of interfaces to come at once.
    ///
    /// Until such an address is known to be unique, which takes a second or two, a
    /// host cannot ask for a neighbour on behalf of an address of another
    /// interface: an edge could not answer a viewer from the VIP on its `lo`. The
    /// kernel looks at both settings.
    fn spare_duplicate_address_detection(&self, host: &str) {
        for interface in ["all", "default"] {
            self.set(host, &format!("net.ipv6.conf.{interface}.accept_dad=0"));
        }
    }

    /// Gives a host its interface, `eth2`.
    pub(crate) fn plug_in(&self, host: &str) {
        let (switch, namespace) = (self.namespace("switch"), self.namespace(host));
        let port = format!("p-{host}");
        let (_, address, address6) = HOSTS
            .into_iter()
            .find(|(name, _, _)| *name == host)
            .expect("a host");
        ip(&[
            "link", "add", &port, "netns", &switch, "type", "veth", "peer", "name", "eth2",
            "netns", &namespace,
        ]);
        ip(&["-n", &switch, "link", "set", &port, "master", "br0", "up"]);
        let address = format!("{address}/24");
        ip(&["-n", &namespace, "addr", "add", &address, "dev", "eth2"]);
        let address6 = format!("{address6}/64");
        ip(&[
            "-n", &namespace, "addr", "add", &address6, "dev", "eth2", "nodad",
        ]);
        ip(&["-n", &namespace, "link", "set", "eth2", "up"]);
    }

    /// Deletes a host's interface.
    pub(crate) fn unplug(&self, host: &str) {
        ip(&["-n", &self.namespace(host), "link", "del", "eth2"]);
    }

    /// Adds a host with two cables: its `eth2` to the switch, and its `eth3` to
    /// `peer`'s.
    pub(crate) fn plug_in_between(&mut self, host: &'static str, address: &str, peer: &str) {
        let (namespace, switch) = (self.namespace(host), self.namespace("switch"));
        self.others.push(host);
        ip(&["netns", "add", &namespace]);
        let port = format!("p-{host}");
        ip(&[
            "link", "add", &port, "netns", &switch, "type", "veth", "peer", "name", "eth2",
            "netns", &namespace,
        ]);
        ip(&["-n", &switch, "link", "set", &port, "master", "br0", "up"]);
        ip(&[
            "link",
            "add",
            "eth3",
            "netns",
            &namespace,
            "type",
            "veth",
            "peer",
            "name",
            "eth3",
            "netns",
            &self.namespace(peer),
        ]);
        self.ip_on(host, &format!("addr add {address}/24 dev eth2"));
        for (host, interface) in [(host, "lo"), (host, "eth2"), (host, "eth3"), (peer, "eth3")] {
            self.ip_on(host, &format!("link set {interface} up"));
        }
    }

    /// Adds a host without any cable.
    pub(crate) fn host(&mut self, host: &'static str) {
        self.others.push(host);
        ip(&["netns", "add", &self.namespace(host)]);
        self.ip_on(host, "link set lo up");
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
        Process::start(self.command(host, &["python3", "-c", PROGRAM]))
    }

    /// Runs `ip` on a host.
    pub(crate) fn ip_on(&self, host: &str, words: &str) {
        let namespace = self.namespace(host);
        let mut all = vec!["-n", &namespace];
        all.extend(words.split(' '));
        ip(&all);
    }

    fn namespace(&self, host: &str) -> String {
        format!("{}-{host}", self.prefix)
    }

    /// A command that is to run on a host.
    pub(crate) fn command(&self, host: &str, words: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.namespace(host)])
            .args(words);
        command
    }

    /// The prefix of a command that is to run on a host's network, but in
    /// our own mount namespace: `ip netns exec` gives each its own.
    pub(crate) fn command_in_our_mounts(&self, host: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.namespace(host)));
        command
    }

    /// Runs a command on a host to its end.
    pub(crate) fn output(&self, host: &str, words: &[&str]) -> Output {
        self.command(host, words).output().expect("ip exists")
    }

    /// The output of a command on a host.
    pub(crate) fn stdout(&self, host: &str, words: &[&str]) -> String {
        String::from_utf8(self.output(host, words).stdout).expect("UTF-8")
    }

    /// Starts a server on a host, and waits until it listens on port 1935: a check
    /// that came before would find it down.
    fn start_server(&self, host: &str, words: &[&str]) -> Process {
        let server = Process::start(self.command(host, words));
        wait_for("the server to listen", || {
            let listening = self.stdout(host, &["ss", "-Hltn", "sport", "=", ":1935"]);
            (!listening.is_empty()).then_some(())
        });
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
Server(('::', 1935), Handler).serve_forever()
";
        self.start_server(host, &["python3", "-c", PROGRAM, host])
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
Server(('0.0.0.0', 1935), Handler).serve_forever()
";
        self.start_server(host, &["python3", "-c", PROGRAM, host])
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
        self.start_server(host, &["python3", "-c", PROGRAM])
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
        self.start_server(host, &["python3", "-c", PROGRAM, file])
    }

    /// Starts to capture packets at a host; they are counted from the moment this
    /// returns.
    pub(crate) fn capture(&self, host: &str, filter: &str) -> Capture {
        let mut words = vec!["tcpdump", "-n", "-l", "--immediate-mode", "-i", "eth2"];
        words.extend(filter.split(' '));
        let mut command = self.command(host, &words);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = Process::start(command);
        // tcpdump says on its standard error that it listens.
        let mut said = BufReader::new(process.0.stderr.take().expect("piped"));
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
with socket.create_connection((sys.argv[1], 1935), 1) as s:
    s.settimeout(10)
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

    /// The name of the host that answers on the virtual address, if one does.
    pub(crate) fn ask(&self) -> String {
        self.ask_at(VIP)
    }

    /// The name of the host that answers on `address`, if one does.
    pub(crate) fn ask_at(&self, address: &str) -> String {
        self.ask_within(address, 1)
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

impl Drop for Network {
    fn drop(&mut self) {
        let hosts = HOSTS.iter().map(|(host, ..)| *host).chain(["switch"]);
        for host in hosts.chain(self.others.iter().copied()) {
            let _ = Command::new("ip")
                .args(["netns", "del", &self.namespace(host)])
                .status();
        }
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
    pub(crate) fn stop(mut self) -> String {
        let pid = Pid::from_raw(self.process.0.id().try_into().expect("a pid"));
        kill(pid, Signal::SIGINT).expect("tcpdump runs");
        let mut packets = String::new();
        let mut stdout = self.process.0.stdout.take().expect("piped");
        stdout.read_to_string(&mut packets).expect("read");
        packets
    }
}

/// A process that is killed with this.
pub(crate) struct Process(pub Child);

impl Process {
    pub(crate) fn start(mut command: Command) -> Self {
        Self(
            command
                .stdin(Stdio::null())
                .spawn()
                .expect("the program exists"),
        )
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn ip(words: &[&str]) {
    let output = Command::new("ip").args(words).output().expect("ip exists");
    assert!(
        output.status.success(),
        "ip {}: {}",
        words.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
}
