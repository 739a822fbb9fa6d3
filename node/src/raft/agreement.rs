//! Whether all nodes have come to the same state.
//!
//! A snapshot's hash is a function of the log up to its last entry, so nodes that took one at the same
//! entry have the same hash, or one of them has applied something wrongly: a bug, or a file that was
//! changed by hand. A follower tells its leader the hash of its newest snapshot; the leader keeps what it
//! was told of the last few, its own among them, and *what a majority has counts*: a leader alone would
//! otherwise take the others down with it. Who has another state is told so, and ends
//! ([`Contradiction::OtherState`]), so that it neither answers reads nor votes nor leads with it; the
//! leader does the same where it is the one. Where no majority has one hash, that is told as well, and
//! nobody ends: nobody knows who is right.

use super::hashes::StateTold;
use super::state::{Raft, State};
use super::{Contradiction, Event, Index, Message, NodeId, SnapshotId};
use std::sync::Arc;

impl Raft {
    /// A follower tells its leader which state it has come to; once, and again in case it got lost.
    pub(super) fn tell_state(&mut self, leader: NodeId) {
        let Some(SnapshotId { index, hash, .. }) = self.snapshot else {
            return;
        };
        let (term, at_us) = (self.term(), self.now);
        let told = StateTold {
            leader,
            term,
            index,
            at_us,
        };
        let is_known = |before: StateTold| {
            let lasts = at_us < before.at_us + self.config.lease_us;
            lasts && (before.leader, before.term, before.index) == (leader, term, index)
        };
        if self.state_told.is_some_and(is_known) {
            return;
        }
        self.state_told = Some(told);
        let agreed = false;
        self.send(
            leader,
            Message::State {
                term,
                index,
                hash,
                agreed,
            },
        );
    }

    /// A leader counts the state that it has come to itself.
    pub(super) fn note_own_state(&mut self) {
        let (own, snapshot) = (self.config.id, self.snapshot);
        if let Some(SnapshotId { index, hash, .. }) = snapshot
            && let Some(leading) = self.leadership_mut()
        {
            leading.states.note(own, index, hash);
            self.compare_states(index);
        }
    }

    pub(super) fn on_state(&mut self, from: NodeId, index: Index, hash: u32, agreed: bool) {
        if !agreed {
            if let Some(leading) = self.leadership_mut() {
                leading.states.note(from, index, hash);
                self.compare_states(index);
            }
        } else if matches!(self.state, State::Follower) && self.leader == Some(from) {
            let own = self.snapshot.filter(|own| own.index == index);
            if let Some(own) = own.filter(|own| own.hash != hash) {
                self.end_with_other_state(index, own.hash, hash);
            }
        }
    }

    fn end_with_other_state(&mut self, index: Index, own: u32, agreed: u32) {
        self.contradict(Contradiction::OtherState { index, own, agreed });
    }

    /// Looks at what was told of the state after an entry.
    fn compare_states(&mut self, index: Index) {
        let (own, term, members) = (self.config.id, self.term(), Arc::clone(self.members()));
        let Some(leading) = self.leadership_mut() else {
            return;
        };
        let states = &mut leading.states;
        let Some(told) = states.told.get(&index).cloned() else {
            return;
        };
        let agreed = states.agreed(index, &members);
        let Some(right) = agreed.or_else(|| told.get(&own).copied()) else {
            return;
        };
        if let (Some(agreed), Some(hash)) = (agreed, told.get(&own))
            && *hash != agreed
        {
            return self.end_with_other_state(index, *hash, agreed);
        }
        let mut found = Vec::new();
        for (peer, hash) in told.into_iter().filter(|(peer, _)| *peer != own) {
            if hash == right {
                states
                    .differs
                    .retain(|other, at| *other != peer || *at > index);
            } else {
                let is_new = states.differs.insert(peer, index) != Some(index);
                found.push((peer, is_new));
            }
        }
        for (peer, is_new) in found {
            if let Some(hash) = agreed {
                let agreed = true;
                self.send(
                    peer,
                    Message::State {
                        term,
                        index,
                        hash,
                        agreed,
                    },
                );
            }
            if is_new {
                let agreed = agreed.is_some();
                self.event(Event::StateDiffers {
                    peer,
                    term,
                    index,
                    agreed,
                });
            }
        }
    }
}
