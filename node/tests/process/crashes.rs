//! Crashes, restarts and orderly stops.

use crate::cluster::{Cluster, eventually, reason, request, within};
use raftkv::admin::TransferLeadershipRequest;
use raftkv::kv::Consistency;
use rustix::process::Signal;
use std::time::{Duration, Instant};

/// An election timer that can't be mistaken for a slow machine: what comes within [`PROMPT`] has
/// not waited for one. (The very first election may have to, when votes are split again and again.)
const PATIENT: &[&str] = &["--election-timeout-ms=6000-9000", "--lease-ms=10000"];
const PROMPT: Duration = Duration::from_secs(5);

// A node of a cluster that never ran stands for election at once, long before an election timer
// would run out; the NO-OP of a leader is the first entry of every log, and every SET reaches
// every log and state.
#[tokio::test]
async fn a_new_cluster_elects_and_replicates() {
    let mut cluster = Cluster::new(5, PATIENT);
    for id in cluster.ids() {
        cluster.spawn(id);
    }
    within(PROMPT, "a first election", async || {
        let stands = |id| cluster.text(id, "dump.txt").contains("Starting election.");
        cluster.ids().into_iter().any(stands).then_some(())
    })
    .await;
    let leader = cluster.leader().await;
    // 1, unless several stood at the same time.
    let term = cluster.told(leader).await.term;
    for number in 1..=3 {
        cluster.set(None, &format!("name{number}"), "Jaggu").await;
    }
    assert_eq!(cluster.get("name3").await.as_deref(), Some("Jaggu"));
    assert_eq!(cluster.get("name4").await, None);
    cluster
        .caught_up(&[vec![leader], cluster.others(leader)].concat())
        .await;
    for id in cluster.ids() {
        let expected = [
            format!("NO-OP {term}"),
            format!("SET name1 Jaggu {term}"),
            format!("SET name2 Jaggu {term}"),
            format!("SET name3 Jaggu {term}"),
        ];
        // An entry is applied as soon as it is known to be committed, and on the own disk soon after.
        eventually("the entries in the file", async || {
            let logs = cluster.text(id, "logs.txt");
            let words = logs.lines().map(|line| line.split('\t').next().unwrap());
            let words: Vec<_> = words.collect();
            // Before it, at most those of leaders who did not last.
            let (earlier, words) = words.split_at(words.len().saturating_sub(expected.len()));
            assert!(earlier.iter().all(|line| line.starts_with("NO-OP ")));
            (words == expected).then_some(())
        })
        .await;
        let stale = cluster
            .try_get(id, "name3", Consistency::Stale)
            .await
            .unwrap();
        assert_eq!(stale.value, "Jaggu");
    }
    let elected = format!("Node {leader} became the leader for term {term}.");
    assert!(cluster.stdout(leader).lines().any(|line| line == elected));
    assert!(
        cluster
            .text(leader, "dump.txt")
            .contains(&format!("Z {elected}\tterm={term}\n"))
    );
}

// A killed leader is replaced before any election timer runs out, nothing that was acknowledged is
// lost, and the old leader comes back as a follower that has it all.
#[tokio::test]
async fn a_killed_leader_is_replaced() {
    let mut cluster = Cluster::start(5, &PATIENT[..1]).await;
    let old = cluster.leader().await;
    cluster.set(None, "before", "1").await;
    cluster.kill(old);
    let others = cluster.others(old);
    let killed = Instant::now();
    within(PROMPT, "an early election", async || {
        for id in &others {
            let status = cluster.status(*id).await?;
            if status.leader_id != 0 && status.leader_id != old {
                return Some(());
            }
        }
        None
    })
    .await;
    println!("a new leader after {:?}", killed.elapsed());
    cluster.set(None, "after", "2").await;
    assert_eq!(cluster.get("before").await.as_deref(), Some("1"));
    cluster.spawn(old);
    let new = cluster.leader_among(&others).await;
    cluster.caught_up(&[new, old]).await;
    let status = cluster.told(old).await;
    assert_eq!(status.leader_id, new);
    // An entry is applied as soon as it is known to be committed, and on the own disk soon after.
    eventually("the same log", async || {
        (cluster.text(old, "logs.txt") == cluster.text(new, "logs.txt")).then_some(())
    })
    .await;
}

// A new leader does not take a dead node for one that could take over: it shows it as not
// connected, and a transfer to it fails at once.
#[tokio::test]
async fn a_dead_node_takes_over_nothing() {
    let mut cluster = Cluster::start(3, &PATIENT[..1]).await;
    let old = cluster.leader().await;
    cluster.set(None, "k", "v").await;
    cluster.kill(old);
    let new = cluster.leader_among(&cluster.others(old)).await;
    let status = cluster.told(new).await;
    for peer in &status.peers {
        assert_eq!(peer.connected, peer.node_id != old, "{peer:?}");
    }
    let transfer = TransferLeadershipRequest { target_id: old };
    let mut admin = cluster.admin(new);
    let asked = Instant::now();
    let refused = admin.transfer_leadership(transfer).await.unwrap_err();
    assert!(
        asked.elapsed() < PROMPT,
        "an election timeout was waited out: {:?}",
        asked.elapsed()
    );
    assert_eq!(reason(&refused), "NOT_READY");
    cluster.set(None, "k", "w").await;
}

// What was acknowledged is there after every process was killed at once.
#[tokio::test]
async fn acknowledged_writes_survive_a_kill_of_all() {
    let mut cluster = Cluster::start(3, &[]).await;
    let leader = cluster.leader().await;
    let mut acknowledged = Vec::new();
    let writes = (0..200).map(|number| {
        let (cluster, key) = (&cluster, format!("key{number}"));
        async move {
            let done = cluster.try_set(leader, None, &key, "value").await;
            done.is_ok().then_some(key)
        }
    });
    for write in writes {
        acknowledged.extend(write.await);
    }
    assert_eq!(acknowledged.len(), 200);
    for id in cluster.ids() {
        cluster.kill(id);
    }
    for id in cluster.ids() {
        cluster.spawn(id);
    }
    for key in acknowledged {
        assert_eq!(cluster.get(&key).await.as_deref(), Some("value"), "{key}");
    }
}

// A write that is sent again applies once: after the leader was killed, and after all nodes were.
#[tokio::test]
async fn a_resent_write_applies_once() {
    let mut cluster = Cluster::start(3, &[]).await;
    let old = cluster.leader().await;
    cluster.set(request(7, 1), "k", "first").await;
    cluster.set(request(8, 1), "k", "second").await;
    cluster.kill(old);
    cluster.set(request(7, 1), "k", "first").await;
    assert_eq!(cluster.get("k").await.as_deref(), Some("second"));
    for id in cluster.others(old) {
        cluster.kill(id);
    }
    for id in cluster.ids() {
        cluster.spawn(id);
    }
    cluster.set(request(7, 1), "k", "first").await;
    assert_eq!(cluster.get("k").await.as_deref(), Some("second"));
}

// SIGTERM hands the leadership over, answers everybody and exits with 0; the next leader has no
// old lease to wait for.
#[tokio::test]
async fn sigterm_hands_over() {
    let mut cluster = Cluster::start(3, PATIENT).await;
    let old = cluster.leader().await;
    cluster.set(None, "k", "v").await;
    let told = Instant::now();
    let status = cluster.terminate(old).await;
    assert_eq!(status.code(), Some(0), "{}", cluster.stderr(old));
    let new = cluster.leader().await;
    let took = told.elapsed();
    assert!(
        took < Duration::from_secs(8),
        "the lease of 10 s was released: {took:?}"
    );
    assert_eq!(cluster.get("k").await.as_deref(), Some("v"));
    let dump = cluster.text(old, "dump.txt");
    assert!(dump.contains(&format!(
        "Leader {old} hands leadership over to Node {new}."
    )));
    assert!(
        dump.trim_end().ends_with(&format!("Node {old} stopped.")),
        "{dump}"
    );
}

// All nodes stopped at once: there is nobody to hand over to, and nobody waits for it.
#[tokio::test]
async fn a_whole_cluster_stops_quickly() {
    let mut cluster = Cluster::start(5, &["--election-timeout-ms=8000-9000"]).await;
    cluster.set(None, "k", "v").await;
    let told = Instant::now();
    for id in cluster.ids() {
        cluster.signal(id, Signal::TERM);
    }
    for id in cluster.ids() {
        assert_eq!(cluster.ended(id).await.code(), Some(0));
    }
    // Who waits for an election waits for the upper end of its time.
    assert!(
        told.elapsed() < Duration::from_millis(7_500),
        "{:?}",
        told.elapsed()
    );
}

// A follower that hangs, alive but doing nothing, slows nobody down.
#[tokio::test]
async fn a_hung_follower_slows_nobody() {
    let mut cluster = Cluster::start(3, &[]).await;
    let leader = cluster.leader().await;
    let [hung, other] = cluster.others(leader)[..] else {
        panic!("three nodes");
    };
    cluster.signal(hung, Signal::STOP);
    let value = "x".repeat(100_000);
    // Far more than the connection to the hung one can hold. It is given up after 6 s: who waited
    // for room in it would wait about as long.
    for number in 0..300 {
        let start = Instant::now();
        let done = cluster
            .try_set(leader, None, &format!("key{number}"), &value)
            .await;
        done.unwrap();
        let took = start.elapsed();
        assert!(took < PROMPT, "write {number} took {took:?}");
    }
    assert_eq!(cluster.leader_among(&[leader, other]).await, leader);
    // Its silent connection is given up, and made anew when it is back.
    cluster.connected(leader, hung, false).await;
    cluster.signal(hung, Signal::CONT);
    cluster.connected(leader, hung, true).await;
    cluster.caught_up(&[leader, hung]).await;
}

// While leaders are stopped in order, one after the other, no request fails but with an answer
// that says nothing was done; none is lost or left open.
#[tokio::test]
async fn a_rolling_restart_loses_nothing() {
    let mut cluster = Cluster::start(3, &[]).await;
    for round in 0..3 {
        let leader = cluster.leader().await;
        let status = cluster.terminate(leader).await;
        assert_eq!(status.code(), Some(0));
        cluster.set(None, &format!("round{round}"), "v").await;
        cluster.spawn(leader);
        let new = cluster.leader().await;
        cluster.caught_up(&[new, leader]).await;
    }
    for round in 0..3 {
        assert_eq!(
            cluster.get(&format!("round{round}")).await.as_deref(),
            Some("v")
        );
    }
}

// Followers that crash and come back with a shorter lease still owe the old leader the longer one
// that they had promised: it may serve reads until then, so nothing newer is acknowledged before.
// Once the longer one is over it is not counted any more.
#[tokio::test]
async fn a_shorter_lease_does_not_forget_the_longer_one() {
    let mut cluster = Cluster::start(3, &["--lease-ms=6000"]).await;
    let old = cluster.leader().await;
    cluster.set(None, "k", "old").await;
    let others = cluster.others(old);
    for id in &others {
        assert_eq!(recorded_lease(&cluster, *id), "longestLeaseUs 6000000");
        cluster.kill(*id);
    }
    for id in &others {
        let shorter = |flag: String| match flag.as_str() {
            "--lease-ms=6000" => "--lease-ms=2000".to_owned(),
            _ => flag,
        };
        let arguments: Vec<String> = cluster.arguments(*id).into_iter().map(shorter).collect();
        cluster.spawn_with(*id, &arguments);
    }
    cluster.set_among(&others, "k", "new").await;
    // The old leader was cut off by the others, who don't agree with it on the lease. It may still
    // believe to lead; but no lease is left to it.
    if let Ok(stale) = cluster.try_get(old, "k", Consistency::Lease).await {
        assert_eq!(stale.value, "new", "a stale read");
    }
    for id in &others {
        eventually("the longer lease to be over", async || {
            (recorded_lease(&cluster, *id) == "longestLeaseUs 2000000").then_some(())
        })
        .await;
    }
}

fn recorded_lease(cluster: &Cluster, id: u64) -> String {
    let text = cluster.text(id, "lease.txt");
    text.lines().next().unwrap_or_default().to_owned()
}
