//! Who is connected, since when without a call, and who has to go for others.
//!
//! A connection that does nothing costs nobody anything until there is no place left. Then whoever has
//! had no call for longest goes: it dials again when it has something to say. Who has a call under
//! way, or has only just come, is left alone.

use crate::access::Access;
use crate::raft::NodeId;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::oneshot;

/// A connection younger than this, or idle for less, is not sent away for others: its first call, or
/// its next one, is on its way.
const GRACE: Duration = Duration::from_secs(1);

/// All connections of one socket.
#[derive(Debug, Default)]
pub struct Guests {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last: u64,
    present: BTreeMap<u64, Arc<Guest>>,
}

/// One connection, as those see it who serve its calls.
#[derive(Debug)]
pub struct Guest {
    /// It has one of the places that are kept for operators.
    pub for_operators: bool,
    origin: OnceLock<Arc<Origin>>,
    state: Mutex<Calls>,
}

/// Where a connection comes from, as far as that was shown.
#[derive(Debug)]
pub struct Origin {
    /// What it may do.
    pub access: Access,
    /// The node that it is.
    pub node: Option<NodeId>,
    /// When its certificate ends.
    pub ends: Option<SystemTime>,
    /// Its certificates, as they were shown.
    pub chain: Vec<Vec<u8>>,
}

#[derive(Debug)]
struct Calls {
    under_way: usize,
    idle_since: Instant,
    /// Taken when the connection is sent away.
    leave: Option<oneshot::Sender<()>>,
}

/// A call that is under way, until this is dropped.
#[derive(Debug)]
pub struct Call(Arc<Guest>);

/// The place of a connection among the guests, until this is dropped.
#[derive(Debug)]
pub struct Seat {
    guests: Arc<Guests>,
    number: u64,
    guest: Arc<Guest>,
}

impl Guests {
    /// Takes in a connection that was just accepted. The receiver gets word when it has to go.
    pub fn seat(
        self: &Arc<Self>,
        for_operators: bool,
        now: Instant,
    ) -> (Seat, oneshot::Receiver<()>) {
        let (leave, leaves) = oneshot::channel();
        let guest = Arc::new(Guest {
            for_operators,
            origin: OnceLock::new(),
            state: Mutex::new(Calls {
                under_way: 0,
                idle_since: now,
                leave: Some(leave),
            }),
        });
        let mut state = lock(&self.state);
        state.last += 1;
        let number = state.last;
        state.present.insert(number, Arc::clone(&guest));
        let guests = Arc::clone(self);
        let seat = Seat {
            guests,
            number,
            guest,
        };
        (seat, leaves)
    }

    /// How many are there.
    pub fn count(&self) -> usize {
        lock(&self.state).present.len()
    }

    /// Sends the one away that has been idle for longest. Returns whether there was one.
    pub fn send_idlest_away(&self, now: Instant) -> bool {
        let state = lock(&self.state);
        let idle = state.present.values().filter_map(|guest| {
            let idle = guest.idle_for(now)?;
            (idle >= GRACE).then_some((idle, guest))
        });
        match idle.max_by_key(|(idle, _)| *idle) {
            Some((_, guest)) => guest.send_away(),
            None => false,
        }
    }

    /// Sends all away that have been idle for so long.
    pub fn send_idle_away(&self, now: Instant, patience: Duration) {
        for guest in lock(&self.state).present.values() {
            if guest.idle_for(now).is_some_and(|idle| idle >= patience) {
                guest.send_away();
            }
        }
    }
}

impl Guests {
    /// All who are there.
    pub fn present(&self) -> Vec<Arc<Guest>> {
        lock(&self.state).present.values().cloned().collect()
    }
}

impl Guest {
    /// Notes who it is. Once.
    pub fn identify(&self, origin: Arc<Origin>) {
        // A second time is not meant to be, and changes nothing.
        self.origin.set(origin).ok();
    }

    /// Who it is; `None` where nobody asked.
    pub fn origin(&self) -> Option<&Arc<Origin>> {
        self.origin.get()
    }

    /// Notes that a call begins.
    pub fn begin(self: &Arc<Self>) -> Call {
        lock(&self.state).under_way += 1;
        Call(Arc::clone(self))
    }

    /// For how long it has had no call under way; `None`: it has one, or goes already.
    fn idle_for(&self, now: Instant) -> Option<Duration> {
        let state = lock(&self.state);
        let idles = state.under_way == 0 && state.leave.is_some();
        idles.then(|| now.saturating_duration_since(state.idle_since))
    }

    /// Ends its connection, whatever it does. Returns whether it was there to hear it.
    pub fn send_away(&self) -> bool {
        let leave = lock(&self.state).leave.take();
        // Who does not listen any more is going by itself.
        leave.is_some_and(|leave| leave.send(()).is_ok())
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        state.under_way -= 1;
        state.idle_since = Instant::now();
    }
}

impl Seat {
    /// The guest, for its calls.
    pub fn guest(&self) -> Arc<Guest> {
        Arc::clone(&self.guest)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        lock(&self.guests.state).present.remove(&self.number);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic ends the process, so a poisoned lock is never seen outside tests.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    // The one that has had no call for longest goes first; nobody goes who has a call under way, who
    // has only just come, or twice.
    #[test]
    fn the_idlest_goes_first() {
        let guests = Arc::new(Guests::default());
        let begin = Instant::now();
        let seconds = |count| begin + Duration::from_secs(count);
        let (busy, mut busy_leaves) = guests.seat(false, begin);
        let (_old, mut old_leaves) = guests.seat(false, begin);
        let (_new, mut new_leaves) = guests.seat(false, seconds(5));
        let call = busy.guest().begin();
        assert!(guests.send_idlest_away(seconds(5)));
        assert!(old_leaves.try_recv().is_ok());
        assert!(
            !guests.send_idlest_away(seconds(5)),
            "one too new, one busy"
        );
        assert!(new_leaves.try_recv().is_err() && busy_leaves.try_recv().is_err());
        assert!(guests.send_idlest_away(seconds(7)));
        assert!(new_leaves.try_recv().is_ok());
        drop(call);
        assert!(guests.send_idlest_away(Instant::now() + Duration::from_secs(7)));
        assert!(busy_leaves.try_recv().is_ok());
        assert!(!guests.send_idlest_away(seconds(100)), "all are going");
    }

    // Where idling has an end, it ends for everybody who has no call; a seat is given back.
    #[test]
    fn idling_ends() {
        let guests = Arc::new(Guests::default());
        let begin = Instant::now();
        let (member, mut member_leaves) = guests.seat(false, begin);
        let (stranger, mut stranger_leaves) = guests.seat(false, begin);
        let _call = member.guest().begin();
        let patience = Duration::from_secs(5);
        guests.send_idle_away(begin + patience / 2, patience);
        assert!(stranger_leaves.try_recv().is_err());
        guests.send_idle_away(begin + patience, patience);
        assert!(stranger_leaves.try_recv().is_ok() && member_leaves.try_recv().is_err());
        drop((stranger, member));
        assert!(lock(&guests.state).present.is_empty());
    }
}
