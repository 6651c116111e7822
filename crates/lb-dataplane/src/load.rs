//! Loading of a data plane: new, adopted from an earlier agent, or in the place of an
//! earlier agent's.

use super::carry_over::{self, Fit, Former};
use super::interfaces::Interfaces;
use super::maps::{self, FlowTables, ServiceTableMaps};
use super::owners::Owners;
use super::pins::{NoPins, PinDirectory, PinnedSet};
use super::protection::ProtectionMaps;
use super::registry::Registry;
use super::trace::Trace;
use super::{
    Attachment, Dataplane, DesiredState, Error, Options, Origin, attach, program, remove_leftovers,
    unreadable, unwritable,
};

/// The place where the data plane is pinned.
pub(super) struct Pins {
    pub(super) directory: PinDirectory,
    pub(super) set: PinnedSet,
}

/// The program is attached after the first state, so that no packet is handled by the state
/// before that, and nobody has to wait for such packets.
pub(super) enum Unattached {
    /// There is nothing else.
    New,
    /// An earlier agent's data plane serves until then.
    Beside(Replaced),
}

/// A pinned set of maps that still serves, and is to be replaced.
pub(super) struct Replaced {
    set: PinnedSet,
    /// True if its connections and templates can be read.
    is_readable: bool,
}

impl Dataplane {
    /// Loads the program for the interfaces of `options`.
    ///
    /// A pinned data plane is adopted: the program is replaced in one step, and
    /// goes on with the same maps. If their layout or their sizes differ, the
    /// old program serves on until the first [`Dataplane::apply`].
    ///
    /// Otherwise nothing is attached before the first [`Dataplane::apply`].
    ///
    /// # Minimum kernel version
    ///
    /// 5.18; the README says what is tested.
    ///
    /// # Errors
    ///
    /// Whatever [`Error`] lists, except what concerns a desired state. Nothing
    /// new stays attached then.
    pub fn load(options: &Options) -> Result<Self, Error> {
        interfaces(options)?;
        let (directory, because) = match options.pins.as_deref().map(PinDirectory::open) {
            None => (None, None),
            Some(Ok(directory)) => (Some(directory), None),
            Some(Err(error @ NoPins::InUse(_))) => return Err(error.into()),
            Some(Err(error)) => (None, Some(error.to_string())),
        };
        let Some(directory) = directory else {
            return Self::load_new(options, None, Origin::Unpinned { because });
        };
        let live = directory.live_set().map_err(unreadable)?;
        // What an agent has left that was killed while it made or removed it.
        for set in directory.sets().map_err(unreadable)? {
            if Some(&set) != live.as_ref() {
                set.remove().map_err(unreadable)?;
            }
        }
        let Some(live) = live else {
            return Self::load_new(options, Some(directory), Origin::New);
        };
        match carry_over::fit(&live, &options.tables) {
            Fit::Exact => Self::adopt(options, directory, live),
            Fit::FlowTables { because } => {
                Self::load_beside(options, directory, live, because, true)
            }
            Fit::Nothing { because } => Self::load_beside(options, directory, live, because, false),
        }
    }

    /// Checks that [`Self::load`] and [`Self::apply`] of `desired` would succeed: that the
    /// kernel accepts the program and has memory for the maps, and that `desired` fits.
    /// Attaches nothing and pins nothing; an agent that runs goes on undisturbed.
    ///
    /// # Errors
    ///
    /// As of these two, except those of attaching.
    pub fn rehearse(options: &Options, desired: &DesiredState) -> Result<(), Error> {
        interfaces(options)?;
        let directory = options.pins.as_deref().and_then(PinDirectory::look_into);
        let origin = Origin::Unpinned { because: None };
        let found = match directory {
            Some(directory) => directory
                .live_set()
                .map_err(unreadable)?
                .map(|set| Pins { directory, set }),
            None => None,
        };
        let fit = found
            .as_ref()
            .map(|found| carry_over::fit(&found.set, &options.tables));
        let owners = match (&found, &fit) {
            (Some(found), Some(Fit::Exact | Fit::FlowTables { .. })) => {
                Some(carry_over::owners(&found.set)?)
            }
            _ => None,
        };
        let pins = found.filter(|_| fit == Some(Fit::Exact));
        let is_new = pins.is_none();
        let rehearsed = Self::with_maps(options, pins, origin, is_new, owners.as_ref())?;
        rehearsed.prepare(desired).map(drop)
    }

    /// Everything new.
    fn load_new(
        options: &Options,
        directory: Option<PinDirectory>,
        origin: Origin,
    ) -> Result<Self, Error> {
        let pins = directory.map(Pins::with_new_set).transpose()?;
        let new = Self::with_maps(options, pins, origin, true, None);
        if new.is_err()
            && let Some(path) = &options.pins
        {
            // Best effort: the first error is reported.
            let _ = remove_leftovers(path);
        }
        new
    }

    /// The maps of an earlier agent, with our program.
    fn adopt(options: &Options, directory: PinDirectory, set: PinnedSet) -> Result<Self, Error> {
        let owners = carry_over::owners(&set)?;
        let pins = Pins { directory, set };
        let mut adopted =
            Self::with_maps(options, Some(pins), Origin::Adopted, false, Some(&owners))?;
        adopted.unattached = None;
        adopted.attach_all()?;
        Ok(adopted)
    }

    /// New maps beside those of an earlier agent, which serve until the first
    /// [`Self::commit`].
    fn load_beside(
        options: &Options,
        directory: PinDirectory,
        former: PinnedSet,
        because: String,
        is_readable: bool,
    ) -> Result<Self, Error> {
        let owners = is_readable
            .then(|| carry_over::owners(&former))
            .transpose()?;
        let pins = Pins::with_new_set(directory)?;
        let origin = Origin::Replaced {
            because,
            carried_over: is_readable,
        };
        let mut new = Self::with_maps(options, Some(pins), origin, true, owners.as_ref())?;
        if is_readable {
            // What is counted from is known of these.
            carry_over::copy_counters(&former, &mut new.flow_tables)?;
        }
        new.unattached = Some(Unattached::Beside(Replaced {
            set: former,
            is_readable,
        }));
        Ok(new)
    }

    fn with_maps(
        options: &Options,
        pins: Option<Pins>,
        origin: Origin,
        new_maps: bool,
        owners: Option<&Owners>,
    ) -> Result<Self, Error> {
        let sizes = &options.tables;
        let set = pins.as_ref().map(|pins| &pins.set);
        let mut ebpf = program::load(sizes, set, options.trace)?;
        let trace = options
            .trace
            .then(|| Trace::follow(&mut ebpf))
            .transpose()?;
        if new_maps {
            maps::record_layout(&mut ebpf, program::layout())?;
        }
        Ok(Self {
            attachments: Vec::new(),
            links: Vec::new(),
            maps: ServiceTableMaps::take(&mut ebpf, new_maps)?,
            interfaces: Interfaces::take(&mut ebpf)?,
            flow_tables: FlowTables::take(&mut ebpf)?,
            protection: ProtectionMaps::take(&mut ebpf)?,
            ebpf,
            options: options.clone(),
            registry: owners.map_or_else(|| Registry::new(sizes), |owners| owners.registry(sizes)),
            desired: DesiredState::default(),
            pins,
            unattached: Some(Unattached::New),
            origin,
            _trace: trace,
        })
    }

    /// Attaches the program to all interfaces, or to none.
    pub(super) fn attach_new(&mut self) -> Result<(), Error> {
        let attached = self.attach_all();
        if attached.is_err() {
            self.detach_all();
            self.unattached = Some(Unattached::New);
        }
        attached
    }

    /// Best effort: there is an error to report already.
    fn detach_all(&mut self) {
        self.links.clear();
        self.attachments.clear();
        let pinned = self.pins.as_ref().map(|pins| pins.directory.attachments());
        for attachment in pinned.and_then(Result::ok).into_iter().flatten() {
            let _ = attachment.remove();
        }
    }

    /// Attaches the program to all interfaces, and detaches it from those that are
    /// no longer asked for.
    fn attach_all(&mut self) -> Result<(), Error> {
        // Before there are frames: they are compared with these addresses.
        let interfaces = interfaces(&self.options)?;
        self.interfaces.update(interfaces.into_iter())?;
        let xdp = program::program(&mut self.ebpf);
        if let Some(pins) = &self.pins {
            // From here on the set is complete. After a crash the attached program shows an
            // agent which of two sets is in use.
            pins.set.name_program(xdp).map_err(unwritable)?;
        }
        let directory = self.pins.as_ref().map(|pins| &pins.directory);
        for interface in &self.options.interfaces {
            let (attachment, link) = attach::attach(xdp, interface, self.options.mode, directory)?;
            self.attachments.push(attachment);
            self.links.push(Some(link));
        }
        let Some(pins) = &self.pins else {
            return Ok(());
        };
        for found in pins.directory.attachments().map_err(unreadable)? {
            let wanted = |known: &Attachment| known.interface_index == found.interface_index;
            if !self.attachments.iter().any(wanted) {
                found.remove().map_err(unwritable)?;
            }
        }
        Ok(())
    }

    /// Has packets handled with our maps in place of an earlier agent's.
    pub(super) fn replace_pinned(&mut self, replaced: &Replaced) -> Result<(), Error> {
        let mut former = None;
        if replaced.is_readable {
            carry_over::copy_counters(&replaced.set, &mut self.flow_tables)?;
            let former = former.insert(Former::open(&replaced.set, self.options.tables)?);
            let carried = former.copy(&mut self.flow_tables)?;
            // What has changed during the first copy; that takes less time.
            former.copy(&mut self.flow_tables)?;
            log::info!("{carried} connection(s) carried over");
        }
        self.attach_all()?;
        maps::wait_for_packets_in_flight();
        if let Some(mut former) = former {
            former.copy_the_rest(&mut self.flow_tables)?;
            let (_, counts) = self.conntrack_snapshot().sweep()?;
            self.correct_loads(&counts)?;
            carry_over::copy_full(&replaced.set, &mut self.flow_tables)?;
        }
        replaced.set.remove().map_err(unwritable)
    }
}

/// Indices and names of the interfaces; an error if one does not exist.
fn interfaces(options: &Options) -> Result<Vec<(u32, &str)>, Error> {
    let names = options.interfaces.iter().map(String::as_str);
    names
        .map(|name| Ok((attach::index_of(name)?, name)))
        .collect()
}

impl Pins {
    fn with_new_set(directory: PinDirectory) -> Result<Self, Error> {
        let set = directory.new_set().map_err(unwritable)?;
        Ok(Self { directory, set })
    }
}
