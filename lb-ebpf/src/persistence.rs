//! Persistence: a client's connections go to one server.
//!
//! A template is entered together with a half-open connection, in a table of its own
//! that a flood of SYNs may overwrite. When the handshake is complete, it is entered in
//! the table of established templates; from then on the connection's packets re-arm it.

use lb_abi::{Template, TemplateKey};

use crate::maps::{NEW_TEMPLATES, TEMPLATES};
use crate::packet::Packet;
use crate::service_table::{Backend, ServiceRef, ServiceTable};

/// Maximum number of times per persistence time-out that the packets of a connection re-arm
/// its template. A packet costs a look-up less when it does not; in return a template may
/// expire a quarter of its time early.
const REARMS_PER_TIMEOUT: u64 = 4;

#[inline(always)]
fn key(service: ServiceRef, packet: &Packet) -> TemplateKey {
    TemplateKey {
        client: packet.client.masked(&service.entry.persistence_mask),
        service: service.number,
    }
}

/// A valid template.
#[derive(Clone, Copy)]
pub(crate) struct StickyEntry {
    /// The server that the client is tied to.
    pub(crate) backend: Backend,
    template: *mut Template,
}

/// The template of the packet's client, if there is a valid one.
#[inline(always)]
pub(crate) fn find(
    table: ServiceTable,
    service: ServiceRef,
    packet: &Packet,
    now_ns: u64,
) -> Option<StickyEntry> {
    let key = key(service, packet);
    let valid = |template: *mut Template| {
        // SAFETY: a map value; if the kernel evicts the entry meanwhile and gives it to
        // another client, the generation tells whether its server is still the same.
        let backend = unsafe { valid_server(table, &*template, now_ns) }?;
        Some(StickyEntry { backend, template })
    };
    TEMPLATES
        .get_ptr_mut(&key)
        .and_then(valid)
        .or_else(|| NEW_TEMPLATES.get_ptr_mut(&key).and_then(valid))
}

impl StickyEntry {
    /// Re-arms the template: the client has opened another connection, of which no
    /// further packet may come.
    #[inline(always)]
    pub(crate) fn rearm(self, service: ServiceRef, now_ns: u64) {
        // SAFETY: as above; another client's template would be valid a little longer.
        unsafe { (*self.template).expires_ns = now_ns + service.entry.persistence_ns };
    }
}

/// Ties a client that has not completed a handshake to `backend`.
#[inline(always)]
pub(crate) fn insert_new(service: ServiceRef, packet: &Packet, backend: Backend, now_ns: u64) {
    let template = Template {
        expires_ns: now_ns + service.entry.persistence_ns,
        server: backend.slot,
        generation: backend.server.generation,
    };
    // The table evicts when it is full. Should the kernel refuse all the same, the
    // connection goes on without a template.
    let _ = NEW_TEMPLATES.insert(&key(service, packet), &template, 0);
}

/// Time from which on a packet re-arms a template that is armed now.
#[inline(always)]
pub(crate) fn rearm_after(service: ServiceRef, now_ns: u64) -> u64 {
    now_ns + service.entry.persistence_ns / REARMS_PER_TIMEOUT
}

/// Re-arms, or enters, the established template of the packet's client, which has a
/// connection to `backend`.
#[inline(always)]
pub(crate) fn rearm(
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
        let current = unsafe { valid_server(table, &*template, now_ns) };
        current.map(|current| (template, current))
    });
    match existing {
        // SAFETY: as above.
        Some((template, current)) if current.slot == backend.slot => unsafe {
            (*template).expires_ns = expires_ns;
        },
        // The client has been tied to another server since this connection was opened:
        // new connections go on to that one.
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
