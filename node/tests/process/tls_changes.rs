//! Certificates are changed under load, and a cluster goes over to TLS: no request fails, nobody stands for
//! election.

use crate::authority::{Authority, Wanted, of_node, write, write_folder};
use crate::cluster::{Cluster, eventually};
use crate::secured::{CLUSTER, Through};
use raftkv::kv::SetRequest;
use raftkv::kv::kv_client::KvClient;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;

/// Writes to one node as fast as that answers, until it is stopped.
struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    running: JoinHandle<Vec<String>>,
}

impl Load {
    /// On a connection of its own for each write, so that every handshake counts, or on one for all.
    fn begin(cluster: &Cluster, leader: u64, through: &Through, anew: bool) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let done = Arc::<AtomicU64>::default();
        let (until, count) = (Arc::clone(&stop), Arc::clone(&done));
        let channels = {
            let one = cluster.channel_through(leader, Some(through.clone()));
            let address = cluster.client_address(leader);
            let through = through.clone();
            move || match anew {
                false => one.clone(),
                true => tonic::transport::Endpoint::from_shared(format!("http://{address}"))
                    .unwrap()
                    .connect_with_connector_lazy(through.clone()),
            }
        };
        let running = tokio::spawn(async move {
            let mut failed = Vec::new();
            while !until.load(Ordering::Relaxed) {
                let number = count.fetch_add(1, Ordering::Relaxed);
                let set = SetRequest {
                    key: format!("key{}", number % 100),
                    value: "v".into(),
                    ..SetRequest::default()
                };
                if let Err(status) = KvClient::new(channels()).set(set).await {
                    failed.push(format!("{status:?}"));
                }
            }
            failed
        });
        Load {
            stop,
            done,
            running,
        }
    }

    async fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        let failed = self.running.await.unwrap();
        assert!(failed.is_empty(), "{failed:?}");
        self.done.load(Ordering::Relaxed)
    }
}

/// How often a line stands in a node's dump.txt.
fn count(cluster: &Cluster, id: u64, words: &str) -> usize {
    cluster.text(id, "dump.txt").matches(words).count()
}

/// Gives all nodes other files at the same time, and waits until they use them.
async fn change(cluster: &Cluster, write: impl Fn(u64)) {
    const TAKEN: &str = "uses another certificate";
    let before = cluster
        .ids()
        .into_iter()
        .map(|id| count(cluster, id, TAKEN));
    let before: Vec<_> = before.collect();
    for id in cluster.ids() {
        write(id);
    }
    for (id, before) in cluster.ids().into_iter().zip(before) {
        eventually("the new certificate", async || {
            (count(cluster, id, TAKEN) > before).then_some(())
        })
        .await;
    }
}

/// Elections that anybody has begun, and connections that broke.
async fn unrest(cluster: &Cluster) -> (u64, usize) {
    let mut elections = 0;
    let mut broken = 0;
    for id in cluster.ids() {
        let status = eventually("a status", async || cluster.status(id).await).await;
        elections += status.counters.unwrap().elections_started;
        broken += count(cluster, id, " broke.");
    }
    (elections, broken)
}

// Renewed three times, and then the authority is changed: trust both, sign again, trust the new one alone.
// Under load on old and on new connections no request fails, no stream between nodes breaks, and nobody
// stands for election.
#[tokio::test]
async fn certificates_are_changed_under_load() {
    let mut cluster = Cluster::start_secured(3, &["--quiet"]).await;
    for id in cluster.ids() {
        for other in cluster.others(id) {
            eventually("all streams", async || {
                let words = format!("Node {other} connected to Node {id}.");
                (count(&cluster, id, &words) > 0).then_some(())
            })
            .await;
        }
    }
    let leader = cluster.leader().await;
    let before = unrest(&cluster).await;
    let secured = cluster.secured.as_ref().unwrap();
    let next = Authority::new("the next one");
    let both = format!("{}{}", secured.authority.pem, next.pem);
    // It trusts both authorities, and is itself of the old one, or of the new one.
    let admin = |authority: &Authority| {
        let pair = authority.role(CLUSTER, "the load", "admin");
        Through::new(&both, Some(&pair))
    };
    let (old, new) = (admin(&secured.authority), admin(&next));
    let loads = [
        Load::begin(&cluster, leader, &old, false),
        Load::begin(&cluster, leader, &old, true),
    ];
    let pem = |id: u64, file: &str| secured.folder(id).join(file);
    for _ in 0..3 {
        change(&cluster, |id| {
            let pair = secured.authority.node(CLUSTER, id);
            write(&pem(id, "node.key"), &pair.key, 0o600);
            write(&pem(id, "node.pem"), &pair.certificate, 0o644);
        })
        .await;
    }
    change(&cluster, |id| write(&pem(id, "ca.pem"), &both, 0o644)).await;
    let newer = [
        Load::begin(&cluster, leader, &new, false),
        Load::begin(&cluster, leader, &new, true),
    ];
    change(&cluster, |id| {
        write_folder(&secured.folder(id), &both, &next.node(CLUSTER, id));
    })
    .await;
    // Streams follow within a moment of the change; they are gone before their authority is.
    tokio::time::sleep(Duration::from_secs(3)).await;
    for load in loads {
        assert!(load.end().await > 20);
    }
    change(&cluster, |id| write(&pem(id, "ca.pem"), &next.pem, 0o644)).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    for load in newer {
        assert!(load.end().await > 20);
    }
    cluster.secured.as_mut().unwrap().come_as(new);
    assert_eq!(unrest(&cluster).await, before);
    assert_eq!(cluster.leader().await, leader);
}

// Old streams are gone once new ones stand: whoever is dropped holds none of them.
#[tokio::test]
async fn streams_end_with_the_certificate_of_their_peer() {
    let mut cluster = Cluster::new(2, &["--quiet"]);
    cluster.secure();
    let secured = cluster.secured.as_ref().unwrap();
    let short = secured.authority.issue(&Wanted {
        ends_in: Some(6),
        ..of_node(CLUSTER, 2)
    });
    write_folder(&secured.folder(2), &secured.authority.pem, &short);
    cluster.spawn(1);
    cluster.spawn(2);
    cluster.leader().await;
    let ended = async |id: u64, peer: u64| {
        eventually("the reason", async || {
            let status = cluster.status(id).await?;
            let mut peers = status.unreachable_peers.into_iter();
            let found = peers.find(|found| found.peer_id == peer)?;
            found.reason.ends_with("certificate_expired").then_some(())
        })
        .await;
    };
    ended(1, 2).await;
}

// A cluster that speaks clear text goes over to TLS, a node at a time, twice: at first both are spoken,
// then TLS alone. Whoever writes meanwhile, in clear text until the end and with TLS from the middle on,
// is served.
#[tokio::test]
async fn a_cluster_goes_over_to_tls() {
    let mut cluster = Cluster::start(3, &["--quiet"]).await;
    cluster.set(None, "k", "clear").await;
    cluster.secure();
    let secured = cluster.secured.take();
    let folder = |id: u64| {
        let folder = secured.as_ref().unwrap().folder(id);
        format!("--tls={}", folder.display())
    };
    for id in cluster.ids() {
        let mut arguments = cluster.arguments(id);
        arguments.extend([folder(id), "--tls-optional".into()]);
        assert_eq!(cluster.terminate(id).await.code(), Some(0));
        cluster.spawn_with(id, &arguments);
        let leader = cluster.leader().await;
        for other in cluster.others(leader) {
            cluster.connected(leader, other, true).await;
        }
        cluster.set(None, "k", &format!("both at {id}")).await;
    }
    cluster.secured = secured;
    cluster.set(None, "k", "with a certificate").await;
    for id in cluster.ids() {
        assert_eq!(cluster.terminate(id).await.code(), Some(0));
        cluster.spawn(id);
        let leader = cluster.leader().await;
        for other in cluster.others(leader) {
            cluster.connected(leader, other, true).await;
        }
        cluster.set(None, "k", &format!("TLS at {id}")).await;
    }
    assert_eq!(cluster.get("k").await.as_deref(), Some("TLS at 3"));
    let clear = cluster.channel_through(1, None);
    let refused = KvClient::new(clear).set(SetRequest::default()).await;
    assert!(refused.unwrap_err().details().is_empty());
}
