//! The format gate: when the cluster may go over to entries, files and messages that older versions
//! do not read.
//!
//! An entry `FORMAT n` says so, and a leader proposes it only when every voter is connected and has
//! said in its greeting that it reads n. Until that entry is committed nothing of n is written, so
//! that each node can be taken back to the version before; from then on a version that does not read
//! n refuses the node's files by name. The way back ends with that entry, so it is not proposed
//! before something needs it ([`Raft::want_newer_format`]), and not at all while an operator holds it
//! ([`Formats::hold_at`](super::Formats::hold_at)).
//!
//! The entry that begins format 2 also says which cluster this is and who its voters are, so that
//! snapshots can name both and stay a function of the log alone: what nodes were started with may
//! differ from node to node. Changes of membership can go on from there.
//!
//! Deliberately absent: a way down again.

use super::state::Raft;
use super::{Mutation, NodeId};
use crate::command::{Command, Format};
use std::sync::Arc;

/// What keeps a cluster from going over to a newer format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatHindrance {
    /// By [`Formats::hold_at`](super::Formats::hold_at).
    #[error("an operator holds the format (--format-max)")]
    Held,
    /// Nobody knows what it reads.
    #[error("not all nodes are connected")]
    Away,
    /// It is of an older version.
    #[error("the version of some node does not read it")]
    Older,
}

impl Raft {
    /// The format that the log has come to, whether or not that is committed: what the node's files
    /// must name before they hold any of it.
    pub fn format_of_log(&self) -> u64 {
        self.log.format()
    }

    /// Something needs a newer format from now on: a snapshot would be taken.
    pub fn want_newer_format(&mut self) {
        self.newer_format_wanted = true;
    }

    /// What keeps a leader from going over to the newest format that it reads, if anything does. `None`: it
    /// does not lead, and can't know.
    pub fn format_hindrance(&self) -> Option<Result<(), FormatHindrance>> {
        self.leadership()?;
        let formats = self.config.formats;
        Some(match self.format_read_by_all() {
            _ if formats.hold_at < formats.reads => Err(FormatHindrance::Held),
            None => Err(FormatHindrance::Away),
            Some(format) if format < formats.reads => Err(FormatHindrance::Older),
            Some(_) => Ok(()),
        })
    }

    /// The newest format that an operator lets the cluster go over to.
    pub fn format_held_at(&self) -> u64 {
        self.config.formats.hold_at
    }

    /// A leader proposes the newest format that all voters read, once.
    pub(super) fn raise_format_if_due(&mut self) {
        if let Some(version) = self.format_to_propose() {
            let voters = self.members().all_voters().into_iter().collect();
            let format = Format {
                version,
                cluster: self.cluster_id,
                voters,
            };
            self.append_own(vec![Arc::new(Command::Format(format))]);
            self.replicate();
        }
    }

    fn format_to_propose(&self) -> Option<u64> {
        let leading = self.leadership()?;
        let formats = self.config.formats;
        let is_due = self.newer_format_wanted || self.commit_index >= formats.raise_from;
        if !is_due || self.log.format() >= formats.reads {
            return None;
        }
        // Before an entry of its own is committed it does not know what earlier leaders agreed on.
        let is_leaving = leading.handover.is_some() || leading.released;
        if is_leaving || !self.own_term_committed(leading) {
            return None;
        }
        let format = match self.mutated(Mutation::FormatRaisedUnasked) {
            true => formats.reads,
            false => self.format_read_by_all()?.min(formats.hold_at),
        };
        (format > self.log.format()).then_some(format)
    }

    /// The newest format that all voters read; `None`: one of them is not connected, so that nobody
    /// knows which version will come back.
    fn format_read_by_all(&self) -> Option<u64> {
        let mut peers = self.peers().into_iter();
        let own = self.config.formats.reads;
        if self.members_wanted {
            let connected = peers.filter_map(|peer| Some((peer, self.format_read_by(peer)?)));
            let connected: Vec<_> = connected.collect();
            let is_there = |id| id == self.config.id || connected.iter().any(|(it, _)| *it == id);
            let least = connected.iter().map(|(_, format)| *format);
            let majority = self.members().has_quorum(is_there);
            return majority.then(|| least.fold(own, u64::min));
        }
        peers.try_fold(own, |least, peer| {
            Some(least.min(self.format_read_by(peer)?))
        })
    }

    /// The newest format that a peer reads, if it is connected.
    pub(super) fn format_read_by(&self, peer: NodeId) -> Option<u64> {
        let link = self.links.get(&peer).filter(|link| link.is_up)?;
        Some(link.reads_format)
    }
}
