//! The person or program that called raftctl: what is printed, and what they asked for.

pub mod options;
pub mod out;
pub mod progress;
