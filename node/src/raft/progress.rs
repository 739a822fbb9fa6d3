//! What a leader knows of one follower: how far its log matches, what is under way to it, and
//! which of the leader's sends it has acknowledged.

use super::{Index, Micros};
use std::collections::VecDeque;

/// Appends with entries under way to one peer; more wait for a reply.
pub(super) const IN_FLIGHT_MAX: usize = 64;
/// Sends whose acknowledgement is awaited. A peer that is silent for longer than this many sends
/// loses the oldest: an acknowledgement of them then counts for nothing.
const SENT_MAX: usize = 512;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Where the logs meet is not known: one append with entries, then heartbeats until an answer.
    Probe,
    /// Appends follow each other without waiting (Raft dissertation 10.2.1).
    Replicate,
}

#[derive(Clone, Copy, Debug)]
struct Sent {
    sequence: u64,
    at_us: Micros,
    carries_entries: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Progress {
    pub(super) match_index: Index,
    pub(super) next_index: Index,
    pub(super) mode: Mode,
    /// The newest commit index this peer was told.
    pub(super) commit_told: Index,
    pub(super) connected: bool,
    /// An append that probes is under way.
    pub(super) probing: bool,
    /// Rejections of sends before this one are old news.
    pub(super) valid_from_sequence: u64,
    /// Highest sequence that this peer has acknowledged.
    pub(super) acked_sequence: u64,
    /// When the newest acknowledged append was sent; `None`: none was acknowledged.
    pub(super) acked_sent_us: Option<Micros>,
    sent: VecDeque<Sent>,
    /// How many of `sent` carry entries.
    in_flight: usize,
}

impl Progress {
    pub(super) fn new(next_index: Index, connected: bool) -> Self {
        Progress {
            match_index: 0,
            next_index,
            mode: Mode::Probe,
            commit_told: 0,
            connected,
            probing: false,
            valid_from_sequence: 0,
            acked_sequence: 0,
            acked_sent_us: None,
            sent: VecDeque::new(),
            in_flight: 0,
        }
    }

    /// Whether a further append with entries may leave now.
    pub(super) fn may_send_entries(&self) -> bool {
        match self.mode {
            Mode::Probe => !self.probing,
            Mode::Replicate => self.in_flight < IN_FLIGHT_MAX,
        }
    }

    /// Notes a send, stamped before the transport has it.
    pub(super) fn note_sent(&mut self, sequence: u64, at_us: Micros, entries: u64) {
        if self.sent.len() == SENT_MAX {
            self.pop_sent();
        }
        self.in_flight += usize::from(entries > 0);
        self.sent.push_back(Sent {
            sequence,
            at_us,
            carries_entries: entries > 0,
        });
        match self.mode {
            Mode::Probe => self.probing = true,
            Mode::Replicate => self.next_index += entries,
        }
    }

    /// Takes in an acknowledgement. Returns the time of just that send, or `None` where it was
    /// acknowledged before or is not known (any more): then it proves nothing.
    pub(super) fn note_acked(&mut self, sequence: u64) -> Option<Micros> {
        self.acked_sequence = self.acked_sequence.max(sequence);
        while self.sent.front()?.sequence < sequence {
            self.pop_sent();
        }
        let front = *self.sent.front()?;
        (front.sequence == sequence).then(|| {
            self.pop_sent();
            front.at_us
        })
    }

    fn pop_sent(&mut self) {
        let popped = self.sent.pop_front();
        self.in_flight -= usize::from(popped.is_some_and(|sent| sent.carries_entries));
    }

    pub(super) fn newest_sent_us(&self) -> Option<Micros> {
        self.sent.back().map(|sent| sent.at_us)
    }

    pub(super) fn credit(&mut self, sent_us: Micros) {
        self.acked_sent_us = self.acked_sent_us.max(Some(sent_us));
    }

    /// Starts anew from `next_index`: what was under way is taken for lost, but its send times
    /// stay good for the lease.
    pub(super) fn probe_from(&mut self, next_index: Index, next_sequence: u64) {
        self.mode = Mode::Probe;
        self.probing = false;
        self.next_index = next_index;
        self.valid_from_sequence = next_sequence;
        self.sent
            .iter_mut()
            .for_each(|sent| sent.carries_entries = false);
        self.in_flight = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: an acknowledgement is worth the time of just the send it names, once.
    #[test]
    fn late_and_repeated_acknowledgements_count_for_nothing() {
        let mut progress = Progress::new(1, true);
        progress.note_sent(1, 100, 0);
        progress.note_sent(2, 200, 0);
        progress.note_sent(3, 300, 0);
        assert_eq!(progress.note_acked(2), Some(200));
        assert_eq!(progress.note_acked(2), None, "repeated");
        assert_eq!(progress.note_acked(1), None, "late");
        assert_eq!(progress.note_acked(9), None, "never sent");
        assert_eq!(progress.acked_sent_us, None, "credit is the caller's");
    }

    /// Goal: a silent peer costs bounded memory.
    #[test]
    fn sends_to_a_silent_peer_are_bounded() {
        let mut progress = Progress::new(1, true);
        (1..5_000).for_each(|sequence| progress.note_sent(sequence, sequence, 0));
        assert_eq!(progress.sent.len(), SENT_MAX);
    }
}
