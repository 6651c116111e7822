//! A configuration change's path through the agent: a reload reads the file, and
//! compares it with what runs.

use anyhow::bail;
use lb_config::Loaded;
use lb_script::{NumberFile, initialise_files};

use super::capacity;
use super::interfaces::{attach_to, require_interfaces};
use super::logging::{log_diagnostics, log_refusal};
use super::options::UsageError;
use super::plan::Plan;
use super::serve::Agent;

impl Agent {
    /// Reads the configuration again; one with an error changes nothing. Returns the
    /// warnings.
    pub(super) async fn reload(&mut self) -> anyhow::Result<Vec<String>> {
        let result = self.try_reload().await;
        match &result {
            Ok(_) => log::info!("reloaded {}", self.options.config.display()),
            Err(error) => {
                self.discovery.undo(self.operators.config());
                log_refusal("not reloaded", &format!("{error:#}"));
            }
        }
        result
    }

    async fn try_reload(&mut self) -> anyhow::Result<Vec<String>> {
        let Loaded { config, warnings } =
            lb_config::load_for(&self.options.config, &self.options.config_id)?;
        let plan = Plan::new(&config)?;
        let plan = self.discover_anew(&config, plan).await?;
        self.admit(&plan).await?;
        log_diagnostics(&warnings);
        let settings = plan.vrrp.clone();
        let statics = plan.statics.clone();
        self.commit_plan(plan, true)?;
        // From here on nothing is refused any more.
        self.routers.plan_statics(statics);
        self.renew_statics().await;
        self.discovery.follow(&config);
        let former = self.operators.replace_config(config);
        for event in self.routers.reload(settings).await {
            self.on_vrrp(&event);
            // A virtual router that is gone has its scripts in the file that had
            // it.
            let is_gone = event.state == vrrp::State::Init;
            self.operators
                .report_vrrp(&event, is_gone.then_some(&former));
        }
        Ok(warnings.iter().map(ToString::to_string).collect())
    }

    /// Checks what can be checked of a plan before anything is changed.
    ///
    /// # Errors
    /// The plan does not fit into the tables, or needs other interfaces.
    async fn admit(&self, plan: &Plan) -> anyhow::Result<()> {
        capacity::admit(plan, &self.options.tables)?;
        let interfaces = attach_to(&self.options, plan)?;
        let attached = self.enforcer.attachments().iter();
        let attached: Vec<&str> = attached.map(|it| it.interface.as_str()).collect();
        if interfaces != attached {
            bail!(UsageError(format!(
                "the interfaces have changed from {} to {}: this needs a restart",
                attached.join(", "),
                interfaces.join(", ")
            )));
        }
        require_interfaces(self.routers.netlink(), &interfaces, plan).await
    }

    /// Puts `plan` in force: first the data plane, which alone may refuse it, then
    /// checks and neighbours. If the data plane refuses it, nothing has changed, apart
    /// from what the partition guard awaits. Files that the former plan does not have get
    /// their initial numbers; `overwrites`: also where they have one.
    ///
    /// # Errors
    /// As of [`Enforcer::commit`](super::enforcer::Enforcer::commit).
    pub(super) fn commit_plan(&mut self, plan: Plan, overwrites: bool) -> anyhow::Result<()> {
        let (state, changes) = self.checks.state_with(plan);
        let message = self.enforcer.commit(&state, &self.routers)?;
        self.observe_tables();
        // Before the checks that read them.
        let former: Vec<&NumberFile> = self.checks.state().plan().number_files().collect();
        let files = state.plan().number_files();
        initialise_files(files.filter(|file| !former.contains(file)), overwrites);
        if let Some(message) = message {
            self.operators.publish(message);
        }
        self.checks.commit(state);
        self.report(changes);
        Ok(())
    }
}
