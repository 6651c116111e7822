//! Recordings over upgrades of the server that records.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use netbed::local::{free_address, push};
use netbed::wait_for;
use serde_json::Value;
use testbed::program;

use super::hooks::HookServer;
use super::{Scratch, Server, install, install_script};

/// A program that reads what it would get, and refuses it.
const REFUSES: &str = "#!/bin/sh\necho 1 1 2\ncat >/dev/null\necho spoilt >&2\nexit 1\n";

/// The recording that runs, as the API shows it; null if there is none.
fn recording(origin: &Server) -> Result<Value> {
    Ok(origin.api("/api/v1/dvrs")?["dvrs"][0].clone())
}

/// Waits until what comes is in the file.
fn wait_for_growth(origin: &Server) -> Result<()> {
    let before = recording(origin)?["bytes"].as_u64().context("bytes")?;
    wait_for("the recording to go on", || {
        let bytes = recording(origin)?["bytes"].as_u64();
        Ok(bytes > Some(before + 20_000))
    })
}

/// The distances of a file's packets of a kind, in whole milliseconds.
fn steps(file: &Path, kind: &str) -> Result<HashSet<i64>> {
    let output = Command::new("ffprobe")
        .args(["-loglevel", "error", "-select_streams", kind])
        .args(["-show_entries", "packet=dts_time", "-of", "csv=p=0"])
        .arg(file)
        .output()?;
    let text = String::from_utf8(output.stdout)?;
    let seconds = text.lines().map(|line| line.trim_end_matches(',').parse());
    let seconds: Vec<f64> = seconds.collect::<Result<_, _>>().context(text.clone())?;
    ensure!(seconds.len() > 10, "{kind}: {text}");
    let steps = seconds.windows(2).map(|pair| pair[1] - pair[0]);
    Ok(steps.map(|step| (step * 1_000.0).round() as i64).collect())
}

/// What ffmpeg complains of when it decodes a file.
fn complaints(file: &Path) -> Result<String> {
    let output = Command::new("ffmpeg")
        .args(["-nostdin", "-hide_banner", "-loglevel", "warning", "-i"])
        .arg(file)
        .args(["-f", "null", "-"])
        .output()?;
    Ok(String::from_utf8(output.stderr)?)
}

/// Records real video in files of `format` over upgrades, one of which fails.
fn check(format: &str) -> Result<()> {
    let scratch = Scratch::new(&format!("recordings-{format}"))?;
    let hooks = HookServer::start(0)?;
    let directory = scratch.0.join("recordings");
    let vhost = format!(
        "vhost __defaultVhost__ {{ \
         dvr {{ enabled on; dvr_path {}/[stream].[timestamp].{format}; }} \
         http_hooks {{ enabled on; on_dvr http://{}/dvr; }} }}",
        directory.display(),
        hooks.address,
    );
    let arguments = ["--set", &*vhost];
    let origin = Server::start_as("rtmp-origin", &scratch.0, free_address(), &arguments)?;
    let publisher = push(&format!("rtmp://{}/live/s", origin.rtmp));
    wait_for("a recording", || {
        Ok(recording(&origin)?["state"] == "recording")
    })?;
    let first = recording(&origin)?;
    let [client] = origin.clients()?[..] else {
        bail!("one publisher: {:?}", origin.clients()?);
    };
    let mut before = origin.counters()?;
    for number in 1..=super::UPGRADES {
        wait_for_growth(&origin)?;
        let (done, said) = origin.upgrade()?;
        ensure!(done, "{said}\n{}", origin.log());
        origin.wait_for_line("the HTTP API answers", 1 + number)?;
        let (after, counters) = (recording(&origin)?, origin.counters()?);
        let goes_on = after["file"] == first["file"] && after["files"] == 0;
        ensure!(
            goes_on && after["skips"] == 0 && after["failures"] == 0,
            "{first} {after}\n{}",
            origin.log()
        );
        for (name, count) in &before {
            ensure!(counters.get(name) >= Some(count), "{name} falls");
        }
        before = counters;
    }
    // The old program goes on with it where another one cannot.
    let command = origin.program.with_extension("command");
    install(&program("rtmp-origin")?, &command)?;
    install_script(REFUSES, &origin.program)?;
    let refused = Command::new(&command)
        .args(["upgrade", "--pid", &origin.process.0.id().to_string()])
        .output()?;
    ensure!(!refused.status.success(), "{refused:?}");
    wait_for_growth(&origin)?;
    ensure!(hooks.posted().is_empty(), "{:?}", hooks.posted());
    drop(publisher);

    wait_for("the end of the file", || Ok(!hooks.posted().is_empty()))?;
    let files = fs::read_dir(&directory)?.map(|it| Ok(it?.path()));
    let files: Vec<PathBuf> = files.collect::<Result<_>>()?;
    let [file] = &files[..] else {
        bail!("one file: {files:?}");
    };
    let name = file.to_str().context("a name in UTF-8")?;
    ensure!(first["file"] == format!("{name}.tmp"), "{first} {name}");
    ensure!(complaints(file)?.is_empty(), "{}", complaints(file)?);
    // 25 pictures a second, and 1,024 samples of 44,100 in a frame of sound.
    let (pictures, sound) = (steps(file, "v")?, steps(file, "a")?);
    ensure!(pictures == HashSet::from([40]), "{pictures:?}");
    ensure!(sound.iter().all(|it| [23, 24].contains(it)), "{sound:?}");
    let posted = hooks.posted();
    let fields = ["file", "client_id", "tcUrl"].map(|field| posted[0][field].as_str());
    let (client, url) = (client.to_string(), format!("rtmp://{}/live", origin.rtmp));
    ensure!(
        posted.len() == 1 && fields == [Some(name), Some(&*client), Some(&*url)],
        "{posted:?}"
    );
    Ok(())
}

#[test]
fn a_recording_in_flv_goes_on_without_a_gap() -> Result<()> {
    check("flv")
}

#[test]
fn a_recording_in_mp4_goes_on_without_a_gap() -> Result<()> {
    check("mp4")
}
