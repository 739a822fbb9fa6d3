//! The `Admin` service.

use super::backup::{self, BACKUPS_MAX, Pieces};
use super::membership::{self, membership};
use super::{Front, Refusal};
use crate::command::FORMAT_NEWEST;
use crate::desk::Inspection;
use crate::dump::Happening;
use crate::engine::{Reply, Request as EngineRequest, RequestError};
use crate::identity::id_text;
use crate::metrics::Figures;
use crate::peers::CUT_MS_MAX;
use crate::raft::{LogState, Micros, NodeId, Promise, Role};
use crate::space::Room;
use crate::tls::Tls;
use raftkv::admin as wire;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tonic::{Request, Response, Status};
use wire::admin_server::{Admin, AdminServer};

/// A large state takes a while, on a slow disk.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(600);

/// Most that a clock may be made to run fast or slow, in parts per million.
const CLOCK_RATE_PPM_MAX: u64 = 900_000;

/// See the module.
#[derive(Debug)]
pub(super) struct AdminService {
    front: Arc<Front>,
    backups: Arc<Semaphore>,
}

impl AdminService {
    pub(super) fn server(front: Arc<Front>) -> AdminServer<Self> {
        let backups = Arc::new(Semaphore::new(BACKUPS_MAX));
        AdminServer::new(AdminService { front, backups })
    }

    fn status_reply(&self, inspection: Inspection) -> wire::StatusReply {
        let front = &*self.front;
        let now = front.clock.now_us();
        let Inspection {
            status,
            fsyncs,
            format_held_at,
            format_growth_left,
        } = inspection;
        let lease = status.lease;
        let remaining_ms = |until_us: Micros| {
            let remaining = until_us.checked_sub(now).filter(|left| *left > 0);
            // Rounded up: what is not over never shows as 0.
            remaining.map(|left| left.div_ceil(1000))
        };
        let leader_id = lease.leader.unwrap_or(0);
        let (log_state, damaged_from, damaged_until) = log_state(status.log);
        let (applied_index, format, key_count, session_count) = front.view.with_store(|store| {
            let counts = (store.key_count() as u64, store.session_count() as u64);
            (store.applied_index(), store.format(), counts.0, counts.1)
        });
        wire::StatusReply {
            node_id: front.identity.id,
            cluster: front.identity.cluster.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id().into(),
            uptime_ms: now.saturating_sub(front.started_us) / 1000,
            role: role(lease.role).into(),
            term: lease.term,
            leader_id,
            leader_address: front.roster.client_address(leader_id),
            commit_index: status.commit_index,
            applied_index,
            last_index: status.last_index,
            lease_remaining_ms: remaining_ms(lease.lease_until_us),
            old_lease_remaining_ms: remaining_ms(lease.old_lease_until_us),
            key_count,
            session_count,
            counters: Some(self.counters(&inspection_counters(&status, fsyncs))),
            cut_links: self.cut_links(now),
            peers: status.peers.iter().map(peer_progress).collect(),
            lease_duration_ms: front.identity.lease_ms,
            fault_injection_allowed: front.fault_injection_allowed,
            forgotten_promises_remaining_ms: remaining_ms(lease.unknown_promises_until_us),
            unreachable_peers: self.unreachable_peers(),
            disk: Some(self.disk_room()),
            log_state: log_state.into(),
            log_damaged_from: damaged_from,
            log_damaged_until: damaged_until,
            format,
            reads_format: FORMAT_NEWEST,
            format_max: format_held_at.min(FORMAT_NEWEST),
            format_due_bytes: format_growth_left,
            cluster_id: id_text(front.identity.cluster_id()),
            directory_id: id_text(front.identity.ids.directory),
            snapshot_index: status.snapshot.map_or(0, |snapshot| snapshot.index),
            snapshot_hash: status.snapshot.map_or(0, |snapshot| snapshot.hash),
            snapshot_damaged: status.snapshot_damaged,
            tls: front.tls.as_deref().map(tls_state),
            membership: Some(membership(
                status.members_index,
                status.members_committed,
                &status.members,
            )),
            survives_failures: status.survives_failures,
            proof_of_death: proof_of_death(&status, front.watched.load(Ordering::Relaxed)),
            figures: Some(figures(front.metrics.figures())),
            promises: open_promises(&status.promises, now),
        }
    }

    /// Adds what was counted here to what the loop counted.
    fn counters(&self, of_loop: &wire::Counters) -> wire::Counters {
        let own = &self.front.counters;
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        wire::Counters {
            lease_reads: load(&own.lease_reads),
            inherited_reads: load(&own.inherited_reads),
            quorum_reads: load(&own.quorum_reads),
            stale_reads: load(&own.stale_reads),
            refused_overload: load(&own.refused_overload),
            ..*of_loop
        }
    }

    fn cut_links(&self, now: Micros) -> Vec<wire::CutLink> {
        let links = self.front.links.list(now).into_iter();
        links
            .map(|link| wire::CutLink {
                peer_id: link.peer,
                remaining_ms: link.remaining_us.div_ceil(1000),
            })
            .collect()
    }

    fn unreachable_peers(&self) -> Vec<wire::UnreachablePeer> {
        let troubles = self.front.links.troubles().into_iter();
        troubles
            .map(|(peer_id, trouble)| wire::UnreachablePeer {
                peer_id,
                address: trouble.address,
                reason: trouble.reason.name().to_owned(),
                text: trouble.text,
            })
            .collect()
    }

    fn disk_room(&self) -> wire::DiskRoom {
        let space = &self.front.space;
        wire::DiskRoom {
            free_bytes: space.free_bytes(),
            kept_bytes: space.mark_bytes(),
            refuses_writes: space.room() != Room::Enough,
        }
    }

    fn fault_injection(&self) -> Result<(), Refusal> {
        match self.front.fault_injection_allowed {
            true => Ok(()),
            false => Err(Refusal::not_allowed(
                "fault injection is not allowed on this node: start it with \
                 --allow-fault-injection",
            )),
        }
    }

    /// Each of these once: a message has room for a million repetitions, dump.txt has not.
    fn distinct_peers(&self, mut peers: Vec<NodeId>) -> Result<Vec<NodeId>, Refusal> {
        peers.sort_unstable();
        peers.dedup();
        self.known_peers(&peers)?;
        Ok(peers)
    }

    fn known_peers(&self, peers: &[NodeId]) -> Result<(), Refusal> {
        let roster = &self.front.roster;
        match peers.iter().find(|id| !roster.is_peer(**id)) {
            Some(stranger) => Err(Refusal::invalid(format!(
                "node {stranger} is no other node of this cluster"
            ))),
            None => Ok(()),
        }
    }
}

fn figures(figures: Figures) -> wire::Figures {
    let durations = |counts| Some(wire::Durations { counts });
    wire::Figures {
        bucket_ends_ns: figures.bucket_ends_ns,
        writes: durations(figures.writes),
        reads: durations(figures.reads),
        fsyncs: durations(figures.fsyncs),
        resident_memory_bytes: figures.resident_memory_bytes,
        snapshots_taken: figures.snapshots_taken,
        disk_stalls: figures.disk_stalls,
        lease_renewal_failures: figures.renewals_failed,
    }
}

/// What is over by now is left out.
fn open_promises(promises: &[Promise], now: Micros) -> Vec<wire::OpenPromise> {
    let open = promises.iter().filter(|promise| promise.until_us > now);
    open.map(|promise| wire::OpenPromise {
        leader_id: promise.leader,
        remaining_ms: (promise.until_us - now).div_ceil(1000),
    })
    .collect()
}

fn tls_state(tls: &Tls) -> wire::TlsState {
    wire::TlsState {
        clear_too: tls.is_optional(),
        certificate_ends_unix_s: unix_s(tls.ends()),
        authority_ends_unix_s: unix_s(tls.trust_ends()),
        trouble: tls.trouble().unwrap_or_default(),
        files_crc32c: tls.files_crc32c(),
    }
}

fn unix_s(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

fn role(role: Role) -> wire::Role {
    match role {
        Role::Follower => wire::Role::Follower,
        Role::Candidate => wire::Role::Candidate,
        Role::Leader => wire::Role::Leader,
    }
}

/// The state of the log; where it is damaged, the first damaged line and the last index that may be lost.
fn log_state(log: LogState) -> (wire::LogState, u64, u64) {
    match log {
        LogState::Whole => (wire::LogState::Whole, 0, 0),
        LogState::Damaged { from, until } => (wire::LogState::Damaged, from, until),
        LogState::Accepted { until } => (wire::LogState::Accepted, 0, until),
    }
}

fn peer_progress(peer: &crate::raft::PeerStatus) -> wire::PeerProgress {
    wire::PeerProgress {
        node_id: peer.id,
        match_index: peer.match_index,
        connected: peer.connected,
        lost_until: peer.lost_until,
        reads_format: peer.reads_format,
        state_differs_at: peer.state_differs_at,
    }
}

fn proof_of_death(status: &crate::raft::Status, watched: bool) -> Option<wire::ProofOfDeath> {
    status.run.is_named().then_some(wire::ProofOfDeath {
        incarnation: status.run.incarnation,
        watched,
        ends_proved: status.counters.proofs,
        promises_waived: status.counters.promises_waived,
        waits_waived: status.counters.waits_waived,
    })
}

fn inspection_counters(status: &crate::raft::Status, fsyncs: u64) -> wire::Counters {
    let counters = status.counters;
    wire::Counters {
        elections_started: counters.elections_started,
        heartbeat_rounds: counters.heartbeat_rounds,
        read_rounds: counters.read_rounds,
        proposals: counters.proposals,
        deferred_commits: counters.deferred_commits,
        transfers: counters.transfers,
        fsyncs,
        ..Default::default()
    }
}

#[tonic::async_trait]
impl Admin for AdminService {
    type BackupStream = Pieces;

    async fn take_snapshot(
        &self,
        _: Request<wire::TakeSnapshotRequest>,
    ) -> Result<Response<wire::TakeSnapshotReply>, Status> {
        let deadline = Instant::now() + SNAPSHOT_TIMEOUT;
        match self
            .front
            .ask(EngineRequest::TakeSnapshot, deadline)
            .await?
        {
            Some(Ok(Reply::SnapshotTaken { snapshot })) => {
                Ok(Response::new(wire::TakeSnapshotReply {
                    index: snapshot.index,
                    term: snapshot.term,
                    hash: snapshot.hash,
                    bytes: snapshot.bytes,
                }))
            }
            Some(Ok(other)) => unreachable!("a snapshot is not answered by {other:?}"),
            Some(Err(error)) => Err(self.front.refuse(&error).into_status()),
            None => {
                let error = RequestError::NotReady("the snapshot is not done in time");
                Err(self.front.refuse(&error).into_status())
            }
        }
    }

    async fn backup(
        &self,
        request: Request<wire::BackupRequest>,
    ) -> Result<Response<Pieces>, Status> {
        let deadline = super::call::deadline(request.metadata());
        let not_before = request.into_inner().not_before_index;
        let pieces = backup::begin(&self.front, &self.backups, not_before, deadline).await?;
        Ok(Response::new(pieces))
    }

    async fn status(
        &self,
        _: Request<wire::StatusRequest>,
    ) -> Result<Response<wire::StatusReply>, Status> {
        let inspection = self.front.desk.inspect().await;
        let inspection = inspection.map_err(|_| self.front.stopping())?;
        Ok(Response::new(self.status_reply(inspection)))
    }

    async fn transfer_leadership(
        &self,
        request: Request<wire::TransferLeadershipRequest>,
    ) -> Result<Response<wire::TransferLeadershipReply>, Status> {
        let deadline = super::call::deadline(request.metadata());
        let target = Some(request.into_inner().target_id).filter(|id| *id != 0);
        if target == Some(self.front.identity.id) {
            // A leader has nothing to hand over to itself; any other node can't do it.
            self.front.must_lead()?;
            let leader_id = self.front.identity.id;
            return Ok(Response::new(wire::TransferLeadershipReply { leader_id }));
        }
        self.known_peers(target.as_slice())?;
        let transfer = EngineRequest::Transfer { target };
        match self.front.ask(transfer, deadline).await? {
            Some(Ok(Reply::Transferred { leader })) => {
                Ok(Response::new(wire::TransferLeadershipReply {
                    leader_id: leader,
                }))
            }
            Some(Ok(other)) => unreachable!("a transfer is not answered by {other:?}"),
            Some(Err(error)) => Err(self.front.refuse(&error).into_status()),
            None => {
                let error = RequestError::NotReady("no other node took over in time");
                Err(self.front.refuse(&error).into_status())
            }
        }
    }

    async fn change_members(
        &self,
        request: Request<wire::ChangeMembersRequest>,
    ) -> Result<Response<wire::ChangeMembersReply>, Status> {
        let deadline = super::call::deadline(request.metadata());
        let changed = membership::change(&self.front, request.into_inner(), deadline).await?;
        Ok(Response::new(changed))
    }

    async fn cut_links(
        &self,
        request: Request<wire::CutLinksRequest>,
    ) -> Result<Response<wire::CutLinksReply>, Status> {
        self.fault_injection()?;
        let wire::CutLinksRequest { peer_ids, for_ms } = request.into_inner();
        let peer_ids = self.distinct_peers(peer_ids)?;
        if peer_ids.is_empty() || for_ms == 0 || for_ms > CUT_MS_MAX {
            let why = format!("name the peers, and a time from 1 to {CUT_MS_MAX} ms");
            return Err(Refusal::invalid(why).into_status());
        }
        let until_us = self.front.clock.now_us() + for_ms * 1000;
        self.front.links.cut(&peer_ids, until_us);
        self.front.dump.tell(Happening::LinksCut {
            peers: peer_ids,
            for_ms,
        });
        Ok(Response::new(wire::CutLinksReply {}))
    }

    async fn disturb_clock(
        &self,
        request: Request<wire::DisturbClockRequest>,
    ) -> Result<Response<wire::DisturbClockReply>, Status> {
        let wire::DisturbClockRequest { jump_ms, rate_ppm } = request.into_inner();
        if jump_ms.unsigned_abs() > CUT_MS_MAX || rate_ppm.unsigned_abs() > CLOCK_RATE_PPM_MAX {
            let why = format!(
                "a jump is at most {CUT_MS_MAX} ms, a rate at most {CLOCK_RATE_PPM_MAX} ppm"
            );
            return Err(Refusal::invalid(why).into_status());
        }
        if !self.front.clock.disturb(jump_ms * 1000, rate_ppm) {
            let why = "start the node with --allow-clock-faults to run its clock wrong";
            return Err(Refusal::not_allowed(why).into_status());
        }
        self.front
            .dump
            .tell(Happening::ClockDisturbed { jump_ms, rate_ppm });
        Ok(Response::new(wire::DisturbClockReply {}))
    }

    async fn heal_links(
        &self,
        request: Request<wire::HealLinksRequest>,
    ) -> Result<Response<wire::HealLinksReply>, Status> {
        self.fault_injection()?;
        let mut peers = self.distinct_peers(request.into_inner().peer_ids)?;
        self.front.links.heal(&peers);
        if peers.is_empty() {
            peers = self.front.roster.peers();
        }
        self.front.dump.tell(Happening::LinksHealed { peers });
        Ok(Response::new(wire::HealLinksReply {}))
    }
}
