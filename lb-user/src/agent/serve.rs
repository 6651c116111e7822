//! The loop: whatever happens arrives here, one thing after the other.

use service_kit::{sleep_until, systemd};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::change::Change;
use super::plan::ServiceKey;
use super::signals::{Asked, KeepalivedFile, Signals};
use super::{Agent, Ending, rates};
use crate::checker::CheckNews;
use crate::control::protocol::Response;
use crate::resets::Told;
use lb_dataplane::Census;
use vrrp::{self, Vrrp};

impl Agent {
    pub(super) async fn serve(&mut self, signals: &Signals) -> anyhow::Result<Ending> {
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
                Some(news) = self.check_results.recv() => self.take_results(news),
                hops = self.watcher.changed() => {
                    let now = Instant::now().into_std();
                    let changes = self.state.hops_changed(hops?, now);
                    self.carry_out(changes);
                }
                Ok(()) = followed.changed() => self.follow_interfaces(),
                () = self.statics.due() => {
                    let present = followed.borrow().clone();
                    self.statics.renew(&self.netlink.handle, &present).await;
                }
                () = sleep_until(self.state.deadline()) => {
                    if let Some(changes) = self.state.tick(Instant::now().into_std()) {
                        self.put_through(changes);
                    }
                }
                () = sleep_until(self.refused.as_ref().map(|refused| refused.retry_at)) => {
                    self.apply();
                }
                () = sleep_until(self.doubts.deadline()) => self.apply(),
                service = self.second_opinions.answered() => {
                    if self.doubts.settle(service, Instant::now().into_std()) {
                        self.apply();
                    }
                }
                event = next_event(&mut self.vrrp) => {
                    self.note_vrrp(&event);
                    if self.doubts.deadline().is_some() {
                        self.apply();
                    }
                    self.report_vrrp(&event, &self.config);
                }
                Some(call) = self.calls.recv() => {
                    self.take_call(call).await;
                    if let Some(ending) = self.ending.take() {
                        return Ok(ending);
                    }
                }
                () = tokio::time::sleep_until(sweep_at) => {
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
                asked = signals.next() => match asked? {
                    Asked::Reload => {
                        // Both outcomes have been logged.
                        let _ = self.reload().await;
                    }
                    Asked::File(file) => {
                        if file == KeepalivedFile::Data {
                            self.upgrading.data_asked(Instant::now().into_std());
                        }
                        self.write_keepalived_file(file).await;
                    }
                    Asked::StatsOrUpgrade => {
                        self.upgrading.stats_asked(Instant::now().into_std());
                        self.write_keepalived_file(KeepalivedFile::Stats).await;
                    }
                    Asked::Nothing(number) => {
                        log::warn!("signal {number} has no meaning here, and is ignored");
                    }
                    Asked::Stop(signal) => {
                        log::info!("stopping: {signal}");
                        return Ok(Ending::Stop { forget_orders: false });
                    }
                },
                () = sleep_until(self.upgrading.due()) => {
                    self.upgrading.begin();
                    self.begin_upgrade(None);
                }
                outcome = self.upgrade.rehearsed() => self.note_rehearsal(outcome),
                // None is left half done, and none forgotten.
                () = self.scripts.done(), if self.upgrade.is_rehearsed() => {
                    self.upgrade.answer(&Response::Done(Vec::new()));
                    return Ok(Ending::Upgrade);
                }
            }
        }
    }

    /// Takes what checks have found, all that there is: where many servers die
    /// together the data plane is changed once, and their viewers are looked for
    /// together.
    fn take_results(&mut self, first: CheckNews) {
        let mut changes = Vec::new();
        let mut next = Some(first);
        while let Some(news) = next {
            let now = Instant::now().into_std();
            changes.extend(match news {
                CheckNews::Found(event) => self.state.check_changed(event, now),
                CheckNews::Trouble(spec, reason) => self.state.check_troubled(spec, reason),
            });
            next = self.check_results.try_recv().ok();
        }
        self.carry_out(changes);
    }

    /// Keeps account of the virtual routers that are master.
    pub(super) fn note_vrrp(&mut self, event: &vrrp::Event) {
        if event.subject == vrrp::Subject::Instance {
            if event.state == vrrp::machine::State::Master {
                self.masters.insert(event.name.clone());
                self.tell_untold();
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
