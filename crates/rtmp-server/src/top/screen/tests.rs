use serde_json::json;

use super::*;

/// A server `seconds` after its first sample: one of its two streams has been sent ever
/// more.
fn sample(seconds: u64) -> Sample {
    let sent = 125_000 * seconds * seconds;
    let stream = |id: &str, name: &str, clients: u64, sent: u64, active: bool| {
        json!({
            "id": id, "vhost": "__defaultVhost__", "app": "live", "name": name,
            "clients": clients, "send_bytes": sent, "skips": 3,
            "kbps": {"recv_30s": 2_000, "send_30s": 24_000},
            "publish": {"active": active},
            "video": active.then(|| json!({"codec": "H264", "width": 1280, "height": 720})),
        })
    };
    Sample {
        summaries: json!({
            "now_ms": 1_000_000 + 1_000 * seconds, "role": "edge", "uptime_s": 273_906,
            "players": 12, "published": 1, "streams": 2, "connections": 14,
            "log_bytes": 8 << 20, "log_limit": 512 << 20,
            "self": {"cpu_percent": 0.43, "mem_kbyte": 122_880},
            "system": {"srs_send_bytes": sent, "srs_recv_bytes": 250_000 * seconds},
        }),
        streams: json!([
            stream("1", "quiet\u{1b}[2J", 0, 0, false),
            stream("2", "livestream", 12, sent, true),
        ]),
        slowest: json!([{
            "ip": "192.0.2.7", "vhost": "__defaultVhost__", "app": "live",
            "name": "livestream", "lag_ms": 7_250, "verdict": "network", "skips": 2,
            "kbps": {"send_30s": 800}, "tcp": {"rtt_ms": 84.0, "retransmits": 512},
        }, {
            "ip": "192.0.2.8", "vhost": "v", "app": "live", "name": "x", "lag_ms": 0,
            "verdict": null,
        }]),
    }
}

fn lines(screen: &mut TopScreen, width: u16) -> Vec<String> {
    let text = terminal_kit::plain(screen, width).unwrap();
    text.lines().map(str::to_owned).collect()
}

fn screen() -> TopScreen {
    let mut screen = TopScreen::new(sample(0));
    (1..=8).for_each(|second| screen.add(sample(second)));
    screen
}

#[test]
fn streams_are_shown_with_their_rates() {
    assert_eq!(
        lines(&mut screen(), 100),
        [
            "12 players   1 of 2 streams live   14 connections   edge up 3 d 04:05",
            "out 15.00 Mbit/s ▁▂▃▄▅▆▇█   in 2.00 Mbit/s ████████",
            "processor 43 %   memory 120 MB   logs 8 of 512 MB",
            "Stream              Players Out Mb/s In Mb/s Video            Skips",
            "live/livestream          12    24.00    2.00 H264 1280x720        3 ▁▂▃▄▅▆▇█",
            "live/quiet\\u{1b}[2J       0    24.00    2.00                      3 ▁▁▁▁▁▁▁▁",
            "q: quit   v: slowest viewers",
        ]
    );
}

#[test]
fn viewers_are_shown_with_what_holds_them_up() {
    let mut screen = screen();
    screen.handle(KeyCode::Char('v'));
    let wide = lines(&mut screen, 80);
    assert_eq!(
        wide[3..6],
        [
            "Viewer     Lag s Held by   Mb/s  RTT ms Resent Skips Stream",
            "192.0.2.7    7.2 network   0.80    84.0    512     2 live/livestream",
            "192.0.2.8    0.0 -         0.00     0.0      0     0 v/live/x",
        ]
    );
    screen.handle(KeyCode::Char('s'));
    assert!(lines(&mut screen, 80)[3].starts_with("Stream"));
}

#[test]
fn a_narrow_terminal_keeps_names_players_and_rates() {
    let narrow = lines(&mut screen(), 40);
    assert_eq!(narrow[0], "12 players   1 of 2 streams live   14 co");
    assert_eq!(narrow[4], "live/livestream          12    24.00");
}

#[test]
fn a_server_that_does_not_answer_is_told_of_until_it_does() {
    let mut screen = screen();
    screen.take(Update::Unreachable("connection refused".to_owned()));
    let shown = lines(&mut screen, 80);
    assert_eq!(shown[0], "What is shown is old: connection refused");
    assert!(shown[4].starts_with("live/livestream"));
    screen.take(Update::Sample(Box::new(sample(9))));
    assert!(lines(&mut screen, 80)[0].starts_with("12 players"));
}

#[test]
fn a_server_that_was_started_anew_has_no_rates_below_zero() {
    let mut screen = screen();
    let mut anew = sample(9);
    anew.summaries["system"]["srs_send_bytes"] = json!(5);
    screen.add(anew);
    assert!(lines(&mut screen, 80)[1].starts_with("out 0.00 Mbit/s"));
}
