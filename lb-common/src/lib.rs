//! Map keys, values and constants that the XDP program and the agent share.
#![no_std]
