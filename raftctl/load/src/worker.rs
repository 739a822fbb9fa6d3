//! Turns what is to be asked into requests, and answers into figures. One worker a connection (or
//! a unary loop); it owns the sessions, so that writes are sent the way a careful client sends
//! them: with request ids.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use raftkv::SESSION_WINDOW;
use raftkv::kv::kv_client::KvClient;
use raftkv::kv::operation::Operation as Body;
use raftkv::kv::outcome::Outcome as Answer;
use raftkv::kv::{
    DeleteRequest, ErrorReason, GetRequest, Operation, Outcome, RequestId, SetRequest,
};
use tonic::transport::Channel;

use super::pace::Pace;
use super::tally::{Kind, Tally};
use super::workload::{Ask, Source};
use raftkv_client::call;
use raftkv_client::refusal::Refusal;

/// What to do after an answer; the later one weighs more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum After {
    /// Ask the next.
    GoOn,
    /// Nothing was done; only time helps.
    Pause,
    /// This node no longer serves: look for the leader again.
    Leave,
}

/// An operation on its way.
#[derive(Debug, Clone, Copy)]
struct Pending {
    /// When it was sent; in an open loop, when it was to be.
    begun: Instant,
    kind: Kind,
    /// Of a write, in the session of its slot.
    sequence: Option<u64>,
}

/// What names the writes of some slots.
#[derive(Debug)]
struct Session {
    last: RequestId,
    /// Sequences on their way.
    unanswered: BTreeSet<u64>,
    /// The node has forgotten it.
    expired: bool,
}

impl Session {
    fn new(client_id: u64, since_index: u64) -> Self {
        Session {
            last: RequestId {
                client_id,
                sequence: 0,
                since_index,
            },
            unanswered: BTreeSet::new(),
            expired: false,
        }
    }

    /// Whether the next write may leave now.
    fn has_room(&self) -> bool {
        let oldest = self.unanswered.first();
        oldest.is_none_or(|oldest| self.last.sequence + 1 - oldest < SESSION_WINDOW as u64)
    }
}

/// The requests of one connection.
#[derive(Debug)]
pub struct Worker {
    source: Source,
    consistency: i32,
    pending: Vec<Option<Pending>>,
    free: Vec<usize>,
    /// One for so many slots as its window is wide.
    sessions: Vec<Session>,
    /// What is answered later is not counted: it would belong to a longer time. In an open loop each operation
    /// that was due counts, whenever it is answered.
    until: Instant,
    /// When operations are to begin; none: as soon as there is a slot.
    pace: Option<Arc<Pace>>,
    /// The operation that was taken from the pace last was to begin then, and has not begun yet.
    due: Option<Instant>,
    /// What was measured so far.
    pub tally: Tally,
}

impl Worker {
    /// A worker that has up to `in_flight` operations on their way, and measures until `until`.
    pub fn new(source: Source, consistency: i32, in_flight: usize, until: Instant) -> Self {
        Worker {
            source,
            consistency,
            pending: vec![None; in_flight],
            free: (0..in_flight).rev().collect(),
            sessions: Vec::new(),
            until,
            pace: None,
            due: None,
            tally: Tally::default(),
        }
    }

    /// The same at a pace.
    #[must_use]
    pub fn at(self, pace: Option<Arc<Pace>>) -> Self {
        Worker { pace, ..self }
    }

    /// The same, counting on in this tally.
    #[must_use]
    pub fn counting(self, tally: Tally) -> Self {
        Worker { tally, ..self }
    }

    /// Whether operations begin when they are due, and not as soon as they can.
    pub fn has_pace(&self) -> bool {
        self.pace.is_some()
    }

    /// The time is over earlier than was meant.
    pub fn ends_at(&mut self, until: Instant) {
        self.until = self.until.min(until);
    }

    /// How many operations may be on their way.
    pub fn slots(&self) -> usize {
        self.pending.len()
    }

    /// How many operations are on their way.
    pub fn outstanding(&self) -> usize {
        self.pending.len() - self.free.len()
    }

    /// Opens as many sessions as the slots need, and others for those that have expired. Nothing
    /// may be on its way.
    pub async fn open_sessions(&mut self, kv: &mut KvClient<Channel>) -> Result<(), Refusal> {
        for session in self.sessions.iter_mut().filter(|session| session.expired) {
            let opened = call::open_session(kv).await?;
            *session = Session::new(opened.client_id, opened.since_index);
        }
        while self.sessions.len() * SESSION_WINDOW < self.pending.len() {
            let opened = call::open_session(kv).await?;
            let session = Session::new(opened.client_id, opened.since_index);
            self.sessions.push(session);
        }
        Ok(())
    }

    /// Waits until an operation is due, if one can begin then. Where there is no pace, or no slot, only an answer
    /// changes anything. None is lost where nobody waits to the end.
    pub async fn until_due(&mut self) {
        let pace = match &self.pace {
            Some(pace) if self.next_free().is_some() => Arc::clone(pace),
            _ => return std::future::pending().await,
        };
        if self.due.is_none() {
            self.due = Some(pace.next().await);
        }
    }

    /// Where among the free slots one is that may be used now.
    fn next_free(&self) -> Option<usize> {
        // A session that waits for its oldest write keeps no other from going on.
        let session_of = |slot: &usize| self.sessions.get(slot / SESSION_WINDOW);
        let has_room = |slot: &usize| session_of(slot).is_some_and(|session| session.has_room());
        self.free.iter().rposition(has_room)
    }

    /// When the next operation begins; none: it is not due yet.
    fn next_beginning(&mut self) -> Option<Instant> {
        match &self.pace {
            None => Some(Instant::now()),
            Some(pace) => self.due.take().or_else(|| pace.take()),
        }
    }

    /// The next operation, on its way from now on. None: every slot is taken, or an answer must
    /// come first, or there is no more to ask, or none is due.
    pub fn next_operation(&mut self) -> Option<Operation> {
        let at = self.next_free()?;
        let begun = self.next_beginning()?;
        let slot = self.free[at];
        let (body, kind) = match self.source.next_ask()? {
            Ask::Read(key) => {
                let consistency = self.consistency;
                (Body::Get(GetRequest { key, consistency }), Kind::Read)
            }
            Ask::Write(key, value) => {
                let request = Some(self.next_request(slot)?);
                let set = SetRequest {
                    request,
                    key,
                    value,
                };
                (Body::Set(set), Kind::Write)
            }
            Ask::Remove(key) => {
                let request = Some(self.next_request(slot)?);
                (Body::Delete(DeleteRequest { request, key }), Kind::Write)
            }
        };
        self.free.swap_remove(at);
        let sequence = match kind {
            Kind::Write => self.session_of(slot).map(|session| session.last.sequence),
            Kind::Read => None,
        };
        self.pending[slot] = Some(Pending {
            begun,
            kind,
            sequence,
        });
        Some(Operation {
            id: slot as u64,
            operation: Some(body),
        })
    }

    fn session_of(&mut self, slot: usize) -> Option<&mut Session> {
        self.sessions.get_mut(slot / SESSION_WINDOW)
    }

    fn next_request(&mut self, slot: usize) -> Option<RequestId> {
        let session = self.session_of(slot)?;
        session.last.sequence += 1;
        session.unanswered.insert(session.last.sequence);
        Some(session.last)
    }

    /// Frees a slot whose operation is over.
    fn free(&mut self, slot: usize) -> Option<Pending> {
        let pending = self.pending.get_mut(slot)?.take()?;
        self.free.push(slot);
        if let (Some(sequence), Some(session)) = (pending.sequence, self.session_of(slot)) {
            session.unanswered.remove(&sequence);
        }
        Some(pending)
    }

    /// Takes the answer to the operation in a slot, which is free from now on. An answer to
    /// nothing is counted as an error: the node is wrong.
    pub fn answered(&mut self, outcome: &Outcome, now: Instant) -> After {
        let slot = usize::try_from(outcome.id).unwrap_or(usize::MAX);
        let Some(pending) = self.free(slot) else {
            self.tally.failed("answer to nothing");
            return After::GoOn;
        };
        let index = match &outcome.outcome {
            Some(Answer::Get(reply)) => {
                self.tally.read_over(reply.path());
                reply.applied_index
            }
            Some(Answer::Set(reply)) => reply.applied_index,
            Some(Answer::Delete(reply)) => reply.applied_index,
            Some(Answer::Error(error)) => {
                self.tally
                    .failed(&error.reason().as_str_name().to_lowercase());
                if error.reason() == ErrorReason::SessionExpired {
                    self.session_expired(slot);
                }
                return after(error.reason());
            }
            _ => {
                self.tally.failed("answer of another kind");
                return After::GoOn;
            }
        };
        if let Some(session) = self.session_of(slot) {
            session.last.since_index = session.last.since_index.max(index);
        }
        if now <= self.until || self.pace.is_some() {
            self.tally.succeeded(pending.kind, pending.begun, now);
        }
        After::GoOn
    }

    /// The session of this slot is gone: another must be opened before it is used again.
    pub fn session_expired(&mut self, slot: usize) {
        if let Some(session) = self.session_of(slot) {
            session.expired = true;
        }
    }

    /// The connection broke: nobody will answer what is on its way.
    pub fn lost(&mut self, why: &str) {
        for slot in 0..self.pending.len() {
            if self.free(slot).is_some() {
                self.tally.failed(why);
            }
        }
    }
}

fn after(reason: ErrorReason) -> After {
    match reason {
        ErrorReason::NotReady | ErrorReason::Overloaded | ErrorReason::DiskFull => After::Pause,
        // Sessions are opened where a drive begins.
        ErrorReason::NotLeader
        | ErrorReason::Stopping
        | ErrorReason::OutcomeUnknown
        | ErrorReason::SessionExpired => After::Leave,
        ErrorReason::Invalid
        | ErrorReason::RequestIdReused
        | ErrorReason::Unsupported
        | ErrorReason::NotAllowed
        | ErrorReason::MembersRefused
        | ErrorReason::Incomplete
        | ErrorReason::Unspecified => After::GoOn,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pace;
    use crate::until::Until;
    use crate::workload::{Mix, Workload};
    use raftkv::kv::{GetReply, OperationError, SetReply};
    use raftkv_client::channel;
    use raftkv_client::fake::{Fakes, Role};
    use std::time::Duration;

    const HOUR: Duration = Duration::from_secs(3600);

    fn worker(read_share: f64, in_flight: usize) -> Worker {
        let workload = Workload {
            read_share,
            keys: 10,
            first: 0,
            value_bytes: 8,
            key_prefix: "bench/".into(),
        };
        let mix = Source::Mix(Mix::new(&workload, 1));
        let mut worker = Worker::new(mix, 0, in_flight, Instant::now() + HOUR);
        let sessions = in_flight.div_ceil(SESSION_WINDOW) as u64;
        worker.sessions = (1..=sessions).map(|id| Session::new(id, 0)).collect();
        worker
    }

    fn request(operation: Operation) -> RequestId {
        match operation.operation {
            Some(Body::Set(set)) => set.request.unwrap(),
            other => panic!("{other:?}"),
        }
    }

    fn outcome(id: u64, outcome: Answer) -> Outcome {
        Outcome {
            id,
            outcome: Some(outcome),
        }
    }

    /// No session has more unanswered writes than it may have.
    #[test]
    fn a_session_serves_no_more_slots_than_its_window() {
        let mut worker = worker(0.0, 600);
        let mut per_session = std::collections::BTreeMap::<u64, usize>::new();
        for _ in 0..600 {
            let id = request(worker.next_operation().unwrap());
            *per_session.entry(id.client_id).or_default() += 1;
        }
        assert!(
            per_session.values().all(|&count| count <= SESSION_WINDOW),
            "{per_session:?}"
        );
        assert_eq!((worker.outstanding(), worker.next_operation()), (600, None));
    }

    /// No write leaves while one that is a window older is unanswered, however many slots are free.
    #[test]
    fn a_session_waits_for_its_oldest_write() {
        let mut worker = worker(0.0, 2);
        let oldest = worker.next_operation().unwrap();
        let answer = |worker: &mut Worker, id| {
            let answer = outcome(id, Answer::Set(SetReply::default()));
            worker.answered(&answer, Instant::now());
        };
        let mut last = 1;
        while let Some(next) = worker.next_operation() {
            answer(&mut worker, next.id);
            last = request(next).sequence;
            assert!(last < 1_000, "it never waits");
        }
        assert_eq!(last, SESSION_WINDOW as u64);
        answer(&mut worker, oldest.id);
        assert_eq!(request(worker.next_operation().unwrap()).sequence, last + 1);
    }

    /// A session that the node has forgotten is replaced by another, once.
    #[tokio::test]
    async fn an_expired_session_is_replaced() {
        let fakes = Fakes::start(&[Role::Lead]).await;
        let mut kv = channel::kv(channel::channel(&fakes.members()[0].address).unwrap());
        let mut worker = worker(0.0, 300);
        worker.sessions.clear();
        worker.open_sessions(&mut kv).await.unwrap();
        let ids = |worker: &Worker| -> Vec<u64> {
            let sessions = worker.sessions.iter();
            sessions.map(|session| session.last.client_id).collect()
        };
        assert_eq!(ids(&worker), [1, 2]);
        let first = worker.next_operation().unwrap();
        let error = OperationError {
            reason: ErrorReason::SessionExpired.into(),
            ..OperationError::default()
        };
        let expired = outcome(first.id, Answer::Error(error));
        assert_eq!(worker.answered(&expired, Instant::now()), After::Leave);
        for _ in 0..2 {
            worker.open_sessions(&mut kv).await.unwrap();
            assert_eq!(ids(&worker), [3, 2]);
        }
        assert_eq!(request(worker.next_operation().unwrap()).client_id, 3);
    }

    /// An answer frees its slot, counts once, and teaches the index for later writes.
    #[test]
    fn answers_free_their_slot_and_count_once() {
        let mut worker = worker(0.0, 2);
        worker.next_operation().unwrap();
        let answer = outcome(0, Answer::Set(SetReply { applied_index: 9 }));
        assert_eq!(worker.answered(&answer, Instant::now()), After::GoOn);
        assert_eq!(worker.outstanding(), 0);
        worker.answered(&answer, Instant::now());
        assert_eq!(worker.tally.errors()["answer to nothing"], 1);
        assert_eq!(request(worker.next_operation().unwrap()).since_index, 9);
    }

    /// What is answered after the end does not count: the figures are per second up to there.
    #[test]
    fn late_answers_are_not_counted() {
        let mut worker = worker(1.0, 2);
        worker.next_operation().unwrap();
        worker.next_operation().unwrap();
        let answer = |id| outcome(id, Answer::Get(GetReply::default()));
        worker.answered(&answer(0), worker.until);
        worker.answered(&answer(1), worker.until + Duration::from_millis(1));
        assert_eq!(worker.outstanding(), 0);
        let reads = worker.tally.figures(Kind::Read, HOUR).unwrap();
        assert_eq!(reads.operations, 1);
    }

    /// At a pace the latency is counted from the time at which the operation was to begin, and what is answered after
    /// the end counts, too: it was due before.
    #[tokio::test]
    async fn at_a_pace_delays_count() {
        let until = Until::after(pace::LEAD + Duration::from_millis(10));
        let mut worker = worker(1.0, 2).at(Some(Pace::start(1_000, &until)));
        assert_eq!(worker.next_operation(), None, "none is due");
        worker.until_due().await;
        worker.next_operation().unwrap();
        until.past(Duration::from_millis(30)).await;
        worker.until = until.at().into_std();
        worker.next_operation().unwrap();
        assert_eq!(worker.next_operation(), None, "no slot");
        for id in [0, 1] {
            let answer = outcome(id, Answer::Get(GetReply::default()));
            worker.answered(&answer, Instant::now());
        }
        let reads = worker.tally.figures(Kind::Read, HOUR).unwrap();
        assert_eq!(reads.operations, 2);
        assert!(reads.p50_us >= 38_000, "{reads:?}");
    }

    /// Refusals are errors with their reason, and say whether to wait or to leave.
    #[test]
    fn refusals_tell_what_to_do() {
        let mut worker = worker(1.0, 1);
        for (reason, after) in [
            (ErrorReason::Overloaded, After::Pause),
            (ErrorReason::NotReady, After::Pause),
            (ErrorReason::NotLeader, After::Leave),
            (ErrorReason::Stopping, After::Leave),
        ] {
            worker.next_operation().unwrap();
            let error = OperationError {
                reason: reason.into(),
                ..OperationError::default()
            };
            assert_eq!(
                worker.answered(&outcome(0, Answer::Error(error)), Instant::now()),
                after
            );
        }
        assert_eq!(worker.tally.errors()["overloaded"], 1);
        worker.next_operation().unwrap();
        let answer = outcome(0, Answer::Get(GetReply::default()));
        worker.answered(&answer, Instant::now());
        worker.next_operation().unwrap();
        worker.lost("lost");
        assert_eq!(
            (worker.outstanding(), worker.tally.errors()["lost"]),
            (0, 1)
        );
    }
}
