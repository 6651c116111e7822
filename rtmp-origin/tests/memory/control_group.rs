//! A control group with a limit of memory, of either version (cgroups(7)).

use std::fs;
use std::path::{Path, PathBuf};

/// A group of its own, which goes with this.
pub(crate) struct ControlGroup {
    directory: PathBuf,
    is_version_2: bool,
}

impl ControlGroup {
    /// A group whose processes may take `bytes` together.
    ///
    /// # Errors
    /// The reason why there is none here.
    pub(crate) fn new(bytes: u64) -> Result<Self, String> {
        let mounts = fs::read_to_string("/proc/self/mounts").map_err(|error| error.to_string())?;
        let (root, is_version_2) = hierarchy(&mounts)
            .ok_or("no hierarchy of control groups governs memory here (cgroup2, or memory)")?;
        let directory = root.join(format!("millrace-memory-{}", std::process::id()));
        let cannot = |error| format!("{}: {error} (root is needed)", directory.display());
        fs::create_dir(&directory).map_err(cannot)?;
        let group = Self {
            directory,
            is_version_2,
        };
        let limit = group.directory.join(if is_version_2 {
            "memory.max"
        } else {
            "memory.limit_in_bytes"
        });
        fs::write(&limit, bytes.to_string())
            .map_err(|error| format!("{}: {error}", limit.display()))?;
        // What is swapped out would not count.
        for swap in ["memory.swap.max", "memory.swappiness"] {
            let file = group.directory.join(swap);
            if file.exists() {
                fs::write(&file, "0").map_err(|error| format!("{}: {error}", file.display()))?;
            }
        }
        Ok(group)
    }

    /// The file that a process enters the group by.
    pub(crate) fn processes(&self) -> PathBuf {
        self.directory.join("cgroup.procs")
    }

    /// The most bytes that the group has taken, as far as the kernel says.
    pub(crate) fn most_used(&self) -> u64 {
        let file = if self.is_version_2 {
            "memory.peak"
        } else {
            "memory.max_usage_in_bytes"
        };
        let text = fs::read_to_string(self.directory.join(file)).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        // A process that was killed is in it for a moment more.
        for _ in 0..1_000 {
            if fs::remove_dir(&self.directory).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

/// The mount point of the hierarchy that governs memory; true for version 2.
fn hierarchy(mounts: &str) -> Option<(PathBuf, bool)> {
    let found = |wanted: fn(&str, &str, &Path) -> bool| {
        mounts.lines().find_map(|line| {
            let mut words = line.split(' ').skip(1);
            let (point, kind, options) = (words.next()?, words.next()?, words.next()?);
            let point = Path::new(point);
            wanted(kind, options, point).then(|| point.to_owned())
        })
    };
    let version_2 = found(|kind, _, point| {
        let file = point.join("cgroup.subtree_control");
        let controllers = fs::read_to_string(file).unwrap_or_default();
        kind == "cgroup2" && controllers.split_whitespace().any(|word| word == "memory")
    });
    let version_1 = || {
        found(|kind, options, _| {
            kind == "cgroup" && options.split(',').any(|word| word == "memory")
        })
    };
    version_2
        .map(|root| (root, true))
        .or_else(|| version_1().map(|root| (root, false)))
}
