//! Capabilities that the agent needs (capabilities(7)).

use std::fs;

/// A capability, its number in `linux/capability.h`, and what it is needed for.
struct Capability {
    name: &'static str,
    number: u32,
    purpose: &'static str,
}

const NEEDED: [Capability; 4] = [
    Capability {
        name: "CAP_BPF",
        number: 39,
        purpose: "load the XDP program",
    },
    Capability {
        name: "CAP_NET_ADMIN",
        number: 12,
        purpose: "attach it and hold virtual addresses",
    },
    Capability {
        name: "CAP_NET_RAW",
        number: 13,
        purpose: "announce virtual addresses",
    },
    // The verifier bounds pointer arithmetic for whoever could use it to look
    // into the kernel speculatively; the program's packet arithmetic needs it
    // unbounded (kernel/bpf/verifier.c, `bpf_bypass_spec_v1`).
    Capability {
        name: "CAP_PERFMON",
        number: 38,
        purpose: "have the kernel's verifier accept the program",
    },
];

/// Stands for `CAP_BPF` and `CAP_PERFMON` too.
const CAP_SYS_ADMIN: u32 = 21;

/// Capabilities that the agent needs and does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "lb-user lacks {list}: run it as root, or grant it {names} (systemd: AmbientCapabilities={names})"
)]
pub(super) struct Missing {
    list: String,
    names: String,
}

/// Checks that the process has every capability that it needs.
///
/// # Errors
/// Names those that it lacks.
pub(super) fn check() -> Result<(), Missing> {
    match effective() {
        Some(effective) => check_set(effective),
        // Without /proc the kernel itself will say what it refuses.
        None => Ok(()),
    }
}

/// Capabilities for scripts that run as another user than the agent.
const FOR_SCRIPTS: [Capability; 3] = [
    Capability {
        name: "CAP_SETUID",
        number: 7,
        purpose: "become the user",
    },
    Capability {
        name: "CAP_SETGID",
        number: 6,
        purpose: "become the user's group",
    },
    Capability {
        name: "CAP_KILL",
        number: 5,
        purpose: "end a script that hangs",
    },
];

/// The capabilities that the process lacks to run scripts as another user, if any:
/// `CAP_KILL (to end a script that hangs)`.
pub(super) fn missing_for_scripts() -> Option<String> {
    let missing = missing(&FOR_SCRIPTS, effective()?);
    (!missing.is_empty()).then(|| list(&missing))
}

/// Those of `needed` that are not in the set `effective`.
fn missing(needed: &[Capability], effective: u64) -> Vec<&Capability> {
    let has = |number: u32| effective & (1 << number) != 0;
    let granted = |needed: &Capability| {
        let bpf = matches!(needed.name, "CAP_BPF" | "CAP_PERFMON");
        has(needed.number) || (bpf && has(CAP_SYS_ADMIN))
    };
    needed.iter().filter(|needed| !granted(needed)).collect()
}

/// Capabilities with their purposes.
fn list(capabilities: &[&Capability]) -> String {
    let list: Vec<String> = capabilities
        .iter()
        .map(|capability| format!("{} (to {})", capability.name, capability.purpose))
        .collect();
    list.join(", ")
}

fn check_set(effective: u64) -> Result<(), Missing> {
    let missing = missing(&NEEDED, effective);
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = missing.iter().map(|capability| capability.name).collect();
    Err(Missing {
        list: list(&missing),
        names: names.join(" "),
    })
}

/// The effective set, as in `/proc/self/status`.
fn effective() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_its_purpose() {
        let all = (1 << 39) | (1 << 38) | (1 << 12) | (1 << 13);
        assert_eq!(check_set(all), Ok(()));
        assert_eq!(
            check_set((1 << 21) | (1 << 12) | (1 << 13)),
            Ok(()),
            "CAP_SYS_ADMIN"
        );
        let missing = check_set(all & !(1 << 39) & !(1 << 13)).expect_err("two are missing");
        assert_eq!(
            missing.to_string(),
            "lb-user lacks CAP_BPF (to load the XDP program), CAP_NET_RAW (to announce virtual \
             addresses): run it as root, or grant it CAP_BPF CAP_NET_RAW (systemd: \
             AmbientCapabilities=CAP_BPF CAP_NET_RAW)"
        );
    }
}
