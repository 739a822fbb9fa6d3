//! A cluster of real processes for one test: starts, breaks and asks them.
//!
//! Each test process has a loopback address of its own (127.a.b.c from its pid), and each cluster
//! in it a range of ports below those that the kernel gives out, so tests never meet.

use crate::secured::{Secured, Through};
use raftkv::admin::admin_client::AdminClient;
use raftkv::admin::{Role, StatusReply, StatusRequest};
use raftkv::kv::kv_client::KvClient;
use raftkv::kv::{self, GetReply, GetRequest, RequestId, SetReply, SetRequest};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

pub const BINARY: &str = env!("CARGO_BIN_EXE_raft-node");

/// Bound on every wait for something that should come soon.
pub const SOON: Duration = Duration::from_secs(20);

const PORTS: std::ops::Range<u16> = 10_000..30_000;
static NEXT_PORT: AtomicU16 = AtomicU16::new(PORTS.start);

/// A loopback address that no other running test process uses.
pub fn own_host() -> String {
    let [_, a, b, c] = std::process::id().to_be_bytes();
    match cfg!(target_os = "linux") {
        true => format!("127.{}.{b}.{c}", a | 64),
        // Elsewhere there is one loopback address; the tests then run one process at a time.
        false => "127.0.0.1".into(),
    }
}

/// Ports of this test process that were not given out before.
pub fn own_ports(count: u16) -> u16 {
    let first = NEXT_PORT.fetch_add(count, Ordering::Relaxed);
    assert!(first + count <= PORTS.end, "too many ports for one process");
    first
}

/// Waits until `look` finds something; fails with `what` when it does not come soon.
pub async fn eventually<T>(what: &str, look: impl AsyncFnMut() -> Option<T>) -> T {
    within(SOON, what, look).await
}

pub async fn within<T>(bound: Duration, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(start.elapsed() < bound, "{bound:?} without: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub struct Cluster {
    pub directory: TempDir,
    host: String,
    first_port: u16,
    nodes: Vec<Option<Child>>,
    flags: Vec<String>,
    /// Where nodes speak TLS: their certificates, and how this test comes to them.
    pub secured: Option<Secured>,
}

impl Cluster {
    /// `count` nodes, not yet running.
    pub fn new(count: usize, flags: &[&str]) -> Self {
        Cluster {
            directory: TempDir::new().unwrap(),
            host: own_host(),
            first_port: own_ports(2 * count as u16),
            nodes: (0..count).map(|_| None).collect(),
            flags: flags.iter().map(ToString::to_string).collect(),
            secured: None,
        }
    }

    /// `count` nodes, running, with a leader that has a lease.
    pub async fn start(count: usize, flags: &[&str]) -> Self {
        let mut cluster = Cluster::new(count, flags);
        for id in cluster.ids() {
            cluster.spawn(id);
        }
        cluster.leader().await;
        cluster
    }

    /// The same, with TLS.
    pub async fn start_secured(count: usize, flags: &[&str]) -> Self {
        let mut cluster = Cluster::new(count, flags);
        cluster.secure();
        for id in cluster.ids() {
            cluster.spawn(id);
        }
        cluster.leader().await;
        cluster
    }

    /// From now on nodes are started with TLS.
    pub fn secure(&mut self) {
        self.secured = Some(Secured::new(self.directory.path(), &self.ids()));
    }

    pub fn ids(&self) -> Vec<u64> {
        (1..=self.nodes.len() as u64).collect()
    }

    pub fn others(&self, but: u64) -> Vec<u64> {
        self.ids().into_iter().filter(|id| *id != but).collect()
    }

    pub fn peer_address(&self, id: u64) -> String {
        let port = self.first_port + 2 * (id as u16 - 1);
        format!("{}:{port}", self.host)
    }

    pub fn client_address(&self, id: u64) -> String {
        let port = self.first_port + 2 * (id as u16 - 1) + 1;
        format!("{}:{port}", self.host)
    }

    pub fn data_dir(&self, id: u64) -> PathBuf {
        self.directory.path().join(format!("logs_node_{id}"))
    }

    /// The node's arguments, one each.
    pub fn arguments(&self, id: u64) -> Vec<String> {
        self.arguments_among(id, &self.ids())
    }

    /// The same, naming these nodes alone.
    pub fn arguments_among(&self, id: u64, nodes: &[u64]) -> Vec<String> {
        let mut arguments = vec![
            format!("--id={id}"),
            "--cluster=test".into(),
            format!("--data-dir={}", self.data_dir(id).display()),
            format!("--listen-peers={}", self.peer_address(id)),
            format!("--listen-clients={}", self.client_address(id)),
        ];
        for other in nodes {
            let (peer, client) = (self.peer_address(*other), self.client_address(*other));
            arguments.push(format!("--node={other},{peer},{client}"));
        }
        arguments.extend(self.flags.iter().cloned());
        if let Some(secured) = &self.secured {
            arguments.push(format!("--tls={}", secured.folder(id).display()));
        }
        arguments
    }

    /// Starts a node; does not wait for it.
    pub fn spawn(&mut self, id: u64) {
        self.spawn_with(id, &self.arguments(id));
    }

    /// The same, with other arguments.
    pub fn spawn_with(&mut self, id: u64, arguments: &[String]) {
        self.spawn_binary(id, Path::new(BINARY), arguments);
    }

    /// The same, of another version.
    pub fn spawn_binary(&mut self, id: u64, binary: &Path, arguments: &[String]) {
        let log = |name: &str| {
            let path = self.directory.path().join(format!("{name}_{id}"));
            File::options()
                .append(true)
                .create(true)
                .open(path)
                .unwrap()
        };
        let child = Command::new(binary)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log("stdout"))
            .stderr(log("stderr"))
            .spawn()
            .unwrap();
        self.adopt(id, child);
    }

    /// Takes over a process that was started otherwise.
    pub fn adopt(&mut self, id: u64, child: Child) {
        let before = self.slot(id).replace(child);
        assert!(before.is_none(), "node {id} runs already");
    }

    fn slot(&mut self, id: u64) -> &mut Option<Child> {
        &mut self.nodes[id as usize - 1]
    }

    pub fn signal(&mut self, id: u64, signal: Signal) {
        let child = self.slot(id).as_ref().expect("the node runs");
        kill_process(Pid::from_child(child), signal).unwrap();
    }

    /// The process of a node that runs.
    pub fn pid(&self, id: u64) -> u32 {
        let child = self.nodes[id as usize - 1].as_ref();
        child.expect("the node runs").id()
    }

    /// kill -9.
    pub fn kill(&mut self, id: u64) {
        let mut child = self.slot(id).take().expect("the node runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// SIGTERM; returns what the process ended with.
    pub async fn terminate(&mut self, id: u64) -> ExitStatus {
        self.signal(id, Signal::TERM);
        self.ended(id).await
    }

    /// Waits for the end of a process.
    pub async fn ended(&mut self, id: u64) -> ExitStatus {
        let slot = self.slot(id);
        let status = eventually("the end of the process", async || {
            slot.as_mut().expect("the node runs").try_wait().unwrap()
        })
        .await;
        *self.slot(id) = None;
        status
    }

    /// A connection of its own, made with the first call.
    pub fn channel(&self, id: u64) -> Channel {
        self.channel_through(id, self.secured.as_ref().map(Secured::admin))
    }

    /// The same, with a certificate of its own; `None`: without TLS.
    pub fn channel_through(&self, id: u64, through: Option<Through>) -> Channel {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.client_address(id)));
        let endpoint = endpoint
            .unwrap()
            .connect_timeout(Duration::from_secs(1))
            .tcp_nodelay(true);
        match through {
            None => endpoint.connect_lazy(),
            Some(through) => endpoint.connect_with_connector_lazy(through),
        }
    }

    pub fn kv(&self, id: u64) -> KvClient<Channel> {
        KvClient::new(self.channel(id)).max_decoding_message_size(64 << 20)
    }

    pub fn admin(&self, id: u64) -> AdminClient<Channel> {
        AdminClient::new(self.channel(id))
    }

    /// What a node says of itself that lives.
    pub async fn told(&self, id: u64) -> StatusReply {
        eventually("its status", async || self.status(id).await).await
    }

    /// What the node says of itself; `None`: it does not answer.
    pub async fn status(&self, id: u64) -> Option<StatusReply> {
        let reply = tokio::time::timeout(Duration::from_secs(1), async {
            self.admin(id).status(StatusRequest {}).await.ok()
        });
        Some(reply.await.ok()??.into_inner())
    }

    /// Waits for a leader with a lease and without an older one to wait for.
    pub async fn leader(&self) -> u64 {
        self.leader_among(&self.ids()).await
    }

    pub async fn leader_among(&self, ids: &[u64]) -> u64 {
        eventually("a leader with a lease", async || {
            for id in ids {
                if let Some(status) = self.status(*id).await
                    && status.role() == Role::Leader
                    && status.lease_remaining_ms.is_some()
                    && status.old_lease_remaining_ms.is_none()
                {
                    return Some(*id);
                }
            }
            None
        })
        .await
    }

    /// Sets a key, at whichever node leads, again and again with the same request id until it is
    /// acknowledged.
    pub async fn set(&self, request: Option<RequestId>, key: &str, value: &str) {
        self.set_at(&self.ids(), request, key, value).await;
    }

    /// The same, asking these nodes only: a frozen one would not even refuse.
    pub async fn set_among(&self, ids: &[u64], key: &str, value: &str) {
        self.set_at(ids, None, key, value).await;
    }

    async fn set_at(&self, ids: &[u64], request: Option<RequestId>, key: &str, value: &str) {
        eventually("an acknowledged SET", async || {
            for id in ids {
                if self.try_set(*id, request, key, value).await.is_ok() {
                    return Some(());
                }
            }
            None
        })
        .await;
    }

    pub async fn try_set(
        &self,
        id: u64,
        request: Option<RequestId>,
        key: &str,
        value: &str,
    ) -> Result<SetReply, Status> {
        let set = SetRequest {
            request,
            key: key.into(),
            value: value.into(),
        };
        let reply = self.kv(id).set(set).await?;
        Ok(reply.into_inner())
    }

    pub async fn try_get(
        &self,
        id: u64,
        key: &str,
        consistency: kv::Consistency,
    ) -> Result<GetReply, Status> {
        let get = GetRequest {
            key: key.into(),
            consistency: consistency.into(),
        };
        Ok(self.kv(id).get(get).await?.into_inner())
    }

    /// Reads a key from whichever node leads.
    pub async fn get(&self, key: &str) -> Option<String> {
        let reply = eventually("an answered GET", async || {
            for id in self.ids() {
                let reply = self.try_get(id, key, kv::Consistency::Lease).await;
                if let Ok(reply) = reply {
                    return Some(reply);
                }
            }
            None
        })
        .await;
        reply.found.then_some(reply.value)
    }

    /// Waits until all these nodes have applied as much as the first of them has now.
    pub async fn caught_up(&self, ids: &[u64]) {
        let target = eventually("the leader's status", async || self.status(ids[0]).await).await;
        eventually("every node at the same entry", async || {
            for id in ids {
                if self.status(*id).await?.applied_index < target.last_index {
                    return None;
                }
            }
            Some(())
        })
        .await;
    }

    /// Waits until the leader sees a follower's connection up, or down.
    pub async fn connected(&self, leader: u64, follower: u64, wanted: bool) {
        eventually("the follower's connection to change", async || {
            let status = self.status(leader).await?;
            let mut peers = status.peers.iter();
            let found = peers.find(|peer| peer.node_id == follower)?;
            (found.connected == wanted).then_some(())
        })
        .await;
    }

    pub fn text(&self, id: u64, file: &str) -> String {
        read(&self.data_dir(id).join(file))
    }

    /// What a node said on its standard error.
    pub fn stderr(&self, id: u64) -> String {
        read(&self.directory.path().join(format!("stderr_{id}")))
    }

    pub fn stdout(&self, id: u64) -> String {
        read(&self.directory.path().join(format!("stdout_{id}")))
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in self.nodes.iter_mut().flatten() {
            // It may have ended by itself.
            child.kill().ok();
            child.wait().ok();
        }
        if std::thread::panicking() {
            for id in self.ids() {
                let dump = self.text(id, "dump.txt");
                let from = dump.lines().count().saturating_sub(40);
                let tail: Vec<_> = dump.lines().skip(from).collect();
                eprintln!("--- node {id}\n{}\n{}", tail.join("\n"), self.stderr(id));
            }
        }
    }
}

/// Names one write for good.
pub fn request(client_id: u64, sequence: u64) -> Option<RequestId> {
    Some(RequestId {
        client_id,
        sequence,
        since_index: 0,
    })
}

/// Why the call was refused, by the name that the metadata gives.
pub fn reason(status: &Status) -> &str {
    let reason = status.metadata().get(raftkv::REASON_METADATA);
    reason.map_or("", |reason| reason.to_str().unwrap())
}
