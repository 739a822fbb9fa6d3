//! The operator tool, from the command line down to the shell scripts that run on a host.
//!
//! ```text
//! cli        verbs and flags -> one function each in verbs/ (or keys, shell, bench, scenario)
//! cluster/   cluster.yaml -> Cluster, or every error at once with its line
//! select     `leader`, `1-3`, `minority` -> node ids
//! scenario/  files of faults and expectations, played; chaos: seeded faults; their verdict
//! bench/     load and its figures               shell/  a prompt      keys  set, get, del, list, cas
//! verbs/     what a verb prints and asks; its exit code
//! workload/  clients whose history can be checked
//! ops/       what a verb does: status, start, kill, partition ... as a library that prints nothing
//! plan       (cluster, facts) -> steps, pure            run     steps -> done, or printed
//! hosts/     a host runs scripts; scripts are built as text; control runs them
//! client/    the key-value client: hints, retries, sessions, honest timeouts
//! admin      the gRPC calls of operators                error   every error and its exit code
//! keep       files of raftctl's own on this machine      lock    one operator of a folder at a time
//! records    the lines of logs.txt and dump.txt         words   their words
//! times      `30s` -> a length       hex  digits          operator, interrupt: who runs it, Ctrl-C
//! ```
//! Imports go downwards in this list and never up. Only `hosts` starts processes, only `admin`,
//! `client` and `bench` speak gRPC, only `cluster` knows cluster.yaml.

pub mod admin;
pub mod arguments;
pub mod bench;
pub mod binary;
pub mod cli;
pub mod client;
pub mod cluster;
pub mod error;
mod hex;
pub mod hosts;
mod interrupt;
pub mod keep;
pub mod keys;
pub mod lock;
mod operator;
pub mod ops;
pub mod out;
pub mod plan;
pub mod progress;
pub mod records;
pub mod run;
pub mod scenario;
pub mod select;
pub mod shell;
mod times;
pub mod verbs;
pub mod words;
pub mod workload;
