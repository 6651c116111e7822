//! Two boxes that are a whole cluster, set up as the README says.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::Command;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use netbed::{INTERFACE, Process, wait_for};
use nix::sys::signal::Signal;
use serde_json::Value;
use testbed::{Cluster, Machine, PACKAGES, VIP, program};

use crate::{has_machines, on, readme_commands};

const PLAYERS: usize = 200;
/// Nobody notices by their own time-out within a test.
const TIMEOUT_S: &str = "600";
/// Time in which a director has told the other one twice of its own server's players.
const TELLING: Duration = Duration::from_secs(3);

/// Both boxes; the first one leads.
struct Boxes<'c> {
    cluster: &'c Cluster,
    machines: [Machine<'c>; 2],
}

impl<'c> Boxes<'c> {
    /// Follows the README on two bare machines, with further words for `millrace`.
    fn set_up(cluster: &'c Cluster, words: &str) -> Result<Self> {
        let first = Machine::boot(cluster.edge(0).host())?;
        let second = Machine::boot(cluster.edge(1).host())?;
        let commands =
            readme_commands("**The first box**")?.replace("--vip", &format!("{words} --vip"));
        let said = first.run(&format!("cd {PACKAGES}\n{commands}"))?;
        let (_, join) = said
            .split_once(&format!("On {}: ", second.host().address()))
            .with_context(|| format!("it does not say what the other box runs:\n{said}"))?;
        let join = join.lines().next().unwrap_or_default();
        let commands = readme_commands("**The other box**")?;
        let commands = commands
            .lines()
            .filter(|line| !line.starts_with("millrace join"));
        let install: Vec<&str> = commands.collect();
        second.run(&format!("cd {PACKAGES}\n{}\n{join}", install.join("\n")))?;
        let boxes = Self {
            cluster,
            machines: [first, second],
        };
        boxes.wait_until_ready()?;
        Ok(boxes)
    }

    fn wait_until_ready(&self) -> Result<()> {
        for machine in &self.machines {
            wait_for("both servers to be up", || {
                let list = machine.run("lb-user list")?;
                Ok(list.matches(" up ").count() == 2)
            })?;
        }
        wait_for("the first box to lead", || self.holds_vip(0))
    }

    fn holds_vip(&self, number: usize) -> Result<bool> {
        let held = self.machines[number].run(&format!("ip -4 address show dev {INTERFACE}"))?;
        Ok(held.contains(&format!("{VIP}/32")))
    }

    /// The connections of players that a box has.
    fn players(&self, number: usize) -> Result<BTreeSet<SocketAddr>> {
        let client = self.cluster.client(0).address();
        let peers = self.cluster.edge(number).peers()?.into_iter();
        Ok(peers.filter(|peer| peer.ip() == client).collect())
    }

    /// Has an encoder publish by the VIP, again and again.
    fn publish(&self) -> Result<Process> {
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!(
            "while :; do {} -q -n 0 -t 0 --gop-seconds 1 --bitrate 200k --publish generated {}; \
             sleep 0.1; done",
            program("rtmp-load")?.display(),
            self.cluster.viewing_url()
        ));
        self.cluster.encoder().spawn("encoder", command)
    }

    /// Has players come, until both boxes serve some and there are all.
    fn play(&self) -> Result<Process> {
        let mut command = Command::new(program("rtmp-load")?);
        command
            .args(["-n", &PLAYERS.to_string(), "--start-rate", "100", "-t", "0"])
            .args(["--reconnect", "--timeout", TIMEOUT_S])
            .args(["--json", "--details"])
            .arg(self.cluster.viewing_url());
        let players = self.cluster.client(0).host().spawn("players", command)?;
        wait_for("both boxes to serve players", || {
            ensure!(players.is_running(), "{}", players.log());
            let counts = [self.players(0)?.len(), self.players(1)?.len()];
            Ok(counts.iter().all(|count| *count > 0) && counts.iter().sum::<usize>() == PLAYERS)
        })?;
        self.wait_for_video()?;
        Ok(players)
    }

    /// A player that comes now sees pictures.
    fn wait_for_video(&self) -> Result<()> {
        let viewer = self.cluster.client(1).pull(&self.cluster.viewing_url())?;
        viewer.wait_for_more(25)?.ensure_rising()?;
        viewer.stop()
    }
}

fn on_two_boxes(words: &str, test: impl FnOnce(&Boxes<'_>) -> Result<()>) {
    if !has_machines() {
        return;
    }
    let builder = Cluster::builder().network_only().edges(2).clients(2);
    on(builder, |cluster| {
        let boxes = Boxes::set_up(cluster, words)?;
        test(&boxes).with_context(|| {
            let journal = |machine: &Machine<'_>| {
                let text = machine.output(
                    "journalctl --no-pager --output short-monotonic; lb-user list; ip address",
                );
                let text = text.map_or_else(
                    |error| error.to_string(),
                    |output| String::from_utf8_lossy(&output.stdout).into_owned(),
                );
                format!("the journal of {}:\n{text}", machine.host().name())
            };
            boxes.machines.each_ref().map(journal).join("\n")
        })
    });
}

/// Cuts the power of a box under players and an encoder: those of the other one notice
/// nothing, the rest come back there, although their own time-out is ten minutes.
fn lose(boxes: &Boxes<'_>, lost: usize) -> Result<()> {
    let _encoder = boxes.publish()?;
    let players = boxes.play()?;
    // Whoever comes in the last second before is not known to the other director yet.
    thread::sleep(TELLING);
    let left = 1 - lost;
    let before = boxes.players(left)?;
    let moved = PLAYERS - before.len();
    let now_ms = || {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map(|it| it.as_millis())
    };
    let cut_ms = now_ms()?;
    boxes.cluster.edge(lost).host().cut_off()?;
    wait_for("the other box to hold the VIP", || boxes.holds_vip(left))?;
    let held_ms = now_ms()? - cut_ms;
    wait_for("all players to be served by the other box", || {
        Ok(boxes.players(left)?.len() == PLAYERS)
    })?;
    boxes.wait_for_video()?;
    ensure!(
        boxes.players(left)?.is_superset(&before),
        "its own players have kept their connections"
    );
    players.signal(Signal::SIGINT)?;
    players.wait()?;
    let log = players.log();
    let report: Value = serde_json::from_str(&log[log.find('{').context("a report")?..])?;
    let mut after: Vec<u64> = report["details"]
        .as_array()
        .context("details")?
        .iter()
        .filter_map(|player| player["outages"].as_array()?.last()?["resumed_unix_ms"].as_u64())
        .map(|resumed_ms| resumed_ms.saturating_sub(cut_ms as u64))
        .collect();
    after.sort_unstable();
    ensure!(
        after.len() == moved,
        "{} of {moved} have come back: {log}",
        after.len()
    );
    let percentile = |share: usize| after.get(after.len() * share / 100);
    println!(
        "box {lost} lost; the VIP held by the other box after {held_ms} ms; of {PLAYERS} players \
         {} stay, {moved} see video again after {:?} ms (median), {:?} ms (99 of 100)",
        before.len(),
        percentile(50),
        percentile(99),
    );
    Ok(())
}

#[test]
#[ignore = "needs root"]
fn two_bare_boxes_serve_by_one_address_and_the_second_box_may_be_lost() {
    on_two_boxes("", |boxes| lose(boxes, 1));
}

#[test]
#[ignore = "needs root"]
fn the_box_that_leads_may_be_lost() {
    on_two_boxes("", |boxes| lose(boxes, 0));
}

#[test]
#[ignore = "needs root"]
fn the_box_that_leads_may_be_lost_with_ten_adverts_a_second() {
    on_two_boxes("--fast", |boxes| lose(boxes, 0));
}

/// The director that leads is stopped, its server is not. The players wait for a stream, so
/// that they still await the very number that the other director has been told.
#[test]
#[ignore = "needs root"]
fn idle_players_stay_connected_when_the_director_that_leads_is_stopped() {
    on_two_boxes("", |boxes| {
        for machine in &boxes.machines {
            machine.run(
                "sed -i 's/^vhost .*{$/&\\n    play_wait_timeout 600000;/' /etc/millrace/edge.conf
                 grep -q play_wait_timeout /etc/millrace/edge.conf
                 systemctl reload rtmp-edge",
            )?;
        }
        let mut command = Command::new(program("rtmp-load")?);
        command
            .args(["-n", &PLAYERS.to_string(), "--start-rate", "100", "-t", "0"])
            .args(["--timeout", TIMEOUT_S])
            .arg(boxes.cluster.viewing_url());
        let host = boxes.cluster.client(0).host();
        let players = host.spawn("players", command)?;
        let connected = || anyhow::Ok([boxes.players(0)?, boxes.players(1)?]);
        wait_for("both boxes to have players", || {
            ensure!(players.is_running(), "{}", players.log());
            let all: [BTreeSet<SocketAddr>; 2] = connected()?;
            let count = all.iter().map(BTreeSet::len).sum::<usize>();
            Ok(all.iter().all(|some| !some.is_empty()) && count == PLAYERS)
        })?;
        thread::sleep(TELLING);
        let before = connected()?;
        let [first, second] = &boxes.machines;
        first.run("systemctl stop lb-user")?;
        wait_for("the other box to hold the VIP", || boxes.holds_vip(1))?;
        wait_for("the players to be asked", || {
            let journal = second.run("journalctl --no-pager --unit lb-user")?;
            Ok(journal.contains("client(s) asked"))
        })?;
        // Both rounds of questions, and the answers.
        thread::sleep(TELLING);
        ensure!(players.is_running(), "{}", players.log());
        ensure!(connected()? == before, "each has kept its connection");
        Ok(())
    });
}

#[test]
#[ignore = "needs root"]
fn what_millrace_has_set_up_it_takes_back() {
    on_two_boxes("", |boxes| {
        let [first, _] = &boxes.machines;
        let status = first.run("millrace status")?;
        ensure!(!status.contains("missing"), "{status}");
        let again = first.run(&format!(
            "millrace init --vip {VIP} --other {}",
            boxes.machines[1].host().address()
        ))?;
        for file in ["keepalived.conf", "origin.conf", "edge.conf"] {
            let unchanged = format!("unchanged /etc/millrace/{file}");
            ensure!(again.contains(&unchanged), "{again}");
        }
        ensure!(
            !again.contains("run: systemctl"),
            "nothing is started anew: {again}"
        );

        // The only copy of what was there before is kept.
        let before = "/var/lib/millrace/before/edge.conf";
        let purged = boxes.machines[1].run("dpkg --purge millrace 2>&1")?;
        ensure!(purged.contains("/var/lib/millrace/before"), "{purged}");
        boxes.machines[1].run(&format!("test -f {before}"))?;

        // Another VIP that is not started yet; both are taken back.
        let other_vip = "172.16.1.201";
        first.run("echo '# by hand' >>/etc/millrace/edge.conf")?;
        let said = first.run(&format!(
            "millrace init --vip {other_vip} --other {} --no-start",
            boxes.machines[1].host().address()
        ))?;
        let stop = format!("millrace-realserver stop {VIP} --persist && ");
        ensure!(said.contains(&stop), "{said}");
        first.run("grep -q 'by hand' /etc/millrace/edge.conf.edited")?;
        first.run("! grep -q 'by hand' /etc/millrace/edge.conf")?;
        first.run("echo '# once more' >>/etc/millrace/edge.conf")?;

        first.run("millrace undo")?;
        first.run("grep -q 'once more' /etc/millrace/edge.conf.edited")?;
        first.run("dpkg --purge millrace && test ! -e /var/lib/millrace")?;
        for unit in ["lb-user", "rtmp-edge", "rtmp-origin"] {
            let state = first.property(unit, "ActiveState")?;
            assert_eq!(state, "inactive", "{unit}");
        }
        ensure!(!first.host().has_address(VIP)?, "the VIP is gone");
        // As the packages have them.
        let verified = first.run("dpkg --verify millrace-lb millrace-edge millrace-origin")?;
        ensure!(!verified.contains("/etc/millrace"), "{verified}");
        ensure!(!first.output("millrace status")?.status.success());
        wait_for("the other box to lead", || boxes.holds_vip(1))?;
        Ok(())
    });
}
