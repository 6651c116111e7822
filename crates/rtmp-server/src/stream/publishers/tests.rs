use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

const LIMIT: Duration = Duration::from_millis(500);
const NO_SILENCE: Duration = Duration::ZERO;
/// The one on air sends.
const SENDS: OnAirSigns = silent(NO_SILENCE);

/// The one on air has sent, and has been silent for that long.
const fn silent(silence: Duration) -> OnAirSigns {
    OnAirSigns {
        silence,
        has_sent: true,
    }
}

fn ms(number: u64) -> Duration {
    Duration::from_millis(number)
}

/// A stream whose first publisher is on air, as number 1.
fn on_air(rank: Rank, turns: Turns, now: Instant) -> Publishers {
    let mut publishers = Publishers::new(turns);
    assert_eq!(publishers.join(rank, Some(1), SENDS, now), Ok(1));
    assert_eq!(publishers.on_air(), Some(1));
    publishers
}

/// Another publisher waits, with a keyframe.
fn ready_standby(publishers: &mut Publishers, rank: Rank, now: Instant) -> u64 {
    let client = Some(publishers.last_id + 1);
    let id = publishers.join(rank, client, SENDS, now).unwrap();
    assert_eq!(
        publishers.take_media(id, true, true, NO_SILENCE, now),
        None,
        "nobody is silent"
    );
    id
}

#[test]
fn a_standby_takes_the_place_of_one_that_is_silent_or_ends() {
    let now = Instant::now();
    for reason in [SwitchReason::Silent, SwitchReason::Ended] {
        let mut publishers = on_air(Rank::Primary, Turns::default(), now);
        let standby = ready_standby(&mut publishers, Rank::Backup, now);
        assert_eq!(publishers.check(LIMIT - ms(1), now), None);
        let switch = match reason {
            SwitchReason::Silent => publishers.check(LIMIT, now),
            _ => publishers.leave(1, now),
        };
        let expected = Switch {
            to: standby,
            from_client: Some(1),
            to_client: Some(2),
            reason,
        };
        assert_eq!(switch, Some(expected));
        assert_eq!(publishers.on_air(), Some(standby));
    }
}

#[test]
fn nobody_is_switched_to_who_is_silent_or_has_no_keyframe() {
    let now = Instant::now();
    let mut publishers = on_air(Rank::Primary, Turns::default(), now);
    let id = publishers.join(Rank::Backup, None, SENDS, now).unwrap();
    assert_eq!(publishers.take_media(id, false, false, LIMIT, now), None);
    assert_eq!(publishers.take_media(id, true, true, NO_SILENCE, now), None);
    let later = now + LIMIT;
    assert_eq!(publishers.check(LIMIT, later), None, "it is silent, too");
    let switch = publishers.take_media(id, true, false, 2 * LIMIT, later);
    assert_eq!(switch.map(|switch| switch.to), Some(id));
}

#[test]
fn one_without_a_keyframe_is_better_than_none_when_the_stream_would_end() {
    let now = Instant::now();
    let mut publishers = on_air(Rank::Primary, Turns::default(), now);
    let id = publishers.join(Rank::Backup, None, SENDS, now).unwrap();
    let switch = publishers.leave(1, now);
    assert_eq!(switch.map(|switch| switch.to), Some(id));
    assert_eq!(publishers.leave(id, now), None);
    assert_eq!(publishers.on_air(), None);
}

#[test]
fn who_returns_waits_and_goes_on_air_again_only_where_that_is_wished() {
    let now = Instant::now();
    for return_after in [None, Some(ms(1_000))] {
        let turns = Turns {
            return_after,
            ..Turns::default()
        };
        let mut publishers = on_air(Rank::Backup, turns, now);
        let primary = ready_standby(&mut publishers, Rank::Primary, now);
        // A silence: it is not steady.
        let begun = now + LIMIT;
        for at in [0, 400, 800] {
            let switch = publishers.take_media(primary, true, true, NO_SILENCE, begun + ms(at));
            assert_eq!(switch, None, "after {at} ms");
        }
        let later = begun + ms(1_000);
        assert_eq!(
            publishers.take_media(primary, true, false, NO_SILENCE, later),
            None,
            "not without a keyframe"
        );
        let switch = publishers.take_media(primary, true, true, NO_SILENCE, later);
        assert_eq!(
            switch.map(|switch| switch.reason),
            return_after.map(|_| SwitchReason::Returned)
        );
    }
}

#[test]
fn one_of_a_picture_a_second_is_steady_and_returns() {
    let now = Instant::now();
    let turns = Turns {
        return_after: Some(ms(3_000)),
        ..Turns::default()
    };
    let mut publishers = on_air(Rank::Backup, turns, now);
    let primary = ready_standby(&mut publishers, Rank::Primary, now);
    // What it pauses for is not known before its second pause.
    let returned = (1..9).find(|&number| {
        let now = now + ms(1_000 * number);
        let switch = publishers.take_media(primary, true, true, NO_SILENCE, now);
        switch.is_some_and(|switch| switch.reason == SwitchReason::Returned)
    });
    assert_eq!(returned, Some(5));
}

#[test]
fn one_that_pauses_is_silent_only_when_it_pauses_for_longer_than_usual() {
    let now = Instant::now();
    let mut publishers = on_air(Rank::Primary, Turns::default(), now);
    let standby = ready_standby(&mut publishers, Rank::Backup, now);
    publishers.note_pauses([1_000, 980].map(ms).into_iter(), now);
    assert_eq!(publishers.check(ms(1_469), now), None);
    assert_eq!(publishers.check_in(ms(1_400)), Some(ms(70)));
    let switch = publishers.check(ms(1_470), now);
    assert_eq!(switch.map(|switch| switch.to), Some(standby));
    assert_eq!(publishers.check_in(ms(400)), None, "nobody is ready");
    let back = publishers.take_media(1, true, true, ms(500), now);
    let back = back.map(|switch| switch.to);
    assert_eq!(back, Some(1), "the other one is not known to pause");
}

#[test]
fn an_order_is_carried_out_at_the_next_keyframe() {
    let now = Instant::now();
    let mut publishers = on_air(Rank::Primary, Turns::default(), now);
    assert_eq!(publishers.order(None), Err(OrderError::NoStandby));
    let first = ready_standby(&mut publishers, Rank::Backup, now);
    let second = ready_standby(&mut publishers, Rank::Backup, now);
    assert_eq!(publishers.order(Some(9)), Err(OrderError::NoStandby));
    assert_eq!(publishers.order(Some(3)), Ok(Some(3)));
    assert_eq!(
        publishers.take_media(first, true, true, NO_SILENCE, now),
        None
    );
    assert_eq!(
        publishers.take_media(second, true, false, NO_SILENCE, now),
        None
    );
    let switch = publishers.take_media(second, true, true, NO_SILENCE, now);
    assert_eq!(
        switch.map(|it| (it.to, it.reason)),
        Some((second, SwitchReason::Ordered))
    );
    assert_eq!(
        publishers.take_media(1, true, true, NO_SILENCE, now),
        None,
        "who was on air waits"
    );
}

#[test]
fn an_order_is_taken_back_by_one_to_who_is_on_air() {
    let now = Instant::now();
    let mut publishers = on_air(Rank::Primary, Turns::default(), now);
    let standby = ready_standby(&mut publishers, Rank::Backup, now);
    let ordered = |publishers: &Publishers| {
        let reports = publishers.report(now).into_iter();
        let mut ordered = reports.filter(|report| report.is_ordered);
        ordered.next().and_then(|report| report.client)
    };
    assert_eq!(publishers.order(None), Ok(Some(2)));
    assert_eq!(ordered(&publishers), Some(2));
    assert_eq!(publishers.order(Some(1)), Ok(Some(1)));
    assert_eq!(ordered(&publishers), None);
    let switch = publishers.take_media(standby, true, true, NO_SILENCE, now);
    assert_eq!(switch, None, "the order is void");
    assert_eq!(
        publishers.order(Some(1)),
        Ok(Some(1)),
        "it is there already"
    );
    assert_eq!(publishers.on_air(), Some(1));
}

#[test]
fn a_slate_gives_way_at_the_first_keyframe() {
    let now = Instant::now();
    let mut publishers = on_air(Rank::Slate, Turns::default(), now);
    let id = publishers.join(Rank::Primary, Some(7), SENDS, now).unwrap();
    assert_eq!(
        publishers.take_media(id, false, false, NO_SILENCE, now),
        None
    );
    let switch = publishers.take_media(id, true, true, NO_SILENCE, now);
    assert_eq!(
        switch.map(|it| (it.to, it.reason)),
        Some((id, SwitchReason::Returned))
    );
    let slate = publishers.join(Rank::Slate, None, SENDS, now);
    assert_eq!(slate, Err(Busy::Publisher), "a slate is for nobody else");
    assert!(!publishers.contains(1), "the slate has gone");
}

#[test]
fn a_slate_goes_on_air_over_one_that_has_sent_nothing_which_waits() {
    let now = Instant::now();
    let mut publishers = on_air(Rank::Primary, Turns::default(), now);
    let nothing = OnAirSigns {
        silence: ms(100),
        has_sent: false,
    };
    let slate = publishers.join(Rank::Slate, None, nothing, now);
    assert_eq!(slate, Ok(2));
    assert!(publishers.shows_slate() && publishers.has_encoder());
    let another = publishers.join(Rank::Slate, None, nothing, now);
    assert_eq!(another, Err(Busy::Publisher), "there is one already");
    assert_eq!(publishers.take_media(1, false, false, LIMIT, now), None);
    let switch = publishers.take_media(1, true, true, NO_SILENCE, now);
    let switch = switch.map(|it| (it.to, it.reason));
    assert_eq!(switch, Some((1, SwitchReason::Returned)));
    assert!(!publishers.contains(2), "the slate has gone");
    // It ends, and leaves the air to who waits.
    assert_eq!(publishers.join(Rank::Slate, None, nothing, now), Ok(3));
    let switch = publishers.leave(3, now).map(|it| (it.to, it.reason));
    assert_eq!(switch, Some((1, SwitchReason::Ended)));
}

#[test]
fn the_policy_decides_about_a_second_publisher_that_is_not_marked() {
    let now = Instant::now();
    let short = NO_SILENCE;
    for (second_publisher, silence, expected, now_on_air) in [
        (SecondPublisher::Refuse, short, Err(Busy::Publisher), 1),
        (SecondPublisher::Refuse, TAKEOVER_SILENCE, Ok(2), 2),
        (SecondPublisher::TakeOver, short, Ok(2), 2),
        (SecondPublisher::Standby, short, Ok(2), 1),
        (SecondPublisher::Standby, TAKEOVER_SILENCE, Ok(2), 1),
    ] {
        let turns = Turns {
            second_publisher,
            ..Turns::default()
        };
        let mut publishers = on_air(Rank::Primary, turns, now);
        let came = publishers.join(Rank::Primary, None, silent(silence), now);
        assert_eq!(came, expected, "{second_publisher:?} {silence:?}");
        assert_eq!(publishers.on_air(), Some(now_on_air));
        let stays = expected.is_err() || now_on_air == 1;
        assert_eq!(publishers.contains(1), stays, "{second_publisher:?}");
    }
}

#[test]
fn the_policy_holds_between_those_that_are_not_marked_beside_a_slate_or_a_standby() {
    let now = Instant::now();
    let busy = Err(Busy::Publisher);
    for (second_publisher, silence, expected, first_stays) in [
        (SecondPublisher::Refuse, NO_SILENCE, busy, true),
        (
            SecondPublisher::Refuse,
            TAKEOVER_SILENCE - ms(1),
            busy,
            true,
        ),
        (SecondPublisher::Refuse, TAKEOVER_SILENCE, Ok(3), false),
        (SecondPublisher::TakeOver, NO_SILENCE, Ok(3), false),
        (SecondPublisher::Standby, TAKEOVER_SILENCE, Ok(3), true),
    ] {
        for rank in [Rank::Slate, Rank::Backup] {
            for has_sent in [false, true] {
                let turns = Turns {
                    second_publisher,
                    ..Turns::default()
                };
                let mut publishers = on_air(rank, turns, now);
                let first = publishers.join(Rank::Primary, Some(2), SENDS, now);
                assert_eq!(first, Ok(2));
                if has_sent {
                    publishers.take_media(2, true, false, NO_SILENCE, now);
                }
                // Who is on air sends all the time.
                let later = now + silence;
                let came = publishers.join(Rank::Primary, Some(3), SENDS, later);
                let case = format!("{second_publisher:?} {silence:?} {rank:?} {has_sent}");
                assert_eq!(came, expected, "{case}");
                assert_eq!(publishers.on_air(), Some(1), "{case}");
                assert_eq!(publishers.contains(2), first_stays, "{case}");
            }
        }
    }
}

#[test]
fn who_returns_beside_its_own_dead_connection_gets_in_once_that_is_silent_for_long() {
    let now = Instant::now();
    let mut publishers = on_air(Rank::Primary, Turns::default(), now);
    let standby = ready_standby(&mut publishers, Rank::Backup, now);
    let switch = publishers.take_media(standby, true, false, LIMIT, now + ms(10_000));
    assert_eq!(switch.map(|switch| switch.to), Some(standby));
    let heard = now + ms(10_000) - LIMIT;
    let mut join = |after| publishers.join(Rank::Primary, Some(9), SENDS, heard + after);
    assert_eq!(join(TAKEOVER_SILENCE - ms(1)), Err(Busy::Publisher));
    let returned = join(TAKEOVER_SILENCE);
    assert_eq!(returned, Ok(3));
    assert!(!publishers.contains(1), "its dead connection has gone");
    assert_eq!(publishers.on_air(), Some(standby), "it is the new standby");
}

#[test]
fn an_order_to_one_that_is_displaced_is_void() {
    let now = Instant::now();
    let turns = Turns {
        second_publisher: SecondPublisher::TakeOver,
        ..Turns::default()
    };
    let mut publishers = on_air(Rank::Backup, turns, now);
    ready_standby(&mut publishers, Rank::Primary, now);
    assert_eq!(publishers.order(None), Ok(Some(2)));
    let newcomer = publishers.join(Rank::Primary, Some(3), SENDS, now);
    assert_eq!(newcomer, Ok(3));
    let switch = publishers.take_media(3, true, true, NO_SILENCE, now);
    assert_eq!(switch, None, "it has been ordered of another one");
}

#[test]
fn the_number_of_standbys_is_bounded_and_dead_ones_give_way() {
    let now = Instant::now();
    let mut publishers = on_air(Rank::Primary, Turns::default(), now);
    for _ in 0..MAX_STANDBYS {
        ready_standby(&mut publishers, Rank::Backup, now);
    }
    let refused = publishers.join(Rank::Backup, None, SENDS, now);
    assert_eq!(refused, Err(Busy::Standbys));
    let later = now + TAKEOVER_SILENCE;
    let came = publishers.join(Rank::Backup, None, SENDS, later);
    assert!(came.is_ok());
    assert!(!publishers.contains(2), "the first of the dead has gone");
}

/// Something that happens to publishers.
#[derive(Debug, Clone)]
enum Happening {
    Join(Rank, u64, bool),
    Leave(usize),
    Media {
        which: usize,
        is_ready: bool,
        at_keyframe: bool,
        silence: u64,
    },
    Check(u64),
    Order(Option<usize>),
    Pass(u64),
}

fn happening() -> impl Strategy<Value = Happening> {
    let rank = prop_oneof![Just(Rank::Slate), Just(Rank::Backup), Just(Rank::Primary)];
    let silence = || prop_oneof![Just(0), Just(499), Just(500), Just(2_000)];
    prop_oneof![
        (rank, silence(), any::<bool>())
            .prop_map(|(rank, silence, has_sent)| Happening::Join(rank, silence, has_sent)),
        (0..6_usize).prop_map(Happening::Leave),
        (0..6_usize, any::<bool>(), any::<bool>(), silence()).prop_map(
            |(which, is_ready, at_keyframe, silence)| Happening::Media {
                which,
                is_ready: is_ready || at_keyframe,
                at_keyframe,
                silence,
            }
        ),
        silence().prop_map(Happening::Check),
        proptest::option::of(0..6_usize).prop_map(Happening::Order),
        (0..3_000_u64).prop_map(Happening::Pass),
    ]
}

fn turns() -> impl Strategy<Value = Turns> {
    let policy = prop_oneof![
        Just(SecondPublisher::Refuse),
        Just(SecondPublisher::TakeOver),
        Just(SecondPublisher::Standby),
    ];
    (policy, proptest::option::of(0..2_000_u64)).prop_map(|(second_publisher, after)| Turns {
        second_publisher,
        standby_after: LIMIT,
        return_after: after.map(ms),
    })
}

proptest! {
    #[test]
    fn somebody_is_on_air_whenever_somebody_publishes_and_no_switch_is_without_reason(
        turns in turns(),
        happenings in proptest::collection::vec(happening(), 1..60),
    ) {
        let mut publishers = Publishers::new(turns);
        let mut now = Instant::now();
        for happening in happenings {
            let before = publishers.on_air();
            let known = publishers.entries.clone();
            let nth = |which: usize| known.get(which).map(|entry| entry.id);
            let mut silent_for = None;
            let mut came = None;
            let switch = match happening {
                Happening::Join(rank, silence, has_sent) => {
                    let client = Some(publishers.last_id + 100);
                    let signs = OnAirSigns { silence: ms(silence), has_sent };
                    came = publishers.join(rank, client, signs, now).ok();
                    None
                }
                Happening::Leave(which) => nth(which).and_then(|id| publishers.leave(id, now)),
                Happening::Media { which, is_ready, at_keyframe, silence } => {
                    silent_for = Some(ms(silence));
                    let waits = nth(which).filter(|id| Some(*id) != before);
                    waits.and_then(|id| {
                        publishers.take_media(id, is_ready, at_keyframe, ms(silence), now)
                    })
                }
                Happening::Check(silence) => {
                    silent_for = Some(ms(silence));
                    publishers.check(ms(silence), now)
                }
                Happening::Order(which) => {
                    let client = which.and_then(|which| known.get(which)?.client);
                    let _ = publishers.order(client);
                    None
                }
                Happening::Pass(time) => {
                    now += ms(time);
                    None
                }
            };
            prop_assert_eq!(publishers.on_air().is_some(), !publishers.entries.is_empty());
            prop_assert!(publishers.on_air().is_none_or(|id| publishers.contains(id)));
            // Beside a slate, who was on air before it waits, too.
            let limit = MAX_STANDBYS + usize::from(publishers.shows_slate());
            prop_assert!(publishers.standbys() <= limit);
            if let State::Ordered { on_air, to } = publishers.state {
                prop_assert!(on_air != to && publishers.contains(to));
            }
            let after = publishers.on_air();
            let Some(switch) = switch else {
                // Without a switch only who comes may be on air, or nobody any more.
                prop_assert!(after == before || after == came || after.is_none());
                continue;
            };
            prop_assert_eq!(after, Some(switch.to));
            prop_assert!(before.is_some() && before != after);
            let rank_of = |id: Option<u64>| {
                known.iter().find(|entry| Some(entry.id) == id).map(|entry| entry.rank)
            };
            let target = publishers.entry(switch.to).expect("it is there").clone();
            match switch.reason {
                SwitchReason::Silent => {
                    prop_assert!(silent_for.is_some_and(|silence| silence >= LIMIT));
                    prop_assert!(target.is_ready && !target.is_silent(now, LIMIT));
                    prop_assert!(target.rank > Rank::Slate);
                }
                SwitchReason::Ended => prop_assert!(!publishers.contains(before.unwrap())),
                SwitchReason::Ordered => prop_assert!(target.is_ready),
                SwitchReason::Slate => prop_assert!(false, "a slate comes, and is not switched to"),
                SwitchReason::Returned => {
                    prop_assert!(target.is_ready && rank_of(before) < Some(target.rank));
                }
            }
        }
    }
}
