//! Clocks that run wrong, on real nodes: within the assumed bound nothing shows; far beyond it the
//! checker sees what a lease can't promise any more.

use crate::cluster::{Cluster, eventually};
use checker::{Budget, History, Kind, Operation, Outcome, Verdict, check};
use raftkv::admin::{CutLinksRequest, DisturbClockRequest, TransferLeadershipRequest};
use raftkv::kv::Consistency;
use std::time::{Duration, Instant};
use tokio::time::timeout;
use tonic::Code;

const KEY: &str = "k";
/// The node whose clock runs wrong.
const ODD: u64 = 1;
/// A read that takes longer is given up: it saw nothing.
const READ_TIMEOUT: Duration = Duration::from_millis(300);
/// The odd leader is asked at least this often after the others have acknowledged a new value.
const READS_AFTER: usize = 20;

/// Cuts a leader with such a clock off, lets the others write, and reads from it all the while.
async fn history_of_a_cut_off_leader(clock_rate_ppm: i64, jump_ms: i64) -> History {
    let flags = ["--allow-fault-injection", "--heartbeat-ms=20", "--quiet"];
    let mut cluster = Cluster::new(3, &flags);
    for id in cluster.ids() {
        let mut arguments = cluster.arguments(id);
        if id == ODD {
            arguments.push("--allow-clock-faults".into());
            arguments.push(format!("--clock-rate-ppm={clock_rate_ppm}"));
        }
        cluster.spawn_with(id, &arguments);
    }
    lead(&cluster).await;

    let since = Instant::now();
    let now_us = || since.elapsed().as_micros() as u64;
    let mut history = History::new();
    let call_us = now_us();
    cluster.set(None, KEY, "before").await;
    push(
        &mut history,
        call_us,
        now_us(),
        set("before"),
        Outcome::Written,
    );

    let peer_ids = cluster.others(ODD);
    let others = peer_ids.clone();
    let for_ms = 60_000;
    let mut admin = cluster.admin(ODD);
    admin
        .cut_links(CutLinksRequest { peer_ids, for_ms })
        .await
        .unwrap();
    let jump = DisturbClockRequest {
        jump_ms,
        rate_ppm: clock_rate_ppm,
    };
    admin.disturb_clock(jump).await.unwrap();
    let call_us = now_us();
    let mut write = std::pin::pin!(cluster.set_among(&others, KEY, "after"));
    let mut reads_after = None;
    while reads_after.is_none_or(|reads| reads < READS_AFTER) {
        let read_us = now_us();
        let read = cluster.try_get(ODD, KEY, Consistency::Lease);
        tokio::select! {
            biased;
            () = &mut write, if reads_after.is_none() => {
                push(&mut history, call_us, now_us(), set("after"), Outcome::Written);
                reads_after = Some(0);
            }
            read = timeout(READ_TIMEOUT, read) => {
                reads_after = reads_after.map(|reads| reads + 1);
                if let Ok(Ok(reply)) = read {
                    let value = reply.found.then_some(reply.value);
                    push(&mut history, read_us, now_us(), Kind::Get, Outcome::Read(value));
                }
            }
        }
    }
    history
}

/// Waits until the odd node leads; whoever was elected hands over to it.
async fn lead(cluster: &Cluster) {
    eventually("the odd node to lead", async || {
        let leader = cluster.leader().await;
        let target_id = ODD;
        let transfer = TransferLeadershipRequest { target_id };
        if leader != ODD {
            // Refused where the leadership changed meanwhile: then it is tried again.
            cluster
                .admin(leader)
                .transfer_leadership(transfer)
                .await
                .ok()?;
        }
        (cluster.leader().await == ODD).then_some(())
    })
    .await;
}

fn set(value: &str) -> Kind {
    let value = value.into();
    Kind::Set { value }
}

fn push(history: &mut History, call_us: u64, return_us: u64, kind: Kind, outcome: Outcome) {
    let operation = Operation {
        client: 1,
        call_us,
        return_us: Some(return_us),
        key: KEY.into(),
        kind,
        outcome,
    };
    history.push(operation).unwrap();
}

// A leader whose clock is slow by the whole bound serves nothing old.
#[tokio::test]
async fn a_clock_within_the_bound_does_no_harm() {
    let history = history_of_a_cut_off_leader(-5_000, 0).await;
    let verdict = check(&history, &Budget::default());
    assert!(verdict.is_linearizable(), "{verdict}");
    let reads = history.operations().iter();
    let reads = reads
        .filter(|operation| operation.kind == Kind::Get)
        .count();
    assert!(reads > 0, "the lease was never used");
}

// A leader whose clock goes at a tenth of its pace believes in its lease for far too long, and the
// checker sees the old value that it serves: so it would see one in the test above, too.
#[tokio::test]
async fn a_clock_far_beyond_the_bound_is_seen_by_the_checker() {
    let history = history_of_a_cut_off_leader(-900_000, 0).await;
    let verdict = check(&history, &Budget::default());
    assert!(matches!(verdict, Verdict::NotLinearizable(_)), "{verdict}");
}

// The same where the clock jumps back by more than a lease.
#[tokio::test]
async fn a_clock_that_jumps_back_is_seen_by_the_checker() {
    let history = history_of_a_cut_off_leader(0, -20_000).await;
    let verdict = check(&history, &Budget::default());
    assert!(matches!(verdict, Verdict::NotLinearizable(_)), "{verdict}");
}

// Nobody runs the clock of a node wrong that was not started for it, nor beyond all measure.
#[tokio::test]
async fn running_a_clock_wrong_needs_permission() {
    let cluster = Cluster::start(1, &["--allow-fault-injection"]).await;
    let jump = |jump_ms, rate_ppm| DisturbClockRequest { jump_ms, rate_ppm };
    let refused = cluster.admin(1).disturb_clock(jump(1, 0)).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(refused.message().contains("--allow-clock-faults"));
    for nonsense in [jump(3_600_001, 0), jump(0, 900_001), jump(i64::MIN, 0)] {
        let refused = cluster.admin(1).disturb_clock(nonsense).await;
        assert_eq!(refused.unwrap_err().code(), Code::InvalidArgument);
    }
}
