//! What a leader knows of one follower: how far its log matches, what is under way to it, and
//! which of the leader's sends it has acknowledged.

use super::window::Window;
use super::{Index, Micros, SnapshotId};
use std::collections::VecDeque;

/// Appends with entries under way to one peer; more wait for a reply.
pub(super) const IN_FLIGHT_MAX: usize = 64;
/// Sends whose acknowledgement is awaited. A peer that is silent for longer than this many sends
/// loses the oldest: an acknowledgement of them then counts for nothing.
const SENT_MAX: usize = 512;

/// Between two pieces of a snapshot the nodes are left to what clients write for as long as the piece took, and not for
/// longer than this: over a slow wire, where a piece takes seconds, that is next to nothing.
const PAUSE_MAX_US: Micros = 20_000;

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
    /// Of its entries; 0: it has none.
    bytes: usize,
    /// What the peer had acknowledged by then.
    kept_index: Index,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Progress {
    pub(super) match_index: Index,
    /// It has acknowledged entries up to here, in this leadership or as committed in an earlier one.
    pub(super) kept_index: Index,
    /// It had acknowledged entries up to here and lacks some of them. 0: none.
    pub(super) lost_until: Index,
    /// What it had acknowledged before the append was sent that it answered last.
    pub(super) kept_before: Index,
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
    /// How many of `sent` carry entries, and their bytes.
    in_flight: usize,
    in_flight_bytes: usize,
    window: Window,
    /// A snapshot is on its way to it.
    pub(super) install: Option<Install>,
}

/// A snapshot on its way to a peer.
#[derive(Debug)]
pub(super) struct Install {
    pub(super) snapshot: SnapshotId,
    /// So many bytes are there.
    pub(super) offset: u64,
    /// The piece from there on was asked for, and is not answered yet; or all is there, and does not
    /// show yet.
    pub(super) waits: bool,
    /// Until then it is waited for.
    pub(super) retry_at_us: Micros,
    /// When the last piece was asked for, and the last entry of the log then.
    pub(super) asked: (Micros, Index),
    /// The next piece is not asked for before: what clients write has its turn.
    pub(super) paused_until_us: Micros,
    /// Of the last piece.
    pub(super) sequence: u64,
    pub(super) answered_us: Micros,
}

impl Install {
    pub(super) fn new(snapshot: SnapshotId) -> Self {
        Install {
            snapshot,
            offset: 0,
            waits: false,
            retry_at_us: 0,
            asked: (0, 0),
            paused_until_us: 0,
            sequence: 0,
            answered_us: 0,
        }
    }

    /// The last piece is answered. Where the log has grown meanwhile, the next one waits as long as this one
    /// took; what is slow for its wire alone waits next to nothing.
    pub(super) fn pause(&mut self, now: Micros, last_index: Index) {
        let (asked_us, asked_index) = self.asked;
        if last_index > asked_index {
            let took_us = now.saturating_sub(asked_us);
            self.paused_until_us = now + PAUSE_MAX_US.min(took_us);
        }
    }
}

impl Progress {
    pub(super) fn new(next_index: Index, connected: bool, lease_us: Micros) -> Self {
        Progress {
            match_index: 0,
            kept_index: 0,
            lost_until: 0,
            kept_before: 0,
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
            in_flight_bytes: 0,
            window: Window::new(lease_us),
            install: None,
        }
    }

    /// It has acknowledged committed entries up to here in an earlier leadership.
    pub(super) fn keeping(mut self, kept_index: Index) -> Self {
        self.kept_index = kept_index;
        self
    }

    /// Whether a further append with entries may leave now: one at least is always under way.
    pub(super) fn may_send_entries(&self, now: Micros) -> bool {
        match self.mode {
            Mode::Probe => !self.probing,
            Mode::Replicate => match self.sent.iter().find(|sent| sent.bytes > 0) {
                Some(oldest) => {
                    self.in_flight < IN_FLIGHT_MAX
                        && self
                            .window
                            .has_room(self.in_flight_bytes, oldest.at_us, now)
                }
                None => true,
            },
        }
    }

    /// Bytes that an append may have now; one entry may be longer and then travels alone.
    pub(super) fn append_bytes_max(&self) -> usize {
        self.window.append_bytes()
    }

    /// Bytes that a piece of a snapshot may have now.
    pub(super) fn piece_bytes_max(&self) -> usize {
        self.window.piece_bytes()
    }

    /// Notes a send, stamped before the transport has it.
    pub(super) fn note_sent(&mut self, sequence: u64, at_us: Micros, entries: u64, bytes: usize) {
        if self.sent.len() == SENT_MAX {
            self.pop_sent();
        }
        self.in_flight += usize::from(bytes > 0);
        self.in_flight_bytes += bytes;
        self.sent.push_back(Sent {
            sequence,
            at_us,
            bytes,
            kept_index: self.kept_index,
        });
        match self.mode {
            Mode::Probe => self.probing = true,
            Mode::Replicate => self.next_index += entries,
        }
    }

    /// Takes in an acknowledgement. Returns the time of just that send, or `None` where it was
    /// acknowledged before or is not known (any more): then it proves nothing.
    pub(super) fn note_acked(&mut self, sequence: u64, now: Micros) -> Option<Micros> {
        self.acked_sequence = self.acked_sequence.max(sequence);
        self.kept_before = 0;
        while self.sent.front()?.sequence < sequence {
            self.pop_sent();
        }
        let front = *self.sent.front()?;
        (front.sequence == sequence).then(|| {
            if front.bytes > 0 {
                let in_flight = self.in_flight_bytes;
                self.window.learn(front.at_us, front.bytes, in_flight, now);
            }
            self.kept_before = front.kept_index;
            self.pop_sent();
            front.at_us
        })
    }

    fn pop_sent(&mut self) {
        if let Some(sent) = self.sent.pop_front() {
            self.in_flight -= usize::from(sent.bytes > 0);
            self.in_flight_bytes -= sent.bytes;
        }
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
        self.install = None;
        self.sent.iter_mut().for_each(|sent| sent.bytes = 0);
        self.in_flight = 0;
        self.in_flight_bytes = 0;
        self.window.begin_anew();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: an acknowledgement is worth the time of just the send it names, once.
    #[test]
    fn late_and_repeated_acknowledgements_count_for_nothing() {
        let mut progress = Progress::new(1, true, 2_000_000);
        progress.note_sent(1, 100, 0, 0);
        progress.note_sent(2, 200, 0, 0);
        progress.note_sent(3, 300, 0, 0);
        assert_eq!(progress.note_acked(2, 400), Some(200));
        assert_eq!(progress.note_acked(2, 400), None, "repeated");
        assert_eq!(progress.note_acked(1, 400), None, "late");
        assert_eq!(progress.note_acked(9, 400), None, "never sent");
        assert_eq!(progress.acked_sent_us, None, "credit is the caller's");
    }

    /// Goal: a silent peer costs bounded memory.
    #[test]
    fn sends_to_a_silent_peer_are_bounded() {
        let mut progress = Progress::new(1, true, 2_000_000);
        (1..5_000).for_each(|sequence| progress.note_sent(sequence, sequence, 0, 0));
        assert_eq!(progress.sent.len(), SENT_MAX);
    }

    /// Goal: what is answered is no longer under way, and makes room for as many bytes.
    #[test]
    fn answered_bytes_make_room() {
        let mut progress = Progress::new(1, true, 2_000_000);
        progress.mode = Mode::Replicate;
        for sequence in 1..=4 {
            assert!(progress.may_send_entries(100), "{sequence}");
            progress.note_sent(sequence, 100, 1, 60_000);
        }
        assert!(!progress.may_send_entries(100), "the window is full");
        (1..=3).for_each(|sequence| assert!(progress.note_acked(sequence, 200).is_some()));
        assert!(progress.may_send_entries(200));
        assert_eq!((progress.in_flight, progress.in_flight_bytes), (1, 60_000));
    }
    /// Goal: bare heartbeats, answered or not, take no room and say nothing about the wire: only what carries
    /// entries does.
    #[test]
    fn heartbeats_take_no_room() {
        let mut progress = Progress::new(1, true, 2_000_000);
        progress.mode = Mode::Replicate;
        (1..=100).for_each(|sequence| progress.note_sent(sequence, 0, 0, 0));
        assert!(progress.may_send_entries(2_000_000), "they are old");
        progress.note_sent(101, 2_000_000, 1, 100);
        assert!(progress.may_send_entries(2_000_000));
        assert_eq!(progress.in_flight, 1);
        let window = progress.append_bytes_max();
        assert_eq!(progress.note_acked(100, 2_000_000), Some(0));
        assert_eq!(progress.append_bytes_max(), window, "a late heartbeat");
        assert_eq!(progress.note_acked(101, 4_000_000), Some(2_000_000));
        assert_eq!(progress.append_bytes_max(), window / 2, "late entries");
    }
}
