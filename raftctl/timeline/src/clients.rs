//! What clients saw meanwhile: a file beside the nodes' own, which whoever runs a trial leaves there.

use serde::{Deserialize, Serialize};

use super::record::Span;
use super::{Micros, Node};

/// Its name, in the folder of a run.
pub const FILE: &str = "clients.json";

/// What stands in the place of a node's id, which none has.
pub const LANE_OF_CLIENTS: Node = 0;

/// Clients that read and wrote, by the clock of the machine on which they did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clients {
    /// When they began: microseconds since 1970. All other times count from there.
    pub started_unix_us: Micros,
    /// For how long they went on.
    pub length_us: Micros,
    /// Times in which no read, or no write, of anybody succeeded.
    pub gaps: Vec<Gap>,
    /// Operations that no order explains.
    pub claims: Vec<Claim>,
}

/// What was asked for in vain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Asked {
    /// Gets.
    Reads,
    /// Everything else.
    Writes,
}

/// A time without a success.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// What was asked for.
    pub asked: Asked,
    /// From when.
    pub from_us: Micros,
    /// Until when.
    pub until_us: Micros,
}

/// An operation of a counter-example.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// When it was sent.
    pub call_us: Micros,
    /// When it was answered; `None`: it was not.
    pub return_us: Option<Micros>,
    /// What was asked and answered, in words.
    pub says: String,
}

impl Clients {
    /// When they were at work, on their clock.
    pub(super) fn span(&self) -> Span {
        self.stretch(0, self.length_us)
    }

    /// A stretch of their time, on their clock.
    pub(super) fn stretch(&self, from_us: Micros, until_us: Micros) -> Span {
        Span {
            from: self.started_unix_us.saturating_add(from_us),
            until: self.started_unix_us.saturating_add(until_us),
        }
    }
}
