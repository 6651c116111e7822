//! Routes that are to be there: set, set again, and taken away.

use std::time::Duration;

use rtnetlink::Handle;
use service_kit::sleep_until;
use tokio::time::Instant;

use super::route::resolve;
use lb_model::config::Route;
use netlink::address::Added;
use netlink::interfaces::Interfaces;
use netlink::route;

/// How often it is seen to that routes are there: whoever takes an address or an
/// interface away takes those along that need it. It costs one request each.
const INTERVAL: Duration = Duration::from_secs(2);

/// Routes that one owner wants to be there.
#[derive(Debug, Default)]
pub struct Routes {
    /// The owner, for the log.
    name: String,
    wanted: Vec<Wanted>,
    due: Option<Instant>,
}

#[derive(Debug)]
struct Wanted {
    route: Route,
    /// Why it could not be set, if it could not.
    missing: Option<String>,
}

impl Routes {
    /// None yet.
    pub fn new(name: String) -> Self {
        Self {
            name,
            ..Self::default()
        }
    }

    /// Sets further routes.
    pub async fn set(&mut self, handle: &Handle, interfaces: &Interfaces, routes: Vec<Route>) {
        for route in routes {
            if self.wanted.iter().any(|wanted| wanted.route == route) {
                continue;
            }
            let missing = match self.add(handle, interfaces, &route).await {
                Ok(Added::New) => {
                    log::info!("{}: route {route} set", self.name);
                    None
                }
                Ok(Added::AlreadyThere) => {
                    log::info!("{}: route {route} is there already", self.name);
                    None
                }
                Err(reason) => {
                    log::error!("{}: cannot set the route {route} yet: {reason}", self.name);
                    Some(reason)
                }
            };
            self.wanted.push(Wanted { route, missing });
        }
        self.due = (!self.wanted.is_empty()).then(|| Instant::now() + INTERVAL);
    }

    /// Takes routes away.
    pub async fn unset(&mut self, handle: &Handle, interfaces: &Interfaces, routes: &[Route]) {
        self.wanted.retain(|wanted| !routes.contains(&wanted.route));
        if self.wanted.is_empty() {
            self.due = None;
        }
        for it in routes {
            // With its interface a route is gone, too.
            let Ok(kernel_route) = resolve(it, interfaces) else {
                continue;
            };
            match route::remove(handle, &kernel_route).await {
                Ok(true) => log::info!("{}: route {it} taken away", self.name),
                Ok(false) => {}
                Err(error) => {
                    log::error!("{}: cannot take the route {it} away: {error}", self.name);
                }
            }
        }
    }

    /// Waits until it is to be seen to that they are there; for ever, while there
    /// are none.
    pub async fn due(&self) {
        sleep_until(self.due).await;
    }

    /// Sets those again that are not there any more, but for those that may be
    /// taken away (`no_track`).
    pub async fn renew(&mut self, handle: &Handle, interfaces: &Interfaces) {
        for index in 0..self.wanted.len() {
            let Wanted { route, missing } = &self.wanted[index];
            if route.no_track && missing.is_none() {
                continue;
            }
            let outcome = self.add(handle, interfaces, route).await;
            match (&outcome, missing) {
                (Ok(Added::New), None) => {
                    log::warn!("{}: route {route} was taken away; set again", self.name);
                }
                (Ok(_), Some(_)) => log::info!("{}: route {route} set", self.name),
                (Err(reason), before) if before.as_ref() != Some(reason) => {
                    log::error!("{}: cannot set the route {route} yet: {reason}", self.name);
                }
                _ => {}
            }
            self.wanted[index].missing = outcome.err();
        }
        self.due = Some(Instant::now() + INTERVAL);
    }

    async fn add(
        &self,
        handle: &Handle,
        interfaces: &Interfaces,
        route: &Route,
    ) -> Result<Added, String> {
        let kernel_route = resolve(route, interfaces)
            .map_err(|interface| format!("there is no interface {interface}"))?;
        let added = route::add(handle, &kernel_route).await;
        added.map_err(|error| error.to_string())
    }
}
