//! The units and commands of the README, under a real systemd.

use std::net::Ipv4Addr;

use anyhow::{Context, Result, ensure};
use netbed::{Host, INTERFACE, wait_for};
use testbed::{Cluster, Machine, PACKAGES, RTMP_PORT, Source, VIP};

use crate::{has_machines, on, readme_commands};

/// Boots systemd on a host, and follows the README there.
fn set_up<'h>(host: &'h Host, heading: &str) -> Result<Machine<'h>> {
    let machine = Machine::boot(host)?;
    machine.run(&format!("cd {PACKAGES}\n{}", readme_commands(heading)?))?;
    Ok(machine)
}

/// The machines of the README, each set up as it says.
pub(crate) struct Deployment<'c> {
    pub(crate) origin: Machine<'c>,
    pub(crate) edge: Machine<'c>,
    pub(crate) director: Machine<'c>,
}

impl<'c> Deployment<'c> {
    fn set_up(cluster: &'c Cluster) -> Result<Self> {
        let origin = set_up(cluster.origin().host(), "**Origin**")?;
        let edge = set_up(cluster.edge(0).host(), "**Each edge**")?;
        let director = set_up(cluster.director().host(), "**Director**")?;
        let deployment = Self {
            origin,
            edge,
            director,
        };
        deployment.wait_until_in_rotation(cluster.edge(0).address())?;
        Ok(deployment)
    }

    fn wait_until_in_rotation(&self, edge: Ipv4Addr) -> Result<()> {
        let status = || self.director.property("lb-user", "StatusText");
        wait_for("the director to hold the VIP", || {
            Ok(status()?.contains("master of VI_1"))
        })?;
        wait_for(format_args!("{edge} to be in rotation"), || {
            let list = self.director.run("lb-user list")?;
            let line = list.lines().find(|line| line.contains(&edge.to_string()));
            Ok(line.is_some_and(|line| line.contains(" up ")))
        })
    }
}

/// Runs a test on the deployment. What is missing for it is said.
pub(crate) fn on_the_deployment(test: impl FnOnce(&Cluster, &Deployment<'_>) -> Result<()>) {
    if !has_machines() {
        return;
    }
    on(
        Cluster::builder().network_only().edges(1).clients(1),
        |cluster| {
            let deployment = Deployment::set_up(cluster)?;
            test(cluster, &deployment).with_context(|| {
                let journal = |machine: &Machine<'_>| {
                    let text = machine.output("journalctl --no-pager --output short-monotonic");
                    let text = text.map_or_else(
                        |error| error.to_string(),
                        |output| String::from_utf8_lossy(&output.stdout).into_owned(),
                    );
                    format!("the journal of {}:\n{text}", machine.host().name())
                };
                let Deployment {
                    origin,
                    edge,
                    director,
                } = &deployment;
                [origin, edge, director].map(journal).join("\n")
            })
        },
    );
}

/// Waits until systemd has started another process for a service whose process
/// `killed` was killed, and this process has said that it is ready.
fn wait_until_restarted(machine: &Machine<'_>, service: &str, killed: &str) -> Result<()> {
    wait_for("systemd to have started another", || {
        // The process first: a unit is "active" until systemd has reaped the
        // killed process, and has no process (0) until it starts the next.
        let pid = machine.property(service, "MainPID")?;
        let is_another = pid != "0" && pid != killed;
        Ok(is_another && machine.property(service, "ActiveState")? == "active")
    })
}

/// Waits until the journal has `words` of a service: journald reads what a process says
/// independently of systemd, which hears that it is ready.
fn wait_for_journal(machine: &Machine<'_>, service: &str, words: &str) -> Result<()> {
    wait_for(format_args!("{words:?} in the journal"), || {
        let journal = machine.run(&format!("journalctl --no-pager -u {service} -o cat"))?;
        Ok(journal.contains(words))
    })
}

/// The effective capabilities of a service's process, as the kernel writes them.
fn capabilities(machine: &Machine<'_>, service: &str) -> Result<u64> {
    let pid = machine.property(service, "MainPID")?;
    let status = machine.run(&format!("cat /proc/{pid}/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .context("no line CapEff")?;
    Ok(u64::from_str_radix(line.trim(), 16)?)
}

#[test]
#[ignore = "needs root"]
fn the_readme_s_units_serve_viewers_and_are_locked_down() {
    on_the_deployment(|cluster, deployment| {
        cluster.push(&Source::Generated)?;
        let viewer = cluster.client(0).pull(&cluster.viewing_url())?;
        viewer.wait_for_more(25)?.ensure_rising()?;

        let Deployment {
            origin,
            edge,
            director,
        } = deployment;
        // Numbers of linux/capability.h: KILL, SETGID, SETUID, NET_ADMIN,
        // NET_RAW, PERFMON, BPF.
        let expected = [5, 6, 7, 12, 13, 38, 39].map(|number| 1_u64 << number);
        assert_eq!(
            capabilities(director, "lb-user")?,
            expected.iter().sum::<u64>()
        );
        assert_eq!(capabilities(origin, "rtmp-origin")?, 0);
        assert_eq!(capabilities(edge, "rtmp-edge")?, 0);
        for (machine, service) in [
            (director, "lb-user"),
            (origin, "rtmp-origin"),
            (edge, "rtmp-edge"),
        ] {
            // What systemd's own judge thinks of it, from 0 (best) to 100.
            machine.run(&format!(
                "systemd-analyze security --no-pager --threshold=35 {service}"
            ))?;
            assert_eq!(machine.property(service, "NRestarts")?, "0");
        }
        // The servers write where their files say, below their own directory.
        let log = edge.run("cat /var/lib/rtmp-edge/objs/edge.log")?;
        assert!(log.contains("play live/livestream"), "{log}");
        let pid = edge.run("cat /var/lib/rtmp-edge/objs/edge.pid")?;
        assert_eq!(pid.trim(), edge.property("rtmp-edge", "MainPID")?);
        Ok(())
    });
}

#[test]
#[ignore = "needs root"]
fn systemd_and_the_balancer_agree_on_what_it_does() {
    on_the_deployment(|cluster, deployment| {
        let director = &deployment.director;
        cluster.push(&Source::Generated)?;
        let viewer = cluster.client(0).pull(&cluster.viewing_url())?;
        viewer.wait_for_more(25)?.ensure_rising()?;
        let main_pid = || director.property("lb-user", "MainPID");
        let first = main_pid()?;

        director.run("systemctl reload lb-user")?;
        director.run("lb-user upgrade")?;
        assert_eq!(main_pid()?, first, "an upgrade keeps the process");
        assert_eq!(director.property("lb-user", "ActiveState")?, "active");
        viewer.wait_for_more(25)?.ensure_rising()?;

        director.run("sed -i 's/lb_algo/lb_algoo/' /etc/millrace/keepalived.conf")?;
        let refused = director.output("systemctl reload lb-user")?;
        assert!(!refused.status.success(), "a wrong file is told");
        wait_for_journal(director, "lb-user -p err", "did you mean `lb_algo`")?;
        let refused = director.output("lb-user upgrade")?;
        assert!(!refused.status.success(), "a wrong file is told");
        assert_eq!(main_pid()?, first, "and the balancer goes on");
        director.run("sed -i 's/lb_algoo/lb_algo/' /etc/millrace/keepalived.conf")?;

        director.run(&format!("kill -9 {first}"))?;
        wait_until_restarted(director, "lb-user", &first)?;
        wait_for_journal(director, "lb-user", "is adopted")?;
        deployment.wait_until_in_rotation(cluster.edge(0).address())?;
        viewer.wait_for_more(25)?.ensure_rising()?;

        director.run("systemctl stop lb-user")?;
        assert!(!director.host().has_address(VIP)?, "the VIP is gone");
        let link = director.run(&format!("ip -details link show {INTERFACE}"))?;
        assert!(!link.contains("xdp"), "{link}");
        let pinned = director.run("find /sys/fs/bpf -mindepth 1 -not -name '*.debug'")?;
        assert_eq!(pinned, "", "nothing is pinned");
        director.run("systemctl start lb-user && lb-user list && lb-user stop")?;
        wait_for("systemd to know of the stop", || {
            Ok(director.property("lb-user", "ActiveState")? == "inactive")
        })
    });
}

#[test]
#[ignore = "needs root"]
fn systemd_and_the_servers_agree_on_what_they_do() {
    on_the_deployment(|cluster, deployment| {
        for (machine, name, host) in [
            (&deployment.origin, "origin", cluster.origin().host()),
            (&deployment.edge, "edge", cluster.edge(0).host()),
        ] {
            let service = format!("rtmp-{name}");
            let main_pid = || machine.property(&service, "MainPID");
            let first = main_pid()?;
            let file = format!("/etc/millrace/{name}.conf");

            machine.run(&format!("systemctl reload {service}"))?;
            machine.run(&format!(
                "sed -i 's/max_connections/max_conections/' {file}"
            ))?;
            let refused = machine.output(&format!("systemctl reload {service}"))?;
            assert!(!refused.status.success(), "a wrong file is told");
            wait_for_journal(machine, &service, "did you mean `max_connections`")?;
            assert_eq!(main_pid()?, first, "and the server goes on");
            machine.run(&format!(
                "sed -i 's/max_conections/max_connections/' {file}"
            ))?;

            machine.run(&format!("kill -9 {first}"))?;
            wait_until_restarted(machine, &service, &first)?;
            assert!(host.listens(RTMP_PORT)?, "started means that it listens");

            let log = format!("/var/lib/{service}/objs/{name}.log");
            machine.run(&format!(
                "mv {log} {log}.1 && systemctl kill --kill-whom=main -s USR1 {service}"
            ))?;
            wait_for("the log to be opened anew", || {
                Ok(machine.output(&format!("test -s {log}"))?.status.success())
            })?;
            machine.run(&format!(
                "systemctl kill --kill-whom=main -s QUIT {service}"
            ))?;
            wait_for("the server to have drained", || {
                Ok(machine.property(&service, "ActiveState")? == "inactive")
            })?;
        }
        Ok(())
    });
}

#[test]
#[ignore = "needs root"]
fn scripts_run_as_the_user_that_they_are_to() {
    on_the_deployment(|_, deployment| {
        let director = &deployment.director;
        director.run(
            "file=/etc/millrace/keepalived.conf
             sed -i 's/^global_defs {/&\\n    script_user nobody/' $file
             sed -i 's,^ *state MASTER,&\\n    notify \"/usr/bin/touch /run/notified\",' $file
             mkdir -m 1777 /run/told
             sed -i 's,/run/notified,/run/told/by-a-script,' $file
             systemctl restart lb-user",
        )?;
        let told = || director.run("stat --format %U /run/told/by-a-script");
        wait_for("the script to have run", || Ok(told().is_ok()))?;
        assert_eq!(told()?.trim(), "nobody");

        // Another that hangs: its children are killed with it, though they are
        // another user's.
        director.run(
            "cat >>/etc/millrace/keepalived.conf <<END
vrrp_script hangs {
    script \"/bin/sh -c 'echo \\$\\$ >>/run/told/begun; sleep 1000 & wait'\"
    interval 2
    timeout 1
}
END
             sed -i 's/^ *state MASTER/&\\n track_script {\\n hangs weight 1\\n }/' \
                 /etc/millrace/keepalived.conf
             systemctl reload lb-user",
        )?;
        wait_for("a second one to have begun", || {
            let begun = director.output("wc -l </run/told/begun")?.stdout;
            Ok(String::from_utf8_lossy(&begun)
                .trim()
                .parse::<u32>()
                .unwrap_or(0)
                >= 2)
        })?;
        let first = director.run("head -n 1 /run/told/begun")?;
        // systemd has to wait for a child whose parent was killed.
        wait_for("nothing of the first to remain", || {
            let group = director.run(&format!("ps -o pid= -g {} || true", first.trim()))?;
            Ok(group.is_empty())
        })
    });
}

#[test]
#[ignore = "needs root"]
fn a_real_server_is_one_again_after_a_boot() {
    on_the_deployment(|cluster, deployment| {
        let edge = &deployment.edge;
        // What a reboot leaves of it.
        edge.run(&format!(
            "ip address del {VIP}/32 dev lo
             echo 0 >/proc/sys/net/ipv4/conf/all/arp_ignore
             rm -r /run/millrace"
        ))?;
        ensure!(!cluster.edge(0).host().has_address(VIP)?, "it is gone");
        edge.run(&format!(
            "systemctl restart systemd-sysctl millrace-realserver@{VIP}
             millrace-realserver status {VIP}"
        ))?;
        Ok(())
    });
}
