//! From settings to a running node, and to its end.

use super::descriptors::shares;
use super::stop::{Servers, stop, take_leave};
use super::watchdog::Watchdog;
use super::{Server, configurations, tell_configuration};
use crate::access::ClusterNames;
use crate::clock::Clock;
use crate::desk::Desk;
use crate::disk::{Directory, DiskError, DiskReport, DiskThread, LeaseRecord};
use crate::dump::{Dump, Happening};
use crate::engine::{Engine, Input, Start};
use crate::flags::Settings;
use crate::identity::Identity;
use crate::metrics::{self, Metrics, Sockets, Sources};
use crate::peers::{Keep, Links, Peers, RaftService, Successors};
use crate::raft::{Contradiction, Event, Micros, NodeId, Recovered, Run};
use crate::roster::Roster;
use crate::rpc::{Front, Listen, Places, ReflectionError, serve_clients, serve_peers};
use crate::space::{Room, Space};
use crate::tls::{LoadError, Tls};
use crate::wal::{LostNote, Recovery, decode_promises, promises_are_damaged};
use crate::witness::{Charge, Witness};
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
    /// The process may open too few files.
    #[error(
        "only {files} files may be open at a time, and this node needs {needed}; raise the limit \
         (ulimit -Hn, or LimitNOFILE in a unit)"
    )]
    TooFewFiles {
        /// How many it may open.
        files: usize,
        /// How many it needs.
        needed: usize,
    },
    /// A port could not be bound.
    #[error("cannot listen for {whom} on {address}: {error}{}", hint(.error))]
    Listen {
        /// Peers or clients.
        whom: &'static str,
        /// The address.
        address: String,
        /// What the system said.
        error: io::Error,
    },
    /// The certificates, or their key.
    #[error("cannot speak TLS: {0}")]
    Tls(#[from] LoadError),
    /// The descriptors that were compiled in make no sense.
    #[error("the reflection service cannot start: {0}")]
    Reflection(#[from] ReflectionError),
    /// The thread that serves metrics could not be started.
    #[error("cannot serve metrics: {0}")]
    Metrics(io::Error),
    /// The thread for handshakes could not be started.
    #[error("cannot speak TLS: no thread for handshakes: {0}")]
    Handshakes(io::Error),
    /// Signals can't be waited for.
    #[error("cannot wait for signals: {0}")]
    Signals(io::Error),
    /// The disk failed while the node ran. What was not flushed can't be trusted, so the node does not go on.
    #[error("the disk failed, so the node stops: {0}")]
    DiskFailed(Arc<str>),
    /// What others say contradicts what this node knows.
    #[error("{}; {}", .0, way_out(.0))]
    Contradiction(Contradiction),
    /// A server ended while the node ran.
    #[error("no longer listening for {whom}: {error}")]
    ListenEnded {
        /// Peers or clients.
        whom: &'static str,
        /// What the server said.
        error: String,
    },
}

impl Failure {
    /// To start the node again would change nothing: an operator must decide.
    pub fn is_final(&self) -> bool {
        matches!(
            self,
            Failure::Contradiction(_)
                | Failure::Disk(
                    DiskError::Recover { .. }
                        | DiskError::OtherCluster { .. }
                        | DiskError::OtherState { .. }
                )
        )
    }
}

/// What to do about it.
fn way_out(contradiction: &Contradiction) -> &'static str {
    match contradiction {
        Contradiction::LeaderLacksCommitted { .. } => {
            "so a directory was put back from an older copy, or damage was accepted on too many \
             nodes. This node's log is untouched. To keep what it holds: stop all nodes, move the \
             other nodes' directories away (what they wrote since is then lost), and start all: \
             they are refilled from this one. To give it up: make a file accept-damage beside \
             logs.txt and start this node again; its log is then kept as logs.damaged.txt"
        }
        Contradiction::OtherState { .. } => OTHER_STATE,
        Contradiction::Removed { .. } => {
            "so it stops. Nobody counts on it any more, and its id is never used again: its directory may be \
             deleted. To have this machine in the cluster again, add it with an id and a directory of its own"
        }
        Contradiction::TwoLeaders { .. } => {
            "so one of the two has voted twice: its directory was put back from an older copy, or \
             runs twice. No log was touched. Stop all nodes, compare their logs.txt, keep the \
             directories of a majority that agrees, move the others away, and start all"
        }
    }
}

/// The way out for a node whose state is not what the others have.
const OTHER_STATE: &str = "so it has applied something wrongly, or its snapshot.txt was changed. It neither \
    answers nor votes with that. Its files are untouched: keep a copy of them for a report, then move \
    snapshot.txt and other-state.txt away and start this node; the leader sends it the state again";

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "; stop the process that uses it, or give another port",
        io::ErrorKind::AddrNotAvailable => "; this machine has no such address",
        _ => "",
    }
}

/// Runs a node until it is told to stop (`Ok`) or can't go on.
pub async fn run(mut settings: Settings) -> Result<(), Failure> {
    let shares = shares(settings.identity.members.len())?;
    let directory = Directory::open(&settings.data_dir)?;
    let peers_socket = bind("peers", &settings.listen_peers, shares.peers).await?;
    let clients_socket = bind("clients", &settings.listen_clients, shares.clients).await?;
    let metrics_socket = bind_metrics(settings.metrics_listen.as_deref())?;
    // There may be no other room for what is written now.
    directory.give_up_reserve()?;
    match directory.probe() {
        Err(full @ DiskError::Full { .. }) if directory.has_log() => {
            tracing::error!(
                "{full}; this node goes on without: it reads, votes and refuses writes"
            );
        }
        probed => probed?,
    }
    let mut recovery = directory.recover()?;
    directory.settle(&mut recovery, settings.identity.ids.cluster)?;
    directory.keep_locked()?;
    if !settings.proof_of_death {
        recovery.recovered.incarnation = 0;
        recovery.recovered.ended.clear();
    }
    settings.identity.ids = recovery.recovered.ids;
    settings.identity.run_id = match recovery.recovered.incarnation {
        0 => rand::random_range(1..=u64::MAX),
        incarnation => incarnation,
    };
    settings
        .identity
        .ended_runs
        .clone_from(&recovery.recovered.ended);
    let kept = directory.take_promises()?;
    if kept.as_deref().is_some_and(promises_are_damaged) {
        recovery.lost_notes.push(LostNote::Promises);
    }
    // The thread outlives the node, to write down its last lines.
    let (dump, _dump_thread) = Dump::start(settings.identity.id, &directory, settings.quiet)?;
    tell_start(&dump, settings.identity.id, &recovery);
    let tls = load_tls(&settings, &dump)?;
    let space = watch_space(&settings, &dump)?;
    let clock = clock(&settings);
    if let (Some(text), Some(origin)) = (kept, clock.origin()) {
        recovery.recovered.kept_promises = decode_promises(&origin, &text);
    }
    let own_lease_us = settings.raft_config(0).lease_us;
    let lease_us = recovery.recovered.former_lease_us.max(own_lease_us);
    let lease_record = directory.lease_record();
    // Before the node promises anything.
    lease_record.write(lease_us)?;
    // After all that the start itself needs room for.
    if space.room() == Room::Enough && !directory.keep_reserve()? {
        tracing::error!("there is no room on the disk to keep in reserve: free some");
    }
    let files = (directory, recovery, space);
    let sockets = Sockets {
        clients: clients_socket.guests(),
        peers: peers_socket.guests(),
    };
    let peers_socket = peers_socket.behind(tls.as_ref().map(Tls::door_for_peers));
    let clients_socket = clients_socket.behind(tls.as_ref().map(Tls::door_for_clients));
    let (peers_socket, clients_socket) = (
        peers_socket.map_err(Failure::Handshakes)?,
        clients_socket.map_err(Failure::Handshakes)?,
    );
    let node = Node::start(&settings, clock, files, (&dump, tls), peers_socket)?;
    if let Some(bound) = metrics_socket {
        serve_metrics(bound, &node.front, sockets, &settings)?;
    }
    if lease_us > own_lease_us {
        tokio::spawn(lower(lease_record, lease_us, own_lease_us));
    }
    let outcome = Box::pin(node.serve(&settings, clients_socket)).await;
    match &outcome {
        Ok(()) => dump.tell(Happening::Stopped),
        Err(failure) => dump.tell(Happening::Failed(failure.to_string().into())),
    }
    outcome
}

/// Loads the certificates, and follows their files from then on. What is wrong with them stands in
/// dump.txt as well.
fn load_tls(settings: &Settings, dump: &Dump) -> Result<Option<Arc<Tls>>, Failure> {
    let Some(files) = &settings.tls else {
        return Ok(None);
    };
    let identity = &settings.identity;
    let names = ClusterNames::new(identity.ids.cluster, &identity.cluster);
    let loaded = Tls::load(identity.id, names, files, dump).map_err(Failure::from);
    if let Err(failure) = &loaded {
        dump.tell(Happening::Failed(failure.to_string().into()));
    }
    let tls = loaded?;
    Arc::clone(&tls).follow();
    Ok(Some(tls))
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

/// Looks after the room on the disk, and tells when writes are given up for want of it.
fn watch_space(settings: &Settings, dump: &Dump) -> Result<Arc<Space>, Failure> {
    let dump = dump.clone();
    let tell = move |space: &Space| {
        let refused = space.room() != Room::Enough;
        let (free_bytes, mark_bytes) = (space.free_bytes(), space.mark_bytes());
        let (free, mark) = (free_bytes >> 20, mark_bytes >> 20);
        match refused {
            true => tracing::error!(
                "{free} MiB are free on the disk, less than {mark}: writes are refused, reads go on"
            ),
            false => tracing::info!("{free} MiB are free on the disk: writes are taken again"),
        }
        dump.tell(Happening::Space {
            free_bytes,
            mark_bytes,
            refused,
        });
    };
    let path = &settings.data_dir;
    let watched = Space::watch(path, settings.min_free_bytes, tell);
    Ok(watched.map_err(DiskError::at("look at the disk of", path))?)
}

fn clock(settings: &Settings) -> Arc<Clock> {
    Arc::new(match settings.clock_rate_ppm {
        Some(rate_ppm) => Clock::with_faults(rate_ppm),
        None => Clock::default(),
    })
}

async fn bind(whom: &'static str, address: &str, places: Places) -> Result<Listen, Failure> {
    let bound = Listen::bind(address, places).await;
    bound.map_err(|error| Failure::Listen {
        whom,
        address: address.to_owned(),
        error,
    })
}

fn bind_metrics(address: Option<&str>) -> Result<Option<metrics::Bound>, Failure> {
    let Some(address) = address else {
        return Ok(None);
    };
    let bound = metrics::bind(address).map_err(|error| Failure::Listen {
        whom: "scrapers of metrics",
        address: address.to_owned(),
        error,
    });
    bound.map(Some)
}

fn serve_metrics(
    bound: metrics::Bound,
    front: &Front,
    sockets: Sockets,
    settings: &Settings,
) -> Result<(), Failure> {
    let sources = Sources {
        metrics: Arc::clone(&front.metrics),
        clock: Arc::clone(&front.clock),
        space: Arc::clone(&front.space),
        sockets,
        handshakes: front
            .tls
            .as_ref()
            .map_or_else(Arc::default, |tls| tls.failures()),
        identity: Arc::clone(&front.identity),
        max_clock_drift_ppm: settings.max_clock_drift_ppm,
    };
    bound.serve(sources).map_err(Failure::Metrics)
}

/// What a damaged log means, and the way out where no leader is left.
const NOT_REFILLED: &str = "this node does not vote until it has been refilled from the leader. \
    Start all nodes that can be started first. Where there still is no leader because too many \
    logs are damaged, make a file accept-damage beside logs.txt and restart the node, on as few \
    nodes as make a majority together with the whole ones: what was acknowledged in entries that \
    no whole log holds is then given up";

fn tell_start(dump: &Dump, id: NodeId, recovery: &Recovery) {
    let Recovered {
        hard_state,
        commit_index,
        damaged_until,
        ..
    } = &recovery.recovered;
    dump.tell(Happening::Started {
        term: hard_state.term,
        last_index: recovery.recovered.last_index(),
        commit_index: *commit_index,
        pid: std::process::id(),
        run: recovery.recovered.incarnation,
    });
    tell_former_run(dump, id, recovery);
    if let Some(torn) = recovery.torn {
        tracing::warn!(
            "logs.txt ended in a torn write: cut off from line {}",
            torn.line
        );
        dump.tell(Happening::TornTail(torn));
    }
    for mend in &recovery.mends {
        let line = mend.line;
        tracing::warn!("logs.txt was damaged at line {line}, where all is known: mended");
        dump.tell(Happening::Mended { line });
    }
    for lost in &recovery.lost_notes {
        tracing::error!("{lost}");
        dump.tell(Happening::NoteLost(*lost));
    }
    if let Some(damage) = &recovery.damage {
        match &damage.snapshot {
            Some(snapshot) => tracing::error!("{snapshot}; {NOT_REFILLED}"),
            None => tracing::error!(
                "logs.txt is damaged at line {}: kept what is before; {NOT_REFILLED}",
                damage.line
            ),
        }
        dump.tell(Happening::Damaged(damage.clone()));
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

/// That the former run has ended, if this one takes part and it is certain.
fn tell_former_run(dump: &Dump, node: NodeId, recovery: &Recovery) {
    let Recovered {
        hard_state,
        former_run,
        ended,
        ..
    } = &recovery.recovered;
    if *former_run != 0 && ended.last() == Some(former_run) {
        dump.tell(Happening::Raft(Event::RunEnded {
            run: Run {
                node,
                incarnation: *former_run,
            },
            term: hard_state.term,
        }));
    }
}

/// A node that takes part, but does not yet serve clients.
struct Node {
    server: Server,
    front: Arc<Front>,
    peers_serving: tokio::task::JoinHandle<Result<(), tonic::transport::Error>>,
    leads: watch::Receiver<bool>,
}

impl Node {
    fn start(
        settings: &Settings,
        clock: Arc<Clock>,
        (directory, recovery, space): (Directory, Recovery, Arc<Space>),
        (dump, tls): (&Dump, Option<Arc<Tls>>),
        peers_socket: Listen,
    ) -> Result<Self, Failure> {
        let (identity, desk, links) = shared(settings);
        let config = settings.raft_config(rand::random());
        let started_us = clock.now_us();
        let start = Start {
            log: recovery.log,
            store: recovery.store,
            snapshot_log_bytes: Some(settings.snapshot_log_bytes),
        };
        let engine = Engine::behind(start, config, recovery.recovered, started_us);
        let seen = successors(&directory)?;
        let metrics = Arc::<Metrics>::default();
        let (disk, disk_failed) = start_disk(directory, &space, &metrics, &desk)?;
        let (in_force, committed) = configurations(engine.raft());
        let roster = Arc::new(Roster::new(&identity, in_force, committed));
        tell_configuration(dump, engine.raft());
        let peers = Peers::start(&identity, &roster, &links, &clock, dump, tls.as_ref());
        let view = engine.view();
        let service = RaftService::server((&desk, view), &peers, &space, dump, seen);
        let witness = watched(settings, engine.raft().own_run(), &roster);
        let front = Arc::new(Front {
            watched: witness.as_ref().map(Witness::lives).unwrap_or_default(),
            identity,
            roster: Arc::clone(&roster),
            desk: Arc::clone(&desk),
            view: engine.view(),
            clock: Arc::clone(&clock),
            dump: dump.clone(),
            links,
            space: Arc::clone(&space),
            fault_injection_allowed: settings.allow_fault_injection,
            started_us,
            counters: Default::default(),
            metrics: Arc::clone(&metrics),
            room: Default::default(),
            turns: Default::default(),
            tls,
            denials: Default::default(),
            closing: Default::default(),
        });
        let (tell_leads, leads) = watch::channel(false);
        let server = Server {
            leads: tell_leads,
            engine,
            metrics,
            clock,
            desk,
            disk,
            disk_failed,
            disk_stuck: false,
            space,
            contradiction: None,
            hang_watch: Default::default(),
            watchdog: Watchdog::of_this_process(),
            peers,
            roster,
            witness,
            dump: dump.clone(),
            submitted: 0,
            durable: 0,
        };
        Ok(Node {
            server,
            front,
            peers_serving: tokio::spawn(serve_peers(service, peers_socket)),
            leads,
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
        let (health, serving) = serve_clients(
            &self.front,
            clients_socket,
            settings.reflection,
            until_closed,
        )?;
        // Before anybody can ask: of a name that is not known yet, a watch would end at once.
        let health = health.begin(self.leads).await;
        let clients_serving = tokio::spawn(serving);
        announce_ready(&self.front.dump);

        let mut servers = Servers {
            health,
            close_clients: Some(close_clients),
            clients_serving,
            peers_serving: self.peers_serving,
        };
        let failure = {
            let mut driven = std::pin::pin!(self.server.drive());
            let mut failure = tokio::select! {
                failure = &mut driven => Some(failure),
                failure = servers.failed() => return Err(failure),
                _ = terminate.recv() => None,
                _ = interrupt.recv() => None,
            };
            if failure.is_none() {
                // A second signal cuts the farewell short.
                failure = tokio::select! {
                    failure = &mut driven => Some(failure),
                    () = stop(&self.front, &mut servers, settings) => None,
                    _ = terminate.recv() => None,
                    _ = interrupt.recv() => None,
                };
            }
            failure
        };
        if let Some(failure) = failure {
            if let Failure::Contradiction(Contradiction::Removed { .. }) = failure {
                take_leave(&self.front, &mut servers).await;
            }
            self.server.note_refusal();
            return Err(failure);
        }
        // The loop has ended: nothing is acknowledged, so nothing is promised, any more.
        self.server.keep_promises()
    }
}

/// Has another process watch this one, if its end is to prove something to the others.
fn watched(settings: &Settings, run: Run, roster: &Roster) -> Option<Witness> {
    if !run.is_named() {
        return None;
    }
    // It runs in another folder.
    let absolute = std::path::absolute(&settings.data_dir).and_then(|data_dir| {
        let mut tls = settings.tls.clone();
        if let Some(tls) = &mut tls {
            tls.folder = std::path::absolute(&tls.folder)?;
        }
        Ok((data_dir, tls))
    });
    let charge = |data_dir, tls| Charge {
        run,
        data_dir,
        cluster: settings.identity.cluster.clone(),
        cluster_id: settings.identity.cluster_id(),
        tls,
        peers: roster.ways(),
    };
    let started = absolute.and_then(|(data_dir, tls)| Witness::start(charge(data_dir, tls)));
    started
        .inspect_err(|error| {
            tracing::warn!("no process watches this one ({error}): if it is killed, the others wait for its lease");
        })
        .ok()
}

fn shared(settings: &Settings) -> (Arc<Identity>, Arc<Desk>, Arc<Links>) {
    let identity = Arc::new(settings.identity.clone());
    (identity, Arc::default(), Arc::default())
}

/// Which directories the others have had, and how that is kept. Written in place: it happens once for each
/// directory of a peer, and who can't keep it only refuses less after the next start.
fn successors(directory: &Directory) -> Result<(Successors, Keep), DiskError> {
    let record = directory.members_record();
    let successors = Successors::decode(&record.read()?);
    let keep = move |text: &str| {
        if let Err(error) = record.write(text) {
            tracing::warn!("could not write down the directories of other nodes: {error}");
        }
    };
    Ok((successors, Keep(Arc::new(keep))))
}

type DiskFailed = watch::Receiver<Option<Arc<str>>>;

fn start_disk(
    directory: Directory,
    space: &Arc<Space>,
    metrics: &Arc<Metrics>,
    desk: &Arc<Desk>,
) -> Result<(DiskThread, DiskFailed), DiskError> {
    let (failed, disk_failed) = watch::channel(None);
    let desk = Arc::clone(desk);
    let disk = DiskThread::start(directory, space, metrics, move |report| match report {
        DiskReport::Durable(ticket) => desk.report_durable(ticket),
        DiskReport::SnapshotLost => desk.report_snapshot(Input::SnapshotLost),
        DiskReport::SnapshotDamaged(snapshot) => {
            desk.report_snapshot(Input::SnapshotDamaged { snapshot });
        }
        DiskReport::SnapshotWritten(ticket) => {
            desk.report_snapshot(Input::SnapshotWritten { ticket });
        }
        DiskReport::Chunk {
            peer,
            snapshot,
            offset,
            data,
        } => desk.report_snapshot(Input::Chunk {
            peer,
            snapshot,
            offset,
            data,
        }),
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
