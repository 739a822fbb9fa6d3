//! The node.

pub mod command;
pub mod engine;
pub mod kv;
pub mod raft;
pub mod wal;
