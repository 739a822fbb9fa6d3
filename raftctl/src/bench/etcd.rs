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
use crate::error::{Error, Result};

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(5);

/// An attempt takes no longer: a member may have got a request that it will never answer.
const ATTEMPT: Duration = Duration::from_secs(1);

#[derive(Clone, PartialEq, prost::Message)]
struct RangeRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RangeResponse {
    #[prost(int64, tag = "4")]
    count: i64,
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
    #[prost(string, tag = "2")]
    version: String,
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
    pub fn new(addresses: &[String]) -> Result<Self> {
        let channel = |address: &String| {
            let endpoint = Endpoint::from_shared(format!("http://{address}"));
            let endpoint = endpoint.map_err(|error| {
                Error::Usage(format!("--against: {address:?} is no host:port: {error}"))
            });
            Ok(endpoint?.connect_lazy())
        };
        Ok(Etcd {
            addresses: addresses.to_vec(),
            members: addresses.iter().map(channel).collect::<Result<_>>()?,
            at: 0,
        })
    }

    /// How many members it is of.
    #[must_use]
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// The same over connections of its own.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn reconnected(&self) -> Result<Self> {
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
    pub async fn version(&mut self) -> Result<String> {
        let path = "/etcdserverpb.Maintenance/Status";
        let status = StatusRequest {};
        let reply: std::result::Result<StatusResponse, _> =
            self.patiently(path, &status, ATTEMPT * 5).await;
        let reply = reply.map_err(|status| {
            Error::Usage(format!(
                "--against: no member of etcd answers: {}",
                status.message()
            ))
        })?;
        Ok(reply.version)
    }

    /// Asks, again and again, until one member has done it.
    ///
    /// # Errors
    /// What the last attempt met.
    pub async fn ask(&mut self, ask: Ask, patience: Duration) -> std::result::Result<(), Status> {
        match ask {
            Ask::Read(key) => {
                let range = RangeRequest { key: key.into() };
                let path = "/etcdserverpb.KV/Range";
                let reply: RangeResponse = self.patiently(path, &range, patience).await?;
                debug_assert!(reply.count <= 1);
                Ok(())
            }
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
