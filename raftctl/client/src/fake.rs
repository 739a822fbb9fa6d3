//! Fake nodes for tests: real gRPC servers whose roles a test sets. All nodes of a fake cluster
//! share one store, which is what replication amounts to for a client.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use raftkv::kv::kv_server::{Kv, KvServer};
use raftkv::kv::{self, ErrorReason, RequestId};
use raftkv::{LEADER_ADDRESS_METADATA, LEADER_ID_METADATA, REASON_METADATA};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Request, Response, Status};

use super::Member;

/// What a node does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Serves.
    Lead,
    /// Names this node as leader, or nobody.
    Follow(Option<u64>),
    /// Takes the request and never answers, but lives.
    Hang,
    /// Applies the write after this time, and answers.
    HoldBack(Duration),
    /// Applies the write, never answers, and hangs from then on.
    ApplyThenHang,
    /// Applies the write, and is frozen before it answers.
    ApplyThenFreeze,
    /// Applies the write, breaks off before it answers, and refuses from then on.
    ApplyThenRefuse(ErrorReason),
    /// Refuses with this reason.
    Refuse(ErrorReason),
    /// Some other server, which serves nobody here.
    Stranger,
}

/// What a node saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// Opened a session.
    Opened,
    /// Read this key.
    Read(String),
    /// Wrote this key, as this request.
    Wrote(String, Option<RequestId>),
}

#[derive(Debug, Default)]
struct State {
    roles: BTreeMap<u64, Role>,
    addresses: BTreeMap<u64, String>,
    seen: Vec<(u64, Seen)>,
    values: BTreeMap<String, String>,
    answered: BTreeMap<(u64, u64), u64>,
    index: u64,
    sessions: u64,
    /// The configuration that nodes tell of, and who votes by it.
    members: Option<(u64, Vec<u64>)>,
    /// Nodes through whose connections nothing passes, in either direction.
    frozen: BTreeSet<u64>,
}

/// Some fake nodes on free ports of this machine.
#[derive(Clone)]
pub struct Fakes(Arc<Mutex<State>>);

impl Fakes {
    /// Starts a node for each role; ids count from 1.
    pub async fn start(roles: &[Role]) -> Fakes {
        let fakes = Fakes(Arc::default());
        for (id, &role) in (1..).zip(roles) {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let inside = listener.local_addr().unwrap();
            let gate = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = gate.local_addr().unwrap().to_string();
            fakes.0.lock().unwrap().roles.insert(id, role);
            fakes.0.lock().unwrap().addresses.insert(id, address);
            tokio::spawn(pass_on(gate, inside, id, fakes.clone()));
            let service = KvServer::new(Node {
                id,
                fakes: fakes.clone(),
            });
            let server = tonic::transport::Server::builder().add_service(service);
            tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        }
        fakes
    }

    /// The nodes, as a client is given them.
    pub fn members(&self) -> Vec<Member> {
        let state = self.0.lock().unwrap();
        state
            .addresses
            .iter()
            .map(|(&id, a)| Member {
                id,
                address: a.clone(),
            })
            .collect()
    }

    /// From now on the node does this.
    pub fn set_role(&self, id: u64, role: Role) {
        self.0.lock().unwrap().roles.insert(id, role);
    }

    /// From now on all nodes tell who asks for it that these vote by the configuration of this entry.
    pub fn tell_members(&self, index: u64, voters: &[u64]) {
        self.0.lock().unwrap().members = Some((index, voters.to_vec()));
    }

    /// What a client is told that knows this configuration.
    fn news(&self, asked: &MetadataMap) -> Option<Vec<u8>> {
        let known: u64 = asked
            .get(raftkv::MEMBERS_METADATA)?
            .to_str()
            .unwrap()
            .parse()
            .unwrap();
        let state = self.0.lock().unwrap();
        let (index, voters) = state.members.clone()?;
        let voter = |node_id| kv::MemberAddress {
            node_id,
            client_address: state.addresses[&node_id].clone(),
        };
        let voters = voters.into_iter().map(voter).collect();
        let news = kv::ClusterMembers { index, voters };
        (known < index).then(|| news.to_bytes())
    }

    /// Nothing comes in or out of a node any more, while its connections stay open and new ones
    /// are accepted: a process under SIGSTOP.
    pub fn freeze(&self, id: u64) {
        self.0.lock().unwrap().frozen.insert(id);
    }

    fn is_frozen(&self, id: u64) -> bool {
        self.0.lock().unwrap().frozen.contains(&id)
    }

    /// What all of them have stored under the key.
    pub fn value(&self, key: &str) -> Option<String> {
        self.0.lock().unwrap().values.get(key).cloned()
    }

    /// All that was seen, in order, with the node that saw it.
    pub fn seen(&self) -> Vec<(u64, Seen)> {
        self.0.lock().unwrap().seen.clone()
    }

    /// The nodes that saw the write of `key`, with its request ids.
    pub fn writes(&self, key: &str) -> Vec<(u64, RequestId)> {
        let wrote = |(node, seen)| match seen {
            Seen::Wrote(written, request) if written == key => Some((node, request.unwrap())),
            _ => None,
        };
        self.seen().into_iter().filter_map(wrote).collect()
    }

    /// How often a write took effect.
    pub fn applied(&self) -> u64 {
        self.0.lock().unwrap().index
    }

    fn saw(&self, node: u64, seen: Seen) {
        self.0.lock().unwrap().seen.push((node, seen));
    }

    fn role(&self, node: u64) -> Role {
        self.0.lock().unwrap().roles[&node]
    }

    /// Applies a write once for each request id; gives its index.
    fn apply(
        &self,
        request: Option<RequestId>,
        change: impl FnOnce(&mut BTreeMap<String, String>),
    ) -> u64 {
        let mut state = self.0.lock().unwrap();
        let id = request.map(|id| (id.client_id, id.sequence));
        if let Some(index) = id.and_then(|id| state.answered.get(&id).copied()) {
            return index;
        }
        state.index += 1;
        let index = state.index;
        change(&mut state.values);
        if let Some(id) = id {
            state.answered.insert(id, index);
        }
        index
    }

    fn refuse(&self, reason: ErrorReason, leader: Option<u64>) -> Status {
        let state = self.0.lock().unwrap();
        let mut status = Status::unavailable("refused by a fake");
        let metadata = status.metadata_mut();
        metadata.insert(REASON_METADATA, reason.as_str_name().parse().unwrap());
        if let Some(leader) = leader {
            metadata.insert(LEADER_ID_METADATA, leader.to_string().parse().unwrap());
            let address = state.addresses.get(&leader).cloned().unwrap_or_default();
            metadata.insert(LEADER_ADDRESS_METADATA, address.parse().unwrap());
        }
        status
    }
}

/// The way from the outside to a node, as long as it is not frozen.
async fn pass_on(
    gate: tokio::net::TcpListener,
    inside: std::net::SocketAddr,
    id: u64,
    fakes: Fakes,
) {
    while let Ok((outer, _)) = gate.accept().await {
        let inner = tokio::net::TcpStream::connect(inside).await.unwrap();
        let ((from_client, to_client), (from_node, to_node)) =
            (outer.into_split(), inner.into_split());
        tokio::spawn(pass_on_bytes(from_client, to_node, id, fakes.clone()));
        tokio::spawn(pass_on_bytes(from_node, to_client, id, fakes.clone()));
    }
}

async fn pass_on_bytes(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    id: u64,
    fakes: Fakes,
) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut bytes = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        if fakes.is_frozen(id) {
            std::future::pending::<()>().await;
        }
        if to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}

struct Node {
    id: u64,
    fakes: Fakes,
}

impl Node {
    /// Plays the role up to the point where a leader would serve.
    async fn gate(&self) -> Result<(), Status> {
        match self.fakes.role(self.id) {
            Role::Lead | Role::ApplyThenHang | Role::ApplyThenFreeze | Role::ApplyThenRefuse(_) => {
                Ok(())
            }
            Role::HoldBack(length) => {
                tokio::time::sleep(length).await;
                Ok(())
            }
            Role::Follow(leader) => Err(self.fakes.refuse(ErrorReason::NotLeader, leader)),
            Role::Refuse(reason) => Err(self.fakes.refuse(reason, None)),
            Role::Stranger => Err(Status::unimplemented("another server")),
            Role::Hang => std::future::pending().await,
        }
    }

    async fn write(
        &self,
        key: String,
        request: Option<RequestId>,
        change: impl FnOnce(&mut BTreeMap<String, String>),
    ) -> Result<u64, Status> {
        self.fakes.saw(self.id, Seen::Wrote(key, request));
        self.gate().await?;
        let index = self.fakes.apply(request, change);
        match self.fakes.role(self.id) {
            Role::ApplyThenHang => {
                self.fakes.set_role(self.id, Role::Hang);
                std::future::pending::<()>().await;
            }
            Role::ApplyThenFreeze => {
                self.fakes.freeze(self.id);
                std::future::pending::<()>().await;
            }
            Role::ApplyThenRefuse(reason) => {
                self.fakes.set_role(self.id, Role::Refuse(reason));
                return Err(Status::unavailable("broke off"));
            }
            _ => {}
        }
        Ok(index)
    }
}

#[tonic::async_trait]
impl Kv for Node {
    type PipelineStream = tokio_stream::Empty<Result<kv::PipelineReply, Status>>;

    async fn open_session(
        &self,
        _: Request<kv::OpenSessionRequest>,
    ) -> Result<Response<kv::OpenSessionReply>, Status> {
        if self.fakes.role(self.id) == Role::Hang {
            std::future::pending::<()>().await;
        }
        if self.fakes.role(self.id) == Role::Stranger {
            self.gate().await?;
        }
        self.fakes.saw(self.id, Seen::Opened);
        let mut state = self.fakes.0.lock().unwrap();
        state.sessions += 1;
        let since_index = state.index;
        Ok(Response::new(kv::OpenSessionReply {
            client_id: state.sessions,
            since_index,
        }))
    }

    async fn get(
        &self,
        request: Request<kv::GetRequest>,
    ) -> Result<Response<kv::GetReply>, Status> {
        let news = self.fakes.news(request.metadata());
        let news = news.map(|bytes| MetadataValue::from_bytes(&bytes));
        let request = request.into_inner();
        self.fakes.saw(self.id, Seen::Read(request.key.clone()));
        let stale = request.consistency() == kv::Consistency::Stale;
        let role = self.fakes.role(self.id);
        if !stale || matches!(role, Role::Hang | Role::Stranger) {
            self.gate().await.map_err(|mut refused| {
                if let Some(news) = &news {
                    let metadata = refused.metadata_mut();
                    metadata.insert_bin(raftkv::MEMBERS_METADATA_BIN, news.clone());
                }
                refused
            })?;
        }
        let state = self.fakes.0.lock().unwrap();
        let value = state.values.get(&request.key).cloned();
        let path = if stale {
            kv::ReadPath::Stale
        } else {
            kv::ReadPath::Lease
        };
        let mut reply = Response::new(kv::GetReply {
            found: value.is_some(),
            value: value.unwrap_or_default(),
            applied_index: state.index,
            path: path.into(),
        });
        if let Some(news) = news {
            let metadata = reply.metadata_mut();
            metadata.insert_bin(raftkv::MEMBERS_METADATA_BIN, news);
        }
        Ok(reply)
    }

    async fn set(
        &self,
        request: Request<kv::SetRequest>,
    ) -> Result<Response<kv::SetReply>, Status> {
        let kv::SetRequest {
            request,
            key,
            value,
        } = request.into_inner();
        let inserted = key.clone();
        let change = |values: &mut BTreeMap<_, _>| drop(values.insert(inserted, value));
        let applied_index = self.write(key, request, change).await?;
        Ok(Response::new(kv::SetReply { applied_index }))
    }

    async fn delete(
        &self,
        request: Request<kv::DeleteRequest>,
    ) -> Result<Response<kv::DeleteReply>, Status> {
        let kv::DeleteRequest { request, key } = request.into_inner();
        let (mut existed, removed) = (false, key.clone());
        let change = |values: &mut BTreeMap<_, _>| existed = values.remove(&removed).is_some();
        let applied_index = self.write(key, request, change).await?;
        Ok(Response::new(kv::DeleteReply {
            applied_index,
            existed,
        }))
    }

    async fn compare_and_set(
        &self,
        _: Request<kv::CompareAndSetRequest>,
    ) -> Result<Response<kv::CompareAndSetReply>, Status> {
        Err(Status::unimplemented("the fake has no compare-and-set"))
    }

    async fn list(&self, _: Request<kv::ListRequest>) -> Result<Response<kv::ListReply>, Status> {
        Err(Status::unimplemented("the fake has no list"))
    }

    async fn pipeline(
        &self,
        _: Request<tonic::Streaming<kv::PipelineRequest>>,
    ) -> Result<Response<Self::PipelineStream>, Status> {
        Err(Status::unimplemented("the fake has no pipeline"))
    }
}
