//! This machine, where raftctl runs: what it keeps here, what it finds here, who runs it.

pub mod authority;
pub mod binary;
pub mod certificate;
pub mod folder_lock;
pub mod guests;
pub mod interrupt;
pub mod known_logs;
pub mod known_nodes;
pub mod operator;
pub mod state_files;
