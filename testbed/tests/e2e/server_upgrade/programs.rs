//! Programs (`transcode`, `exec`) over upgrades.

use anyhow::{Context, Result, ensure};
use netbed::local::free_address;
use netbed::wait_for;

use super::{Players, Scratch, Server, UPGRADES};

#[test]
fn programs_are_started_again_after_upgrades() -> Result<()> {
    let scratch = Scratch::new("programs")?;
    let note = scratch.0.join("note");
    let vhost = format!(
        "vhost __defaultVhost__ {{ \
         exec {{ enabled on; publish sh -c 'echo $0; exec sleep 1000' [stream][param] > {}; }} \
         transcode {{ enabled on; engine sd {{ enabled on; vcodec copy; acodec copy; \
         output rtmp://127.0.0.1:[port]/[app]/[stream]_[engine]?vhost=[vhost]; }} }} }}",
        note.display()
    );
    let arguments = ["--set", &*vhost];
    let origin = Server::start_as("rtmp-origin", &scratch.0, free_address(), &arguments)?;
    let publisher = format!("rtmp://{}/live/s?t=1", origin.rtmp);
    let publish = ["--publish", "generated", "--publish-url", &*publisher];
    let players = Players::start(&scratch.0, 0, &publisher, &publish)?;
    for number in 1..=UPGRADES {
        origin.wait_for_line("live/s: transcode sd: ffmpeg runs as process", number)?;
        origin.wait_for_line(": publish live/s_sd", number)?;
        // One for each of the two streams.
        wait_for("the two programs of `exec`", || {
            let noted = std::fs::read_to_string(&note).unwrap_or_default();
            let of = |stream: &str| noted.lines().filter(|it| it.starts_with(stream)).count();
            Ok(of("s?t=1") == number && of("s_sd") == number)
        })
        .with_context(|| origin.log())?;
        let (done, said) = origin.upgrade()?;
        ensure!(done, "{said}\n{}", origin.log());
        origin.wait_for_line("the HTTP API answers", 1 + number)?;
    }
    origin.wait_for_line(": publish live/s_sd", 1 + UPGRADES)?;
    let log = origin.log();
    ensure!(
        !log.contains("live/s_sd: transcode"),
        "what a program makes is transcoded: {log}"
    );
    players.finish()
}
