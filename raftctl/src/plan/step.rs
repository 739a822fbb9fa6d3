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
    /// Make the authority that signs certificates, on this machine.
    MakeAuthority {
        /// Its key.
        path: String,
    },
    /// Give nodes certificates, and tell them whom to trust.
    Certify {
        /// The nodes.
        nodes: Vec<NodeId>,
        /// Why they need them.
        why: String,
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
    /// Start nodes that join the cluster.
    Join {
        /// The nodes.
        nodes: Vec<NodeId>,
    },
    /// Add nodes as learners, which get the log and count for nothing.
    Learn {
        /// The nodes.
        nodes: Vec<NodeId>,
    },
    /// Wait until learners have caught up.
    CatchUp {
        /// The nodes.
        nodes: Vec<NodeId>,
        /// The last entry of the leader's log when that was planned.
        entries: u64,
    },
    /// Hand leadership over from a node that is to leave.
    HandOver {
        /// The node.
        from: NodeId,
    },
    /// Change who votes, all at once.
    ChangeVoters {
        /// Who is to belong to the cluster afterwards.
        members: Vec<NodeId>,
        /// Those of them that do not vote yet.
        join: Vec<NodeId>,
        /// Those that leave.
        leave: Vec<NodeId>,
    },
    /// End the processes of nodes that left.
    TakeDown {
        /// The nodes.
        nodes: Vec<NodeId>,
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
            Step::MakeAuthority { .. } => "make-authority",
            Step::Certify { .. } => "certify",
            Step::Resume { .. } => "resume",
            Step::Stop { .. } => "stop",
            Step::Start { .. } => "start",
            Step::Restart { .. } => "restart",
            Step::Join { .. } => "join",
            Step::Learn { .. } => "learn",
            Step::CatchUp { .. } => "catch-up",
            Step::HandOver { .. } => "hand-over",
            Step::ChangeVoters { .. } => "change-voters",
            Step::TakeDown { .. } => "take-down",
            Step::WaitForLeader { .. } => "wait",
        }
    }

    /// What is told of a node while it is taken, and afterwards.
    #[must_use]
    pub fn phases(&self) -> (&'static str, &'static str) {
        match self {
            Step::Build { .. } | Step::MakeAuthority { .. } => ("", ""),
            Step::Certify { .. } => ("waiting for its certificate", "has its certificate"),
            Step::Ship { .. } => ("waiting for its upload", "shipped"),
            Step::Resume { .. } => ("resuming", "resumed"),
            Step::Stop { .. } => ("stopping", "stopped"),
            Step::Start { .. } => ("starting", "started"),
            Step::Restart { .. } => ("restarting", "restarted"),
            Step::Join { .. } => ("starting, to join", "started"),
            Step::Learn { .. } => ("becoming a learner", "learner"),
            Step::CatchUp { .. } => ("catching up", "caught up"),
            Step::HandOver { .. } => ("handing over", "handed over"),
            Step::ChangeVoters { .. } => ("changing voters", "voter"),
            Step::TakeDown { .. } => ("being taken down", "gone"),
            Step::WaitForLeader { .. } => ("waiting for a leader", "up"),
        }
    }

    /// The nodes it concerns.
    #[must_use]
    pub fn nodes(&self) -> &[NodeId] {
        match self {
            Step::Build { .. } | Step::MakeAuthority { .. } => &[],
            Step::Restart { node, .. } | Step::HandOver { from: node } => {
                std::slice::from_ref(node)
            }
            Step::ChangeVoters { join, .. } => join,
            Step::Join { nodes }
            | Step::Learn { nodes }
            | Step::CatchUp { nodes, .. }
            | Step::TakeDown { nodes }
            | Step::Resume { nodes }
            | Step::Ship { nodes, .. }
            | Step::Certify { nodes, .. }
            | Step::Stop { nodes, .. }
            | Step::Start { nodes, .. }
            | Step::WaitForLeader { nodes } => nodes,
        }
    }

    /// The step without some of its nodes; nothing where none is left. A change of members is one for all of
    /// its nodes, or none.
    #[must_use]
    pub fn without(mut self, is_left_out: impl Fn(&NodeId) -> bool) -> Option<Self> {
        let is_empty = match &mut self {
            Step::Build { .. }
            | Step::MakeAuthority { .. }
            | Step::Join { .. }
            | Step::Learn { .. }
            | Step::CatchUp { .. }
            | Step::HandOver { .. }
            | Step::ChangeVoters { .. }
            | Step::TakeDown { .. } => false,
            Step::Restart { node, .. } => is_left_out(node),
            Step::Resume { nodes }
            | Step::Ship { nodes, .. }
            | Step::Certify { nodes, .. }
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
            Step::MakeAuthority { path } => path,
            Step::Certify { why, .. }
            | Step::Stop { why, .. }
            | Step::Start { why, .. }
            | Step::Restart { why, .. } => why,
            Step::Resume { .. } => "paused",
            Step::Join { .. } => "new: to join the cluster",
            Step::HandOver { .. } => "leads, and is to leave",
            Step::TakeDown { .. } => "no members any more",
            Step::Learn { .. }
            | Step::CatchUp { .. }
            | Step::ChangeVoters { .. }
            | Step::WaitForLeader { .. } => "",
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
            Step::MakeAuthority { path } => {
                write!(
                    formatter,
                    "make the authority that signs certificates ({path})"
                )
            }
            Step::Certify { nodes, why } => {
                let what = if nodes.len() == 1 {
                    "a certificate"
                } else {
                    "certificates"
                };
                write!(formatter, "give {} {what} ({why})", list(nodes))
            }
            Step::Join { nodes } => {
                write!(formatter, "start {} ({})", list(nodes), self.why())
            }
            Step::Learn { nodes } => match nodes.as_slice() {
                [one] => write!(formatter, "add node {one} as a learner"),
                several => write!(formatter, "add {} as learners", list(several)),
            },
            Step::CatchUp { nodes, entries } => {
                let has = if nodes.len() == 1 { "has" } else { "have" };
                let nodes = list(nodes);
                write!(
                    formatter,
                    "wait until {nodes} {has} caught up with entry {entries}"
                )
            }
            Step::HandOver { from } => {
                write!(
                    formatter,
                    "hand leadership over from node {from}, which leaves"
                )
            }
            Step::ChangeVoters { join, leave, .. } => change_voters(formatter, join, leave),
            Step::TakeDown { nodes } => {
                write!(formatter, "take down {} ({})", list(nodes), self.why())
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

fn change_voters(
    formatter: &mut fmt::Formatter<'_>,
    join: &[NodeId],
    leave: &[NodeId],
) -> fmt::Result {
    let become_voters = match join {
        [] => None,
        [one] => Some(format!("make node {one} a voter")),
        several => Some(format!("make {} voters", list(several))),
    };
    let leave = (!leave.is_empty()).then(|| format!("remove {}", list(leave)));
    let parts: Vec<String> = become_voters.into_iter().chain(leave).collect();
    write!(formatter, "{}, in one change", parts.join(" and "))
}
