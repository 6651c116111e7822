//! The description of a cluster, and how it is built and started.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result, ensure};
use netbed::{Bed, Cable, Host, Segment};

use super::Cluster;
use crate::binaries;
use crate::client::Client;
use crate::config::{self, HealthChecks, VIP};
use crate::director::{Director, OperatorHttp, XdpMode};
use crate::native;
use crate::server::{HTTP_PORT, HTTPS_PORT, Role, Server, ServerKind};
use crate::website;

/// Lower than the deployment's 100.
const STANDBY_PRIORITY: u8 = 90;

/// The router's interface to the other subnet.
const OUTER_INTERFACE: &str = "eth3";

/// What a cluster is made of. See [`Cluster::builder`].
#[derive(Clone, Debug)]
pub struct Builder {
    edges: u8,
    clients: u8,
    outer_clients: u8,
    servers: ServerKind,
    balancer: bool,
    standby: bool,
    second_origin: bool,
    edit_director_conf: fn(String) -> String,
    edit_edge_conf: fn(u8, String) -> String,
    edit_origin_conf: fn(String) -> String,
    programs: bool,
    xdp_mode: XdpMode,
    health_checks: HealthChecks,
    browsers: bool,
    tls: bool,
    http: OperatorHttp,
    others: Vec<(String, Ipv4Addr)>,
}

impl Builder {
    /// The number of edges; 2 if not said.
    #[must_use]
    pub fn edges(mut self, number: u8) -> Self {
        self.edges = number;
        self
    }

    /// The number of client machines, each with its own address; 2 if not said.
    #[must_use]
    pub fn clients(mut self, number: u8) -> Self {
        self.clients = number;
        self
    }

    /// Adds client machines in another subnet, behind a router. They follow the
    /// others in [`Cluster::clients`].
    #[must_use]
    pub fn outer_clients(mut self, number: u8) -> Self {
        self.outer_clients = number;
        self
    }

    /// Which programs serve; ours if not said.
    #[must_use]
    pub fn servers(mut self, kind: ServerKind) -> Self {
        self.servers = kind;
        self
    }

    /// Leaves the director without a balancer: nobody has the VIP.
    #[must_use]
    pub fn without_balancer(mut self) -> Self {
        self.balancer = false;
        self
    }

    /// Adds a second director, with the first one's configuration, but in the
    /// role of a backup with a lower priority.
    #[must_use]
    pub fn standby(mut self) -> Self {
        self.standby = true;
        self
    }

    /// Changes the directors' configuration before it is used.
    #[must_use]
    pub fn director_conf(mut self, edit: fn(String) -> String) -> Self {
        self.edit_director_conf = edit;
        self
    }

    /// Changes the configuration of each edge, by its number from 0, before it is used.
    #[must_use]
    pub fn edge_conf(mut self, edit: fn(u8, String) -> String) -> Self {
        self.edit_edge_conf = edit;
        self
    }

    /// Changes the configuration of the origins before it is used.
    #[must_use]
    pub fn origin_conf(mut self, edit: fn(String) -> String) -> Self {
        self.edit_origin_conf = edit;
        self
    }

    /// Lets browsers watch: the edges serve HTTP at [`HTTP_PORT`], which the VIP has, too,
    /// and a machine of its own serves the page to copy.
    #[must_use]
    pub fn browsers(mut self) -> Self {
        self.browsers = true;
        self
    }

    /// As [`Builder::browsers`]; the edges serve HTTPS, too, with a certificate that browsers
    /// are told to take.
    #[must_use]
    pub fn browsers_by_tls(mut self) -> Self {
        self.tls = true;
        self.browsers()
    }

    /// Has every program show its metrics and its page for operators: the director at
    /// [`AGENT_HTTP_PORT`](crate::AGENT_HTTP_PORT), the servers at [`HTTP_API_PORT`](crate::HTTP_API_PORT).
    #[must_use]
    pub fn metrics(mut self) -> Self {
        self.http = OperatorHttp::Open;
        self
    }

    /// As [`Builder::browsers`] and [`Builder::metrics`]; the origin serves HTTP, too, and origin
    /// and directors ask for the user and the password `admin:secret`.
    #[must_use]
    pub fn pages(mut self) -> Self {
        self.http = OperatorHttp::WithPassword;
        self.browsers()
    }

    /// Adds a second origin, and has the edges pull each stream from both at once.
    #[must_use]
    pub fn second_origin(mut self) -> Self {
        self.second_origin = true;
        self
    }

    /// Adds a machine for a purpose of the test's own, called `name` (at most 15
    /// letters: it names a port of the switch).
    #[must_use]
    pub fn host(mut self, name: &str, address: Ipv4Addr) -> Self {
        self.others.push((name.to_owned(), address));
        self
    }

    /// Starts no program at all: hosts and cables only.
    #[must_use]
    pub fn network_only(mut self) -> Self {
        self.programs = false;
        self
    }

    /// How XDP is attached on the director; generic if not said.
    #[must_use]
    pub fn xdp_mode(mut self, mode: XdpMode) -> Self {
        self.xdp_mode = mode;
        self
    }

    /// How servers are checked; quickly if not said.
    #[must_use]
    pub fn health_checks(mut self, checks: HealthChecks) -> Self {
        self.health_checks = checks;
        self
    }

    /// Builds the network and starts every program. Returns when the servers
    /// listen and the balancer, if there is one, has every edge in rotation.
    ///
    /// # Errors
    /// When this process is not root, a program is missing, or one does not
    /// come up; the message holds what it said. Nothing is left behind.
    pub fn start(self) -> Result<Cluster> {
        let cluster = Cluster::build(&self)?;
        if !self.programs {
            return Ok(cluster);
        }
        thread::scope(|scope| {
            // The edges do not need the origin before somebody watches.
            let servers: Vec<_> = cluster
                .servers()
                .map(|server| {
                    scope.spawn(|| {
                        if server.is_edge() {
                            cluster.set_up_real_server(server)?;
                        }
                        server.start()
                    })
                })
                .collect();
            servers
                .into_iter()
                .try_for_each(|server| server.join().expect("starting does not panic"))
        })?;
        if self.balancer {
            for director in cluster.directors() {
                director.start()?;
            }
            cluster.director.wait_until_ready()?;
        }
        if let Some(standby) = &cluster.standby {
            standby.wait_until_able()?;
        }
        if let Some(host) = &cluster.website {
            website::start(host)?;
        }
        Ok(cluster)
    }
}

impl Cluster {
    /// Begins the description of a cluster.
    #[must_use]
    pub fn builder() -> Builder {
        Builder {
            edges: 2,
            clients: 2,
            outer_clients: 0,
            servers: ServerKind::default(),
            balancer: true,
            standby: false,
            second_origin: false,
            edit_director_conf: |conf| conf,
            edit_edge_conf: |_, conf| conf,
            edit_origin_conf: |conf| conf,
            programs: true,
            xdp_mode: XdpMode::default(),
            health_checks: HealthChecks::default(),
            browsers: false,
            tls: false,
            http: OperatorHttp::default(),
            others: Vec::new(),
        }
    }

    /// Builds the network of `builder`, without any program.
    fn build(builder: &Builder) -> Result<Self> {
        let bed = Bed::new()?;
        let create = |name: &str, address: Ipv4Addr| {
            // The deployment's files write to `objs/`, as SRS has it.
            fs::create_dir_all(bed.directory().join(name).join("objs"))
                .with_context(|| format!("cannot make a directory for {name}"))?;
            bed.host(name, address)
        };
        let switch = create("switch", Ipv4Addr::UNSPECIFIED)?;
        let director = create("director", config::DIRECTOR)?;
        let standby = builder
            .standby
            .then(|| create("director-2", config::STANDBY))
            .transpose()?;
        let origin = create("origin", config::ORIGIN)?;
        let second_origin = builder
            .second_origin
            .then(|| create("origin-2", config::SECOND_ORIGIN))
            .transpose()?;
        let encoder = create("encoder", config::ENCODER)?;
        let edges = (0..builder.edges)
            .map(|i| create(&format!("edge-{}", i + 1), config::edge_address(i)))
            .collect::<Result<Vec<_>>>()?;
        let clients = (0..builder.clients)
            .map(|i| create(&format!("client-{}", i + 1), config::client_address(i)))
            .collect::<Result<Vec<_>>>()?;
        let outer_clients = (builder.clients..builder.clients + builder.outer_clients)
            .zip(0..)
            .map(|(i, outer)| {
                create(
                    &format!("client-{}", i + 1),
                    config::outer_client_address(outer),
                )
            })
            .collect::<Result<Vec<_>>>()?;
        let website = builder
            .browsers
            .then(|| create("website", config::WEBSITE))
            .transpose()?;
        let others = builder
            .others
            .iter()
            .map(|(name, address)| create(name, *address))
            .collect::<Result<Vec<_>>>()?;

        let connected: Vec<&Host> = [&director, &origin, &encoder]
            .into_iter()
            .chain(&edges)
            .chain(&clients)
            .chain(&standby)
            .chain(&second_origin)
            .chain(&website)
            .chain(&others)
            .map(Arc::as_ref)
            .collect();
        let inside = Segment::create(&switch, "inside")?;
        plug_in(&inside, &connected)?;
        let mut router = None;
        if !outer_clients.is_empty() {
            let outside: Vec<&Host> = outer_clients.iter().map(Arc::as_ref).collect();
            let segment = Segment::create(&switch, "outside")?;
            plug_in(&segment, &outside)?;
            let host = create("router", config::ROUTER)?;
            connect_router(&host, (&inside, &connected), (&segment, &outside))?;
            router = Some(host);
        }
        let clients: Vec<Arc<Host>> = clients.into_iter().chain(outer_clients).collect();
        for director in [&director].into_iter().chain(&standby) {
            director.set_sysctl("net/ipv4/ip_forward", "1")?;
        }
        let peer_program = match builder.xdp_mode {
            XdpMode::Generic => None,
            XdpMode::Native => {
                let senders: Vec<&Host> = clients.iter().map(Arc::as_ref).collect();
                Some(native::prepare(&switch, director.name(), &senders)?)
            }
        };

        let kind = builder.servers;
        let mut origin_conf = config::DEPLOYED_ORIGIN_CONF.to_owned();
        let mut edge_conf = config::DEPLOYED_EDGE_CONF.to_owned();
        if builder.second_origin {
            edge_conf = config::with_second_origin(&edge_conf);
        }
        let real_servers: Vec<Ipv4Addr> = edges.iter().map(|edge| edge.address()).collect();
        let mut balancer_conf = config::keepalived_conf(builder.health_checks, &real_servers);
        if builder.browsers {
            let certificate = builder
                .tls
                .then(|| certificate(bed.directory()))
                .transpose()?;
            let files = certificate.as_ref();
            edge_conf = config::with_http(&edge_conf, files.map(|(key, cert)| (&**key, &**cert)));
            let ports = [HTTP_PORT]
                .into_iter()
                .chain(builder.tls.then_some(HTTPS_PORT));
            for port in ports {
                balancer_conf +=
                    &config::virtual_server(port, builder.health_checks, &real_servers);
            }
        }
        if builder.http != OperatorHttp::Off {
            let has_password = builder.http == OperatorHttp::WithPassword;
            if has_password {
                origin_conf = config::with_http(&origin_conf, None);
            }
            origin_conf = config::with_api(&origin_conf, has_password);
            edge_conf = config::with_api(&edge_conf, false);
        }
        let origin_conf = (builder.edit_origin_conf)(origin_conf);
        let balancer_conf = (builder.edit_director_conf)(balancer_conf);
        let standby = standby.map(|host| {
            let conf = config::with_role(&balancer_conf, "BACKUP", STANDBY_PRIORITY);
            Director::new(host, conf, XdpMode::Generic, builder.http)
        });
        Ok(Self {
            director: Director::new(director, balancer_conf, builder.xdp_mode, builder.http),
            standby,
            second_origin: second_origin
                .map(|host| Server::new(host, Role::Origin, kind, origin_conf.clone())),
            origin: Server::new(origin, Role::Origin, kind, origin_conf),
            edges: edges
                .into_iter()
                .zip(0..)
                .map(|(host, number)| {
                    let conf = (builder.edit_edge_conf)(number, edge_conf.clone());
                    Server::new(host, Role::Edge, kind, conf)
                })
                .collect(),
            encoder,
            clients: clients.into_iter().map(Client::new).collect(),
            website,
            others: others.into_iter().chain(router).collect(),
            switch,
            _peer_program: peer_program,
            bed,
        })
    }

    /// Makes a host answer for the VIP as operators do, by the script.
    fn set_up_real_server(&self, server: &Server) -> Result<()> {
        let mut command = Command::new(binaries::source_root().join("scripts/realserver.sh"));
        command.args(["start", &VIP.to_string()]);
        server.host().run(command).map(drop)
    }
}

/// Makes a key and its certificate, which nobody has signed, in files of a directory.
fn certificate(directory: &Path) -> Result<(PathBuf, PathBuf)> {
    let files = (directory.join("edge.key"), directory.join("edge.crt"));
    let mut command = Command::new("openssl");
    command
        .args([
            "req", "-x509", "-newkey", "ec", "-nodes", "-subj", "/CN=edge",
        ])
        .args(["-pkeyopt", "ec_paramgen_curve:P-256"])
        .arg("-keyout")
        .arg(&files.0)
        .arg("-out")
        .arg(&files.1);
    let output = command
        .output()
        .context("Debian's package openssl has `openssl`")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "openssl: {said}");
    Ok(files)
}

/// Connects hosts to a segment.
fn plug_in(segment: &Segment, hosts: &[&Host]) -> Result<()> {
    let cables: Vec<Cable<'_>> = hosts.iter().map(|host| Cable::to(host)).collect();
    segment.plug_in(&cables)
}

/// Connects a router to two segments, and gives the hosts of each a route through it.
fn connect_router(
    router: &Host,
    (inside, inner_hosts): (&Segment, &[&Host]),
    (outside, outer_hosts): (&Segment, &[&Host]),
) -> Result<()> {
    inside.plug_in(&[Cable::to(router)])?;
    outside.plug_in(&[Cable {
        port: format!("{}-outer", router.name()),
        interface: OUTER_INTERFACE,
        address: config::OUTER_ROUTER,
        ..Cable::to(router)
    }])?;
    router.set_sysctl("net/ipv4/ip_forward", "1")?;
    let legs = [
        (inner_hosts, router.address()),
        (outer_hosts, config::OUTER_ROUTER),
    ];
    for (hosts, gateway) in legs {
        for host in hosts {
            host.ip_batch(&format!("route add default via {gateway}\n"))?;
        }
    }
    Ok(())
}
