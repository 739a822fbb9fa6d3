//! Sessions: which writes of which client have been applied, and with what result
//! (Raft dissertation 6.3).
//!
//! Memory is bounded by two rules that look at log indexes only, so every node forgets the same
//! at the same entry. At most [`SESSIONS_MAX`] sessions are kept: a further one evicts the one
//! that was used longest ago. Each keeps the results of its [`SESSION_WINDOW`] highest sequences.
//!
//! What was forgotten must not apply a second time. Two marks see to that:
//!
//! * In a session, a sequence at or below the highest one that was dropped is refused.
//! * Each session knows how far evictions had reached when it was made: `not_before`, the highest
//!   last use of any session evicted until then. A request that it does not know is refused when
//!   its `since_index` is lower. Proof that this is enough: say the request had been applied
//!   before, at index `a`, in a session of this client that was evicted later. The client knew of
//!   `since_index` before it first sent the request, so `a > since_index`. The evicted session was
//!   last used at `a` or later, so `not_before >= a`. Together `since_index < not_before`: refused.
//!
//! A client that is new, or has heard from a node that is not far behind, has a higher
//! `since_index`, because evictions reach back [`SESSIONS_MAX`] clients.

use super::WriteResult;
use crate::command::RequestId;
use crate::raft::Index;
use std::collections::BTreeMap;

/// Most sessions at a time.
pub const SESSIONS_MAX: usize = 4096;

/// How many results a session keeps. A client sends no write while one that is so many sequences
/// older, or more, is unanswered: the result of the older one would be dropped as it comes.
pub const SESSION_WINDOW: usize = 256;

/// All sessions.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    by_client: BTreeMap<u64, Session>,
    /// Clients by the index of their last use: an entry uses one session at most.
    by_last_use: BTreeMap<Index, u64>,
    /// The highest last use of any evicted session.
    evicted_until: Index,
}

#[derive(Debug)]
struct Session {
    last_used: Index,
    results: BTreeMap<u64, WriteResult>,
    /// The highest sequence whose result was dropped.
    dropped_until: u64,
    /// Requests that may have been applied in an earlier session of this client have a
    /// `since_index` lower than this.
    not_before: Index,
}

/// What is known of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// It was never applied.
    New,
    /// It was applied, with this result.
    Answered(WriteResult),
    /// Cannot be told.
    Expired,
}

impl Sessions {
    /// Looks a request up at the entry `index`, and makes a session where there is none and none
    /// can have been.
    pub(super) fn look_up(&mut self, index: Index, request: &RequestId) -> Known {
        let Some(session) = self.by_client.get_mut(&request.client_id) else {
            if request.since_index < self.evicted_until {
                return Known::Expired;
            }
            self.open(index, request.client_id);
            return Known::New;
        };
        self.by_last_use.remove(&session.last_used);
        self.by_last_use.insert(index, request.client_id);
        session.last_used = index;
        session.known(request)
    }

    /// Keeps the result of a request that [`Sessions::look_up`] called new.
    pub(super) fn remember(&mut self, request: &RequestId, result: WriteResult) {
        let session = self
            .by_client
            .get_mut(&request.client_id)
            .expect("look_up made a session for each request that it calls new");
        session.results.insert(request.sequence, result);
        if session.results.len() > SESSION_WINDOW
            && let Some((dropped, _)) = session.results.pop_first()
        {
            session.dropped_until = dropped;
        }
    }

    pub(super) fn len(&self) -> usize {
        self.by_client.len()
    }

    fn open(&mut self, index: Index, client_id: u64) {
        if self.by_client.len() == SESSIONS_MAX
            && let Some((last_used, evicted)) = self.by_last_use.pop_first()
        {
            self.by_client.remove(&evicted);
            // Least recently used first, so this only rises.
            self.evicted_until = last_used;
        }
        self.by_last_use.insert(index, client_id);
        let session = Session {
            last_used: index,
            results: BTreeMap::new(),
            dropped_until: 0,
            not_before: self.evicted_until,
        };
        self.by_client.insert(client_id, session);
    }
}

impl Session {
    fn known(&self, request: &RequestId) -> Known {
        match self.results.get(&request.sequence) {
            Some(result) => Known::Answered(*result),
            None if request.sequence <= self.dropped_until => Known::Expired,
            None if request.since_index < self.not_before => Known::Expired,
            None => Known::New,
        }
    }
}
