//! What this program does for a node that does not run: with its directory `raft-node restore`, `export`
//! and `inspect`, for its key `certificate-request`. Their answers are for `raftctl`, and for those who come without it.
//!
//! 0: done. 2: wrong usage. 3: there is something that must not be touched, or a backup that must not be
//! used: to try again changes nothing. 1: anything else.

use crate::access::ClusterNames;
use crate::command::{Member, Members, parse_voters};
use crate::disk::offline::{self, Inspected, Made, RestoreError};
use crate::disk::{DiskError, open_source};
use crate::identity::{id_text, parse_id};
use crate::tls;
use crate::wal::Recovery;
use clap::Parser;
use serde_json::{Value, json};
use std::ffi::OsString;
use std::io::{self, BufWriter, Write, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// As of `process`.
const NEEDS_DECISION: u8 = 3;

/// Works on the directory of a node that does not run
#[derive(Debug, Parser)]
#[command(name = "raft-node", version, max_term_width = 100)]
enum Tool {
    /// Make a node's directory out of a backup, for a cluster with a new id
    #[command(after_help = "\
Everything in the backup is checked before anything is changed, and the directory appears under its
name whole or not at all. Prints one line of JSON.

Examples:
  raft-node restore --data-dir logs_node_1 \\
    --cluster-id 9f8e7d6c5b4a39281706f5e4d3c2b1a0 --voters 1,2,3 monday.backup")]
    Restore {
        /// The node's directory; must be missing or empty
        #[arg(long, value_name = "FOLDER")]
        data_dir: PathBuf,

        /// Of the new cluster: 32 hexadecimal digits, the same for all of its nodes
        #[arg(long, value_name = "HEX", value_parser = parse_id)]
        cluster_id: u128,

        /// Ids of the new cluster's nodes, as in 1,2,3; the same for all of them
        #[arg(long, value_name = "IDS", value_parser = voters)]
        voters: Voters,

        /// Move what is there to this folder, instead of refusing to go on
        #[arg(long, value_name = "FOLDER")]
        set_aside: Option<PathBuf>,

        /// A backup or a snapshot.txt; - reads standard input
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Print the state after the last entry of a directory, in the notation of snapshot.txt
    #[command(after_help = "\
Entries that are not known to be committed count as well. The last line holds the hash of the state;
a text without it is not whole.

Examples:
  raft-node export --data-dir logs_node_1 > node-1.txt")]
    Export {
        /// The node's directory
        #[arg(long, value_name = "FOLDER")]
        data_dir: PathBuf,
    },
    /// Make a node's key, unless it has one, and print a request for a certificate
    #[command(after_help = "\
The key (node.key, mode 0600) stays where it is made; what is printed is no secret. Whoever signs it
writes node.pem beside the key.

Examples:
  raft-node certificate-request --tls tls_node_1 --cluster demo --id 1 > node-1.csr")]
    CertificateRequest {
        /// Folder of the key; made if it is missing
        #[arg(long, value_name = "FOLDER")]
        tls: PathBuf,

        /// The cluster's name
        #[arg(long, value_name = "NAME")]
        cluster: String,

        /// The cluster's id, where it has one: 32 hexadecimal digits
        #[arg(long, value_name = "HEX", value_parser = parse_id)]
        cluster_id: Option<u128>,

        /// The node's id
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        id: u64,
    },
    /// Print what a directory holds, as one line of JSON; nothing is changed
    #[command(after_help = "\
Examples:
  raft-node inspect --data-dir logs_node_1")]
    Inspect {
        /// The node's directory
        #[arg(long, value_name = "FOLDER")]
        data_dir: PathBuf,
    },
}

/// In a type of its own: clap takes a bare list for many arguments.
#[derive(Clone, Debug)]
struct Voters(Vec<u64>);

fn voters(text: &str) -> Result<Voters, String> {
    let rises = |ids: &Vec<u64>| ids.is_sorted_by(|one, next| one < next) && ids.first() > Some(&0);
    let ids = parse_voters(text).filter(rises);
    ids.map(Voters)
        .ok_or_else(|| "expected rising ids with commas between them, as in 1,2,3".into())
}

/// Whether the first argument names one of these.
pub fn is_asked_for(mut arguments: impl Iterator<Item = OsString>) -> bool {
    let names = ["restore", "export", "inspect", "certificate-request"];
    let first = arguments.nth(1);
    first.is_some_and(|first| names.iter().any(|name| first == *name))
}

/// All of the process.
pub fn main() -> ExitCode {
    let done = match Tool::parse() {
        Tool::Restore {
            data_dir,
            cluster_id,
            voters,
            set_aside,
            file,
        } => open_source(&file)
            .map_err(RestoreError::Read)
            .and_then(|mut source| {
                let cluster = (cluster_id, &*voters.0);
                offline::restore(&data_dir, cluster, set_aside.as_deref(), &mut source)
            })
            .and_then(|made| print(&told_made(&made)).map_err(RestoreError::Read)),
        Tool::CertificateRequest {
            tls,
            cluster,
            cluster_id,
            id,
        } => {
            let names = ClusterNames::new(cluster_id.unwrap_or(0), &cluster);
            return request_certificate(&tls, id, &names);
        }
        Tool::Export { data_dir } => export(&data_dir),
        Tool::Inspect { data_dir } => offline::inspect(&data_dir)
            .map_err(RestoreError::Disk)
            .and_then(|inspected| print(&told(&inspected)).map_err(RestoreError::Read)),
    };
    let Err(error) = done else {
        return ExitCode::SUCCESS;
    };
    eprintln!("raft-node: {error}");
    match error {
        RestoreError::Read(_)
        | RestoreError::Disk(DiskError::Io { .. } | DiskError::Full { .. }) => ExitCode::FAILURE,
        _ => ExitCode::from(NEEDS_DECISION),
    }
}

fn request_certificate(folder: &Path, id: u64, names: &ClusterNames) -> ExitCode {
    let made = tls::Request::make(folder, id, names).map_err(|error| error.to_string());
    let printed = made.and_then(|request| {
        let written = stdout().lock().write_all(request.pem.as_bytes());
        written.map_err(|error| error.to_string())
    });
    match printed {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("raft-node: {error}");
            ExitCode::FAILURE
        }
    }
}

fn export(data_dir: &Path) -> Result<(), RestoreError> {
    let mut out = BufWriter::new(stdout().lock());
    let exported = offline::export(data_dir, &mut out)?;
    out.flush().map_err(RestoreError::Read)?;
    match exported {
        Some(_) => Ok(()),
        None => {
            let nothing = io::Error::new(io::ErrorKind::NotFound, "there is no log");
            Err(DiskError::at("export", data_dir)(nothing).into())
        }
    }
}

fn print(value: &Value) -> io::Result<()> {
    writeln!(stdout().lock(), "{value}")
}

fn told_made(made: &Made) -> Value {
    json!({
        "index": made.snapshot.index,
        "term": made.snapshot.term,
        "hash": format!("{:08x}", made.snapshot.hash),
        "source_hash": format!("{:08x}", made.source.hash),
        "keys": made.keys,
        "sessions": made.sessions,
        "was_there": made.was_there,
    })
}

fn told(inspected: &Inspected) -> Value {
    let in_use = inspected.in_use;
    match &inspected.recovery {
        None => json!({ "data": false, "in_use": in_use }),
        Some(Err(error)) => json!({ "data": true, "in_use": in_use, "error": error.to_string() }),
        Some(Ok(recovery)) => told_recovery(in_use, recovery),
    }
}

fn told_recovery(in_use: bool, recovery: &Recovery) -> Value {
    let recovered = &recovery.recovered;
    let (last_term, last_index) = offline::last_entry(recovery);
    let snapshot = recovered.snapshot.unwrap_or_default();
    let hash = recovered.snapshot.map(|_| format!("{:08x}", snapshot.hash));
    json!({
        "data": true,
        "in_use": in_use,
        "cluster_id": id_text(recovered.ids.cluster),
        "directory_id": id_text(recovered.ids.directory),
        "format": recovered.format.max(1),
        "term": recovered.hard_state.term,
        "voted_for": recovered.hard_state.voted_for,
        "commit_index": recovered.commit_index,
        "last_index": last_index,
        "last_term": last_term,
        "snapshot_index": snapshot.index,
        "snapshot_hash": hash,
        "configuration": offline::configuration(recovery).map(told_configuration),
        "lost_until": recovered.damaged_until,
    })
}

fn told_configuration((index, members): (u64, &Members)) -> Value {
    let node = |(id, member): (&u64, &Member)| {
        json!({
            "id": id,
            "directory_id": id_text(member.directory),
            "peer_address": *member.peer_address,
            "client_address": *member.client_address,
        })
    };
    json!({
        "index": index,
        "voters": members.voters,
        "outgoing": members.outgoing,
        "learners": members.learners().collect::<Vec<_>>(),
        "retired": members.retired,
        "nodes": members.nodes.iter().map(node).collect::<Vec<_>>(),
    })
}
