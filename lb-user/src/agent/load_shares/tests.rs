use super::*;

const VALID: Duration = Duration::from_secs(3);

fn server(number: u8) -> SocketAddr {
    ([10, 0, 0, number], 1935).into()
}

fn load(used: u64, limit: u64) -> Load {
    Load {
        bits_out: used,
        capacity: Some(limit),
        ..Load::default()
    }
}

/// A director in made-up time.
struct Run {
    shares: LoadShares,
    members: Vec<Member>,
    pace: Pace,
    now: Instant,
    /// Number of changes of weights.
    changes: u32,
}

impl Run {
    fn new(weights: &[u32]) -> Self {
        let member = |(number, weight): (u8, &u32)| Member {
            address: server(number),
            weight: *weight,
            is_fed: true,
        };
        Self {
            shares: LoadShares::default(),
            members: (1..).zip(weights).map(member).collect(),
            pace: Pace::SWIFT,
            now: Instant::now(),
            changes: 0,
        }
    }

    /// One second, in which each server says its load; `None`: it says nothing.
    fn second(&mut self, loads: &[Option<(u64, u64)>]) {
        for (number, said) in (1..).zip(loads) {
            if let Some((used, limit)) = said {
                let load = load(*used, *limit);
                self.shares.answered(server(number), load, VALID, self.now);
            }
        }
        let end = self.now + Duration::from_secs(1);
        while let Some(due) = self.shares.deadline().filter(|due| *due < end) {
            let due = due.max(self.now);
            self.changes += u32::from(self.shares.step(&self.members, self.pace, due));
        }
        self.now = end;
    }

    fn seconds(&mut self, count: u32, loads: &[Option<(u64, u64)>]) {
        for _ in 0..count {
            self.second(loads);
        }
    }

    fn weights(&self) -> Vec<Option<u32>> {
        let weight = |member: &Member| self.shares.weight(member.address);
        self.members.iter().map(weight).collect()
    }
}

#[test]
fn shares_are_proportional_to_the_room_in_the_end() {
    for (sentence, weights, loads, expected) in [
        (
            "capacities differ",
            [1, 1, 1],
            [(0, 100), (0, 200), (0, 400)],
            [143, 286, 571],
        ),
        (
            "loads differ",
            [1, 1, 1],
            [(50, 100), (150, 200), (0, 100)],
            [250, 250, 500],
        ),
        (
            "a server that is full keeps a floor",
            [1, 1, 1],
            [(100, 100), (50, 100), (50, 100)],
            [1, 500, 500],
        ),
        (
            "all are full: as configured",
            [1, 1, 2],
            [(100, 100), (110, 100), (100, 100)],
            [250, 250, 500],
        ),
        (
            "configured weights do not matter where all say their load",
            [1, 7, 2],
            [(0, 100), (0, 100), (0, 200)],
            [250, 250, 500],
        ),
    ] {
        let mut run = Run::new(&weights);
        run.seconds(
            30,
            &loads.map(|(used, limit)| Some((used * 1_000_000, limit * 1_000_000))),
        );
        assert_eq!(run.weights(), expected.map(Some), "{sentence}");
    }
}

#[test]
fn a_share_moves_by_a_tenth_of_the_whole_a_second_at_most() {
    let mut run = Run::new(&[1, 1]);
    let loads = [Some((0, 100)), Some((100, 100))];
    let mut before = 500;
    for second in 1..=5 {
        run.second(&loads);
        let weight = run.weights()[0].expect("a weight");
        assert!(
            (before + 1..=before + 100).contains(&weight),
            "{second}: {weight}"
        );
        before = weight;
    }
    assert_eq!(run.weights(), [Some(1_000), Some(1)]);
}

#[test]
fn little_changes_wait_and_great_ones_do_not() {
    let mut run = Run::new(&[1, 1]);
    run.seconds(20, &[Some((0, 1_000)), Some((0, 1_000))]);
    assert_eq!(run.weights(), [Some(500), Some(500)]);
    let changes = run.changes;
    // 1 % more: within the hysteresis, and settled a while after.
    run.seconds(20, &[Some((40, 1_000)), Some((0, 1_000))]);
    assert_eq!(
        (run.weights(), run.changes),
        (vec![Some(490), Some(510)], changes + 1)
    );
    run.second(&[Some((500, 1_000)), Some((0, 1_000))]);
    assert!(run.changes > changes + 1, "within a second");
}

#[test]
fn weights_of_tables_stay_while_loads_go_up_and_down() {
    let mut run = Run::new(&[1, 1]);
    run.pace = Pace::OF_TABLES;
    run.seconds(320, &[Some((0, 1_000)), Some((0, 1_000))]);
    let changes = run.changes;
    // An hour of waves, by which shares move 4 % up and down.
    for _ in 0..180 {
        run.seconds(10, &[Some((160, 1_000)), Some((0, 1_000))]);
        run.seconds(10, &[Some((0, 1_000)), Some((160, 1_000))]);
    }
    let changed = run.changes - changes;
    assert!(changed <= 12, "{changed} tables in an hour");
    run.second(&[Some((0, 1_000)), Some((1_000, 1_000))]);
    run.second(&[Some((0, 1_000)), Some((1_000, 1_000))]);
    assert!(run.weights()[0] > Some(600), "what is great does not wait");
}

#[test]
fn without_answers_the_configured_weights_hold() {
    let mut run = Run::new(&[1, 3]);
    assert_eq!(run.shares.deadline(), None);
    run.seconds(10, &[Some((0, 100)), Some((0, 100))]);
    assert_eq!(run.weights(), [Some(500), Some(500)]);
    run.seconds(10, &[None, Some((0, 100))]);
    assert_eq!(run.weights(), [Some(250), Some(750)], "one is stale");
    run.seconds(10, &[None, None]);
    assert_eq!(
        (run.weights(), run.shares.deadline()),
        (vec![None, None], None)
    );
    run.seconds(10, &[Some((0, 100)), Some((0, 100))]);
    assert_eq!(run.weights(), [Some(500), Some(500)], "they are back");
    let unknown = Load::default();
    run.shares.answered(server(1), unknown, VALID, run.now);
    run.seconds(10, &[None, Some((0, 100))]);
    assert_eq!(
        run.weights(),
        [Some(250), Some(750)],
        "no capacity is known"
    );
}

#[test]
fn an_operators_order_comes_before_the_load() {
    let mut run = Run::new(&[1, 1, 2]);
    run.members[2].is_fed = false;
    run.seconds(20, &[Some((75, 100)), Some((0, 75)), Some((0, 9))]);
    assert_eq!(run.weights(), [Some(125), Some(375), Some(500)]);
}

#[test]
fn who_goes_leaves_its_share_to_the_others_and_finds_it_again() {
    let mut run = Run::new(&[1, 1, 1]);
    let loads = [Some((0, 100)), Some((0, 100)), Some((0, 200))];
    run.seconds(20, &loads);
    assert_eq!(run.weights(), [Some(250), Some(250), Some(500)]);
    let gone = run.members.remove(0);
    run.second(&loads);
    assert_eq!(run.weights(), [Some(333), Some(667)]);
    run.members.insert(0, gone);
    run.second(&loads);
    assert_eq!(run.weights(), [Some(250), Some(250), Some(500)], "at once");
}

#[test]
fn two_directors_with_other_pasts_come_to_the_same_weights() {
    let mut one = Run::new(&[1, 1, 1]);
    let mut other = Run::new(&[1, 1, 1]);
    one.seconds(17, &[Some((0, 100)), Some((0, 200)), Some((0, 400))]);
    other.seconds(5, &[Some((90, 100)), Some((0, 200)), Some((399, 400))]);
    other.now += Duration::from_millis(333);
    let loads = [Some((31, 100)), Some((77, 200)), Some((123, 400))];
    one.seconds(20, &loads);
    other.seconds(20, &loads);
    assert_eq!(one.weights(), other.weights());
}
