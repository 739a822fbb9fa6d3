//! A client of etcd, through etcd's own API, for a comparison on the same machine: as much of `rpc.proto` of its
//! version 3 as that needs (`etcdserverpb.KV`, `etcdserverpb.Maintenance`).

use std::time::Duration;

use tokio::time::Instant;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

use super::workload::Ask;
use crate::LoadError;

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(5);

/// An attempt takes no longer: a member may have got a request that it will never answer.
const ATTEMPT: Duration = Duration::from_secs(1);

/// As wide as the store's own clients have it.
const WINDOW_BYTES: u32 = 8 * 1024 * 1024;

#[derive(Clone, PartialEq, prost::Message)]
struct RangeRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    /// Answered by whoever is asked, from what it has applied.
    #[prost(bool, tag = "7")]
    serializable: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RangeResponse {
    #[prost(message, repeated, tag = "2")]
    kvs: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct KeyValue {
    #[prost(bytes = "vec", tag = "5")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PutRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct DeleteRangeRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    range_end: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StatusRequest {}

#[derive(Clone, PartialEq, prost::Message)]
struct StatusResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<Header>,
    #[prost(string, tag = "2")]
    version: String,
    /// The id of the member that leads; 0: none.
    #[prost(uint64, tag = "4")]
    leader: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Header {
    #[prost(uint64, tag = "2")]
    member_id: u64,
}

fn range(key: &str, serializable: bool) -> RangeRequest {
    RangeRequest {
        key: key.into(),
        serializable,
    }
}

/// The reply of a call whose outcome is all that counts.
#[derive(Clone, PartialEq, prost::Message)]
struct Done {}

/// A client of some members of etcd. Its clones share its connections, one to each.
#[derive(Debug, Clone)]
pub struct Etcd {
    addresses: Vec<String>,
    members: Vec<Channel>,
    /// Who is asked.
    at: usize,
}

impl Etcd {
    /// Of these addresses, `host:port` each. Connects when it is first used.
    ///
    /// # Errors
    /// An address is none.
    pub fn new(addresses: &[String]) -> Result<Self, LoadError> {
        let channel = |address: &String| {
            let endpoint = Endpoint::from_shared(format!("http://{address}"));
            let endpoint = endpoint.map_err(|error| {
                LoadError::Store(format!("--against: {address:?} is no host:port: {error}"))
            });
            let endpoint = endpoint?.initial_stream_window_size(WINDOW_BYTES);
            let endpoint = endpoint.initial_connection_window_size(WINDOW_BYTES);
            Ok(endpoint.connect_lazy())
        };
        Ok(Etcd {
            addresses: addresses.to_vec(),
            members: addresses
                .iter()
                .map(channel)
                .collect::<Result<_, LoadError>>()?,
            at: 0,
        })
    }

    /// Which of the members is asked first.
    #[must_use]
    pub fn at(&self) -> usize {
        self.at
    }

    /// How many members it is of.
    #[must_use]
    pub fn member_count(&self) -> usize {
        self.members.len()
    }

    /// The same over connections of its own.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn reconnected(&self) -> Result<Self, LoadError> {
        Self::new(&self.addresses)
    }

    /// The same, asking another member first.
    #[must_use]
    pub fn beside(&self, number: usize) -> Self {
        Etcd {
            at: number % self.members.len().max(1),
            ..self.clone()
        }
    }

    /// Which version it is.
    ///
    /// # Errors
    /// No member answers, or it is not etcd.
    pub async fn version(&mut self) -> Result<String, LoadError> {
        let path = "/etcdserverpb.Maintenance/Status";
        let status = StatusRequest {};
        let reply: std::result::Result<StatusResponse, _> =
            self.patiently(path, &status, ATTEMPT * 5).await;
        let reply = reply.map_err(|status| {
            LoadError::Store(format!(
                "--against: no member of etcd answers: {}",
                status.message()
            ))
        })?;
        Ok(reply.version)
    }

    /// From now on the member that leads is asked first, as far as one says so; returns its address.
    pub async fn turn_to_leader(&mut self) -> Option<String> {
        for at in 0..self.members.len() {
            let one = Etcd { at, ..self.clone() };
            let path = "/etcdserverpb.Maintenance/Status";
            let asked = tokio::time::timeout(ATTEMPT, one.once(path, StatusRequest {}));
            let Ok(Ok(status)) = asked.await else {
                continue;
            };
            let status: StatusResponse = status;
            let own = status.header.map_or(0, |header| header.member_id);
            if own != 0 && own == status.leader {
                self.at = at;
                return self.addresses.get(at).cloned();
            }
        }
        None
    }

    /// Asks once.
    ///
    /// # Errors
    /// What it met.
    pub async fn ask_once(&self, ask: Ask, serializable: bool) -> std::result::Result<(), Status> {
        match ask {
            Ask::Read(key) => {
                let path = "/etcdserverpb.KV/Range";
                let asked = self.once::<_, RangeResponse>(path, range(&key, serializable));
                asked.await.map(drop)
            }
            Ask::Write(key, value) => {
                let (key, value) = (key.into(), value.into());
                let path = "/etcdserverpb.KV/Put";
                let asked = self.once::<_, Done>(path, PutRequest { key, value });
                asked.await.map(drop)
            }
            Ask::Remove(key) => {
                let (key, range_end) = (key.into(), Vec::new());
                let path = "/etcdserverpb.KV/DeleteRange";
                let asked = self.once::<_, Done>(path, DeleteRangeRequest { key, range_end });
                asked.await.map(drop)
            }
        }
    }

    /// Asks, again and again, until one member has done it.
    ///
    /// # Errors
    /// What the last attempt met.
    pub async fn ask(&mut self, ask: Ask, patience: Duration) -> std::result::Result<(), Status> {
        match ask {
            Ask::Read(key) => self.value(&key, patience).await.map(drop),
            Ask::Write(key, value) => {
                let (key, value) = (key.into(), value.into());
                let put = PutRequest { key, value };
                let path = "/etcdserverpb.KV/Put";
                let reply = self.patiently::<_, Done>(path, &put, patience).await;
                reply.map(drop)
            }
            Ask::Remove(key) => self.remove(key.into(), Vec::new(), patience).await,
        }
    }

    /// What stands behind a key; none where it does not exist. Linearizable, as is every read that does not ask for
    /// less.
    ///
    /// # Errors
    /// What the last attempt met.
    pub async fn value(
        &mut self,
        key: &str,
        patience: Duration,
    ) -> std::result::Result<Option<String>, Status> {
        let range = range(key, false);
        let path = "/etcdserverpb.KV/Range";
        let reply: RangeResponse = self.patiently(path, &range, patience).await?;
        let found = reply.kvs.into_iter().next();
        Ok(found.map(|found| String::from_utf8_lossy(&found.value).into_owned()))
    }

    /// Removes all keys that begin with `prefix`, which does not end with the highest byte.
    ///
    /// # Errors
    /// What the last attempt met.
    pub async fn clear(
        &mut self,
        prefix: &str,
        patience: Duration,
    ) -> std::result::Result<(), Status> {
        let mut end = prefix.as_bytes().to_vec();
        if let Some(last) = end.last_mut() {
            *last += 1;
        }
        self.remove(prefix.into(), end, patience).await
    }

    async fn remove(
        &mut self,
        key: Vec<u8>,
        range_end: Vec<u8>,
        patience: Duration,
    ) -> std::result::Result<(), Status> {
        let range = DeleteRangeRequest { key, range_end };
        let path = "/etcdserverpb.KV/DeleteRange";
        let reply = self.patiently::<_, Done>(path, &range, patience).await;
        reply.map(drop)
    }

    async fn patiently<Q, R>(
        &mut self,
        path: &'static str,
        question: &Q,
        patience: Duration,
    ) -> std::result::Result<R, Status>
    where
        Q: prost::Message + Clone + 'static,
        R: prost::Message + Default + 'static,
    {
        let deadline = Instant::now() + patience;
        loop {
            let attempt = tokio::time::timeout(ATTEMPT, self.once(path, question.clone())).await;
            let refused = match attempt {
                Ok(Ok(reply)) => return Ok(reply),
                Ok(Err(status)) => status,
                Err(_) => Status::deadline_exceeded("no answer in time"),
            };
            if Instant::now() >= deadline {
                return Err(refused);
            }
            self.at = (self.at + 1) % self.members.len().max(1);
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn once<Q, R>(&self, path: &'static str, question: Q) -> std::result::Result<R, Status>
    where
        Q: prost::Message + 'static,
        R: prost::Message + Default + 'static,
    {
        let Some(channel) = self.members.get(self.at) else {
            return Err(Status::unavailable("there is no member"));
        };
        let mut grpc = Grpc::new(channel.clone());
        let ready = grpc.ready().await;
        ready.map_err(|error| Status::unavailable(error.to_string()))?;
        let path = PathAndQuery::from_static(path);
        let codec = ProstCodec::<Q, R>::default();
        let reply = grpc.unary(Request::new(question), path, codec).await?;
        Ok(reply.into_inner())
    }
}
