//! A day in a few seconds: a file for each hour, while the clock of the machine is set back.

use super::*;

/// Distance of pictures, ms: each is a keyframe.
const DISTANCE: u32 = 4_000;
const HOUR: u32 = 3_600_000;
const PER_HOUR: usize = (HOUR / DISTANCE) as usize;

/// A configuration that can be read, unlike those of the other tests.
pub(super) const AVC: &[u8] =
    b"\x17\x00\0\0\0\x01\x42\xc0\x0a\xff\xe1\0\x04\x67\x42\xc0\x0a\x01\0\x02\x68\xce";

/// Records a day from 2026-11-29 00:00 on, in files that are named after the hour. At noon the
/// clock is set back by two hours, at the end of the day's times it is 22:00.
fn day(extension: &str) -> Scene {
    let mut scene = Scene::new(|config| {
        config.plan = DvrPlan::Segment;
        config.duration = Duration::from_millis(HOUR.into());
        let directory = config
            .path
            .trim_end_matches("[app]/[stream].flv")
            .to_owned();
        config.path = format!("{directory}[2006]/[01]/[02]/[15].{extension}");
    });
    let mut messages = headers(1);
    messages[1] = video(0, AVC);
    scene.publish(messages);
    let begin: Timestamp = "2026-11-29T00:00:00Z".parse().unwrap();
    for hour in 0..24 {
        let back = if hour < 12 { 0 } else { 2 * i64::from(HOUR) };
        for picture in 0..HOUR / DISTANCE {
            let time = hour * HOUR + picture * DISTANCE;
            let ms = begin.as_millisecond() + i64::from(time) - back;
            scene.wall = Timestamp::from_millisecond(ms).unwrap();
            scene.publish(vec![
                video(time, &[0x17, 1, 0, 0, 0, 0, 0, 0, 1, 0x65]),
                sound(time + 20),
            ]);
            scene.turn();
            scene.wait(Duration::from_millis(DISTANCE.into()));
        }
    }
    scene.end();
    scene
}

/// The names of the files that were told of, below the day's directory.
fn told(scene: &Scene) -> Vec<String> {
    let told = lock(&scene.told);
    let name = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
    told.iter().map(name).collect()
}

/// Hours, of which two come twice.
fn names(extension: &str) -> Vec<String> {
    let hours = (0..12).map(|hour| format!("{hour:02}.{extension}"));
    let again = (10..12).map(|hour| format!("{hour:02}-1.{extension}"));
    let rest = (12..22).map(|hour| format!("{hour:02}.{extension}"));
    hours.chain(again).chain(rest).collect()
}

#[test]
fn a_day_is_24_whole_files_though_the_clock_is_set_back() {
    let scene = day("flv");
    assert_eq!(told(&scene), names("flv"));
    for (hour, tags) in scene.files().iter().enumerate() {
        assert_begins_as_a_file_does(tags);
        let pictures = pictures(tags);
        assert_eq!(pictures.len(), PER_HOUR, "{hour}");
        let times = (0..HOUR).step_by(DISTANCE as usize);
        assert!(pictures.iter().map(|(time, _)| *time).eq(times), "{hour}");
    }
    let progress = scene.progress();
    assert_eq!(
        (progress.files, progress.skips, progress.failures),
        (24, 0, 0)
    );
}

/// The number of pictures in an MP4 file, which is whole: the samples of the first run of each
/// fragment whose first track is the video's.
fn pictures_of_mp4(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    let mut kinds = Vec::new();
    let mut pictures = 0;
    while !rest.is_empty() {
        let size = u32::from_be_bytes(rest[..4].try_into().unwrap()) as usize;
        let (boxed, after) = rest.split_at(size);
        let kind = &boxed[4..8];
        if kind == b"moof" {
            let at = |name: &[u8]| boxed.windows(4).position(|it| it == name).unwrap();
            let number =
                |offset: usize| u32::from_be_bytes(boxed[offset..offset + 4].try_into().unwrap());
            if number(at(b"tfhd") + 8) == 1 {
                pictures += number(at(b"trun") + 8) as usize;
            }
        }
        if !matches!(kind, b"moof" | b"mdat") {
            kinds.push(kind.to_vec());
        }
        rest = after;
    }
    assert_eq!(kinds, [b"ftyp", b"moov", b"free"]);
    pictures
}

#[test]
fn a_day_in_mp4_is_24_whole_files_too() {
    let scene = day("mp4");
    assert_eq!(told(&scene), names("mp4"));
    for path in lock(&scene.told).iter() {
        let bytes = fs::read(path).unwrap();
        assert_eq!(pictures_of_mp4(&bytes), PER_HOUR, "{}", path.display());
    }
    let progress = scene.progress();
    assert_eq!(
        (progress.files, progress.skips, progress.failures),
        (24, 0, 0)
    );
}

#[test]
fn files_that_had_to_wait_for_the_disk_have_the_times_of_their_first_pictures() {
    let mut scene = Scene::new(|config| {
        config.plan = DvrPlan::Segment;
        config.duration = Duration::from_millis(DISTANCE.into());
        config.path = config.path.replace("[app]/[stream]", "[timestamp]");
    });
    let mut messages = headers(1);
    messages[1] = video(0, AVC);
    scene.publish(messages);
    let came = [0, 1, 2, 3].map(|number| number * DISTANCE);
    for time in came {
        scene.publish(vec![video(time, &[0x17, 1, 0, 0, 0, 0, 0, 0, 1, 0x65])]);
        scene.wait(Duration::from_millis(DISTANCE.into()));
    }
    let begin = 1_796_000_000_000;
    let end = begin + i64::from(DISTANCE) * 4;
    scene.wall = Timestamp::from_millisecond(end).unwrap();
    scene.turn();
    scene.end();
    let names = came.map(|time| format!("{}.flv", begin + i64::from(time)));
    assert_eq!(told(&scene), names);
}
