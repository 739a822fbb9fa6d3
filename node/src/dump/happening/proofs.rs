//! What is told of runs that have ended for certain.

use crate::raft::{Event, Incarnation, NodeId, Run};

/// The sentence and the fields.
pub(super) fn render(event: &Event, id: NodeId) -> (String, String) {
    match event {
        Event::RunEnded { run, term } => (
            format!(
                "Node {id} knows for certain that a run of Node {} has ended.",
                run.node
            ),
            format!("term={term} {}", fields(run)),
        ),
        Event::PromiseWaived {
            leader,
            term,
            remaining_us,
        } => (
            format!(
                "Node {id} owes nothing more to that run of Node {}.",
                leader.node
            ),
            format!(
                "of_term={term} {} remaining_us={remaining_us}",
                fields(leader)
            ),
        ),
        Event::WaitWaived { term, remaining_us } => (
            format!("Node {id} need not wait for an older lease: who held it has ended."),
            format!("term={term} remaining_us={remaining_us}"),
        ),
        _ => unreachable!("not about the end of a run"),
    }
}

fn fields(run: &Run) -> String {
    format!("peer={} run={:016x}", run.node, run.incarnation)
}

/// Nothing where a run has no name.
pub(super) fn run_field(run: Incarnation) -> String {
    match run {
        0 => String::new(),
        run => format!(" run={run:016x}"),
    }
}
