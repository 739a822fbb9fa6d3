//! An operator who wants other members, and goes on until the cluster has them: looks at whoever leads, adds
//! learners, changes voters when they have caught up, and has the lead handed over where its holder is to leave.

use crate::fault::Target;
use crate::oracle::{Checked, broken};
use crate::world::{Event, World};
use raft_node::command::{Member, Members};
use raft_node::engine::{Input, Request};
use raft_node::raft::{Contradiction, Index, Micros, NodeId};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Between two looks of the operator.
const LOOK_US: Micros = 40_000;

/// See the module.
#[derive(Debug)]
pub struct Operator {
    /// Who is to vote in the end.
    wish: BTreeSet<NodeId>,
    /// Everybody who was ever wished for.
    used: BTreeSet<NodeId>,
    /// It looks again by itself.
    looks: bool,
    /// It may have the lead handed over to anybody, also to one that is to leave as well.
    hasty: bool,
}

impl Operator {
    /// Content with the voters that there are.
    pub fn new(voters: BTreeSet<NodeId>) -> Self {
        Operator {
            used: voters.clone(),
            wish: voters,
            looks: false,
            hasty: true,
        }
    }
}

/// How members are to change.
#[derive(Clone, Copy, Debug)]
pub enum Change {
    /// One more.
    Grow,
    /// This one leaves.
    Shrink(Target),
    /// Another in place of this one.
    Replace(Target),
}

impl World {
    /// The operator wishes for something else from now on.
    pub fn wish(&mut self, change: Change) {
        let spare = self.ids().find(|id| !self.operator.used.contains(id));
        let gone = match change {
            Change::Grow => None,
            Change::Shrink(target) | Change::Replace(target) => Some(self.resolve(target)),
        };
        let comes = match change {
            Change::Shrink(_) => None,
            Change::Grow | Change::Replace(_) => spare,
        };
        let wish = &mut self.operator.wish;
        wish.extend(comes);
        self.operator.used.extend(comes);
        let stays = |id: &NodeId| Some(*id) != gone;
        if wish.iter().any(stays) && (comes.is_some() || matches!(change, Change::Shrink(_))) {
            wish.retain(stays);
        }
        self.look_again();
    }

    /// The operator wishes for just these voters, and leaves it to the leader to hand over: who stands next to
    /// a second transfer within a lease waits for it.
    pub fn wish_for(&mut self, voters: &[NodeId]) {
        self.operator.hasty = false;
        self.operator.wish = voters.iter().copied().collect();
        self.operator.used.extend(voters);
        self.look_again();
    }

    fn look_again(&mut self) {
        if !std::mem::replace(&mut self.operator.looks, true) {
            self.schedule(LOOK_US, Event::Operate);
        }
    }

    /// The members that are committed.
    pub fn committed_members(&self) -> Arc<Members> {
        self.oracle.members()
    }

    /// Whether the operator has what was wished for.
    pub fn is_wish_fulfilled(&self) -> bool {
        let members = self.committed_members();
        let nodes = members.nodes.keys().eq(&self.operator.wish);
        members.voters == self.operator.wish && !members.is_joint() && nodes
    }

    /// The configuration in force at a node, and its entry.
    pub fn members_of(&self, id: NodeId) -> Option<(Index, Arc<Members>)> {
        let running = self.machines[id as usize - 1].running.as_ref()?;
        let raft = running.engine.raft();
        Some((raft.members_index(), Arc::clone(raft.members())))
    }

    pub(crate) fn on_operate(&mut self) {
        if self.is_wish_fulfilled() {
            self.operator.looks = false;
            self.coverage.count("changes of members done", 1);
            return;
        }
        self.schedule(LOOK_US, Event::Operate);
        let Some(leader) = self.leader() else {
            return;
        };
        // Now and then it looked at another node, and what it saw is old.
        let asked = match self.random.percent(20) {
            true => self.random.within(1..=self.plan.nodes as NodeId),
            false => leader,
        };
        if let Some((base, members)) = self.members_of(asked) {
            self.operate(leader, base, &members);
        }
    }

    fn operate(&mut self, leader: NodeId, base: Index, members: &Members) {
        let wish = self.operator.wish.clone();
        let mut target = members.clone();
        target.outgoing.clear();
        let missing: Vec<NodeId> = wish
            .iter()
            .copied()
            .filter(|id| !members.nodes.contains_key(id))
            .collect();
        if missing.is_empty() {
            // The leader does so by itself, but an operator may be quicker.
            let stay = members.voters.iter().any(|id| wish.contains(id));
            let hasty = self.operator.hasty && self.random.percent(30);
            if !wish.contains(&leader) && stay && hasty {
                return self.transfer(leader, None);
            }
            target.voters = wish.clone();
            target.nodes.retain(|id, _| wish.contains(id));
        }
        target
            .nodes
            .extend(missing.into_iter().map(|id| (id, Member::default())));
        self.change_members(leader, base, target);
    }

    /// An operator asks a node for other members.
    pub fn change_members(&mut self, id: NodeId, base: Index, target: Members) {
        let token = self.operator_token;
        let request = Request::ChangeMembers { base, target };
        self.hand(id, Input::Request { token, request });
    }

    /// A node says that it can't go on. It may, if it was removed.
    pub(crate) fn on_contradiction(&mut self, id: NodeId, contradiction: Contradiction) -> Checked {
        match contradiction {
            Contradiction::Removed { .. } if self.committed_members().retired.contains(&id) => {
                self.coverage.count("removed nodes that end", 1);
                self.machine(id).is_removed = true;
                self.crash(id);
                Ok(())
            }
            other => broken("no node contradicts another", format!("node {id}: {other}")),
        }
    }

    /// When all is well, the change that was wished for comes to its end, and who was removed is told so by whomever it
    /// dials.
    pub(crate) fn settle_members(&mut self) -> Checked {
        let deadline_us = self.now + self.plan.recovery_us() + 10_000_000;
        while !self.is_wish_fulfilled() {
            if self.now >= deadline_us {
                let detail = format!(
                    "{:?}, not {:?}",
                    self.committed_members(),
                    self.operator.wish
                );
                return broken("a change of members ends", detail);
            }
            // What a node that stood still did late may have undone what there was.
            self.look_again();
            self.run_to(self.now + 50_000)?;
        }
        for id in self.ids() {
            if self.committed_members().retired.contains(&id) {
                self.machine(id).is_removed = true;
                self.crash(id);
            }
        }
        Ok(())
    }
}
