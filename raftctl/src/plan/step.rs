//! One step of a plan, and how it is told.

use std::fmt;

use crate::cluster::{NodeId, list};

/// One step of a plan. Steps are taken one after the other; within a step all hosts work at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Build the binary.
    Build {
        /// The command.
        command: String,
    },
    /// Send the binary to the hosts of nodes, and make it the current one there.
    Ship {
        /// The nodes.
        nodes: Vec<NodeId>,
        /// What is sent.
        release: String,
    },
    /// Let paused nodes go on.
    Resume {
        /// The nodes.
        nodes: Vec<NodeId>,
    },
    /// Stop nodes in order.
    Stop {
        /// The nodes.
        nodes: Vec<NodeId>,
        /// Why they can't go on as they are.
        why: String,
    },
    /// Start nodes.
    Start {
        /// The nodes.
        nodes: Vec<NodeId>,
        /// Why they do not run.
        why: String,
    },
    /// Stop one node in order, start it, and wait until it is back.
    Restart {
        /// The node.
        node: NodeId,
        /// Why it can't go on as it is.
        why: String,
    },
    /// Wait until nodes answer and the cluster has a leader with a lease.
    WaitForLeader {
        /// The nodes that have to answer.
        nodes: Vec<NodeId>,
    },
}

impl Step {
    /// The word for it, the same in text and JSON.
    #[must_use]
    pub fn action(&self) -> &'static str {
        match self {
            Step::Build { .. } => "build",
            Step::Ship { .. } => "ship",
            Step::Resume { .. } => "resume",
            Step::Stop { .. } => "stop",
            Step::Start { .. } => "start",
            Step::Restart { .. } => "restart",
            Step::WaitForLeader { .. } => "wait",
        }
    }

    /// What is told of a node while it is taken, and afterwards.
    #[must_use]
    pub fn phases(&self) -> (&'static str, &'static str) {
        match self {
            Step::Build { .. } => ("", ""),
            Step::Ship { .. } => ("waiting for its upload", "shipped"),
            Step::Resume { .. } => ("resuming", "resumed"),
            Step::Stop { .. } => ("stopping", "stopped"),
            Step::Start { .. } => ("starting", "started"),
            Step::Restart { .. } => ("restarting", "restarted"),
            Step::WaitForLeader { .. } => ("waiting for a leader", "up"),
        }
    }

    /// The nodes it concerns.
    #[must_use]
    pub fn nodes(&self) -> &[NodeId] {
        match self {
            Step::Build { .. } => &[],
            Step::Restart { node, .. } => std::slice::from_ref(node),
            Step::Resume { nodes }
            | Step::Ship { nodes, .. }
            | Step::Stop { nodes, .. }
            | Step::Start { nodes, .. }
            | Step::WaitForLeader { nodes } => nodes,
        }
    }

    /// The step without some of its nodes; nothing where none is left.
    #[must_use]
    pub fn without(mut self, is_left_out: impl Fn(&NodeId) -> bool) -> Option<Self> {
        let is_empty = match &mut self {
            Step::Build { .. } => false,
            Step::Restart { node, .. } => is_left_out(node),
            Step::Resume { nodes }
            | Step::Ship { nodes, .. }
            | Step::Stop { nodes, .. }
            | Step::Start { nodes, .. }
            | Step::WaitForLeader { nodes } => {
                nodes.retain(|id| !is_left_out(id));
                nodes.is_empty()
            }
        };
        (!is_empty).then_some(self)
    }

    /// Why it has to be; may be empty.
    #[must_use]
    pub fn why(&self) -> &str {
        match self {
            Step::Build { command } => command,
            Step::Ship { release, .. } => release,
            Step::Stop { why, .. } | Step::Start { why, .. } | Step::Restart { why, .. } => why,
            Step::Resume { .. } => "paused",
            Step::WaitForLeader { .. } => "",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Build { command } => write!(formatter, "build raft-node: {command}"),
            Step::Ship { nodes, release } => {
                write!(formatter, "ship raft-node to {} ({release})", list(nodes))
            }
            Step::WaitForLeader { nodes } => {
                write!(
                    formatter,
                    "wait for a leader with a lease, and for {}",
                    list(nodes)
                )
            }
            other => write!(
                formatter,
                "{} {} ({})",
                other.action(),
                list(other.nodes()),
                other.why()
            ),
        }
    }
}
