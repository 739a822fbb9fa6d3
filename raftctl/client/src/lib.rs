//! The client of the key-value API.
//!
//! It knows the address of every node and believes one of them to lead. It asks that one; when
//! refused it follows the hint, when not answered it goes on to the next, until the operation
//! succeeds or the time is over. A write carries a request id (client, sequence), the same in
//! every attempt, so that it applies once however often it was sent. What a timeout means is told
//! apart: nothing was done ([`ClientError::NoLeader`]), or nobody can tell
//! ([`ClientError::OutcomeUnknown`]).
//!
//! It may outlive every node that it was given: with each request it says which configuration of the cluster it
//! knows, and a node that knows a later one says with its answer who votes by now.
//!
//! A [`Client`] does one operation at a time, which keeps it within the window of unanswered
//! writes that a session has. Whoever needs many at a time takes many clients.

mod absence;
mod backoff;
pub mod call;
pub mod channel;
pub mod connector;
mod error;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
pub mod operations;
pub mod refusal;
mod route;
pub mod security;
#[cfg(test)]
mod tests;
pub mod tunnel_trouble;
pub mod ways;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use raftkv::kv::kv_client::KvClient;
use raftkv::kv::operation::Operation;
use raftkv::kv::outcome::Outcome;
use raftkv::kv::{ClusterMembers, Consistency, ReadPath, RequestId};
use raftkv::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use tonic::transport::Channel;

use call::{Call, Next};
use refusal::Refusal;
use route::Route;
use security::Security;

pub use absence::Absence;
pub use error::ClientError;

/// What an operation may take by default, all attempts together.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

/// A node as a client sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The node's id in the cluster.
    pub id: u64,
    /// Where it listens for clients, `host:port`.
    pub address: String,
}

/// Which node answers a read, and what it guarantees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// Linearizable, from the leader's memory under its lease.
    Lease,
    /// Linearizable, with a heartbeat round: trusts no clock.
    Quorum,
    /// Whatever a node has applied: this node, or the first that answers.
    Stale(Option<u64>),
}

impl Read {
    /// The number on the wire.
    pub fn consistency(self) -> i32 {
        match self {
            Read::Lease => Consistency::Lease.into(),
            Read::Quorum => Consistency::Quorum.into(),
            Read::Stale(_) => Consistency::Stale.into(),
        }
    }

    fn only(self) -> Option<u64> {
        match self {
            Read::Stale(node) => node,
            Read::Lease | Read::Quorum => None,
        }
    }
}

/// A session: what makes resent writes apply once.
#[derive(Debug, Clone, Copy)]
struct Session {
    client_id: u64,
    sequence: u64,
}

/// One client: connections, believed leader, session.
#[derive(Debug)]
pub struct Client {
    route: Route,
    /// With the address that each leads to.
    channels: BTreeMap<u64, (String, Channel)>,
    session: Option<Session>,
    /// The newest log index any reply has told of.
    newest_index: u64,
    timeout: Duration,
    absence: Option<Absence>,
    /// How the nodes are spoken to that it was given: so are those that it learns of.
    security: Option<Arc<Security>>,
}

impl Client {
    /// A client of these nodes. Nothing is connected yet.
    #[must_use]
    pub fn new(members: &[Member]) -> Self {
        let start = members.get(rand::random_range(0..members.len().max(1)));
        Client {
            route: Route::new(members, start.map_or(0, |member| member.id)),
            channels: BTreeMap::new(),
            session: None,
            newest_index: 0,
            timeout: TIMEOUT_DEFAULT,
            absence: None,
            security: members.iter().find_map(|it| security::of(&it.address)),
        }
    }

    /// Lets the client look at the hosts when no node answers: where none runs, an operation fails
    /// at once, and not only at the end of its time.
    #[must_use]
    pub fn with_absence(mut self, absence: Absence) -> Self {
        self.absence = Some(absence);
        self
    }

    /// Gives each operation `timeout`, for all its attempts together.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Another client over the same connections, with a session of its own. An address that is none fails when
    /// it is used.
    #[must_use]
    pub fn beside(&mut self) -> Client {
        let members = self.route.members();
        drop(
            members
                .iter()
                .map(|it| self.channel(it))
                .collect::<Vec<_>>(),
        );
        Client {
            route: self.route.clone(),
            channels: self.channels.clone(),
            session: None,
            newest_index: self.newest_index,
            timeout: self.timeout,
            absence: self.absence.clone(),
            security: self.security.clone(),
        }
    }

    /// The nodes that it asks, those that it has learnt of included.
    #[must_use]
    pub fn members(&self) -> Vec<Member> {
        self.route.members()
    }

    /// The node that is believed to lead.
    #[must_use]
    pub fn leader(&self) -> Option<u64> {
        self.route.leader()
    }

    /// Believes nobody to lead: the next operation begins at the next node in turn. For those who
    /// look for nodes that wrongly believe to lead; everybody else is better off with the memory.
    pub fn forget_leader(&mut self) {
        self.route.forget_leader();
    }

    /// The node that leads: asks with a read, which only a leader answers, as long as the timeout
    /// allows.
    ///
    /// # Errors
    /// [`ClientError::NoLeader`] within the timeout.
    pub async fn find_leader(&mut self) -> Result<Member, ClientError> {
        self.get("leader?", Read::Lease).await?;
        let leader = self.route.leader().and_then(|id| self.route.member(id));
        // A lease read that succeeded has named the leader, unless that has left the cluster meanwhile.
        leader.ok_or_else(|| ClientError::NoLeader {
            timeout: self.timeout,
            tried: Default::default(),
        })
    }

    /// Attempt after attempt until success, a final refusal, or the end of the time. With `only`
    /// no other node is asked.
    async fn call(
        &mut self,
        operation: Operation,
        only: Option<u64>,
    ) -> Result<Outcome, ClientError> {
        let mut call = Call::new(operation, only, self.timeout);
        loop {
            let now = Instant::now();
            let member = match only {
                Some(id) => self.route.member(id),
                None => self.route.pick(now),
            };
            let Some(member) = member else {
                return Err(unknown_node(only, &self.route.members()));
            };
            let Some(limit) = call.attempt_limit(now) else {
                call.wait_out().await;
                return Err(call.timed_out());
            };
            let attempt = tokio::time::timeout(limit, self.attempt(&member, &mut call)).await;
            let refusal = match attempt {
                Ok(Ok(outcome)) => {
                    self.learn(&member, &outcome);
                    return Ok(outcome);
                }
                Ok(Err(refusal)) => refusal,
                Err(_) => call.given_up(limit),
            };
            if refusal.is_silence() && call.was_dear(now, Instant::now()) {
                self.route.silent(member.id, Instant::now());
            }
            call.heard |= !refusal.is_silence();
            let what = match refusal.is_silence() {
                true => tunnel_trouble::explain(&member.address, refusal.describe()),
                false => refusal.describe(),
            };
            call.tried.record(&member, what);
            match self.refused(&member, refusal, &mut call)? {
                Next::AtOnce if call.asked_since_pause < self.route.len() => {}
                Next::AtOnce | Next::AfterPause => {
                    if self.nobody_runs(&mut call).await {
                        return Err(call.nobody_runs());
                    }
                    call.pause().await;
                }
            }
        }
    }

    /// Whether no node can answer: looked at once, when a whole round has heard nothing. A write that may be
    /// done has another question open.
    async fn nobody_runs(&self, call: &mut Call) -> bool {
        let Some(absence) = &self.absence else {
            return false;
        };
        if call.heard || call.maybe_done || std::mem::replace(&mut call.looked, true) {
            return false;
        }
        absence.is_certain().await
    }

    /// One attempt at one node. A write gets its request id here, and keeps it.
    async fn attempt(&mut self, member: &Member, call: &mut Call) -> Result<Outcome, Refusal> {
        call.asked_since_pause += 1;
        let channel = self
            .channel(member)
            .map_err(|error| Refusal::Denied(error.to_string()))?;
        let mut kv = channel::kv(channel);
        if call.writes && call.request.is_none() {
            call.request = Some(self.next_request(&mut kv).await?);
        }
        if let Some(id) = call.operation.request_id() {
            *id = call.request;
        }
        // From here on the request may arrive, whatever becomes of the answer.
        call.in_flight = call.writes;
        let known = self.route.configuration();
        let (answer, news) = operations::send_knowing(&mut kv, call.operation.clone(), known).await;
        call.in_flight = false;
        if let Some(news) = news {
            self.take_in(news);
        }
        answer.map_err(|status| Refusal::from_status(&status))
    }

    /// Other nodes vote by now: asks those from now on.
    fn take_in(&mut self, news: ClusterMembers) {
        let voters = news.voters.into_iter();
        let voters: Vec<_> = voters
            .map(|voter| Member {
                id: voter.node_id,
                address: voter.client_address,
            })
            .collect();
        self.route.learnt(news.index, &voters);
        // Of who left, and of who moved.
        let route = &self.route;
        self.channels
            .retain(|id, (address, _)| route.member(*id).is_some_and(|it| it.address == *address));
    }

    /// The id of the next write; opens the session first if there is none.
    async fn next_request(&mut self, kv: &mut KvClient<Channel>) -> Result<RequestId, Refusal> {
        let mut session = match self.session {
            Some(session) => session,
            None => {
                let opened = call::open_session(kv).await?;
                self.newest_index = self.newest_index.max(opened.since_index);
                Session {
                    client_id: opened.client_id,
                    sequence: 0,
                }
            }
        };
        session.sequence += 1;
        self.session = Some(session);
        Ok(RequestId {
            client_id: session.client_id,
            sequence: session.sequence,
            since_index: self.newest_index,
        })
    }

    /// What a refusal teaches, and what to do next.
    fn refused(
        &mut self,
        member: &Member,
        refusal: Refusal,
        call: &mut Call,
    ) -> Result<Next, ClientError> {
        if !matches!(refusal, Refusal::Denied(_)) {
            call.denied.remove(&member.id);
        }
        match refusal {
            Refusal::NotLeader(hint) => {
                self.route.answered(member.id);
                self.route.hinted(member.id, hint);
                Ok(if call.only.is_some() {
                    Next::AfterPause
                } else {
                    Next::AtOnce
                })
            }
            Refusal::NotReady | Refusal::DiskFull(_) => {
                self.route.led(member.id);
                Ok(Next::AfterPause)
            }
            Refusal::Overloaded => Ok(Next::AfterPause),
            Refusal::Gone(_) => {
                self.route.failed(member.id);
                Ok(Next::AtOnce)
            }
            Refusal::Unknown(_) | Refusal::Broken(_) => {
                call.maybe_done |= call.writes;
                self.route.failed(member.id);
                Ok(Next::AtOnce)
            }
            Refusal::SessionExpired => {
                self.session = None;
                if call.maybe_done {
                    return Err(call.timed_out());
                }
                // No earlier attempt can have arrived, so a new id is the first of this write.
                call.request = None;
                Ok(Next::AtOnce)
            }
            // A stranger at the address of one node, most likely: the others may serve.
            Refusal::Denied(_) if !self.is_denied_by_all(member, call) => {
                self.route.failed(member.id);
                Ok(Next::AtOnce)
            }
            // This attempt did nothing; an earlier one may have.
            Refusal::Invalid(_) | Refusal::Denied(_) if call.maybe_done => Err(call.timed_out()),
            Refusal::Invalid(message) => Err(ClientError::Invalid(message)),
            Refusal::Denied(message) => {
                let (node, address) = (member.id, member.address.clone());
                Err(ClientError::Denied {
                    node,
                    address,
                    message,
                })
            }
        }
    }

    /// Notes that this node will not serve this client. Returns whether there is nobody else to ask.
    fn is_denied_by_all(&self, member: &Member, call: &mut Call) -> bool {
        call.denied.insert(member.id);
        let members = self.route.members();
        call.only.is_some() || members.iter().all(|other| call.denied.contains(&other.id))
    }

    /// What a success teaches: who leads, and how far the log is.
    fn learn(&mut self, member: &Member, outcome: &Outcome) {
        let Some((index, path)) = outcome.applied() else {
            return;
        };
        self.newest_index = self.newest_index.max(index);
        match path {
            ReadPath::Stale => self.route.answered(member.id),
            _ => self.route.led(member.id),
        }
    }

    /// The connection to a node, made at its first use.
    fn channel(&mut self, member: &Member) -> Result<Channel, ClientError> {
        if let Some((_, channel)) = self.channels.get(&member.id) {
            return Ok(channel.clone());
        }
        if let Some(security) = &self.security {
            security::secure([&*member.address].into_iter(), security);
        }
        let channel = channel::channel(&member.address)?;
        let kept = (member.address.clone(), channel.clone());
        self.channels.insert(member.id, kept);
        Ok(channel)
    }
}

/// Refuses a key that no node would take.
fn check_key(key: &str) -> Result<(), ClientError> {
    check_size("key", key.len(), KEY_BYTES_MAX)
}

/// Refuses a value that no node would take.
fn check_value(value: &str) -> Result<(), ClientError> {
    check_size("value", value.len(), VALUE_BYTES_MAX)
}

fn check_size(what: &str, bytes: usize, bytes_max: usize) -> Result<(), ClientError> {
    if bytes <= bytes_max {
        return Ok(());
    }
    Err(ClientError::Invalid(format!(
        "the {what} has {bytes} bytes; a {what} may have at most {bytes_max}. Split it, or store \
         it elsewhere and keep its name here"
    )))
}

fn unknown_node(node: Option<u64>, members: &[Member]) -> ClientError {
    let ids: Vec<String> = members.iter().map(|member| member.id.to_string()).collect();
    ClientError::Invalid(match node {
        Some(node) => format!("there is no node {node}; the nodes are {}", ids.join(", ")),
        None => "the cluster has no nodes to ask".to_owned(),
    })
}
