//! The operations: what can be asked of the store, each as a request of its own.

use raftkv::kv;
use raftkv::kv::kv_client::KvClient;
use raftkv::kv::operation::Operation;
use raftkv::kv::outcome::Outcome;
use raftkv::{MEMBERS_METADATA, MEMBERS_METADATA_BIN};
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use super::{Client, ClientError, Read, check_key, check_value};

impl Client {
    /// Reads a key.
    ///
    /// # Errors
    /// See [`ClientError`]; a read has never an unknown outcome.
    pub async fn get(&mut self, key: &str, read: Read) -> Result<kv::GetReply, ClientError> {
        check_key(key)?;
        let request = kv::GetRequest {
            key: key.to_owned(),
            consistency: read.consistency(),
        };
        self.ask(request, read.only()).await
    }

    /// Reads the keys with a prefix, in byte order, at most `limit` (0: as many as a reply may
    /// hold), with `after` only those after that key.
    ///
    /// # Errors
    /// See [`ClientError`]; a read has never an unknown outcome.
    pub async fn list(
        &mut self,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
        read: Read,
    ) -> Result<kv::ListReply, ClientError> {
        let request = kv::ListRequest {
            prefix: prefix.to_owned(),
            limit,
            consistency: read.consistency(),
            after: after.map(str::to_owned),
        };
        self.ask(request, read.only()).await
    }

    /// Writes a key.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn set(&mut self, key: &str, value: &str) -> Result<kv::SetReply, ClientError> {
        check_key(key)?;
        check_value(value)?;
        let (key, value) = (key.to_owned(), value.to_owned());
        let request = kv::SetRequest {
            request: None,
            key,
            value,
        };
        self.ask(request, None).await
    }

    /// Removes a key.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn delete(&mut self, key: &str) -> Result<kv::DeleteReply, ClientError> {
        check_key(key)?;
        let request = kv::DeleteRequest {
            request: None,
            key: key.to_owned(),
        };
        self.ask(request, None).await
    }

    /// Writes a key if it holds `expected` (None: if it does not exist).
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn compare_and_set(
        &mut self,
        key: &str,
        expected: Option<&str>,
        value: &str,
    ) -> Result<kv::CompareAndSetReply, ClientError> {
        check_key(key)?;
        check_value(expected.unwrap_or_default())?;
        check_value(value)?;
        let request = kv::CompareAndSetRequest {
            request: None,
            key: key.to_owned(),
            expected: expected.map(str::to_owned),
            value: value.to_owned(),
        };
        self.ask(request, None).await
    }

    /// Asks for one operation; the reply is that of its request.
    async fn ask<Q, R>(&mut self, request: Q, only: Option<u64>) -> Result<R, ClientError>
    where
        Q: Into<Operation>,
        R: TryFrom<Outcome, Error = Outcome>,
    {
        let outcome = self.call(request.into(), only).await?;
        Ok(R::try_from(outcome).unwrap_or_else(|other| unreachable!("send() returned {other:?}")))
    }
}

/// One unary call by a client that knows the configuration `known`: the outcome, and who votes by now if that
/// is news.
pub async fn send_knowing(
    kv: &mut KvClient<Channel>,
    operation: Operation,
    known: u64,
) -> (Result<Outcome, Status>, Option<kv::ClusterMembers>) {
    let reply = match operation {
        Operation::Get(it) => whole(kv.get(knowing(it, known)).await, Outcome::Get),
        Operation::Set(it) => whole(kv.set(knowing(it, known)).await, Outcome::Set),
        Operation::Delete(it) => whole(kv.delete(knowing(it, known)).await, Outcome::Delete),
        Operation::CompareAndSet(it) => whole(
            kv.compare_and_set(knowing(it, known)).await,
            Outcome::CompareAndSet,
        ),
        Operation::List(it) => whole(kv.list(knowing(it, known)).await, Outcome::List),
    };
    match reply {
        Ok((outcome, metadata)) => (Ok(outcome), news(&metadata)),
        Err(status) => {
            let news = news(status.metadata());
            (Err(status), news)
        }
    }
}

fn knowing<Q>(request: Q, known: u64) -> Request<Q> {
    let mut request = Request::new(request);
    request
        .metadata_mut()
        .insert(MEMBERS_METADATA, known.into());
    request
}

fn whole<R>(
    reply: Result<Response<R>, Status>,
    outcome: fn(R) -> Outcome,
) -> Result<(Outcome, MetadataMap), Status> {
    let (metadata, reply, _) = reply?.into_parts();
    Ok((outcome(reply), metadata))
}

fn news(metadata: &MetadataMap) -> Option<kv::ClusterMembers> {
    let bytes = metadata.get_bin(MEMBERS_METADATA_BIN)?.to_bytes().ok()?;
    kv::ClusterMembers::from_bytes(&bytes)
}

/// One unary call; the outcome is of the operation's own kind.
pub async fn send(kv: &mut KvClient<Channel>, operation: Operation) -> Result<Outcome, Status> {
    Ok(match operation {
        Operation::Get(request) => Outcome::Get(kv.get(request).await?.into_inner()),
        Operation::Set(request) => Outcome::Set(kv.set(request).await?.into_inner()),
        Operation::Delete(request) => Outcome::Delete(kv.delete(request).await?.into_inner()),
        Operation::CompareAndSet(request) => {
            Outcome::CompareAndSet(kv.compare_and_set(request).await?.into_inner())
        }
        Operation::List(request) => Outcome::List(kv.list(request).await?.into_inner()),
    })
}
