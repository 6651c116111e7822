//! What is asked on the control socket, and over HTTP.

use tokio::time::Instant;

use super::interfaces::mode_name;
use super::survey::Survey;
use super::{Agent, Ending, listing};
use crate::control::Call;
use crate::control::protocol::{ListedInterface, Listing, Request, Response};
use crate::control::selection::Endpoint;
use lb_dataplane::{Census, Statistics};

impl Agent {
    pub(super) async fn take_call(&mut self, call: Call) {
        // A client that has gone wants no answer.
        match call {
            Call::Remembered(answer) => {
                let _ = answer.send(self.dataplane.remembered());
            }
            Call::Request(Request::List, answer) => self.surveys.ask(answer),
            Call::Request(Request::Upgrade, answer) => self.begin_upgrade(Some(answer)),
            Call::Request(request, answer) => {
                let response = self.answer(request).await;
                let _ = answer.send(response);
            }
        }
    }

    async fn answer(&mut self, request: Request) -> Response {
        match request {
            Request::Health => self.health(),
            Request::Order { server, order } => match server.parse::<Endpoint>() {
                Ok(name) => {
                    let (concerned, changes) =
                        self.state
                            .order_changed(name, order, Instant::now().into_std());
                    if concerned.is_empty() {
                        return Response::Refused(format!("no service has a server {server}"));
                    }
                    let remarks = changes.iter().map(ToString::to_string).collect();
                    self.carry_out(changes);
                    Response::Done(remarks)
                }
                Err(mistake) => Response::Refused(mistake),
            },
            Request::Stop => {
                log::info!("stopping: asked to on the control socket");
                self.ending = Some(Ending::Stop {
                    forget_orders: true,
                });
                Response::Done(Vec::new())
            }
            Request::List
            | Request::Upgrade
            | Request::Connections(_)
            | Request::PersistentClients(_)
            | Request::Follow
            | Request::Watch => Response::Refused("this is answered elsewhere".to_owned()),
            Request::Reload => match self.reload().await {
                Ok(remarks) => Response::Done(remarks),
                Err(error) => Response::Refused(format!("{error:#}")),
            },
        }
    }

    /// Whether all is done that is to be done. What does not turn gives no answer.
    fn health(&self) -> Response {
        if let Some(refused) = &self.refused {
            let reason = &refused.reason;
            return Response::Refused(format!("the data plane keeps a former state: {reason}"));
        }
        match self.dataplane.statistics(&Census::default()) {
            Ok(_) => Response::Done(Vec::new()),
            Err(error) => Response::Refused(error.to_string()),
        }
    }

    /// Answers who has waited for a walk through the tables.
    pub(super) async fn take_survey(&mut self, survey: Survey) {
        let census = match survey.census {
            Ok(census) => census,
            Err(error) => {
                log::error!("cannot read the tables of connections: {error}");
                for waiter in survey.waiting {
                    let _ = waiter.send(Response::Refused(error.to_string()));
                }
                return;
            }
        };
        if survey.swept
            && let Err(error) = self.dataplane.correct_loads(&census)
        {
            log::error!("cannot tell the schedulers of expired connections: {error}");
        }
        for waiter in survey.waiting {
            let response = match self.dataplane.statistics(&census) {
                Ok(statistics) => Response::Listing(self.listing(&statistics).await),
                Err(error) => Response::Refused(error.to_string()),
            };
            // A client that has gone wants no answer.
            let _ = waiter.send(response);
        }
    }

    async fn listing(&self, statistics: &Statistics) -> Listing {
        let interfaces = self
            .dataplane
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
        let status = match &self.vrrp {
            Some(vrrp) => vrrp.status().await,
            None => Vec::new(),
        };
        let virtual_addresses = listing::virtual_addresses(self.state.plan(), &status);
        Listing {
            interfaces,
            virtual_addresses,
            services: listing::services(
                &self.state,
                statistics,
                &self.meter,
                &self.connections_reset,
            ),
            reasons: statistics.reasons.clone(),
            doubts: self.doubts_of_ways().into_iter().collect(),
            refused: self.refused.as_ref().map(|refused| refused.reason.clone()),
            not_upgraded: self.not_upgraded.clone(),
        }
    }
}
