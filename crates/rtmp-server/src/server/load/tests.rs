use super::*;
use crate::config::{self, Role};
use crate::hand_over::Blob;

/// Two streams: nothing is known of the second.
const STREAM: u64 = 1;
const UNKNOWN: u64 = 2;

/// Nobody publishes this one.
const UNPUBLISHED: u64 = 3;

/// A server in made-up time, of which the first stream has 2 Mbit/s.
struct Run {
    load: Arc<Load>,
    config: Config,
    now: Instant,
}

impl Run {
    fn new(text: &str) -> Self {
        let config = config::load(text, Role::Origin).unwrap().config;
        let load = Arc::<Load>::default();
        let mut now = Instant::now();
        for second in 0..4 {
            let state = &mut *lock(&load.0);
            let rate = state.streams.entry(STREAM).or_default();
            rate.observe(second * 250_000, SMOOTHING, now);
            now += Duration::from_secs(1);
        }
        Self { load, config, now }
    }

    fn ask(
        &self,
        action: Action,
        is_relay: bool,
        stream: u64,
    ) -> Result<Option<Reservation>, Full> {
        let applicant = Applicant {
            action,
            is_relay,
            stream,
            is_published: stream != UNPUBLISHED,
        };
        self.load.admit(&self.config, applicant, self.now)
    }

    fn play(&self) -> Result<Option<Reservation>, Full> {
        self.ask(Action::Play, false, STREAM)
    }
}

#[test]
fn nobody_is_refused_without_a_capacity() {
    for text in ["", "capacity 1k; admission off;", "admission on;"] {
        let run = Run::new(text);
        for _ in 0..100 {
            run.play().unwrap();
        }
    }
    // What is not counted takes nothing.
    assert!(Run::new("").play().unwrap().is_none());
}

#[test]
fn a_viewer_counts_from_when_it_is_let_in_until_it_goes() {
    let run = Run::new("capacity 10m;");
    let mut viewers: Vec<_> = (0..4).map(|_| run.play().unwrap().unwrap()).collect();
    let full = run.play().unwrap_err();
    let text = "the server is full: 8.0 of 9.5 Mbit/s are taken, 2.0 are wanted (`admission`)";
    assert_eq!(full.to_string(), text);
    viewers.pop();
    viewers.push(run.play().unwrap().unwrap());
    run.play().unwrap_err();
}

#[test]
fn a_stream_that_is_not_known_counts_for_what_is_configured() {
    let run = Run::new("admission { capacity 10m; limit 100%; reserve 4m; }");
    let _viewers = [(); 2].map(|()| run.ask(Action::Play, false, UNKNOWN).unwrap());
    run.ask(Action::Play, false, UNKNOWN).unwrap_err();
    run.play().unwrap();
}

#[test]
fn what_is_sent_already_counts() {
    let run = Run::new("capacity 10m;");
    for second in 0..10 {
        let sent = &mut lock(&run.load.0).sent;
        sent.observe(
            second * 1_000_000,
            SMOOTHING,
            run.now + Duration::from_secs(second),
        );
    }
    run.play().unwrap_err();
}

#[test]
fn an_upgrade_lets_nobody_in_for_whom_there_is_no_room() {
    let mut run = Run::new("capacity 10m;");
    for second in 0..10 {
        let sent = &mut lock(&run.load.0).sent;
        let at = run.now + Duration::from_secs(second);
        sent.observe(second * 500_000, SMOOTHING, at);
    }
    let _viewers = [(); 2].map(|()| run.play().unwrap().unwrap());
    run.play().unwrap_err();
    let part = Blob::of(&run.load.part(run.now)).unwrap();
    let before = run.load.ask(&run.config, run.now);
    run.load = Arc::default();
    run.play().unwrap();
    run.load.take_over(part.read().unwrap());
    let mut after = run.load.ask(&run.config, run.now);
    // Times are read twice, and what is reserved fades.
    assert!(after.reserved.abs_diff(before.reserved) < 100, "{after:?}");
    after.reserved = before.reserved;
    assert_eq!(after, before);
    run.play().unwrap_err();
}

#[test]
fn servers_and_publishers_are_refused_where_that_is_asked_for_alone() {
    for (text, relay, publisher) in [
        ("capacity 1m;", true, true),
        ("admission { capacity 1m; relays on; }", false, true),
        ("admission { capacity 1m; publishers on; }", true, true),
    ] {
        let run = Run::new(text);
        run.play().unwrap_err();
        let admitted = run.ask(Action::Play, true, STREAM);
        assert_eq!(admitted.is_ok(), relay, "{text}");
        drop(admitted);
        let admitted = run.ask(Action::Publish, false, UNKNOWN);
        assert_eq!(admitted.is_ok(), publisher, "{text}");
    }
    let run = Run::new("admission { capacity 1m; publishers on; }");
    let _relay = run.ask(Action::Play, true, STREAM).unwrap();
    run.ask(Action::Publish, false, UNKNOWN).unwrap_err();
}

#[test]
fn viewers_who_wait_for_a_publisher_refuse_viewers_of_their_stream_alone() {
    let run = Run::new("admission { capacity 10m; limit 100%; reserve 2m; }");
    let wait = || run.ask(Action::Play, false, UNPUBLISHED);
    let mut waiting: Vec<_> = (0..5).map(|_| wait().unwrap().unwrap()).collect();
    wait().unwrap_err();
    let mut viewers: Vec<_> = (0..5).map(|_| run.play().unwrap().unwrap()).collect();
    run.play().unwrap_err();
    viewers.clear();
    // The first that is sent something counts for all, and then the others.
    waiting[0].begin();
    let reserved = |run: &Run| run.load.ask(&run.config, Instant::now()).reserved;
    assert!((1_900_000..=2_000_000).contains(&reserved(&run)));
    lock(&run.load.0).publish(UNPUBLISHED);
    assert!(reserved(&run) > 9_800_000);
    run.play().unwrap_err();
    // Those who wait for the next publisher are others.
    waiting.pop();
    let next = wait().unwrap().unwrap();
    drop(waiting);
    assert_eq!(reserved(&run), 0);
    drop(next);
    assert_eq!(lock(&run.load.0).unpublished.rate(UNPUBLISHED), 0.0);
}
