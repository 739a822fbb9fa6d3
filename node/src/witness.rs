//! Watches a run of a node from a process of its own, and tells the other nodes when it has ended.
//!
//! The node starts it, as `raft-node witness`, and holds the other end of its standard input: there it
//! says who it is and whom to tell. The end of that input is a hint. The proof is the lock of the
//! directory, which the node held to the end of its process, and which the witness gets only then: see
//! [`crate::disk::Watched`]. Once it has had the lock for a moment, it tells the others, and ends.
//!
//! It is a child of the node, not its parent, so that whoever starts, stops, kills or waits for a node
//! has to do with the node alone. It outlives it by a second at most. Signals that are meant for the node and come
//! to all of its processes don't end it.

use crate::access::ClusterNames;
use crate::disk::Watched;
use crate::dump::Dump;
use crate::identity::{id_text, parse_id};
use crate::peers::{Testimony, testify};
use crate::raft::{NodeId, Run};
use crate::tls::{Tls, TlsSettings};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, BufRead, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};

/// The verb.
const VERB: &str = "witness";
/// So long the end of a process may take that has lost its standard streams already.
const END_PATIENCE: Duration = Duration::from_secs(60);
/// So long the other nodes are tried. Whoever stops a node may have to wait for this.
const TELL_PATIENCE: Duration = Duration::from_secs(1);

/// Whether the first argument asks for it.
pub fn is_asked_for(mut arguments: impl Iterator<Item = OsString>) -> bool {
    arguments.nth(1).is_some_and(|first| first == VERB)
}

/// What a witness has to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge {
    /// The run that it watches.
    pub run: Run,
    /// The node's directory.
    pub data_dir: PathBuf,
    /// The name of its cluster.
    pub cluster: String,
    /// The id of its cluster; 0: it has none.
    pub cluster_id: u128,
    /// The node's certificates, where it speaks TLS.
    pub tls: Option<TlsSettings>,
    /// Whom to tell, and where they are.
    pub peers: BTreeMap<NodeId, String>,
}

impl Charge {
    /// One line of JSON.
    fn encode(&self) -> String {
        let peers: BTreeMap<String, &String> = self
            .peers
            .iter()
            .map(|(peer, address)| (peer.to_string(), address))
            .collect();
        let tls = self
            .tls
            .as_ref()
            .map(|tls| json!({"folder": tls.folder.to_string_lossy(), "optional": tls.optional}));
        let charge = json!({
            "node": self.run.node,
            "run": format!("{:016x}", self.run.incarnation),
            "data_dir": self.data_dir.to_string_lossy(),
            "cluster": self.cluster,
            "cluster_id": id_text(self.cluster_id),
            "tls": tls,
            "peers": peers,
        });
        format!("{charge}\n")
    }

    /// `None`: the line is not whole.
    fn decode(line: &str) -> Option<Self> {
        let charge: Value = serde_json::from_str(line).ok()?;
        let text = |key: &str| charge[key].as_str();
        let tls = match &charge["tls"] {
            Value::Null => None,
            tls => Some(TlsSettings {
                folder: tls["folder"].as_str()?.into(),
                optional: tls["optional"].as_bool()?,
            }),
        };
        let peers = charge["peers"].as_object()?.iter();
        let peers =
            peers.map(|(peer, address)| Some((peer.parse().ok()?, address.as_str()?.to_owned())));
        Some(Charge {
            run: Run {
                node: charge["node"].as_u64()?,
                incarnation: u64::from_str_radix(text("run")?, 16).ok()?,
            },
            data_dir: text("data_dir")?.into(),
            cluster: text("cluster")?.to_owned(),
            cluster_id: parse_id(text("cluster_id")?).unwrap_or(0),
            tls,
            peers: peers.collect::<Option<_>>()?,
        })
    }
}

/// The node's end: the process that watches it.
#[derive(Debug)]
pub struct Witness {
    input: ChildStdin,
    charge: Charge,
    lives: Arc<AtomicBool>,
}

impl Witness {
    /// Starts the process.
    pub fn start(charge: Charge) -> io::Result<Self> {
        // The very program that runs here, whatever lies at its path by now.
        let mut child = Command::new("/proc/self/exe")
            .arg0("raft-node")
            .arg(VERB)
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let input = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
        // Full only where the witness stands still: then it does without the news.
        let flags = rustix::fs::fcntl_getfl(&input)?;
        rustix::fs::fcntl_setfl(&input, flags | rustix::fs::OFlags::NONBLOCK)?;
        let lives = Arc::new(AtomicBool::new(true));
        std::thread::Builder::new().name("witness".into()).spawn({
            let lives = Arc::clone(&lives);
            move || miss(child, &lives)
        })?;
        let mut witness = Witness {
            input,
            charge,
            lives,
        };
        witness.say();
        Ok(witness)
    }

    /// Whether the process is there.
    pub fn lives(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.lives)
    }

    /// From now on these are to be told.
    pub fn follow(&mut self, peers: BTreeMap<NodeId, String>, cluster_id: u128) {
        if (&peers, cluster_id) != (&self.charge.peers, self.charge.cluster_id) {
            self.charge.peers = peers;
            self.charge.cluster_id = cluster_id;
            self.say();
        }
    }

    fn say(&mut self) {
        // Without a witness the end of this run costs the others a lease, as it does in any case where
        // the whole machine ends.
        if let Err(error) = self.input.write_all(self.charge.encode().as_bytes()) {
            tracing::warn!("the process that watches this one can't be told whom to tell: {error}");
        }
    }
}

/// It should outlive this process.
fn miss(mut child: Child, lives: &AtomicBool) {
    let ended = child.wait();
    lives.store(false, Ordering::Relaxed);
    tracing::warn!(
        "the process that watches this one has ended ({ended:?}): if this node is killed, the others wait for its lease"
    );
}

/// All of the witness's process.
pub fn main() -> ExitCode {
    match watch() {
        Ok(()) => ExitCode::SUCCESS,
        // Nobody reads it but who starts a witness by hand.
        Err(error) => {
            eprintln!("raft-node witness: {error}");
            ExitCode::FAILURE
        }
    }
}

fn watch() -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let deaf = deafen(&runtime)?;
    let (mut charge, mut watched) = (None, None);
    for line in io::stdin().lock().lines() {
        let Some(news) = Charge::decode(&line?) else {
            continue;
        };
        if watched.is_none() {
            watched = Some(Watched::open(&news.data_dir, news.run.incarnation)?);
        }
        charge = Some(news);
    }
    let (Some(charge), Some(watched)) = (charge, watched) else {
        return Ok(());
    };
    if watched.has_ended(END_PATIENCE)? {
        runtime.block_on(tell(charge));
    }
    drop(deaf);
    Ok(())
}

/// From now on these signals do nothing.
fn deafen(runtime: &Runtime) -> io::Result<[tokio::signal::unix::Signal; 3]> {
    let _inside = runtime.enter();
    Ok([
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
        signal(SignalKind::hangup())?,
    ])
}

async fn tell(charge: Charge) {
    let names = ClusterNames::new(charge.cluster_id, &charge.cluster);
    let tls = match &charge.tls {
        None => None,
        // As they are by now. Where they can't be used, nobody would listen.
        Some(files) => match Tls::load(charge.run.node, names, files, &Dump::to_nobody()) {
            Ok(tls) => Some(tls),
            Err(_) => return,
        },
    };
    let testimony = Arc::new(Testimony {
        run: charge.run,
        cluster: charge.cluster,
        cluster_id: charge.cluster_id,
    });
    testify(&testimony, &charge.peers, tls.as_ref(), TELL_PATIENCE).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    // What a witness is told comes to it as it was said; half a line is no news.
    #[test]
    fn a_charge_is_a_line() {
        let charge = |tls| Charge {
            run: Run {
                node: 3,
                incarnation: 0xab,
            },
            data_dir: "/somewhere/\"else\"".into(),
            cluster: "demo".into(),
            cluster_id: 7,
            tls,
            peers: BTreeMap::from([(1, "host:1".into()), (2, "[::1]:2".into())]),
        };
        let tls = Some(TlsSettings {
            folder: "/tls".into(),
            optional: true,
        });
        for charge in [charge(None), charge(tls)] {
            let line = charge.encode();
            assert_eq!(line.matches('\n').count(), 1);
            assert_eq!(Charge::decode(&line), Some(charge));
            assert_eq!(Charge::decode(&line[..line.len() / 2]), None);
        }
    }
}
