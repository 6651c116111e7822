//! The loop: whatever happens arrives here, one thing after the other.

use rtmp_core::systemd;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::change::Change;
use super::plan::ServiceKey;
use super::signals::Signals;
use super::{Agent, Ending, rates};
use crate::checker::CheckNews;
use crate::dataplane::Census;
use crate::resets::Told;
use crate::vrrp::{self, Vrrp};

impl Agent {
    pub(super) async fn serve(&mut self, signals: &mut Signals) -> anyhow::Result<Ending> {
        let mut followed = self.interfaces.subscribe();
        let mut sweep_at = Instant::now() + self.dataplane.sweep_interval();
        let mut readings = interval(rates::INTERVAL);
        readings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let watched = systemd::watchdog().is_some();
        loop {
            if self.surveys.is_due() {
                self.surveys.start(self.dataplane.remembered());
            }
            tokio::select! {
                Some(news) = self.check_results.recv() => {
                    let changes = match news {
                        CheckNews::Found(event) => {
                            self.state.check_changed(event, Instant::now().into_std())
                        }
                        CheckNews::Trouble(spec, reason) => {
                            self.state.check_troubled(spec, reason)
                        }
                    };
                    self.carry_out(changes);
                }
                hops = self.watcher.changed() => {
                    let changes = self.state.hops_changed(hops?);
                    self.carry_out(changes);
                }
                Ok(()) = followed.changed() => self.follow_interfaces(),
                () = sleep_until_some(self.state.deadline()) => {
                    if let Some(changes) = self.state.tick(Instant::now().into_std()) {
                        self.put_through(changes);
                    }
                }
                event = next_event(&mut self.vrrp) => {
                    self.note_vrrp(&event);
                    self.report_vrrp(&event, &self.config);
                }
                Some(call) = self.calls.recv() => {
                    self.take_call(call).await;
                    if let Some(ending) = self.ending.take() {
                        return Ok(ending);
                    }
                }
                () = sleep_until(sweep_at) => {
                    self.surveys.sweep();
                    sweep_at = Instant::now() + self.dataplane.sweep_interval();
                }
                _ = readings.tick() => {
                    self.read_counters();
                    if watched {
                        systemd::alive();
                    }
                }
                Some(told) = self.told.recv() => self.take_told(told),
                survey = self.surveys.finished() => self.take_survey(survey).await,
                _ = signals.hangup.recv() => {
                    // Both outcomes have been logged.
                    let _ = self.reload().await;
                }
                _ = signals.upgrade.recv() => match self.rehearse_upgrade().await {
                    Ok(()) => return Ok(Ending::Upgrade),
                    Err(reason) => log::error!("not upgraded, nothing has changed: {reason}"),
                },
                name = signals.stop.received() => {
                    log::info!("stopping: {name}");
                    return Ok(Ending::Stop { forget_orders: false });
                }
            }
        }
    }

    /// Keeps account of the virtual routers that are master.
    pub(super) fn note_vrrp(&mut self, event: &vrrp::Event) {
        if event.subject == vrrp::Subject::Instance {
            if event.state == vrrp::machine::State::Master {
                self.masters.insert(event.name.clone());
            } else {
                self.masters.remove(&event.name);
            }
            self.save();
        }
    }

    /// Has the rates of traffic follow the counters.
    fn read_counters(&mut self) {
        match self.dataplane.statistics(&Census::default()) {
            Ok(statistics) => self.meter.record(&statistics, Instant::now().into_std()),
            Err(error) => log::debug!("cannot read the counters: {error}"),
        }
    }

    /// Takes note of what has become of a dead server's viewers.
    fn take_told(&mut self, told: Told) {
        let Told {
            departed, viewers, ..
        } = &told;
        let service = ServiceKey {
            protocol: departed.protocol,
            address: departed.service,
        };
        *self
            .connections_reset
            .entry((service, departed.server))
            .or_default() += viewers;
        if *viewers > 0 || told.failed.is_some() {
            self.report(vec![Change::Told(told)]);
        }
    }
}

/// The next event of the virtual routers; never, while there are none.
async fn next_event(vrrp: &mut Option<Vrrp>) -> vrrp::Event {
    match vrrp {
        Some(vrrp) => vrrp.next_event().await,
        None => std::future::pending().await,
    }
}

/// Sleeps until `deadline`; for ever, if there is none.
async fn sleep_until_some(deadline: Option<std::time::Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
