//! From settings to a running node, and to its end.

use super::Server;
use super::descriptors::places;
use super::stop::{Servers, stop};
use crate::clock::Clock;
use crate::desk::Desk;
use crate::disk::{Directory, DiskError, DiskReport, DiskThread, LeaseRecord};
use crate::dump::{Dump, Happening};
use crate::engine::Engine;
use crate::flags::Settings;
use crate::identity::Identity;
use crate::peers::{Links, Peers, RaftService};
use crate::raft::{Index, Micros, Recovered};
use crate::rpc::{Front, Listen, ReflectionError, serve_clients, serve_peers};
use crate::wal::{Recovery, decode_promises};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{oneshot, watch};

/// Why a node could not start, or had to stop. One line for the operator each.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Its directory or its files.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The limit of open files.
    #[error(
        "only {files} files may be open at a time, and this node needs {needed}; raise the limit \
         (ulimit -Hn, or LimitNOFILE in a unit)"
    )]
    TooFewFiles {
        /// As many as there may be.
        files: usize,
        /// As many as there must be.
        needed: usize,
    },
    /// A socket.
    #[error("cannot listen for {whom} on {address}: {error}{}", hint(.error))]
    Listen {
        /// Peers or clients.
        whom: &'static str,
        /// What was to be bound.
        address: String,
        /// What came of it.
        error: io::Error,
    },
    /// The descriptors that were compiled in.
    #[error("the reflection service cannot start: {0}")]
    Reflection(#[from] ReflectionError),
    /// Signals can't be waited for.
    #[error("cannot wait for signals: {0}")]
    Signals(io::Error),
    /// While it ran. What was not flushed can't be trusted, so the node does not go on.
    #[error("the disk failed, so the node stops: {0}")]
    DiskFailed(Arc<str>),
    /// While it ran.
    #[error("no longer listening for {whom}: {error}")]
    ListenEnded {
        /// Peers or clients.
        whom: &'static str,
        /// What came of it.
        error: String,
    },
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "; stop the process that uses it, or give another port",
        io::ErrorKind::AddrNotAvailable => "; this machine has no such address",
        _ => "",
    }
}

/// Runs a node until it is told to stop (`Ok`) or can't go on.
pub async fn run(settings: Settings) -> Result<(), Failure> {
    let places = places(settings.identity.members.len())?;
    let directory = Directory::open(&settings.data_dir)?;
    let peers_socket = bind("peers", &settings.listen_peers, places.peers).await?;
    let clients_socket = bind("clients", &settings.listen_clients, places.clients).await?;
    directory.probe()?;
    let mut recovery = directory.recover()?;
    let kept = directory.take_promises()?;
    // The thread outlives the node, to write down its last lines.
    let (dump, _dump_thread) = Dump::start(settings.identity.id, &directory, settings.quiet)?;
    tell_start(&dump, &recovery);
    let clock = clock(&settings);
    if let (Some(text), Some(origin)) = (kept, clock.origin()) {
        recovery.recovered.kept_promises = decode_promises(&origin, &text);
    }
    let own_lease_us = settings.raft_config(0).lease_us;
    let lease_us = recovery.recovered.former_lease_us.max(own_lease_us);
    let lease_record = directory.lease_record();
    // Before the node promises anything.
    lease_record.write(lease_us)?;
    let node = Node::start(&settings, clock, directory, recovery, &dump, peers_socket)?;
    if lease_us > own_lease_us {
        tokio::spawn(lower(lease_record, lease_us, own_lease_us));
    }
    let outcome = node.serve(&settings, clients_socket).await;
    match &outcome {
        Ok(()) => dump.tell(Happening::Stopped),
        Err(failure) => dump.tell(Happening::Failed(failure.to_string().into())),
    }
    outcome
}

/// Records the lease of this run once all promises of a longer former one are over. They count in
/// time that also passes while the machine is suspended, so this waits long enough.
async fn lower(record: LeaseRecord, former_us: Micros, own_us: Micros) {
    tokio::time::sleep(Duration::from_micros(former_us)).await;
    let written = tokio::task::spawn_blocking(move || record.write(own_us)).await;
    match written {
        Ok(Ok(())) => {}
        // What it says stays true: only a crash costs a longer wait.
        Ok(Err(error)) => tracing::warn!("the longest lease stays recorded: {error}"),
        Err(error) => tracing::warn!("the longest lease stays recorded: {error}"),
    }
}

fn clock(settings: &Settings) -> Arc<Clock> {
    Arc::new(match settings.clock_rate_ppm {
        Some(rate_ppm) => Clock::with_faults(rate_ppm),
        None => Clock::default(),
    })
}

async fn bind(whom: &'static str, address: &str, places: usize) -> Result<Listen, Failure> {
    let bound = Listen::bind(address, places).await;
    bound.map_err(|error| Failure::Listen {
        whom,
        address: address.to_owned(),
        error,
    })
}

/// What a damaged log means, and the way out where no leader is left.
const NOT_REFILLED: &str = "this node does not vote until it has been refilled from the leader; \
    where there can't be one because too many logs are damaged, make a file accept-damage beside \
    logs.txt and restart the node: what was acknowledged in the lost entries is then given up";

fn tell_start(dump: &Dump, recovery: &Recovery) {
    let Recovered {
        hard_state,
        entries,
        commit_index,
        damaged_until,
        ..
    } = &recovery.recovered;
    dump.tell(Happening::Started {
        term: hard_state.term,
        last_index: entries.len() as Index,
        commit_index: *commit_index,
        pid: std::process::id(),
    });
    if let Some(torn) = recovery.torn {
        tracing::warn!(
            "logs.txt ended in a torn write: cut off from line {}",
            torn.line
        );
        dump.tell(Happening::TornTail(torn));
    }
    if let Some(damage) = recovery.damage {
        tracing::error!(
            "logs.txt is damaged at line {}: kept what is before; {NOT_REFILLED}",
            damage.line
        );
        dump.tell(Happening::Damaged(damage));
    } else if *damaged_until > 0 {
        let until = *damaged_until;
        tracing::error!("logs.txt was found damaged at an earlier start: {NOT_REFILLED}");
        dump.tell(Happening::StillDamaged { until });
    }
    if recovery.accepted_until > 0 {
        let until = recovery.accepted_until;
        tracing::warn!("goes on without entries up to {until} that damage cost, as told");
        dump.tell(Happening::DamageAccepted { until });
    }
}

/// A node that takes part, but does not yet serve clients.
struct Node {
    server: Server,
    front: Arc<Front>,
    peers_serving: tokio::task::JoinHandle<Result<(), tonic::transport::Error>>,
}

impl Node {
    fn start(
        settings: &Settings,
        clock: Arc<Clock>,
        directory: Directory,
        recovery: Recovery,
        dump: &Dump,
        peers_socket: Listen,
    ) -> Result<Self, Failure> {
        let (identity, desk, links) = shared(settings);
        let config = settings.raft_config(rand::random());
        let started_us = clock.now_us();
        let engine = Engine::new(config, recovery.recovered, recovery.log, started_us);
        let (disk, disk_failed) = start_disk(directory, &desk)?;
        let peers = Peers::start(&identity, &links, &clock, dump);
        let service = RaftService::server(&identity, &desk, &peers, dump);
        let front = Arc::new(Front {
            identity,
            desk: Arc::clone(&desk),
            view: engine.view(),
            clock: Arc::clone(&clock),
            dump: dump.clone(),
            links,
            fault_injection_allowed: settings.allow_fault_injection,
            started_us,
            counters: Default::default(),
            room: Default::default(),
        });
        let server = Server {
            engine,
            clock,
            desk,
            disk,
            disk_failed,
            disk_stuck: false,
            hang_watch: Default::default(),
            peers,
            dump: dump.clone(),
            submitted: 0,
            durable: 0,
        };
        Ok(Node {
            server,
            front,
            peers_serving: tokio::spawn(serve_peers(service, peers_socket)),
        })
    }

    async fn serve(mut self, settings: &Settings, clients_socket: Listen) -> Result<(), Failure> {
        let mut terminate = signal(SignalKind::terminate()).map_err(Failure::Signals)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::Signals)?;
        let (close_clients, clients_closed) = oneshot::channel();
        let until_closed = async {
            // Closed, or the sender dropped: the same.
            clients_closed.await.ok();
        };
        let (health, serving) = serve_clients(&self.front, clients_socket, until_closed)?;
        let clients_serving = tokio::spawn(serving);
        health.set_serving(true).await;
        announce_ready(&self.front.dump);

        let mut servers = Servers {
            health,
            close_clients: Some(close_clients),
            clients_serving,
            peers_serving: self.peers_serving,
        };
        {
            let mut driven = std::pin::pin!(self.server.drive());
            tokio::select! {
                failure = &mut driven => return Err(failure),
                failure = servers.failed() => return Err(failure),
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            // A second signal cuts the farewell short.
            tokio::select! {
                failure = &mut driven => return Err(failure),
                () = stop(&self.front, &mut servers, settings) => {}
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        }
        // The loop has ended: nothing is acknowledged, so nothing is promised, any more.
        self.server.keep_promises()
    }
}

fn shared(settings: &Settings) -> (Arc<Identity>, Arc<Desk>, Arc<Links>) {
    let identity = Arc::new(settings.identity.clone());
    (identity, Arc::default(), Arc::default())
}

type DiskFailed = watch::Receiver<Option<Arc<str>>>;

fn start_disk(
    directory: Directory,
    desk: &Arc<Desk>,
) -> Result<(DiskThread, DiskFailed), DiskError> {
    let (failed, disk_failed) = watch::channel(None);
    let desk = Arc::clone(desk);
    let disk = DiskThread::start(directory, move |report| match report {
        DiskReport::Durable(ticket) => desk.report_durable(ticket),
        DiskReport::Failed(error) => {
            failed.send_replace(Some(error.to_string().into()));
        }
    })?;
    Ok((disk, disk_failed))
}

fn announce_ready(dump: &Dump) {
    dump.tell(Happening::Ready);
    tracing::info!("ready");
    // Does nothing where no supervisor waits for it.
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        tracing::warn!("the supervisor could not be told that the node is ready: {error}");
    }
}
