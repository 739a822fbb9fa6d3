//! The `Kv` service: a call for each operation, and the stream for many.

use super::call::deadline;
use super::pipeline::{PIPELINES_MAX, Pipeline};
use super::translate;
use super::{Front, Refusal};
use raftkv::kv as wire;
use raftkv::{CLIENT_ID_END, MESSAGE_BYTES_MAX};
use std::sync::Arc;
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status, Streaming};
use wire::kv_server::{Kv, KvServer};
use wire::operation::Operation as WireOperation;
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

    /// One call, on the same path as an operation of a stream.
    async fn call<Q, R>(&self, request: Request<Q>) -> Result<Response<R>, Status>
    where
        Q: Into<WireOperation>,
        R: TryFrom<WireOutcome, Error = WireOutcome>,
    {
        let deadline = deadline(request.metadata());
        let access = self.front.access(request.extensions());
        let wanted = translate::wanted(request.into_inner().into())?;
        self.front.permit(&access, &wanted)?;
        let done = self.front.carry_out(wanted, deadline).await?;
        let room = self.front.reply_room(translate::size_bytes(&done))?;
        match R::try_from(translate::outcome(done)) {
            Ok(reply) => Ok(room.around(Response::new(reply))),
            Err(other) => Err(Refusal::of_another_kind(&other).into_status()),
        }
    }
}

#[tonic::async_trait]
impl Kv for KvService {
    type PipelineStream = Pipeline;

    async fn open_session(
        &self,
        _: Request<wire::OpenSessionRequest>,
    ) -> Result<Response<wire::OpenSessionReply>, Status> {
        Ok(Response::new(wire::OpenSessionReply {
            // 53 random bits: two clients do not meet by chance, and should they, the digests in
            // their session tell them apart.
            client_id: rand::random_range(1..CLIENT_ID_END),
            since_index: self.front.view.with_store(|store| store.applied_index()),
        }))
    }

    async fn get(
        &self,
        request: Request<wire::GetRequest>,
    ) -> Result<Response<wire::GetReply>, Status> {
        self.call(request).await
    }

    async fn set(
        &self,
        request: Request<wire::SetRequest>,
    ) -> Result<Response<wire::SetReply>, Status> {
        self.call(request).await
    }

    async fn delete(
        &self,
        request: Request<wire::DeleteRequest>,
    ) -> Result<Response<wire::DeleteReply>, Status> {
        self.call(request).await
    }

    async fn compare_and_set(
        &self,
        request: Request<wire::CompareAndSetRequest>,
    ) -> Result<Response<wire::CompareAndSetReply>, Status> {
        self.call(request).await
    }

    async fn list(
        &self,
        request: Request<wire::ListRequest>,
    ) -> Result<Response<wire::ListReply>, Status> {
        self.call(request).await
    }

    async fn pipeline(
        &self,
        request: Request<Streaming<wire::PipelineRequest>>,
    ) -> Result<Response<Pipeline>, Status> {
        let permit = Arc::clone(&self.pipelines).try_acquire_owned();
        let permit = permit.map_err(|_| self.front.overloaded("too many streams are open"))?;
        let front = Arc::clone(&self.front);
        let access = front.access(request.extensions());
        Ok(Response::new(Pipeline::new(
            (front, access),
            request.into_inner(),
            permit,
        )))
    }
}
