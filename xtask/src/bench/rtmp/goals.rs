//! What was to be reached, and whether it was. Goals whose runs were not made
//! are left out.

use super::super::goal::Goal;
use super::table::ENOUGH_PLAYERS;
use super::{
    BURST_SETTLE_SECONDS, Row, Section,
    contender::{Batching, Chunks, Contender},
};

const AT_350_MS: Batching = Batching::Milliseconds(350);
const AT_100_MS: Batching = Batching::Milliseconds(100);
/// Two builds of one source differ by less.
const MAX_DEARER: f64 = 1.05;
const NGINX: Contender = Contender::Nginx(Chunks::Default);

/// All goals that these rows allow to judge.
pub(crate) fn of(rows: &[Row]) -> Vec<Goal> {
    let mut goals = Vec::new();
    cost(rows, &mut goals);
    builds(rows, &mut goals);
    delivery(rows, &mut goals);
    cores(rows, &mut goals);
    for row in rows {
        let figures = &row.figures;
        let ours = matches!(row.contender, Contender::Origin(_));
        match row.section {
            Section::Scale if ours && row.load.players == 5000 => goals.push(Goal::at_most(
                "resident bytes per player of 5,000",
                figures.bytes_per_player,
                2048.0,
            )),
            Section::Burst if row.load.settle >= BURST_SETTLE_SECONDS => {
                goals.push(Goal::at_most(
                    "resident bytes per player, a minute after all joined at once",
                    figures.bytes_per_player,
                    2048.0,
                ));
                let steady = rows.iter().find(|one| {
                    one.section == Section::Burst && one.load.start_rate < row.load.start_rate
                });
                if let Some(steady) = steady {
                    goals.push(Goal::at_most(
                        "the same / where they joined one by one",
                        figures.bytes_per_player / steady.figures.bytes_per_player,
                        1.2,
                    ));
                }
            }
            Section::Join if ours => {
                if let Some(p99) = figures.keyframe_p99 {
                    let what = format!("{}: ms to the first keyframe, p99", row.contender);
                    goals.push(Goal::at_most(what, p99, 20.0));
                }
            }
            Section::Latency if row.contender == Contender::Edges(Batching::AtOnce, 1) => {
                if let Some(p99) = figures.latency_p99 {
                    let what = "ms from publisher through origin and edge to player, p99";
                    goals.push(Goal::at_most(what, p99, 5.0));
                }
            }
            Section::Chain => goals.extend(chain(rows, row)),
            _ => {}
        }
    }
    goals
}

/// What the edges of `row` add to the latency of the origin alone.
fn chain(rows: &[Row], row: &Row) -> Option<Goal> {
    let Contender::Edges(batching, _) = row.contender else {
        return None;
    };
    let alone = rows.iter().find(|one| {
        one.section == Section::Chain && one.contender == Contender::Origin(batching)
    })?;
    let added = row.figures.latency_p50? - alone.figures.latency_p50?;
    let what = format!("{}: ms more than the origin alone, p50", row.contender);
    Some(Goal::at_most(what, added, 10.0))
}

fn cost(rows: &[Row], goals: &mut Vec<Goal>) {
    let cost = |contender| {
        let row = rows
            .iter()
            .find(|row| row.section == Section::Cost && row.contender == contender);
        row.map(|row| row.figures.cpu_ms_per_mb)
    };
    let bounds = [
        (
            Contender::Origin(AT_350_MS),
            Contender::Floor(AT_350_MS),
            1.25,
        ),
        (
            Contender::Origin(AT_100_MS),
            Contender::Floor(AT_100_MS),
            1.25,
        ),
        (Contender::Origin(AT_350_MS), NGINX, 0.22),
        (Contender::Origin(Batching::AtOnce), NGINX, 0.6),
        (
            Contender::Origin(Batching::AtOnce),
            Contender::Nginx(Chunks::LikeOurs),
            0.6,
        ),
    ];
    for (ours, theirs, bound) in bounds {
        if let (Some(one), Some(other)) = (cost(ours), cost(theirs)) {
            let what = format!("CPU per MB: {ours} / {theirs}");
            goals.push(Goal::at_most(what, one / other, bound));
        }
    }
}

/// Our origin against that of another build: neither may be dearer.
fn builds(rows: &[Row], goals: &mut Vec<Goal>) {
    for row in rows {
        let Contender::Before(batching) = row.contender else {
            continue;
        };
        let ours = rows.iter().find(|one| {
            one.section == row.section
                && one.load.players == row.load.players
                && one.contender == Contender::Origin(batching)
        });
        let Some(ours) = ours else { continue };
        let (after, before) = (&ours.figures, &row.figures);
        let players = row.load.players;
        let mut compare = |what: &str, after: f64, before: f64| {
            let what = format!("{what}, {batching}, {players} players: this build / before");
            goals.push(Goal::at_most(what, after / before, MAX_DEARER));
        };
        compare("CPU per MB", after.cpu_ms_per_mb, before.cpu_ms_per_mb);
        if players >= ENOUGH_PLAYERS {
            let (after, before) = (after.bytes_per_player, before.bytes_per_player);
            compare("resident bytes per player", after, before);
        }
    }
}

fn delivery(rows: &[Row], goals: &mut Vec<Goal>) {
    let ours = rows
        .iter()
        .filter(|row| matches!(row.contender, Contender::Origin(_)));
    let (mut delivered, mut lowest): (Option<f64>, Option<f64>) = (None, None);
    for figures in ours.map(|row| &row.figures) {
        let least = |one: Option<f64>, other: Option<f64>| match (one, other) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        delivered = least(delivered, figures.delivered);
        lowest = least(lowest, figures.lowest_delivered);
    }
    if let (Some(delivered), Some(lowest)) = (delivered, lowest) {
        goals.push(Goal::at_least(
            "share delivered, worst run of the origin",
            delivered,
            0.999,
        ));
        goals.push(Goal::at_least(
            "share delivered to the worst player of any run",
            lowest,
            0.99,
        ));
    }
}

fn cores(rows: &[Row], goals: &mut Vec<Goal>) {
    for row in rows.iter().filter(|row| row.section == Section::Cores) {
        let what = format!("{} on both cores: busiest thread / mean", row.contender);
        goals.push(Goal::at_most(what, row.figures.busiest_over_mean, 1.2));
        let one_core = rows
            .iter()
            .find(|one| one.section == Section::Cost && one.contender == row.contender);
        if let Some(one_core) = one_core {
            let what = format!("{} on both cores: CPU per MB / on one core", row.contender);
            let ratio = row.figures.cpu_ms_per_mb / one_core.figures.cpu_ms_per_mb;
            goals.push(Goal::at_most(what, ratio, 1.1));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::bench::rtmp::{
        Load,
        measurement::{Figures, Receiver, tests::report_of},
    };

    fn row(section: Section, contender: Contender, cpu_ms_per_mb: f64) -> Row {
        let load = Load {
            players: 1000,
            streams: 1,
            start_rate: 200,
            seconds: 1,
            inspect_one_in: 1,
            settle: 2,
            receiver: Receiver::Epoll,
        };
        let figures = Figures::of(report_of(cpu_ms_per_mb)).expect("the report is complete");
        Row {
            section,
            contender,
            load,
            figures,
        }
    }

    fn goal<'a>(goals: &'a [Goal], what: &str) -> &'a Goal {
        goals
            .iter()
            .find(|goal| goal.what.contains(what))
            .expect(what)
    }

    #[test]
    fn a_build_is_judged_against_the_one_before_in_the_same_arrangement() {
        let goals = of(&[
            row(Section::Cost, Contender::Origin(AT_350_MS), 0.44),
            row(Section::Cost, Contender::Before(AT_350_MS), 0.4),
            row(Section::Cost, Contender::Before(AT_100_MS), 0.4),
        ]);
        let cost = goal(
            &goals,
            "CPU per MB, 350 ms, 1000 players: this build / before",
        );
        assert!((cost.measured.unwrap() - 1.1).abs() < 1e-9 && !cost.is_reached());
        let memory = goal(&goals, "resident bytes per player, 350 ms");
        assert!(memory.is_reached());
        assert!(!goals.iter().any(|goal| goal.what.contains("100 ms")));
    }

    #[test]
    fn cost_is_judged_against_the_floor_of_the_same_batching() {
        let goals = of(&[
            row(Section::Cost, Contender::Floor(AT_350_MS), 0.4),
            row(Section::Cost, Contender::Floor(AT_100_MS), 0.1),
            row(Section::Cost, Contender::Origin(AT_350_MS), 0.48),
            row(Section::Cost, Contender::Origin(AT_100_MS), 0.2),
        ]);
        let slow = goal(&goals, "origin, 350 ms / floor, 350 ms");
        assert!(
            (slow.measured.unwrap() - 1.2).abs() < 1e-9 && slow.is_reached(),
            "{slow:?}"
        );
        let fast = goal(&goals, "origin, 100 ms / floor, 100 ms");
        assert!(
            (fast.measured.unwrap() - 2.0).abs() < 1e-9 && !fast.is_reached(),
            "{fast:?}"
        );
    }

    #[test]
    fn what_was_not_measured_is_not_judged() {
        let goals = of(&[row(Section::Cost, Contender::Origin(AT_350_MS), 0.48)]);
        assert!(
            goals
                .iter()
                .all(|goal| !goal.what.starts_with("CPU per MB")),
            "{goals:?}"
        );
    }

    #[test]
    fn both_cores_are_judged_against_one() {
        let goals = of(&[
            row(Section::Cost, Contender::Origin(AT_350_MS), 0.4),
            row(Section::Cores, Contender::Origin(AT_350_MS), 0.5),
        ]);
        assert!(!goal(&goals, "CPU per MB / on one core").is_reached());
        assert!(goal(&goals, "busiest thread / mean").is_reached());
    }

    #[test]
    fn a_burst_is_judged_a_minute_later_and_against_a_steady_ramp() {
        let joined = |start_rate, settle, bytes_per_player| {
            let mut row = row(Section::Burst, Contender::Origin(AT_350_MS), 0.4);
            row.load.start_rate = start_rate;
            row.load.settle = settle;
            row.figures.bytes_per_player = bytes_per_player;
            row
        };
        let goals = of(&[
            joined(100, 2, 1_500.0),
            joined(5_000, 2, 4_000.0),
            joined(5_000, 60, 1_650.0),
        ]);
        assert_eq!(goals.len(), 4, "{goals:?}");
        assert!(goal(&goals, "a minute after").is_reached());
        let ratio = goal(&goals, "joined one by one").measured.unwrap();
        assert!((ratio - 1.1).abs() < 1e-9, "{ratio}");
    }

    #[test]
    fn cores_whose_threads_were_not_measured_do_not_share_the_work() {
        let mut unmeasured = row(Section::Cores, Contender::Origin(AT_350_MS), 0.5);
        unmeasured.figures.busiest_over_mean = None;
        let goals = of(&[unmeasured]);
        let balance = goal(&goals, "busiest thread / mean");
        assert!(!balance.is_reached());
        assert_eq!(balance.to_json()["measured"], Value::Null);
    }
}
