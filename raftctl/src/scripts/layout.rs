//! Where things are on a host.
//!
//! ```text
//! <base>/bin/releases/<first 12 digits of sha256>/raft-node    remote hosts only, with sha256 beside
//! <base>/bin/current -> releases/<...>                          remote hosts only
//! <base>/bin/previous -> releases/<...>   what `current` was before; the same after a way back
//! <base>/seen                   remote hosts only: which nodes of the cluster have had a log
//! <base>/starting               locked by whoever starts nodes
//! <base>/logs_node_<id>/     a node's own files; its --data-dir
//! <base>/tls_node_<id>/      its key, its certificate, and whom it trusts, where it speaks TLS
//! <base>/run/node_<id>.pid   the process, told apart from any later one of the same number
//! <base>/run/node_<id>.args  the arguments it was started with, one a line
//! <base>/run/node_<id>.log   what it printed: its last words when it does not come up
//! <base>/run/node_<id>.data  its log has been seen: if it is gone now, it was lost
//! <base>/run/node_<id>.thaw   it is frozen for a time: which timer lets it go on
//! <base>/run/node_<id>.launch   what systemd starts; it becomes the node
//! <base>/run/node_<id>.held     while it is there, systemd does not start the node
//! ```
//! With systemd all of it is root's, but for what the nodes' user makes itself: `logs_node_<id>/`, the
//! `.pid` files and the `.log` files. Of `tls_node_<id>/` it may read all, and owns the key. It can make files in `run/`, and take away only its own, so a
//! script never writes there through a name that a link can have: it makes a file elsewhere and
//! renames it, or makes sure that there was none.
//!
//! On this machine `<base>` is `.raftctl/<cluster>/` beside cluster.yaml, and the binary is used
//! where it lies.

/// The folder of all clusters on a host where raftctl is root.
pub const SYSTEM_FOLDER: &str = "/opt/raftkv";

/// The folders of one cluster on one host. Paths are absolute and belong to the host, which need
/// not be this machine: hence text, not `Path`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostLayout {
    /// The folder that holds everything of the cluster on the host.
    pub base: String,
    /// Whether binaries are shipped to it.
    pub is_remote: bool,
    /// Where systemd looks after the nodes: what their units' names begin with.
    pub unit_prefix: Option<String>,
}

impl HostLayout {
    /// The layout below a folder.
    #[must_use]
    pub fn new(base: &str) -> Self {
        HostLayout {
            base: base.trim_end_matches('/').into(),
            is_remote: false,
            unit_prefix: None,
        }
    }

    /// The layout below a folder of another machine.
    #[must_use]
    pub fn remote(base: &str) -> Self {
        HostLayout {
            is_remote: true,
            ..HostLayout::new(base)
        }
    }

    /// The layout on another machine where raftctl is root, or where nothing is known of that.
    #[must_use]
    pub fn system(cluster: &str) -> Self {
        HostLayout::remote(&format!("{SYSTEM_FOLDER}/{cluster}"))
    }

    /// Lets the machine's systemd look after the nodes of `cluster`. Needs root.
    #[must_use]
    pub fn with_units(self, cluster: &str) -> Self {
        HostLayout {
            unit_prefix: Some(format!("raftkv-{cluster}")),
            ..self
        }
    }

    /// What a node is started with, of a binary that lies at `local` on this machine.
    #[must_use]
    pub fn executable(&self, local: &std::path::Path) -> String {
        if self.is_remote {
            self.current_executable()
        } else {
            local.display().to_string()
        }
    }

    /// The binary in use where binaries are shipped.
    #[must_use]
    pub fn current_executable(&self) -> String {
        format!("{}/bin/current/raft-node", self.base)
    }

    /// The folder of pid files.
    #[must_use]
    pub fn run_dir(&self) -> String {
        format!("{}/run", self.base)
    }

    /// The paths of one node.
    #[must_use]
    pub fn node(&self, id: u64) -> NodeLayout {
        let run = self.run_dir();
        NodeLayout {
            id,
            base: self.base.clone(),
            data_dir: format!("{}/logs_node_{id}", self.base),
            tls_dir: format!("{}/tls_node_{id}", self.base),
            pid_file: format!("{run}/node_{id}.pid"),
            args_file: format!("{run}/node_{id}.args"),
            output_file: format!("{run}/node_{id}.log"),
            unit: self
                .unit_prefix
                .as_ref()
                .map(|prefix| format!("{prefix}-{id}.service")),
        }
    }
}

/// The paths of one node on its host, absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeLayout {
    /// The node's id in the cluster.
    pub id: u64,
    /// The folder that holds everything of the cluster on the host.
    pub base: String,
    /// logs.txt, metadata.txt and dump.txt.
    pub data_dir: String,
    /// node.key, node.pem and ca.pem.
    pub tls_dir: String,
    /// Written when the node is started: pid, start time, boot, executable, fingerprint.
    pub pid_file: String,
    /// Its arguments, one a line, in the form that `raft-node @FILE` reads.
    pub args_file: String,
    /// Its standard output and error.
    pub output_file: String,
    /// What its systemd unit is called, where systemd looks after it.
    pub unit: Option<String>,
}

/// What a release is called, by the sha256 of its binary in hexadecimal digits.
///
/// # Panics
/// When `sha256` is shorter than 12 digits.
#[must_use]
pub fn release_name(sha256: &str) -> &str {
    &sha256[..12]
}

#[cfg(test)]
mod tests {
    use super::*;

    // The places that an operator looks at by hand have the names that the manual gives them.
    #[test]
    fn paths_are_as_documented() {
        let host = HostLayout::new("/opt/raftkv/demo/");
        let node = host.node(3);
        assert_eq!(node.data_dir, "/opt/raftkv/demo/logs_node_3");
        assert_eq!(node.pid_file, "/opt/raftkv/demo/run/node_3.pid");
        assert_eq!(
            host.current_executable(),
            "/opt/raftkv/demo/bin/current/raft-node"
        );
    }
}
