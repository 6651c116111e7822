//! Directors behind a router that spreads connections over them (ECMP).
//!
//! The router and the directors run BIRD with the files of `examples/`; a client is in
//! another subnet. Real servers run an echo server in place of RTMP, so that thousands of
//! connections cost little.

mod trickle;

use std::net::{Ipv4Addr, SocketAddrV4};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use netbed::{Bed, Cable, Host, INTERFACE, Process, Segment, wait_for};

use crate::balancer::Balancer;
use crate::binaries;
use crate::director::AGENT_HTTP_PORT;

pub use trickle::Connections;
use trickle::EchoServer;

/// The virtual address of the example files.
pub const ECMP_VIP: Ipv4Addr = Ipv4Addr::new(172, 16, 2, 200);
const PORT: u16 = 1935;
const ROUTER: Ipv4Addr = Ipv4Addr::new(172, 16, 1, 1);
const ROUTER_OUTSIDE: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);
/// The router's interface to the client.
const OUTER_INTERFACE: &str = "eth3";
const CONFIG_FILE: &str = "keepalived.conf";
const BIRD_SOCKET: &str = "bird.ctl";

/// Directors, real servers, the router and a client. Dropping it removes everything.
#[derive(Debug)]
pub struct Ecmp {
    /// Ends first: its threads have copies of the descriptors by which the bed lives.
    _echo: Vec<EchoServer>,
    bed: Bed,
    inside: Segment,
    router: Arc<Host>,
    client: Arc<Host>,
    directors: Vec<Arc<Host>>,
    agents: Mutex<Vec<Option<Process>>>,
    servers: Vec<Arc<Host>>,
    passers: Mutex<Vec<Process>>,
}

impl Ecmp {
    /// The network with so many hosts, the servers, and BIRD on the router. No director
    /// runs yet.
    ///
    /// # Errors
    /// When the network cannot be made, or BIRD does not start.
    pub fn new(directors: u8, servers: u8) -> Result<Self> {
        let bed = Bed::new()?;
        let switch = bed.host("switch", Ipv4Addr::UNSPECIFIED)?;
        let router = bed.host("router", ROUTER)?;
        let client = bed.host("client", CLIENT)?;
        let hosts = |name: &str, count: u8, first: u8| {
            (0..count)
                .map(|i| {
                    let address = Ipv4Addr::new(172, 16, 1, first + i);
                    bed.host(&format!("{name}-{}", i + 1), address)
                })
                .collect::<Result<Vec<_>>>()
        };
        let directors = hosts("director", directors, 11)?;
        let servers = hosts("server", servers, 21)?;
        let inside = Segment::create(&switch, "inside")?;
        let cables: Vec<_> = [&router]
            .into_iter()
            .chain(&directors)
            .chain(&servers)
            .map(|host| Cable::to(host))
            .collect();
        inside.plug_in(&cables)?;
        let outer = Cable {
            host: &router,
            port: "router-outer".to_owned(),
            interface: OUTER_INTERFACE,
            address: ROUTER_OUTSIDE,
        };
        Segment::create(&switch, "outside")?.plug_in(&[outer, Cable::to(&client)])?;
        client.sh(&format!("ip route add default via {ROUTER_OUTSIDE}"))?;
        router.set_sysctl("net/ipv4/ip_forward", "1")?;
        router.set_sysctl("net/ipv4/fib_multipath_hash_policy", "1")?;
        for host in directors.iter().chain(&servers) {
            host.sh(&format!("ip route add default via {ROUTER}"))?;
        }
        let mut echo = Vec::new();
        for server in &servers {
            let script = binaries::source_root().join("scripts/realserver.sh");
            let mut command = Command::new(script);
            command.args(["start", &ECMP_VIP.to_string()]);
            server.run(command)?;
            echo.push(EchoServer::start(server, PORT)?);
        }
        start_bird(&router, "bird-router.conf")?;
        Ok(Self {
            bed,
            inside,
            router,
            client,
            agents: Mutex::new(directors.iter().map(|_| None).collect()),
            directors,
            servers,
            passers: Mutex::default(),
            _echo: echo,
        })
    }

    /// Starts a director with the servers of these weights, and waits until the router has
    /// a way through it.
    ///
    /// # Errors
    /// When it does not come to that; the message holds what its programs said.
    pub fn start_director(&self, director: usize, weights: &[u32]) -> Result<()> {
        let host = &self.directors[director];
        host.write_file(CONFIG_FILE, self.config(weights))?;
        let http = SocketAddrV4::new(host.address(), AGENT_HTTP_PORT);
        let mut command = Command::new(binaries::program("lb-user")?);
        command.args(["run", "-c", CONFIG_FILE, "--xdp-mode", "generic"]);
        command.args(["--interface", INTERFACE, "--http", &http.to_string()]);
        let agent = host.spawn("lb-user", command)?;
        self.agents()[director] = Some(agent);
        self.wait_for_weights(director, weights)?;
        start_bird(host, "bird-director.conf")?;
        self.wait_for_way(director, true)
    }

    /// Gives the servers of a running director other weights.
    ///
    /// # Errors
    /// When the director refuses, or does not do so.
    pub fn reload(&self, director: usize, weights: &[u32]) -> Result<()> {
        let host = &self.directors[director];
        host.write_file(CONFIG_FILE, self.config(weights))?;
        self.command(director, &["reload"])?;
        self.wait_for_weights(director, weights)
    }

    /// What `lb-user` says on a director.
    ///
    /// # Errors
    /// When it fails.
    pub fn command(&self, director: usize, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(binaries::program("lb-user")?);
        command.args(arguments);
        self.directors[director].run(command)
    }

    /// Ends a director's agent as `systemctl stop` does.
    ///
    /// # Errors
    /// When it does not end as it should.
    pub fn stop_director(&self, director: usize) -> Result<()> {
        let agent = self.agents()[director].take();
        let agent = agent.context("the director does not run")?;
        let status = agent.stop()?;
        ensure!(status.success(), "{status}\n{}", agent.log_tail());
        Ok(())
    }

    /// Cuts a director off, as if it had lost its power, and waits until the router has no
    /// way through it.
    ///
    /// # Errors
    /// When the router keeps it.
    pub fn kill_director(&self, director: usize) -> Result<()> {
        self.inside.cut(self.directors[director].name())?;
        self.wait_for_way(director, false)
    }

    /// Starts the second chance on every server, which asks all directors.
    ///
    /// # Errors
    /// When a program does not start, or does not learn of the tables.
    pub fn start_second_chance(&self) -> Result<()> {
        for server in &self.servers {
            let mut command = Command::new(binaries::program("millrace-second-chance")?);
            command.args(["--interface", INTERFACE]);
            let http = SocketAddrV4::new(server.address(), AGENT_HTTP_PORT);
            command.args(["--http", &http.to_string()]);
            for director in &self.directors {
                let address = director.address();
                command.args(["--director", &format!("{address}:{AGENT_HTTP_PORT}")]);
            }
            let process = server.spawn("second-chance", command)?;
            self.passers
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(process);
        }
        for passer in self.passers().iter() {
            wait_for("the second chance to know the tables", || {
                ensure!(passer.is_running(), "it has ended: {}", passer.log_tail());
                Ok(passer.log().contains("tables: 1 service(s)"))
            })?;
        }
        Ok(())
    }

    /// Packets that all servers have passed on so far.
    ///
    /// # Errors
    /// When a server does not tell.
    pub fn passed_on(&self) -> Result<u64> {
        let mut total = 0;
        for server in &self.servers {
            let address = server.address();
            let url = format!("http://{address}:{AGENT_HTTP_PORT}/metrics");
            let text = server.sh(&format!("curl --silent --fail {url}"))?;
            let lines = text
                .lines()
                .filter(|line| line.starts_with("millrace_second_chance_passed_on_total{"));
            for line in lines {
                let count = line.rsplit(' ').next().context("a metric has a value")?;
                total += count.parse::<u64>()?;
            }
        }
        Ok(total)
    }

    /// Starts all directors but the last, with all servers but the last.
    ///
    /// # Errors
    /// As of [`Self::start_director`].
    pub fn start_directors(&self) -> Result<()> {
        let mut weights = vec![1; self.servers.len()];
        *weights.last_mut().context("there are servers")? = 0;
        (0..self.directors.len() - 1).try_for_each(|it| self.start_director(it, &weights))
    }

    /// Opens a third of the connections before anything changes. The last server is added,
    /// and another third is opened; the first server is drained, and the last third is
    /// opened. Then the first director dies, and the last one is added.
    ///
    /// # Errors
    /// When a connection is refused, or broken while no director has changed yet, or a
    /// director does not follow.
    pub fn change_everything(&self, connections: usize) -> Result<Connections> {
        let third = connections.div_ceil(3);
        let mut opened = self.connect(third)?;
        let mut weights = vec![1; self.servers.len()];
        for drained in [false, true] {
            if drained {
                weights[0] = 0;
            }
            for director in 0..self.directors.len() - 1 {
                self.reload(director, &weights)?;
            }
            opened.append(self.connect(third)?);
        }
        let broken = opened.broken();
        ensure!(broken == 0, "{broken} are broken before a director changes");
        self.kill_director(0)?;
        self.start_director(self.directors.len() - 1, &weights)?;
        Ok(opened)
    }

    /// Opens connections from the client to the virtual address.
    ///
    /// # Errors
    /// When one is refused.
    pub fn connect(&self, count: usize) -> Result<Connections> {
        Connections::open(&self.client, SocketAddrV4::new(ECMP_VIP, PORT), count)
    }

    /// True if the router has a way through a director.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn has_way(&self, director: usize) -> Result<bool> {
        let route = self.router.sh(&format!("ip route show {ECMP_VIP}"))?;
        let way = format!("via {} ", self.directors[director].address());
        Ok(route.replace('\n', " ").contains(&way))
    }

    /// Waits until the router has a way through a director, or has none.
    ///
    /// # Errors
    /// When it does not come to that.
    pub fn wait_for_way(&self, director: usize, expected: bool) -> Result<()> {
        let name = self.directors[director].name();
        wait_for(
            format_args!("a way through {name} to be there: {expected}"),
            || Ok(self.has_way(director)? == expected),
        )
    }

    /// Every host's programs, and what they said last.
    #[must_use]
    pub fn logs(&self) -> String {
        let processes = self.bed.processes();
        processes.iter().map(Process::log_tail).collect()
    }

    /// What a director says about its services.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn list(&self, director: usize) -> Result<Balancer> {
        let text = self.command(director, &["list", "--json"])?;
        serde_json::from_str(&text).context("`lb-user list --json` says something else")
    }

    fn wait_for_weights(&self, director: usize, weights: &[u32]) -> Result<()> {
        wait_for("the director to have every server's weight", || {
            let Ok(balancer) = self.list(director) else {
                return Ok(false);
            };
            let servers = &balancer.services[0].servers;
            let has_weight = |(server, weight): (&crate::RealServer, &u32)| {
                server.weight == *weight && (server.is_up() || *weight == 0)
            };
            Ok(servers.len() == weights.len() && servers.iter().zip(weights).all(has_weight))
        })
    }

    /// The example's configuration with the bed's servers.
    fn config(&self, weights: &[u32]) -> String {
        let example = include_str!("../../../examples/keepalived-ecmp.conf");
        let (head, _) = example
            .split_once("    real_server")
            .expect("the example has servers");
        let servers = self.servers.iter().zip(weights).map(|(server, weight)| {
            let address = server.address();
            format!(
                "real_server {address} {PORT} {{\nweight {weight}\n\
                 TCP_CHECK {{\nconnect_timeout 1\n}}\n}}\n"
            )
        });
        let servers: String = servers.collect();
        format!("{head}{servers}}}\n")
    }

    fn agents(&self) -> std::sync::MutexGuard<'_, Vec<Option<Process>>> {
        self.agents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn passers(&self) -> std::sync::MutexGuard<'_, Vec<Process>> {
        self.passers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts BIRD with a file of `examples/`.
fn start_bird(host: &Host, example: &str) -> Result<Process> {
    let file = binaries::source_root().join("examples").join(example);
    let mut command = Command::new("bird");
    command.args(["-f", "-s", BIRD_SOCKET, "-P", "bird.pid", "-c"]);
    command.arg(file);
    host.spawn("bird", command)
        .context("BIRD is missing: scripts/setup.sh installs it")
}
