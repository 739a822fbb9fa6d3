//! The rarer happenings as entries of systemd's journal, with their fields as fields: `RAFT_EVENT=`,
//! `RAFT_TERM=` and so on, for `journalctl RAFT_EVENT=BecameLeader`.
//!
//! They are those of `dump.txt`, from the same queue. What comes with each request is left out: the journal
//! keeps what is written into it for weeks. Nothing waits for the journal; what it does not take at once
//! stands in `dump.txt` alone.

use crate::raft::NodeId;
use std::os::unix::net::UnixDatagram;

/// Where journald listens (systemd.io/JOURNAL_NATIVE_PROTOCOL).
const SOCKET: &str = "/run/systemd/journal/socket";

/// An entry in the journal's levels: normal, but worth a look.
const NOTICE: u8 = 5;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Journal(Option<UnixDatagram>);

impl Journal {
    /// Of systemd, if it started this process as a service that tells when it is ready.
    pub(super) fn of_this_process() -> Self {
        let has = |name: &str| std::env::var_os(name).is_some();
        match has("NOTIFY_SOCKET") && has("INVOCATION_ID") {
            true => Journal::at(SOCKET),
            false => Journal::default(),
        }
    }

    /// Of whoever listens there; of nobody where nobody does.
    fn at(path: &str) -> Self {
        let connected = UnixDatagram::unbound().and_then(|socket| {
            socket.connect(path)?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        });
        if let Err(error) = &connected {
            tracing::debug!("{path} does not take entries: {error}");
        }
        Journal(connected.ok())
    }

    /// Whether anybody listens.
    pub(super) fn is_open(&self) -> bool {
        self.0.is_some()
    }

    /// Tells one happening.
    pub(super) fn tell(&self, node: NodeId, event: &str, sentence: &str, fields: &str) {
        let Some(socket) = &self.0 else { return };
        if let Err(error) = socket.send(entry(node, event, sentence, fields).as_bytes()) {
            // dump.txt has it.
            tracing::debug!("the journal did not take an entry: {error}");
        }
    }
}

/// A line for each field; `fields` are those of `dump.txt`.
fn entry(node: NodeId, event: &str, sentence: &str, fields: &str) -> String {
    // A line is what ends a field.
    let sentence = sentence.replace('\n', " ");
    let mut entry = format!(
        "MESSAGE={sentence}\nPRIORITY={NOTICE}\nSYSLOG_IDENTIFIER=raft-node\nRAFT_NODE={node}\nRAFT_EVENT={event}\n"
    );
    let pairs = fields.split(' ').filter_map(|pair| pair.split_once('='));
    for (name, value) in pairs {
        let name = name.to_ascii_uppercase();
        let value = value.replace('\n', " ");
        entry += &format!("RAFT_{name}={value}\n");
    }
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    // An entry has the sentence, and each field under a name of its own; a value stays on its line.
    #[test]
    fn fields_become_fields() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listening = UnixDatagram::bind(&path).unwrap();
        let journal = Journal::at(path.to_str().unwrap());
        let sentence = "Node 1 became the leader for term 3.";
        journal.tell(1, "BecameLeader", sentence, "term=3 last_index=17");
        let mut bytes = [0; 1024];
        let length = listening.recv(&mut bytes).unwrap();
        let told = std::str::from_utf8(&bytes[..length]).unwrap();
        let lines: Vec<&str> = told.lines().collect();
        assert_eq!(
            lines,
            [
                "MESSAGE=Node 1 became the leader for term 3.",
                "PRIORITY=5",
                "SYSLOG_IDENTIFIER=raft-node",
                "RAFT_NODE=1",
                "RAFT_EVENT=BecameLeader",
                "RAFT_TERM=3",
                "RAFT_LAST_INDEX=17",
            ]
        );
        assert!(!Journal::at("/nowhere/at/all").is_open());
    }

    // A journal that is full, or gone, holds nobody up.
    #[test]
    fn a_full_journal_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listening = UnixDatagram::bind(&path).unwrap();
        let journal = Journal::at(path.to_str().unwrap());
        for _ in 0..10_000 {
            journal.tell(1, "Ready", "Node 1 is ready.", "");
        }
        drop(listening);
        journal.tell(1, "Ready", "Node 1 is ready.", "");
    }
}
