//! Requests on the control socket, and over HTTP.

use lb_dataplane::{ConnectionCounts, Statistics};
use tokio::sync::oneshot;

use super::interfaces::mode_name;
use super::listing;
use super::serve::{Agent, Exit};
use super::table_scan::TableScan;
use crate::control::Call;
use crate::control::protocol::{ListedInterface, Listing, Order, Request, Response};
use crate::control::selection::Endpoint;

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
            Request::Reload => match self.reload().await {
                Ok(warnings) => Response::Done(warnings),
                Err(error) => Response::Refused(format!("{error:#}")),
            },
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
        Listing {
            interfaces,
            virtual_addresses: listing::virtual_addresses(state.plan(), &status),
            services: listing::services(
                state,
                statistics,
                self.enforcer.meter(),
                self.enforcer.connections_reset(),
            ),
            reasons: statistics.reasons.clone(),
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
