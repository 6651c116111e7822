//! Walks over what the packet path remembers.

use std::collections::HashMap;
use std::time::Duration;

use aya::maps::{MapData, MapError};
use lb_common::{Address, Flow, FlowKey, FlowState, Load, Template, TemplateKey, Timeouts, maps};
use nix::time::{ClockId, clock_gettime};

use super::Error;
use super::description::timeouts;
use super::maps::{Memory, read, write};
use super::registry::{Registry, key_of};
use super::state::DesiredState;

/// What a [`Dataplane::sweep`](super::Dataplane::sweep) has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Connections removed because they were silent for too long.
    pub connections_expired: usize,
    /// Templates removed because their time was over.
    pub templates_expired: usize,
    /// Templates re-armed for connections that live but are silent.
    pub templates_rearmed: usize,
}

/// Connections and templates of one slot's current owner.
#[derive(Debug, Clone, Copy, Default)]
pub struct Census {
    /// ESTABLISHED connections, and UDP flows.
    pub active: u64,
    /// All other connections.
    pub inactive: u64,
    /// Templates.
    pub templates: u64,
}

/// The kernel side's clock, in nanoseconds.
pub fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE).expect("Linux has this clock");
    Duration::from(now).as_nanos() as u64
}

/// Counts what lives, by slot and generation.
pub fn census(memory: &Memory, timeouts: &Timeouts) -> Result<HashMap<(u32, u32), Census>, Error> {
    let now_ns = now_ns();
    let mut census: HashMap<(u32, u32), Census> = HashMap::new();
    for (name, table) in [
        (maps::FLOWS, &memory.flows),
        (maps::HALF_OPEN, &memory.half_open),
    ] {
        for (_, flow) in entries(name, table)? {
            if is_expired(&flow, timeouts, now_ns) {
                continue;
            }
            let count = census.entry((flow.server, flow.generation)).or_default();
            if is_active(&flow) {
                count.active += 1;
            } else {
                count.inactive += 1;
            }
        }
    }
    // A client that has knocked again may have a template in both tables.
    let mut templates = entries(maps::NEW_TEMPLATES, &memory.new_templates)?;
    templates.extend(entries(maps::TEMPLATES, &memory.templates)?);
    let valid: HashMap<TemplateKey, Template> = templates
        .into_iter()
        .filter(|(_, template)| template.expires_ns > now_ns)
        .collect();
    for template in valid.values() {
        census
            .entry((template.server, template.generation))
            .or_default()
            .templates += 1;
    }
    Ok(census)
}

/// Removes what is over and re-arms what a silent connection still needs.
pub fn sweep(
    desired: &DesiredState,
    registry: &Registry,
    memory: &mut Memory,
) -> Result<Swept, Error> {
    let now_ns = now_ns();
    let timeouts = timeouts(&desired.timeouts);
    let mut swept = Swept::default();
    let mut loads: HashMap<(u32, u32), Load> = HashMap::new();
    let persistence: HashMap<u16, (u64, Address)> = desired
        .services
        .iter()
        .filter_map(|service| {
            let persistence = service.persistence?;
            let number = registry.service(&key_of(service))?.number;
            let mask = Address::mask(service.address.ip(), persistence.prefix_length);
            Some((number, (persistence.timeout.as_nanos() as u64, mask)))
        })
        .collect();

    let flows = entries(maps::FLOWS, &memory.flows)?;
    for (key, flow) in &flows {
        if is_expired(flow, &timeouts, now_ns) {
            forget(maps::FLOWS, memory.flows.remove(key))?;
            swept.connections_expired += 1;
            continue;
        }
        count(&mut loads, flow);
        if is_open(flow)
            && let Some((timeout_ns, mask)) = persistence.get(&key.service)
            && rearm(memory, key, flow, *timeout_ns, mask, now_ns)?
        {
            swept.templates_rearmed += 1;
        }
    }
    for (key, flow) in entries(maps::HALF_OPEN, &memory.half_open)? {
        if is_expired(&flow, &timeouts, now_ns) {
            forget(maps::HALF_OPEN, memory.half_open.remove(&key))?;
            swept.connections_expired += 1;
        } else {
            count(&mut loads, &flow);
        }
    }
    for owner in registry.owners() {
        memory.correct_load(owner.0, loads.get(&owner).copied().unwrap_or_default())?;
    }
    for (name, table) in [
        (maps::TEMPLATES, &mut memory.templates),
        (maps::NEW_TEMPLATES, &mut memory.new_templates),
    ] {
        for (key, template) in entries(name, table)? {
            if template.expires_ns <= now_ns {
                forget(name, table.remove(&key))?;
                swept.templates_expired += 1;
            }
        }
    }
    Ok(swept)
}

fn count(loads: &mut HashMap<(u32, u32), Load>, flow: &Flow) {
    let load = loads.entry((flow.server, flow.generation)).or_default();
    if is_active(flow) {
        load.active += 1;
    } else {
        load.inactive += 1;
    }
}

fn is_active(flow: &Flow) -> bool {
    flow.state == FlowState::Established as u32 || flow.state == FlowState::Udp as u32
}

/// Extends the template of a live connection, if it is its own and less than
/// half of its time is left.
fn rearm(
    memory: &mut Memory,
    key: &FlowKey,
    flow: &Flow,
    timeout_ns: u64,
    mask: &Address,
    now_ns: u64,
) -> Result<bool, Error> {
    let key = TemplateKey {
        client: key.client.masked(mask),
        service: key.service.into(),
    };
    let own = match memory.templates.get(&key, 0) {
        Err(MapError::KeyNotFound) => return Ok(false),
        found => read(maps::TEMPLATES, found)?,
    };
    if (own.server, own.generation) != (flow.server, flow.generation)
        || own.expires_ns > now_ns + timeout_ns / 2 + timeout_ns / 8
    {
        return Ok(false);
    }
    let renewed = Template {
        expires_ns: now_ns + timeout_ns,
        ..own
    };
    write(maps::TEMPLATES, memory.templates.insert(key, renewed, 0))?;
    Ok(true)
}

/// Whether neither side has begun to close.
fn is_open(flow: &Flow) -> bool {
    [
        FlowState::SynReceived,
        FlowState::Established,
        FlowState::Udp,
    ]
    .iter()
    .any(|state| flow.state == *state as u32)
}

/// As the packet path sees it, to which `last_seen_ns` may be later than now.
fn is_expired(flow: &Flow, timeouts: &Timeouts, now_ns: u64) -> bool {
    let timeout_ns = timeouts
        .by_state_ns
        .get(flow.state as usize)
        .copied()
        .unwrap_or(0);
    now_ns.wrapping_sub(flow.last_seen_ns).cast_signed() > timeout_ns.cast_signed()
}

pub fn entries<K: aya::Pod, V: aya::Pod>(
    name: &'static str,
    table: &aya::maps::HashMap<MapData, K, V>,
) -> Result<Vec<(K, V)>, Error> {
    // An entry that goes away between its key and its value is no error.
    table
        .iter()
        .filter(|entry| !matches!(entry, Err(MapError::KeyNotFound)))
        .map(|entry| read(name, entry))
        .collect()
}

/// The packet path may have been faster.
fn forget(name: &'static str, removed: Result<(), MapError>) -> Result<(), Error> {
    match removed {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error))
            if error.io_error.kind() == std::io::ErrorKind::NotFound =>
        {
            Ok(())
        }
        other => write(name, other),
    }
}
