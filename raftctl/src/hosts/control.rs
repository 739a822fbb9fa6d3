//! Looking after the nodes of one host: runs the [`scripts`] and reads their answers.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use tokio::io::AsyncWrite;

use super::inventory::Host;
use crate::cluster::NodeId;
use crate::cluster::id::ClusterId;
use crate::error::{Error, Result, TransportError};
use crate::scripts::layout::NodeLayout;
use crate::scripts::shell::END;
use crate::scripts::{self, LookAt, NodeSignal, StartNode, TLS, Thaw};
use crate::transport::Request;

/// The format of files that name none.
const FORMAT_FIRST: u64 = 1;

/// What a node's process is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProcessState {
    /// Alive.
    Running,
    /// Alive, but stopped by SIGSTOP.
    Paused,
    /// Not there.
    Stopped,
}

impl ProcessState {
    /// The word for it, the same in scripts, tables and JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            ProcessState::Running => "running",
            ProcessState::Paused => "paused",
            ProcessState::Stopped => "stopped",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        [Self::Running, Self::Paused, Self::Stopped]
            .into_iter()
            .find(|state| state.name() == name)
    }
}

/// What is known of a node's process and files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeFacts {
    /// The node.
    pub id: NodeId,
    /// Its process.
    pub state: ProcessState,
    /// Whether there is a pid file; one without a process is what a crash leaves.
    pub has_record: bool,
    /// Whether it has a log already.
    pub has_data: bool,
    /// Whether it had one that was seen, and has none now.
    pub lost_data: bool,
    /// The id of its cluster, by its metadata.txt; by its last arguments where that says nothing.
    pub cluster_id: Option<ClusterId>,
    /// The format that its files are of; what reads no more than an older one refuses them.
    pub format: u64,
    /// The process, while it lives.
    pub pid: Option<u32>,
    /// What it runs, while it lives.
    pub executable: Option<String>,
    /// Of the binary it was started with, while it lives.
    pub sha256: Option<String>,
    /// What it was last started with; empty where it never was.
    pub arguments: Vec<String>,
    /// Ports of a stopped node that someone else listens on.
    pub taken_ports: Vec<TakenPort>,
    /// Whether a packet filter of raftctl cuts it off.
    pub is_filtered: bool,
    /// Its certificate; empty where it has none, or no key.
    pub certificate: String,
    /// Whom it trusts; empty where it knows nobody yet.
    pub trusted: String,
}

impl NodeFacts {
    /// Whether its host was asked. What is only taken for granted of a disk without a machine has data, and never ran.
    #[must_use]
    pub fn is_seen(&self) -> bool {
        !self.has_data || !self.arguments.is_empty()
    }

    /// Whether it was last started without TLS.
    #[must_use]
    pub fn speaks_clear_text(&self) -> bool {
        !self.arguments.is_empty() && !self.arguments.iter().any(|argument| argument == TLS)
    }
}

/// A port that someone else listens on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenPort {
    /// The port.
    pub port: u16,
    /// Who listens: "process 12 (/usr/bin/x)", as far as it can be seen.
    pub owner: String,
}

/// What is known of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostFacts {
    /// As `uname -s` says.
    pub system: String,
    /// As `uname -m` says.
    pub machine: String,
    /// Space left where the nodes' files are, in KiB.
    pub disk_free_kib: u64,
    /// What only matters where binaries are shipped.
    pub setting: Setting,
    /// Its nodes.
    pub nodes: Vec<NodeFacts>,
}

/// What a host is like, as far as it can be seen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Setting {
    /// The release in use there, if it is there as a whole.
    pub release: Option<String>,
    /// The release before that. The same one where the cluster has gone back to it.
    pub previous: Option<String>,
    /// Its C library, as it calls itself.
    pub libc: Option<String>,
    /// What runs as its first process: "systemd", "sshd".
    pub init: Option<String>,
    /// The nodes that have had a log, as far as this host was told.
    pub seen: Vec<NodeId>,
    /// By how much its clock is ahead of this machine's, in milliseconds.
    pub clock_ahead_ms: Option<i64>,
    /// How far off `clock_ahead_ms` may be: half of the time that it took to ask.
    pub clock_within_ms: i64,
}

impl HostFacts {
    /// A host that is yet to be made: nothing is there, and nothing stands in the way.
    #[must_use]
    pub fn blank(id: NodeId) -> Self {
        HostFacts {
            system: "Linux".into(),
            machine: std::env::consts::ARCH.into(),
            disk_free_kib: u64::MAX,
            setting: Setting::default(),
            nodes: vec![NodeFacts {
                id,
                state: ProcessState::Stopped,
                has_record: false,
                has_data: false,
                lost_data: false,
                cluster_id: None,
                format: FORMAT_FIRST,
                pid: None,
                executable: None,
                sha256: None,
                arguments: Vec::new(),
                taken_ports: Vec::new(),
                is_filtered: false,
                certificate: String::new(),
                trusted: String::new(),
            }],
        }
    }

    /// Each node with the facts of the host and its own alone.
    pub(crate) fn split(self) -> Vec<(NodeId, HostFacts)> {
        let alone = |node: &NodeFacts| HostFacts {
            nodes: vec![node.clone()],
            ..self.clone()
        };
        self.nodes
            .iter()
            .map(|node| (node.id, alone(node)))
            .collect()
    }
}

/// How a node took a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signalled {
    /// The node.
    pub id: NodeId,
    /// Before.
    pub was: ProcessState,
    /// After, at the latest when the wait was over.
    pub state: ProcessState,
}

/// Looks at a host and nodes of it.
///
/// # Errors
/// The host can't be reached, or its answer makes no sense.
pub async fn facts(host: &Host, nodes: &[LookAt], deadline: Duration) -> Result<HostFacts> {
    let script = scripts::facts(&host.layout.base, nodes);
    let asked = SystemTime::now();
    let answer = ask(host, "look at the host", &script, deadline).await?;
    let setting = setting(&answer, asked, SystemTime::now());
    Ok(HostFacts {
        system: answer.one("host", "system")?.to_owned(),
        machine: answer.one("host", "machine")?.to_owned(),
        disk_free_kib: answer.number("host", "disk_free_kb")?,
        setting,
        nodes: nodes
            .iter()
            .map(|node| answer.node(node.layout.id))
            .collect::<Result<_>>()?,
    })
}

/// The host's clock is compared with the middle of the time that it took to answer.
fn setting(answer: &Answer, asked: SystemTime, answered: SystemTime) -> Setting {
    let optional = |key| answer.all("host", key).next().map(str::to_owned);
    let since_epoch_ms = |time: SystemTime| -> Option<i64> {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
        i64::try_from(since.as_millis()).ok()
    };
    let (before, after) = (since_epoch_ms(asked), since_epoch_ms(answered));
    let there = optional("time_ms").and_then(|text| text.parse::<i64>().ok());
    let within = before
        .zip(after)
        .map_or(0, |(before, after)| (after - before) / 2);
    Setting {
        release: optional("release"),
        previous: optional("previous"),
        seen: optional("seen")
            .unwrap_or_default()
            .split(' ')
            .filter_map(|id| id.parse().ok())
            .collect(),
        libc: optional("libc"),
        init: optional("init"),
        clock_ahead_ms: there
            .zip(before)
            .map(|(there, before)| there - before - within),
        clock_within_ms: within.abs() + 1,
    }
}

/// Starts nodes that do not run, all on `host`. Whether each was started, and its facts.
///
/// # Errors
/// A node could not even be tried; a node that ended right away is no error here, its state tells.
pub async fn start(
    host: &Host,
    nodes: &[StartNode],
    deadline: Duration,
) -> Result<Vec<(bool, NodeFacts)>> {
    let script = scripts::start(nodes);
    let answer = ask(host, "start nodes", &script, deadline).await?;
    nodes
        .iter()
        .map(|node| {
            let id = node.layout.id;
            let started = answer.one(&id.to_string(), "started")? == "yes";
            Ok((started, answer.node(id)?))
        })
        .collect()
}

/// Sends a signal to nodes of a host and waits until they obey, at most `wait`. With `thaw`, they go
/// on in time by themselves.
///
/// # Errors
/// The host can't be reached, or its answer makes no sense.
pub async fn signal(
    host: &Host,
    ids: &[NodeId],
    signal: NodeSignal,
    thaw: Option<&Thaw>,
    wait: Duration,
    deadline: Duration,
) -> Result<Vec<Signalled>> {
    let layouts = host.layouts(ids);
    let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
    let script = scripts::signal(&layouts, signal, wait_ms, thaw);
    let answer = ask(host, "signal nodes", &script, deadline + wait).await?;
    let one = |layout: &NodeLayout| {
        let id = layout.id.to_string();
        Ok(Signalled {
            id: layout.id,
            was: answer.state(&id, "was")?,
            state: answer.state(&id, "state")?,
        })
    };
    layouts.iter().map(one).collect()
}

/// The last lines that nodes printed.
///
/// # Errors
/// The host can't be reached.
pub async fn tail(
    host: &Host,
    ids: &[NodeId],
    deadline: Duration,
) -> Result<BTreeMap<NodeId, Vec<String>>> {
    let script = scripts::tail(&host.layouts(ids));
    let answer = ask(host, "read the output of nodes", &script, deadline).await?;
    let lines = |id: &NodeId| {
        answer
            .all(&id.to_string(), "tail")
            .map(str::to_owned)
            .collect()
    };
    Ok(ids.iter().map(|id| (*id, lines(id))).collect())
}

/// Writes down on a host which nodes have had a log.
///
/// # Errors
/// The host can't be reached, or its files can't be changed.
pub async fn remember(host: &Host, ids: &[NodeId], deadline: Duration) -> Result<()> {
    let script = scripts::remember(&host.layout.base, ids);
    ask(host, "remember the nodes", &script, deadline)
        .await
        .map(drop)
}

/// Lets nodes begin with nothing whose logs are gone.
///
/// # Errors
/// As [`remember`].
pub async fn accept_loss(host: &Host, ids: &[NodeId], deadline: Duration) -> Result<()> {
    let script = scripts::accept_loss(&host.layouts(ids));
    ask(host, "accept lost logs", &script, deadline)
        .await
        .map(drop)
}

/// Removes pid files of nodes that crashed; those that had one.
///
/// # Errors
/// The host can't be reached, or its answer makes no sense.
pub async fn clean(host: &Host, ids: &[NodeId], deadline: Duration) -> Result<Vec<NodeId>> {
    let script = scripts::clean(&host.layouts(ids));
    let answer = ask(host, "remove stale pid files", &script, deadline).await?;
    answer.those(ids, "cleaned")
}

/// Takes away what starts nodes that do not run and belong to the cluster no more. Their own files stay.
///
/// # Errors
/// The host can't be reached.
pub async fn retire(host: &Host, ids: &[NodeId], deadline: Duration) -> Result<()> {
    let script = scripts::retire(&host.layouts(ids));
    ask(host, "take nodes down", &script, deadline)
        .await
        .map(drop)
}

/// Deletes the files of nodes that do not run; those that were deleted.
///
/// # Errors
/// The host can't be reached, or its answer makes no sense.
pub async fn purge(host: &Host, ids: &[NodeId], deadline: Duration) -> Result<Vec<NodeId>> {
    let layout = &host.layout;
    let base = layout.is_remote.then_some(layout.base.as_str());
    let script = scripts::purge(&host.layouts(ids), base);
    let answer = ask(host, "delete the files of nodes", &script, deadline).await?;
    answer.those(ids, "purged")
}

/// Streams files of a node's folder, one after the other, into `sink`; `false` where none of them
/// exists.
///
/// # Errors
/// The host can't be reached, or a file can't be read.
pub async fn fetch(
    host: &Host,
    id: NodeId,
    names: &[&str],
    sink: &mut (dyn AsyncWrite + Send + Unpin),
    deadline: Duration,
) -> Result<bool> {
    let script = scripts::fetch(&host.layout.node(id), names);
    let purpose = format!("fetch files of node {id}");
    let request = Request::new(&purpose, &script, deadline);
    let exit = host.transport.execute(request, sink).await?;
    match exit.status {
        0 => Ok(true),
        scripts::NO_SUCH_FILE => Ok(false),
        status => Err(failed(host, &purpose, status, &exit.stderr)),
    }
}

async fn ask(host: &Host, purpose: &str, script: &str, deadline: Duration) -> Result<Answer> {
    run(host, Request::new(purpose, script, deadline)).await
}

/// Runs a script that ends with [`END`], and reads its answer.
pub(super) async fn run(host: &Host, request: Request<'_>) -> Result<Answer> {
    let purpose = request.purpose;
    let output = host.transport.run(request).await?;
    if output.status != 0 {
        return Err(failed(host, purpose, output.status, &output.stderr));
    }
    let complete = output.stdout.lines().next_back() == Some(END);
    if !complete {
        return Err(Error::Transport(TransportError::Lost {
            host: host.name().to_owned(),
            purpose: purpose.to_owned(),
            cause: "the answer ends early".into(),
        }));
    }
    Ok(Answer {
        host: host.name().to_owned(),
        purpose: purpose.to_owned(),
        lines: parse_lines(&output.stdout),
        stderr: output.stderr,
    })
}

pub(super) fn failed(host: &Host, purpose: &str, status: i32, stderr: &str) -> Error {
    let detail = match stderr.trim() {
        "" => format!("exit status {status}"),
        text => format!("{text} (exit status {status})"),
    };
    Error::Host {
        host: host.name().to_owned(),
        purpose: purpose.to_owned(),
        detail,
    }
}

/// `<subject>.<key>=<value>`, repeated keys in order.
fn parse_lines(text: &str) -> Vec<(String, String, String)> {
    text.lines()
        .filter_map(|line| {
            let (name, value) = line.split_once('=')?;
            let (subject, key) = name.split_once('.')?;
            Some((subject.to_owned(), key.to_owned(), value.to_owned()))
        })
        .collect()
}

/// What a script answered, as lines `<subject>.<key>=<value>`.
pub(super) struct Answer {
    host: String,
    purpose: String,
    lines: Vec<(String, String, String)>,
    stderr: String,
}

impl Answer {
    pub(super) fn all<'a>(
        &'a self,
        subject: &'a str,
        key: &'a str,
    ) -> impl Iterator<Item = &'a str> {
        let fits = move |line: &&(String, String, String)| line.0 == subject && line.1 == key;
        self.lines.iter().filter(fits).map(|line| line.2.as_str())
    }

    /// The lines of a file.
    pub(super) fn text(&self, subject: &str, key: &str) -> String {
        let lines = self.all(subject, key);
        lines.flat_map(|line| [line, "\n"]).collect()
    }

    /// A value that must be there; what the script said on standard error, where it is not.
    pub(super) fn one<'a>(&'a self, subject: &'a str, key: &'a str) -> Result<&'a str> {
        self.all(subject, key)
            .next()
            .ok_or_else(|| self.missing(subject, key))
    }

    fn missing(&self, subject: &str, key: &str) -> Error {
        let detail = match self.stderr.trim() {
            "" => format!("no answer about {subject}.{key}"),
            text => text.to_owned(),
        };
        Error::Host {
            host: self.host.clone(),
            purpose: self.purpose.clone(),
            detail,
        }
    }

    pub(super) fn number(&self, subject: &str, key: &str) -> Result<u64> {
        let value = self.one(subject, key)?;
        value.parse().map_err(|_| self.missing(subject, key))
    }

    fn state(&self, subject: &str, key: &str) -> Result<ProcessState> {
        ProcessState::from_name(self.one(subject, key)?).ok_or_else(|| self.missing(subject, key))
    }

    fn those(&self, ids: &[NodeId], key: &str) -> Result<Vec<NodeId>> {
        let mut those = Vec::new();
        for id in ids {
            if self.one(&id.to_string(), key)? == "yes" {
                those.push(*id);
            }
        }
        Ok(those)
    }

    fn node(&self, id: NodeId) -> Result<NodeFacts> {
        let subject = id.to_string();
        let optional = |key| self.all(&subject, key).next().map(str::to_owned);
        let mut arguments = self.all(&subject, "argument");
        let given = arguments.find(|word| *word == scripts::CLUSTER_ID);
        let given = given.and_then(|_| ClusterId::parse(arguments.next()?));
        let held = self.all(&subject, "cluster_id").next();
        Ok(NodeFacts {
            id,
            cluster_id: held.and_then(ClusterId::parse).or(given),
            format: optional("format")
                .and_then(|format| format.parse().ok())
                .unwrap_or(FORMAT_FIRST),
            state: self.state(&subject, "state")?,
            has_record: self.one(&subject, "record")? == "present",
            has_data: optional("data").as_deref() == Some("present"),
            lost_data: optional("data").as_deref() == Some("lost"),
            pid: optional("pid").and_then(|pid| pid.parse().ok()),
            executable: optional("executable"),
            sha256: optional("sha256"),
            arguments: self.all(&subject, "argument").map(str::to_owned).collect(),
            taken_ports: self
                .all(&subject, "port_taken")
                .filter_map(taken_port)
                .collect(),
            is_filtered: optional("filtered").is_some(),
            certificate: self.text(&subject, "certificate"),
            trusted: self.text(&subject, "trusted"),
        })
    }
}

/// `<port> <pid or ?> <executable or ?>`
fn taken_port(text: &str) -> Option<TakenPort> {
    let mut words = text.splitn(3, ' ');
    let port = words.next()?.parse().ok()?;
    let owner = match (words.next()?, words.next()?) {
        ("?", _) => "another user's process".into(),
        (pid, "?") => format!("process {pid}"),
        (pid, executable) => format!("process {pid} ({executable})"),
    };
    Some(TakenPort { port, owner })
}

#[cfg(test)]
mod tests;
