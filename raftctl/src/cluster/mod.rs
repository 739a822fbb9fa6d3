//! cluster.yaml: what a cluster is to be.
//!
//! [`load`] reads the file, fills in the environment's variables and the defaults, and checks it
//! as a whole. It gives a [`Cluster`] in which everything is decided, or every problem at once,
//! each with its line and a hint.

pub mod docker;
pub mod edit;
pub mod environment;
pub mod gcp;
pub mod id;
pub mod limits;
mod metrics;
mod nodes;
pub mod outcomes;
mod parse;
pub mod reader;
pub mod select;
pub mod ssh;
pub mod timing;
mod tls;
pub mod yaml;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use clap::ValueEnum;

use crate::client::Read;

use crate::error::problem::{Problem, Problems};
pub use metrics::Metrics;
pub use nodes::Node;
pub(crate) use parse::FORMAT_NEWEST;
pub use parse::{from_text, load, parse, read_text};
pub use tls::Tls;

/// A node's id, unique in its cluster, from 1.
pub type NodeId = u64;

/// A cluster as it is to be. Made by [`load`] or [`parse`] only, so whoever holds one can rely on
/// all the checks.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// Names the cluster's folder on every host, and its resources in a cloud.
    pub name: String,
    /// Where its hosts come from.
    pub provider: Provider,
    /// In the order of their ids; at least one.
    pub nodes: Vec<Node>,
    /// Elections, heartbeats, lease.
    pub timing: timing::Timing,
    /// How the key-value verbs read unless told otherwise.
    pub reads: Reads,
    /// Whether a new leader may serve reads while an older lease may be alive.
    pub inherited_reads: bool,
    /// Whether a leader that is known for certain to have ended is waited for no longer.
    pub proof_of_death: bool,
    /// Whether nodes obey `partition`.
    pub fault_injection: bool,
    /// A snapshot is taken after the log has grown by so many KiB.
    pub snapshot_log_kib: u64,
    /// The newest format that the cluster may go over to; `None`: the newest that its nodes read.
    pub format_max: Option<u64>,
    /// Who may read the nodes' metrics.
    pub metrics: Metrics,
    /// Who may connect to nodes.
    pub tls: Tls,
    /// The line that says so; `None`: nothing does.
    pub tls_line: Option<u64>,
    /// The certificates of an authority outside that signs, instead of one of the cluster's own.
    pub tls_ca: Option<PathBuf>,
    /// Where raft-node comes from.
    pub binary: BinarySource,
    /// Ports of the nodes.
    pub ports: Ports,
    /// Bounds of what raftctl does at once and waits for.
    pub limits: limits::Limits,
    /// How hosts are reached.
    pub ssh: ssh::SshSettings,
    /// How containers are made.
    pub docker: docker::DockerSettings,
    /// How instances are made.
    pub gcp: gcp::GcpSettings,
    /// Files of this machine that it names, for whoever looks whether they are there.
    pub named_files: Vec<NamedFile>,
    /// The folder of cluster.yaml: relative paths start here, and `.raftctl/` lies here.
    pub directory: PathBuf,
    /// What is allowed but probably not meant.
    pub warnings: Problems,
}

/// Where what is kept of a cluster lies, beside the cluster.yaml in a folder.
#[must_use]
pub fn state_dir(directory: &Path, name: &str) -> PathBuf {
    directory.join(".raftctl").join(name)
}

/// "node 1", "nodes 1, 2 and 3".
#[must_use]
pub fn list(ids: &[NodeId]) -> String {
    let texts: Vec<String> = ids.iter().map(NodeId::to_string).collect();
    match texts.split_last() {
        None => "no node".into(),
        Some((only, [])) => format!("node {only}"),
        Some((last, others)) => format!("nodes {} and {last}", others.join(", ")),
    }
}

impl Cluster {
    /// `.raftctl/<name>/` beside cluster.yaml: what raftctl keeps on this machine. All of it can
    /// be rebuilt from cluster.yaml and the hosts, but for Terraform's state.
    #[must_use]
    pub fn state_dir(&self) -> PathBuf {
        state_dir(&self.directory, &self.name)
    }

    /// The ids of all nodes, rising.
    #[must_use]
    pub fn ids(&self) -> Vec<NodeId> {
        self.nodes.iter().map(|node| node.id).collect()
    }

    /// How many nodes make a majority.
    #[must_use]
    pub fn majority(&self) -> usize {
        self.nodes.len() / 2 + 1
    }
}

/// A file of this machine that cluster.yaml names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedFile {
    /// The key that names it: `ssh.identity_file`.
    pub key: &'static str,
    /// The line of the key.
    pub line: u64,
    /// Where it should be.
    pub path: PathBuf,
}

impl NamedFile {
    /// Whether it is there. Of a key the public half is enough: the agent may hold the other.
    #[must_use]
    pub fn is_there(&self) -> bool {
        let mut public = self.path.clone().into_os_string();
        public.push(".pub");
        self.path.is_file() || (self.key == ssh::IDENTITY_KEY && Path::new(&public).is_file())
    }

    /// What is wrong where it is not there, and what to do.
    #[must_use]
    pub fn missing(&self) -> Problem {
        Problem {
            line: self.line,
            message: format!(
                "{} names {}, which is not there",
                self.key,
                self.path.display()
            ),
            hint: match self.key {
                ssh::IDENTITY_KEY => {
                    "name a private key, or leave it out: then ssh's own defaults count".into()
                }
                tls::CA_KEY => "put the certificate of the authority there, as PEM".into(),
                _ => "build it, correct the path, or write binary: auto".into(),
            },
        }
    }
}

/// Where hosts come from. Each is called in cluster.yaml as it is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Provider {
    /// Processes on this machine.
    Local,
    /// Hosts that exist, reached through SSH.
    Ssh,
    /// Containers on this machine, reached through SSH.
    Docker,
    /// Instances on Google Compute Engine, made by Terraform, reached through SSH.
    Gcp,
}

impl Provider {
    /// Whether nodes have hosts of their own, and do not share this machine.
    #[must_use]
    pub fn has_hosts(self) -> bool {
        self != Provider::Local
    }

    /// Whether raftctl makes the hosts.
    #[must_use]
    pub fn makes_hosts(self) -> bool {
        matches!(self, Provider::Docker | Provider::Gcp)
    }

    /// The name, as written in cluster.yaml.
    #[must_use]
    pub fn name(self) -> String {
        name_of(&self)
    }
}

/// What a value is called, in cluster.yaml and on the command line.
fn name_of(value: &impl ValueEnum) -> String {
    let named = value.to_possible_value();
    let named = named.expect("no value is hidden from users");
    named.get_name().to_owned()
}

/// How fresh a read is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Reads {
    /// Linearizable, from the leader's memory under its lease
    #[default]
    Lease,
    /// Linearizable, with a heartbeat round: trusts no clock
    Quorum,
    /// Whatever a node has applied; may be old
    Stale,
}

impl Reads {
    /// The name, as written in cluster.yaml.
    #[must_use]
    pub fn name(self) -> String {
        name_of(&self)
    }
}

impl From<Reads> for Read {
    fn from(reads: Reads) -> Self {
        match reads {
            Reads::Lease => Read::Lease,
            Reads::Quorum => Read::Quorum,
            Reads::Stale => Read::Stale(None),
        }
    }
}

/// Where raft-node comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BinarySource {
    /// Beside raftctl, else built from the checkout that raftctl runs from.
    Auto,
    /// This file.
    Path(PathBuf),
}

/// Ports of the nodes. On one machine a node's port is the base plus its id; on hosts of their
/// own every node uses the base itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// Node to node.
    pub peer: u16,
    /// Clients and operators.
    pub client: u16,
    /// Scrapers of metrics, where there are any.
    pub metrics: u16,
}

impl Default for Ports {
    fn default() -> Self {
        Ports {
            peer: 7400,
            client: 7500,
            metrics: 7600,
        }
    }
}
