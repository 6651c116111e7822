//! The ends of an agent: everything goes, or another program takes over.

use service_kit::systemd;
use tokio::sync::oneshot;

use super::saved::HandOver;
use super::{Agent, log_refusal, upgrade};
use crate::control::protocol::Response;
use lb_dataplane::{Dataplane, Origin};

impl Agent {
    /// Takes everything away; the socket goes with `self`.
    pub(super) async fn stop(mut self, forget_orders: bool) {
        systemd::stopping();
        if let Some(vrrp) = self.vrrp.take() {
            for event in vrrp.stop().await {
                self.report_vrrp(&event, &self.config);
            }
        }
        for (subject, script) in self.state.scripts_on_stop() {
            self.run_script(subject, script);
        }
        for attachment in self.dataplane.attachments() {
            log::info!("{}: XDP program detached", attachment.interface);
        }
        self.saved.forget(!forget_orders);
        remove(self.dataplane);
        let present = self.interfaces.subscribe().borrow().clone();
        self.statics.clear(&self.netlink.handle, &present).await;
        self.scripts.finish().await;
    }

    /// Asks the program that is installed now whether it can take over; the loop
    /// goes on meanwhile.
    pub(super) fn begin_upgrade(&mut self, waiter: Option<oneshot::Sender<Response>>) {
        if let Some(waiter) = waiter {
            self.upgrade.tell(waiter);
        }
        if matches!(self.dataplane.origin(), Origin::Unpinned { .. }) {
            let reason =
                "the data plane is not pinned, so that viewers would notice; restart instead";
            self.refuse_upgrade(reason.to_owned());
        } else {
            self.upgrade.begin(&self.program);
        }
    }

    /// The program that is installed now can take over, or cannot.
    pub(super) fn note_rehearsal(&mut self, outcome: Result<(), String>) {
        match outcome {
            Ok(()) => log::info!("upgrade: it can, as soon as no script runs"),
            Err(reason) => self.refuse_upgrade(reason),
        }
    }

    fn refuse_upgrade(&mut self, reason: String) {
        log_refusal("not upgraded", &reason);
        self.upgrade.answer(&Response::Refused(reason));
    }

    /// Becomes the program that is installed now; if that cannot be, our own
    /// program again, which is told why. Returns only if neither can be.
    pub(super) async fn hand_over(mut self) -> anyhow::Error {
        log::info!("upgrade: {} takes over", self.program.display());
        systemd::reloading("becoming the program that is installed now");
        for (_, check) in self.checks.drain() {
            check.end().await;
        }
        self.second_opinions.end().await;
        let mut to_save = self.to_save();
        let masters = match self.vrrp.take() {
            Some(vrrp) => vrrp.hand_over().await,
            None => Vec::new(),
        };
        upgrade::wait_for_children().await;
        let mut handed_over = HandOver::now(masters);
        to_save.handed_over = Some(handed_over.clone());
        self.saved.write(to_save.clone());
        let program = self.program.display();
        let error = upgrade::become_program(&self.program);
        let failure = format!("{program} cannot be run: {error}");
        log::error!("{failure}; the program that ran begins anew");
        handed_over.failure = Some(failure);
        to_save.handed_over = Some(handed_over);
        self.saved.write(to_save);
        let error = upgrade::begin_anew(&self.program);
        let error =
            anyhow::Error::new(error).context(format!("neither {program} nor our own can be run"));
        self.saved.leave_last_words(format!("{error:#}"));
        error
    }
}

pub(super) fn remove(dataplane: Dataplane) {
    if let Err(error) = dataplane.remove() {
        log::error!("{error}");
    }
}
