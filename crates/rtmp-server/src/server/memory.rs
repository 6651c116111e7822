//! The memory that the streams may take: a share of the machine's, or of our control
//! group's limit.

use std::fs;
use std::path::{Path, PathBuf};

use crate::stream::memory::Holding;

/// Divisor for the memory of all streams without `stream_memory`: half of what there
/// is. The other half is for socket buffers, the players, and the machine.
const SHARE_OF_STREAMS: u64 = 2;
/// Divisor for the incomplete messages of connections: a quarter of the streams'
/// memory. The rest is for logs.
const SHARE_OF_MESSAGES: u64 = 4;

/// Memory of the streams by use, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StreamMemory {
    /// For the logs of all streams.
    pub(super) logs: u64,
    /// For the incomplete messages of all connections.
    pub(super) messages: u64,
}

impl StreamMemory {
    /// Divides `bytes`, or without them half of the memory that the process may
    /// take.
    pub(super) fn new(bytes: Option<u64>) -> Self {
        let bytes = bytes.unwrap_or_else(|| available(Path::new("/")) / SHARE_OF_STREAMS);
        let messages = bytes / SHARE_OF_MESSAGES;
        Self {
            logs: bytes - messages,
            messages,
        }
    }
}

/// Bytes of incomplete messages that a connection may hold in any case: a picture of
/// usual size.
const MIN_ALLOWED_BYTES: u64 = 256 << 10;

/// Returns true if a connection must end for its incomplete messages: the memory for
/// all is used up, and it has more than its share.
pub(super) fn exceeds_memory_share(held: &Holding) -> bool {
    let pool = held.pool();
    pool.is_exhausted() && held.bytes() > pool.share().max(MIN_ALLOWED_BYTES)
}

/// Memory that this process may take, in bytes; `u64::MAX` if the kernel does not
/// say. `root` is the directory that holds `/proc` and `/sys`.
fn available(root: &Path) -> u64 {
    let machine = fs::read_to_string(root.join("proc/meminfo"))
        .ok()
        .and_then(|text| total(&text));
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let mounts = fs::read_to_string(root.join("proc/self/mountinfo")).unwrap_or_default();
    let limits = mounts.lines().filter_map(CgroupMount::parse);
    let limits = limits.filter_map(|mount| mount.limit(root, &groups));
    limits.chain(machine).min().unwrap_or(u64::MAX)
}

/// `MemTotal:       24600000 kB` of `/proc/meminfo`, in bytes.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes << 10)
}

/// A mount of the control groups that govern memory (cgroups(7)).
#[derive(Debug, PartialEq, Eq)]
struct CgroupMount<'a> {
    /// The mount point.
    point: &'a str,
    /// The group that the mount point shows.
    top: &'a str,
    is_version_2: bool,
}

impl<'a> CgroupMount<'a> {
    /// Reads a line of `/proc/self/mountinfo` (proc(5)):
    /// `35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory`.
    fn parse(line: &'a str) -> Option<Self> {
        let (mount, system) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(3);
        let (top, point) = (mount.next()?, mount.next()?);
        let mut system = system.split(' ');
        let is_version_2 = match system.next()? {
            "cgroup2" => true,
            "cgroup" if system.nth(1)?.split(',').any(|word| word == "memory") => false,
            _ => return None,
        };
        Some(Self {
            point,
            top,
            is_version_2,
        })
    }

    /// The lowest limit of our group here and of those above it; `groups` is
    /// what `/proc/self/cgroup` says.
    fn limit(&self, root: &Path, groups: &str) -> Option<u64> {
        let ours = groups.lines().find_map(|line| {
            let mut words = line.splitn(3, ':').skip(1);
            let (controllers, path) = (words.next()?, words.next()?);
            let found = if self.is_version_2 {
                controllers.is_empty()
            } else {
                controllers.split(',').any(|word| word == "memory")
            };
            found.then_some(path)
        })?;
        // In a container the group's path may be the host's, and the mount begins at
        // that very group.
        let below = Path::new(ours)
            .strip_prefix(self.top)
            .unwrap_or(Path::new(""));
        let top = root.join(self.point.trim_start_matches('/'));
        let files: &[&str] = if self.is_version_2 {
            &["memory.max", "memory.high"]
        } else {
            &["memory.limit_in_bytes"]
        };
        let above = below.ancestors().map(|group| top.join(group));
        let files = above.flat_map(|group: PathBuf| files.iter().map(move |file| group.join(file)));
        // `max` is no limit, and no number.
        let limits = files.filter_map(|file| fs::read_to_string(file).ok()?.trim().parse().ok());
        limits.min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A root directory with these files.
    fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    const MEMINFO: (&str, &str) = ("proc/meminfo", "MemTotal:        1000 kB\nMemFree: 1 kB\n");
    const VERSION_1: &str = "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
                             36 31 0:33 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n";
    const VERSION_2: &str =
        "30 23 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";

    #[test]
    fn without_control_groups_the_machines_memory_counts() {
        assert_eq!(available(root(&[MEMINFO]).path()), 1_000 << 10);
        assert_eq!(available(root(&[]).path()), u64::MAX);
    }

    #[test]
    fn the_lowest_limit_on_the_way_to_our_group_counts() {
        for (max, of_slice, of_service, expected) in [
            ("max", "max", "max", 1_000 << 10),
            ("max", "max", "5000", 5_000),
            ("max", "4000", "5000", 4_000),
            ("9999999999", "max", "max", 1_000 << 10),
        ] {
            let root = root(&[
                MEMINFO,
                ("proc/self/mountinfo", VERSION_2),
                ("proc/self/cgroup", "0::/a.slice/b.service\n"),
                ("sys/fs/cgroup/memory.max", max),
                ("sys/fs/cgroup/a.slice/memory.max", of_slice),
                ("sys/fs/cgroup/a.slice/b.service/memory.max", of_service),
            ]);
            assert_eq!(available(root.path()), expected);
        }
    }

    #[test]
    fn a_group_that_is_slowed_down_before_its_limit_has_that_much_only() {
        let root = root(&[
            MEMINFO,
            ("proc/self/mountinfo", VERSION_2),
            ("proc/self/cgroup", "0::/\n"),
            ("sys/fs/cgroup/memory.max", "6000"),
            ("sys/fs/cgroup/memory.high", "5000"),
        ]);
        assert_eq!(available(root.path()), 5_000);
    }

    #[test]
    fn version_1_has_a_mount_for_memory() {
        let root = root(&[
            MEMINFO,
            ("proc/self/mountinfo", VERSION_1),
            ("proc/self/cgroup", "5:cpu:/b\n4:memory:/docker/a\n0::/c\n"),
            (
                "sys/fs/cgroup/memory/memory.limit_in_bytes",
                "9223372036854771712",
            ),
            (
                "sys/fs/cgroup/memory/docker/a/memory.limit_in_bytes",
                "7000",
            ),
            ("sys/fs/cgroup/cpu/b/memory.limit_in_bytes", "1"),
        ]);
        assert_eq!(available(root.path()), 7_000);
    }

    #[test]
    fn in_a_container_the_mount_is_our_group() {
        let mounts = "35 31 0:32 /docker/a /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n";
        let root = root(&[
            MEMINFO,
            ("proc/self/mountinfo", mounts),
            ("proc/self/cgroup", "4:memory:/docker/a\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "7000"),
        ]);
        assert_eq!(available(root.path()), 7_000);
    }

    #[test]
    fn a_quarter_is_for_unfinished_messages() {
        let memory = StreamMemory::new(Some(400));
        assert_eq!((memory.logs, memory.messages), (300, 100));
        let memory = StreamMemory::new(None);
        assert!(memory.messages > 0 && memory.logs < u64::MAX);
    }
}
