//! Sets a key and reads it, whichever node leads: client HOST:PORT HOST:PORT HOST:PORT
//!
//! tonic does not look at the health service, so this client finds the leader by itself: it asks one
//! node after the other, and follows the address that a refusal names.

use std::time::{Duration, Instant};

use raftkv::kv::kv_client::KvClient;
use raftkv::kv::{GetRequest, OpenSessionRequest, RequestId, SetRequest};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

const TIMEOUT: Duration = Duration::from_secs(30);
/// A node that does not answer for so long is given up, and the next one asked.
const CALL_TIMEOUT: Duration = Duration::from_secs(3);
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(20);

/// What to do after a call that failed.
enum Next {
    /// Ask this node.
    Ask(String),
    /// Ask any other.
    AskAnother,
    /// It makes no sense to ask again.
    GiveUp,
}

/// One operation at a time; for many at a time take many clients, or the stream.
pub struct Client {
    nodes: Vec<String>,
    /// Who is asked, one of the nodes or the one that a refusal named.
    node: String,
    stub: KvClient<Channel>,
    client_id: u64,
    newest_index: u64,
    sequence: u64,
}

impl Client {
    /// Opens a session. The nodes are the client addresses of all of them.
    pub async fn connect(nodes: Vec<String>) -> Result<Client, Status> {
        let node = nodes.first().cloned();
        let node = node.ok_or_else(|| Status::invalid_argument("name the nodes"))?;
        let mut client = Client {
            stub: stub(&node)?,
            node,
            nodes,
            client_id: 0,
            newest_index: 0,
            sequence: 0,
        };
        let open = async |mut stub: KvClient<Channel>| {
            let reply = stub.open_session(OpenSessionRequest {}).await?;
            Ok(reply.into_inner())
        };
        let session = client.ask(open).await?;
        (client.client_id, client.newest_index) = (session.client_id, session.since_index);
        Ok(client)
    }

    /// Writes a key. It applies once, however often it had to be sent.
    pub async fn set(&mut self, key: &str, value: &str) -> Result<(), Status> {
        self.sequence += 1;
        let request = SetRequest {
            request: Some(RequestId {
                client_id: self.client_id,
                sequence: self.sequence,
                since_index: self.newest_index,
            }),
            key: key.into(),
            value: value.into(),
        };
        let set = async |mut stub: KvClient<Channel>| {
            let reply = stub.set(request.clone()).await?;
            Ok(reply.into_inner())
        };
        let reply = self.ask(set).await?;
        self.newest_index = self.newest_index.max(reply.applied_index);
        Ok(())
    }

    /// Reads a key; `None`: there is no such key.
    pub async fn get(&mut self, key: &str) -> Result<Option<String>, Status> {
        let get = async |mut stub: KvClient<Channel>| {
            let request = GetRequest {
                key: key.into(),
                ..GetRequest::default()
            };
            Ok(stub.get(request).await?.into_inner())
        };
        let reply = self.ask(get).await?;
        Ok(reply.found.then_some(reply.value))
    }

    /// Asks the leader, whoever that is, until it answers or the time is over.
    async fn ask<T>(
        &mut self,
        call: impl AsyncFn(KvClient<Channel>) -> Result<T, Status>,
    ) -> Result<T, Status> {
        let started = Instant::now();
        loop {
            let status = match call(self.stub.clone()).await {
                Ok(answer) => return Ok(answer),
                Err(status) => status,
            };
            let node = match next(&status) {
                Next::GiveUp => return Err(status),
                _ if started.elapsed() > TIMEOUT => return Err(status),
                Next::Ask(node) => node,
                Next::AskAnother => {
                    let asked = self.nodes.iter().position(|node| *node == self.node);
                    let next = asked.map_or(0, |position| position + 1);
                    self.nodes[next % self.nodes.len()].clone()
                }
            };
            tokio::time::sleep(PAUSE).await;
            (self.stub, self.node) = (stub(&node)?, node);
        }
    }
}

/// Connects with the first call.
fn stub(node: &str) -> Result<KvClient<Channel>, Status> {
    let endpoint = Endpoint::from_shared(format!("http://{node}"));
    let endpoint = endpoint.map_err(|error| Status::invalid_argument(error.to_string()))?;
    Ok(KvClient::new(endpoint.timeout(CALL_TIMEOUT).connect_lazy()))
}

/// A node that refuses says why, in the metadata. Without a reason the connection broke, or the time
/// ran out: a write may then have been done, and is sent again with the same id.
fn next(status: &Status) -> Next {
    let word = |key| status.metadata().get(key)?.to_str().ok();
    match (word("raft-error-reason"), word("raft-leader-address")) {
        (Some("NOT_LEADER"), Some(address)) => Next::Ask(address.into()),
        (
            Some(
                "NOT_LEADER" | "NOT_READY" | "OVERLOADED" | "OUTCOME_UNKNOWN" | "STOPPING"
                | "INCOMPLETE",
            ),
            _,
        ) => Next::AskAnother,
        (Some(_), _) => Next::GiveUp,
        (None, _) if status.code() == Code::InvalidArgument => Next::GiveUp,
        (None, _) => Next::AskAnother,
    }
}

/// What the program does.
pub async fn run(nodes: Vec<String>) -> Result<String, Status> {
    let mut client = Client::connect(nodes).await?;
    client.set("name1", "Jaggu").await?;
    Ok(client.get("name1").await?.unwrap_or_default())
}

#[tokio::main]
async fn main() -> Result<(), Status> {
    println!("{}", run(std::env::args().skip(1).collect()).await?);
    Ok(())
}
