//! How many bytes may be under way to one peer: as many as it acknowledges well within a lease.
//!
//! An acknowledgement is worth the time of its send. A heartbeat leaves behind all that was sent
//! before it, so on a slow wire it is as old as those bytes took, and a leader that sends as much
//! as it has loses its lease although every follower answers. How fast a wire is nobody says; the
//! age of the acknowledgements does. So the window begins small, doubles while they are quick, and
//! is halved when they are late.

use super::Micros;

/// What every wire takes within a part of the shortest lease.
const BEGIN_BYTES: usize = 256 * 1024;
const MIN_BYTES: usize = 64 * 1024;
/// Enough for a fast wire. A wire that becomes slow still has to carry all of it.
const MAX_BYTES: usize = 4 * 1024 * 1024;
/// So many appends fill the window, so that they follow each other without waiting.
const APPENDS: usize = 4;
/// What a peer reads and writes of a snapshot in a few milliseconds, in which it does nothing else.
const PIECE_BYTES_MAX: usize = 512 * 1024;

/// See the module.
#[derive(Debug)]
pub(super) struct Window {
    bytes: usize,
    quick_us: Micros,
    late_us: Micros,
    /// What was sent before says nothing about the window as it is now.
    changed_us: Micros,
}

impl Window {
    pub(super) fn new(lease_us: Micros) -> Self {
        Window {
            bytes: BEGIN_BYTES,
            // Of twice as much the acknowledgements are not late yet.
            quick_us: lease_us / 8,
            late_us: lease_us / 4,
            changed_us: 0,
        }
    }

    /// It may be another wire.
    pub(super) fn begin_anew(&mut self) {
        self.bytes = BEGIN_BYTES;
    }

    /// Bytes of one append.
    pub(super) fn append_bytes(&self) -> usize {
        self.bytes / APPENDS
    }

    /// Bytes of one piece of a snapshot.
    pub(super) fn piece_bytes(&self) -> usize {
        PIECE_BYTES_MAX.min(self.append_bytes())
    }

    /// Whether one more append may join what is under way, of which the oldest was sent then.
    pub(super) fn has_room(&self, in_flight_bytes: usize, oldest_us: Micros, now: Micros) -> bool {
        in_flight_bytes + self.append_bytes() <= self.bytes && now <= oldest_us + self.late_us
    }

    /// Learns from an append that is acknowledged now, with so much under way until now. Only a window that was in
    /// use is known to fit: half of it, or one append alone that took half as long, as pieces of a snapshot travel.
    pub(super) fn learn(
        &mut self,
        sent_us: Micros,
        bytes: usize,
        in_flight_bytes: usize,
        now: Micros,
    ) {
        let age_us = now.saturating_sub(sent_us);
        let fits_half = in_flight_bytes >= self.bytes / 2 && age_us <= self.quick_us;
        let fits_one = in_flight_bytes >= self.append_bytes() && age_us <= self.quick_us / 2;
        if fits_half || fits_one {
            self.bytes = MAX_BYTES.min(self.bytes + bytes);
        } else if age_us > self.late_us && sent_us >= self.changed_us {
            self.bytes = MIN_BYTES.max(self.bytes / 2);
            self.changed_us = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE_US: Micros = 2_000_000;

    /// Goal: pieces of a snapshot, one at a time, grow with a wire that is fast, and are bounded; on one that is
    /// slow they shrink until each is answered well within a lease.
    #[test]
    fn pieces_follow_the_wire() {
        for (mbits, at_least, at_most) in [(1, 16, 32), (10, 64, 256), (1_000, 512, 512)] {
            let (mut window, mut now) = (Window::new(LEASE_US), 0);
            for _ in 0..100 {
                let (sent_us, bytes) = (now, window.piece_bytes());
                now += (bytes * 8 / mbits) as Micros;
                window.learn(sent_us, bytes, bytes, now);
            }
            let kib = window.piece_bytes() / 1024;
            assert!((at_least..=at_most).contains(&kib), "{mbits} Mbit/s: {kib}");
        }
    }

    /// A full window of appends that leave at once, over a wire that takes so many bytes a
    /// second: how old the last one is when it is acknowledged.
    fn burst(window: &mut Window, now: &mut Micros, bytes_per_second: usize) -> Micros {
        let (sent_us, mut in_flight) = (*now, 0);
        let mut appends = Vec::new();
        while in_flight == 0 || window.has_room(in_flight, sent_us, sent_us) {
            appends.push(window.append_bytes());
            in_flight += window.append_bytes();
        }
        for bytes in appends {
            *now += (bytes * 1_000_000 / bytes_per_second) as Micros;
            window.learn(sent_us, bytes, in_flight, *now);
            in_flight -= bytes;
        }
        *now - sent_us
    }

    /// Goal: on every wire from 4 Mbit/s on, however it changes, the acknowledgements come to be
    /// well within a lease, and a fast one is used.
    #[test]
    fn acknowledgements_stay_within_a_lease() {
        let (mut window, mut now) = (Window::new(LEASE_US), 0);
        for (mbits, most_bytes) in [(4, 512 * 1024), (1_000, MAX_BYTES), (4, 512 * 1024)] {
            for _ in 0..10 {
                burst(&mut window, &mut now, mbits * 125_000);
            }
            let age_us = burst(&mut window, &mut now, mbits * 125_000);
            assert!(age_us < LEASE_US / 2, "{mbits} Mbit/s: {age_us} us");
            assert!(window.bytes <= most_bytes, "{mbits}: {}", window.bytes);
            assert!(window.bytes >= most_bytes / 4, "{mbits}: {}", window.bytes);
        }
    }

    /// Goal: quick answers to a few bytes say nothing about many, and late ones to one burst count
    /// once.
    #[test]
    fn only_a_window_in_use_grows() {
        let mut window = Window::new(LEASE_US);
        (0..10_000).for_each(|now| window.learn(now, 1_000, 1_000, now));
        assert_eq!(window.bytes, BEGIN_BYTES);
        (0..3).for_each(|late| window.learn(0, 1_000, BEGIN_BYTES, LEASE_US + late));
        assert_eq!(window.bytes, BEGIN_BYTES / 2);
    }

    /// Goal: while the oldest append waits for too long, nothing is sent behind it.
    #[test]
    fn nothing_follows_what_is_late() {
        let window = Window::new(LEASE_US);
        assert!(window.has_room(1, 0, LEASE_US / 4));
        assert!(!window.has_room(1, 0, LEASE_US / 4 + 1));
        assert!(!window.has_room(BEGIN_BYTES, 0, 0));
    }
    /// Goal: an answer that is just not late yet takes nothing away, and a new wire begins where every wire
    /// does.
    #[test]
    fn a_new_wire_begins_anew() {
        let mut window = Window::new(LEASE_US);
        window.learn(0, 1_000, 0, LEASE_US / 4);
        assert_eq!(window.bytes, BEGIN_BYTES);
        window.learn(0, 1_000, 0, LEASE_US / 4 + 1);
        assert_eq!(window.bytes, BEGIN_BYTES / 2);
        window.begin_anew();
        assert_eq!(window.bytes, BEGIN_BYTES);
    }

    /// Goal: however slow or fast a wire is, its window has bounds.
    #[test]
    fn a_window_has_bounds() {
        let kib = 1024;
        let mut window = Window::new(LEASE_US);
        assert_eq!(window.bytes, 256 * kib);
        (1..9).for_each(|time| window.learn(time * LEASE_US, 1, 0, (time + 1) * LEASE_US));
        assert_eq!(window.bytes, 64 * kib);
        (0..99).for_each(|_| window.learn(0, 256 * kib, 8 * kib * kib, 0));
        assert_eq!(window.bytes, 4 * kib * kib);
    }
}
