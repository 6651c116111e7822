//! Servers, quorums and sorry servers that packets do not reach.

use super::super::reach::{RESOLUTION_LIMIT, SETTLING_TIME};
use super::*;

const INSIDE: &str = "sorry_server 10.0.0.9 80\nquorum_up /bin/up\nquorum_down /bin/down";

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// A director in made-up time, whose servers are reached at first.
struct Director {
    state: State,
    now: Instant,
}

impl Director {
    fn new(plan: Plan) -> Self {
        Self {
            state: state(plan),
            now: Instant::now(),
        }
    }

    /// The way to one address is another now. Says what follows, but for the news
    /// of the way itself.
    fn way(&mut self, to: &str, hop: Hop) -> Vec<String> {
        let mut hops = self.state.hops.clone();
        hops.insert(address(to), hop);
        let changes = self.state.hops_changed(hops, self.now);
        let about_servers = |change: &&Change| !matches!(change, Change::Hop { .. });
        let changes = changes.iter().filter(about_servers);
        changes.map(ToString::to_string).collect()
    }

    fn reach(&mut self, to: &str) -> Vec<String> {
        let hop = ready([address(to)], None).remove(&address(to));
        self.way(to, hop.expect("it is reached"))
    }

    /// Says what time brings, as the agent's loop would let it pass.
    fn pass(&mut self, time: Duration) -> Vec<String> {
        let until = self.now + time;
        let mut all = Vec::new();
        while let Some(next) = self.state.deadline().filter(|next| *next <= until) {
            self.now = next;
            all.extend(self.state.tick(next).expect("it is due"));
        }
        self.now = until;
        said(&all)
    }
}

fn no_route() -> Hop {
    Hop::none("there is no route to it")
}

#[test]
fn servers_out_of_reach_count_for_nothing_once_that_has_lasted() {
    let mut director = Director::new(two_servers(INSIDE));
    for server in ["10.0.0.2", "10.0.0.3"] {
        assert_eq!(director.way(server, no_route()), [""; 0]);
    }
    assert!(director.state.addresses_without_quorum().is_empty());
    assert_eq!(
        director.pass(SETTLING_TIME),
        [
            "TCP 10.0.0.1:80: server 10.0.0.2:80 is down: packets do not reach it: there is no \
             route to it",
            "TCP 10.0.0.1:80: server 10.0.0.3:80 is down: packets do not reach it: there is no \
             route to it",
            "TCP 10.0.0.1:80: quorum lost: weight 0 is up, 1 needed",
        ]
    );
    let virtual_address = BTreeSet::from([address("10.0.0.1")]);
    assert_eq!(director.state.addresses_without_quorum(), virtual_address);
    // Their connections stay: the way may come back.
    assert_eq!(
        servers(&director.state),
        [
            server("10.0.0.2", 0, true),
            server("10.0.0.3", 0, true),
            server("10.0.0.9", 1, true)
        ]
    );
    // Checks have no say meanwhile.
    assert_eq!(said(&fail(&mut director.state, 0)), [""; 0]);
    assert_eq!(said(&succeed(&mut director.state, 0)), [""; 0]);
    assert_eq!(
        director.reach("10.0.0.3"),
        [
            "TCP 10.0.0.1:80: server 10.0.0.3:80 is up: packets reach it again",
            "TCP 10.0.0.1:80: quorum gained: weight 2 is up, 1 needed",
        ]
    );
    assert_eq!(
        servers(&director.state),
        [server("10.0.0.2", 0, true), server("10.0.0.3", 2, true)]
    );
}

#[test]
fn scripts_run_for_servers_and_quorums_that_are_lost_out_of_reach() {
    let mut director = Director::new(two_servers(INSIDE));
    for server in ["10.0.0.2", "10.0.0.3"] {
        director.way(server, no_route());
    }
    director.now += SETTLING_TIME;
    let changes = director.state.tick(director.now).expect("it is due");
    let scripts: Vec<String> = changes
        .iter()
        .filter_map(|change| Some(change.script()?.command.join(" ")))
        .collect();
    assert_eq!(scripts, ["/bin/down two", "/bin/down"]);
}

#[test]
fn a_way_that_is_gone_for_a_moment_changes_nothing() {
    let mut director = Director::new(two_servers(""));
    let before = servers(&director.state);
    director.way("10.0.0.2", no_route());
    assert_eq!(director.pass(SETTLING_TIME / 2), [""; 0]);
    assert_eq!(director.reach("10.0.0.2"), [""; 0]);
    assert_eq!(director.pass(SETTLING_TIME * 10), [""; 0]);
    assert_eq!(servers(&director.state), before);
    // The next time is a time of its own.
    director.way("10.0.0.2", no_route());
    assert_eq!(director.pass(SETTLING_TIME / 2), [""; 0]);
}

#[test]
fn a_mac_address_that_is_asked_for_has_the_time_to_be_found() {
    let asking = || Hop::pending("it is being asked for its MAC address");
    let mut director = Director::new(two_servers(""));
    director.way("10.0.0.2", asking());
    assert_eq!(director.pass(SETTLING_TIME * 3), [""; 0]);
    assert_eq!(director.reach("10.0.0.2"), [""; 0]);

    // Nobody answers, and the kernel gives up.
    director.way("10.0.0.2", asking());
    assert_eq!(director.pass(SETTLING_TIME * 3), [""; 0]);
    let failed = Hop::none("it does not answer");
    assert_eq!(
        director.way("10.0.0.2", failed),
        [
            "TCP 10.0.0.1:80: server 10.0.0.2:80 is down: packets do not reach it: it does not \
             answer"
        ]
    );

    // A kernel that asks for ever.
    director.way("10.0.0.3", asking());
    assert_eq!(director.pass(RESOLUTION_LIMIT).len(), 2, "and the quorum");
}

#[test]
fn servers_that_nothing_is_heard_of_at_the_start_count_until_they_have_had_their_time() {
    let mut state = unreached(two_servers(""));
    let begun = Instant::now();
    assert!(state.has_quorum(state.plan().services[0].key));
    let due = state.deadline().expect("they are waited for");
    assert!(due <= begun + RESOLUTION_LIMIT);
    let changes = said(&state.tick(due).expect("it is due"));
    assert_eq!(changes.len(), 3, "two servers and the quorum: {changes:?}");
}

#[test]
fn a_sorry_server_out_of_reach_leaves_the_service_to_the_servers_that_are_up() {
    let mut director = Director::new(two_servers("quorum 3\nsorry_server 10.0.0.9 80"));
    director.way("10.0.0.9", no_route());
    director.pass(SETTLING_TIME);
    fail(&mut director.state, 0);
    assert!(
        !director
            .state
            .has_quorum(director.state.plan().services[0].key)
    );
    assert_eq!(
        servers(&director.state),
        [server("10.0.0.2", 0, false), server("10.0.0.3", 2, true)]
    );
    director.reach("10.0.0.9");
    assert_eq!(
        servers(&director.state),
        [
            server("10.0.0.2", 0, false),
            server("10.0.0.3", 0, true),
            server("10.0.0.9", 1, true)
        ]
    );
}

#[test]
fn clients_that_are_tied_to_a_server_out_of_reach_get_another() {
    let mut director = Director::new(two_servers("persistence_timeout 50"));
    let kept = |state: &State| state.desired().services[0].servers[0].keeps_templates;
    director.way("10.0.0.2", no_route());
    assert!(kept(&director.state));
    director.pass(SETTLING_TIME);
    assert!(!kept(&director.state));
    director.reach("10.0.0.2");
    assert!(kept(&director.state));
}

#[test]
fn a_reload_keeps_what_is_out_of_reach_and_gives_new_servers_their_time() {
    let mut director = Director::new(two_servers(""));
    director.way("10.0.0.2", no_route());
    director.pass(SETTLING_TIME);
    let more = plan(
        "virtual_server 10.0.0.1 80 {
            real_server 10.0.0.2 80 { }
            real_server 10.0.0.4 80 { }
        }",
    );
    director.state.replace_plan(more, director.now);
    assert_eq!(
        servers(&director.state),
        [server("10.0.0.2", 0, true), server("10.0.0.4", 1, true)]
    );
    assert_eq!(
        director.pass(RESOLUTION_LIMIT).len(),
        2,
        "the new one, and the quorum"
    );
    // One that is gone from the file is forgotten.
    director
        .state
        .replace_plan(plan("virtual_server 10.0.0.1 80 {\n}"), director.now);
    assert_eq!(director.state.deadline(), None);
    assert!(director.state.to_save().cut_off.is_empty());
}

#[test]
fn a_later_agent_does_not_count_what_was_out_of_reach_before_it_has_been_reached() {
    let mut former = Director::new(two_servers(""));
    for server in ["10.0.0.2", "10.0.0.3"] {
        former.way(server, no_route());
    }
    former.pass(SETTLING_TIME);
    let text = serde_json::to_string(&former.state.to_save()).expect("it is saved");
    let mut later = State::default();
    later.inherit(&serde_json::from_str(&text).expect("it is read"));
    let changes = later.replace_plan(two_servers(""), former.now);
    assert_eq!(said(&changes), [""; 0], "nothing is new");
    assert!(!later.addresses_without_quorum().is_empty());
    let both = ["10.0.0.2", "10.0.0.3"].map(address);
    later.hops_changed(ready(both, None), former.now);
    assert!(later.addresses_without_quorum().is_empty());
}
