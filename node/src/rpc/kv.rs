//! The `Kv` service: a call for each operation, and the stream for many.

use super::call::deadline;
use super::pipeline::{PIPELINES_MAX, Pipeline};
use super::room::ReplyRoom;
use super::translate::{self, Done};
use super::{Front, Refusal};
use crate::engine::{Consistency, Query};
use raftkv::MESSAGE_BYTES_MAX;
use raftkv::kv as wire;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status, Streaming};
use wire::kv_server::{Kv, KvServer};
use wire::outcome::Outcome as WireOutcome;

/// See the module.
#[derive(Debug)]
pub(super) struct KvService {
    front: Arc<Front>,
    pipelines: Arc<Semaphore>,
}

impl KvService {
    pub(super) fn server(front: Arc<Front>) -> KvServer<Self> {
        let service = KvService {
            front,
            pipelines: Arc::new(Semaphore::new(PIPELINES_MAX)),
        };
        KvServer::new(service).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    async fn read<T>(
        &self,
        request: Request<T>,
        translate: fn(T) -> Result<(Query, Consistency), Refusal>,
    ) -> Result<(WireOutcome, ReplyRoom), Status> {
        let deadline = deadline(request.metadata());
        let (query, consistency) = translate(request.into_inner())?;
        let done = self.front.read(query, consistency, deadline).await?;
        let room = self.front.reply_room(translate::size_bytes(&done))?;
        Ok((translate::outcome(done), room))
    }

    async fn write<T>(
        &self,
        request: Request<T>,
        translate: fn(T) -> Result<crate::engine::Request, Refusal>,
    ) -> Result<WireOutcome, Status> {
        let deadline = deadline(request.metadata());
        let write = translate(request.into_inner())?;
        let done: Done = self.front.write(write, deadline).await?;
        Ok(translate::outcome(done))
    }
}

/// Takes the reply of one kind out of an outcome of that kind.
macro_rules! reply {
    ($outcome:expr, $kind:ident) => {
        match $outcome {
            WireOutcome::$kind(reply) => Ok(Response::new(reply)),
            other => unreachable!("answered by {other:?}"),
        }
    };
}

/// The same, with the room that it takes.
macro_rules! reply_in_room {
    ($found:expr, $kind:ident) => {{
        let (outcome, room) = $found;
        let reply: Result<_, Status> = reply!(outcome, $kind);
        reply.map(|reply| room.around(reply))
    }};
}

#[tonic::async_trait]
impl Kv for KvService {
    type PipelineStream = Pipeline;

    async fn open_session(
        &self,
        _: Request<wire::OpenSessionRequest>,
    ) -> Result<Response<wire::OpenSessionReply>, Status> {
        Ok(Response::new(wire::OpenSessionReply {
            // 64 random bits: two clients do not meet by chance.
            client_id: rand::random_range(1..=u64::MAX),
            since_index: self.front.view.with_store(|store| store.applied_index()),
        }))
    }

    async fn get(
        &self,
        request: Request<wire::GetRequest>,
    ) -> Result<Response<wire::GetReply>, Status> {
        reply_in_room!(self.read(request, translate::get).await?, Get)
    }

    async fn set(
        &self,
        request: Request<wire::SetRequest>,
    ) -> Result<Response<wire::SetReply>, Status> {
        reply!(self.write(request, translate::set).await?, Set)
    }

    async fn delete(
        &self,
        request: Request<wire::DeleteRequest>,
    ) -> Result<Response<wire::DeleteReply>, Status> {
        reply!(self.write(request, translate::delete).await?, Delete)
    }

    async fn compare_and_set(
        &self,
        request: Request<wire::CompareAndSetRequest>,
    ) -> Result<Response<wire::CompareAndSetReply>, Status> {
        let outcome = self.write(request, translate::compare_and_set).await?;
        reply!(outcome, CompareAndSet)
    }

    async fn list(
        &self,
        request: Request<wire::ListRequest>,
    ) -> Result<Response<wire::ListReply>, Status> {
        reply_in_room!(self.read(request, translate::list).await?, List)
    }

    async fn pipeline(
        &self,
        request: Request<Streaming<wire::PipelineRequest>>,
    ) -> Result<Response<Pipeline>, Status> {
        let permit = Arc::clone(&self.pipelines).try_acquire_owned();
        let permit = permit.map_err(|_| self.front.overloaded("too many streams are open"))?;
        let front = Arc::clone(&self.front);
        Ok(Response::new(Pipeline::new(
            front,
            request.into_inner(),
            permit,
        )))
    }
}
