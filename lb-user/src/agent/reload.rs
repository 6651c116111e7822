//! A reload: the configuration is read again, and compared with what runs.

use anyhow::bail;

use super::interfaces::{attach_to, require_interfaces};
use super::plan::Plan;
use super::{Agent, Misuse, capacity, log_diagnostics, log_refusal};
use lb_config::{self, Loaded};
use lb_script::track_file::{self, NumberFile};
use vrrp;

impl Agent {
    /// Reads the configuration again; a bad one changes nothing.
    pub(super) async fn reload(&mut self) -> anyhow::Result<Vec<String>> {
        let result = self.try_reload().await;
        match &result {
            Ok(_) => log::info!("reloaded {}", self.options.config.display()),
            Err(error) => log_refusal("not reloaded", &format!("{error:#}")),
        }
        result
    }

    async fn try_reload(&mut self) -> anyhow::Result<Vec<String>> {
        let Loaded { config, warnings } =
            lb_config::load_for(&self.options.config, &self.options.config_id)?;
        let plan = Plan::new(&config)?;
        capacity::admit(&plan, &self.options.tables)?;
        let interfaces = attach_to(&self.options, &plan)?;
        let attached: Vec<&str> = self
            .dataplane
            .attachments()
            .iter()
            .map(|a| a.interface.as_str())
            .collect();
        if interfaces != attached {
            bail!(Misuse(format!(
                "the interfaces have changed from {} to {}: this needs a restart",
                attached.join(", "),
                interfaces.join(", ")
            )));
        }
        require_interfaces(&self.netlink, &interfaces, &plan).await?;
        log_diagnostics(&warnings);
        let former = self.state.plan().number_files();
        let former: Vec<NumberFile> = former.cloned().collect();
        let new = plan.number_files().filter(|file| !former.contains(file));
        track_file::initialise(new, true);
        let virtual_routers = plan.vrrp.clone();
        let statics = plan.statics.clone();
        self.put_in_force(plan)?;
        let present = self.interfaces.subscribe().borrow().clone();
        let handle = &self.netlink.handle;
        self.statics.follow(handle, &present, statics).await;
        let former = std::mem::replace(&mut self.config, config);
        let events = match &mut self.vrrp {
            Some(vrrp) => vrrp.reload(virtual_routers).await,
            None => Vec::new(),
        };
        for event in events {
            self.note_vrrp(&event);
            // A virtual router that is gone has its scripts in the file that had
            // it.
            let config = match event.state {
                vrrp::machine::State::Init => &former,
                _ => &self.config,
            };
            self.report_vrrp(&event, config);
        }
        Ok(warnings.iter().map(ToString::to_string).collect())
    }
}
