//! The directory of a BPF file system in which the data plane outlives the
//! agent.
//!
//! ```text
//! millrace/set-3/FLOWS …      the maps, all of one layout
//! millrace/set-3/program      the program that works on them
//! millrace/link-2-generic     what holds the program on interface 2
//! ```
//!
//! As long as these names exist the kernel keeps what they name: the program
//! stays attached and forwards by what the maps hold, whoever loaded it. (The
//! file system takes no dots in names, which is why links go by the index of
//! their interface.)

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::xdp::XdpLink;
use aya::programs::{ProgramInfo, Xdp};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use super::bpf;
use super::error::Error;
use super::options::AttachMode;

/// The usual mount point of a BPF file system; one is mounted there if there is none.
const BPF_FILE_SYSTEM: &str = "/sys/fs/bpf";

const PROGRAM: &str = "program";
const SET: &str = "set-";
const LINK: &str = "link-";

/// The directory of the pins, with a lock on it.
#[derive(Debug)]
pub(crate) struct PinDirectory {
    path: PathBuf,
    /// Released by the kernel with the process, however that ends. `None`: the
    /// directory is only read.
    _lock: Option<Flock<File>>,
}

/// The reason why nothing can be pinned.
#[derive(Debug, thiserror::Error)]
pub enum NoPins {
    /// Another agent works there.
    #[error("{0} is another lb-user's; stop it, or choose another directory with --pins")]
    InUse(PathBuf),
    /// There is no BPF file system, or it cannot be written.
    #[error("{path}: {reason}")]
    Impossible {
        /// The directory.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
}

/// A set of pinned maps with the program that works on them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PinnedSet {
    path: PathBuf,
}

impl PinnedSet {
    /// The path at which a map is, or would be, pinned.
    pub(crate) fn map(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Makes `program` the one that works on the maps of this set.
    pub(crate) fn name_program(&self, program: &mut Xdp) -> io::Result<()> {
        let (new, name) = (self.path.join("program-new"), self.path.join(PROGRAM));
        remove_file(&new)?;
        program.pin(&new).map_err(io::Error::other)?;
        fs::rename(new, name)
    }

    fn program_id(&self) -> Option<u32> {
        let program = ProgramInfo::from_pin(self.path.join(PROGRAM)).ok()?;
        Some(program.id())
    }

    fn number(&self) -> u32 {
        let name = self.path.file_name().and_then(|name| name.to_str());
        name.and_then(|name| name.strip_prefix(SET)?.parse().ok())
            .unwrap_or_default()
    }

    /// Removes it; the kernel frees what nothing else holds.
    pub(crate) fn remove(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.path)? {
            remove_file(&entry?.path())?;
        }
        fs::remove_dir(&self.path)
    }
}

/// A pinned attachment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PinnedAttachment {
    /// Path of the pin.
    pub path: PathBuf,
    /// Index of the interface.
    pub interface_index: u32,
    /// Native or generic.
    pub mode: AttachMode,
}

impl PinnedAttachment {
    /// The attachment itself.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn open(&self) -> io::Result<XdpLink> {
        let pinned = PinnedLink::from_pin(&self.path).map_err(io::Error::other)?;
        XdpLink::try_from(FdLink::from(pinned)).map_err(io::Error::other)
    }

    fn program_id(&self) -> Option<u32> {
        let pinned = PinnedLink::from_pin(&self.path).ok()?;
        Some(FdLink::from(pinned).info().ok()?.program_id())
    }

    /// Detaches the program, whoever holds the attachment. It is detached, and
    /// the interface free for another, when this returns.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn remove(&self) -> io::Result<()> {
        bpf::detach(&self.path)?;
        remove_file(&self.path)
    }
}

impl PinDirectory {
    /// Makes the directory if it is not there, and locks it.
    pub(crate) fn open(path: &Path) -> Result<Self, NoPins> {
        let impossible = |reason: String| NoPins::Impossible {
            path: path.to_owned(),
            reason,
        };
        mount_if_missing(path).map_err(impossible)?;
        let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.map_err(|error| impossible(format!("cannot make the directory: {error}")))?;
        Self::lock(path)
    }

    /// Takes hold of the directory, if it is there.
    pub(crate) fn open_existing(path: &Path) -> Result<Option<Self>, NoPins> {
        if path.is_dir() && is_bpf(path) {
            Self::lock(path).map(Some)
        } else {
            Ok(None)
        }
    }

    /// The directory, if it is there, to be read only: it may be another's.
    pub(crate) fn look_into(path: &Path) -> Option<Self> {
        (path.is_dir() && is_bpf(path)).then(|| Self {
            path: path.to_owned(),
            _lock: None,
        })
    }

    fn lock(path: &Path) -> Result<Self, NoPins> {
        let impossible = |reason: String| NoPins::Impossible {
            path: path.to_owned(),
            reason,
        };
        let directory = File::open(path)
            .map_err(|error| impossible(format!("cannot open the directory: {error}")))?;
        match Flock::lock(directory, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Self {
                path: path.to_owned(),
                _lock: Some(lock),
            }),
            Err((_, Errno::EWOULDBLOCK)) => Err(NoPins::InUse(path.to_owned())),
            Err((_, error)) => Err(impossible(format!("cannot lock the directory: {error}"))),
        }
    }

    /// A directory for another set of maps.
    pub(crate) fn new_set(&self) -> io::Result<PinnedSet> {
        let last = self.sets()?.iter().map(PinnedSet::number).max();
        let path = self
            .path
            .join(format!("{SET}{}", last.unwrap_or_default() + 1));
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(PinnedSet { path })
    }

    /// The set of maps that packets are judged by. An agent that was killed in
    /// the middle of a replacement leaves two: the one counts whose program is
    /// attached.
    pub(crate) fn live_set(&self) -> io::Result<Option<PinnedSet>> {
        let attached: Vec<u32> = self
            .attachments()?
            .iter()
            .filter_map(PinnedAttachment::program_id)
            .collect();
        let mut complete = self.sets()?;
        complete.retain(|set| set.program_id().is_some());
        complete.sort_by_key(PinnedSet::number);
        let is_attached =
            |set: &&PinnedSet| set.program_id().is_some_and(|id| attached.contains(&id));
        let live = complete.iter().find(is_attached);
        Ok(live.or(complete.last()).cloned())
    }

    /// All sets of maps.
    pub(crate) fn sets(&self) -> io::Result<Vec<PinnedSet>> {
        let mut sets = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(SET) {
                sets.push(PinnedSet { path: entry.path() });
            }
        }
        Ok(sets)
    }

    /// All pinned attachments.
    pub(crate) fn attachments(&self) -> io::Result<Vec<PinnedAttachment>> {
        let mut attachments = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            let parts = name.and_then(|name| name.strip_prefix(LINK)?.split_once('-'));
            let Some((index, mode)) = parts else { continue };
            let mode = match mode {
                "native" => AttachMode::Native,
                _ => AttachMode::Generic,
            };
            let Ok(interface_index) = index.parse() else {
                continue;
            };
            attachments.push(PinnedAttachment {
                path,
                interface_index,
                mode,
            });
        }
        Ok(attachments)
    }

    /// Pins an attachment, so that it outlives us.
    pub(crate) fn keep(
        &self,
        link: XdpLink,
        interface_index: u32,
        mode: AttachMode,
    ) -> io::Result<XdpLink> {
        let word = match mode {
            AttachMode::Native => "native",
            AttachMode::Auto | AttachMode::Generic => "generic",
        };
        let path = self.path.join(format!("{LINK}{interface_index}-{word}"));
        let link = FdLink::try_from(link).map_err(io::Error::other)?;
        let pinned = link.pin(path).map_err(io::Error::other)?;
        XdpLink::try_from(FdLink::from(pinned)).map_err(io::Error::other)
    }

    /// Removes everything, the directory included. Says what was there.
    pub(crate) fn remove(self) -> io::Result<Vec<String>> {
        let mut removed = Vec::new();
        for attachment in self.attachments()? {
            attachment.remove()?;
            let index = attachment.interface_index;
            let name = nix::net::if_::if_indextoname(index).map_or_else(
                |_| format!("interface {index}"),
                |name| name.to_string_lossy().into_owned(),
            );
            removed.push(format!("XDP program on {name}"));
        }
        for set in self.sets()? {
            set.remove()?;
            removed.push(format!("maps in {}", set.path.display()));
        }
        fs::remove_dir(&self.path)?;
        Ok(removed)
    }
}

/// Takes away what an agent has left that no longer runs: attachments, then
/// maps. Says what was there.
///
/// # Errors
/// [`Error::PinsInUse`] while an agent works there, [`Error::Pins`] where the
/// kernel refuses.
pub fn remove_leftovers(directory: &Path) -> Result<Vec<String>, Error> {
    match PinDirectory::open_existing(directory) {
        Ok(None) => Ok(Vec::new()),
        Ok(Some(pins)) => pins.remove().map_err(|source| Error::Pins {
            operation: "remove what is pinned",
            source,
        }),
        Err(error) => Err(error.into()),
    }
}

impl From<NoPins> for Error {
    fn from(error: NoPins) -> Self {
        match error {
            NoPins::InUse(path) => Self::PinsInUse { path },
            NoPins::Impossible { .. } => Self::Pins {
                operation: "pin the data plane",
                source: io::Error::other(error),
            },
        }
    }
}

/// Sees to it that `path` is, or will be, in a BPF file system.
fn mount_if_missing(path: &Path) -> Result<(), String> {
    let Some(existing) = path.ancestors().find(|ancestor| ancestor.is_dir()) else {
        return Err("there is no such directory".to_owned());
    };
    if is_bpf(existing) {
        return Ok(());
    }
    if !path.starts_with(BPF_FILE_SYSTEM) {
        return Err(format!(
            "{} is in no BPF file system; mount one there: mount -t bpf bpf DIRECTORY",
            existing.display()
        ));
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(
        Some("bpf"),
        BPF_FILE_SYSTEM,
        Some("bpf"),
        flags,
        Some("mode=700"),
    )
    .map_err(|error| {
        format!(
            "there is no BPF file system on {BPF_FILE_SYSTEM}, and none can be mounted: {error}"
        )
    })?;
    log::info!("a BPF file system is now mounted on {BPF_FILE_SYSTEM}");
    Ok(())
}

fn is_bpf(path: &Path) -> bool {
    statfs(path).is_ok_and(|file_system| file_system.filesystem_type() == BPF_FS_MAGIC)
}

/// Removes a name that may be gone already.
fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
