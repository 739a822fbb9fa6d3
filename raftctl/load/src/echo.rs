//! A bare server of the same calls, which keeps nothing and asks nobody: what gRPC alone costs here.

use std::net::SocketAddr;
use std::pin::Pin;

use raftkv::kv::kv_server::{Kv, KvServer};
use raftkv::kv::operation::Operation as Body;
use raftkv::kv::outcome::Outcome as Answer;
use raftkv::kv::{self, Operation, Outcome, PipelineReply, PipelineRequest};
use tokio::sync::oneshot;
use tokio_stream::{Stream, StreamExt as _};
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

use crate::LoadError;
use raftkv_client::Member;

/// The server at work, on a thread of its own, as a node is. Ends with this value.
pub struct Echo {
    address: SocketAddr,
    _stop: oneshot::Sender<()>,
}

impl Echo {
    /// Starts it on a free port of this machine. A get is answered with a value of so many bytes.
    ///
    /// # Errors
    /// There is no port, or no thread.
    pub fn start(value_bytes: usize) -> Result<Echo, LoadError> {
        let refused = |error: &dyn std::fmt::Display| {
            LoadError::Machine(format!(
                "no bare server can be started beside the nodes: {error}"
            ))
        };
        let listener = std::net::TcpListener::bind("127.0.0.1:0");
        let listener = listener.map_err(|error| refused(&error))?;
        let nonblocking = listener.set_nonblocking(true);
        nonblocking.map_err(|error| refused(&error))?;
        let address = listener.local_addr().map_err(|error| refused(&error))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = runtime.map_err(|error| refused(&error))?;
        let (stop, stopped) = oneshot::channel::<()>();
        let service = KvServer::new(Bare {
            value: "v".repeat(value_bytes),
        });
        let serve = async move {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
            let server = tonic::transport::Server::builder().add_service(service);
            tokio::select! {
                ended = server.serve_with_incoming(incoming) => ended.map_err(std::io::Error::other),
                // The other end is dropped when all is measured.
                _ = stopped => Ok(()),
            }
        };
        let thread = std::thread::Builder::new().name("echo".into());
        let spawned = thread.spawn(move || {
            if let Err(error) = runtime.block_on(serve) {
                eprintln!("the bare server has ended: {error}");
            }
        });
        spawned.map_err(|error| refused(&error))?;
        Ok(Echo {
            address,
            _stop: stop,
        })
    }

    /// As clients see it: a cluster of one.
    #[must_use]
    pub fn members(&self) -> Vec<Member> {
        vec![Member {
            id: 1,
            address: self.address.to_string(),
        }]
    }
}

struct Bare {
    value: String,
}

impl Bare {
    fn got(value: &str) -> kv::GetReply {
        kv::GetReply {
            value: value.to_owned(),
            found: true,
            applied_index: 1,
            path: kv::ReadPath::Lease.into(),
        }
    }

    fn outcome(value: &str, operation: &Operation) -> Outcome {
        let answer = operation.operation.as_ref().and_then(|body| match body {
            Body::Get(_) => Some(Answer::Get(Self::got(value))),
            Body::Set(_) => Some(Answer::Set(kv::SetReply { applied_index: 1 })),
            Body::Delete(_) => Some(Answer::Delete(kv::DeleteReply::default())),
            Body::CompareAndSet(_) | Body::List(_) => None,
        });
        Outcome {
            id: operation.id,
            outcome: answer,
        }
    }
}

fn unused() -> Status {
    Status::unimplemented("nobody measures it")
}

#[tonic::async_trait]
impl Kv for Bare {
    type PipelineStream = Pin<Box<dyn Stream<Item = Result<PipelineReply, Status>> + Send>>;

    async fn open_session(
        &self,
        _: Request<kv::OpenSessionRequest>,
    ) -> Result<Response<kv::OpenSessionReply>, Status> {
        Ok(Response::new(kv::OpenSessionReply {
            client_id: 1,
            since_index: 1,
        }))
    }

    async fn get(&self, _: Request<kv::GetRequest>) -> Result<Response<kv::GetReply>, Status> {
        Ok(Response::new(Self::got(&self.value)))
    }

    async fn set(&self, _: Request<kv::SetRequest>) -> Result<Response<kv::SetReply>, Status> {
        Ok(Response::new(kv::SetReply { applied_index: 1 }))
    }

    async fn delete(
        &self,
        _: Request<kv::DeleteRequest>,
    ) -> Result<Response<kv::DeleteReply>, Status> {
        Ok(Response::new(kv::DeleteReply::default()))
    }

    async fn compare_and_set(
        &self,
        _: Request<kv::CompareAndSetRequest>,
    ) -> Result<Response<kv::CompareAndSetReply>, Status> {
        Err(unused())
    }

    async fn list(&self, _: Request<kv::ListRequest>) -> Result<Response<kv::ListReply>, Status> {
        Err(unused())
    }

    async fn pipeline(
        &self,
        request: Request<Streaming<PipelineRequest>>,
    ) -> Result<Response<Self::PipelineStream>, Status> {
        let value = self.value.clone();
        let replies = request.into_inner().map(
            move |asked: Result<PipelineRequest, Status>| -> Result<PipelineReply, Status> {
                let asked = asked?;
                let outcomes = asked.operations.iter();
                let outcomes = outcomes.map(|operation| Self::outcome(&value, operation));
                Ok(PipelineReply {
                    outcomes: outcomes.collect(),
                })
            },
        );
        Ok(Response::new(Box::pin(replies)))
    }
}
