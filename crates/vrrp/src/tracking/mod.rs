//! Subjects that virtual routers track, and their effect on the priority
//! (keepalived.conf(5), `track_interface`, `track_script`, `track_file`;
//! `track_quorum` is ours alone).

pub(crate) mod file;
pub(crate) mod script;
pub(crate) mod watched;

use super::packet::PRIORITY_OWNER;
use lb_script::Factor;

/// Something that is tracked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrackedSubject {
    /// An interface: up while it has a carrier.
    Interface(String),
    /// A track script: up while it succeeds.
    Script(String),
    /// A file with a number.
    File(String),
    /// The virtual services at its addresses: up while all have their quorum.
    Quorum,
}

impl TrackedSubject {
    /// Returns true if it is left out where members of a group must not differ.
    pub fn has_own_weight(&self) -> bool {
        matches!(self, Self::Script(_) | Self::File(_))
    }
}

/// Health of something that is tracked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Health {
    /// It is well.
    Up,
    /// It is not well.
    Down,
    /// A number, which is multiplied by the weight.
    Number(i32),
    /// Not known yet.
    Unknown,
    /// It counts for nothing.
    Untracked,
}

/// Something that is tracked, with its weight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tracked {
    /// The subject.
    pub subject: TrackedSubject,
    /// Added to the priority while it is up, if positive, or while it is down,
    /// if negative. 0: while it is down, the virtual router is in fault. The
    /// number in a file is multiplied by it.
    pub weight: i32,
    /// Up and down change places, or the number's sign.
    pub reverse: bool,
}

/// The effect of everything that is tracked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Evaluation {
    /// The priority to advertise.
    pub priority: u8,
    /// The fault, if there is one.
    pub fault: Option<String>,
    /// True if something that could be a fault is not known yet.
    pub undecided: bool,
}

/// The least that the number in a file can add to a priority: less is a fault.
const MIN_FILE_PRIORITY: i64 = -253;
/// The most that it can add.
const MAX_FILE_PRIORITY: i64 = 253;

/// Sums up the weights. The owner's priority stays what it is, and no other becomes
/// the owner's (RFC 3768 §5.3.4: 255 is reserved).
pub(crate) fn evaluate(
    base: u8,
    tracked: &[Tracked],
    health_of: impl Fn(&TrackedSubject) -> Health,
) -> Evaluation {
    let mut priority = i64::from(base);
    let mut fault = None;
    let mut undecided = false;
    for Tracked {
        subject,
        weight,
        reverse,
    } in tracked
    {
        let health = match (health_of(subject), reverse) {
            (Health::Up, true) => Health::Down,
            (Health::Down, true) => Health::Up,
            (health, _) => health,
        };
        match health {
            Health::Up => priority += i64::from(*weight).max(0),
            Health::Down if *weight == 0 => {
                fault = fault.or_else(|| Some(missing(subject, *reverse)))
            }
            Health::Down => priority += i64::from(*weight).min(0),
            Health::Number(number) => {
                let (weight, reverse) = (*weight, *reverse);
                match (Factor { weight, reverse }).apply(number) {
                    Some(product) if product >= MIN_FILE_PRIORITY => {
                        priority += product.min(MAX_FILE_PRIORITY);
                    }
                    _ => {
                        let why = || format!("{}: {number}", missing(subject, reverse));
                        fault = fault.or_else(|| Some(why()));
                    }
                }
            }
            Health::Unknown => {
                undecided |= *weight == 0 || matches!(subject, TrackedSubject::File(_))
            }
            Health::Untracked => {}
        }
    }
    let priority = match base {
        PRIORITY_OWNER => PRIORITY_OWNER,
        _ => priority.clamp(1, i64::from(PRIORITY_OWNER) - 1) as u8,
    };
    Evaluation {
        priority,
        fault,
        undecided,
    }
}

fn missing(subject: &TrackedSubject, reverse: bool) -> String {
    match (subject, reverse) {
        (TrackedSubject::Interface(name), false) => format!("{name} is down"),
        (TrackedSubject::Interface(name), true) => format!("{name} is up"),
        (TrackedSubject::Script(name), false) => format!("the script {name} fails"),
        (TrackedSubject::Script(name), true) => format!("the script {name} succeeds"),
        (TrackedSubject::File(name), _) => format!("the file {name} says so"),
        (TrackedSubject::Quorum, _) => "a service has lost its quorum".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tracked(weight: i32, reverse: bool) -> Tracked {
        Tracked {
            subject: TrackedSubject::Script("chk".to_owned()),
            weight,
            reverse,
        }
    }

    fn priority(base: u8, weight: i32, reverse: bool, health: Health) -> u8 {
        evaluate(base, &[tracked(weight, reverse)], |_| health).priority
    }

    #[test]
    fn a_positive_weight_counts_while_up_and_a_negative_one_while_down() {
        use Health::{Down, Unknown, Up};
        // Weight, reversed; then the priority while up, down and not known.
        let table = [
            (20, false, [120, 100, 100]),
            (-20, false, [100, 80, 100]),
            (20, true, [100, 120, 100]),
            (-20, true, [80, 100, 100]),
            (0, false, [100, 100, 100]),
            (253, false, [254, 100, 100]),
            (-253, false, [100, 1, 100]),
        ];
        for (weight, reverse, expected) in table {
            let result = [Up, Down, Unknown].map(|health| priority(100, weight, reverse, health));
            assert_eq!(result, expected, "weight {weight}, reverse {reverse}");
        }
    }

    #[test]
    fn an_owner_stays_the_owner_and_nobody_becomes_one() {
        assert_eq!(priority(255, -100, false, Health::Down), 255);
        assert_eq!(priority(254, 100, false, Health::Up), 254);
    }

    #[test]
    fn weights_are_summed_up_before_they_are_bounded() {
        let all = [tracked(253, false), tracked(253, false), tracked(-10, true)];
        assert_eq!(evaluate(1, &all, |_| Health::Up).priority, 254);
        assert_eq!(
            evaluate(200, &[tracked(100, false), tracked(-60, true)], |_| {
                Health::Up
            })
            .priority,
            240
        );
    }

    #[test]
    fn without_a_weight_what_is_down_is_missing() {
        let fault = |reverse, health| evaluate(100, &[tracked(0, reverse)], |_| health).fault;
        assert_eq!(
            fault(false, Health::Down),
            Some("the script chk fails".to_owned())
        );
        assert_eq!(
            fault(true, Health::Up),
            Some("the script chk succeeds".to_owned())
        );
        assert_eq!(fault(false, Health::Up), None);
        assert_eq!(fault(true, Health::Down), None);
    }

    #[test]
    fn the_number_in_a_file_is_multiplied_and_added_and_a_very_low_one_is_a_fault() {
        let file = |base, weight, reverse, number| {
            let subject = TrackedSubject::File("F".to_owned());
            let tracked = Tracked {
                subject,
                weight,
                reverse,
            };
            let evaluation = evaluate(base, &[tracked], |_| Health::Number(number));
            (evaluation.priority, evaluation.fault.is_some())
        };
        // Weight, reversed, number; then priority and fault.
        let table = [
            (1, false, 5, (105, false)),
            (1, false, -5, (95, false)),
            (3, true, 5, (85, false)),
            (1, false, 1000, (254, false)),
            (1, false, -253, (1, false)),
            (1, false, -254, (100, true)),
            (254, false, -1, (100, true)),
            (254, true, -1, (254, false)),
            (i32::MAX, false, i32::MIN, (100, true)),
            (0, false, 0, (100, false)),
            (0, false, 3, (100, true)),
            (0, true, 3, (100, false)),
            (0, true, 0, (100, true)),
        ];
        for (weight, reverse, number, expected) in table {
            let found = file(100, weight, reverse, number);
            assert_eq!(found, expected, "{weight}, {reverse}, {number}");
        }
        assert_eq!(file(255, 1, false, 5), (255, false), "an owner");
    }

    #[test]
    fn a_file_is_waited_for_until_it_has_been_read_and_an_untracked_script_is_not() {
        let undecided = |subject, health| {
            let tracked = Tracked {
                subject,
                weight: 5,
                reverse: false,
            };
            evaluate(100, &[tracked], |_| health).undecided
        };
        assert!(undecided(
            TrackedSubject::File("F".to_owned()),
            Health::Unknown
        ));
        assert!(!undecided(
            TrackedSubject::Script("S".to_owned()),
            Health::Untracked
        ));
        let fault = |weight| evaluate(100, &[tracked(weight, false)], |_| Health::Untracked);
        assert_eq!((fault(0).fault, fault(9).priority), (None, 100));
    }

    #[test]
    fn what_is_not_known_yet_is_waited_for_if_it_could_be_missing() {
        let undecided =
            |weight| evaluate(100, &[tracked(weight, false)], |_| Health::Unknown).undecided;
        assert!(undecided(0));
        assert!(!undecided(5));
    }
}
