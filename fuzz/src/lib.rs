//! The rooms with the parsers of files, as they are in the node and in raftctl.

#![allow(
    dead_code,
    unused_imports,
    reason = "what is fuzzed needs a part of them"
)]

#[path = "../../raftctl/src/cluster/mod.rs"]
pub mod cluster;
#[path = "../../node/src/command/mod.rs"]
pub mod command;
#[path = "../../raftctl/src/error/mod.rs"]
pub mod error;
#[path = "../../node/src/kv/mod.rs"]
pub mod kv;
pub mod properties;
#[path = "../../node/src/raft/mod.rs"]
pub mod raft;
pub use raftkv_text as text;
#[path = "../../node/src/wal/mod.rs"]
pub mod wal;

pub mod scenario;

pub mod client {
    //! All that cluster.yaml takes from raftctl's client.
    pub enum Read {
        Lease,
        Quorum,
        Stale(Option<u64>),
    }
}

// raftctl takes one figure from the wire's crate, which is this one here.
extern crate self as raftkv;
#[doc(hidden)]
pub const LEASE_MS: std::ops::RangeInclusive<u64> = 2_000..=10_000;
