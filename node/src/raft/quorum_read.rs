//! Quorum reads (ReadIndex, Raft dissertation 6.4): one heartbeat round confirms leadership for all
//! the reads that wait. Trusts no clock.

use super::state::{Raft, ReadRound};
use super::{Mutation, Refusal};

/// Quorum reads that wait; then further ones are refused.
const QUORUM_READS_MAX: usize = 16 * 1024;

impl Raft {
    pub(super) fn on_quorum_read(&mut self, token: u64) {
        let leader = self.leader;
        let refusal = match self.leadership_mut() {
            None => Some(Refusal::NotLeader { leader }),
            Some(leading) if leading.reads_waiting.len() >= QUORUM_READS_MAX => {
                Some(Refusal::Overloaded)
            }
            Some(leading) => {
                leading.reads_waiting.push(token);
                None
            }
        };
        match refusal {
            Some(refusal) => self.out.quorum_reads.push((token, Err(refusal))),
            None => self.confirm_reads(),
        }
    }

    /// Finishes the read round that a majority has acknowledged, then starts the next for all the
    /// reads that came meanwhile. Nothing is read before an entry of the own term is committed:
    /// before that the commit index may be behind what an older leader acknowledged.
    pub(super) fn confirm_reads(&mut self) {
        loop {
            self.finish_read_round();
            if !self.start_read_round() {
                return;
            }
        }
    }

    fn finish_read_round(&mut self) {
        let too_few = usize::from(self.mutated(Mutation::QuorumReadOfMinority));
        let Some(leading) = self.leadership() else {
            return;
        };
        let Some(round) = &leading.read_round else {
            return;
        };
        let confirmed = |id| {
            let progress = leading.progress.get(&id);
            id == self.config.id
                || progress.is_some_and(|it| it.acked_sequence >= round.first_sequence)
        };
        let given = std::cell::Cell::new(too_few);
        let enough = self.has_sure_quorum(|id| {
            confirmed(id) || given.get() > 0 && given.replace(given.get() - 1) > 0
        });
        if !enough {
            return;
        }
        let Some(leading) = self.leadership_mut() else {
            return;
        };
        if let Some(round) = leading.read_round.take() {
            let confirmed = round.tokens.into_iter();
            let confirmed = confirmed.map(|token| (token, Ok(round.read_index)));
            self.out.quorum_reads.extend(confirmed);
        }
    }

    fn start_read_round(&mut self) -> bool {
        let read_index = self.commit_index;
        let earlier = u64::from(self.mutated(Mutation::QuorumReadByEarlierAck));
        match self.leadership() {
            Some(leading)
                if leading.read_round.is_none()
                    && !leading.reads_waiting.is_empty()
                    && self.own_term_committed(leading) => {}
            _ => return false,
        }
        if let Some(leading) = self.leadership_mut() {
            leading.read_round = Some(ReadRound {
                first_sequence: leading.sequence + 1 - earlier,
                read_index,
                tokens: std::mem::take(&mut leading.reads_waiting),
            });
        }
        self.counters.read_rounds += 1;
        for peer in self.peers() {
            self.send_append(peer, false);
        }
        true
    }
}
