//! The programs that the data plane is compared with, loaded into the kernel.

use std::error::Error;

use aya::maps::{Array, HashMap, ProgramArray};
use aya::programs::{ProgramFd, TestRun as _, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader, Pod};
use lb_abi::{Flow, FlowKey, maps};
use packet_bed::frames::RTMP;

use crate::{CONNECTIONS, HOT_RUNS, PORT, nanoseconds, workspace};

/// The programs of `lb-ebpf/src/bin/baselines.rs`.
pub(crate) struct Baselines(Ebpf);

impl Baselines {
    pub(crate) fn load() -> Result<Self, Box<dyn Error>> {
        let object = workspace().join("target/bpf/baselines");
        let mut ebpf = EbpfLoader::new()
            .map_max_entries(maps::FLOWS, CONNECTIONS)
            .load_file(&object)?;
        for (_, program) in ebpf.programs_mut() {
            let program: &mut Xdp = program.try_into()?;
            program.load()?;
        }
        Ok(Self(ebpf))
    }

    /// Enters a connection of each client.
    pub(crate) fn insert(
        &mut self,
        clients: impl Iterator<Item = [u8; 4]>,
    ) -> Result<(), Box<dyn Error>> {
        let map = self
            .0
            .map_mut(maps::FLOWS)
            .ok_or("the baselines have a table")?;
        let mut table: HashMap<_, FlowKey, Flow> = HashMap::try_from(map)?;
        for client in clients {
            let key = FlowKey {
                client: std::net::Ipv4Addr::from(client).into(),
                port: PORT.to_be(),
                service: 0,
                service_port: RTMP.to_be(),
                reserved: 0,
            };
            table.insert(key, Flow::default(), 0)?;
        }
        Ok(())
    }

    /// Cost of a baseline and of `again` before it.
    pub(crate) fn again(&mut self, program: &str, frame: &[u8]) -> Result<f64, Box<dyn Error>> {
        let program = self.program(program)?.fd()?.try_clone()?;
        self.again_with(&program, frame)
    }

    /// As [`Self::again`], of any program.
    pub(crate) fn again_with(
        &mut self,
        program: &ProgramFd,
        frame: &[u8],
    ) -> Result<f64, Box<dyn Error>> {
        let map = self.0.map_mut("MEASURED").ok_or("`again` goes on")?;
        ProgramArray::try_from(map)?.set(0, program, 0)?;
        let map = self.0.map_mut("ORIGINAL").ok_or("`again` knows")?;
        Array::try_from(map)?.set(0, Original::of(frame), 0)?;
        self.run("again", frame, HOT_RUNS)
    }

    fn program(&self, name: &str) -> Result<&Xdp, Box<dyn Error>> {
        Ok(self.0.program(name).ok_or("a baseline")?.try_into()?)
    }

    /// Mean of `repeat` runs on `frame`, in nanoseconds.
    pub(crate) fn run(
        &self,
        program: &str,
        frame: &[u8],
        repeat: u32,
    ) -> Result<f64, Box<dyn Error>> {
        let program = self.program(program)?;
        let options = TestRunOptions {
            data_in: Some(frame),
            repeat,
            ..TestRunOptions::default()
        };
        Ok(nanoseconds(program.test_run(options)?.duration))
    }
}

/// As in `lb-ebpf/src/bin/baselines.rs`.
const START_BYTES: usize = 52;

/// As in `lb-ebpf/src/bin/baselines.rs`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Original {
    length: u32,
    start: [u8; START_BYTES],
}

// SAFETY: repr(C), Copy, made of integers, without padding.
unsafe impl Pod for Original {}

impl Original {
    fn of(frame: &[u8]) -> Self {
        let mut start = [0; START_BYTES];
        start.copy_from_slice(&frame[..START_BYTES]);
        Self {
            length: frame.len() as u32,
            start,
        }
    }
}
