//! raftctl with nodes on this machine: all that an operator sees where nothing but a Rust toolchain is
//! needed.

mod advice;
mod backups;
mod bench;
mod chaos;
mod cli;
mod cluster;
mod damage;
mod identity;
mod keys;
mod members;
mod metrics;
mod nodes;
mod promises;
mod scenarios;
#[path = "../support/mod.rs"]
mod support;
mod timeline;
mod tls;
mod versions;
