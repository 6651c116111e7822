//! The arithmetic: demand and machines in, numbers of machines and costs of deaths out.

use anyhow::ensure;

use super::constants::{
    CHILD, CONNECTION, JOINING, PACKET, PLAYER, RESETS, SEGMENT_BYTES, SEGMENTS_PER_ACK, SENDING,
    SENDING_AT_ONCE, SMALLEST_FRAME_BITS, TAKE_OVER, WIRE_FACTOR,
};

/// What is asked for, and what machines there are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Demand {
    pub(crate) viewers: u64,
    /// Of a stream, bits per second.
    pub(crate) bit_rate: f64,
    /// Streams that every edge is asked for.
    pub(crate) streams: u64,
    /// Of each machine, bits per second in each direction.
    pub(crate) link: f64,
    pub(crate) cores: u32,
    /// The part of link and cores that is used while no machine is missing.
    pub(crate) load: f64,
    pub(crate) min_latency: bool,
    /// Seconds from a server's death until the checks have noticed it.
    pub(crate) detection: f64,
}

/// The machines, and the use that is made of them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Plan {
    pub(crate) directors: u64,
    /// The part of one director that all packets take, cores and link.
    pub(crate) director_cpu: f64,
    pub(crate) director_link: f64,
    /// Packets that reach the directors, per second.
    pub(crate) packets: f64,
    /// Kernel memory of the table of connections, bytes.
    pub(crate) connection_bytes: f64,
    pub(crate) edges: u64,
    pub(crate) viewers_per_edge: f64,
    pub(crate) edge_cpu: f64,
    pub(crate) edge_link: f64,
    /// Resident memory of the players, bytes.
    pub(crate) edge_bytes: f64,
    /// Servers of each level between origins and edges, the one below the origins first.
    pub(crate) levels: Vec<u64>,
    pub(crate) origins: u64,
    /// Edges or servers of a level that one server feeds at most.
    pub(crate) fan_out: u64,
}

/// What limits the viewers of an edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limit {
    Link,
    Cores,
}

impl Demand {
    /// Bits on the wire that a viewer takes, per second.
    pub(crate) fn wire_rate(&self) -> f64 {
        self.bit_rate * WIRE_FACTOR
    }

    /// Cores that a viewer takes.
    pub(crate) fn cores_per_viewer(&self) -> f64 {
        let cost = if self.min_latency {
            SENDING_AT_ONCE
        } else {
            SENDING
        };
        let megabytes = self.bit_rate / 8.0 / 1e6;
        cost.value / 1e3 * megabytes
    }

    /// Viewers that an edge has at most, and what limits them.
    pub(crate) fn edge_capacity(&self) -> (u64, Limit) {
        let by_link = self.load * self.link / self.wire_rate();
        let by_cores = self.load * f64::from(self.cores) / self.cores_per_viewer();
        if by_link <= by_cores {
            (by_link as u64, Limit::Link)
        } else {
            (by_cores as u64, Limit::Cores)
        }
    }

    /// Servers that one server feeds with all streams.
    fn fan_out(&self) -> u64 {
        let streams = self.streams as f64;
        let by_link = self.load * self.link / (self.wire_rate() * streams);
        let cores = self.cores_per_viewer() + CHILD.value / 1e3;
        let by_cores = self.load * f64::from(self.cores) / (cores * streams);
        by_link.min(by_cores) as u64
    }

    /// Acknowledgements of a viewer that the directors see, per second.
    pub(crate) fn acks_per_viewer(&self) -> f64 {
        self.bit_rate / 8.0 / SEGMENT_BYTES / SEGMENTS_PER_ACK
    }

    /// Numbers of machines.
    ///
    /// # Errors
    /// Such machines cannot carry the streams at all.
    pub(crate) fn plan(&self) -> anyhow::Result<Plan> {
        let viewers = self.viewers as f64;
        let (capacity, _) = self.edge_capacity();
        ensure!(
            capacity > 0,
            "a machine of {} Mbit/s and {} cores carries no viewer of {} Mbit/s",
            self.link / 1e6,
            self.cores,
            self.bit_rate / 1e6
        );
        let fan_out = self.fan_out();
        ensure!(
            fan_out > 1,
            "a server feeds {fan_out} others with {} stream(s) of {} Mbit/s: each edge would need \
             an origin of its own; fewer streams per edge, or faster links",
            self.streams,
            self.bit_rate / 1e6
        );
        // One more than are needed: any may be missing.
        let edges = self.viewers.div_ceil(capacity) + 1;
        let per_edge = viewers / edges as f64;
        let mut levels = Vec::new();
        let mut above = edges;
        // Two origins, each of which can feed all below it.
        while above > fan_out {
            above = above.div_ceil(fan_out) + 1;
            levels.insert(0, above);
        }
        let packets = viewers * self.acks_per_viewer();
        let director_cpu = packets * PACKET.value / 1e9 / f64::from(self.cores);
        let director_link = packets * SMALLEST_FRAME_BITS / self.link;
        // Packets leave by the link that they have come by, in the other direction.
        let needed = (director_cpu.max(director_link) / self.load).ceil() as u64;
        Ok(Plan {
            directors: needed.max(1) + 1,
            director_cpu,
            director_link,
            packets,
            connection_bytes: viewers * CONNECTION.value,
            edges,
            viewers_per_edge: per_edge,
            edge_cpu: per_edge * self.cores_per_viewer() / f64::from(self.cores),
            edge_link: per_edge * self.wire_rate() / self.link,
            edge_bytes: per_edge * PLAYER.value,
            levels,
            origins: 2,
            fan_out,
        })
    }
}

/// What the death of a machine costs.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Death {
    pub(crate) machine: &'static str,
    /// Viewers whose connection ends.
    pub(crate) viewers: f64,
    /// Seconds until the last of them plays again; `None`: the model does not say how long
    /// pictures are missing.
    pub(crate) seconds: Option<f64>,
    /// The load of each machine of its kind that remains: the scarcer of link and cores.
    pub(crate) load_of_rest: f64,
}

impl Plan {
    /// The deaths that may happen, one at a time.
    pub(crate) fn deaths(&self, demand: &Demand) -> Vec<Death> {
        let others = (self.edges - 1) as f64;
        let edge_load = self.edge_cpu.max(self.edge_link);
        let joining = {
            // While they join, the others send on: they have the cores that are left.
            let spare = 1.0 - self.edge_cpu * self.edges as f64 / others;
            let cores = others * f64::from(demand.cores) * spare.max(0.05);
            self.viewers_per_edge * JOINING.value / 1e3 / cores
        };
        let resets = self.viewers_per_edge / RESETS.value;
        let mut deaths = vec![Death {
            machine: "edge",
            viewers: self.viewers_per_edge,
            // Who is reset first joins first.
            seconds: Some(demand.detection + resets.max(joining)),
            load_of_rest: edge_load * self.edges as f64 / others,
        }];
        let mut below = self.edges;
        for count in self.levels.iter().rev() {
            let load = below as f64 / *count as f64 / self.fan_out as f64 * demand.load;
            deaths.push(Death {
                machine: "server between",
                viewers: 0.0,
                seconds: None,
                load_of_rest: load * *count as f64 / (count - 1) as f64,
            });
            below = *count;
        }
        let load = below as f64 / self.origins as f64 / self.fan_out as f64 * demand.load;
        deaths.push(Death {
            machine: "origin",
            viewers: 0.0,
            seconds: None,
            load_of_rest: load * self.origins as f64 / (self.origins - 1) as f64,
        });
        let director_load = self.director_cpu.max(self.director_link);
        deaths.push(Death {
            machine: "director",
            viewers: 0.0,
            // Nobody's acknowledgements arrive, so nobody is sent more than a window.
            seconds: Some(TAKE_OVER.value),
            load_of_rest: director_load / (self.directors - 1) as f64,
        });
        deaths
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn million() -> Demand {
        Demand {
            viewers: 1_000_000,
            bit_rate: 2e6,
            streams: 1,
            link: 25e9,
            cores: 16,
            load: 0.7,
            min_latency: false,
            detection: 3.0,
        }
    }

    #[test]
    fn an_edge_is_limited_by_what_is_scarcer() {
        // 17.5 Gbit/s of 2 Mbit/s with 6 % of headers.
        assert_eq!(million().edge_capacity(), (8_237, Limit::Link));
        let slow = Demand {
            cores: 1,
            link: 400e9,
            ..million()
        };
        // A viewer takes 0.25 MB/s at 0.223 ms/MB: 0.7 of a core feeds 12,556.
        assert_eq!(slow.edge_capacity(), (12_556, Limit::Cores));
    }

    #[test]
    fn a_million_viewers_need_as_many_edges_as_links_and_one_to_spare() {
        let plan = million().plan().expect("a plan");
        assert_eq!((plan.edges, plan.levels.clone()), (123, Vec::new()));
        assert!(plan.edge_link < 0.7 && plan.edge_link > 0.69, "{plan:?}");
        // The spare one may go, and the rest are at the load that was asked for.
        let deaths = plan.deaths(&million());
        assert!((deaths[0].load_of_rest - 0.7).abs() < 0.01, "{deaths:?}");
        // 86.3 acknowledgements per second and viewer, at 784 ns.
        assert!((plan.packets - 86.3e6).abs() < 0.1e6, "{plan:?}");
        assert!((plan.director_cpu - 4.23).abs() < 0.01, "{plan:?}");
        // 58 Gbit/s of smallest frames: the cores are scarcer than the links.
        assert!((plan.director_link - 2.32).abs() < 0.01, "{plan:?}");
        assert_eq!(plan.directors, 8);
    }

    #[test]
    fn many_streams_on_slow_links_need_levels_between() {
        let demand = Demand {
            streams: 200,
            link: 10e9,
            ..million()
        };
        let plan = demand.plan().expect("a plan");
        // 7 Gbit/s are 16 times 200 streams of 2.12 Mbit/s.
        assert_eq!(plan.fan_out, 16);
        assert_eq!(plan.edges, 305);
        // 305 edges by 16 and one to spare, and these again.
        assert_eq!(plan.levels, [3, 21]);
        let deaths = plan.deaths(&demand);
        assert!(
            deaths.iter().all(|death| death.load_of_rest <= 0.701),
            "{deaths:?}"
        );
    }

    #[test]
    fn machines_that_cannot_are_refused() {
        let demand = Demand {
            link: 1e6,
            ..million()
        };
        let error = demand.plan().expect_err("too slow").to_string();
        assert!(error.contains("carries no viewer"), "{error}");
        let demand = Demand {
            streams: 10_000,
            ..million()
        };
        let error = demand.plan().expect_err("too many streams").to_string();
        assert!(error.contains("fewer streams per edge"), "{error}");
    }

    #[test]
    fn a_death_of_an_edge_costs_detection_resets_and_joins() {
        let demand = million();
        let plan = demand.plan().expect("a plan");
        let edge = &plan.deaths(&demand)[0];
        assert!((edge.viewers - 8_130.0).abs() < 1.0, "{edge:?}");
        // 8,130 resets at 50,000 per second take longer than the joins at 122 machines.
        let seconds = edge.seconds.expect("it is modelled");
        assert!((seconds - 3.163).abs() < 0.001, "{edge:?}");
    }
}
