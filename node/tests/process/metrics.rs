//! The metrics of a node, as a scraper sees them.

use crate::authority::Authority;
use crate::cluster::within;
use crate::scraping::{self, Figures, Metered, ask};
use crate::secured::{CLUSTER, Through};
use raftkv::admin::{CutLinksRequest, TakeSnapshotRequest, TransferLeadershipRequest};
use raftkv::kv::classic_client::ClassicClient;
use raftkv::kv::kv_client::KvClient;
use raftkv::kv::{
    Consistency, GetRequest, OpenSessionRequest, Operation, PipelineRequest, ServeClientArgs,
    operation,
};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Bound on a wait for what a node does by itself after some seconds.
const SOON: Duration = Duration::from_secs(60);

/// How many scrapers a node answers at a time.
const SCRAPERS_MAX: usize = raft_node::metrics::SCRAPERS_MAX;

fn requests(path: &str) -> String {
    let operation = if path == "commit" { "write" } else { "read" };
    format!("raftkv_request_duration_seconds_count{{operation=\"{operation}\",path=\"{path}\"}}")
}

fn refusals(reason: &str) -> String {
    format!("raftkv_refusals_total{{reason=\"{reason}\"}}")
}

// What is done shows in its figures, and in no others; whatever clients send, no series comes or goes.
#[tokio::test]
async fn what_is_done_is_counted() {
    let metered = Metered::start(3, &[]).await;
    let cluster = &metered.cluster;
    let leader = cluster.leader().await;
    let follower = cluster.others(leader)[0];
    // One that stays, beside those of the calls below.
    let mut client = cluster.kv(leader);
    client.open_session(OpenSessionRequest {}).await.unwrap();
    let before = metered.figures(leader).await;
    let refused_before = metered.figures(follower).await;
    for key in ["a", "b", "key{with=\"quotes\"}\nand a line"] {
        cluster.try_set(leader, None, key, "v").await.unwrap();
    }
    for (consistency, times) in [(Consistency::Lease, 2), (Consistency::Quorum, 3)] {
        for _ in 0..times {
            cluster.try_get(leader, "a", consistency).await.unwrap();
        }
    }
    cluster
        .try_get(leader, "a", Consistency::Stale)
        .await
        .unwrap();
    cluster.try_set(follower, None, "a", "v").await.unwrap_err();
    let long = "k".repeat(1 << 17);
    cluster.try_set(leader, None, &long, "v").await.unwrap_err();

    let gained = |before: &Figures, after: &Figures, name: &str| after[name] - before[name];
    let after = metered
        .until(leader, "the entries applied", |figures| {
            gained(&before, figures, "raftkv_applied_index") >= 3.0
        })
        .await;
    for (path, count) in [
        ("commit", 3.0),
        ("lease", 2.0),
        ("quorum", 3.0),
        ("stale", 1.0),
    ] {
        assert_eq!(gained(&before, &after, &requests(path)), count, "{path}");
    }
    assert_eq!(gained(&before, &after, &requests("inherited")), 0.0);
    assert_eq!(gained(&before, &after, &refusals("INVALID")), 1.0);
    assert_eq!(gained(&before, &after, &refusals("NOT_LEADER")), 0.0);
    assert_eq!(gained(&before, &after, "raftkv_batch_writes_sum"), 3.0);
    for name in [
        "raftkv_apply_duration_seconds_count",
        "raftkv_fsync_duration_seconds_count",
    ] {
        assert!(gained(&before, &after, name) >= 1.0, "{name}");
    }
    let refused = metered.figures(follower).await;
    assert_eq!(
        gained(&refused_before, &refused, &refusals("NOT_LEADER")),
        1.0
    );
    let names = |figures: &Figures| figures.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&before), names(&after));
    assert_eq!(
        (after["raftkv_leader"], refused["raftkv_leader"]),
        (1.0, 0.0)
    );
    assert_eq!(
        (after["raftkv_members"], after["raftkv_voters"]),
        (3.0, 3.0)
    );
    assert_eq!(after["raftkv_learners"], 0.0);
    assert_eq!(after["raftkv_configuration_index"], 0.0);
    assert!(after["raftkv_elections_won_total"] >= 1.0);
    assert!(after["raftkv_connections{from=\"peers\"}"] >= 2.0);
    assert!(after["raftkv_connections{from=\"clients\"}"] >= 1.0);
    assert!(gained(&before, &after, "raftkv_clock_seconds") > 0.0);
    assert!(after["raftkv_disk_free_bytes"] > 0.0);
}

// Whichever way a request comes, its refusal is counted once.
#[tokio::test]
async fn every_way_of_refusing_is_counted() {
    let metered = Metered::start(2, &[]).await;
    let cluster = &metered.cluster;
    let follower = cluster.others(cluster.leader().await)[0];
    let name = refusals("NOT_LEADER");
    let before = metered.figures(follower).await[&name];
    cluster.try_set(follower, None, "k", "v").await.unwrap_err();
    assert_eq!(
        metered.figures(follower).await[&name],
        before + 1.0,
        "a call"
    );
    let lease = Consistency::Lease;
    cluster.try_get(follower, "k", lease).await.unwrap_err();
    assert_eq!(
        metered.figures(follower).await[&name],
        before + 2.0,
        "a read"
    );
    let channel = cluster.channel(follower);
    let mut classic = ClassicClient::new(channel.clone());
    let request = ServeClientArgs {
        request: "GET k".into(),
    };
    let reply = classic.serve_client(request).await.unwrap().into_inner();
    assert!(!reply.success);
    assert_eq!(
        metered.figures(follower).await[&name],
        before + 3.0,
        "an old client"
    );
    let get = GetRequest {
        key: "k".into(),
        ..Default::default()
    };
    let requests = PipelineRequest {
        operations: (1..=2)
            .map(|id| Operation {
                id,
                operation: Some(operation::Operation::Get(get.clone())),
            })
            .collect(),
    };
    let mut kv = KvClient::new(channel);
    let outcomes = kv.pipeline(tokio_stream::once(requests)).await.unwrap();
    let mut outcomes = outcomes.into_inner();
    while outcomes.message().await.unwrap().is_some() {}
    assert_eq!(
        metered.figures(follower).await[&name],
        before + 5.0,
        "a stream"
    );
}

// A leader that nobody answers any more has no lease left, can lose no node, and gives up; its successor
// is elected and waits for that lease.
#[tokio::test]
async fn a_lease_that_ends_is_seen_to_end() {
    let metered = Metered::start(3, &["--allow-fault-injection"]).await;
    let cluster = &metered.cluster;
    let old = cluster.leader().await;
    let lease = "raftkv_lease_remaining_seconds";
    metered
        .until(old, "a lease, and one node to spare", |figures| {
            figures[lease] > 0.0 && figures["raftkv_failure_tolerance"] == 1.0
        })
        .await;
    let others = cluster.others(old);
    let cut = CutLinksRequest {
        peer_ids: others.clone(),
        for_ms: 600_000,
    };
    cluster.admin(old).cut_links(cut).await.unwrap();
    let ended = metered
        .until(old, "the end of the lease", |figures| {
            figures[lease] == 0.0 && figures["raftkv_lease_renewal_failures_total"] == 1.0
        })
        .await;
    assert_eq!(ended["raftkv_failure_tolerance"], 0.0);
    assert!(ended["raftkv_stepped_down_total"] >= 1.0);
    let new = cluster.leader_among(&others).await;
    let figures = metered.figures(new).await;
    assert_eq!(figures["raftkv_elections_won_total"], 1.0);
    assert!(figures["raftkv_elections_started_total"] >= 1.0);
    assert!(figures["raftkv_old_lease_waits_total"] <= 1.0);
    metered
        .until(new, "no old lease to wait for", |figures| {
            figures["raftkv_old_lease_remaining_seconds"] == 0.0 && figures[lease] > 0.0
        })
        .await;
}

// Snapshots and elections on demand show on the node that made them.
#[tokio::test]
async fn what_operators_do_is_counted() {
    let metered = Metered::start(3, &["--raise-format-from=1"]).await;
    let cluster = &metered.cluster;
    let old = cluster.leader().await;
    cluster.set(None, "k", "v").await;
    cluster.caught_up(&cluster.ids()).await;
    let target = cluster.others(old)[0];
    let transfer = TransferLeadershipRequest { target_id: target };
    cluster
        .admin(old)
        .transfer_leadership(transfer)
        .await
        .unwrap();
    let won = metered
        .until(target, "the new leader", |figures| {
            figures["raftkv_leader"] == 1.0
        })
        .await;
    assert!(won["raftkv_elections_won_total"] >= 1.0);
    let lost = metered.figures(old).await;
    assert!(lost["raftkv_stepped_down_total"] >= 1.0);
    within(SOON, "a snapshot", async || {
        let mut admin = metered.cluster.admin(target);
        admin.take_snapshot(TakeSnapshotRequest {}).await.ok()
    })
    .await;
    let figures = metered.figures(target).await;
    assert_eq!(figures["raftkv_snapshots_total{event=\"taken\"}"], 1.0);
    assert!(figures["raftkv_snapshot_index"] > 0.0);
}

// Whoever connects and says nothing keeps nobody out, and is sent away.
#[tokio::test]
async fn a_silent_scraper_keeps_nobody_out() {
    let metered = Metered::start(1, &[]).await;
    let mut silent = Vec::new();
    for _ in 0..2 * SCRAPERS_MAX {
        silent.push(TcpStream::connect(metered.address(1)).await.unwrap());
    }
    metered.page(1).await;
    for mut stream in silent {
        let mut rest = Vec::new();
        // The end, in whichever way it comes.
        let ended = tokio::time::timeout(SOON, stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "a silent connection was kept");
    }
}

// There is one page, to be read; everything else is refused in HTTP's own words.
#[tokio::test]
async fn there_is_one_page() {
    let metered = Metered::start(1, &[]).await;
    let status = async |request: &str| {
        let (head, _) = ask(&metered.address(1), request).await;
        scraping::status(&head).to_owned()
    };
    assert_eq!(status("HEAD /metrics").await, "200");
    assert_eq!(status("GET /").await, "404");
    assert_eq!(status("POST /metrics").await, "405");
    let long = format!("GET /{}", "x".repeat(1 << 17));
    assert!(["414", "431", "400"].contains(&&*status(&long).await));
}

// Handshakes that fail are counted by whose fault that is: that of whoever came, this node's as whoever came sees it,
// or nobody's that could be named.
#[tokio::test]
async fn failed_handshakes_are_counted() {
    let metered = Metered::start_secured(1, &["--quiet"]).await;
    let own = &metered.cluster.secured.as_ref().unwrap().authority;
    let other = Authority::new("other");
    let name = |reason: &str| format!("raftkv_handshakes_failed_total{{reason=\"{reason}\"}}");
    let before = metered.figures(1).await;
    let address = metered.cluster.client_address(1);
    let come = async |authorities: &str, pair| {
        let stream = Through::new(authorities, pair).stream(&address).await;
        if let Ok(mut stream) = stream {
            // It learns only with the first word that it was refused.
            stream.read_u8().await.ok();
        }
    };
    let stranger = other.role(CLUSTER, "bob", "admin");
    come(&own.pem, Some(&stranger)).await;
    come(&own.pem, None).await;
    come(&other.pem, Some(&stranger)).await;
    let mut clear = TcpStream::connect(&address).await.unwrap();
    clear.write_all(b"PRI * HTTP/2.0").await.unwrap();
    drop(clear);
    drop(TcpStream::connect(&address).await.unwrap());
    let gained = |figures: &Figures, reason: &str| figures[&name(reason)] - before[&name(reason)];
    let all = metered
        .until(1, "all counted", |figures| gained(figures, "other") >= 2.0)
        .await;
    for (reason, count) in [
        ("certificate", 2.0),
        ("own_certificate", 1.0),
        ("other", 2.0),
    ] {
        assert_eq!(gained(&all, reason), count, "{reason}");
    }
}
