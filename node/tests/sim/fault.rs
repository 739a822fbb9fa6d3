//! What can go wrong, as values.

use crate::members::Change;
use raft_node::raft::{Micros, NodeId};

/// One thing that goes wrong, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// True time at which it begins.
    pub at_us: Micros,
    /// How long it lasts.
    pub lasts_us: Micros,
    /// What it is.
    pub kind: FaultKind,
}

/// Whom it hits.
#[derive(Clone, Copy, Debug)]
pub enum Target {
    /// Who leads in the highest term when it begins; node 1 if nobody does.
    Leader,
    /// This one.
    Node(NodeId),
}

/// What no longer passes, as the target sees it.
#[derive(Clone, Copy, Debug)]
pub enum Direction {
    /// Nothing.
    Both,
    /// What comes to the target.
    Inbound,
    /// What comes from the target.
    Outbound,
}

/// Where in its loop a node is stopped.
#[derive(Clone, Copy, Debug)]
pub enum PausePoint {
    /// Before it looks at its clock.
    BeforeClock,
    /// Between its clock and the step that takes the reading.
    AfterClock,
    /// Between the step and what the step wants done.
    BeforeEffects,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug)]
pub enum FaultKind {
    /// The node hears nobody, or nobody hears it.
    Isolate(Target, Direction),
    /// The same between two nodes.
    CutPair(Target, NodeId, Direction),
    /// Nodes whose bits differ do not hear each other.
    Split(u64),
    /// The node dies and is started again at the end.
    Crash(Target),
    /// The node dies, a byte of its log changes, and it is started again at the end. Happens once
    /// in a run: with two damaged logs there may be nobody left who knows.
    Damage(Target),
    /// The node stops in good order and is started again at the end.
    Stop(Target),
    /// All but this one die and are started again.
    RestartRest(Target),
    /// This one is cut off, and the others die and are started again.
    IsolateAndRestartRest(Target),
    /// All die and are started again.
    RestartAll,
    /// The node stands still, with reads in flight.
    Pause(Target, PausePoint),
    /// The disk does not finish what it does.
    StallDisk(Target),
    /// Not a fault: an operator moves the leadership.
    Transfer(Option<NodeId>),
    /// Not a fault: an operator wishes for other members.
    Members(Change),
    /// What passes to or from the node takes so many microseconds more.
    Slow(Target, Direction, Micros),
    /// A connection breaks and comes up again.
    BreakLink(Target, NodeId),
    /// The disk is taken to another machine and the node is started there, while the old process
    /// lives on, until the end, for the peers with a bit. Happens once in a run.
    TakeDisk(Target, u64),
}

/// What takes a fault back.
#[derive(Clone, Debug)]
pub enum Undo {
    /// These directions are free again.
    Heal(Vec<(NodeId, NodeId)>),
    /// These nodes are started again.
    Start(Vec<NodeId>),
    /// These directions are on time again.
    Hasten(Vec<(NodeId, NodeId)>),
    /// This disk works again.
    Unstall(NodeId),
    /// The process without a disk dies.
    EndGhost,
}
