//! One request, from a client's call to its outcome, within a bound of time.

use super::translate::{Done, Wanted};
use super::{Front, Refusal};
use crate::desk::{Desk, Outcome, Waiter};
use crate::dump::{Asked, Happening};
use crate::engine::{Consistency, LeaseRead, Query, ReadPath, Reply, Request, RequestError, Token};
use crate::raft::Role;
use crate::space::Room;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tonic::metadata::MetadataMap;

/// Longest wait of any request.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// What became of a read that was tried without asking the loop.
pub(super) enum DirectRead {
    /// Answered.
    Done(Done),
    /// Only the loop knows when it may be answered.
    Wait,
    /// This node does not answer it.
    Refused(Refusal),
}

impl Front {
    /// Carries out what a client asks for.
    pub(super) async fn carry_out(
        &self,
        wanted: Wanted,
        deadline: Instant,
    ) -> Result<Done, Refusal> {
        let since = Instant::now();
        let done = match wanted {
            Wanted::Read(query, consistency) => self.read(query, consistency, deadline).await,
            Wanted::Write(request) => self.write(request, deadline).await,
        }?;
        self.metrics.answered(done.path(), since.elapsed(), 1);
        Ok(done)
    }

    /// Carries out a write.
    pub(super) async fn write(&self, request: Request, deadline: Instant) -> Result<Done, Refusal> {
        self.may_write()?;
        match self.ask(request, deadline).await? {
            Some(Ok(Reply::Written { index, result })) => Ok(Done::Written { index, result }),
            Some(Ok(other)) => unreachable!("a write is not answered by {other:?}"),
            Some(Err(error)) => Err(self.refuse(&error)),
            None => Err(self.refuse(&write_timed_out())),
        }
    }

    /// Carries out a read.
    pub(super) async fn read(
        &self,
        query: Query,
        consistency: Consistency,
        deadline: Instant,
    ) -> Result<Done, Refusal> {
        self.tell_read(&query, consistency);
        loop {
            if let Some(read) = self.read_directly(&query, consistency) {
                match read {
                    DirectRead::Done(done) => return Ok(done),
                    DirectRead::Refused(refusal) => return Err(refusal),
                    DirectRead::Wait => {}
                }
            }
            let query = query.clone();
            let request = Request::Read { query, consistency };
            match self.ask(request, deadline).await? {
                Some(Ok(Reply::LookAgain)) if Instant::now() < deadline => {}
                Some(Ok(Reply::LookAgain)) => return Err(self.refuse(&read_timed_out())),
                Some(Ok(reply)) => return Ok(self.done_reading(reply)),
                Some(Err(error)) => return Err(self.refuse(&error)),
                None => return Err(self.refuse(&read_timed_out())),
            }
        }
    }

    /// Answers a read without the loop, where its consistency allows that. `None`: it does not.
    pub(super) fn read_directly(
        &self,
        query: &Query,
        consistency: Consistency,
    ) -> Option<DirectRead> {
        match consistency {
            Consistency::Lease => Some(self.read_under_lease(query)),
            Consistency::Stale => {
                let (answer, applied_index) = self.view.stale_read(query);
                Some(DirectRead::Done(self.done_reading(Reply::Read {
                    answer,
                    applied_index,
                    path: ReadPath::Stale,
                })))
            }
            Consistency::Quorum => self.must_lead().err().map(DirectRead::Refused),
        }
    }

    /// Refuses at once what a leader alone can do. A leader whose disk hangs does not lead for
    /// long, but its loop takes nothing any more and could not say so.
    pub(super) fn must_lead(&self) -> Result<(), Refusal> {
        let gate = self.view.gate();
        let leader = gate.leader;
        match gate.role {
            Role::Leader => Ok(()),
            _ => Err(self.refuse(&RequestError::NotLeader { leader })),
        }
    }

    /// Refuses a write at once that this node can't, or should not, take.
    pub(super) fn may_write(&self) -> Result<(), Refusal> {
        self.must_lead()?;
        match self.space.room() {
            Room::Enough => Ok(()),
            Room::Low | Room::Critical => Err(self.disk_full()),
        }
    }

    fn read_under_lease(&self, query: &Query) -> DirectRead {
        match self.view.lease_read(query, || self.clock.now_us()) {
            LeaseRead::Done {
                answer,
                applied_index,
                path,
            } => DirectRead::Done(self.done_reading(Reply::Read {
                answer,
                applied_index,
                path,
            })),
            LeaseRead::Wait => DirectRead::Wait,
            LeaseRead::NotLeader { leader } => {
                DirectRead::Refused(self.refuse(&RequestError::NotLeader { leader }))
            }
        }
    }

    pub(super) fn done_reading(&self, reply: Reply) -> Done {
        match reply {
            Reply::Read {
                answer,
                applied_index,
                path,
            } => {
                self.counters.count_read(path);
                Done::Read {
                    answer,
                    applied_index,
                    path,
                }
            }
            other => unreachable!("a read is not answered by {other:?}"),
        }
    }

    /// Tells of a read that came to the leader.
    pub(super) fn tell_read(&self, query: &Query, consistency: Consistency) {
        if consistency == Consistency::Stale || self.view.gate().role != Role::Leader {
            return;
        }
        self.dump.tell(Happening::Received(match query {
            Query::Get { key } => Asked::Get(key.clone()),
            Query::List { prefix, .. } => Asked::List(prefix.clone()),
        }));
    }

    /// Asks the loop. `Ok(None)`: it did not answer in time.
    pub(super) async fn ask(
        &self,
        request: Request,
        deadline: Instant,
    ) -> Result<Option<Outcome>, Refusal> {
        let (reply, outcome) = oneshot::channel();
        let submitted = self.desk.submit(request, Waiter::Call(reply));
        let token = submitted.map_err(|why| self.turn_away(why))?;
        // A client that hangs up drops this future wherever it waits.
        let _asked = Waiting {
            desk: &self.desk,
            token,
        };
        match tokio::time::timeout_at(deadline, outcome).await {
            Ok(Ok(outcome)) => Ok(Some(outcome)),
            // Too late, or the node has ended without an answer: nobody knows the outcome.
            Ok(Err(_)) | Err(_) => Ok(None),
        }
    }
}

/// Gives a request up when it is dropped.
struct Waiting<'a> {
    desk: &'a Desk,
    token: Token,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.desk.abandon(self.token);
    }
}

pub(super) fn write_timed_out() -> RequestError {
    RequestError::OutcomeUnknown("it was not committed in time")
}

pub(super) fn write_cut_off() -> RequestError {
    RequestError::OutcomeUnknown("this node stopped before it was committed")
}

pub(super) fn read_timed_out() -> RequestError {
    RequestError::NotReady("it had no valid lease, or no majority answered, in time")
}

/// When a call must be answered: before its own timeout, so that the client gets an answer, and
/// after [`REQUEST_TIMEOUT`] at the latest.
pub(super) fn deadline(metadata: &MetadataMap) -> Instant {
    let header = metadata.get("grpc-timeout");
    let own = header.and_then(|value| parse_timeout(value.to_str().ok()?));
    let wait = own.map_or(REQUEST_TIMEOUT, |own| (own * 9 / 10).min(REQUEST_TIMEOUT));
    Instant::now() + wait
}

/// At most eight digits and a unit, as gRPC over HTTP/2 has it.
fn parse_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let count: u64 = (digits.len() <= 8).then(|| digits.parse().ok())??;
    match unit {
        "H" => Some(Duration::from_secs(count * 3600)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Operation;
    use crate::rpc::tests::follower;
    use raftkv::kv::ErrorReason;
    use tokio::time::timeout;

    // A node that does not lead says so at once, even if its loop takes nothing because the disk
    // hangs; nothing piles up on its desk.
    #[tokio::test]
    async fn who_does_not_lead_refuses_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let front = follower(directory.path());
        let far = Instant::now() + Duration::from_secs(3600);
        let write = Request::Write {
            request: None,
            operation: Operation::Delete { key: "k".into() },
        };
        let key = Query::Get { key: "k".into() };
        let both = async {
            let write = front.write(write, far).await;
            [write, front.read(key, Consistency::Quorum, far).await]
        };
        let refused = timeout(Duration::from_secs(20), both).await;
        for refusal in refused.expect("at once") {
            assert_eq!(refusal.unwrap_err().reason, ErrorReason::NotLeader);
        }
        assert_eq!(front.desk.waiting(), 0);
    }

    // Every unit of gRPC is understood; text that is no timeout counts as none given.
    #[test]
    fn timeouts_are_read() {
        assert_eq!(parse_timeout("250m"), Some(Duration::from_millis(250)));
        assert_eq!(parse_timeout("3S"), Some(Duration::from_secs(3)));
        assert_eq!(
            parse_timeout("99999999H").map(|it| it.as_secs() / 3600),
            Some(99_999_999)
        );
        for nonsense in ["", "S", "12", "123456789S", "-1S", "1é"] {
            assert_eq!(parse_timeout(nonsense), None, "{nonsense}");
        }
    }
}
