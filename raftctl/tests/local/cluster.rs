//! A cluster of real processes in a folder of its own, on ports of its own, and gone afterwards.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Ended, PATIENCE, raftctl, replace_file};

/// Twenty ports that no other test uses at the same time, below those that the system hands out.
pub struct Ports {
    pub base: u16,
    _reserved: File,
}

impl Ports {
    pub fn reserve() -> Ports {
        let folder = std::env::temp_dir().join("raftctl-test-ports");
        std::fs::create_dir_all(&folder).unwrap();
        for block in 0..800 {
            let base = 15_000 + block * 20;
            let file = File::create(folder.join(base.to_string())).unwrap();
            // The lock ends with this process, however it ends.
            if file.try_lock().is_err() {
                continue;
            }
            let is_free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
            if (base..base + 20).all(is_free) {
                return Ports {
                    base,
                    _reserved: file,
                };
            }
        }
        panic!("no twenty free ports below 31000");
    }
}

/// Where the ports of metrics begin, of up to four nodes: between those of peers and of clients.
pub const METRICS: u16 = 5;

/// A cluster in a temporary folder. Its processes end with it.
pub struct TestCluster {
    folder: tempfile::TempDir,
    pub ports: Ports,
    pub nodes: u16,
    /// The ports of clients, where ids get as large as not to leave them their place among the others.
    client_ports: Option<Ports>,
}

impl TestCluster {
    /// Writes cluster.yaml, and starts nothing.
    pub fn new(nodes: u16) -> TestCluster {
        TestCluster::with(nodes, "")
    }

    /// The same with more lines in cluster.yaml.
    pub fn with(nodes: u16, lines: &str) -> TestCluster {
        let cluster = TestCluster {
            folder: tempfile::tempdir().unwrap(),
            ports: Ports::reserve(),
            nodes,
            client_ports: None,
        };
        cluster.configure(lines);
        cluster
    }

    /// A cluster that is up, in which ids may go up to 19.
    pub fn with_room(nodes: u16) -> TestCluster {
        TestCluster::with_room_and(nodes, "")
    }

    /// The same with more lines in cluster.yaml.
    pub fn with_room_and(nodes: u16, lines: &str) -> TestCluster {
        let mut cluster = TestCluster::new(nodes);
        cluster.client_ports = Some(Ports::reserve());
        cluster.configure(lines);
        cluster.raftctl(&["up"]).ok();
        cluster
    }

    /// Writes cluster.yaml anew.
    pub fn configure(&self, lines: &str) {
        let (nodes, base) = (self.nodes, self.ports.base);
        let clients = self
            .client_ports
            .as_ref()
            .map_or(base + 10, |ports| ports.base);
        let text = format!(
            "name: test\nnodes: {nodes}\nports: {{peer: {base}, client: {clients}, metrics: {}}}\n{lines}\n",
            base + METRICS
        );
        replace_file(self.path("cluster.yaml"), text);
    }

    /// A cluster that is up.
    pub fn up(nodes: u16) -> TestCluster {
        let cluster = TestCluster::new(nodes);
        cluster.raftctl(&["up"]).ok();
        cluster
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A file of raftctl's own folder.
    pub fn state(&self, name: &str) -> PathBuf {
        self.path(".raftctl/test").join(name)
    }

    pub fn raftctl(&self, arguments: &[&str]) -> Ended {
        raftctl(self.folder(), arguments)
    }

    /// `status --output json`.
    pub fn status(&self) -> Value {
        self.raftctl(&["status", "--output", "json"]).ok().json()
    }

    /// What the status says of a node.
    pub fn node(&self, id: u64) -> Value {
        let status = self.status();
        let nodes = status["nodes"].as_array().unwrap().iter();
        nodes.clone().find(|node| node["id"] == id).unwrap().clone()
    }

    /// Waits until there is a leader that fits, with a lease.
    #[track_caller]
    pub fn leader(&self, fits: impl Fn(u64) -> bool) -> u64 {
        let mut leader = 0;
        self.eventually("a leader", |status| {
            leader = status["leader"].as_u64().unwrap_or(0);
            let mut nodes = status["nodes"].as_array().unwrap().iter();
            let has_lease =
                nodes.any(|node| node["id"] == leader && node["lease_remaining_ms"].is_u64());
            leader != 0 && fits(leader) && has_lease
        });
        leader
    }

    /// Waits until the status is as it should be.
    #[track_caller]
    pub fn eventually(&self, what: &str, mut is_so: impl FnMut(&Value) -> bool) {
        let started = Instant::now();
        loop {
            let status = self.status();
            if is_so(&status) {
                return;
            }
            assert!(started.elapsed() < PATIENCE, "never: {what}\n{status:#}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The process of a node, from its pid file.
    pub fn pid(&self, id: u64) -> Option<u32> {
        let text = std::fs::read_to_string(self.state(&format!("run/node_{id}.pid"))).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("pid="))?;
        line.parse().ok()
    }
}

impl Drop for TestCluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let status = self.raftctl(&["status"]);
            eprintln!("{}{}", status.stdout, status.stderr);
        }
        if self.state("run").exists() {
            self.configure(""); // Whatever the test had written there.
            let down = self.raftctl(&["down", "--purge", "--yes"]);
            if down.code != 0 && !std::thread::panicking() {
                panic!("processes are left: {down:?}");
            }
        }
    }
}
