//! Transfer of leadership (Raft dissertation 3.10), with the lease given up on the way.
//!
//! The leader takes no more proposals, brings the target up to date, gives up the lease of its
//! term for good, and only then tells the target to stand. The voters forget their promise to just
//! this one lease, so neither the target nor who follows on it need wait. If the message comes late or
//! never, no harm is done: the lease is gone either way, and a target that does not know so waits.

use super::state::{Choice, Handover, Raft, State, TransferWatch};
use super::{Event, Message, Micros, Mutation, NodeId, Refusal};
use std::sync::Arc;

/// Where anybody may take over, somebody must answer within this part of the time that a transfer
/// may take: who stops a node waits for it.
const ANSWER_PARTS: Micros = 4;

impl Raft {
    pub(super) fn on_transfer(&mut self, target: Option<NodeId>) {
        match self.begin_transfer(target) {
            Ok(Choice::This(target)) => {
                let term = self.term();
                self.event(Event::TransferStarted { target, term });
                self.advance_handover(target);
            }
            Ok(Choice::First { .. }) => {
                for peer in self.peers() {
                    self.send_append(peer, false);
                }
            }
            Err(refusal) => self.out.transferred.push(Err(refusal)),
        }
    }

    fn begin_transfer(&mut self, target: Option<NodeId>) -> Result<Choice, Refusal> {
        let timeout_us = *self.config.election_timeout_us.start();
        let deadline_us = self.now + timeout_us;
        let answer_by_us = Some(self.now + timeout_us / ANSWER_PARTS);
        let (term, leader) = (self.term(), self.leader);
        let members = Arc::clone(self.members());
        let watched = self.transfer_watch.is_some();
        let Some(leading) = self.leadership_mut() else {
            return Err(Refusal::NotLeader { leader });
        };
        if leading.handover.is_some() || leading.released || watched {
            return Err(Refusal::Transferring);
        }
        let mut candidates = leading.progress.iter().filter(|(id, progress)| {
            let may_lead = members.voters.contains(id);
            may_lead && progress.connected && target.is_none_or(|target| target == **id)
        });
        let any = *candidates.next().ok_or(Refusal::TransferFailed)?.0;
        let choice = match target {
            Some(_) => Choice::This(any),
            None => Choice::First {
                sequence: leading.sequence + 1,
                answer_by_us,
            },
        };
        leading.handover = Some(Handover {
            target: choice,
            deadline_us,
            told: false,
        });
        self.transfer_watch = Some(TransferWatch { term, deadline_us });
        Ok(choice)
    }

    /// A peer has answered an append of this sequence: it may be the one to take over.
    pub(super) fn choose_target(&mut self, from: NodeId, answered: u64) {
        let (last_index, term) = (self.log.last_index(), self.term());
        let may_lead = self.members().voters.contains(&from);
        let Some(leading) = self.leadership_mut() else {
            return;
        };
        let holds_all = may_lead
            && leading
                .progress
                .get(&from)
                .is_some_and(|progress| progress.match_index == last_index);
        let Some(handover) = &mut leading.handover else {
            return;
        };
        match &mut handover.target {
            Choice::First {
                sequence,
                answer_by_us,
            } if answered >= *sequence => *answer_by_us = None,
            _ => return,
        }
        if holds_all {
            handover.target = Choice::This(from);
            self.event(Event::TransferStarted { target: from, term });
        }
    }

    /// Tells the target to stand as soon as it holds the whole log.
    pub(super) fn advance_handover(&mut self, from: NodeId) {
        let (last_index, term) = (self.log.last_index(), self.term());
        let Some(leading) = self.leadership_mut() else {
            return;
        };
        let up_to_date = |id| {
            let progress = leading.progress.get(&id);
            progress.is_some_and(|progress| progress.match_index == last_index)
        };
        match &mut leading.handover {
            Some(handover)
                if handover.target == Choice::This(from) && !handover.told && up_to_date(from) =>
            {
                handover.told = true;
            }
            _ => return,
        }
        // For good, and before the target can hear of it.
        leading.released = true;
        self.event(Event::LeaseReleased { target: from, term });
        self.send(
            from,
            Message::TimeoutNow {
                term,
                last_index,
                released: true,
            },
        );
    }

    /// The target did not catch up, or did not win, in time.
    pub(super) fn expire_handover(&mut self) {
        let (now, term) = (self.now, self.term());
        let regains = self.mutated(Mutation::TransferRegainsLease);
        let Some(leading) = self.leadership_mut() else {
            return;
        };
        match &leading.handover {
            Some(handover) if now >= handover.due_us() => {}
            _ => return,
        }
        leading.handover = None;
        if leading.released && regains {
            leading.released = false;
        } else if leading.released {
            // Without a lease there is no use in leading on.
            return self.become_follower(term, None);
        }
        // Nobody was told, so nobody will take over.
        if self.transfer_watch.take().is_some() {
            self.out.transferred.push(Err(Refusal::TransferFailed));
        }
    }

    pub(super) fn watch_transfer(&mut self) {
        match &self.transfer_watch {
            Some(watch) if self.now >= watch.deadline_us => {
                self.transfer_watch = None;
                self.out.transferred.push(Err(Refusal::TransferFailed));
            }
            _ => {}
        }
    }

    /// Another leader was heard.
    pub(super) fn finish_transfer(&mut self, leader: NodeId) {
        match &self.transfer_watch {
            Some(watch) if self.term() > watch.term => {
                self.transfer_watch = None;
                self.counters.transfers += 1;
                self.out.transferred.push(Ok(leader));
            }
            _ => {}
        }
    }

    pub(super) fn on_timeout_now(&mut self, from: NodeId, last_index: u64, released: bool) {
        let term = self.term();
        let may_stand = matches!(self.state, State::Follower)
            && self.is_voter()
            && !self.is_damaged()
            && self.log.last_index() >= last_index;
        if may_stand {
            self.start_election(released.then_some((from, term)));
        }
    }
}
