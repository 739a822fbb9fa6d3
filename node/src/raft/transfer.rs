//! Transfer of leadership (Raft dissertation 3.10), with the lease given up on the way.
//!
//! The leader takes no more proposals, brings the target up to date, gives up the lease of its
//! term for good, and only then tells the target to stand. The voters leave just this one lease
//! out of what they report, so the target need not wait. If the message comes late or never, no
//! harm is done: the lease is gone either way, and a target that does not know so waits.

use super::core::{Raft, State};
use super::{Event, Message, Micros, NodeId, Refusal, Term};

/// A transfer under way, at the leader.
#[derive(Debug)]
pub(super) struct Handover {
    target: NodeId,
    pub(super) deadline_us: Micros,
    told: bool,
}

/// Somebody waits for the transfer's outcome, whatever this node becomes meanwhile.
#[derive(Debug)]
pub(super) struct TransferWatch {
    term: Term,
    pub(super) deadline_us: Micros,
}

impl Raft {
    pub(super) fn on_transfer(&mut self, target: Option<NodeId>) {
        match self.begin_transfer(target) {
            Ok(target) => self.advance_handover(target),
            Err(refusal) => self.out.transferred.push(Err(refusal)),
        }
    }

    fn begin_transfer(&mut self, target: Option<NodeId>) -> Result<NodeId, Refusal> {
        let deadline_us = self.now + *self.config.election_timeout_us.start();
        let (term, leader) = (self.term(), self.leader);
        let watched = self.transfer_watch.is_some();
        let Some(leading) = self.leadership_mut() else {
            return Err(Refusal::NotLeader { leader });
        };
        if leading.handover.is_some() || leading.released || watched {
            return Err(Refusal::Transferring);
        }
        let candidates = leading.progress.iter().filter(|(id, progress)| {
            progress.connected && target.is_none_or(|target| target == **id)
        });
        let best = candidates.max_by_key(|(_, progress)| progress.match_index);
        let target = *best.ok_or(Refusal::TransferFailed)?.0;
        leading.handover = Some(Handover {
            target,
            deadline_us,
            told: false,
        });
        self.transfer_watch = Some(TransferWatch { term, deadline_us });
        self.event(Event::TransferStarted { target, term });
        Ok(target)
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
            Some(handover) if handover.target == from && !handover.told && up_to_date(from) => {
                handover.told = true;
            }
            _ => return,
        }
        // For good, and before the target can hear of it.
        leading.released = true;
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
        let Some(leading) = self.leadership_mut() else {
            return;
        };
        match &leading.handover {
            Some(handover) if now >= handover.deadline_us => {}
            _ => return,
        }
        leading.handover = None;
        if leading.released {
            // Without a lease there is no use in leading on.
            self.become_follower(term, None);
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
            && !self.is_damaged()
            && self.log.last_index() >= last_index;
        if may_stand {
            self.start_election(released.then_some((from, term)));
        }
    }
}
