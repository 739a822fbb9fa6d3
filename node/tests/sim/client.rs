//! A client: asks one thing at a time, and writes down what it was told.

use crate::plan::ClientPlan;
use crate::random::Random;
use checker::{Kind, Operation, Outcome};
use raft_node::command::{self, RequestId};
use raft_node::engine::{Answer, Consistency, Query, Reply, Request, RequestError, Token};
use raft_node::kv::WriteResult;
use raft_node::raft::{Index, Micros, NodeId};
use std::collections::BTreeMap;

/// See the module.
#[derive(Debug)]
pub struct Client {
    /// Its number, from 0.
    pub number: u64,
    /// How it behaves. Without a plan it does what a story tells it.
    pub plan: Option<ClientPlan>,
    /// Whom it would ask.
    pub believed: NodeId,
    /// What it waits for.
    pub call: Option<Call>,
    /// What came of the call before.
    pub last: Option<Outcome>,
    /// It begins nothing new.
    pub stopped: bool,
    sequence: u64,
    attempts: u64,
    /// A log index that it has heard of.
    since_index: Index,
    /// What it last saw at each key: what it compares with.
    seen: BTreeMap<String, Option<String>>,
}

/// One operation, which may take several attempts.
#[derive(Clone, Debug)]
pub struct Call {
    /// What is asked.
    pub kind: Kind,
    /// About which key.
    pub key: String,
    /// How a read is done.
    pub consistency: Consistency,
    /// Names a write for good.
    pub request: Option<RequestId>,
    /// True time of the first attempt.
    pub call_us: Micros,
    /// The attempt under way, unique for this client.
    pub attempt: u64,
    /// Whom it went to.
    pub target: NodeId,
    /// It has arrived there.
    pub arrived: bool,
    /// An attempt may have taken effect without telling.
    pub maybe: bool,
    /// True time after which no new attempt is made.
    pub give_up_us: Micros,
}

/// What an attempt came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// The answer.
    Done(Outcome, Index),
    /// This attempt did nothing; perhaps somebody else is named.
    Refused(Option<NodeId>),
    /// This attempt may take effect, or have taken it.
    Unknown,
    /// No attempt can be told from another any more.
    Expired,
}

impl Client {
    /// It has not asked anything yet.
    pub fn new(number: u64, plan: Option<ClientPlan>, believed: NodeId) -> Self {
        Client {
            number,
            plan,
            believed,
            call: None,
            last: None,
            stopped: false,
            sequence: 0,
            attempts: 0,
            since_index: 0,
            seen: BTreeMap::new(),
        }
    }

    /// Names an attempt of this client at all nodes.
    pub fn token(&self, attempt: u64) -> Token {
        self.number << 32 | attempt
    }

    /// Whose attempt a token names.
    pub fn of_token(token: Token) -> (usize, u64) {
        ((token >> 32) as usize, token & 0xffff_ffff)
    }

    /// Makes up the next operation.
    pub fn begin_any(
        &mut self,
        keys: &[String],
        value_bytes: usize,
        now: Micros,
        random: &mut Random,
    ) {
        let Some(plan) = self.plan else {
            return;
        };
        let key = keys[random.below(keys.len() as u64) as usize].clone();
        let mut value = format!("c{}-{}", self.number, self.sequence + 1);
        value.extend(std::iter::repeat_n(
            '.',
            value_bytes.saturating_sub(value.len()),
        ));
        let kind = match random.below(100) {
            0..50 => Kind::Get,
            50..78 => Kind::Set { value },
            78..92 => Kind::CompareAndSet {
                expected: self.seen.get(&key).cloned().flatten(),
                value,
            },
            _ => Kind::Delete,
        };
        let consistency = match random.percent(plan.quorum_percent) {
            true => Consistency::Quorum,
            false => Consistency::Lease,
        };
        self.begin(kind, key, consistency, plan.session, now);
    }

    /// Takes an operation in hand.
    pub fn begin(
        &mut self,
        kind: Kind,
        key: String,
        consistency: Consistency,
        session: bool,
        now: Micros,
    ) {
        self.sequence += 1;
        let request = RequestId {
            client_id: self.number + 1,
            sequence: self.sequence,
            since_index: self.since_index,
        };
        self.call = Some(Call {
            request: (session && kind != Kind::Get).then_some(request),
            kind,
            key,
            consistency,
            call_us: now,
            attempt: 0,
            target: self.believed,
            arrived: false,
            maybe: false,
            give_up_us: now + 8_000_000,
        });
    }

    /// Begins the next attempt at the operation in hand; returns its number.
    pub fn attempt(&mut self, target: NodeId) -> u64 {
        self.attempts += 1;
        self.believed = target;
        if let Some(call) = &mut self.call {
            call.attempt = self.attempts;
            call.target = target;
            call.arrived = false;
        }
        self.attempts
    }

    /// Ends the operation in hand, as it goes into the history.
    pub fn finish(&mut self, outcome: Outcome, index: Index, now: Micros) -> Option<Operation> {
        let call = self.call.take()?;
        self.last = Some(outcome.clone());
        self.since_index = self.since_index.max(index);
        let now_there = match (&call.kind, &outcome) {
            (Kind::Set { value }, Outcome::Written)
            | (Kind::CompareAndSet { value, .. }, Outcome::Swapped(true)) => {
                Some(Some(value.clone()))
            }
            (Kind::Get, Outcome::Read(value)) => Some(value.clone()),
            (Kind::Delete, Outcome::Existed(_)) => Some(None),
            _ => None,
        };
        if let Some(value) = now_there {
            self.seen.insert(call.key.clone(), value);
        }
        Some(Operation {
            client: self.number,
            call_us: call.call_us,
            return_us: outcome.is_answer().then_some(now),
            key: call.key,
            kind: call.kind,
            outcome,
        })
    }
}

impl Call {
    /// As the node is asked.
    pub fn request(&self) -> Request {
        let key = self.key.as_str().into();
        let operation = match &self.kind {
            Kind::Get => {
                return Request::Read {
                    query: Query::Get { key },
                    consistency: self.consistency,
                };
            }
            Kind::Set { value } => command::Operation::Set {
                key,
                value: value.as_str().into(),
            },
            Kind::Delete => command::Operation::Delete { key },
            Kind::CompareAndSet { expected, value } => command::Operation::CompareAndSet {
                key,
                expected: expected.as_deref().map(Into::into),
                value: value.as_str().into(),
            },
        };
        Request::Write {
            request: self.request,
            operation,
        }
    }

    /// Whether another attempt can do no harm.
    pub fn may_resend(&self) -> bool {
        !self.maybe || self.kind == Kind::Get || self.request.is_some()
    }

    /// The outcome when no answer will be waited for any more.
    pub fn outcome_without_answer(&self) -> Outcome {
        match self.maybe {
            true => Outcome::Unknown,
            false => Outcome::NotApplied,
        }
    }
}

/// What the engine's reply means to a client.
pub fn told(reply: Result<Reply, RequestError>) -> Told {
    match reply {
        Ok(Reply::Written { index, result }) => {
            let outcome = match result {
                WriteResult::Set => Outcome::Written,
                WriteResult::Deleted { existed } => Outcome::Existed(existed),
                WriteResult::Swapped { swapped } => Outcome::Swapped(swapped),
            };
            Told::Done(outcome, index)
        }
        Ok(Reply::Read {
            answer: Answer::Value(value),
            applied_index,
            ..
        }) => Told::Done(
            Outcome::Read(value.map(|value| value.to_string())),
            applied_index,
        ),
        Ok(
            Reply::Read { .. }
            | Reply::MembersChanged { .. }
            | Reply::LookAgain
            | Reply::Transferred { .. }
            | Reply::SnapshotTaken { .. }
            | Reply::BackupBegun { .. },
        ) => panic!("nobody asked for this: {reply:?}"),
        Err(RequestError::NotLeader { leader }) => Told::Refused(leader),
        Err(RequestError::NotReady(_) | RequestError::Overloaded(_)) => Told::Refused(None),
        Err(RequestError::OutcomeUnknown(_)) => Told::Unknown,
        Err(RequestError::SessionExpired) => Told::Expired,
        Err(RequestError::Members(why)) => panic!("a client changes no members: {why}"),
        Err(RequestError::IdReused) => panic!("two writes of one client have the same id"),
        Err(RequestError::Invalid(why)) => panic!("a client's request is invalid: {why}"),
    }
}
