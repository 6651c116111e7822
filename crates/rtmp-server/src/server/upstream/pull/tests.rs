use super::*;

const LINGER: Duration = Duration::from_secs(10);

fn second(number: u64) -> Duration {
    Duration::from_secs(number)
}

/// A pull whose stream flows from the first of `origins`.
fn flowing(origins: usize, now: Instant) -> Pull {
    let mut pull = Pull::new(origins, 0, LINGER, 7);
    assert_eq!(
        pull.handle(now, Input::Audience(1)),
        Some(Action::Connect(0))
    );
    assert_eq!(pull.handle(now, Input::Flowing), None);
    pull
}

#[test]
fn the_first_player_starts_it_and_others_change_nothing() {
    let now = Instant::now();
    let mut pull = Pull::new(2, 0, LINGER, 7);
    assert_eq!(pull.deadline(), None);
    assert_eq!(
        pull.handle(now, Input::Audience(1)),
        Some(Action::Connect(0))
    );
    assert_eq!(pull.handle(now, Input::Audience(2)), None);
    assert_eq!(pull.handle(now, Input::Flowing), None);
    assert_eq!(pull.handle(now, Input::Audience(3)), None);
}

#[test]
fn a_slate_is_shown_while_it_flows_and_not_known_of_another_origin() {
    let now = Instant::now();
    let mut pull = Pull::new(2, 0, LINGER, 7);
    pull.handle(now, Input::Audience(1));
    pull.handle(now, Input::Slate(true));
    assert!(!pull.shows_slate(), "nothing flows");
    pull.handle(now, Input::Flowing);
    assert!(pull.shows_slate());
    pull.handle(now, Input::Slate(false));
    assert!(!pull.shows_slate());
    pull.handle(now, Input::Slate(true));
    assert_eq!(pull.handle(now, Input::Lost), Some(Action::Connect(1)));
    pull.handle(now, Input::Flowing);
    assert!(!pull.shows_slate());
}

#[test]
fn it_lingers_after_the_last_player_and_then_lets_go() {
    let now = Instant::now();
    let mut pull = flowing(1, now);
    assert_eq!(pull.handle(now + second(1), Input::Audience(0)), None);
    assert_eq!(pull.deadline(), Some(now + second(11)));
    assert_eq!(pull.handle(now + second(10), Input::Time), None);
    assert_eq!(
        pull.handle(now + second(11), Input::Time),
        Some(Action::Finish)
    );
    assert_eq!(
        pull.handle(now + second(12), Input::Audience(1)),
        None,
        "it is finished"
    );
}

#[test]
fn a_new_player_cancels_the_lingering() {
    let now = Instant::now();
    let mut pull = flowing(1, now);
    pull.handle(now, Input::Audience(0));
    assert_eq!(pull.handle(now + second(9), Input::Audience(1)), None);
    assert_eq!(pull.deadline(), None);
    assert_eq!(pull.handle(now + second(20), Input::Time), None);
    pull.handle(now + second(30), Input::Audience(0));
    assert_eq!(
        pull.deadline(),
        Some(now + second(40)),
        "the time runs anew"
    );
}

#[test]
fn origins_are_tried_in_turn_then_there_is_a_pause_that_grows() {
    let now = Instant::now();
    let mut pull = Pull::new(2, 0, LINGER, 7);
    pull.handle(now, Input::Audience(1));
    let mut longest = Duration::ZERO;
    for round in 0..12 {
        assert_eq!(
            pull.handle(now, Input::Lost),
            Some(Action::Connect(1)),
            "round {round}"
        );
        assert_eq!(pull.handle(now, Input::Lost), None);
        let pause = pull.deadline().unwrap() - now;
        let expected = (FIRST_PAUSE * (1 << round.min(10))).min(MAX_PAUSE);
        assert!(
            (expected / 2..=expected).contains(&pause),
            "round {round}: {pause:?}"
        );
        longest = longest.max(pause);
        assert_eq!(
            pull.handle(now + pause, Input::Time),
            Some(Action::Connect(0))
        );
    }
    assert!(longest <= MAX_PAUSE);
}

#[test]
fn edges_do_not_retry_in_step() {
    let now = Instant::now();
    let pause = |seed| {
        let mut pull = Pull::new(1, 0, LINGER, seed);
        pull.handle(now, Input::Audience(1));
        pull.handle(now, Input::Lost);
        pull.deadline().unwrap()
    };
    assert_ne!(pause(1), pause(0x9e37_79b9_7f4a_7c15));
}

#[test]
fn an_origin_that_dies_is_replaced_by_the_next_while_players_stay() {
    let now = Instant::now();
    let mut pull = flowing(2, now);
    assert_eq!(pull.handle(now, Input::Lost), Some(Action::Connect(1)));
    assert_eq!(pull.handle(now, Input::Flowing), None);
    assert_eq!(pull.handle(now, Input::Lost), Some(Action::Connect(0)));
}

#[test]
fn media_makes_the_pauses_short_again() {
    let now = Instant::now();
    let mut pull = Pull::new(1, 0, LINGER, 7);
    pull.handle(now, Input::Audience(1));
    for _ in 0..8 {
        pull.handle(now, Input::Lost);
        pull.handle(now + MAX_PAUSE, Input::Time);
    }
    pull.handle(now, Input::Flowing);
    pull.handle(now, Input::Lost);
    assert!(pull.deadline().unwrap() - now <= FIRST_PAUSE);
}

#[test]
fn it_ends_at_once_when_nobody_waits_for_a_stream_that_does_not_come() {
    let now = Instant::now();
    let mut pull = Pull::new(1, 0, LINGER, 7);
    pull.handle(now, Input::Audience(1));
    assert_eq!(pull.handle(now, Input::Audience(0)), Some(Action::Finish));
    let mut pull = Pull::new(1, 0, LINGER, 7);
    pull.handle(now, Input::Audience(1));
    pull.handle(now, Input::Lost);
    assert_eq!(pull.handle(now, Input::Audience(0)), Some(Action::Finish));
    let mut pull = flowing(1, now);
    pull.handle(now, Input::Audience(0));
    assert_eq!(
        pull.handle(now, Input::Lost),
        Some(Action::Finish),
        "lost while lingering"
    );
}

#[test]
fn an_origin_without_the_stream_is_left_for_the_next_before_players_give_up() {
    let now = Instant::now();
    let mut pull = Pull::new(2, 0, LINGER, 7);
    pull.handle(now, Input::Audience(1));
    pull.handle(now, Input::Connected);
    let until = pull.deadline().unwrap();
    assert!(until <= now + second(1));
    assert_eq!(pull.handle(until, Input::Time), Some(Action::Connect(1)));
    assert_eq!(pull.take_all_failed(), None, "one is left to be asked");
    pull.handle(until, Input::Connected);
    assert_eq!(pull.handle(until, Input::Flowing), None);
    assert_eq!(pull.origin(), 1);
    assert!(pull.is_connected());
}

#[test]
fn origins_that_let_the_edge_wait_for_a_keyframe_get_longer_to_send_it() {
    let mut now = Instant::now();
    let mut pull = Pull::new(2, 0, LINGER, 7);
    pull.handle(now, Input::Audience(1));
    for patience in [1, 2, 4, 8, 8] {
        for action in [Some(Action::Connect(1)), None] {
            pull.handle(now, Input::Connected);
            assert_eq!(pull.deadline(), Some(now + second(patience)));
            now += second(patience);
            assert_eq!(pull.handle(now, Input::Time), action);
        }
        now = pull.deadline().unwrap();
        assert_eq!(pull.handle(now, Input::Time), Some(Action::Connect(0)));
    }
}

#[test]
fn the_only_origin_is_kept_though_it_has_nothing_yet() {
    let now = Instant::now();
    let mut pull = Pull::new(1, 0, LINGER, 7);
    pull.handle(now, Input::Audience(1));
    pull.handle(now, Input::Connected);
    assert_eq!(pull.handle(now + second(1), Input::Time), None);
    assert_eq!(
        pull.take_all_failed(),
        Some(AllOriginsFailed { answered: true })
    );
    assert_eq!(pull.take_all_failed(), None, "it is told once");
    assert!(pull.is_connected());
    assert_eq!(pull.deadline(), None);
    assert_eq!(pull.handle(now + second(9), Input::Flowing), None);
    pull.handle(now + second(9), Input::Audience(0));
    assert_eq!(pull.deadline(), Some(now + second(19)), "it flows");
}

#[test]
fn an_origin_that_has_a_publisher_is_kept_until_that_goes() {
    let now = Instant::now();
    for origins in [1, 2] {
        let mut pull = Pull::new(origins, 0, LINGER, 7);
        pull.handle(now, Input::Audience(1));
        pull.handle(now, Input::Connected);
        assert_eq!(pull.handle(now, Input::PublisherAnnounced(true)), None);
        assert_eq!(pull.deadline(), None);
        assert_eq!(pull.handle(now + second(15), Input::Time), None);
        assert_eq!((pull.origin(), pull.take_all_failed()), (0, None));
        let gone = now + second(20);
        pull.handle(gone, Input::PublisherAnnounced(false));
        assert_eq!(pull.deadline(), Some(gone + second(1)));
        let next = (origins > 1).then_some(Action::Connect(1));
        assert_eq!(pull.handle(gone + second(1), Input::Time), next);
    }
}

#[test]
fn a_round_in_vain_says_whether_any_origin_could_be_talked_to() {
    let now = Instant::now();
    for (connected, answered) in [(false, false), (true, true)] {
        let mut pull = flowing(2, now);
        assert_eq!(pull.handle(now, Input::Lost), Some(Action::Connect(1)));
        if connected {
            pull.handle(now, Input::Connected);
        }
        assert_eq!(pull.handle(now, Input::Lost), None);
        assert_eq!(pull.take_all_failed(), Some(AllOriginsFailed { answered }));
        assert!(!pull.is_connected());
    }
}

#[test]
fn an_origin_that_another_pull_has_is_left_to_it() {
    let now = Instant::now();
    let mut pull = flowing(2, now);
    pull.leave_out(Some(1));
    assert_eq!(pull.handle(now, Input::Lost), None, "a round has failed");
    let later = pull.deadline().unwrap();
    let again = Some(Action::Connect(0));
    assert_eq!(pull.handle(later, Input::Time), again);
    pull.handle(later, Input::Connected);
    assert_eq!(pull.handle(later + second(9), Input::Time), None);
    assert!(pull.is_connected(), "it is the only one that is left");
    let mut pull = flowing(3, now);
    pull.leave_out(Some(1));
    assert_eq!(pull.handle(now, Input::Lost), Some(Action::Connect(2)));
    assert_eq!(pull.handle(now, Input::Lost), None);
    let mut pull = flowing(1, now);
    pull.leave_out(Some(0));
    assert_eq!(pull.handle(now, Input::Lost), None);
    let later = pull.deadline().unwrap();
    assert_eq!(pull.handle(later, Input::Time), again, "it has no other");
}

#[test]
fn an_origin_that_another_pull_has_taken_meanwhile_is_not_connected_to() {
    let now = Instant::now();
    // One that begins anew where streams were last found, which the other one has found.
    let mut pull = Pull::new(2, 1, LINGER, 7);
    pull.leave_out(Some(1));
    let elsewhere = Some(Action::Connect(0));
    assert_eq!(pull.handle(now, Input::Audience(1)), elsewhere);
    // One that has paused before an origin which the other one has turned to.
    let mut pull = flowing(3, now);
    pull.leave_out(Some(2));
    assert_eq!(pull.handle(now, Input::Lost), Some(Action::Connect(1)));
    assert_eq!(pull.handle(now, Input::Lost), None, "a round has failed");
    let later = pull.deadline().unwrap();
    pull.leave_out(Some(0));
    assert_eq!(pull.handle(later, Input::Time), Some(Action::Connect(1)));
}

#[test]
fn the_origin_that_had_the_last_stream_is_asked_first() {
    let now = Instant::now();
    let mut pull = Pull::new(3, 2, LINGER, 7);
    assert_eq!(
        pull.handle(now, Input::Audience(1)),
        Some(Action::Connect(2))
    );
    assert_eq!(pull.handle(now, Input::Lost), Some(Action::Connect(0)));
}
