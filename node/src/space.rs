//! How much room the disk has, and what a node does not do any more when it has little.
//!
//! A log that fills its disk takes the node with it, and the logs of all nodes are about as long: all
//! of them would end together. So below a mark writes of clients are refused, in words; reads,
//! heartbeats and elections go on, and writes come back by themselves with the room. Far below it a
//! follower takes no more entries either, but for few: a new leader needs one of its own.
//!
//! The look is taken by a thread of its own: a disk that hangs stops nothing else.

use rustix::fs::statvfs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Between two looks: what a fast disk takes in meanwhile is well below the mark.
const LOOK: Duration = Duration::from_millis(250);
/// The mark where none is given: as much as all requests that wait may take,...
const MARK_BYTES: u64 = 128 * 1024 * 1024;
/// ...but no more than this part of a small disk.
const MARK_PART: u64 = 10;
/// Followers go on to this part of the mark.
const CRITICAL_PART: u64 = 4;
/// Writes come back when there is this part more than the mark, so that they don't come and go.
const BACK_PART: u64 = 8;
/// Bytes of entries that a follower still takes when there is hardly any room left, until there is
/// more: those that new leaders begin with.
const FEW_BYTES: u64 = 16 * 1024;
/// Fewer files than this that could be made count as no room.
const FILES_MIN: u64 = 8;

/// What a node still does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// Everything.
    Enough,
    /// No writes of clients.
    Low,
    /// Nor many entries of a leader.
    Critical,
}

/// The room that the disk had when it was last looked at.
#[derive(Debug)]
pub struct Space {
    mark_bytes: u64,
    free_bytes: AtomicU64,
    low: AtomicBool,
    /// A write had no room, and waits.
    full: AtomicBool,
    /// What is kept for such a time was taken, and is not there again.
    reserve_taken: AtomicBool,
    /// Bytes of entries that were taken since there is hardly any room.
    few_bytes: AtomicU64,
}

impl Default for Space {
    /// Room without end.
    fn default() -> Self {
        Space::new(0)
    }
}

impl Space {
    fn new(mark_bytes: u64) -> Self {
        Space {
            mark_bytes,
            free_bytes: AtomicU64::new(u64::MAX),
            low: AtomicBool::new(false),
            full: AtomicBool::new(false),
            reserve_taken: AtomicBool::new(false),
            few_bytes: AtomicU64::new(0),
        }
    }

    /// Looks at the disk of a directory now, and goes on looking for as long as the value lives. It
    /// calls `told` whenever writes are given up or come back.
    pub fn watch(
        directory: &Path,
        mark_bytes: Option<u64>,
        told: impl Fn(&Space) + Send + 'static,
    ) -> std::io::Result<Arc<Self>> {
        let seen = look(directory)?;
        let part = seen.whole_bytes / MARK_PART;
        let space = Arc::new(Space::new(mark_bytes.unwrap_or(MARK_BYTES.min(part))));
        space.take_in(seen.free_bytes);
        if space.is_low() {
            told(&space);
        }
        let (watched, directory) = (Arc::downgrade(&space), directory.to_owned());
        let space_is_low = space.is_low();
        std::thread::Builder::new()
            .name("space".into())
            .spawn(move || go_on_looking(&watched, &directory, space_is_low, told))?;
        Ok(space)
    }

    /// Takes in how much is free.
    fn take_in(&self, free_bytes: u64) {
        self.free_bytes.store(free_bytes, Ordering::Relaxed);
        let mark = self.mark_bytes;
        let enough = match self.is_low() {
            true => mark.saturating_add(mark / BACK_PART),
            false => mark,
        };
        self.low.store(free_bytes < enough, Ordering::Relaxed);
        if free_bytes >= mark / CRITICAL_PART {
            self.few_bytes.store(0, Ordering::Relaxed);
        }
    }

    /// Whether a follower takes so many bytes of entries of its leader; they count if it does.
    pub fn takes_entries(&self, bytes: u64) -> bool {
        if self.room() != Room::Critical {
            return true;
        }
        let add = |few: u64| Some(few.saturating_add(bytes)).filter(|sum| *sum <= FEW_BYTES);
        let relaxed = Ordering::Relaxed;
        let none = self.is_full() || self.is_reserve_taken();
        !none && self.few_bytes.fetch_update(relaxed, relaxed, add).is_ok()
    }

    /// Takes in that so much was written since the last look.
    pub fn spend(&self, bytes: u64) {
        self.take_in(self.free_bytes().saturating_sub(bytes));
    }

    /// Whether writes of clients are refused for want of room.
    fn is_low(&self) -> bool {
        self.low.load(Ordering::Relaxed)
    }

    /// What the node still does.
    pub fn room(&self) -> Room {
        let critical = self.free_bytes() < self.mark_bytes / CRITICAL_PART;
        match (self.is_low(), critical) {
            _ if self.is_full() || self.is_reserve_taken() => Room::Critical,
            (false, _) => Room::Enough,
            (true, false) => Room::Low,
            (true, true) => Room::Critical,
        }
    }

    /// Bytes that could still be written when it was last looked.
    pub fn free_bytes(&self) -> u64 {
        self.free_bytes.load(Ordering::Relaxed)
    }

    /// Below this many, writes are refused.
    pub fn mark_bytes(&self) -> u64 {
        self.mark_bytes
    }

    /// Notes whether a write waits for room.
    pub fn set_full(&self, full: bool) {
        self.full.store(full, Ordering::Relaxed);
    }

    /// Whether a write waits for room.
    pub fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    /// Notes that the reserve was taken, or that it is there again.
    pub fn set_reserve_taken(&self, taken: bool) {
        self.reserve_taken.store(taken, Ordering::Relaxed);
    }

    /// Whether the reserve was taken, and is not there again.
    pub fn is_reserve_taken(&self) -> bool {
        self.reserve_taken.load(Ordering::Relaxed)
    }
}

struct Seen {
    free_bytes: u64,
    whole_bytes: u64,
}

fn look(directory: &Path) -> std::io::Result<Seen> {
    let disk = statvfs(directory)?;
    let no_files = disk.f_files > 0 && disk.f_favail < FILES_MIN;
    Ok(Seen {
        free_bytes: match no_files {
            true => 0,
            false => disk.f_bavail.saturating_mul(disk.f_frsize),
        },
        whole_bytes: disk.f_blocks.saturating_mul(disk.f_frsize),
    })
}

fn go_on_looking(
    watched: &Weak<Space>,
    directory: &Path,
    mut was_low: bool,
    told: impl Fn(&Space),
) {
    let mut blind = false;
    loop {
        std::thread::sleep(LOOK);
        let Some(space) = watched.upgrade() else {
            return;
        };
        match look(directory) {
            Ok(seen) => {
                blind = false;
                space.take_in(seen.free_bytes);
                if space.is_low() != was_low {
                    was_low = space.is_low();
                    told(&space);
                }
            }
            Err(error) if !blind => {
                blind = true;
                let path = directory.display();
                tracing::warn!("cannot see how much room there is for {path}: {error}");
            }
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Writes end at the mark, entries of a leader far below it, and both come back with the room,
    // the writes a little above the mark. A write that waits for room counts as none.
    #[test]
    fn what_ends_comes_back() {
        let space = Space::new(800);
        let with = |free| {
            space.take_in(free);
            space.room()
        };
        assert_eq!(with(800), Room::Enough);
        space.spend(1);
        assert_eq!(space.room(), Room::Low);
        assert_eq!(with(200), Room::Low);
        assert_eq!(with(199), Room::Critical);
        assert_eq!(with(899), Room::Low);
        assert_eq!(with(900), Room::Enough);
        space.set_full(true);
        assert_eq!(space.room(), Room::Critical);
        space.set_full(false);
        assert_eq!(Space::new(0).room(), Room::Enough);
    }

    // A follower that has hardly any room takes a few entries, all of them together, until there is
    // more; none where a write has found no room at all.
    #[test]
    fn few_entries_are_taken_with_hardly_any_room() {
        let space = Space::new(800);
        space.take_in(199);
        assert!(space.takes_entries(FEW_BYTES - 1));
        assert!(!space.takes_entries(2), "together they are too many");
        assert!(space.takes_entries(1));
        space.take_in(198);
        assert!(!space.takes_entries(1), "as little as before");
        space.take_in(200);
        assert!(space.takes_entries(u64::MAX));
        space.take_in(199);
        assert!(space.takes_entries(FEW_BYTES));
        space.take_in(900);
        space.set_full(true);
        assert!(!space.takes_entries(1));
        space.set_full(false);
        space.set_reserve_taken(true);
        assert!(!space.takes_entries(1));
    }

    // The disk under a directory is seen; a mark that nothing can reach is one that is not kept.
    #[test]
    fn the_disk_is_seen() {
        let directory = tempfile::tempdir().unwrap();
        let room = |mark| {
            Space::watch(directory.path(), Some(mark), |_| ())
                .unwrap()
                .room()
        };
        assert_eq!(room(0), Room::Enough);
        assert_ne!(room(u64::MAX / 4), Room::Enough);
    }
}
