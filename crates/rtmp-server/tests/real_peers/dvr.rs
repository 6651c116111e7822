//! Recordings of what ffmpeg publishes, as ffprobe and ffmpeg see them.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use netbed::wait_for;

use crate::common::program::{output, require_ffmpeg};
use crate::http_flv::{PICTURES, assert_is_the_stream, decoded, publish_to};
use crate::origin::Origin;

fn origin(directory: &Path, dvr: &str) -> Origin {
    recording(directory, "flv", dvr)
}

fn recording(directory: &Path, extension: &str, dvr: &str) -> Origin {
    let path = directory.display();
    Origin::with(&format!(
        "dvr {{ enabled on; dvr_path {path}/[app]/[stream].[timestamp].{extension}; {dvr} }}"
    ))
}

/// The finished files, in the order of their beginnings, once `count` are there and none
/// is written any more.
fn files(directory: &Path, count: usize) -> Vec<PathBuf> {
    wait_for("the files", || {
        let entries = std::fs::read_dir(directory.join("live")).ok()?;
        let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        let finished = files.iter().all(|path| path.extension().unwrap() != "tmp");
        (finished && files.len() == count).then_some(files)
    })
}

/// The values of these entries of the file's format, as ffprobe tells them; it finds
/// nothing to complain of.
fn probe(file: &Path, entries: &str) -> Vec<f64> {
    let output = Command::new("ffprobe")
        .args([
            "-loglevel",
            "warning",
            "-show_entries",
            entries,
            "-of",
            "csv=p=0",
        ])
        .arg(file)
        .output()
        .unwrap();
    let complaints = String::from_utf8(output.stderr).unwrap();
    assert_eq!(complaints, "", "{}", file.display());
    let text = String::from_utf8(output.stdout).unwrap();
    text.trim()
        .split(',')
        .map(|it| it.parse().unwrap())
        .collect()
}

#[test]
fn a_session_is_one_file_with_every_picture() {
    require_ffmpeg();
    let directory = tempfile::tempdir().unwrap();
    let origin = origin(directory.path(), "");
    assert!(publish_to(&origin.url("live/s")).wait().success());
    let files = files(directory.path(), 1);
    assert_is_the_stream(&files[0]);
    let values = probe(&files[0], "format=start_time,duration,size");
    let size = std::fs::metadata(&files[0]).unwrap().len();
    #[expect(clippy::cast_precision_loss, reason = "it is small")]
    let size = size as f64;
    assert!(values[0] < 0.05, "it begins at 0: {values:?}");
    assert!((1.9..2.2).contains(&values[1]), "{values:?}");
    assert_eq!(values[2], size);
}

#[test]
fn segments_follow_one_another_without_a_gap() {
    require_ffmpeg();
    let directory = tempfile::tempdir().unwrap();
    let origin = origin(directory.path(), "dvr_plan segment; dvr_duration 1;");
    assert!(publish_to(&origin.url("live/s")).wait().success());
    let files = files(directory.path(), 2);
    let mut pictures = 0;
    for file in &files {
        pictures += decoded(&[], file.to_str().unwrap());
        assert!(probe(file, "format=start_time")[0] < 0.05);
    }
    assert_eq!(pictures, PICTURES);
    // They can be joined again.
    let list = directory.path().join("list");
    let lines: Vec<_> = files
        .iter()
        .map(|file| format!("file '{}'\n", file.display()))
        .collect();
    std::fs::write(&list, lines.concat()).unwrap();
    let joined = directory.path().join("joined.mp4");
    let mut command = Command::new("ffmpeg");
    command.args([
        "-nostdin",
        "-loglevel",
        "error",
        "-f",
        "concat",
        "-safe",
        "0",
        "-i",
    ]);
    command.arg(&list).args(["-c", "copy"]).arg(&joined);
    output(&mut command);
    assert_is_the_stream(&joined);
}

#[test]
fn a_session_is_one_mp4_file_with_every_picture() {
    require_ffmpeg();
    let directory = tempfile::tempdir().unwrap();
    let origin = recording(directory.path(), "mp4", "");
    assert!(publish_to(&origin.url("live/s")).wait().success());
    let files = files(directory.path(), 1);
    assert_eq!(files[0].extension().unwrap(), "mp4");
    assert_is_the_stream(&files[0]);
    let values = probe(&files[0], "format=start_time,duration");
    assert!(values[0] < 0.1, "it begins at 0: {values:?}");
    assert!((1.9..2.2).contains(&values[1]), "{values:?}");
    let bytes = std::fs::read(&files[0]).unwrap();
    assert_eq!(&bytes[4..8], b"ftyp");
    // With 5 GB, which take no room, before the second fragment.
    let first = end_of_first_fragment(&bytes);
    let large = directory.path().join("large.mp4");
    let file = std::fs::File::create(&large).unwrap();
    let hole = 5_u64 << 30;
    // A box of 64 bits (ISO/IEC 14496-12 §4.2).
    let head = [&[0, 0, 0, 1][..], b"free", &hole.to_be_bytes()].concat();
    file.write_all_at(&bytes[..first], 0).unwrap();
    file.write_all_at(&head, first as u64).unwrap();
    file.write_all_at(&bytes[first..], first as u64 + hole)
        .unwrap();
    assert_is_the_stream(&large);
}

/// Offset behind the first `mdat`.
fn end_of_first_fragment(bytes: &[u8]) -> usize {
    let mut end = 0;
    loop {
        let size = u32::from_be_bytes(bytes[end..end + 4].try_into().unwrap()) as usize;
        let is_data = &bytes[end + 4..end + 8] == b"mdat";
        end += size;
        if is_data {
            return end;
        }
    }
}

#[test]
fn segments_in_mp4_follow_one_another_without_a_gap() {
    require_ffmpeg();
    let directory = tempfile::tempdir().unwrap();
    let dvr = "dvr_plan segment; dvr_duration 1; dvr_wait_keyframe off;";
    let origin = recording(directory.path(), "mp4", dvr);
    assert!(publish_to(&origin.url("live/s")).wait().success());
    let files = files(directory.path(), 2);
    let mut pictures = 0;
    for file in &files {
        pictures += decoded(&[], file.to_str().unwrap());
        let values = probe(file, "format=start_time,duration");
        assert!(values[0] < 0.1, "{values:?}");
        assert!((0.9..1.2).contains(&values[1]), "{values:?}");
    }
    assert_eq!(pictures, PICTURES);
}

#[test]
fn pictures_without_sound_and_out_of_order_are_recorded_in_mp4() {
    require_ffmpeg();
    let directory = tempfile::tempdir().unwrap();
    let origin = recording(directory.path(), "mp4", "");
    let mut command = Command::new("ffmpeg");
    command
        .args(["-nostdin", "-hide_banner", "-loglevel", "error"])
        .args([
            "-re",
            "-f",
            "lavfi",
            "-i",
            "testsrc2=size=160x120:rate=25",
            "-t",
            "2",
        ])
        .args([
            "-c:v",
            "libx264",
            "-preset",
            "ultrafast",
            "-g",
            "25",
            "-bf",
            "2",
        ])
        .args(["-f", "flv", &origin.url("live/s")]);
    output(&mut command);
    let files = files(directory.path(), 1);
    assert_eq!(decoded(&[], files[0].to_str().unwrap()), PICTURES);
}
