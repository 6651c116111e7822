//! Orders of the operator.

use super::*;

#[test]
fn an_order_outlasts_a_reading_without_its_server_where_sources_name_servers() {
    for (template, stays) in [("real_server_template {\nweight 1\n}", true), ("", false)] {
        let with = |last: &[u8]| {
            let servers = last
                .iter()
                .map(|last| format!("real_server 10.0.0.{last} 80 {{\n}}\n"));
            let servers: String = servers.collect();
            plan(&format!(
                "virtual_server 10.0.0.1 80 {{\nlb_algo rr\n{template}\n{servers}}}\n"
            ))
        };
        let now = Instant::now();
        let mut before = state(with(&[2, 3]));
        let key = before.plan().services[0].key;
        let server: SocketAddr = "10.0.0.3:80".parse().expect("an address");
        before.order_changed(Endpoint::Socket(server), Some(Order::Disabled), now);
        before.replace_plan(with(&[2]), now);
        let expected = stays.then_some(Order::Disabled);
        assert_eq!(before.order(key, server), expected);
        // Nor does a restart meanwhile take it back.
        let mut after = State::default();
        after.inherit(&before.to_save());
        after.replace_plan(with(&[2]), now);
        after.replace_plan(with(&[2, 3]), now);
        assert_eq!(after.order(key, server), expected);
        after.replace_plan(with(&[2]), now);
        after.order_changed(Endpoint::Socket(server), None, now);
        assert_eq!(after.order(key, server), None, "it can be taken back");
    }
}

#[test]
fn the_viewers_of_drained_servers_stay_where_there_is_a_sorry_server() {
    let mut state = state(two_servers("quorum 2\nsorry_server 10.0.0.9 80"));
    let key = state.plan().services[0].key;
    for order in [Order::Drained, Order::DrainedOfTemplates, Order::Weight(0)] {
        let drain = |state: &mut State, name: &str| {
            let name: Endpoint = name.parse().expect("a name");
            let (_, changes) = state.order_changed(name, Some(order), Instant::now());
            assert_eq!(changes.len(), 1, "the order alone: {changes:?}");
        };
        drain(&mut state, "10.0.0.3");
        assert_eq!(
            servers(&state),
            [server("10.0.0.2", 1, true), server("10.0.0.3", 0, true)],
            "one that is drained counts for the quorum"
        );
        drain(&mut state, "10.0.0.2");
        assert!(state.has_quorum(key));
        assert_eq!(
            servers(&state),
            [
                server("10.0.0.2", 0, true),
                server("10.0.0.3", 0, true),
                server("10.0.0.9", 1, true)
            ],
            "new viewers have nowhere else to go"
        );
        for name in ["10.0.0.2", "10.0.0.3"] {
            let name: Endpoint = name.parse().expect("a name");
            state.order_changed(name, None, Instant::now());
        }
    }
}

#[test]
fn a_disabled_server_does_not_count_for_the_quorum() {
    let mut state = state(two_servers("quorum 2"));
    let name: Endpoint = "10.0.0.3".parse().expect("a name");
    let (_, changes) = state.order_changed(name, Some(Order::Disabled), Instant::now());
    assert_eq!(
        said(&changes)[1..],
        ["TCP 10.0.0.1:80: quorum lost: weight 1 is up, 2 needed"]
    );
}

#[test]
fn orders_of_the_operator_outlive_checks_and_reloads_until_they_are_taken_back() {
    let mut state = state(two_servers(""));
    let name: Endpoint = "10.0.0.3".parse().expect("a name");
    let order =
        |state: &mut State, order| said(&state.order_changed(name, order, Instant::now()).1);
    assert_eq!(
        order(&mut state, Some(Order::Drained)),
        ["TCP 10.0.0.1:80: server 10.0.0.3:80 drained by the operator"]
    );
    fail(&mut state, 1);
    succeed(&mut state, 1);
    state.replace_plan(two_servers("delay_before_retry 2"), Instant::now());
    assert_eq!(
        servers(&state)[1],
        server("10.0.0.3", 0, true),
        "still drained"
    );
    let keeps_templates = |state: &State| state.desired().services[0].servers[1].keeps_templates;
    assert!(keeps_templates(&state), "as with IPVS");
    order(&mut state, Some(Order::DrainedOfTemplates));
    assert_eq!(servers(&state)[1], server("10.0.0.3", 0, true));
    assert!(!keeps_templates(&state));
    order(&mut state, Some(Order::Disabled));
    assert_eq!(servers(&state)[1], server("10.0.0.3", 0, false));
    order(&mut state, Some(Order::Weight(9)));
    assert_eq!(servers(&state)[1], server("10.0.0.3", 9, true));
    order(&mut state, None);
    assert_eq!(servers(&state)[1], server("10.0.0.3", 2, true));
    let stranger: Endpoint = "10.0.0.99:80".parse().expect("a name");
    assert_eq!(
        state.order_changed(stranger, Some(Order::Drained), Instant::now()),
        (vec![], vec![])
    );
}
