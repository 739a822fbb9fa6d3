//! The person or program that called raftctl: what is printed or shown, and what they asked for.

pub mod options;
pub mod out;
pub mod progress;
pub mod screen;
