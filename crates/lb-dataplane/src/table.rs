//! A hash table of the kernel's that many threads may use, read in batches.
//!
//! aya reads an entry with two system calls. A table of a million connections
//! is read with a few hundred by `BPF_MAP_LOOKUP_BATCH` (bpf(2), Linux 5.6),
//! which goes from bucket to bucket and so has a place to go on from, too.

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

use aya::maps::{HashMap, Map, MapData};
use aya::{Ebpf, Pod};
use nix::libc;

use super::error::Error;
use super::map_io::read;

/// A table of `K` and `V`.
#[derive(Debug)]
pub(crate) struct Table<K, V> {
    name: &'static str,
    fd: OwnedFd,
    entries: PhantomData<fn(K) -> V>,
}

/// Number of the bucket at which a walk through a table goes on.
///
/// While other entries come and go, an entry that stays is returned exactly once.
pub(crate) type Bucket = u32;

/// The treatment of an entry that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Overwrite {
    /// It is replaced.
    Yes,
    /// It stays: it is newer.
    No,
}

/// Entries that one system call reads at most.
pub(crate) const BATCH: usize = 4096;

impl<K: Pod, V: Pod> Table<K, V> {
    /// Takes the table out of a loaded object.
    pub(crate) fn take(ebpf: &mut Ebpf, name: &'static str) -> Result<Self, Error> {
        let map = ebpf
            .take_map(name)
            .expect("the embedded object has all maps of lb_abi::maps");
        Self::of(name, &map)
    }

    /// The table `map`, which may be closed after that.
    pub(crate) fn of(name: &'static str, map: &Map) -> Result<Self, Error> {
        // Checks the sizes of key and value.
        read(name, HashMap::<&MapData, K, V>::try_from(map))?;
        let (Map::LruHashMap(data) | Map::HashMap(data)) = map else {
            unreachable!("aya has taken it for a hash table");
        };
        let fd = data.fd().as_fd().try_clone_to_owned();
        Ok(Self {
            name,
            fd: fd.map_err(|error| failed("read", name, error))?,
            entries: PhantomData,
        })
    }

    /// The value of `key`, if it is there.
    ///
    /// # Errors
    ///
    /// [`Error::Map`].
    pub(crate) fn get(&self, key: &K) -> Result<Option<V>, Error> {
        let mut value = std::mem::MaybeUninit::<V>::uninit();
        let attributes = self.element(key, value.as_mut_ptr().cast());
        match bpf(BPF_MAP_LOOKUP_ELEM, attributes) {
            // SAFETY: the kernel has filled it, and any bytes are a `Pod`.
            Ok(_) => Ok(Some(unsafe { value.assume_init() })),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(failed("read", self.name, error)),
        }
    }

    /// Writes the value of `key`, which may be new.
    ///
    /// # Errors
    ///
    /// [`Error::Map`].
    pub(crate) fn insert(&self, key: &K, value: &V, overwrite: Overwrite) -> Result<(), Error> {
        const BPF_ANY: u64 = 0;
        const BPF_NOEXIST: u64 = 1;
        let attributes = ElementAttributes {
            flags: match overwrite {
                Overwrite::Yes => BPF_ANY,
                Overwrite::No => BPF_NOEXIST,
            },
            ..self.element(key, std::ptr::from_ref(value).cast_mut().cast())
        };
        match bpf(BPF_MAP_UPDATE_ELEM, attributes) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(failed("write", self.name, error))
            }
            _ => Ok(()),
        }
    }

    /// Removes the entry of `key`. The packet path may have been faster.
    ///
    /// # Errors
    ///
    /// [`Error::Map`].
    pub(crate) fn remove(&self, key: &K) -> Result<(), Error> {
        match bpf(BPF_MAP_DELETE_ELEM, self.element(key, std::ptr::null_mut())) {
            Err(error) if !is_absent(&error) => Err(failed("write", self.name, error)),
            _ => Ok(()),
        }
    }

    /// Reads the table from its beginning or from the bucket `from`, up to
    /// `batch` entries at a time.
    pub(crate) fn walk(&self, from: Option<Bucket>, batch: usize) -> Walk<'_, K, V> {
        Walk {
            table: self,
            next: Some(from),
            keys: Vec::new(),
            values: Vec::new(),
            batch: batch.max(1),
        }
    }

    /// Hands every entry to `visit`.
    ///
    /// # Errors
    ///
    /// [`Error::Map`], and what `visit` returns.
    pub(crate) fn for_each(
        &self,
        mut visit: impl FnMut(K, V) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut walk = self.walk(None, BATCH);
        while let Some(entries) = walk.next_batch()? {
            for (key, value) in entries {
                visit(key, value)?;
            }
        }
        Ok(())
    }

    fn element(&self, key: &K, value: *mut libc::c_void) -> ElementAttributes {
        ElementAttributes {
            map_fd: self.fd.as_raw_fd() as u32,
            padding: 0,
            key: std::ptr::from_ref(key) as u64,
            value: value as u64,
            flags: 0,
        }
    }
}

/// A walk through a table.
#[derive(Debug)]
pub(crate) struct Walk<'a, K, V> {
    table: &'a Table<K, V>,
    /// `None` at the end, `Some(None)` at the beginning.
    next: Option<Option<Bucket>>,
    keys: Vec<K>,
    values: Vec<V>,
    batch: usize,
}

impl<K: Pod, V: Pod> Walk<'_, K, V> {
    /// The next entries; none at all where several buckets are empty. `None`
    /// at the end.
    ///
    /// # Errors
    ///
    /// [`Error::Map`].
    pub(crate) fn next_batch(
        &mut self,
    ) -> Result<Option<impl Iterator<Item = (K, V)> + '_>, Error> {
        let Some(from) = self.next else {
            return Ok(None);
        };
        let count = loop {
            match self.read(from) {
                Ok(count) => break count,
                // The next bucket alone holds more than there is room for.
                Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => self.batch *= 2,
                Err(error) => return Err(failed("read", self.table.name, error)),
            }
        };
        // SAFETY: the kernel has filled so many, there is room for them, and
        // any bytes are a `Pod`.
        unsafe {
            self.keys.set_len(count);
            self.values.set_len(count);
        }
        Ok(Some(self.keys.drain(..).zip(self.values.drain(..))))
    }

    /// The bucket at which a later walk goes on; `None` at the end.
    pub(crate) fn position(&self) -> Option<Bucket> {
        self.next.flatten()
    }

    fn read(&mut self, from: Option<Bucket>) -> io::Result<usize> {
        self.keys.clear();
        self.values.clear();
        self.keys.reserve(self.batch);
        self.values.reserve(self.batch);
        let mut behind: Bucket = 0;
        let mut attributes = BatchAttributes {
            in_batch: from
                .as_ref()
                .map_or(0, |bucket| std::ptr::from_ref(bucket) as u64),
            out_batch: &raw mut behind as u64,
            keys: self.keys.as_mut_ptr() as u64,
            values: self.values.as_mut_ptr() as u64,
            count: self.batch as u32,
            map_fd: self.table.fd.as_raw_fd() as u32,
            element_flags: 0,
            flags: 0,
        };
        let result = bpf_in_place(BPF_MAP_LOOKUP_BATCH, &mut attributes);
        let count = attributes.count as usize;
        match result {
            Ok(_) => self.next = Some(Some(behind)),
            // The end; what there was before it has been read.
            Err(error) if is_absent(&error) => self.next = None,
            Err(error) => return Err(error),
        }
        Ok(count.min(self.batch))
    }
}

const BPF_MAP_LOOKUP_ELEM: libc::c_long = 1;
const BPF_MAP_UPDATE_ELEM: libc::c_long = 2;
const BPF_MAP_DELETE_ELEM: libc::c_long = 3;
const BPF_MAP_LOOKUP_BATCH: libc::c_long = 24;

/// `union bpf_attr` of linux/bpf.h for commands about one entry.
#[repr(C)]
struct ElementAttributes {
    map_fd: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// `union bpf_attr` for commands about many.
#[repr(C)]
struct BatchAttributes {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    element_flags: u64,
    flags: u64,
}

fn bpf<A>(command: libc::c_long, mut attributes: A) -> io::Result<libc::c_long> {
    bpf_in_place(command, &mut attributes)
}

fn bpf_in_place<A>(command: libc::c_long, attributes: &mut A) -> io::Result<libc::c_long> {
    // SAFETY: the attributes are those of the command; what they point to is
    // alive, and as large as the map's keys and values, which `take` checked.
    unsafe { super::bpf::bpf(command, attributes) }
}

fn is_absent(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENOENT)
}

fn failed(operation: &'static str, map: &'static str, source: io::Error) -> Error {
    Error::Map {
        operation,
        map,
        source,
    }
}
