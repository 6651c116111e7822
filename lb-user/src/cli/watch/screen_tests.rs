use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::*;
use crate::control::sample::{listing, server};

fn event(time_ms: u64, message: &str) -> Update {
    Update::Event(Event {
        time_ms,
        message: message.to_owned(),
        ..Event::default()
    })
}

fn draw(screen: &mut Screen, width: u16, height: u16) -> Terminal<TestBackend> {
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

fn press(screen: &mut Screen, code: KeyCode, modifiers: KeyModifiers) -> ControlFlow<()> {
    screen.handle(&Input::Key(KeyEvent::new(code, modifiers)))
}

#[test]
fn services_servers_and_events_are_shown() {
    let servers = vec![
        server(211, ServerState::Up, None),
        server(207, ServerState::Down, Some("Connection refused")),
    ];
    let mut screen = Screen::new(listing(servers));
    screen.take(event(86_399_000, "the first"));
    screen.take(event(86_400_000, "the second"));
    let terminal = draw(&mut screen, 110, 12);
    assert_eq!(
        lines(&terminal),
        [
            "eth2: XDP native   172.16.1.200/32: VI_1 is master",
            "Service / server      State     Weight  Active   Inact Conn/s  Pkt/s   Mbit/s",
            "TCP 172.16.1.200:1935                      500       6      -      -        - rr persistent 50",
            " -> 172.16.1.211:1935 up             1     250       3     12    18k     7.59",
            " -> 172.16.1.207:1935 down           0     250       3     12    18k     7.59 Connection refused",
            "",
            "",
            "Events, the latest first (UTC)────────────────────────────────────────────────────────────────────────────────",
            "00:00:00 the second",
            "23:59:59 the first",
            "",
            "q: quit",
        ]
    );
    assert_eq!(color_of(&terminal, "up  "), Color::Green);
    assert_eq!(color_of(&terminal, "down"), Color::Red);
}

#[test]
fn numbers_are_whole_on_80_columns() {
    let mut screen = Screen::new(listing(vec![server(211, ServerState::Up, None)]));
    let all = lines(&draw(&mut screen, 80, 24));
    assert_eq!(
        all[3],
        " -> 172.16.1.211:1935 up             1     250       3     12    18k     7.59"
    );
}

#[test]
fn keys_move_through_more_servers_than_there_are_lines() {
    let servers = (1..=100).map(|last| server(last, ServerState::Up, None));
    let mut screen = Screen::new(listing(servers.collect()));
    // A terminal of 20 lines shows 11 of 101.
    let mut first_after = |code| {
        assert_eq!(
            press(&mut screen, code, KeyModifiers::NONE),
            ControlFlow::Continue(())
        );
        let all = lines(&draw(&mut screen, 100, 20));
        let what = all[2].split_whitespace().take(2).collect::<Vec<_>>();
        (what.join(" "), all[19].clone())
    };
    let (first, bottom) = first_after(KeyCode::Up);
    assert_eq!(first, "TCP 172.16.1.200:1935");
    assert!(bottom.ends_with("lines 1 to 11 of 101"), "{bottom}");
    assert_eq!(first_after(KeyCode::Down).0, "-> 172.16.1.1:1935");
    assert_eq!(first_after(KeyCode::PageDown).0, "-> 172.16.1.12:1935");
    assert_eq!(first_after(KeyCode::PageUp).0, "-> 172.16.1.1:1935");
    let (first, bottom) = first_after(KeyCode::End);
    assert_eq!(first, "-> 172.16.1.90:1935");
    assert!(bottom.ends_with("lines 91 to 101 of 101"), "{bottom}");
    assert_eq!(first_after(KeyCode::Down).0, "-> 172.16.1.90:1935");
    assert_eq!(first_after(KeyCode::Up).0, "-> 172.16.1.89:1935");
    assert_eq!(first_after(KeyCode::Home).0, "TCP 172.16.1.200:1935");
}

#[test]
fn q_and_ctrl_c_quit_and_c_does_not() {
    let mut screen = Screen::new(Listing::default());
    let mut pressed = |code, modifiers| press(&mut screen, KeyCode::Char(code), modifiers);
    assert_eq!(pressed('q', KeyModifiers::NONE), ControlFlow::Break(()));
    assert_eq!(pressed('c', KeyModifiers::CONTROL), ControlFlow::Break(()));
    assert_eq!(pressed('c', KeyModifiers::NONE), ControlFlow::Continue(()));
}

#[test]
fn an_agent_that_does_not_answer_is_told_of_until_it_does() {
    let servers = || vec![server(211, ServerState::Up, None)];
    let mut screen = Screen::new(listing(servers()));
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
    let mut screen = Screen::new(listing(servers.collect()));
    screen.take(event(0, "something"));
    for (width, height) in [(1, 1), (3, 2), (10, 5), (500, 200), (80, 3)] {
        draw(&mut screen, width, height);
    }
}
