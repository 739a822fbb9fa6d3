//! A node of a replicated key-value store: Raft with leader leases.
//!
//! Bottom to top; a module uses what stands above it, never what stands below.
//!
//! Pure: values in, values out; no clock, no chance, no I/O, no threads.
//! * [`command`]: what the log holds
//! * [`raft`]: consensus and leases
//! * [`kv`]: the state machine
//! * [`wal`]: the text of the files
//! * [`engine`]: the four together, one whole node without its machine
//!
//! The machine:
//! * [`clock`]: time; [`identity`]: who this node is; [`roster`]: who belongs to the cluster; [`space`]: room on
//!   the disk
//! * [`access`]: who may do what; [`tls`]: who it is that connects
//! * [`guests`]: who is connected, and who has to go for others
//! * [`metrics`]: the node in figures, for Prometheus
//! * [`disk`]: the files of the node
//! * [`dump`]: what happened, for people
//! * [`convert`], [`desk`]: messages of peers; the queue in front of the loop
//! * [`peers`], [`rpc`]: connections to nodes; to clients and operators
//! * [`flags`], [`server`], [`process`]: the command line; the loop that drives it all; the exit code
//! * [`witness`]: a process beside the node's, which tells the others when that has ended
//! * [`tools`]: what is done with the directory of a node that does not run

pub mod access;
pub mod clock;
pub mod command;
pub mod convert;
pub mod desk;
pub mod disk;
pub mod dump;
pub mod engine;
pub mod flags;
pub mod guests;
pub mod identity;
pub mod kv;
pub mod metrics;
pub mod peers;
pub mod process;
pub mod raft;
pub mod roster;
pub mod rpc;
pub mod server;
pub mod space;
pub mod tls;
pub mod tools;
pub mod wal;
pub mod witness;
