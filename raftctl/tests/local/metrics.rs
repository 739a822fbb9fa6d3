//! `metrics` in cluster.yaml: nodes that tell their figures.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use crate::cluster::{METRICS, TestCluster};

impl TestCluster {
    /// What a node answers at `/metrics`; `None`: it does not listen.
    fn metrics(&self, id: u16) -> Option<String> {
        let port = self.ports.base + METRICS + id;
        let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).unwrap();
        Some(page)
    }
}

// Nodes have no port for metrics unless cluster.yaml asks for it; running ones get it with a restart, and
// lose it again.
#[test]
fn metrics_come_with_a_restart() {
    let cluster = TestCluster::up(3);
    let telling = || (1..=3).filter(|id| cluster.metrics(*id).is_some()).count();
    assert_eq!(telling(), 0);
    cluster.configure("metrics: loopback");
    cluster.raftctl(&["up"]).ok().says("nothing to do");
    cluster.raftctl(&["restart", "all"]).ok();
    let leads = |id: &u16| {
        cluster
            .metrics(*id)
            .unwrap()
            .contains("\nraftkv_leader 1.0\n")
    };
    let leader = cluster.leader(|_| true);
    assert_eq!(
        (1..=3).filter(leads).map(u64::from).collect::<Vec<_>>(),
        [leader]
    );
    let named = |id| cluster.node(id)["metrics"].clone();
    let port = cluster.ports.base + METRICS + 2;
    assert_eq!(named(2), format!("127.0.0.1:{port}"));
    // Somebody else who has the port is told before the node is started in vain.
    cluster.raftctl(&["kill", "2"]).ok();
    let taken = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let doctor = cluster.raftctl(&["doctor"]);
    assert!(doctor.stdout.contains(&port.to_string()), "{doctor:?}");
    drop(taken);
    cluster.configure("");
    assert!(named(1).is_null());
    cluster.raftctl(&["restart", "all"]).ok();
    assert_eq!(telling(), 0);
}
