//! The ends of an agent: everything goes, or another program takes over.

use rtmp_core::systemd;

use super::saved::HandOver;
use super::{Agent, upgrade};
use crate::dataplane::{Dataplane, Origin};

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
        self.scripts.finish().await;
    }

    /// Lets the program that is installed now say whether it can take over.
    pub(super) async fn rehearse_upgrade(&self) -> Result<(), String> {
        if matches!(self.dataplane.origin(), Origin::Unpinned { .. }) {
            return Err(
                "the data plane is not pinned, so that viewers would notice; restart instead"
                    .to_owned(),
            );
        }
        upgrade::rehearse(&self.program, &self.options).await
    }

    /// Becomes the program that is installed now. Returns only if that fails.
    pub(super) async fn hand_over(mut self) -> anyhow::Error {
        log::info!("upgrade: {} takes over", self.program.display());
        systemd::reloading("becoming the program that is installed now");
        self.checks.clear();
        let mut to_save = self.to_save();
        let Self {
            scripts,
            vrrp,
            mut saved,
            program,
            ..
        } = self;
        scripts.finish().await;
        let masters = match vrrp {
            Some(vrrp) => vrrp.hand_over().await,
            None => Vec::new(),
        };
        to_save.handed_over = Some(HandOver::now(masters));
        saved.write(to_save);
        let error = upgrade::become_program(&program);
        anyhow::Error::new(error).context(format!("cannot run {}", program.display()))
    }
}

pub(super) fn remove(dataplane: Dataplane) {
    if let Err(error) = dataplane.remove() {
        log::error!("{error}");
    }
}
