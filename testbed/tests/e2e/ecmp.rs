//! Several directors behind a router that spreads connections over them: the virtual
//! address is announced while there are servers, and connections survive a change of
//! director although the servers have changed before.

use anyhow::{Result, ensure};
use testbed::Ecmp;

/// Enough that some are of every kind: of a server that has come or gone, at a director
/// that is killed.
const CONNECTIONS: usize = 240;

/// Runs a test on a network of its own. A failure shows what the programs said.
fn on(directors: u8, servers: u8, test: impl FnOnce(&Ecmp) -> Result<()>) {
    let ecmp = match Ecmp::new(directors, servers) {
        Ok(ecmp) => ecmp,
        Err(error) => panic!("the network does not start: {error:#}"),
    };
    if let Err(error) = test(&ecmp) {
        panic!("{error:#}\n\nthe programs:\n{}", ecmp.logs());
    }
}

#[test]
#[ignore = "needs root"]
fn connections_survive_a_change_of_director_by_a_second_chance() {
    on(4, 4, |ecmp| {
        ecmp.start_directors()?;
        ecmp.start_second_chance()?;
        let mut connections = ecmp.change_everything(CONNECTIONS)?;
        let broken = connections.broken();
        ensure!(broken == 0, "{broken} of {} are broken", connections.len());
        ensure!(ecmp.passed_on()? > 0, "no packet was passed on");
        Ok(())
    });
}

#[test]
#[ignore = "needs root"]
fn connections_that_move_are_reset_without_a_second_chance() {
    on(4, 4, |ecmp| {
        ecmp.start_directors()?;
        let mut connections = ecmp.change_everything(CONNECTIONS)?;
        let broken = connections.broken();
        ensure!(broken > 0, "what the other test relies on is gone");
        ensure!(broken < connections.len(), "all are broken");
        Ok(())
    });
}

#[test]
#[ignore = "needs root"]
fn the_virtual_address_is_announced_while_there_are_servers() {
    on(1, 1, |ecmp| {
        ecmp.start_director(0, &[1])?;
        let announced = |held: bool| -> Result<bool> {
            let addresses = ecmp.list(0)?.virtual_addresses;
            Ok(addresses.iter().all(|address| address.held == held))
        };
        ensure!(announced(true)?, "lb-user list shows the address");
        ecmp.command(0, &["disable", "172.16.1.21"])?;
        ecmp.wait_for_way(0, false)?;
        ensure!(announced(false)?, "lb-user list shows that it is gone");
        ecmp.command(0, &["undrain", "172.16.1.21"])?;
        ecmp.wait_for_way(0, true)?;
        let mut connections = ecmp.connect(3)?;
        ensure!(connections.broken() == 0, "the server is reached");
        ecmp.stop_director(0)?;
        ecmp.wait_for_way(0, false)
    });
}
