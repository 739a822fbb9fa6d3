//! Sessions: which writes of which client have been applied, and with what result
//! (Raft dissertation 6.3).
//!
//! Memory is bounded by two rules that look at log indexes only, so every node forgets the same
//! at the same entry. At most [`SESSIONS_MAX`] sessions are kept: a further one evicts the one
//! that was used longest ago. Each keeps the results of its [`SESSION_WINDOW`] highest sequences.
//!
//! An id stands for one write. A session keeps beside each result a digest of what was done, and
//! another write under the same id is told apart from a resend: it does nothing, as if it were one,
//! but does not get the result of what it is not.
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
use super::snapshot::{Record, SessionRecord};
use crate::command::RequestId;
use crate::raft::Index;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Most sessions at a time.
pub const SESSIONS_MAX: usize = 4096;

/// How many results a session keeps. A client sends no write while one that is so many sequences
/// older, or more, is unanswered: the result of the older one would be dropped as it comes.
pub const SESSION_WINDOW: usize = 256;

/// All sessions.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    /// Each shared with the snapshot under way until it changes.
    by_client: BTreeMap<u64, Arc<Session>>,
    /// Clients by the index of their last use: an entry uses one session at most.
    by_last_use: BTreeMap<Index, u64>,
    /// The highest last use of any evicted session.
    evicted_until: Index,
}

#[derive(Clone, Debug)]
pub(super) struct Session {
    last_used: Index,
    results: BTreeMap<u64, Remembered>,
    /// The highest sequence whose result was dropped.
    dropped_until: u64,
    /// Requests that may have been applied in an earlier session of this client have a
    /// `since_index` lower than this.
    not_before: Index,
}

/// A write that was applied.
#[derive(Clone, Copy, Debug)]
pub(super) struct Remembered {
    pub(super) result: WriteResult,
    /// Of the operation.
    pub(super) digest: u64,
}

/// What is known of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// It was never applied.
    New,
    /// It was applied, with this result.
    Answered(WriteResult),
    /// Another write was applied under this id.
    Another,
    /// Cannot be told.
    Expired,
}

impl Sessions {
    /// Looks a request for the operation with this digest up at the entry `index`, and makes a
    /// session where there is none and none can have been.
    pub(super) fn look_up(&mut self, index: Index, request: &RequestId, digest: u64) -> Known {
        let Some(session) = self.by_client.get_mut(&request.client_id) else {
            if request.since_index < self.evicted_until {
                return Known::Expired;
            }
            self.open(index, request.client_id);
            return Known::New;
        };
        self.by_last_use.remove(&session.last_used);
        self.by_last_use.insert(index, request.client_id);
        let session = Arc::make_mut(session);
        session.last_used = index;
        session.known(request, digest)
    }

    /// Keeps the result of a request that [`Sessions::look_up`] called new.
    pub(super) fn remember(&mut self, request: &RequestId, digest: u64, result: WriteResult) {
        let session = self
            .by_client
            .get_mut(&request.client_id)
            .expect("look_up made a session for each request that it calls new");
        let session = Arc::make_mut(session);
        let remembered = Remembered { result, digest };
        session.results.insert(request.sequence, remembered);
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
        self.by_client.insert(client_id, Arc::new(session));
    }

    /// All sessions as they are now, by client.
    pub(super) fn all(&self) -> Vec<(u64, Arc<Session>)> {
        let sessions = self.by_client.iter();
        sessions
            .map(|(client, session)| (*client, Arc::clone(session)))
            .collect()
    }

    pub(super) fn evicted_until(&self) -> Index {
        self.evicted_until
    }

    pub(super) fn set_evicted_until(&mut self, index: Index) {
        self.evicted_until = index;
    }

    /// Nobody's request with a lower `since_index` is applied any more, but for those with a result.
    pub(super) fn close(&mut self, index: Index) {
        self.evicted_until = self.evicted_until.max(index);
        for session in self.by_client.values_mut() {
            let session = Arc::make_mut(session);
            session.not_before = session.not_before.max(index);
        }
    }

    /// Puts a session back, behind those of lower clients. False: it can't be one of them.
    pub(super) fn restore(&mut self, client_id: u64, session: Session) -> bool {
        let last = self.by_client.last_key_value();
        let in_order = last.is_none_or(|(last, _)| *last < client_id);
        let used_at = self.by_last_use.insert(session.last_used, client_id);
        self.by_client.insert(client_id, Arc::new(session));
        // An entry uses one session at most.
        in_order && used_at.is_none()
    }
}

impl Session {
    /// Tells of a session, then of each of its results.
    pub(super) fn tell(&self, client_id: u64, records: &mut Vec<Record>) {
        records.push(Record::Session(SessionRecord {
            client_id,
            last_used: self.last_used,
            dropped_until: self.dropped_until,
            not_before: self.not_before,
            results: self.results.len() as u64,
        }));
        records.extend(
            self.results
                .iter()
                .map(|(sequence, before)| Record::Result {
                    sequence: *sequence,
                    digest: before.digest,
                    result: before.result,
                }),
        );
    }

    /// A session without its results.
    pub(super) fn from_record(record: &SessionRecord) -> Self {
        Session {
            last_used: record.last_used,
            results: BTreeMap::new(),
            dropped_until: record.dropped_until,
            not_before: record.not_before,
        }
    }

    /// Puts a result back, behind those of lower sequences. False: it can't be one of them.
    pub(super) fn restore(&mut self, sequence: u64, remembered: Remembered) -> bool {
        let last = self.results.last_key_value();
        let in_order = last.is_none_or(|(last, _)| *last < sequence);
        self.results.insert(sequence, remembered);
        in_order && (self.dropped_until == 0 || sequence > self.dropped_until)
    }

    fn known(&self, request: &RequestId, digest: u64) -> Known {
        match self.results.get(&request.sequence) {
            Some(before) if before.digest == digest => Known::Answered(before.result),
            Some(_) => Known::Another,
            None if request.sequence <= self.dropped_until => Known::Expired,
            None if request.since_index < self.not_before => Known::Expired,
            None => Known::New,
        }
    }
}
