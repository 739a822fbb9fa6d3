//! Linearizability checker for histories of a key-value store.
//!
//! [`check()`] takes a [`History`] of get, set, delete and compare-and-set and tells whether, for
//! each key, the operations can be put in one order that
//!
//! - explains every outcome: each operation sees what the one before it left, and
//! - keeps to real time: an operation that returned before another was called comes before it.
//!
//! A write of unknown outcome may take effect at any time from its call on, or never; a get of
//! unknown outcome says nothing. If there is no such order, the verdict carries a minimal
//! [`CounterExample`]; if the [`Budget`] ends first, it is undecided.
//!
//! ```
//! use checker::{Budget, History, Kind, Operation, Outcome, check};
//!
//! let mut history = History::new();
//! history.push(Operation {
//!     client: 1,
//!     call_us: 0,
//!     return_us: Some(10),
//!     key: "k".into(),
//!     kind: Kind::Set { value: "v".into() },
//!     outcome: Outcome::Written,
//! })?;
//! assert!(check(&history, &Budget::default()).is_linearizable());
//! # Ok::<(), checker::OperationError>(())
//! ```
//!
//! To record a history that tells much and is checked fast, let every write have a value of its
//! own, take all times from one monotonic clock, and call an outcome unknown whenever it is not
//! certain. A request that is sent again under the same id remains one operation.
//!
//! A history is kept in a file of JSON lines: [`HistoryWriter`], [`read_history`].
//!
//! Deliberately absent: listing by prefix. It reads many keys at once, so it is no operation of one
//! key, and checking it would take the whole store for one object. Also absent: clocks, files and
//! threads.
//!
//! The way through the code: [`check()`] takes the keys apart; `problem` boils one key down;
//! `conflict` finds the plain contradictions, `search` looks for an order (which
//! `order` replays), with `pending` (what may come next), `makers` (unknown writes that
//! help) and `memory` (what has failed before); `shrink` and `counter_example` tell why there is
//! none.

mod anomaly;
mod budget;
mod check;
mod conflict;
mod counter_example;
mod explain;
mod file;
mod history;
mod makers;
mod memory;
mod order;
mod pending;
mod problem;
mod render;
mod search;
mod shrink;

pub use anomaly::Anomaly;
pub use budget::Budget;
pub use check::{Verdict, check};
pub use counter_example::CounterExample;
pub use file::{HistoryWriter, ReadError, WriteError, read_history, write_history};
pub use history::{History, Kind, Operation, OperationError, Outcome};
