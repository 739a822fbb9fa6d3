//! Load on a key-value store, as much as it takes, and what its clients see: what `raftctl bench` runs.
//!
//! A crate of its own because here every microsecond counts: what it costs is missing in what is measured.
//!
//! ```text
//! load      connections, each of which finds whom to ask     steady   clients that go on whatever happens
//! drive     one connection over streams                      rival    the same load through etcd's API
//! worker    what is asked, answered, asked again             echo     a bare server to compare with
//! workload  which operations                                 etcd     a client of etcd
//! pace      when: closed loop, or so many a second           until    until when
//! tally     latencies and errors; series: over time          gaps     stretches without an answer
//!                                                            ledger   what was acknowledged is there
//! ```

pub mod drive;
pub mod echo;
mod error;
pub mod etcd;
pub mod gaps;
pub mod ledger;
mod load;
pub mod pace;
pub mod rival;
pub mod series;
pub mod steady;
pub mod tally;
pub mod until;
pub mod worker;
pub mod workload;

pub use error::LoadError;
pub use load::{Load, Sources, Target};
