//! Tables that hold what is configured, whichever servers live.

use std::net::Ipv4Addr;
use std::time::Instant;

use super::options::UsageError;
use super::plan::Plan;
use super::state::State;
use lb_dataplane::TableSizes;
use lb_model::{DesiredState, Forwarding, RealServer, Thresholds};

/// The sizes that the kernel's tables are to have for `plan`: those `given`,
/// raised where they are left at their default.
///
/// # Errors
/// As of [`admit`].
pub(crate) fn sizes(plan: &Plan, given: TableSizes) -> Result<TableSizes, UsageError> {
    let largest = largest(plan);
    let sizes = given.raised_for(&with_room(largest.clone(), plan));
    fit(&largest, &sizes)?;
    admit_protection(plan, &sizes)?;
    Ok(sizes)
}

/// Finds out whether `plan` fits into tables of these sizes.
///
/// # Errors
/// It does not, or asks for more than the packet path can do.
pub(crate) fn admit(plan: &Plan, sizes: &TableSizes) -> Result<(), UsageError> {
    fit(&largest(plan), sizes)?;
    admit_protection(plan, sizes)
}

fn admit_protection(plan: &Plan, sizes: &TableSizes) -> Result<(), UsageError> {
    let admitted = plan.protection.admit(sizes);
    admitted.map_err(|error| UsageError(error.to_string()))
}

fn fit(desired: &DesiredState, sizes: &TableSizes) -> Result<(), UsageError> {
    sizes
        .admit(desired)
        .map_err(|error| UsageError(error.to_string()))
}

/// `desired` with as many servers as may ever be discovered: tables cannot grow later.
fn with_room(mut desired: DesiredState, plan: &Plan) -> DesiredState {
    for (service, plan) in desired.services.iter_mut().zip(&plan.services) {
        // Addresses that no server has.
        let further = (0..plan.room).map(|index| RealServer {
            address: (Ipv4Addr::from_bits(index), 0).into(),
            weight: 1,
            thresholds: Thresholds::default(),
            keeps_templates: true,
            alive: true,
            forwarding: Forwarding::Direct,
            next_hop: None,
        });
        service.servers.extend(further);
    }
    desired
}

/// The largest state that `plan` leads to: all servers are there.
fn largest(plan: &Plan) -> DesiredState {
    let mut state = State::default();
    state.replace_plan(plan.clone(), Instant::now());
    state.largest()
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    /// A plan of `services`, each with `servers` and these directives.
    fn plan(services: u16, servers: u16, directives: &str) -> Plan {
        let mut text = String::new();
        for port in 1..=services {
            write!(text, "virtual_server 10.0.0.1 {port} {{\n{directives}\n").expect("it grows");
            for server in 1..=servers {
                let [high, low] = server.to_be_bytes();
                writeln!(text, "real_server 10.1.{high}.{low} {port} {{\n}}").expect("it grows");
            }
            text.push_str("}\n");
        }
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("keepalived.conf");
        std::fs::write(&file, text).expect("it is written");
        let loaded = lb_config::load(&file).expect("it is accepted");
        Plan::new(&loaded.config).expect("a plan")
    }

    #[test]
    fn tables_follow_the_file_and_what_is_asked_for_stays() {
        let default = TableSizes::default();
        assert_eq!(sizes(&plan(2, 3, ""), default).expect("it fits"), default);
        let many = plan(300, 20, "lb_algo mh");
        let raised = sizes(&many, default).expect("it fits");
        assert_eq!((raised.services, raised.servers), (1024, 16384));
        assert!(raised.ring_places >= 300 * raised.maglev_places);
        let asked = TableSizes {
            servers: 5000,
            ..default
        };
        let refused = sizes(&many, asked).expect_err("it does not fit");
        let expected = "real servers: 6000 are needed and the table holds 5000; raise servers";
        assert!(refused.to_string().starts_with(expected), "{refused}");
    }

    #[test]
    fn a_sorry_server_counts_before_it_serves() {
        let full = plan(1, 256, "lb_algo lc");
        sizes(&full, TableSizes::default()).expect("as many as can be compared");
        let one_more = plan(1, 256, "lb_algo lc\nsorry_server 10.0.0.9 80");
        let refused = sizes(&one_more, TableSizes::default()).expect_err("one more");
        assert_eq!(
            refused.to_string(),
            "a service with lc, wlc, sed, nq or ovf, or with thresholds, takes up to 256 servers, \
             not 257; use wrr or mh, without thresholds"
        );
    }
}
