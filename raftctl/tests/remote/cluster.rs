//! A cluster on test hosts, with the provider `ssh`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use raftctl::client::Member;
use raftctl::client::security::{Security, secure};
use serde_json::Value;

use crate::support::{Ended, PATIENCE, raftctl, replace_file};
use testhosts::{Options, TestHost, TestHosts};

/// An operator's folder with a cluster.yaml that lists the hosts.
pub struct RemoteCluster {
    folder: tempfile::TempDir,
    pub set: TestHosts,
    pub user: &'static str,
}

impl RemoteCluster {
    /// Hosts with nothing on them.
    pub fn new(count: u8, user: &'static str) -> Self {
        RemoteCluster::with(count, user, Options::default())
    }

    /// The same with hosts of a kind.
    pub fn with(count: u8, user: &'static str, options: Options) -> Self {
        let cluster = RemoteCluster {
            set: TestHosts::start_with(count, options),
            folder: tempfile::tempdir().unwrap(),
            user,
        };
        cluster.configure("");
        cluster
    }

    /// Writes cluster.yaml with more lines.
    pub fn configure(&self, lines: &str) {
        self.write(self.folder.path(), self.user, lines);
    }

    /// Writes a cluster.yaml of these hosts into a folder. As `init` does, it says `tls: on`, unless the lines
    /// say another word.
    pub fn write(&self, folder: &Path, user: &str, lines: &str) {
        let tls = if lines.contains("tls: ") {
            ""
        } else {
            "tls: on\n"
        };
        let mut text = format!(
            "name: test\nprovider: ssh\nfault_injection: true\n\
             ssh: {{user: {user}, identity_file: {}}}\n{tls}{lines}\nnodes:\n",
            self.set.key().display()
        );
        for (at, host) in self.set.hosts.iter().enumerate() {
            text.push_str(&format!(
                "  - {{id: {}, host: \"{}\"}}\n",
                at + 1,
                host.address
            ));
        }
        replace_file(folder.join("cluster.yaml"), text);
    }

    /// The same for a colleague with whom the certificates are shared.
    pub fn share(&self, folder: &Path, user: &str, lines: &str) {
        self.write(folder, user, lines);
        let to = folder.join(".raftctl/test/tls");
        std::fs::create_dir_all(&to).unwrap();
        for file in std::fs::read_dir(self.path(".raftctl/test/tls")).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
        }
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn raftctl(&self, arguments: &[&str]) -> Ended {
        raftctl(self.folder(), arguments)
    }

    pub fn status(&self) -> Value {
        self.raftctl(&["status", "--output", "json"]).ok().json()
    }

    /// A field of a node's status, as text.
    pub fn of_node(&self, id: u64, field: &str) -> String {
        let status = self.status();
        let mut nodes = status["nodes"].as_array().unwrap().iter();
        let node = nodes.find(|node| node["id"] == id).unwrap();
        node[field]
            .as_str()
            .map_or_else(|| node[field].to_string(), str::to_owned)
    }

    /// Waits until a field of a node's status says something. A host that is slow to answer has its
    /// process called unknown for a while.
    #[track_caller]
    pub fn until(&self, id: u64, field: &str, wanted: &str) {
        let started = Instant::now();
        loop {
            let is = self.of_node(id, field);
            if is == wanted {
                return;
            }
            assert!(
                started.elapsed() < PATIENCE,
                "node {id}: {field} stays {is}, not {wanted}"
            );
        }
    }

    /// Where clients reach the nodes, with this folder's certificate.
    pub fn members(&self) -> Vec<Member> {
        let security = Arc::new(Security {
            folder: self.path(".raftctl/test/tls"),
            name: "test.raftkv".into(),
            clear_too: false,
        });
        let hosts = self.set.hosts.iter().zip(1..);
        let member = |(host, id): (&TestHost, u64)| Member {
            id,
            address: format!("{}:7500", host.address),
        };
        let members: Vec<Member> = hosts.map(member).collect();
        secure(members.iter().map(|member| &*member.address), &security);
        members
    }

    /// Waits until a leader that fits has its lease.
    #[track_caller]
    pub fn leader(&self, fits: impl Fn(u64) -> bool) -> u64 {
        let started = Instant::now();
        loop {
            let status = self.status();
            let leader = status["leader"].as_u64().unwrap_or(0);
            let mut nodes = status["nodes"].as_array().unwrap().iter();
            let has_lease =
                nodes.any(|node| node["id"] == leader && node["lease_remaining_ms"].is_u64());
            if has_lease && fits(leader) {
                return leader;
            }
            assert!(started.elapsed() < PATIENCE, "no leader\n{status:#}");
        }
    }
}

/// What raftctl says of a node that it left behind.
#[track_caller]
pub fn left_behind(ended: &Ended, id: u64, why: &str) {
    let text = ended.stderr.rsplit(" of the nodes:").next().unwrap();
    let own = text.split(&format!("\n  node {id}: ")).nth(1);
    let own = own.unwrap_or_else(|| panic!("node {id} is not named: {ended:?}"));
    assert!(own.contains(why), "{ended:?}");
}
