use std::time::Instant;

use super::*;
use crate::hand_over::Blob;

fn files(path: &Path) -> Arc<StreamFiles> {
    let key = StreamKey {
        vhost: "v".to_owned(),
        app: "live".to_owned(),
        stream: "s".to_owned(),
    };
    let config = HlsFiles {
        path: path.to_owned(),
        m3u8_file: "[stream].m3u8".to_owned(),
        ts_file: "[stream]-[seq].ts".to_owned(),
        fmp4_file: "[stream]-[seq].m4s".to_owned(),
        init_file: "[stream]-init.mp4".to_owned(),
        entry_prefix: String::new(),
        cleanup: true,
    };
    Arc::new(StreamFiles::new(
        Arc::new(key),
        config,
        None,
        Container::Fmp4,
        true,
    ))
}

#[test]
fn files_that_another_packager_has_written_stay() {
    let directory = tempfile::tempdir().unwrap();
    let (former, next) = (files(directory.path()), files(directory.path()));
    let writer = FileWriter::default();
    for (files, number) in [(&former, 1), (&next, 2)] {
        writer.register(files);
        let mut names = lock(&files.names);
        let segment = format!("s-{number}.m4s");
        for name in ["s.m3u8", "s-init.mp4", &segment] {
            std::fs::write(directory.path().join(name), "").unwrap();
        }
        names
            .initializations
            .insert(number, "s-init.mp4".to_owned());
        names.segments.insert(number, segment);
    }
    former.remove_all();
    let there = |name| directory.path().join(name).exists();
    assert!(!there("s-1.m4s"));
    assert!(there("s-2.m4s") && there("s-init.mp4") && there("s.m3u8"));
    next.remove_all();
    assert!(is_empty(directory.path()));
}

fn is_empty(directory: &Path) -> bool {
    std::fs::read_dir(directory).unwrap().next().is_none()
}

/// Files of which a segment and the playlist are there.
fn written(directory: &Path) -> Arc<StreamFiles> {
    let files = files(directory);
    for name in ["s.m3u8", "s-1.m4s"] {
        std::fs::write(directory.join(name), "").unwrap();
    }
    lock(&files.names).segments.insert(1, "s-1.m4s".to_owned());
    files
}

#[tokio::test]
async fn the_next_program_removes_what_this_one_would_have_removed() {
    let directory = tempfile::tempdir().unwrap();
    let (before, after) = (FileWriter::default(), FileWriter::default());
    let files = written(directory.path());
    let until = Instant::now() + Duration::from_secs(3600);
    let dropped = tokio::time::timeout(Duration::ZERO, before.remove_at(until, &files));
    dropped.await.unwrap_err();
    let part = Blob::of(&before.part()).unwrap();
    let mut parts: Vec<EndedFilesPart> = part.read().unwrap();
    let (then, files) = after.take_over(parts.remove(0)).unwrap();
    assert!(then > Instant::now() + Duration::from_secs(3500));
    after.remove_at(Instant::now(), &files).await;
    after.flush().await;
    assert!(is_empty(directory.path()));
    assert!(after.part().is_empty());
}

#[tokio::test]
async fn files_that_nobody_goes_on_with_are_removed_later_unless_they_are_to_stay() {
    let directory = tempfile::tempdir().unwrap();
    let writer = FileWriter::default();
    let part = Blob::of(&written(directory.path()).part()).unwrap();
    let part: FilesPart = part.read().unwrap();
    let mut staying = part.clone();
    staying.stays = true;
    assert!(writer.take_over_former(staying).is_none());
    let (until, files) = writer.take_over_former(part).unwrap();
    assert!(until > Instant::now() + Duration::from_secs(100));
    writer.remove_at(Instant::now(), &files).await;
    writer.flush().await;
    assert!(is_empty(directory.path()));
}
