//! What a take-over costs.

use netbed::wait_for;
use vrrp::State;

use crate::netns::{Host, Network};
use crate::ours::Ours;
use crate::{VIP, deployment};

/// Prints for how long nobody answers for the address. Run it by itself, on a
/// quiet machine:
/// `cargo test -p vrrp --test vrrp_keepalived -- --ignored --nocapture nobody`
#[test]
#[ignore = "a measurement"]
fn how_long_nobody_answers_for_the_address() {
    let network = Network::lay_out();
    let ours = Ours::start(&network, &deployment(150, ""));
    let keepalived = network.keepalived(Host::Theirs, &deployment(100, ""));
    ours.wait_for_state(State::Master);
    network.third_host_asks_for(VIP);
    let (stopped, ()) = network.longest_silence(VIP, || {
        ours.stop();
        network.wait_for_holder(Host::Theirs, VIP);
    });
    println!("we stop, keepalived takes over: {stopped:?}");
    let ours = Ours::start(&network, &deployment(150, ""));
    let (returned, ()) = network.longest_silence(VIP, || {
        ours.wait_for_state(State::Master);
        network.wait_for_holder(Host::Ours, VIP);
    });
    println!("we return and take the address back: {returned:?}");
    let (cut, ()) = network.longest_silence(VIP, || {
        network.cut(Host::Ours);
        wait_for("keepalived to take over", || {
            network.holds(Host::Theirs, VIP)
        });
        network.third_host_asks_for(VIP);
    });
    println!("we are cut off, keepalived takes over: {cut:?}");
    network.mend(Host::Ours);
    network.wait_for_holder(Host::Ours, VIP);
    let (again, _ours) = network.longest_silence(VIP, || {
        ours.abandon();
        let ours = Ours::start(&network, &deployment(150, ""));
        ours.wait_for_state(State::Master);
        ours
    });
    println!("we are killed and started again: {again:?}");
    keepalived.stop();
}
