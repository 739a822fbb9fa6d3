//! This machine, where raftctl runs: what it keeps here, what it finds here, who runs it.

pub mod binary;
pub mod folder_lock;
pub mod interrupt;
pub mod known_logs;
pub mod operator;
pub mod state_files;
