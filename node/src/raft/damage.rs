//! What damage to the own log means for elections.
//!
//! A node that lost entries which it had acknowledged neither votes nor stands until a leader has
//! refilled it. Where an operator gave up what was lost, it votes at once, but leaves it to others
//! to lead for a while: one of them may hold it.

use super::state::{Damage, Raft};
use super::status::LogState;
use super::{Index, Mutation};

impl Raft {
    /// How whole the log is.
    pub fn log_state(&self) -> LogState {
        let Damage {
            from,
            until,
            accepted_until,
            ..
        } = self.damage;
        match (until > 0, accepted_until) {
            (true, _) => LogState::Damaged { from, until },
            (false, 0) => LogState::Whole,
            (false, until) => LogState::Accepted { until },
        }
    }

    /// Up to here entries were given up, until somebody is elected: see
    /// [`accepted_until`](super::Recovered::accepted_until).
    pub fn accepted_until(&self) -> Index {
        self.damage.accepted_until
    }

    /// The log equals that of the leader up to here. What damage cost was acknowledged in this term or
    /// earlier, and whoever leads since holds what was or will be committed of it: the leader of the
    /// same term made it, a later one was elected without this node's vote. So once the log reaches as
    /// far as it had, committed or not, this node holds again all that counts of what it acknowledged.
    pub(super) fn refilled_to(&mut self, index: Index) {
        if index >= self.damage.until {
            self.damage.until = 0;
        }
    }

    /// What damage cost was acknowledged in earlier terms. A leader that was elected since, without
    /// this node's vote, holds whatever of it was or will be committed, and with its own entry
    /// committed here, so does this node.
    pub(super) fn outlive_damage(&mut self) {
        let committed_term = self.log.term_at(self.commit_index).unwrap_or(0);
        if committed_term > self.damage.term {
            self.damage.until = 0;
        }
        if committed_term > self.damage.started_term {
            self.damage.accepted_until = 0;
        }
    }

    /// What damage cost was given up here, but another may hold it: that one should lead, with this
    /// node's vote. Waited for only so long, as there may be nobody.
    pub(super) fn leaves_it_to_others(&self) -> bool {
        self.log.last_index() < self.damage.accepted_until
            && self.now < self.damage.wait_until_us
            && self.members().all_voters().len() > 1
            && !self.mutated(Mutation::AcceptedDamageStandsAtOnce)
    }

    /// The log lost entries to damage and is not refilled yet: this node's vote could elect a
    /// leader that lacks what this node once acknowledged.
    pub(super) fn is_damaged(&self) -> bool {
        self.damage.until > 0 && !self.mutated(Mutation::DamagedNodeVotes)
    }
}
