//! The exits of an agent: everything goes, or another program takes over.

use service_kit::systemd;

use super::saved::HandOver;
use super::serve::Agent;
use super::upgrade;

impl Agent {
    /// Takes everything away; the control socket last.
    pub(super) async fn stop(mut self, forget_orders: bool) {
        systemd::stopping();
        // First: packets must not come here any more when there is no data plane.
        for event in self.routers.stop().await {
            self.operators.report_vrrp(&event, None);
        }
        let withdraw_delay = self.checks.state().plan().withdraw_delay;
        if self.routers.withdraw().await && !withdraw_delay.is_zero() {
            log::info!("announced addresses withdrawn; forwarding for {withdraw_delay:?} more");
            tokio::time::sleep(withdraw_delay).await;
        }
        for (subject, script) in self.checks.state().scripts_on_stop() {
            self.operators.run_script(subject, script);
        }
        for attachment in self.enforcer.attachments() {
            log::info!("{}: XDP program detached", attachment.interface);
        }
        self.saved.forget(!forget_orders);
        self.enforcer.remove();
        self.routers.clear_statics().await;
        self.operators.finish().await;
    }

    /// Becomes the program that is installed now; if that cannot be, our own
    /// program again, which is told why. Returns only if neither can be.
    pub(super) async fn hand_over(mut self) -> anyhow::Error {
        let program = self.operators.program().to_owned();
        log::info!("upgrade: {} takes over", program.display());
        systemd::reloading("becoming the program that is installed now");
        // What runs scripts ends first, so that no child is left behind.
        self.checks.end().await;
        self.enforcer.end_probes().await;
        let mut to_save = self.to_save();
        let masters = self.routers.hand_over().await;
        upgrade::wait_for_children().await;
        let mut handed_over = HandOver::now(masters);
        to_save.handed_over = Some(handed_over.clone());
        self.saved.write(to_save.clone());
        let error = upgrade::become_program(&program);
        let failure = format!("{} cannot be run: {error}", program.display());
        log::error!("{failure}; the program that ran begins anew");
        handed_over.failure = Some(failure);
        to_save.handed_over = Some(handed_over);
        self.saved.write(to_save);
        let error = upgrade::begin_anew(&program);
        let context = format!("neither {} nor our own can be run", program.display());
        let error = anyhow::Error::new(error).context(context);
        self.saved.write_exit_report(format!("{error:#}"));
        error
    }
}
