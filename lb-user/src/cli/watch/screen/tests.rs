use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::super::by_name;
use super::*;
use crate::control::protocol::RateHistory;
use crate::control::sample::{listing, server};

fn event(time_ms: u64, message: &str) -> Update {
    Update::Event(Event {
        time_ms,
        message: message.to_owned(),
        ..Event::default()
    })
}

fn draw(screen: &mut WatchScreen, width: u16, height: u16) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("in memory");
    terminal.draw(|frame| screen.draw(frame)).expect("drawn");
    terminal
}

fn lines(terminal: &Terminal<TestBackend>) -> Vec<String> {
    let buffer = terminal.backend().buffer();
    let cells = buffer.content().chunks(usize::from(buffer.area.width));
    cells
        .map(|cells| {
            let line: String = cells.iter().map(|cell| cell.symbol()).collect();
            line.trim_end().to_owned()
        })
        .collect()
}

/// The colour of `words`.
fn color_of(terminal: &Terminal<TestBackend>, words: &str) -> Color {
    let all = lines(terminal);
    let y = all
        .iter()
        .position(|line| line.contains(words))
        .unwrap_or_else(|| panic!("no {words} in {all:#?}"));
    let x = all[y].find(words).expect("it is there");
    terminal.backend().buffer()[(x as u16, y as u16)].fg
}

/// A screen of these servers, of which the first has been sent more and more.
fn screen(servers: Vec<ListedServer>) -> WatchScreen {
    let listing = listing(servers);
    let service = &listing.services[0];
    let of = |server| RateHistory {
        protocol: service.protocol,
        service: service.address,
        server,
        bits_per_s: (0..30).map(f64::from).collect(),
    };
    let first = service.servers.first().map(|server| server.address);
    let history = vec![of(None), of(first)];
    WatchScreen::new(listing, by_name(history))
}

#[test]
fn services_servers_and_events_are_shown() {
    let servers = vec![
        server(211, ServerState::Up, None),
        server(207, ServerState::Down, Some("Connection refused")),
    ];
    let mut screen = screen(servers);
    screen.take(event(86_399_000, "the first"));
    screen.take(event(86_400_000, "the second"));
    let terminal = draw(&mut screen, 110, 12);
    assert_eq!(
        lines(&terminal),
        [
            "eth2: XDP native   172.16.1.200/32: VI_1 is master",
            "Service / server      State    Weight  Active Conn/s  Pkt/s   Mbit/s",
            "TCP 172.16.1.200:1935                     500      -      -        - ▁▁▁▂▂▂▂▃▃▃▃▄▄▄▄▅▅▅▅▆▆▆▆▇▇▇▇███",
            " -> 172.16.1.211:1935 up            1     250     12    18k     7.59 ▁▁▁▂▂▂▂▃▃▃▃▄▄▄▄▅▅▅▅▆▆▆▆▇▇▇▇███",
            " -> 172.16.1.207:1935 down          0     250     12    18k     7.59 Connection refused",
            "",
            "",
            "Events, the latest first (UTC)────────────────────────────────────────────────────────────────────────────────",
            "00:00:00 the second",
            "23:59:59 the first",
            "",
            "q: quit   s: connections by server",
        ]
    );
    assert_eq!(color_of(&terminal, "up  "), Color::Green);
    assert_eq!(color_of(&terminal, "down"), Color::Red);
}

#[test]
fn what_matters_most_is_whole_on_80_and_on_40_columns() {
    let mut screen = screen(vec![server(211, ServerState::Up, None)]);
    let wide = lines(&draw(&mut screen, 80, 24));
    assert_eq!(
        wide[1],
        "Service / server      State     Active Conn/s  Pkt/s   Mbit/s"
    );
    assert_eq!(
        wide[3],
        " -> 172.16.1.211:1935 up           250     12    18k     7.59 ▄▄▄▅▅▅▅▆▆▆▆▇▇▇▇███"
    );
    let narrow = lines(&draw(&mut screen, 40, 24));
    assert_eq!(narrow[3], " -> 172.16.1.211:1935 up           7.59");
}

#[test]
fn connections_are_shown_by_server() {
    let mut other = server(207, ServerState::Quiesced, None);
    other.active_connections = 125;
    let mut screen = screen(vec![server(211, ServerState::Up, None), other]);
    screen.handle(KeyCode::Char('s'));
    let shown = lines(&draw(&mut screen, 80, 9));
    assert_eq!(
        shown[1..6],
        [
            "Server / service       State    Weight  Active   Inact Sticky",
            "172.16.1.207                               125       3      2 ████████",
            " TCP 172.16.1.200:1935 quiesced      0     125       3      2 ████████",
            "172.16.1.211                               250       3      2 ████████████████",
            " TCP 172.16.1.200:1935 up            1     250       3      2 ████████████████",
        ]
    );
    assert_eq!(
        lines(&draw(&mut screen, 40, 9))[3],
        " TCP 172.16.1.200:1935 quiesced     125"
    );
    screen.handle(KeyCode::Char('t'));
    assert!(lines(&draw(&mut screen, 80, 9))[1].starts_with("Service / server"));
}

#[test]
fn keys_move_through_more_servers_than_there_are_lines() {
    let servers = (1..=100).map(|last| server(last, ServerState::Up, None));
    let mut screen = screen(servers.collect());
    screen.take(event(0, "something"));
    // A terminal of 20 lines shows 11 of 101.
    for (code, first, position) in [
        (KeyCode::Up, "TCP 172.16.1.200:1935", "lines 1 to 11 of 101"),
        (
            KeyCode::PageDown,
            "-> 172.16.1.11:1935",
            "lines 12 to 22 of 101",
        ),
        (
            KeyCode::End,
            "-> 172.16.1.90:1935",
            "lines 91 to 101 of 101",
        ),
    ] {
        screen.handle(code);
        let all = lines(&draw(&mut screen, 100, 20));
        let what = all[2].split_whitespace().take(2).collect::<Vec<_>>();
        assert_eq!(what.join(" "), first, "{code:?}");
        assert!(all[19].ends_with(position), "{code:?}: {}", all[19]);
    }
}

#[test]
fn an_agent_that_does_not_answer_is_told_of_until_it_does() {
    let servers = || vec![server(211, ServerState::Up, None)];
    let mut screen = screen(servers());
    screen.take(Update::Unreachable("no agent answers".to_owned()));
    let terminal = draw(&mut screen, 80, 24);
    let all = lines(&terminal);
    assert_eq!(all[0], "What is shown is old: no agent answers");
    assert_eq!(color_of(&terminal, "What is shown"), Color::Red);
    assert!(all[3].contains("172.16.1.211"), "the last that was known");
    screen.take(Update::Listing(listing(servers())));
    assert!(lines(&draw(&mut screen, 80, 24))[0].starts_with("eth2"));
}

#[test]
fn a_terminal_of_whatever_size_is_drawn_on() {
    let servers = (1..=9).map(|last| server(last, ServerState::Up, None));
    let mut screen = screen(servers.collect());
    screen.take(event(0, "something"));
    for view in ['t', 's'] {
        screen.handle(KeyCode::Char(view));
        for (width, height) in [(1, 1), (3, 2), (10, 5), (500, 200), (80, 3)] {
            draw(&mut screen, width, height);
        }
    }
}
