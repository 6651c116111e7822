//! The data plane as the agent sees it: desired state in, counters out.
//!
//! This is the only module that touches aya.

pub mod state;
