//! The operator tool, from the command line down to the shell scripts that run on a host.
//!
//! ```text
//! cli/        verbs and flags -> one function each in verbs/, scenario/ or bench/
//! verbs/      what a verb prints and asks; its exit code; keys and shell: set, get, del, list, cas; top
//! scenario/   files of faults and expectations, played; chaos: seeded faults; their verdict
//! bench/      load and its figures
//! ops/        what a verb does: status, start, kill, partition ... as a library that prints nothing
//! plan/       (cluster, facts) -> steps. Pure
//! providers/  cluster.yaml -> hosts: local, ssh, docker, gcp
//! hosts/      nodes on a host: found, started, signalled; binaries; locks
//! transport/  the way to a host, which runs a script: this machine, or ssh
//! local/      what raftctl keeps and finds on this machine: the folder's lock, files, raft-node
//! terminal/   results, progress, and the options of every verb
//! admin       the gRPC calls of operators        workload/  clients whose history can be checked
//! cluster/    cluster.yaml -> Cluster, or every error at once with its line; nodes by selector
//! scripts/    the text of the scripts. Pure
//! error/      every error and its exit code
//! load        what a bench brings to a store        timeline  what all dump.txt tell, as a picture. Pure
//! client      the key-value client: hints, retries, sessions, honest timeouts
//! text        notations: words, lengths of time, the lines of logs.txt and dump.txt
//! ```
//! The last four are crates of their own, beside `src/`: a release optimizes them, and not the rest, which
//! waits for hosts.
//!
//! A room uses only what stands below it in this list, and `verbs`, `scenario` and `bench` do not use one
//! another: `tests/tidy.rs` holds that. Only `transport` and `providers` start processes, only `admin`,
//! `client` and `load` speak gRPC, only `cluster` knows cluster.yaml.

mod admin;
mod bench;
mod cli;
mod cluster;
mod error;
mod hosts;
mod local;
mod ops;
mod plan;
mod providers;
mod scenario;
mod scripts;
mod terminal;
mod transport;
mod verbs;
mod workload;

pub use cli::main;
pub use raftkv_client as client;
use raftkv_load as load;
use raftkv_text as text;
use raftkv_timeline as timeline;
