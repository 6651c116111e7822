//! The interfaces that viewers' packets arrive on.

use anyhow::{Context as _, bail};
use rtmp_core::config::did_you_mean;

use super::plan::Plan;
use super::{Agent, Misuse, RunOptions};
use crate::dataplane::{AttachMode, Attachment};
use crate::netlink::{self, link};

impl Agent {
    /// Interfaces have come, gone or changed.
    pub(super) fn follow_interfaces(&mut self) {
        for attachment in self.dataplane.follow_interfaces() {
            let what = describe(&attachment);
            match &attachment.lost {
                Some(_) => log::warn!("{what}"),
                None => log::info!("{what}"),
            }
            self.publish(what);
        }
    }
}

/// The interfaces that viewers' packets arrive on.
pub(super) fn attach_to(options: &RunOptions, plan: &Plan) -> Result<Vec<String>, Misuse> {
    let interfaces = if options.interfaces.is_empty() {
        plan.interfaces()
    } else {
        options.interfaces.clone()
    };
    if interfaces.is_empty() {
        return Err(Misuse(format!(
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
            bail!(Misuse(format!(
                "there is no network interface `{name}`; there are: {}{}",
                existing.join(", "),
                did_you_mean(name, existing.iter().copied())
            )));
        }
    }
    Ok(())
}

/// What an operator should know of frames that leave by `interface`, where the
/// XDP program redirects them to.
pub(super) fn redirection_doubt(
    attachments: &[Attachment],
    interface_index: u32,
    interface: &str,
) -> Option<String> {
    let attached: Vec<&Attachment> = attachments
        .iter()
        .filter(|known| known.lost.is_none())
        .collect();
    let is_native = attached
        .iter()
        .any(|known| known.mode == AttachMode::Native);
    let runs_one = |known: &&Attachment| known.interface_index == interface_index;
    if !is_native || attached.iter().any(runs_one) {
        return None;
    }
    let named: Vec<String> = attachments
        .iter()
        .map(|known| format!("--interface {}", known.interface))
        .collect();
    Some(format!(
        "{interface}: most drivers drop what native XDP sends out of an interface that runs no \
         XDP program itself; if servers there get nothing, start with {} --interface {interface}, \
         or with --xdp-mode generic",
        named.join(" ")
    ))
}

pub(super) fn log_attachments(attachments: &[Attachment]) {
    for attachment in attachments {
        log::info!("{}", describe(attachment));
    }
}

fn describe(attachment: &Attachment) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn attached(interface_index: u32, mode: AttachMode) -> Attachment {
        Attachment {
            interface: format!("eth{interface_index}"),
            interface_index,
            mode,
            native_refused: None,
            lost: None,
        }
    }

    #[test]
    fn native_redirection_to_an_interface_without_a_program_is_in_doubt() {
        let native = [attached(2, AttachMode::Native)];
        let doubt = redirection_doubt(&native, 3, "eth3").expect("a doubt");
        assert!(
            doubt.contains("--interface eth2 --interface eth3"),
            "{doubt}"
        );
        assert_eq!(redirection_doubt(&native, 2, "eth2"), None);
        let generic = [attached(2, AttachMode::Generic)];
        assert_eq!(redirection_doubt(&generic, 3, "eth3"), None);
        let both = [
            attached(2, AttachMode::Native),
            attached(3, AttachMode::Native),
        ];
        assert_eq!(redirection_doubt(&both, 3, "eth3"), None);
    }
}
