//! What is done to the nodes of a host: the scripts of [`crate::scripts`], run over a transport, and
//! their answers read. The same for every provider.
//!
//! ```text
//! inventory      the hosts of a cluster, and which nodes live on them
//! certificates   keys that are made there, and what is signed for them
//! control        nodes: found, started, signalled
//! ship           binaries: sent, verified, switched to
//! lock           one operator at a time
//! packet_filter  nodes cut off by their hosts, for a time
//! ```

pub mod certificates;
pub mod control;
pub mod directories;
pub mod inventory;
pub mod lock;
pub mod packet_filter;
pub mod ship;
