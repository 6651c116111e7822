//! The interfaces that viewers' packets arrive on.

use anyhow::{Context as _, bail};
use conf_kit::did_you_mean;

use super::options::{RunOptions, UsageError};
use super::plan::Plan;
use lb_dataplane::{AttachMode, Attachment};
use netlink::link;

/// The interfaces that viewers' packets arrive on.
pub(super) fn attach_to(options: &RunOptions, plan: &Plan) -> Result<Vec<String>, UsageError> {
    let interfaces = if options.interfaces.is_empty() {
        plan.interfaces()
    } else {
        options.interfaces.clone()
    };
    if interfaces.is_empty() {
        return Err(UsageError(format!(
            "{} names no interface; add a vrrp_instance with `interface`, or give --interface",
            options.config.display()
        )));
    }
    Ok(interfaces)
}

/// Checks that every interface exists that will be needed.
pub(super) async fn require_interfaces(
    netlink: &netlink::Connection,
    attached: &[String],
    plan: &Plan,
) -> anyhow::Result<()> {
    let links = link::all(&netlink.handle)
        .await
        .context("cannot read the list of interfaces")?;
    let of_plan = plan.interfaces();
    for name in attached.iter().chain(&of_plan) {
        if !links.iter().any(|link| link.name == *name) {
            let existing: Vec<&str> = links.iter().map(|link| link.name.as_str()).collect();
            bail!(UsageError(format!(
                "there is no network interface `{name}`; there are: {}{}",
                existing.join(", "),
                did_you_mean(name, existing.iter().copied())
            )));
        }
    }
    Ok(())
}

pub(super) fn log_attachments(attachments: &[Attachment]) {
    for attachment in attachments {
        log::info!("{}", describe(attachment));
    }
}

/// An attachment in one line.
pub(super) fn describe(attachment: &Attachment) -> String {
    let Attachment {
        interface, mode, ..
    } = attachment;
    let mode = mode_name(*mode);
    match (&attachment.lost, &attachment.native_refused) {
        (Some(reason), _) => format!("{interface}: XDP program no longer attached: {reason}"),
        (None, None) => format!("{interface}: XDP program attached, {mode} mode"),
        (None, Some(reason)) => {
            format!("{interface}: XDP program attached, {mode} mode; native refused: {reason}")
        }
    }
}

pub(super) fn mode_name(mode: AttachMode) -> &'static str {
    match mode {
        AttachMode::Auto => "auto",
        AttachMode::Native => "native",
        AttachMode::Generic => "generic",
    }
}
