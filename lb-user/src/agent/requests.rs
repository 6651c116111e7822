//! Requests on the control socket, and over HTTP.

use std::time::Duration;

use lb_dataplane::{ConnectionCounts, Statistics};
use tokio::sync::oneshot;

use super::interfaces::mode_name;
use super::listing;
use super::protection::Protection;
use super::serve::{Agent, Exit};
use super::table_scan::TableScan;
use crate::control::Call;
use crate::control::protocol::{ListedInterface, Listing, Order, RateOrder, Request, Response};
use crate::control::selection::Endpoint;
use net_types::Network;

impl Agent {
    /// Answers a request, now or as soon as it is done; returns the exit that it
    /// orders, if one.
    pub(super) async fn on_call(&mut self, call: Call) -> Option<Exit> {
        match call {
            Call::ConntrackSnapshot(answer) => send(answer, self.enforcer.conntrack_snapshot()),
            Call::Request(Request::List, answer) => self.enforcer.scan_for(answer),
            Call::Request(Request::Upgrade, answer) => self.begin_upgrade(Some(answer)),
            Call::Request(Request::Stop, answer) => {
                log::info!("stopping: requested on the control socket");
                send(answer, Response::Done(Vec::new()));
                return Some(Exit::Stop {
                    forget_orders: true,
                });
            }
            Call::Request(request, answer) => {
                let response = self.answer(request).await;
                send(answer, response);
            }
        }
        None
    }

    async fn answer(&mut self, request: Request) -> Response {
        match request {
            Request::Health => self.health(),
            Request::History => Response::History(self.enforcer.meter().history()),
            Request::Order { server, order } => self.on_order(&server, order),
            Request::AddServer { server, service } => self.on_add_server(server, service),
            Request::RemoveServer { address, port } => self.on_remove_server(address, port),
            Request::Reload => match self.reload().await {
                Ok(warnings) => Response::Done(warnings),
                Err(error) => Response::Refused(format!("{error:#}")),
            },
            Request::Deny { network, timeout_s } => {
                let timeout = timeout_s.map(Duration::from_secs);
                let order = |it: &mut Protection| it.deny(network, timeout);
                let message = match timeout_s {
                    Some(timeout_s) => format!("{network} is denied for {timeout_s} s"),
                    None => format!("{network} is denied"),
                };
                self.change_protection(order, message)
            }
            Request::Allow { network } => self.on_allow(network),
            Request::Denials => Response::Denials(self.enforcer.protection().listed_denials()),
            Request::LimitConnections { order } => {
                let message = match order {
                    None => "new connections are limited as configured".to_owned(),
                    Some(RateOrder::Off) => "new connections are not limited".to_owned(),
                    Some(RateOrder::Limit(rate)) => format!(
                        "each network may open {} connections per second, {} at once",
                        rate.per_second, rate.burst
                    ),
                };
                self.change_protection(|it| it.order_rate(order), message)
            }
            Request::ValidateSources { order } => {
                let message = match order {
                    None => "SYN validation is as configured".to_owned(),
                    Some(mode) => format!("SYN validation: {mode}"),
                };
                self.change_protection(|it| it.order_validation(order), message)
            }
            Request::List
            | Request::Stop
            | Request::Upgrade
            | Request::Connections(_)
            | Request::PersistentClients(_)
            | Request::Follow
            | Request::Watch => Response::Refused("this is answered elsewhere".to_owned()),
        }
    }

    fn on_order(&mut self, server: &str, order: Option<Order>) -> Response {
        let name: Endpoint = match server.parse() {
            Ok(name) => name,
            Err(error) => return Response::Refused(error),
        };
        let (concerned, changes) = self.checks.on_order(name, order);
        if concerned.is_empty() {
            return Response::Refused(format!("no service has a server {server}"));
        }
        let sentences = changes.iter().map(ToString::to_string).collect();
        self.apply_changes(changes);
        Response::Done(sentences)
    }

    fn on_allow(&mut self, network: Network) -> Response {
        let protection = self.enforcer.protection();
        let by_order = protection.is_denied_by_order(network);
        let message = match (by_order, protection.is_denied_by_file(network)) {
            (true, false) => format!("{network} is not denied any more"),
            (true, true) => {
                format!("no order denies {network} any more, but the file of lb_deny_file does")
            }
            (false, true) => {
                return Response::Refused(format!(
                    "{network} is denied by the file of lb_deny_file: take it out there and reload"
                ));
            }
            (false, false) => {
                return Response::Refused(format!(
                    "no order denies {network}; `lb-user deny list` shows those that there are"
                ));
            }
        };
        self.change_protection(|it| it.allow(network), message)
    }

    /// Changes the protection from floods, and tells everybody.
    fn change_protection(
        &mut self,
        change: impl FnOnce(&mut Protection),
        message: String,
    ) -> Response {
        if let Err(error) = self.enforcer.change_protection(change) {
            return Response::Refused(error.to_string());
        }
        log::info!("{message}");
        self.operators.publish(message.clone());
        self.save();
        Response::Done(vec![message])
    }

    /// Done if the data plane is in sync and answers. A loop that hangs gives no
    /// answer.
    fn health(&self) -> Response {
        if let Some(reason) = self.enforcer.refusal() {
            return Response::Refused(format!("the data plane keeps a former state: {reason}"));
        }
        match self.enforcer.statistics(&ConnectionCounts::default()) {
            Ok(_) => Response::Done(Vec::new()),
            Err(error) => Response::Refused(error.to_string()),
        }
    }

    /// Answers those who have waited for a scan of the tables.
    pub(super) async fn on_scan(&mut self, scan: TableScan) {
        let (counts, waiters) = self.enforcer.on_scan(scan);
        for waiter in waiters {
            let statistics = match &counts {
                Ok(counts) => self.enforcer.statistics(counts).map_err(|e| e.to_string()),
                Err(error) => Err(error.to_string()),
            };
            let response = match statistics {
                Ok(statistics) => Response::Listing(self.listing(&statistics).await),
                Err(reason) => Response::Refused(reason),
            };
            send(waiter, response);
        }
    }

    async fn listing(&self, statistics: &Statistics) -> Listing {
        let interfaces = self
            .enforcer
            .attachments()
            .iter()
            .map(|attachment| ListedInterface {
                name: attachment.interface.clone(),
                index: attachment.interface_index,
                xdp_mode: mode_name(attachment.mode).to_owned(),
                native_refused: attachment.native_refused.clone(),
                lost: attachment.lost.clone(),
            })
            .collect();
        let state = self.checks.state();
        let status = self.routers.status().await;
        let mut virtual_addresses = listing::virtual_addresses(state.plan(), &status);
        let announced = self.routers.announced();
        virtual_addresses.extend(listing::announced_addresses(state.plan(), &announced));
        Listing {
            interfaces,
            virtual_addresses,
            services: listing::services(
                state,
                statistics,
                self.enforcer.meter(),
                self.enforcer.connections_reset(),
            ),
            reasons: statistics.reasons.clone(),
            protection: self.enforcer.protection().listed(),
            sources: self.discovery.listed(),
            path_warnings: self.enforcer.path_warnings(state).into_iter().collect(),
            refused: self.enforcer.refusal().map(str::to_owned),
            not_upgraded: self.operators.upgrade_failure().map(str::to_owned),
        }
    }
}

/// Answers a client. One that has gone wants no answer.
fn send<T>(answer: oneshot::Sender<T>, response: T) {
    let _ = answer.send(response);
}
