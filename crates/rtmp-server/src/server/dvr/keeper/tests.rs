use std::fs::File;
use std::os::unix::fs::symlink;
use std::sync::atomic::Ordering;

use super::*;
use crate::config::{self, Role};
use crate::server::dvr::flv;
use crate::stream::PerTrack;

const HOUR: Duration = Duration::from_secs(3_600);
const NAMES: &str = "[app]/[stream].[timestamp].flv";

/// A directory with files of this age in hours and this length.
struct Files {
    directory: tempfile::TempDir,
    now: SystemTime,
}

impl Files {
    fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            now: SystemTime::now(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn add(&self, name: &str, hours: u32, bytes: &[u8], length: u64) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        if length > 0 {
            file.set_len(length).unwrap();
        }
        file.set_modified(self.now - HOUR * hours).unwrap();
    }

    /// Vhosts with these `dvr_path`s below the directory and these directives.
    fn owners(&self, vhosts: &[(&str, &str)]) -> Vec<Arc<Vhost>> {
        let vhosts = vhosts.iter().enumerate();
        let text: String = vhosts
            .map(|(number, (names, directives))| {
                let path = self.path(names);
                format!(
                    "vhost v{number} {{ dvr {{ enabled on; dvr_path {}; {directives} }} }}\n",
                    path.display()
                )
            })
            .collect();
        let config = config::load(&text, Role::Origin);
        owners(&config.unwrap().config, &HashSet::new())
    }

    fn look(&self, vhosts: &[(&str, &str)]) -> (Look, Vec<Arc<Base>>) {
        let owners = self.owners(vhosts);
        let directories = owners.iter().map(|it| base_directory(&it.dvr.path));
        let new = |it: PathBuf| (it.clone(), Arc::new(Base::new(it)));
        let bases: HashMap<_, _> = directories.map(new).collect();
        for base in bases.values() {
            base.resolve();
        }
        let look = Look {
            claims: claims(&owners, &bases),
            started: self.now,
            is_patient: true,
            totals: Arc::default(),
        };
        (look, bases.into_values().collect())
    }

    fn look_after(&self, vhosts: &[(&str, &str)]) -> Arc<DvrTotals> {
        let (look, bases) = self.look(vhosts);
        for base in &bases {
            look.at(base, self.now, MAX_FILES);
        }
        look.totals.clone()
    }

    fn has(&self, name: &str) -> bool {
        self.path(name).exists()
    }
}

fn own() -> Vec<u8> {
    flv::beginning(PerTrack::BOTH, None)
}

/// An unfinished recording with one tag.
fn unfinished() -> Vec<u8> {
    let mut bytes = own();
    let kind = http_flv::tag::TagKind::Audio;
    http_flv::tag::write_tag(kind, 20, b"\xaf\x01sound", &mut bytes);
    bytes
}

fn removed(totals: &DvrTotals) -> u64 {
    totals.removed_files.load(Ordering::Relaxed)
}

#[test]
fn files_are_removed_by_age_and_only_our_own_finished_ones() {
    let files = Files::new();
    files.add("old/s.1.flv", 30, &own(), 0);
    files.add("live/s.2.flv", 30, &own(), 0);
    files.add("live/s.3.flv", 20, &own(), 0);
    files.add("live/other.4.flv", 99, b"FLV of another", 0);
    files.add("live/notes.txt", 99, &own(), 0);
    files.add("live/s.5.mp4", 99, &own(), 0);
    symlink(files.path("live/notes.txt"), files.path("live/s.6.flv")).unwrap();
    files.add("live/s.7.flv.tmp", 99, &own(), 0);
    let written = File::open(files.path("live/s.7.flv.tmp")).unwrap();
    written.try_lock().unwrap();
    let totals = files.look_after(&[(NAMES, "dvr_keep 1d;")]);
    assert!(!files.has("live/s.2.flv"));
    assert!(!files.has("old"), "it is empty");
    for kept in [
        "live/s.3.flv",
        "live/other.4.flv",
        "live/notes.txt",
        "live/s.5.mp4",
        "live/s.6.flv",
        "live/s.7.flv.tmp",
    ] {
        assert!(files.has(kept), "{kept}");
    }
    assert_eq!(removed(&totals), 2);
}

#[test]
fn the_oldest_files_go_that_are_too_much() {
    let files = Files::new();
    for (number, hours) in [(1, 3), (2, 1), (3, 2), (4, 4)] {
        files.add(&format!("live/s.{number}.flv"), hours, &own(), 1_000_000);
    }
    // Newer than ours, and as large: no reason for ours to go.
    files.add("live/film.5.flv", 0, b"FLV of another", 9_000_000);
    let totals = files.look_after(&[(NAMES, "dvr_keep_bytes 2500000;")]);
    let left = [1, 2, 3, 4].map(|number| files.has(&format!("live/s.{number}.flv")));
    assert_eq!(left, [false, true, true, false]);
    assert_eq!(totals.removed_bytes.load(Ordering::Relaxed), 2_000_000);
    // What is kept without limits is not looked at.
    files.look_after(&[(NAMES, "")]);
    assert!(files.has("live/s.2.flv") && files.has("live/film.5.flv"));
}

#[test]
fn a_mark_is_looked_for_once_and_again_after_a_change() {
    let files = Files::new();
    let (look, bases) = files.look(&[(NAMES, "dvr_keep_bytes 1500;")]);
    let memory = &mut *lock(&bases[0].memory);
    let path = files.path("live/s.1.flv");
    for (hours, bytes, counts) in [
        (2, own(), true),
        // The same time: it is not read.
        (2, b"another's".to_vec(), true),
        (1, b"another's".to_vec(), false),
    ] {
        files.add("live/s.1.flv", hours, &bytes, 2_000);
        let mut retention = Retention::new(&look.claims, memory);
        let metadata = path.metadata().unwrap();
        retention.take(&path, &metadata, vec![0], files.now);
        let asked = std::cell::Cell::new(false);
        let remove = |_: &Path| {
            asked.set(true);
            Ok(false)
        };
        retention.remove_excess(files.directory.path(), files.now, &look.totals, &remove);
        assert_eq!(asked.get(), counts, "{hours}");
    }
}

#[test]
fn a_file_of_the_future_is_not_too_old() {
    let files = Files::new();
    files.add("live/s.1.flv", 0, &own(), 0);
    let file = File::options().write(true).open(files.path("live/s.1.flv"));
    file.unwrap().set_modified(files.now + 48 * HOUR).unwrap();
    files.look_after(&[(NAMES, "dvr_keep 1h;")]);
    assert!(files.has("live/s.1.flv"));
}

#[test]
fn a_file_that_cannot_be_removed_costs_no_other_one() {
    let files = Files::new();
    for number in 1..5 {
        files.add(
            &format!("live/s.{number}.flv"),
            9 - number,
            &own(),
            1_000_000,
        );
    }
    let (look, bases) = files.look(&[(NAMES, "dvr_keep_bytes 3500000;")]);
    let memory = &mut *lock(&bases[0].memory);
    let mut retention = Retention::new(&look.claims, memory);
    for number in 1..5 {
        let path = files.path(&format!("live/s.{number}.flv"));
        let metadata = path.metadata().unwrap();
        retention.take(&path, &metadata, vec![0], files.now);
    }
    let asked = std::cell::RefCell::new(Vec::new());
    let remove = |path: &Path| {
        asked.borrow_mut().push(path.to_owned());
        Err(io::ErrorKind::PermissionDenied.into())
    };
    retention.remove_excess(files.directory.path(), files.now, &look.totals, &remove);
    assert_eq!(*asked.borrow(), [files.path("live/s.1.flv")]);
    assert_eq!(look.totals.failures.load(Ordering::Relaxed), 1);
}

#[test]
fn a_file_that_several_vhosts_name_stays_as_long_as_the_longest_says() {
    const ARCHIVE: &str = "archive/[app]/[stream].[timestamp].flv";
    const KEEP: (&str, &str) = (NAMES, "dvr_keep 1d;");
    for (others, is_archived) in [
        (vec![(ARCHIVE, "")], true),
        (vec![(ARCHIVE, "dvr_keep 7d;")], true),
        (vec![(ARCHIVE, "dvr_keep 25h;")], false),
        (vec![("other/[stream].[timestamp].flv", "")], false),
        // The same path, and vhosts between.
        (vec![(NAMES, "dvr_keep 2d;"), (NAMES, "dvr_keep 7d;")], true),
        (vec![(NAMES, "dvr_keep 2d;"), (NAMES, "")], true),
        (vec![(NAMES, "dvr_keep_bytes 1;")], false),
        (vec![(NAMES, "dvr_keep_bytes 1G;")], true),
    ] {
        let files = Files::new();
        files.add("archive/live/s.1.flv", 100, &own(), 0);
        let mut vhosts = vec![KEEP];
        vhosts.extend(others);
        files.look_after(&vhosts);
        assert_eq!(files.has("archive/live/s.1.flv"), is_archived, "{vhosts:?}");
        vhosts.reverse();
        files.add("archive/live/s.1.flv", 100, &own(), 0);
        files.look_after(&vhosts);
        assert_eq!(files.has("archive/live/s.1.flv"), is_archived, "{vhosts:?}");
    }
}

#[test]
fn what_another_vhost_keeps_for_ever_takes_no_room_of_ones_own() {
    let files = Files::new();
    files.add("archive/live/s.1.flv", 1, &own(), 5_000_000);
    files.add("live/s.2.flv", 5, &own(), 1_000_000);
    let archive = ("archive/[app]/[stream].[timestamp].flv", "");
    files.look_after(&[(NAMES, "dvr_keep_bytes 1500000;"), archive]);
    assert!(files.has("live/s.2.flv") && files.has("archive/live/s.1.flv"));
}

#[test]
fn links_to_directories_are_followed_once() {
    let files = Files::new();
    let disk = Files::new();
    disk.add("live/s.1.flv", 30, &own(), 0);
    disk.add("live/s.2.flv.tmp", 30, &unfinished(), 0);
    symlink(disk.path("live"), files.path("live")).unwrap();
    symlink(files.path(""), disk.path("live/circle")).unwrap();
    files.add("other/s.3.flv", 30, &own(), 0);
    symlink(files.path("other"), files.path("again")).unwrap();
    let totals = files.look_after(&[(NAMES, "dvr_keep 1d;")]);
    assert!(!disk.has("live/s.1.flv") && !files.has("other/s.3.flv"));
    assert!(disk.has("live/s.2.flv"), "it is finished");
    assert_eq!(removed(&totals), 2);
    assert_eq!(totals.failures.load(Ordering::Relaxed), 0);
}

#[test]
fn another_vhosts_files_behind_a_link_are_its_own() {
    let files = Files::new();
    files.add("disk/live/s.1.flv", 99, &own(), 0);
    std::fs::create_dir(files.path("records")).unwrap();
    symlink(files.path("disk/live"), files.path("records/live")).unwrap();
    let keeps = [
        ("records/[app]/[stream].[timestamp].flv", "dvr_keep 1d;"),
        ("disk/[app]/[stream].[timestamp].flv", ""),
    ];
    files.look_after(&keeps);
    assert!(files.has("disk/live/s.1.flv"));
    // While nobody knows where that directory lies, nothing goes.
    let (look, bases) = files.look(&keeps);
    for base in &bases {
        *lock(&base.real) = None;
    }
    let records = bases.iter().find(|it| it.directory.ends_with("records"));
    look.at(records.unwrap(), files.now, MAX_FILES);
    assert!(files.has("disk/live/s.1.flv"));
}

#[test]
fn the_first_files_are_looked_after_where_there_are_too_many() {
    let files = Files::new();
    for number in 0..9 {
        files.add(&format!("live/s.{number}.flv"), 30, &own(), 0);
    }
    let (look, bases) = files.look(&[(NAMES, "dvr_keep 1d;")]);
    look.at(&bases[0], files.now, 5);
    assert_eq!(removed(&look.totals), 4, "and a directory");
    assert!(lock(&bases[0].memory).has_said_too_many);
    look.at(&bases[0], files.now, 5);
    look.at(&bases[0], files.now, 5);
    assert_eq!(removed(&look.totals), 9);
}

#[test]
fn a_directory_is_looked_at_each_minute_or_hour_and_again_after_a_panic() {
    let base = Arc::new(Base::new("/nowhere".into()));
    let now = Instant::now();
    let minute = Duration::from_secs(60);
    assert!(base.begin(false, now));
    assert!(
        !base.begin(false, now + 2 * minute),
        "it is being looked at"
    );
    let running = Running(base.clone());
    let thread = std::thread::spawn(move || {
        let _running = running;
        panic!("a look that fails");
    });
    thread.join().unwrap_err();
    assert!(!base.is_busy());
    assert!(
        !base.begin(false, now + 2 * minute),
        "all are kept for ever"
    );
    assert!(base.begin(true, now + 2 * minute), "no longer");
    drop(Running(base.clone()));
    assert!(!base.begin(true, now + 2 * minute));
    assert!(base.begin(true, now + 3 * minute));
    // It hangs.
    assert!(!base.begin(true, now + 12 * minute));
    assert!(!lock(&base.turn).has_warned);
    assert!(!base.begin(true, now + 13 * minute));
    assert!(lock(&base.turn).has_warned);
}

#[test]
fn a_directory_that_hangs_holds_up_no_other_one() {
    let files = Files::new();
    files.add("live/a/s.1.flv", 30, &own(), 0);
    let owners = files.owners(&[
        ("live/a/[stream].[timestamp].flv", "dvr_keep 1d;"),
        ("hangs/[stream].[timestamp].flv", "dvr_keep 1d;"),
    ]);
    let keeper = Keeper::default();
    let hanging = Arc::new(Base::new(base_directory(&owners[1].dvr.path)));
    hanging.resolve();
    lock(&hanging.turn).since = Some(Instant::now());
    lock(&keeper.bases).insert(hanging.directory.clone(), hanging);
    let totals = Arc::<DvrTotals>::default();
    keeper.sweep(&owners, &totals, Instant::now());
    let end = Instant::now() + Duration::from_secs(60);
    while files.has("live/a/s.1.flv") && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(!files.has("live/a/s.1.flv"));
}
