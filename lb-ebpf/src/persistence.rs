//! A client's connections stick to one server.
//!
//! A template is born beside a half-open connection, in a table that a flood
//! of SYNs may churn, and moves to the lasting table when the handshake is
//! complete. From then on the connection's packets re-arm it now and then.

use lb_abi::{SERVICE_PERSISTENT, Template, TemplateKey};

use crate::maps::{NEW_TEMPLATES, TEMPLATES};
use crate::parse::Packet;
use crate::service_table::{Backend, ServiceRef, ServiceTable};

/// A live connection's packets re-arm its template this many times per
/// persistence time-out at most: a look-up in so many packets, for a template
/// that may end a quarter of its time early.
const REARMS_PER_TIMEOUT: u64 = 4;

impl ServiceRef {
    #[inline(always)]
    pub fn is_persistent(self) -> bool {
        self.has(SERVICE_PERSISTENT)
    }
}

#[inline(always)]
fn key(service: ServiceRef, packet: &Packet) -> TemplateKey {
    TemplateKey {
        client: packet.client.masked(&service.entry.persistence_mask),
        service: service.number,
    }
}

/// A valid template.
#[derive(Clone, Copy)]
pub struct StickyEntry {
    /// The server that the client sticks to.
    pub backend: Backend,
    template: *mut Template,
}

/// The template of the packet's client, if there is a valid one.
#[inline(always)]
pub fn held(
    table: ServiceTable,
    service: ServiceRef,
    packet: &Packet,
    now_ns: u64,
) -> Option<StickyEntry> {
    let key = key(service, packet);
    let valid = |template: *mut Template| {
        // SAFETY: a map value; should the kernel reuse it meanwhile, the
        // generation tells.
        let backend = unsafe { valid_server(table, &*template, now_ns) }?;
        Some(StickyEntry { backend, template })
    };
    TEMPLATES
        .get_ptr_mut(&key)
        .and_then(valid)
        .or_else(|| NEW_TEMPLATES.get_ptr_mut(&key).and_then(valid))
}

impl StickyEntry {
    /// Re-arms the template: the client has opened another connection, of which
    /// there may come no more than one packet.
    #[inline(always)]
    pub fn rearm(self, service: ServiceRef, now_ns: u64) {
        // SAFETY: as above; another client's would hold a little longer.
        unsafe { (*self.template).expires_ns = now_ns + service.entry.persistence_ns };
    }
}

/// Remembers the server of a client that has only knocked so far.
#[inline(always)]
pub fn remember(service: ServiceRef, packet: &Packet, backend: Backend, now_ns: u64) {
    let template = Template {
        expires_ns: now_ns + service.entry.persistence_ns,
        server: backend.slot,
        generation: backend.server.generation,
    };
    // The table evicts by itself; should the kernel refuse all the same, the
    // connection goes on without a template.
    let _ = NEW_TEMPLATES.insert(&key(service, packet), &template, 0);
}

/// When a template that is armed now is to be armed again.
#[inline(always)]
pub fn rearm_after(service: ServiceRef, now_ns: u64) -> u64 {
    now_ns + service.entry.persistence_ns / REARMS_PER_TIMEOUT
}

/// Re-arms the template of a client of which a packet has just been seen.
#[inline(always)]
pub fn rearm(
    table: ServiceTable,
    service: ServiceRef,
    packet: &Packet,
    backend: Backend,
    now_ns: u64,
) {
    let key = key(service, packet);
    let expires_ns = now_ns + service.entry.persistence_ns;
    let existing = TEMPLATES.get_ptr_mut(&key).and_then(|template| {
        // SAFETY: as above.
        let holds = unsafe { valid_server(table, &*template, now_ns) };
        holds.map(|holder| (template, holder))
    });
    match existing {
        // SAFETY: as above.
        Some((template, holder)) if holder.slot == backend.slot => unsafe {
            (*template).expires_ns = expires_ns;
        },
        // The client has been given another server since: that one counts.
        Some(_) => {}
        None => {
            let template = Template {
                expires_ns,
                server: backend.slot,
                generation: backend.server.generation,
            };
            let _ = TEMPLATES.insert(&key, &template, 0);
        }
    }
}

#[inline(always)]
fn valid_server(table: ServiceTable, template: &Template, now_ns: u64) -> Option<Backend> {
    if template.expires_ns <= now_ns {
        return None;
    }
    let backend = table.server(template.server, template.generation)?;
    backend.accepts_templates().then_some(backend)
}
