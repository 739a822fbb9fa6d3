//! Changes of membership (Raft paper, section 6; dissertation, chapter 4), always by joint consensus.
//!
//! A configuration is in force from its *append*, on each node, and undone where its entry is cut. Elections and
//! commits count by the one in force. The lease, and quorum reads, count by every configuration from the
//! last committed to the last appended, and the smallest wins: a leader can't know yet which of them its
//! successor will be elected by.
//!
//! Commits count by the one in force alone, although the lease does not: a new leader that has not heard yet that the
//! last one is committed would otherwise need the former voters, who may be gone.
//!
//! The rules, and what each is for:
//!
//! * *No change before an entry of the own term is committed* (the bug of 2015 in single-server changes). Here
//!   it is the lease's proof, too: commits wait for older leases, so a configuration that an old leader does not know can
//!   only exist when that one's lease is over.
//! * *One change at a time*, each made against the configuration that its maker saw: two operators can't
//!   undo each other's.
//! * *Learners first.* A node that joins gets the log, promises and acknowledges like a voter, and counts for nothing.
//!   It becomes a voter when it has caught up *and* the lease holds under the configuration that it leads
//!   to: so growing costs no read.
//! * *A leader never removes itself*: once the joint configuration is committed it hands over to one that stays,
//!   and that one goes on. Its own removal is the work of its successor.
//! * *Joint ends by itself*: whoever leads appends what it leads to once it is committed. Where its new voters never make
//!   a majority, the leader that appended it goes back after a while. Only that one can: it knows
//!   that nothing of the new voters alone was ever appended.
//! * *Who left hears of it*: a leader goes on sending until that is committed and told.

use super::progress::{Mode, Progress};
use super::state::{Leadership, Raft};
use super::{Index, Micros, Mutation, NodeId};
use crate::command::{Command, FORMAT_MEMBERS, Members};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Who lacks more entries than this has not caught up: as many as go into one append. Nor has who lacks the entry that
/// made it a member.
const BEHIND_MAX: u64 = 1_024;

/// A joint configuration that is not committed after so many leases is given up.
const JOINT_LEASES: Micros = 2;

/// Why a change of membership was refused. Nothing was done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MembersRefusal {
    /// Ask the leader, if one is named.
    #[error("this node is not the leader")]
    NotLeader {
        /// The believed leader.
        leader: Option<NodeId>,
    },
    /// Ask again in a moment.
    #[error("{0}")]
    NotReady(&'static str),
    /// Look at it, then ask again.
    #[error(
        "the members have changed meanwhile: the configuration in force is that of entry {in_force}"
    )]
    Changed {
        /// The configuration in force.
        in_force: Index,
    },
    /// Wait for its end.
    #[error("another change is under way, with entry {entry}")]
    UnderWay {
        /// Of the change.
        entry: Index,
    },
    /// Choose another id.
    #[error("{0} was the id of a node that left, and nobody gets it again: choose another id")]
    IdUsed(NodeId),
    /// Add it with another id.
    #[error(
        "node {0} has another directory than the member of that id: it lost its disk, or is another node. Add it \
         with an id of its own, in place of {0}"
    )]
    OtherDirectory(NodeId),
    /// One of the two is wrong.
    #[error("nodes {0} and {1} have the same address")]
    AddressTaken(NodeId, NodeId),
    /// Add it as a learner before.
    #[error(
        "node {0} is no member yet: add it as a learner first, and make it a voter when it has caught up"
    )]
    NotLearner(NodeId),
    /// A voter can't go back to learning.
    #[error("node {0} votes: it can leave, but not go back to learning")]
    VoterToLearner(NodeId),
    /// Wait.
    #[error("node {0} has not caught up yet")]
    Behind(NodeId),
    /// No log has such a configuration.
    #[error("no cluster can have these members: {0}")]
    Impossible(&'static str),
}

impl Raft {
    /// The configuration in force: the one that was appended last, committed or not.
    pub fn members(&self) -> &Arc<Members> {
        &self.log.members().1
    }

    /// The entry that put it in force. 0: what nodes were started with.
    pub fn members_index(&self) -> Index {
        self.log.members().0
    }

    /// Whether that entry is committed.
    pub fn members_committed(&self) -> bool {
        self.members_index() <= self.commit_index
    }

    /// The last configuration that is committed.
    pub fn committed_members(&self) -> &Arc<Members> {
        &self.log.members_at(self.commit_index).1
    }

    /// The entry of that one.
    pub fn committed_members_index(&self) -> Index {
        self.log.members_at(self.commit_index).0
    }

    /// Whether this node's vote may be needed, by the configuration in force.
    pub(super) fn is_voter(&self) -> bool {
        self.members().votes(self.config.id)
    }

    /// Whether this node was removed, as far as it knows: by a configuration that is committed.
    pub(super) fn is_removed(&self) -> bool {
        self.committed_members().retired.contains(&self.config.id)
    }

    /// The configuration by which elections and commits count.
    pub(super) fn in_force_for_quorums(&self) -> Arc<Members> {
        match self.config.mutation {
            Some(Mutation::MembersFromCommit) => Arc::clone(self.committed_members()),
            Some(Mutation::LearnerCounts) => {
                let mut members = Members::clone(self.members());
                members
                    .voters
                    .extend(members.nodes.keys().copied().collect::<Vec<_>>());
                Arc::new(members)
            }
            Some(Mutation::JointByNewAlone) => {
                let mut members = Members::clone(self.members());
                members.outgoing.clear();
                Arc::new(members)
            }
            _ => Arc::clone(self.members()),
        }
    }

    /// The highest value that a quorum has come to under each configuration that counts for leases; the smallest
    /// of these.
    pub(super) fn sure_by_quorums<T: Ord + Copy>(&self, value: impl Fn(NodeId) -> T) -> Option<T> {
        let counting = self.log.members_since(self.commit_index);
        let each = counting.map(|members| members.reached_by_quorum(&value));
        each.min().flatten()
    }

    /// Whether those for which this holds are a quorum under each configuration that counts for leases.
    pub(super) fn has_sure_quorum(&self, holds: impl Fn(NodeId) -> bool) -> bool {
        let mut counting = self.log.members_since(self.commit_index);
        counting.all(|members| members.has_quorum(&holds))
    }

    /// All other nodes whose vote may be needed.
    pub(super) fn other_voters(&self) -> Vec<NodeId> {
        let own = self.config.id;
        let voters = self.members().all_voters().into_iter();
        voters.filter(|id| *id != own).collect()
    }

    /// Takes in what an operator wants. Returns the entry of the configuration that it led to; of one that is in force
    /// already where it changes nothing.
    pub(super) fn on_change_members(&mut self, base: Index, target: Members) {
        let outcome = self.change_members(base, target);
        self.out.members_proposed = Some(outcome);
    }

    fn change_members(&mut self, base: Index, target: Members) -> Result<Index, MembersRefusal> {
        let Some(leading) = self.leadership() else {
            let leader = self.leader;
            return Err(MembersRefusal::NotLeader { leader });
        };
        if leading.handover.is_some() || leading.released {
            return Err(MembersRefusal::NotReady("leadership is being handed over"));
        }
        let early = self.mutated(Mutation::MembersBeforeOwnCommit);
        if !self.own_term_committed(leading) && !early {
            return Err(MembersRefusal::NotReady(
                "the leader is new and has not committed anything yet",
            ));
        }
        self.check_members_format()?;
        let (in_force, current) = self.log.members().clone();
        let goes_back = current.is_joint() && target.voters == current.outgoing;
        let on_top = self.mutated(Mutation::ChangeOnTopOfChange);
        let under_way = in_force > self.commit_index || current.is_joint();
        if under_way && !goes_back && !on_top {
            return Err(MembersRefusal::UnderWay { entry: in_force });
        }
        if base != in_force && !self.mutated(Mutation::MembersOfAnyBase) {
            return Err(MembersRefusal::Changed { in_force });
        }
        if goes_back {
            return self.go_back(&current);
        }
        let target = self.settled(&current, target)?;
        if target == *current {
            return Ok(in_force);
        }
        self.check_new_voters(&current, &target)?;
        let next = match target.voters == current.voters {
            true => target,
            false if self.mutated(Mutation::NoJointConsensus) || early => target,
            false => current.joint_with(&target),
        };
        // Both together may be too many, and no node would read them.
        match next.fault() {
            Some(fault) => Err(MembersRefusal::Impossible(fault)),
            None => Ok(self.append_members(next)),
        }
    }

    /// Changes need a format of their own. It is asked for with the first change, and not held up by nodes that are
    /// away: one of them may be the very node that is to be replaced.
    fn check_members_format(&mut self) -> Result<(), MembersRefusal> {
        if self.log.format_at(self.commit_index) >= FORMAT_MEMBERS {
            return Ok(());
        }
        if self.config.formats.hold_at < FORMAT_MEMBERS {
            return Err(MembersRefusal::Impossible(
                "an operator holds the format (--format-max), and changes need format 3",
            ));
        }
        self.newer_format_wanted = true;
        self.members_wanted = true;
        Err(MembersRefusal::NotReady(
            "the cluster goes over to format 3, which changes of membership need: every node that is connected must \
             run a raft-node that reads it",
        ))
    }

    /// The target with what it leaves open, if it can follow on the configuration in force.
    fn settled(&self, current: &Members, mut target: Members) -> Result<Members, MembersRefusal> {
        target.outgoing.clear();
        target.retired = current.retired.clone();
        let ids_again = self.mutated(Mutation::IdsUsedAgain);
        let used = target.nodes.keys().find(|id| target.retired.contains(id));
        match used {
            Some(id) if !ids_again => return Err(MembersRefusal::IdUsed(*id)),
            Some(_) => target.retired.retain(|id| !target.nodes.contains_key(id)),
            None => {}
        }
        for (id, before) in &current.nodes {
            let Some(member) = target.nodes.get_mut(id) else {
                continue;
            };
            if member.directory == 0 {
                member.directory = before.directory;
            }
            if before.directory != 0 && member.directory != before.directory {
                return Err(MembersRefusal::OtherDirectory(*id));
            }
            if current.voters.contains(id) && !target.voters.contains(id) {
                return Err(MembersRefusal::VoterToLearner(*id));
            }
        }
        target.retire_from(current);
        if let Some((one, other)) = same_address(&target) {
            return Err(MembersRefusal::AddressTaken(one, other));
        }
        match target.fault() {
            Some(fault) => Err(MembersRefusal::Impossible(fault)),
            None => Ok(target),
        }
    }

    fn check_new_voters(&self, current: &Members, target: &Members) -> Result<(), MembersRefusal> {
        let new: BTreeSet<NodeId> = target.voters.difference(&current.voters).copied().collect();
        for id in &new {
            if !current.nodes.contains_key(id) {
                return Err(MembersRefusal::NotLearner(*id));
            }
            if !self.has_caught_up(*id) && !self.mutated(Mutation::VoterBeforeCaughtUp) {
                return Err(MembersRefusal::Behind(*id));
            }
        }
        if target.voters != current.voters {
            let joint = current.joint_with(target);
            let lease = self.leadership().is_some_and(|leading| {
                self.lease_of(
                    leading,
                    joint
                        .reached_by_quorum(|id| self.acknowledged_us(leading, id))
                        .flatten(),
                ) > self.now
            });
            let early = self.mutated(Mutation::MembersBeforeOwnCommit);
            if !lease && !early && !self.mutated(Mutation::VoterBeforeLease) {
                return Err(MembersRefusal::NotReady(
                    "too few of the new voters have answered lately: the lease would end",
                ));
            }
        }
        Ok(())
    }

    fn has_caught_up(&self, id: NodeId) -> bool {
        let progress = self.leadership().and_then(|it| it.progress.get(&id));
        progress.is_some_and(|progress| {
            let behind = self.log.last_index().saturating_sub(progress.match_index);
            let learns = progress.match_index >= self.members_index() && behind <= BEHIND_MAX;
            progress.connected && progress.mode == Mode::Replicate && learns
        })
    }

    fn append_members(&mut self, members: Members) -> Index {
        self.append_own(vec![Arc::new(Command::Members(Arc::new(members)))]);
        let index = self.log.last_index();
        self.note_members_appended();
        self.replicate();
        index
    }

    /// A leader sends to whom the configuration in force names, and, for a while, to whom it does not name any
    /// more.
    fn note_members_appended(&mut self) {
        let (own, now) = (self.config.id, self.now);
        let next_index = self.log.last_index();
        let members = Arc::clone(self.members());
        let lease_us = self.config.lease_us;
        let new: Vec<(NodeId, bool)> = members
            .nodes
            .keys()
            .filter(|id| **id != own)
            .map(|id| (*id, self.is_connected(*id)))
            .collect();
        let Some(leading) = self.leadership_mut() else {
            return;
        };
        for (id, connected) in new {
            let begin = || Progress::new(next_index, connected, lease_us);
            leading.progress.entry(id).or_insert_with(begin);
        }
        leading.members_appended_us = now;
        leading.departed_until_us = None;
    }

    /// What is due of a change under way.
    pub(super) fn advance_members(&mut self) {
        self.drop_departed();
        let Some(leading) = self.leadership() else {
            return;
        };
        let (index, members) = self.log.members();
        if !members.is_joint() || leading.handover.is_some() || leading.released {
            return;
        }
        let members = Arc::clone(members);
        if *index <= self.commit_index {
            if !self.own_term_committed(leading) {
                return;
            }
            if members.voters.contains(&self.config.id)
                || self.mutated(Mutation::LeaderRemovesItself)
            {
                self.append_members(members.after_joint());
            } else if self.now >= leading.leave_at_us {
                self.leave_lead();
            }
        } else if self.joint_is_stuck(leading, *index) {
            self.go_back(&members).ok();
        }
    }

    fn joint_is_stuck(&self, leading: &Leadership, index: Index) -> bool {
        let any = self.mutated(Mutation::AnyLeaderGoesBack);
        let own = any || self.log.term_at(index) == Some(self.term());
        own && self.now >= leading.members_appended_us + JOINT_LEASES * self.config.lease_us
    }

    /// Whether a joint configuration that is not committed was taken back: it is committed with what follows it, or
    /// it would look as if both majorities had it.
    pub(super) fn takes_joint_back(&self) -> bool {
        self.log.members_since(self.commit_index).count() > 2
    }

    /// When [`Raft::advance_members`] has something to do at the latest.
    pub(super) fn members_wake_at(&self, leading: &Leadership) -> Option<Micros> {
        let (index, members) = self.log.members();
        let joint = match members.is_joint() {
            false => None,
            true if *index > self.commit_index => {
                Some(leading.members_appended_us + JOINT_LEASES * self.config.lease_us)
            }
            true => Some(leading.leave_at_us),
        };
        // What is past is looked at with the next heartbeat.
        let joint = joint.filter(|at| *at > self.now);
        [joint, leading.departed_until_us]
            .into_iter()
            .flatten()
            .min()
    }

    /// Out of a joint configuration that can't be committed. Only its own leader may: an earlier one might have gone on to
    /// the new voters alone.
    fn go_back(&mut self, joint: &Members) -> Result<Index, MembersRefusal> {
        let (index, _) = *self.log.members();
        let own = self.log.term_at(index) == Some(self.term());
        if index <= self.commit_index || !own && !self.mutated(Mutation::AnyLeaderGoesBack) {
            return Err(MembersRefusal::UnderWay { entry: index });
        }
        Ok(self.append_members(joint.before_joint()))
    }

    /// A leader that is to leave hands over to one that stays, and tries again where that fails.
    fn leave_lead(&mut self) {
        let retry_us = self.now + *self.config.election_timeout_us.start();
        if let Some(leading) = self.leadership_mut() {
            leading.leave_at_us = retry_us;
        }
        self.on_transfer(None);
    }

    /// Who was removed has been told by now, or is not there.
    fn drop_departed(&mut self) {
        let (now, lease_us, committed) = (self.now, self.config.lease_us, self.members_committed());
        let members = Arc::clone(self.members());
        let Some(leading) = self.leadership_mut() else {
            return;
        };
        let departed = leading
            .progress
            .keys()
            .any(|id| !members.nodes.contains_key(id));
        if !departed || !committed {
            return;
        }
        let until_us = *leading.departed_until_us.get_or_insert(now + lease_us);
        if now >= until_us {
            leading
                .progress
                .retain(|id, _| members.nodes.contains_key(id));
            leading.departed_until_us = None;
        }
    }
}

/// Two nodes that can't both be reached.
fn same_address(members: &Members) -> Option<(NodeId, NodeId)> {
    let all: Vec<_> = members.nodes.iter().collect();
    for (at, (one, member)) in all.iter().enumerate() {
        let taken = |address: &str| {
            let of = |other: &&(&NodeId, &crate::command::Member)| {
                &*other.1.peer_address == address || &*other.1.client_address == address
            };
            all[at + 1..].iter().find(of).map(|(other, _)| **other)
        };
        let addresses = [&*member.peer_address, &*member.client_address];
        let known = addresses.into_iter().filter(|address| !address.is_empty());
        if let Some(other) = known.filter_map(taken).next() {
            return Some((**one, other));
        }
    }
    None
}
